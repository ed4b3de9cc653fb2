"""A car that sees only what is in its sight, and others who tell it what they see, true or false.

The car is the real one (tracker, planner, controller, envelope, mailbox); what is not drawn is
taken from lines of sight. What a site makes of many views is here their plain union, with the error
and the delay of a real one; the site itself is measured over sockets by `bench tiers`.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Self

import numpy as np

from sim.advice.occlusion import seen_from, walls_of
from sim.rivals.peers import Act, tell_red_lights
from sim.run.episode import Episode
from sim.score.trace import World
from sim.users.actors import TRAFFIC
from vehicle.budget import Budget
from vehicle.clock import FakeClock
from vehicle.contracts.advice import ADVISED_COLUMNS, MAX_TRACKS, Advice, SpeedCap
from vehicle.contracts.frame import Observation
from vehicle.contracts.scene import BEV, KINDS, Occupancy
from vehicle.drive import Drive
from vehicle.offboard import Mailbox, Offboard

EYE_X_M: Final = 1.8
EYE_Z_M: Final = 1.45
"""The front camera of the shipped rig."""

MAST_M: Final = 6.0
MAST_LEFT_M: Final = 9.0
MAST_EVERY_M: Final = 60
"""Roadside cameras: height, beside the ego's lane, and how often one stands along its route."""

REACH_M: Final = 60.0
EQUIPPED_RATIO: Final = 0.3
"""Of the cars around, how many tell what they see."""

DELAY_S: Final = 0.1
"""From the instant that advice is about to the mailbox: the edge tier's band, twice."""

LIVES_NS: Final = 1_000_000_000
ERROR_M: Final = 0.2
ERROR_MPS: Final = 0.2
_OPEN: Final = np.full((BEV.nx, BEV.ny), 255, np.uint8)
_CLEAR: Final = np.zeros((BEV.nx, BEV.ny), np.uint8)
_LEVEL: Final = Occupancy(grid=BEV, drivable=_OPEN, lane=_CLEAR, occupied=_CLEAR)
_SECOND: Final = 1_000_000_000


