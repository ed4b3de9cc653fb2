"""Recorded traffic as an episode: the ego starts from the log, and must drive.

`read_scene` takes nuScenes scene tables, CommonRoad XML, Argoverse 2 logs and motion JSON;
`LoggedEpisode` is a World (sim.score.trace): same cameras, same labels, same scores as in a town.
"""

import math
from pathlib import Path
from typing import Final

import numpy as np

from sim.look.render import make_light, turn_sun
from sim.look.staging import Stage
from sim.look.weather import kind_of
from sim.recorded.logged_argoverse import read_argoverse
from sim.recorded.logged_commonroad import read_commonroad
from sim.recorded.logged_ground import no_scenery
from sim.recorded.logged_map import LoggedMap, build_map
from sim.recorded.logged_motion import read_motion
from sim.recorded.logged_nuscenes import read_nuscenes
from sim.recorded.logged_replay import Others
from sim.recorded.logged_scene import Goal, LoggedScene, LoggedSceneError
from sim.run.collisions import touched
from sim.score.trace import Snapshot
from sim.sense.sensors import Sensors, Shot, label_bev, label_boxes
from sim.sense.truth import actor_states, ego_sample, true_scene
from sim.users.dynamics import Motion, advance
from sim.users.traffic import idm_accel, nearest_gap
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.scenario import Scenario

_START_NS: Final = 1_000_000_000
_MAX_STEP_S: Final = 0.1
_STEP_M: Final = 1.5
_FRONT_M: Final = 6
"""Rear axle to a little ahead of the front bumper, in points of the route."""


class UnknownSceneError(LoggedSceneError):
    """A path holds no recorded scene of a kind that is known."""


def scenes_in(path: Path) -> list[Path]:
    """Return every recorded scene at or under a path, in order.

    Raises:
        UnknownSceneError: there is none.
    """
    if _kind(path):
        return [path]
    found = sorted(p for p in path.rglob("*") if _kind(p)) if path.is_dir() else []
    if not found:
        raise UnknownSceneError(
            f"{path} holds no recorded scene; expected a folder with tracks.parquet (nuScenes),"
            " annotations.feather or scenario_*.parquet (Argoverse 2), a CommonRoad .xml, or a"
            " motion .json"
        )
    return found


def _kind(path: Path) -> str:
    if path.is_dir():
        if (path / "tracks.parquet").is_file() and (path / "map.parquet").is_file():
            return "nuscenes"
        if (path / "annotations.feather").is_file() or any(path.glob("scenario_*.parquet")):
            return "argoverse"
        return ""
    if path.suffix.lower() == ".xml" and path.is_file():
        return "commonroad"
    if path.suffix.lower() == ".json" and path.is_file():
        with path.open("rb") as file:
            return "motion" if b'"motion/' in file.read(1 << 16) or _says_motion(path) else ""
    return ""


