"""Scene and guidance in, one plan out: some fifty proposals rolled out and scored by rules."""

import math
from collections import deque
from typing import Final

import numpy as np
from numba import njit

from vehicle import proposals, scoring
from vehicle.candidates import BRAKES, EMERGENCY, Candidates, Menu, row
from vehicle.caution import slow_down
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan, Rung, Trajectory
from vehicle.contracts.scene import Scene, Signal
from vehicle.contracts.wire import ContractError
from vehicle.controller import lateral_gains
from vehicle.geometry import to_ego_2d, to_local_2d
from vehicle.goal import Around, Arriver
from vehicle.passing import Passing
from vehicle.paths import PATH_BEHIND, YAW, X, Y, arc, locate, resample, speed_profile
from vehicle.predict import Predictor, no_users
from vehicle.proposals import STEPS, TVX, TVY, TX, TY, along_path
from vehicle.scoring import CF, COLUMNS, DAC, EC, EP, GOAL, LK, NC, SCORES, TLC, TTC

WEIGHTS: Final = {EP: 4.0, TTC: 6.0, LK: 2.0, CF: 2.0, EC: 0.8}
"""Weights of the sub-scores that are summed; the others multiply (after EPDMS, NAVSIM v2)."""

_WEIGHTS: Final = tuple(WEIGHTS.items())
_ALL_WEIGHTS: Final = sum(WEIGHTS.values())

YOUNG_TICKS: Final = 3
"""Tracks younger than this have no velocity worth an emergency."""

MRM_BRAKE_MPS2: Final = 4.0
"""UN R157 5.5: largest deceleration a minimal risk manoeuvre aims at."""

PAIR_S: Final = 0.5
"""Plans this far apart should agree (two-frame extended comfort, NAVSIM v2)."""

_EMERGENCY_RATIO: Final = 0.75
_KEEP_SIDE: Final = 0.04
_SAME_SIDE_M: Final = 0.15
_NO_NEED: Final = 0.03
_ASIDE, _ASIDE_FOR_NOBODY = 0.05, 0.4
_SLOW_MPS: Final = 2.5
_BEYOND: Final = 30
_NO_PROGRESS_M: Final = 1.0
"""Less than this is not worth creeping nearer for."""
_SURE_PROB: Final = 0.5
_YELLOW_BRAKE: Final = 2.8
_RED_BRAKE: Final = 6.0
_REACT_S: Final = 0.3
_NO_GRID: Final = np.zeros((0, 0), np.uint8)
_NO_PLAN: Final = np.zeros((0, 7))

Made = tuple[np.ndarray, str, dict[str, float]]


class NoEgoMotionError(ContractError):
    """A plan was asked for without the vehicle's own motion."""


