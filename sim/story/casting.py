"""Where a scripted event can happen on the ego's route, and the actors put there for it."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.look.templates import BODIES
from sim.story.behaviours import Phase, Player
from sim.story.scenarios import Family
from sim.town.lanes import LaneGraph
from sim.town.world import Town
from sim.users.actors import ACTOR, PARKED, PEDESTRIAN, SCRIPTED, blank
from sim.users.navigation import Route
from vehicle.contracts.scene import KINDS

_TROUSERS: Final = (46, 50, 70)
_COLOURS: Final = (
    ((198, 40, 44), (60, 60, 66)),
    ((40, 84, 160), (216, 216, 210)),
    ((232, 230, 224), (190, 150, 60)),
    ((240, 160, 40), (50, 54, 60)),
    ((44, 120, 84), (224, 224, 220)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place on the ego's route.

    Args:
        index: of the route's points.
        right_m, bay_m, walk_m: from the lane's centre to the right edge of the road, width of the
            parking bay there, and from the centre to the sidewalk; all positive.
        beside_m: to the centre of the next lane of the same direction, left positive, 0 for none.
        oncoming_m: to the centre of the nearest lane of the other direction, left positive.
        crossing: lanes of a path that crosses the route here, in order; empty when not asked for.
    """

    index: int
    right_m: float
    bay_m: float
    walk_m: float
    beside_m: float
    oncoming_m: float
    crossing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an event asks of its place.

    Args:
        ahead_m: how far ahead of the ego, nearest and farthest.
        straight_m: how much of one road lane before and behind it.
        kerb: the lane at the right kerb. bay: that, and a parking bay.
        beside: a second lane of the same direction.
        back_m: how much route there must be behind the ego.
        crossing: "right" or "any": a way through a junction, from the side, that crosses the ego's.
    """

    ahead_m: tuple[float, float] = (38.0, 70.0)
    straight_m: tuple[float, float] = (20.0, 8.0)
    kerb: bool = False
    bay: bool = False
    beside: bool = False
    back_m: float = 0.0
    crossing: str = ""


def find_spot(town: Town, route: Route, need: Need, *, wide: bool = False) -> Spot | None:
    """Return the first place on a route that an event can happen at, None if there is none."""
    lanes = town.lanes
    first = int(lanes.start[route.lane])
    if wide and not _beside(lanes, route.lane, lanes.lane_width_m):
        return None
    if route.index < need.back_m or first < 0 or route.index + 12 >= lanes.length_m[route.lane]:
        return None
    near, far = (route.index + int(a) for a in need.ahead_m)
    for index in range(near, min(far, len(route.path) - 50), 2):
        spot = (
            _crossed(town, route, index, need)
            if need.crossing
            else _along(town, route, index, need)
        )
        if spot is not None:
            return spot
    return None


def _along(town: Town, route: Route, index: int, need: Need) -> Spot | None:
    lanes, lane = town.lanes, int(route.owner[index])
    back, on = (int(a) for a in need.straight_m)
    if lanes.junction[lane] >= 0 or (route.owner[index - back : index + on] != lane).any():
        return None
    turn = np.unwrap(route.path[index - back : index + on, 2])
    if np.ptp(turn) > 0.35:
        return None
    spot = _spot(town, index, lane)
    if (need.bay or need.kerb) and spot.right_m > lanes.lane_width_m:
        return None
    if (need.bay and spot.bay_m <= 0.0) or (need.beside and spot.beside_m == 0.0):
        return None
    return spot


def _spot(town: Town, index: int, lane: int, crossing: tuple[int, ...] = ()) -> Spot:
    lanes = town.lanes
    road, backward = divmod(int(lanes.approach[lane]), 2)
    street, width = town.roads[road], lanes.lane_width_m
    mates = np.flatnonzero((lanes.approach == lanes.approach[lane]) & (lanes.junction < 0))
    place = int(np.flatnonzero(mates == lane)[0]) if lane in mates else 0
    bay = street.parking_m[0 if backward else 1]
    right = street.half_m - (place + 0.5) * width
    return Spot(
        index=index,
        right_m=right,
        bay_m=bay,
        walk_m=right + bay + town.kerb_m,
        beside_m=_beside(lanes, lane, width),
        oncoming_m=(2 * place + 1) * width,
        crossing=crossing,
    )


def _beside(lanes: LaneGraph, lane: int, width: float) -> float:
    """Return how far to the left the next lane of the same direction is, 0 if there is none."""
    for other, left in ((lane - 1, width), (lane + 1, -width)):
        if not 0 <= other < len(lanes.length_m):
            continue
        if lanes.approach[other] == lanes.approach[lane] and lanes.junction[other] < 0:
            return left
    return 0.0


def has_lane_beside(lanes: LaneGraph, lane: int) -> bool:
    """Return whether a lane has another of the same direction."""
    return _beside(lanes, lane, lanes.lane_width_m) != 0.0


def _crossed(town: Town, route: Route, index: int, need: Need) -> Spot | None:
    """Return the junction the route enters at `index`, if a way from the side crosses its own."""
    lanes, own = town.lanes, int(route.owner[index])
    if lanes.junction[own] < 0 or route.owner[index - 2] == own or lanes.turn[own] < 0:
        return None
    others = np.flatnonzero((lanes.conflicts[own] == 1) & (lanes.turn >= 0))
    for other in others[np.argsort(lanes.turn[others], kind="stable")]:
        if lanes.turn[own] > 0 and lanes.turn[other] > 0:
            continue
        angle = lanes.yaw_rad[lanes.start[other]] - route.path[index, 2]
        from_right = math.sin(angle)
        if abs(from_right) < 0.75 or (need.crossing == "right" and from_right < 0.0):
            continue
        before = np.flatnonzero((lanes.successors == other).any(axis=1))
        after = lanes.successors[other]
        if len(before) and after[0] >= 0 and lanes.length_m[before[0]] > 25.0:
            return _spot(
                town,
                index,
                int(route.owner[index - 2]),
                (int(before[0]), int(other), int(after[0])),
            )
    return None


class Cast:
    """The actors of one event, before they are put into the town.

    Args:
        first_id: the first actor id that is free.
    """

    def __init__(
        self, town: Town, route: Route, spot: Spot, family: Family, rng: np.random.Generator,
        first_id: int,
    ) -> None:  # fmt: skip
        self.town, self.route, self.spot, self.family, self.rng = town, route, spot, family, rng
        self.rows: list[np.void] = []
        self.players: list[Player] = []
        self.star_id = 0
        self._next = first_id
        self.path = route.path.copy()

    def body(self, name: str) -> np.void:
        """Return a new row of a body in BODIES, at full size and in some colour."""
        kind, shape, size = BODIES[name]
        row = blank(KINDS.index(kind))
        row["actor_id"], row["shape"] = self._next, shape
        row["length_m"], row["width_m"], row["height_m"] = size
        pick = int(self.rng.integers(len(_COLOURS)))
        row["colour"][0], row["colour"][1] = _COLOURS[pick]
        if row["kind"] == PEDESTRIAN:
            row["colour"][1] = _TROUSERS
        row["colour"][2] = (172, 120, 88)
        row["moving"] = SCRIPTED
        self._next += 1
        self.rows.append(row)
        return row

    def at(self, index: float, left_m: float) -> tuple[float, float, float]:
        """Return x, y, yaw beside a point of the route."""
        i = np.arange(len(self.path))
        x, y = (float(np.interp(index, i, self.path[:, k])) for k in (0, 1))
        yaw = float(np.interp(index, i, np.unwrap(self.path[:, 2])))
        return x - left_m * math.sin(yaw), y + left_m * math.cos(yaw), yaw

    def stand(self, name: str, ahead_m: float, left_m: float, turn_rad: float = 0.0) -> np.void:
        """Put somebody or something at the spot, `ahead_m` beyond it, and leave it there."""
        row = self.body(name)
        row["x_m"], row["y_m"], yaw = self.at(self.spot.index + ahead_m, left_m)
        row["yaw_rad"], row["moving"] = yaw + turn_rad, PARKED
        return row

    def play(
        self,
        name: str,
        ahead_m: float,
        left_m: float,
        *phases: Phase,
        way: int = 1,
        speed_mps: float = 0.0,
        acts_from: int = 1,
        exit: str = "stays",
        face_rad: float | None = None,
    ) -> Player:
        """Cast somebody who moves along the ego's route and beside it."""
        row = self.body(name)
        arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.path[:, :2], axis=0).T))])
        mark = float(arc[self.spot.index])
        player = Player(
            actor_id=int(row["actor_id"]),
            path=self.path,
            at_m=mark + ahead_m,
            left_m=left_m,
            way=way,
            mark_m=mark,
            mark_index=self.spot.index,
            phases=phases,
            acts_from=acts_from,
            exit=exit,  # type: ignore[arg-type]
            speed_mps=speed_mps,
        )
        self._enter(player, row, face_rad)
        return player

    def cross(self, name: str, before_m: float, *phases: Phase, left_m: float = 0.0) -> Player:
        """Cast somebody who comes along the crossing lanes, `before_m` from where they meet."""
        lanes = self.town.lanes
        parts = [
            np.column_stack([lanes.line(k), lanes.yaw_rad[lanes.start[k] : lanes.start[k + 1]]])
            for k in self.spot.crossing
        ]
        path = np.concatenate([parts[0], *(p[1:] for p in parts[1:])])
        window = self.path[self.spot.index : self.spot.index + 40]
        apart = np.hypot(
            path[:, None, 0] - window[None, :, 0], path[:, None, 1] - window[None, :, 1]
        )
        there, here = np.unravel_index(int(np.argmin(apart)), apart.shape)
        row = self.body(name)
        arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path[:, :2], axis=0).T))])
        player = Player(
            actor_id=int(row["actor_id"]),
            path=path,
            at_m=max(float(arc[there]) - before_m, 2.0),
            left_m=left_m,
            mark_m=float(arc[there]),
            mark_index=self.spot.index + int(here),
            phases=phases,
            acts_from=1,
            exit="leaves",
        )
        self._enter(player, row, None)
        return player

    def star(self, who: np.void | Player) -> None:
        """Say whom the event is about."""
        self.star_id = who.actor_id if isinstance(who, Player) else int(who["actor_id"])

    def _enter(self, player: Player, row: np.void, face_rad: float | None) -> None:
        x, y, yaw = player.place(player.at_m, player.left_m)
        row["x_m"], row["y_m"] = x, y
        row["yaw_rad"] = yaw + (face_rad if face_rad is not None else (player.way < 0) * math.pi)
        row["speed_mps"] = player.speed_mps
        if row["kind"] == PEDESTRIAN:
            row["moving"] = PARKED
        self.players.append(player)

    def table(self) -> np.ndarray:
        """Return the rows as an ACTOR table."""
        return np.array(self.rows, ACTOR) if self.rows else np.zeros(0, ACTOR)
