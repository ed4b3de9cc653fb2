"""Drivers to compare with, from one that sees nothing to the whole car.

All drive any `World`. Those that see the truth are told every road user by the simulator: what
they reach is what a planner could reach behind perfect perception, not what a car reaches.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from sim.score.trace import RoadMap, World
from sim.users.traffic import gap_on_path, idm_accel
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive

_STEP_M: Final = 1.5
_LATERAL_MPS2: Final = 2.2
_MOBIL_EVERY: Final = 10
_MOBIL_GAIN_MPS2: Final = 0.2
_MOBIL_SAFE_MPS2: Final = 2.0
_MOBIL_ASIDE_MPS: Final = 1.0


class UnknownSubjectError(RefusedError, ValueError):
    """There is no driver of that name."""


class NoGuidanceError(RefusedError):
    """A driver that follows a lane was given none."""


class NoRecordedDriveError(RefusedError):
    """Only a recorded log can be replayed; a town has no recorded driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a driver does with one observation.

    Args:
        command: None leaves the car rolling, braking softly.
        plan: None for drivers that only react.
        tick: everything the car's own loop made of it; None for peers.
        late_s: time it took, to be charged.
    """

    command: ControlCommand | None
    plan: Plan | None = None
    tick: Tick | None = None
    late_s: float = 0.0


class Driver(Protocol):
    """Somebody at the wheel; `truth` says that the simulator tells it all road users."""

    truth: bool

    def act(self, world: World, obs: Observation) -> Act:
        """Return what to do now."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


def tell_red_lights(obs: Observation, world: World) -> Observation:
    """Return the observation with every red light ahead as a standing thing on the lane.

    Source: "red light = a static leading object" of PDM-Closed (Dauner et al., 2023).
    """
    red, ego = world.snapshot().red_light_m, world.snapshot().ego
    if obs.traffic is None or obs.ego is None or not len(red):
        return obs
    c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    reach = VehicleConfig().length_m / 2 - VehicleConfig().rear_overhang_m
    d = red - [ego.x_m - reach * c, ego.y_m - reach * s]
    local = np.stack([c * d[..., 0] + s * d[..., 1], -s * d[..., 0] + c * d[..., 1]], axis=-1)
    extra = np.zeros(len(red), TRACK)
    extra["x_m"], extra["y_m"] = local.mean(axis=1).T
    side = local[:, 1] - local[:, 0]
    extra["yaw_rad"] = np.arctan2(side[:, 1], side[:, 0])
    extra["length_m"] = np.hypot(side[:, 0], side[:, 1])
    extra["width_m"] = np.hypot(*(local[:, 2] - local[:, 1]).T)
    extra["height_m"], extra["kind"], extra["score_prob"] = 1.0, KINDS.index("other"), 1.0
    extra["track_id"], extra["age_ticks"] = 1_000_000_000 + np.arange(len(red)), 100
    near = extra[(extra["x_m"] > 0.0) & (np.hypot(extra["x_m"], extra["y_m"]) < 80.0)]
    tracks = np.concatenate([obs.traffic.tracks, near])
    return replace(obs, traffic=replace(obs.traffic, tracks=tracks))


class ConstantVelocity:
    """Keeps speed and heading, whatever comes."""

    truth = False

    def act(self, world: World, obs: Observation) -> Act:
        """Return no acceleration and no curvature."""
        return Act(command=_command(obs, 0.0, 0.0))

    def close(self) -> None:
        """Do nothing."""