class Planner:
    """Chooses how to go on; remembers the last trusted path for when it is lost."""

    def __init__(self, config: VehicleConfig) -> None:
        self._config = config
        self._gains = lateral_gains(config.wheelbase_m)
        self._rear = config.rear_overhang_m
        self._body = np.array(
            [
                config.length_m - config.rear_overhang_m,
                config.width_m,
                config.max_curvature_1pm,
                config.max_jerk_mps3,
            ]
        )
        self._menu = Menu(config.width_m, _EMERGENCY_RATIO * config.max_brake_mps2)
        self._predictor = Predictor()
        self._passing = Passing(config.width_m, config.rear_overhang_m)
        self._arriver = Arriver(config)
        self._trusted: np.ndarray | None = None
        self._last: tuple[int, EgoState] | None = None
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=64)
        self._offset: float | None = None
        self._course = np.zeros((0, 3))
        self.proposals = 0
        """How many were rolled out for the last plan."""
        self._warm_up()

    def plan(
        self,
        scene: Scene | None,
        obs: Observation,
        previous: Plan | None,
        rung: Rung,
        futures: np.ndarray | None = None,
    ) -> Plan:
        """Return the plan from where the ego is now.

        Args:
            scene: road users and drivable space; None plans on guidance alone.
            obs: ego motion (needed) and guidance; without guidance the present curve is kept.
            previous: the plan of the tick before, None at the start.
            rung: "hold_plan" moves `previous` along, "mrm" stops; any other plans afresh.
            futures: [N, STEPS or more, 3] x, y, yaw of the scene's tracks over the next 4 s (to
                the goal, where there is one), where they are known; None predicts them.
        Raises:
            NoEgoMotionError: `obs.ego` is None.
        Source: proposals and scores after PDM-Closed (Dauner et al., "Parting with
            Misconceptions about Learning-based Vehicle Motion Planning", 2023).
        """
        ego = obs.ego
        if ego is None:
            raise NoEgoMotionError(f"frame {obs.frame.frame_id}: ego is None, expected its motion")
        points, lane = self._path_points(obs.guidance, ego)
        path = resample(points)
        if rung == "mrm":
            made = self._stop(path, ego, "mrm/in-lane-stop" if lane else "mrm/straight-stop")
        elif rung == "hold_plan" and (held := self._held(previous, ego)) is not None:
            made = held
        else:
            made = self._choose(scene, obs.guidance, points, path, ego, rung, futures)
        states, proposal, scores = made
        self._course = _course(states, path if lane else None)
        self._last = (obs.frame.frame_id, ego)
        self._recent.append((ego.mono_ns, states))
        return Plan(
            frame_id=obs.frame.frame_id,
            mono_ns=obs.frame.mono_ns,
            trajectory=Trajectory(states=states),
            rung=rung,
            proposal=proposal,
            scores=scores,
        )

    def suppose(self, config: VehicleConfig) -> None:
        """Plan under other limits from here on: for a copy that is asked what if."""
        self._config = config

    def course(self, plan: Plan) -> np.ndarray:
        """Return [M, 3] x, y, yaw that a plan leads along; of the last one, the lane beyond too."""
        if self._last is not None and self._last[0] == plan.frame_id and self._course.size:
            return self._course
        return plan.trajectory.states[:, 1:4]

    def _path_points(self, guidance: Guidance | None, ego: EgoState) -> tuple[np.ndarray, bool]:
        if guidance is not None:
            points = np.ascontiguousarray(guidance.centreline_m, dtype=np.float64)
            self._trusted = to_local_2d(ego, points)
            return points, True
        if self._trusted is not None:
            return np.ascontiguousarray(to_ego_2d(ego, self._trusted)), False
        return arc(float(np.clip(ego.curvature_1pm, -0.1, 0.1))), False

    def _choose(
        self,
        scene: Scene | None,
        guidance: Guidance | None,
        points: np.ndarray,
        path: np.ndarray,
        ego: EgoState,
        rung: Rung,
        futures: np.ndarray | None,
    ) -> Made:
        config = self._config
        limit = max(ego.speed_mps, 2.0) if guidance is None else guidance.speed_limit_mps
        if rung == "coast":  # what is only predicted is no reason to go faster
            limit = min(limit, max(ego.speed_mps, 2.0))
        width = 3.5 if guidance is None else guidance.lane_width_m
        profile = speed_profile(
            path, limit, 0.8 * config.max_lateral_mps2, 0.5 * config.comfort_brake_mps2
        )
        tracks, users = no_users() if scene is None else self._predictor.users(scene.tracks)
        if futures is None or futures.shape[0] != users.shape[0]:
            futures = self._predictor.predict(tracks, users, ego, path)
        if guidance is not None and guidance.goal is not None:
            around = Around.of(scene, users, futures)
            if (way := self._arriver.find(guidance.goal, ego, points, around)) is not None:
                return way.states, way.name, way.scores
        line = self._line(None if scene is None else scene.signal, guidance, ego)
        along = along_path(path, users, futures)
        ways = self._passing.ways(along[:, 0], ego, guidance, width)
        if scene is not None and scene.occupancy is not None:  # seen, so somebody may be hidden
            profile = slow_down(profile, along[:, 0], tracks, config.width_m)
        menu = self._menu.of(
            limit_mps=limit,
            lane_m=width,
            stop_m=line,
            yield_m=None if guidance is None else guidance.yield_m,
            aside_m=ways.aside_m,
            lanes_m=ways.lanes_m,
        )
        self.proposals = len(menu)
        room = np.array([ways.left_m, ways.right_m, -1.0 if line is None else line])
        cast = (users, futures, along)
        aside = _cost_aside(users)
        states, scores, _ = self._roll(path, profile, ego, cast, menu.table, room, scene)
        best, total = _pick(scores, menu, self._offset, aside)
        young = tracks["age_ticks"] < YOUNG_TICKS
        if menu.names[best] == EMERGENCY and young.any():
            # a track of a tick or two is a reason to brake, not to slam the brakes
            cast = (users[~young], futures[~young], along[~young])
            old = self._roll(path, profile, ego, cast, menu.table, room, scene)
            if menu.names[_pick(old[1], menu, self._offset, aside)[0]] != EMERGENCY:
                best, total = menu.names.index("stop/comfort"), 0.0
        self._offset = float(menu.offsets[best])
        return states[best].copy(), menu.names[best], _named(scores[best], total)

    def _line(
        self, signal: Signal | None, guidance: Guidance | None, ego: EgoState
    ) -> float | None:
        """Return where a light means to stop, metres along the path; None where none does.

        A yellow light is stopped for where a soft brake is enough; a red one wherever brakes can.
        """
        if signal is None or signal.state not in ("red", "yellow") or signal.prob < _SURE_PROB:
            return None
        at = signal.distance_m
        if guidance is not None and guidance.stop_m is not None:
            at = guidance.stop_m
        if math.isnan(at):
            return None
        gap = at - self._body[0] - _REACT_S * ego.speed_mps
        brake = _RED_BRAKE if signal.state == "red" else _YELLOW_BRAKE
        if gap < ego.speed_mps**2 / (2.0 * brake) - 1.0:
            return None  # too late to stop: go on and clear the junction
        return at

    def _roll(
        self,
        path: np.ndarray,
        profile: np.ndarray,
        ego: EgoState,
        cast: tuple[np.ndarray, np.ndarray, np.ndarray],
        table: np.ndarray,
        room: np.ndarray,
        scene: Scene | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = table.shape[0]
        states, scores = np.empty((count, STEPS, 7)), np.empty((count, COLUMNS))
        hits = np.empty(count)
        tight = self._config.max_curvature_1pm
        start = np.array(
            [
                max(ego.speed_mps, 0.0),
                min(self._config.max_accel_mps2, max(-8.0, ego.accel_mps2)),
                min(tight, max(-tight, ego.curvature_1pm)),
            ]
        )
        grid, corner = _NO_GRID, np.zeros(3)
        if scene is not None and scene.occupancy is not None:
            g = scene.occupancy.grid
            grid = np.ascontiguousarray(scene.occupancy.drivable)
            corner[:] = g.x_min_m, g.y_min_m, g.cell_m
        older = self._made(ego.mono_ns)
        scoring.propose(
            states, scores, hits, start, path, profile, self._gains, *cast, table, self._body,
            self._rear, room, grid, corner, *older,
        )  # fmt: skip
        return states, scores, hits

    def _made(self, mono_ns: int) -> tuple[np.ndarray, float]:
        """Return the plan made about half a second ago, and how long ago it was."""
        for made_ns, states in self._recent:
            since = (mono_ns - made_ns) * 1e-9
            if 0.0 < since <= PAIR_S + 1e-6:
                return states, since
        return _NO_PLAN, 0.0

    def _stop(self, path: np.ndarray, ego: EgoState, name: str) -> Made:
        brake = min(self._config.mrm_brake_mps2, MRM_BRAKE_MPS2)
        cast = (np.zeros((0, 7)), np.zeros((0, STEPS, 3)), np.zeros((0, 21, 5)))
        table = row(brake_mps2=brake)[None]
        states, scores, _ = self._roll(path, path[:, 0], ego, cast, table, _anywhere(), None)
        return (
            states[0].copy(),
            name,
            {SCORES[CF]: float(scores[0, CF]), SCORES[LK]: float(scores[0, LK])},
        )

    def _held(self, previous: Plan | None, ego: EgoState) -> Made | None:
        """Return the previous plan as seen from here, None when nothing of it is left."""
        if previous is None or self._last is None or self._last[0] != previous.frame_id:
            return None
        before = self._last[1]
        dt = (ego.mono_ns - before.mono_ns) * 1e-9
        states = previous.trajectory.states.copy()
        states[:, 1:3] = to_ego_2d(ego, to_local_2d(before, states[:, 1:3]))
        states[:, 3] += before.yaw_rad - ego.yaw_rad
        states[:, 3] = (states[:, 3] + math.pi) % (2.0 * math.pi) - math.pi
        states[:, 0] -= dt
        states = states[states[:, 0] > -proposals.STEP_S + 1e-6]
        if states.shape[0] < 10:
            return None
        name = previous.proposal
        return states, name if name.startswith("hold/") else f"hold/{name}", dict(previous.scores)

    def _warm_up(self) -> None:
        ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=1.0)
        path = resample(arc(0.0))
        profile = speed_profile(path, 5.0, 1.0, 1.0)
        one = (np.ones((1, 7)), np.ones((1, STEPS, 3)))
        cast = (*one, along_path(path, *one))
        self._roll(path, profile, ego, cast, row(target_mps=1.0)[None], _anywhere(), None)
        menu = self._menu.of(limit_mps=1.0, lane_m=3.5, stop_m=None, yield_m=None)
        _pick(np.ones((len(menu), COLUMNS)), menu, None, 0.0)