def _says_motion(path: Path) -> bool:
    """Return whether the schema stands at the end, as in canonical JSON it may."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 22), 0))
        return b'"schema":"motion/' in file.read()


def read_scene(path: Path) -> LoggedScene:
    """Return the recorded scene in a file or folder.

    Raises:
        UnknownSceneError: not one scene of a kind that is known.
        LoggedSceneError: damaged or impossible; its subclasses say how.
    """
    readers = {
        "nuscenes": read_nuscenes,
        "argoverse": read_argoverse,
        "commonroad": read_commonroad,
        "motion": read_motion,
    }
    kind = _kind(path)
    if not kind:
        found = scenes_in(path)
        if len(found) > 1:
            names = ", ".join(p.name for p in found[:8])
            raise UnknownSceneError(f"{path} holds {len(found)} scenes ({names}); name one of them")
        return read_scene(found[0])
    return readers[kind](path)


class LoggedEpisode:
    """One run of a recorded scene.

    Args:
        scene: what was recorded.
        reactive: vehicles that were recorded follow by IDM when the ego is in their way.
        seed: of colours, light and sensor noise.
        light: one of sim.look.weather.LIGHTS. weather: one of sim.look.weather.WEATHERS.
        rate_hz: ticks per second; the recording is interpolated.
            Of these four None is what the scene's own scenario says, else 0, day, clear and 10 Hz.
        rig: cameras; without any, `observe` gives ego motion and guidance only.
    """

    def __init__(
        self,
        scene: LoggedScene,
        *,
        reactive: bool = False,
        seed: int | None = None,
        light: str | None = None,
        weather: str | None = None,
        rate_hz: float | None = None,
        rig: Rig = RIG_R,
        config: VehicleConfig | None = None,
    ) -> None:
        usual = scene.scenario or Scenario(town=0, seed=0, family="logged")
        seed = usual.seed if seed is None else seed
        rate_hz = usual.rate_hz if rate_hz is None else rate_hz
        if not 1.0 <= rate_hz <= 200.0:
            raise LoggedSceneError(f"rate_hz is {rate_hz}, expected 1..200")
        air = kind_of(weather or usual.weather).draw(np.random.default_rng((5, seed)))
        self.light = make_light(light or usual.light, np.random.default_rng((3, seed)), air)
        self.scene, self.seed, self.config = scene, seed, config or VehicleConfig()
        self.road: LoggedMap = build_map(scene)
        self.route = self.road.route
        self.others = Others(scene, reactive=reactive, seed=seed)
        self._rig, self._rate_hz = rig, rate_hz
        self.sensors = Sensors(rig, Stage(self.road.ground, no_scenery()))
        x, y, yaw, speed = (float(v) for v in scene.start)
        self.motion = Motion(x_m=x, y_m=y, yaw_rad=yaw, speed_mps=speed)
        if self.light.weather.glare_ratio > 0.0:
            self.light = turn_sun(self.light, yaw)
        self._origin = (x, y)
        self.frame_id = 0
        self.collisions: list[tuple[int, int]] = []
        self.goal_reached_s: float | None = None
        self._shot: Shot | None = None
        self._look_around()

    @property
    def rate_hz(self) -> float:
        """Return ticks per second."""
        return self._rate_hz

    @property
    def rig(self) -> Rig:
        """Return the cameras of the ego."""
        return self._rig

    @property
    def ticks(self) -> int:
        """Return how many ticks the recording lasts."""
        return int(self.scene.duration_s * self._rate_hz + 1e-6)

    @property
    def t_s(self) -> float:
        """Return the time since the start."""
        return self.frame_id / self._rate_hz

    @property
    def done(self) -> bool:
        """Return whether the recording is over, or the ego has come to the end of the map."""
        return self.frame_id >= self.ticks or self.route.index + _FRONT_M >= self.road.end

    @property
    def collided(self) -> bool:
        """Return whether the ego has touched anybody."""
        return bool(self.collisions)

    @property
    def mono_ns(self) -> int:
        """Return the time of the current frame on the route's clock."""
        return _START_NS + round(self.frame_id * 1e9 / self._rate_hz)

    @property
    def pose(self) -> np.ndarray:
        """Return x, y, yaw of the ego frame in the scene."""
        return np.array([self.motion.x_m, self.motion.y_m, self.motion.yaw_rad])

    @property
    def body(self) -> np.ndarray:
        """Return x, y, yaw, speed, length, width of the ego's body in the scene."""
        c, m = self.config, self.motion
        reach = c.length_m / 2 - c.rear_overhang_m
        x, y = m.x_m + reach * math.cos(m.yaw_rad), m.y_m + reach * math.sin(m.yaw_rad)
        return np.array([x, y, m.yaw_rad, m.speed_mps, c.length_m, c.width_m])

    @property
    def expert(self) -> np.ndarray | None:
        """Return float64 [E, 5] EXPERT_COLUMNS: the recorded driver; None if not recorded."""
        ego = self.scene.ego
        if ego is None:
            return None
        reach = self.config.length_m / 2 - self.config.rear_overhang_m
        t = self.scene.dt_s * np.arange(len(ego))
        x, y = ego[:, 0] + reach * np.cos(ego[:, 2]), ego[:, 1] + reach * np.sin(ego[:, 2])
        return np.column_stack([t, x, y, ego[:, 2], ego[:, 3]])

    def shot(self) -> Shot:
        """Return all cameras of the current frame, rendered once."""
        if self._shot is None:
            self._shot = self.sensors.shoot(
                self.others.table, self.pose, self.light, self.seed, self.frame_id,
                speed_mps=self.motion.speed_mps,
            )  # fmt: skip
        return self._shot

    def observe(self, *, truth: bool = False) -> Observation:
        """Return what the car is given now; with `truth`, `.traffic` is the true scene."""
        images = self.shot().images if self._rig.cameras else {}
        traffic = None
        if truth:
            traffic = true_scene(self.others.table, self.pose, self.frame_id, self.mono_ns)
        return Observation(
            frame=FrameSet(frame_id=self.frame_id, mono_ns=self.mono_ns, images=images),
            ego=self.motion.ego_state(self.mono_ns, self._origin),
            guidance=self.route.guidance(self.motion),
            traffic=traffic,
        )

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes float32 [M, 11] and BEV bits uint8 [100, 64] of the current frame."""
        boxes = label_boxes(self.others.table, self.pose, self.shot())
        return boxes, label_bev(self.road.ground, boxes, np.zeros((0, 5), np.float32), self.pose)

    def snapshot(self) -> Snapshot:
        """Return the truth of the current instant."""
        m = self.motion
        return Snapshot(
            t_s=self.t_s,
            ego=ego_sample(self.body, m.accel_mps2, m.curvature_1pm, self.config),
            actors=actor_states(self.others.table),
            collided=tuple((0, a) for frame, a in self.collisions if frame == self.frame_id),
        )

    def step(self, command: ControlCommand | None) -> None:
        """Move on by one tick; without a command a driver who sees all drives."""
        left = 1.0 / self._rate_hz
        while left > 1e-9:
            dt = min(left, _MAX_STEP_S)
            if command is None:
                accel, curvature = self._drive()
            else:
                accel, curvature = command.accel_mps2, command.curvature_1pm
            self.motion = advance(self.motion, accel, curvature, dt, self.config)
            self.route.follow(self.motion)
            self.others.step(dt, self.body)
            left -= dt
        self.frame_id += 1
        self._shot = None
        self._look_around()

    def _look_around(self) -> None:
        """Note whom the ego touches and whether it is at its goal."""
        self.collisions += [(self.frame_id, a) for a in touched(self.others.table, self.body)]
        goal = self.scene.goal
        if goal is not None and self.goal_reached_s is None and at_goal(goal, self.body, self.t_s):
            self.goal_reached_s = self.t_s

    def _drive(self) -> tuple[float, float]:
        """Return acceleration and curvature of a driver who sees all: IDM and pure pursuit."""
        m, path, i = self.motion, self.route.path, self.route.index
        target = path[min(i + int(4 + 0.6 * m.speed_mps), len(path) - 1)]
        dx, dy = target[0] - m.x_m, target[1] - m.y_m
        c, s = math.cos(m.yaw_rad), math.sin(m.yaw_rad)
        x, y = c * dx + s * dy, c * dy - s * dx
        reach = self.config.length_m / 2 - self.config.rear_overhang_m
        steps = (i + reach + np.arange(40) * _STEP_M).round().astype(int)
        ahead = np.ascontiguousarray(path[np.clip(steps, 0, len(path) - 1)])
        gap, closing = nearest_gap(
            ahead, 40, self.config.length_m, self.config.width_m, m.speed_mps, -1,
            self.others.table, np.zeros(6),
        )  # fmt: skip
        bend = float(np.abs(np.diff(np.unwrap(path[i : i + 25, 2]))).max(initial=1e-3))
        wish = min(float(self.route.limit_mps[i]), math.sqrt(2.2 / bend))
        return float(idm_accel(m.speed_mps, wish, gap, closing)), 2.0 * y / max(x * x + y * y, 1.0)


def at_goal(goal: Goal, body: np.ndarray, t_s: float) -> bool:
    """Return whether the centre of the ego's body satisfies a planning problem's goal now.

    Args:
        body: x, y, yaw, speed, ...
    """
    if not goal.from_s - 1e-6 <= t_s <= goal.to_s + 1e-6:
        return False
    if goal.speed_mps and not goal.speed_mps[0] <= body[3] <= goal.speed_mps[1]:
        return False
    if goal.yaw_rad:
        middle, half = sum(goal.yaw_rad) / 2, (goal.yaw_rad[1] - goal.yaw_rad[0]) / 2
        if abs(math.remainder(float(body[2]) - middle, 2 * math.pi)) > half + 1e-6:
            return False
    return not goal.regions_m or any(_inside(body[:2], r) for r in goal.regions_m)


def _inside(point: np.ndarray, ring: np.ndarray) -> bool:
    """Return whether a point lies in a polygon (even-odd)."""
    a, b = ring, np.roll(ring, -1, axis=0)
    over = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    rise = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
    x = a[:, 0] + (point[1] - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    return bool((over & (x > point[0])).sum() % 2)