class Idm:
    """Follows the lane by pure pursuit, the car ahead by IDM.

    Source: Treiber et al. (2000); Coulter, "Implementation of the pure pursuit path tracking
        algorithm" (1992).
    """

    truth = True

    def __init__(self, config: VehicleConfig | None = None) -> None:
        self.config = config or VehicleConfig()
        self._left_m = 0.0

    def act(self, world: World, obs: Observation) -> Act:
        """Return the IDM's acceleration and the curvature towards the lane centre."""
        obs = tell_red_lights(obs, world)
        ego, path = _asked(obs), _path(obs, self.config)
        tracks = _tracks(obs)
        self._left_m = self._side(world, obs, path, tracks, ego)
        path = _aside(path, self._left_m)
        accel = self._follow(path, tracks, ego, _limit(obs))
        return Act(command=_command(obs, accel, _pursue(path, ego.speed_mps, self.config)))

    def close(self) -> None:
        """Do nothing."""

    def _side(
        self, world: World, obs: Observation, path: np.ndarray, tracks: np.ndarray, ego: EgoState
    ) -> float:
        return 0.0

    def _follow(
        self, path: np.ndarray, tracks: np.ndarray, ego: EgoState, limit_mps: float
    ) -> float:
        gap, lead = leader(path, tracks, self.config)
        turn = np.abs(np.diff(path[: int(4 + ego.speed_mps * 2.0) + 1, 2])) / _STEP_M
        bend = max(float(turn.max(initial=0.0)), 1e-3)
        wish = min(limit_mps, math.sqrt(_LATERAL_MPS2 / bend))
        return float(idm_accel(ego.speed_mps, wish, gap, ego.speed_mps - lead))


class IdmMobil(Idm):
    """IDM that changes lane where it gains by it and the map has a lane in the same direction.

    It moves over at 1 m/s, and while it does, follows whoever is ahead on either lane.

    Source: Kesting, Treiber, Helbing, "General lane-changing model MOBIL for car-following
        models" (2007), politeness 0, with a small preference for the lane of the route.
    """

    def __init__(self, config: VehicleConfig | None = None) -> None:
        super().__init__(config)
        self._goal_m = 0.0

    def _side(
        self, world: World, obs: Observation, path: np.ndarray, tracks: np.ndarray, ego: EgoState
    ) -> float:
        ahead = path[: int(12 + ego.speed_mps * 2.0)]
        if self._goal_m and not self._open(world.road, world, _aside(ahead, self._goal_m)):
            self._goal_m = 0.0
        elif obs.frame.frame_id % _MOBIL_EVERY == 0 and abs(self._left_m - self._goal_m) < 0.1:
            self._goal_m = self._choose(world, obs, path, ahead, tracks, ego)
        step = _MOBIL_ASIDE_MPS / world.rate_hz
        return self._left_m + min(max(self._goal_m - self._left_m, -step), step)

    def _choose(
        self, world: World, obs: Observation, path: np.ndarray, ahead: np.ndarray,
        tracks: np.ndarray, ego: EgoState,
    ) -> float:  # fmt: skip
        width, limit = obs.guidance.lane_width_m if obs.guidance else 3.5, _limit(obs)
        best, chosen = -math.inf, self._goal_m
        for left in (0.0, width, -width):
            stays = abs(left - self._goal_m) < 0.1
            if not stays and abs(left - self._goal_m) > width + 0.1:
                continue
            side = _aside(path, left)
            if left and not stays and not self._open(world.road, world, _aside(ahead, left)):
                continue
            if not stays and not self._safe(side, tracks, ego):
                continue
            gain = super()._follow(side, tracks, ego, limit)
            gain += _MOBIL_GAIN_MPS2 * (stays + 0.5 * (left == 0.0))
            if gain > best:
                best, chosen = gain, left
        return chosen

    def _follow(
        self, path: np.ndarray, tracks: np.ndarray, ego: EgoState, limit_mps: float
    ) -> float:
        accel = super()._follow(path, tracks, ego, limit_mps)
        over = self._goal_m - self._left_m
        if abs(over) < 0.1:
            return accel
        return min(accel, super()._follow(_aside(path, over), tracks, ego, limit_mps))

    def _open(self, road: RoadMap, world: World, path: np.ndarray) -> bool:
        """Return whether the path is drivable and runs with the traffic, outside junctions."""
        body = world.snapshot().ego
        reach = self.config.length_m / 2 - self.config.rear_overhang_m
        c, s = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        x, y = path[:, 0] - reach, path[:, 1]
        points = np.column_stack([body.x_m + c * x - s * y, body.y_m + s * x + c * y])
        if not road.drivable(points).all() or road.in_junction(points).any():
            return False
        flow = road.flow_yaw(points)
        off = np.abs((flow - path[:, 2] - body.yaw_rad + math.pi) % (2 * math.pi) - math.pi)
        return bool(np.isfinite(flow).all() and (off < 0.5).all())

    def _safe(self, path: np.ndarray, tracks: np.ndarray, ego: EgoState) -> bool:
        """Return whether nobody in the new lane is beside, or behind and forced to brake hard."""
        c, s = math.cos(path[0, 2]), math.sin(path[0, 2])
        dx, dy = tracks["x_m"] - path[0, 0], tracks["y_m"] - path[0, 1]
        along, across = c * dx + s * dy, -s * dx + c * dy
        inside = np.abs(across) < 1.2 + tracks["width_m"] / 2
        room = np.abs(along) - (self.config.length_m + tracks["length_m"]) / 2
        if (inside & (room < 1.0)).any():
            return False
        for row in np.flatnonzero(inside & (along < 0.0) & (along > -60.0)):
            speed = float(tracks["vx_mps"][row]) * c + float(tracks["vy_mps"][row]) * s
            forced = idm_accel(speed, max(speed, 8.0), float(room[row]), speed - ego.speed_mps)
            if forced < -_MOBIL_SAFE_MPS2:
                return False
        return True