def _anywhere() -> np.ndarray:
    return np.array([1e9, 1e9, -1.0])


def _course(states: np.ndarray, path: np.ndarray | None) -> np.ndarray:
    course = np.ascontiguousarray(states[:, 1:4])
    if path is None:
        return course
    end = course[-1]
    at = max(PATH_BEHIND + int(np.hypot(end[0], end[1])), PATH_BEHIND)
    at, _, aside = locate(path, end[0], end[1], at)
    beyond = path[at + 1 : at + 1 + _BEYOND]
    yaw = beyond[:, YAW]
    out = np.empty((len(course) + len(beyond), 3))
    out[: len(course)], rest = course, out[len(course) :]
    rest[:, 0] = beyond[:, X] - aside * np.sin(yaw)
    rest[:, 1] = beyond[:, Y] + aside * np.cos(yaw)
    rest[:, 2] = yaw
    return out


def _cost_aside(users: np.ndarray) -> float:
    """Return what it costs to leave the lane's middle: much, unless it is to pass who stands."""
    slow = np.hypot(users[:, TVX], users[:, TVY]) < _SLOW_MPS
    near = (users[:, TX] > -4.0) & (users[:, TX] < 45.0) & (np.abs(users[:, TY]) < 8.0)
    return _ASIDE if bool((slow & near).any()) else _ASIDE_FOR_NOBODY


