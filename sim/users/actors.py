"""Everybody else in town: cars that follow lanes by IDM, parked cars, people on foot."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.look.shapes import CAR_SHAPES
from sim.look.templates import BODIES
from sim.town.lanes import LaneGraph
from sim.town.world import Town
from sim.users.lanechange import change_lanes, neighbours
from sim.users.traffic import step_cars, step_people
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError

CAR: Final = KINDS.index("car")
EMERGENCY: Final = KINDS.index("emergency")
PEDESTRIAN: Final = KINDS.index("pedestrian")

PARKED, TRAFFIC, SCRIPTED, REVERSING = 0, 1, 2, 3
"""What ACTOR.moving says; the last two are played by sim.story.script, backwards the last."""

MAX_ACTORS: Final = 1_200
"""More would no longer be a town that runs in real time."""


class TooManyActorsError(RefusedError, ValueError):
    """A town would hold more actors than can be stepped and drawn in time."""


ACTOR: Final = np.dtype(
    [
        ("actor_id", np.int64),  # from 1; the id image holds it
        ("kind", np.int64),  # index into KINDS
        ("shape", np.int64),  # which car mesh
        ("x_m", np.float64),  # centre, town frame
        ("y_m", np.float64),
        ("yaw_rad", np.float64),
        ("speed_mps", np.float64),
        ("accel_mps2", np.float64),
        ("length_m", np.float64),
        ("width_m", np.float64),
        ("height_m", np.float64),
        ("colour", np.float64, (3, 3)),  # body, second, skin
        ("moving", np.int64),  # PARKED, TRAFFIC, SCRIPTED, REVERSING; people on foot are 0
        ("lane", np.int64),  # cars: lane and what follows
        ("s_m", np.float64),
        ("next1", np.int64),
        ("next2", np.int64),
        ("wish_mps", np.float64),  # desired speed over the limit, as a factor for cars
        ("halt_s", np.float64),  # sudden brake: seconds left; time stood still counts below 0
        ("granted", np.int64),  # cars: 1 when let into the junction ahead
        ("wait_s", np.float64),  # cars: how long at the junction
        ("road", np.int64),  # people: road, side offset and where they want to be
        ("side_m", np.float64),
        ("goal_m", np.float64),
        ("heading", np.int64),  # +1 along the road, -1 against
        ("gait_rad", np.float64),  # of the step; blue lights flash by it
        ("lateral_m", np.float64),  # cars: where beside the lane centre, and where they keep to
        ("keep_m", np.float64),
        ("calm_s", np.float64),  # until the next thought of changing lanes
    ]
)
"""One actor. Cars place themselves by (lane, s_m), people by (road, s_m, side_m)."""

_PAINT: Final = (
    (214, 214, 212),
    (26, 27, 30),
    (128, 132, 136),
    (74, 80, 88),
    (158, 24, 26),
    (28, 62, 128),
    (36, 92, 62),
    (188, 164, 108),
    (222, 132, 28),
    (92, 44, 36),
)
_CLOTHES: Final = (
    (186, 40, 44),
    (36, 70, 140),
    (226, 224, 218),
    (40, 42, 46),
    (224, 190, 60),
    (70, 128, 84),
    (132, 78, 128),
    (214, 120, 60),
)
_SKINS: Final = ((224, 178, 148), (172, 120, 88), (106, 72, 52))


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """How full a town is.

    Args:
        car_gap_m: lane metres per moving car.
        parked_ratio: share of parking places taken.
        person_gap_m: sidewalk metres per person.
        crossing_hz: how often a person on the sidewalk decides to cross.
        child_ratio: of the people.
        truck_ratio, bus_ratio, motorcycle_ratio, cyclist_ratio: of those who drive.
        lane_changes: traffic changes lanes where there are several.
    """

    car_gap_m: float = 55.0
    parked_ratio: float = 0.45
    person_gap_m: float = 14.0
    crossing_hz: float = 0.008
    child_ratio: float = 0.12
    truck_ratio: float = 0.0
    bus_ratio: float = 0.0
    motorcycle_ratio: float = 0.0
    cyclist_ratio: float = 0.0
    lane_changes: bool = False


class Actors:
    """All actors of an episode; `table` is ACTOR rows, stepped in place."""

    def __init__(self, town: Town, rng: np.random.Generator, density: Density) -> None:
        self.town, self.density = town, density
        rows = [*_parked(town, rng, density), *_traffic(town, rng, density)]
        rows += _people(town, rng, density)
        if len(rows) > MAX_ACTORS:
            raise TooManyActorsError(
                f"town {town.number} would hold {len(rows)} actors, at most {MAX_ACTORS}:"
                " raise car_gap_m or person_gap_m"
            )
        self.table = np.array(rows, dtype=ACTOR) if rows else np.zeros(0, ACTOR)
        self.table["actor_id"] = np.arange(1, len(rows) + 1)
        self._choices = rng.integers(0, 2**31, size=4096)
        self._draw = np.zeros(1, np.int64)
        self._roads = _road_arrays(town)
        self._green = np.full(len(town.lanes.length_m), 2, np.uint8)
        self._neighbours = neighbours(town.lanes)
        self._place_people()

    def clear_around(self, x_m: float, y_m: float, radius_m: float) -> None:
        """Remove actors that stand where the ego begins."""
        far = np.hypot(self.table["x_m"] - x_m, self.table["y_m"] - y_m) > radius_m
        self.table = self.table[far]

    def add(self, rows: np.ndarray) -> None:
        """Put more actors (ACTOR rows with ids of their own) into the town."""
        self.table = np.concatenate([self.table, rows])

    def remove(self, actor_ids: list[int]) -> None:
        """Take actors away."""
        self.table = self.table[~np.isin(self.table["actor_id"], actor_ids)]

    def join_traffic(self, row: int, x_m: float, y_m: float, left_m: float) -> bool:
        """Let a scripted car drive on by itself on the road lane at a point, if there is one."""
        lanes = self.town.lanes
        near = np.hypot(*(lanes.points_m - [x_m, y_m]).T)
        point = int(np.argmin(near))
        lane = int(np.searchsorted(lanes.start, point, side="right")) - 1
        options = lanes.successors[lane][lanes.successors[lane] >= 0]
        if near[point] > 1.5 or lanes.junction[lane] >= 0 or not len(options):
            return False
        actor = self.table[row]
        actor["moving"], actor["lane"], actor["granted"] = TRAFFIC, lane, 0
        actor["s_m"] = point - lanes.start[lane]
        actor["next1"], actor["next2"] = options[0], lanes.successors[options[0], 0]
        actor["lateral_m"], actor["wish_mps"] = left_m, 0.9
        return True

    def step(
        self,
        dt_s: float,
        rng: np.random.Generator,
        ego: np.ndarray,
        ego_lanes: np.ndarray,
        lights: np.ndarray | None = None,
    ) -> None:
        """Move everybody on by `dt_s`.

        Args:
            ego: x, y, yaw, speed, length, width of the ego body, town frame.
            ego_lanes: [2] the lane the ego is on and the connector it enters next, -1 for none.
            lights: uint8 [L] of sim.town.lights.Signals.lane_state: 0 red, 1 yellow, 2 green or
                none.
        """
        lanes = self.town.lanes
        lights = self._green if lights is None else lights
        if self.density.lane_changes:
            change_lanes(
                self.table, ego, dt_s, lanes.points_m, lanes.yaw_rad, lanes.start,
                lanes.length_m, lanes.successors, lanes.speed_mps, self._neighbours,
                lanes.lane_width_m, self._choices, self._draw,
            )  # fmt: skip
        step_cars(
            self.table, ego, ego_lanes, dt_s, lanes.points_m, lanes.yaw_rad, lanes.start,
            lanes.length_m, lanes.successors, lanes.speed_mps, lanes.junction,
            lanes.end_junction, lanes.turn, lanes.conflicts, len(self.town.junctions_m),
            self._choices, self._draw, lights,
        )  # fmt: skip
        blue = self.table["kind"] == EMERGENCY
        self.table["gait_rad"][blue] += 9.0 * dt_s
        dice = rng.random(len(self.table))
        step_people(self.table, ego, dt_s, self.density.crossing_hz, dice, *self._roads)

    def brake_suddenly(self, actor_id: int, seconds: float) -> None:
        """Make a car stop hard and stand for a while."""
        self.table["halt_s"][self.table["actor_id"] == actor_id] = seconds

    def step_out(self, actor_id: int, speed_mps: float) -> None:
        """Make a person cross the road now, looking at nothing."""
        row = np.flatnonzero(self.table["actor_id"] == actor_id)[0]
        self.table["goal_m"][row] = -self.table["side_m"][row]
        self.table["wish_mps"][row] = speed_mps

    def _place_people(self) -> None:
        step_people(self.table, np.zeros(6), 0.0, 0.0, np.ones(len(self.table)), *self._roads)


def _road_arrays(town: Town) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.concatenate([r.centre_m for r in town.roads])
    start = np.concatenate([[0], np.cumsum([len(r.centre_m) for r in town.roads])])
    halves = np.array([[r.half_m + p for p in r.parking_m] for r in town.roads])
    return points, start.astype(np.int64), halves


def blank(kind: int) -> np.void:
    """Return an ACTOR row that is nowhere yet."""
    row = np.zeros(1, ACTOR)[0]
    row["kind"], row["lane"], row["road"], row["next1"], row["next2"] = kind, -1, -1, -1, -1
    row["heading"] = 1
    return row


def _car(rng: np.random.Generator) -> np.void:
    row = blank(CAR)
    shape = int(rng.choice(CAR_SHAPES, p=[0.45, 0.4, 0.15]))
    length, width, height = ((4.5, 1.8, 1.45), (4.4, 1.85, 1.65), (5.2, 1.98, 2.15))[shape]
    scale = rng.uniform(0.92, 1.08)
    row["shape"] = shape
    row["length_m"], row["width_m"] = length * scale, width * rng.uniform(0.96, 1.05)
    row["height_m"] = height * rng.uniform(0.96, 1.05)
    row["colour"][0] = np.clip(
        np.array(_PAINT[rng.integers(len(_PAINT))]) + rng.uniform(-12, 12, 3), 8, 245
    )
    row["wish_mps"] = rng.uniform(0.75, 1.05)
    return row


def _parked(town: Town, rng: np.random.Generator, density: Density) -> list[np.void]:
    rows = []
    for road in town.roads:
        for side, bay in zip((1.0, -1.0), road.parking_m, strict=True):
            if bay <= 0.0:
                continue
            line = road.offset(side * (road.half_m + bay / 2))
            for i in range(9, len(line) - 10, 6):
                if rng.random() >= density.parked_ratio:
                    continue
                row, d = _car(rng), line[i + 1] - line[i - 1]
                flip = math.pi if side > 0 else 0.0
                row["x_m"], row["y_m"] = line[i] + rng.uniform(-0.15, 0.15, 2)
                row["yaw_rad"] = math.atan2(d[1], d[0]) + flip + rng.normal(0.0, 0.03)
                rows.append(row)
    return rows


def _traffic(town: Town, rng: np.random.Generator, density: Density) -> list[np.void]:
    rows, lanes = [], town.lanes
    for lane in lanes.road_lanes():
        s = rng.uniform(4.0, density.car_gap_m)
        while s < lanes.length_m[lane] - 4.0:
            row = _car(rng)
            more = _vary(row, rng, density, lanes.length_m[lane] - s, lanes, int(lane))
            s += more
            row["moving"], row["lane"], row["s_m"] = TRAFFIC, lane, s
            options = lanes.successors[lane][lanes.successors[lane] >= 0]
            if len(options):
                row["next1"] = rng.choice(options)
                row["next2"] = lanes.successors[row["next1"], 0]
            row["x_m"], row["y_m"], row["yaw_rad"] = lanes.pose(int(lane), s)
            row["speed_mps"] = lanes.speed_mps[lane] * rng.uniform(0.2, 0.8)
            rows.append(row)
            s += max(9.0, rng.exponential(density.car_gap_m))
            s += more
    return rows


def _vary(
    row: np.void,
    rng: np.random.Generator,
    density: Density,
    room_m: float,
    lanes: LaneGraph,
    lane: int,
) -> float:
    """Make some of the cars something else; return how much farther on it must stand."""
    kinds = ("truck", "bus", "motorcycle", "cyclist")
    ratios = [getattr(density, f"{kind}_ratio") for kind in kinds]
    if not any(ratios):
        return 0.0
    pick = int(np.searchsorted(np.cumsum(ratios), rng.random(), side="right"))
    if pick == len(kinds):
        return 0.0
    kind = kinds[pick]
    index, shape, size = BODIES[kind]
    more = max((size[0] - 4.5) / 2, 0.0)
    if room_m < size[0] / 2 + more + 4.0:
        return 0.0
    row["kind"], row["shape"] = KINDS.index(index), shape
    scale = rng.uniform(0.94, 1.06)
    row["length_m"], row["width_m"], row["height_m"] = (v * scale for v in size)
    row["colour"][0] = _CLOTHES[rng.integers(len(_CLOTHES))]
    row["colour"][1] = _PAINT[rng.integers(4)]
    row["colour"][2] = _SKINS[rng.integers(len(_SKINS))]
    if kind == "cyclist":
        row["wish_mps"] = rng.uniform(4.2, 6.2) / lanes.speed_mps[lane]
        row["keep_m"] = row["lateral_m"] = -(lanes.lane_width_m / 2 - 0.75)
    elif kind in ("truck", "bus"):
        row["wish_mps"] = rng.uniform(0.65, 0.9)
    return more


def _people(town: Town, rng: np.random.Generator, density: Density) -> list[np.void]:
    rows = []
    for index, road in enumerate(town.roads):
        if not road.sidewalk:
            continue
        length = len(road.centre_m) - 1.0
        for side, bay in zip((1.0, -1.0), road.parking_m, strict=True):
            edge = road.half_m + bay + town.kerb_m
            for _ in range(rng.poisson(length / density.person_gap_m)):
                row = blank(PEDESTRIAN)
                tall = (
                    rng.uniform(1.5, 1.92)
                    if rng.random() > density.child_ratio
                    else rng.uniform(1.05, 1.35)
                )
                row["height_m"], row["length_m"], row["width_m"] = tall, 0.55, 0.6
                row["colour"][0] = _CLOTHES[rng.integers(len(_CLOTHES))]
                row["colour"][1] = np.array(_CLOTHES[rng.integers(len(_CLOTHES))]) * 0.6
                row["colour"][2] = _SKINS[rng.integers(len(_SKINS))]
                row["road"], row["s_m"] = index, rng.uniform(0.0, length)
                row["side_m"] = side * (edge + rng.uniform(0.5, town.sidewalk_m - 0.5))
                row["goal_m"] = row["side_m"]
                row["heading"] = rng.choice([-1, 1])
                row["wish_mps"] = rng.uniform(0.8, 1.7) * (rng.random() > 0.15)
                row["gait_rad"] = rng.uniform(0.0, 2 * math.pi)
                if rng.random() < 0.08:  # some are on the road from the start
                    row["goal_m"] = -row["side_m"]
                    row["side_m"] *= rng.uniform(-0.7, 0.9)
                    row["wish_mps"] = 1.3
                rows.append(row)
    return rows