class Views:
    """Who sees what in a town; the ego by its own eyes, others by theirs."""

    def __init__(self, episode: Episode) -> None:
        scenery = episode.town.scenery
        self._episode = episode
        self._walls = walls_of(scenery.footprints, scenery.heights_m, scenery.solid)

    def own(self) -> np.ndarray:
        """Return the ids of those whom the ego sees."""
        m = self._episode.motion
        eye = np.array(
            [m.x_m + EYE_X_M * math.cos(m.yaw_rad), m.y_m + EYE_X_M * math.sin(m.yaw_rad), EYE_Z_M]
        )
        table = self._episode.actors.table
        return np.asarray(table["actor_id"][seen_from(table, self._walls, eye)])

    def others(self) -> np.ndarray:
        """Return the rows of those near the ego whom roadside cameras or equipped cars see."""
        table, m = self._episode.actors.table, self._episode.motion
        near = np.hypot(table["x_m"] - m.x_m, table["y_m"] - m.y_m) < REACH_M
        seen = np.zeros(len(table), np.bool_)
        for x, y in self._masts():
            seen |= seen_from(table, self._walls, np.array([x, y, MAST_M]))
        cars = table[near & (table["moving"] == TRAFFIC)]
        equipped = cars["actor_id"] * 2_654_435_761 % 1_000 < 1_000 * EQUIPPED_RATIO
        for car in cars[equipped]:
            eye = np.array([car["x_m"], car["y_m"], EYE_Z_M])
            seen |= seen_from(table, self._walls, eye, int(car["actor_id"]))
        return np.flatnonzero(seen & near)

    def _masts(self) -> np.ndarray:
        """Return the two roadside cameras along the route nearest ahead, [2, 2] in town."""
        route = self._episode.route
        first = -(-route.index // MAST_EVERY_M) * MAST_EVERY_M
        at = [min(first + n * MAST_EVERY_M, len(route.path) - 1) for n in (0, 1)]
        x, y, yaw = route.path[at].T
        return np.column_stack([x - MAST_LEFT_M * np.sin(yaw), y + MAST_LEFT_M * np.cos(yaw)])


class Told:
    """What an adviser has to go by: the rows it saw, in the car's local frame, and where that is.

    Args:
        rows: [N, 10] ADVISED_COLUMNS with the errors of seeing.
        ego: x, y, yaw, speed of the car, local frame.
        dice: for those who make things up.
    """

    def __init__(self, rows: np.ndarray, ego: np.ndarray, dice: np.random.Generator) -> None:
        self.rows, self.ego, self.dice = rows, ego, dice

    def ahead(self, along_m: float, aside_m: float) -> tuple[float, float]:
        """Return a place before the car, in the local frame."""
        c, s = math.cos(self.ego[2]), math.sin(self.ego[2])
        return (
            self.ego[0] + along_m * c - aside_m * s,
            self.ego[1] + along_m * s + aside_m * c,
        )


Words = tuple[np.ndarray, tuple[SpeedCap, ...]]
Adviser = Callable[[Told], Words]

_X, _Y, _VX, _VY = (ADVISED_COLUMNS.index(n) for n in ("x_m", "y_m", "vx_mps", "vy_mps"))
_WALKS: Final = KINDS.index("pedestrian")


def truthful(told: Told) -> Words:
    """Say what is seen."""
    return told.rows, ()


def phantoms(told: Told) -> Words:
    """Put people who are not there before the car, now and then."""
    if told.dice.random() < 0.5:
        return told.rows[:0], ()
    x, y = told.ahead(told.dice.uniform(6.0, 40.0), told.dice.uniform(-4.0, 4.0))
    v = told.dice.uniform(-2.0, 2.0, 2)
    return np.array([[_WALKS, x, y, 0.0, 0.5, 0.5, 1.7, *v, 0.9]]), ()


def displaced(told: Told) -> Words:
    """Say what is seen, three metres off and moving the other way."""
    rows = told.rows.copy()
    rows[:, [_X, _Y]] += told.dice.uniform(-3.0, 3.0, 2)
    rows[:, [_VX, _VY]] *= -1.0
    return rows, ()


def babble(told: Told) -> Words:
    """Say anything."""
    rows = told.dice.uniform(-50.0, 50.0, (MAX_TRACKS, len(ADVISED_COLUMNS)))
    rows[:, 0] = told.dice.integers(0, len(KINDS), MAX_TRACKS)
    rows[:, [_X, _Y]] += told.ego[:2]
    x, y = told.ahead(told.dice.uniform(0.0, 50.0), 0.0)
    return rows, (SpeedCap(speed_mps=told.dice.uniform(0, 20), x_m=x, y_m=y, radius_m=15.0),)


def stop_everywhere(told: Told) -> Words:
    """Ask for standstill wherever the car is."""
    x, y = float(told.ego[0]), float(told.ego[1])
    return told.rows[:0], (SpeedCap(speed_mps=0.0, x_m=x, y_m=y, radius_m=200.0),)


ADVISERS: Final[dict[str, Adviser]] = {
    "true": truthful,
    "phantoms": phantoms,
    "displaced": displaced,
    "babble": babble,
    "stop everywhere": stop_everywhere,
}
"""By name; all but the first are false."""


class AdvisedCar:
    """The car's own loop in an undrawn town: sees what is in sight, hears what others say.

    Args:
        episode: a town; opened without cameras.
        adviser: who advises; None: nobody.
        delay_s: how old advice is when it comes.
        seed: of errors and inventions.
    """

    truth = True

    def __init__(
        self,
        episode: Episode,
        adviser: Adviser | None,
        *,
        delay_s: float = DELAY_S,
        seed: int = 0,
    ) -> None:
        self._episode, self._adviser, self._delay_s = episode, adviser, delay_s
        self.views, self._clock = Views(episode), FakeClock()
        self._dice = np.random.default_rng((17, seed, episode.scenario.seed))
        self._coming: deque[tuple[int, Advice]] = deque()
        self._box, self._number = Mailbox(), 0
        self.offboard = Offboard(self._box, self._clock)
        self._drive = Drive(
            car_id="sim",
            route_id="advised",
            rig=None,
            bundle=None,
            campaigns=(),
            budget=Budget(enforce=False, clock=self._clock),
            rate_hz=episode.rate_hz,
            offboard=self.offboard,
        )

    def act(self, world: World, obs: Observation) -> Act:
        """Return what the car's loop answers to what it sees and hears."""
        self._clock.sleep_until(obs.frame.mono_ns)
        if self._adviser is not None:
            self._listen(obs)
        tick = self._drive.tick(self.in_sight(tell_red_lights(obs, world)))
        return Act(command=tick.command, plan=tick.plan, tick=tick)

    def in_sight(self, obs: Observation) -> Observation:
        """Return the observation with only those whom the ego sees, as mere detections."""
        scene = obs.traffic
        assert scene is not None
        seen = np.isin(scene.tracks["track_id"], self.views.own())
        seen |= scene.tracks["kind"] == KINDS.index("other")  # red lights, as things
        tracks = scene.tracks[seen].copy()
        tracks["track_id"] = tracks["age_ticks"] = 0
        tracks["vx_mps"] = tracks["vy_mps"] = 0.0
        return replace(obs, traffic=replace(scene, tracks=tracks, occupancy=_LEVEL))

    def close(self) -> None:
        """Stop, and give the mailbox back."""
        self._drive.close()
        self._box.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, obs: Observation) -> None:
        """Send what is seen now on its way; take in what has arrived."""
        assert self._adviser is not None
        assert obs.ego is not None
        now_ns = self._clock.utc_ns()
        ego = np.array([obs.ego.x_m, obs.ego.y_m, obs.ego.yaw_rad, obs.ego.speed_mps])
        rows, caps = self._adviser(Told(self._rows(), ego, self._dice))
        near = np.argsort(np.hypot(rows[:, _X] - ego[0], rows[:, _Y] - ego[1]))[:MAX_TRACKS]
        self._number += 1
        advice = Advice(
            request_id=f"{self._number:032x}",
            context="edge",
            site="roadside",
            model_set="union@1",
            input_utc_ns=now_ns,
            valid_until_utc_ns=now_ns + LIVES_NS,
            tracks=tuple(map(tuple, rows[near].tolist())),
            caps=caps,
        )
        self._coming.append((now_ns + round(self._delay_s * _SECOND), advice))
        while self._coming and self._coming[0][0] <= now_ns:
            self._box.put(self._coming.popleft()[1], proven=True, fresh_s=0.5)

    def _rows(self) -> np.ndarray:
        """Return what others see, with the errors of seeing, in the car's local frame."""
        table = self._episode.actors.table[self.views.others()]
        origin = self._episode.origin_m
        rows = np.zeros((len(table), len(ADVISED_COLUMNS)))
        velocity = table["speed_mps"]
        values = {
            "kind": table["kind"],
            "x_m": table["x_m"] - origin[0],
            "y_m": table["y_m"] - origin[1],
            "vx_mps": velocity * np.cos(table["yaw_rad"]),
            "vy_mps": velocity * np.sin(table["yaw_rad"]),
            "score_prob": 1.0,
        }
        for i, name in enumerate(ADVISED_COLUMNS):
            rows[:, i] = values[name] if name in values else table[name]
        rows[:, [_X, _Y]] += self._dice.normal(0.0, ERROR_M, (len(table), 2))
        moves = np.abs(velocity) > 0.1
        rows[:, [_VX, _VY]] += moves[:, None] * self._dice.normal(0.0, ERROR_MPS, (len(table), 2))
        return rows