def _pick(
    scores: np.ndarray, menu: Candidates, offset: float | None, aside: float
) -> tuple[int, float]:
    """Return the winner and its total; makes the progress column relative (0..1).

    `aside` is the cost of a metre beside the middle.
    `offset` is where across the road the plan before led: to stay there is worth a little.
    The brakes at the end only win when every other proposal collides, the gentlest first.
    """
    best, total = _weigh(
        scores, menu.offsets, menu.holds, len(menu) - len(BRAKES) - 1,
        math.nan if offset is None else offset, aside,
    )  # fmt: skip
    return int(best), float(total)


@njit(cache=True)
def _weigh(
    scores: np.ndarray, offsets: np.ndarray, holds: np.ndarray, driving: int, before: float,
    aside: float,
) -> tuple[int, float]:  # fmt: skip
    """Do what `_pick` says; `before` is NaN where no plan was, `driving` how many do not brake."""
    count, top = scores.shape[0], -1.0
    allowed = scores[:, NC] * scores[:, TLC]
    for p in range(driving):
        top = max(top, scores[p, EP] if allowed[p] >= 1.0 else 0.0)
    total, best, most = np.zeros(count), 0, -1e9
    for p in range(count):
        scores[p, EP] = 1.0 if top <= _NO_PROGRESS_M else min(1.0, scores[p, EP] / top)
        for column, weight in _WEIGHTS:
            total[p] += weight * scores[p, column]
        total[p] *= allowed[p] * scores[p, DAC] * scores[p, GOAL] / _ALL_WEIGHTS
        if p >= driving:
            continue
        wanted = total[p]
        if abs(offsets[p] - before) < _SAME_SIDE_M:
            wanted += _KEEP_SIDE
        wanted -= aside * min(abs(offsets[p]), 1.0)
        if holds[p]:
            wanted -= _NO_NEED
        if wanted > most:
            best, most = p, wanted
    while allowed[best] == 0.0 and best < count - 1:
        best = max(best + 1, driving)  # the gentlest brake that is enough
    return best, total[best]


def _named(scores: np.ndarray, total: float) -> dict[str, float]:
    return {**{name: float(scores[i]) for i, name in enumerate(SCORES)}, "total": total}