class LogReplay:
    """Drives as the recorded driver did, by commands that lead along the recorded path."""

    truth = False

    def __init__(self, config: VehicleConfig | None = None) -> None:
        self.config = config or VehicleConfig()

    def act(self, world: World, obs: Observation) -> Act:
        """Return what leads to where the recorded driver was next.

        Raises:
            NoRecordedDriveError: the world is no recorded log.
        """
        expert = getattr(world, "expert", None)
        if expert is None:
            raise NoRecordedDriveError("log-replay needs a recorded log; give one with --logged")
        ego, body, now = _asked(obs), world.snapshot().ego, world.snapshot().t_s
        reach = self.config.length_m / 2 - self.config.rear_overhang_m
        tick = 1.0 / world.rate_hz
        at = np.minimum(now + np.array([0.0, tick, 0.6]), expert[-1, 0])
        yaw = np.unwrap(expert[:, 3])
        columns = (expert[:, 1], expert[:, 2], yaw, expert[:, 4])
        x, y, head, speed = (np.interp(at, expert[:, 0], values) for values in columns)
        c, s = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        dx, dy = x - reach * np.cos(head) - body.x_m, y - reach * np.sin(head) - body.y_m
        behind = c * dx[0] + s * dy[0] + reach
        accel = (speed[1] - ego.speed_mps) / max(tick, 0.1) + 1.0 * behind
        ahead = max(c * dx[2] + s * dy[2] + reach, 2.0)
        left = -s * dx[2] + c * dy[2]
        return Act(command=_command(obs, float(accel), float(2.0 * left / (ahead**2 + left**2))))

    def close(self) -> None:
        """Do nothing."""


class Car:
    """The car's own loop. With a bundle it sees by its cameras; without, it is told the truth.

    Args:
        bundle: network to see with; None: the simulator tells it every road user.
    """

    def __init__(self, bundle: Path | None, rate_hz: float) -> None:
        self.truth = bundle is None
        self._drive = Drive(
            car_id="sim",
            route_id="evaluate",
            rig=None if bundle is None else RIG_R,
            bundle=bundle,
            campaigns=(DEFAULT_CAMPAIGN,),
            budget=Budget(enforce=False, clock=SystemClock()),
            rate_hz=rate_hz,
        )

    def act(self, world: World, obs: Observation) -> Act:
        """Return what the car's loop answers, and how long it took."""
        tick = self._drive.tick(tell_red_lights(obs, world) if self.truth else obs)
        return Act(
            command=tick.command, plan=tick.plan, tick=tick, late_s=tick.timing.total_us * 1e-6
        )

    def close(self) -> None:
        """Stop perception."""
        self._drive.close()


