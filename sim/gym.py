"""Our towns behind the Gymnasium API: `import sim.gym; gymnasium.make("roadloop/Town-v0")`.

For learners and baselines that speak Gymnasium. The world is the one of `sim.run.episode`: same
towns, same families, same traffic; only the car's own stack is left out.
"""

import math
from typing import Any, ClassVar, Final

import gymnasium
import numpy as np
from gymnasium import spaces

from sim.rivals.cases import FIRST_TOWN, NO_CAMERAS
from sim.run.episode import Episode
from sim.score.trace import World
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState, Guidance
from vehicle.contracts.frame import Observation, Rig
from vehicle.picture import draw

ENV_ID: Final = "roadloop/Town-v0"
TRACKS: Final = 24
PATH_POINTS: Final = 16
PATH_STEP_M: Final = 4.0
CONTACT_REWARD: Final = -10.0
OFF_ROAD_REWARD: Final = -5.0
ON_LANE_M: Final = 3.0
"""Way made farther from the lane centre than this earns nothing."""

EGO_LIMITS: Final = {
    "speed_mps": (0.0, 60.0),
    "accel_mps2": (-12.0, 12.0),
    "yaw_rate_radps": (-12.0, 12.0),
    "curvature_1pm": (-0.3, 0.3),
    "speed_limit_mps": (0.0, 60.0),
    "left_of_lane_m": (-20.0, 20.0),
    "turned_left_of_lane_rad": (-math.pi, math.pi),
}
"""Entries of observation "ego" in order, with the bounds they are cut to."""

TRACK_LIMITS: Final = {
    "x_m": (-100.0, 100.0),
    "y_m": (-100.0, 100.0),
    "yaw_rad": (-4.0, 4.0),
    "length_m": (0.0, 30.0),
    "width_m": (0.0, 10.0),
    "vx_mps": (-60.0, 60.0),
    "vy_mps": (-60.0, 60.0),
    "kind": (0.0, 31.0),
}
"""Columns of observation "tracks" after its first, which is 1 for a road user and 0 for none."""

_FRONT: Final = Rig(name="front", cameras=RIG_R.cameras[:1])


class TownEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Drive a held-out town.

    Observation: "ego" (EGO_LIMITS), "path" [16, 2] lane centre ahead every 4 m in the ego frame,
    "tracks" [24, 9] the nearest road users in the ego frame, nearest first; with `camera` also
    "camera" uint8 [128, 256, 3].

    Action in -1..1: acceleration (1 is `max_accel_mps2`, -1 is `max_brake_mps2`) and curvature
    (1 is `max_curvature_1pm` to the left), see VehicleConfig.

    Reward per tick: metres along the lane over metres at the limit, 0..1 (none
    farther than 3 m from its centre); less 0.1 per metre off
    its centre (at most 0.2) and 0.02 per m/s2 of braking over 3; -10 for touching anybody and -5
    for leaving the road, which end the episode. The scenario's time truncates it.

    Args:
        town, family, light: see vehicle.contracts.scenario; `reset(options=...)` replaces them.
        camera: render the front camera (about 2 ms a tick).
        seconds, rate_hz: of an episode.
        render_mode: "rgb_array": camera and ground from above.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        town: int = FIRST_TOWN,
        family: str = "town_drive",
        light: str = "day",
        camera: bool = False,
        seconds: float = 30.0,
        rate_hz: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.config = VehicleConfig()
        self._start: dict[str, Any] = {"town": town, "family": family, "light": light}
        self._seconds, self._rate_hz, self._camera = seconds, rate_hz, camera
        self._world: World | None = None
        self._seen: Observation | None = None
        seen: dict[str, spaces.Space[Any]] = {
            "ego": _box(np.array(list(EGO_LIMITS.values()))),
            "path": spaces.Box(-200.0, 200.0, (PATH_POINTS, 2), np.float32),
            "tracks": _box(np.tile(np.array([(0.0, 1.0), *TRACK_LIMITS.values()]), (TRACKS, 1, 1))),
        }
        if camera:
            first = RIG_R.cameras[0]
            seen["camera"] = spaces.Box(0, 255, (first.height_px, first.width_px, 3), np.uint8)
        self.observation_space = spaces.Dict(seen)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin a new episode; `options` may name town, family and light."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(2**31))
        self._world = Episode(
            **{**self._start, **(options or {})},
            seed=number,
            rate_hz=self._rate_hz,
            duration_s=self._seconds,
            rig=_FRONT if self._camera or self.render_mode else NO_CAMERAS,
        )
        self._seen = self._world.observe(truth=True)
        return self._observation(), {"seed": number}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Drive one tick."""
        world, before = self._running()
        push, turn = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        c = self.config
        command = ControlCommand(
            frame_id=world.frame_id,
            mono_ns=before.frame.mono_ns,
            accel_mps2=float(push * (c.max_accel_mps2 if push > 0 else c.max_brake_mps2)),
            curvature_1pm=float(turn * c.max_curvature_1pm),
        )
        world.step(command)
        self._seen = world.observe(truth=True)
        contact, off_road = self._contact(), self._off_road()
        reward = self._reward(before, command)
        reward += CONTACT_REWARD * contact + OFF_ROAD_REWARD * off_road
        info = {"contact": contact, "off_road": off_road}
        return self._observation(), float(reward), contact or off_road, world.done, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Return the front camera and the ground from above, uint8 [H, W, 3]."""
        if self.render_mode is None:
            return None
        return draw(self._running()[1], None, _FRONT, self.config)

    def _running(self) -> tuple[World, Observation]:
        if self._world is None or self._seen is None:
            raise gymnasium.error.ResetNeeded("call reset() before step() or render()")
        return self._world, self._seen

    def _contact(self) -> bool:
        world, _ = self._running()
        return any(0 in pair for pair in world.snapshot().collided)

    def _off_road(self) -> bool:
        world, _ = self._running()
        e = world.snapshot().ego
        c, s = math.cos(e.yaw_rad) * e.length_m / 2, math.sin(e.yaw_rad) * e.length_m / 2
        ends = np.array([[e.x_m + c, e.y_m + s], [e.x_m - c, e.y_m - s]])
        return not bool(world.road.drivable(ends).any())

    def _reward(self, before: Observation, command: ControlCommand) -> float:
        world, after = self._running()
        then, guidance = _moved(before)
        now, _ = _moved(after)
        _, turned = _beside(guidance)
        dx, dy = now.x_m - then.x_m, now.y_m - then.y_m
        lane_yaw = then.yaw_rad - turned
        way = math.cos(lane_yaw) * dx + math.sin(lane_yaw) * dy
        share = way * world.rate_hz / guidance.speed_limit_mps
        left, _ = _beside(_moved(after)[1])
        harsh = max(0.0, -command.accel_mps2 - 3.0)
        share = min(max(share, 0.0), 1.0) * (abs(left) <= ON_LANE_M)
        return share - min(0.1 * abs(left), 0.2) - 0.02 * harsh

    def _observation(self) -> dict[str, np.ndarray]:
        _, obs = self._running()
        ego, guidance = _moved(obs)
        left, turned = _beside(guidance)
        values = [
            *(ego.speed_mps, ego.accel_mps2, ego.yaw_rate_radps, ego.curvature_1pm),
            *(guidance.speed_limit_mps, left, turned),
        ]
        out = {
            "ego": _cut(np.array(values), np.array(list(EGO_LIMITS.values()))),
            "path": np.clip(_ahead(guidance), -200.0, 200.0).astype(np.float32),
            "tracks": _nearest(obs),
        }
        if self._camera:
            out["camera"] = obs.frame.images[RIG_R.cameras[0].name].copy()
        return out


def _moved(obs: Observation) -> tuple[EgoState, Guidance]:
    assert obs.ego is not None
    assert obs.guidance is not None
    return obs.ego, obs.guidance


def _beside(guidance: Guidance) -> tuple[float, float]:
    """Return how far the ego is left of the lane centre, and turned left of it."""
    line = guidance.centreline_m
    i = min(int(np.argmin(np.hypot(line[:, 0], line[:, 1]))), len(line) - 2)
    along = line[i + 1] - line[i]
    yaw = math.atan2(along[1], along[0])
    return float(math.sin(yaw) * line[i, 0] - math.cos(yaw) * line[i, 1]), -yaw


def _ahead(guidance: Guidance) -> np.ndarray:
    line = guidance.centreline_m
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = s[int(np.argmin(np.hypot(line[:, 0], line[:, 1])))] + PATH_STEP_M * np.arange(PATH_POINTS)
    return np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)


def _nearest(obs: Observation) -> np.ndarray:
    out = np.zeros((TRACKS, 1 + len(TRACK_LIMITS)), np.float32)
    if obs.traffic is None:
        return out
    tracks = obs.traffic.tracks
    order = np.argsort(np.hypot(tracks["x_m"], tracks["y_m"]), kind="stable")[:TRACKS]
    out[: len(order), 0] = 1.0
    for i, (name, (low, high)) in enumerate(TRACK_LIMITS.items()):
        out[: len(order), i + 1] = np.clip(tracks[name][order], low, high)
    return out


def _cut(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return np.clip(values, limits[..., 0], limits[..., 1]).astype(np.float32)


def _box(limits: np.ndarray) -> spaces.Box:
    low, high = limits[..., 0].astype(np.float32), limits[..., 1].astype(np.float32)
    return spaces.Box(low, high, low.shape, np.float32)


if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="sim.gym:TownEnv")