def leader(path: np.ndarray, tracks: np.ndarray, config: VehicleConfig) -> tuple[float, float]:
    """Return the gap to the first road user on a path, and its speed along it; 1e9 for none.

    Args:
        path: [N, 3] x, y, yaw from the middle of the own body, `sim.users.traffic` steps apart.
        tracks: TRACK [N].
    """
    gap, speed = 1e9, 0.0
    for t in tracks[np.hypot(tracks["x_m"], tracks["y_m"]) < len(path) * _STEP_M + 8.0]:
        g = gap_on_path(
            path, len(path), config.length_m, config.width_m, float(t["x_m"]), float(t["y_m"]),
            float(t["yaw_rad"]), float(t["length_m"]), float(t["width_m"]),
        )  # fmt: skip
        if g < gap:
            near = path[np.argmin(np.hypot(path[:, 0] - t["x_m"], path[:, 1] - t["y_m"]))]
            gap = g
            speed = float(t["vx_mps"] * math.cos(near[2]) + t["vy_mps"] * math.sin(near[2]))
    return gap, speed


def _asked(obs: Observation) -> EgoState:
    if obs.ego is None:
        raise NoGuidanceError(f"frame {obs.frame.frame_id} has no ego motion to drive from")
    return obs.ego


def _limit(obs: Observation) -> float:
    return obs.guidance.speed_limit_mps if obs.guidance else 8.0


def _tracks(obs: Observation) -> np.ndarray:
    return obs.traffic.tracks if obs.traffic is not None else np.zeros(0, TRACK)


def _path(obs: Observation, config: VehicleConfig) -> np.ndarray:
    """Return the guidance [N, 3] x, y, yaw from beside the middle of the body onwards."""
    if obs.guidance is None:
        raise NoGuidanceError(f"frame {obs.frame.frame_id} has no guidance to follow")
    line = obs.guidance.centreline_m
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    middle = [config.length_m / 2 - config.rear_overhang_m, 0.0]
    begin = float(s[int(np.argmin(np.hypot(*(line - middle).T)))])
    at = np.arange(begin, max(s[-1], begin + 2 * _STEP_M), _STEP_M)
    x, y = np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])
    beyond = np.maximum(at - s[-1], 0.0)
    end = line[-1] - line[-2]
    x, y = x + beyond * end[0] / np.hypot(*end), y + beyond * end[1] / np.hypot(*end)
    yaw = np.unwrap(np.arctan2(np.gradient(y), np.gradient(x)))
    return np.column_stack([x, y, yaw])


def _aside(path: np.ndarray, left_m: float) -> np.ndarray:
    if not left_m:
        return path
    out = path.copy()
    out[:, 0] -= left_m * np.sin(path[:, 2])
    out[:, 1] += left_m * np.cos(path[:, 2])
    return out


def _pursue(path: np.ndarray, speed_mps: float, config: VehicleConfig) -> float:
    """Return the curvature of the arc from the rear axle to a point ahead on the path."""
    reach = config.length_m / 2 - config.rear_overhang_m
    x, y = path[min(int((3.0 + 0.6 * speed_mps - reach) / _STEP_M) + 1, len(path) - 1), :2]
    return 2.0 * y / max(x * x + y * y, 1.0)


def _command(obs: Observation, accel_mps2: float, curvature_1pm: float) -> ControlCommand:
    return ControlCommand(
        frame_id=obs.frame.frame_id,
        mono_ns=obs.frame.mono_ns,
        accel_mps2=accel_mps2,
        curvature_1pm=curvature_1pm,
    )
