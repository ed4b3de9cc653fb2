"""One run of a scenario: the world moves, the ego obeys commands, the truth is known."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from sim.asam.opendrive import load_map
from sim.look.render import make_light, turn_sun
from sim.look.staging import Stage
from sim.look.weather import kind_of
from sim.run.collisions import boxes_touch as boxes_touch
from sim.run.collisions import touched
from sim.score.trace import Snapshot, no_polygons
from sim.sense.labels import LaneLines, light_label, signal_ahead
from sim.sense.sensors import Sensors, Shot, label_bev, label_boxes
from sim.sense.truth import actor_states, ego_sample, true_scene
from sim.sense.truthlog import TruthLog
from sim.story.scenarios import family_of
from sim.story.script import Script, density_of, find_start, surprise
from sim.town.lights import RED, YELLOW, Heads, Signals
from sim.town.roadmap import TownMap
from sim.town.world import build_town, town_number
from sim.users.actors import Actors
from sim.users.dynamics import Motion, advance
from sim.users.navigation import drive_by_truth
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.scenario import LightName, Scenario
from vehicle.contracts.scene import Signal

if TYPE_CHECKING:
    from vehicle.drive import Drive

_START_NS = 1_000_000_000
_MAX_STEP_S = 0.1
_WARM_UP_STEPS = 40
_USUAL_SPEED_MPS = 7.5


class Episode:
    """A world that ticks.

    Args:
        town: number of the town. layout: one of sim.town.world.LAYOUTS, unless the number says it.
        map: an OpenDRIVE file to drive in instead; the scenario does not remember it.
        seed: of traffic, route, weather of the light and sensor noise.
        light: one of sim.look.weather.LIGHTS. weather: one of sim.look.weather.WEATHERS.
        threads: cameras drawn at a time; the pictures do not depend on it.
        rate_hz: ticks per second.
        family, parameters, duration_s: see vehicle.contracts.scenario.
        rig: cameras; without any, `observe` gives ego motion and guidance only.
    """

    def __init__(
        self,
        *,
        town: int = 0,
        seed: int = 0,
        layout: str = "lattice",
        map: Path | None = None,
        light: LightName | str = "day",
        weather: str = "clear",
        rate_hz: float = 10.0,
        family: str = "town_drive",
        parameters: dict[str, float] | None = None,
        duration_s: float = 60.0,
        rig: Rig = RIG_R,
        config: VehicleConfig | None = None,
        threads: int = 1,
    ) -> None:
        town = town_number(town, layout)
        air = kind_of(weather).draw(np.random.default_rng((5, seed, town)))
        self.light = make_light(light, np.random.default_rng((3, seed, town)), air)
        self.scenario = Scenario(
            town=town, seed=seed, light=cast(LightName, light), family=family, rate_hz=rate_hz,
            parameters=parameters or {}, duration_s=duration_s, weather=weather,
        )  # fmt: skip
        self.config = config or VehicleConfig()
        self.rig = rig
        self.town = build_town(town) if map is None else load_map(map)
        self._family = family_of(self.scenario)
        self._rng = np.random.default_rng((1, seed, town))
        self._dice = np.random.default_rng((2, seed, town))
        self.actors = Actors(self.town, self._rng, density_of(self._family))
        scenery, self._heads = self.town.scenery, None
        self.signals = Signals(self.town, seed) if self._family.signals > 0.5 else None
        if self.signals is not None:
            self._heads = Heads(self.signals, scenery)
            scenery = self._heads.scenery
        self.sensors = Sensors(rig, Stage(self.town.ground, scenery), threads=threads)
        self.frame_id = 0
        self.collided = False
        self.collisions: list[tuple[int, int]] = []
        self._shot: Shot | None = None
        self._lane_lines = LaneLines(self.town)
        self.script: Script | None = None
        self._depart(self._rng)
        self._origin = (self.motion.x_m, self.motion.y_m)
        for _ in range(_WARM_UP_STEPS):
            self._move_others(_MAX_STEP_S)
        self.script = self._stage_event(self._rng)

    @classmethod
    def of(cls, scenario: Scenario, rig: Rig = RIG_R) -> "Episode":
        """Return the episode of a scenario."""
        return cls(
            town=scenario.town, seed=scenario.seed, light=scenario.light,
            rate_hz=scenario.rate_hz, family=scenario.family, parameters=scenario.parameters,
            duration_s=scenario.duration_s, rig=rig, weather=scenario.weather,
        )  # fmt: skip

    def look_from(self, motion: Motion) -> None:
        """Put the ego somewhere else for the current frame only (labelled data, not driving)."""
        self.motion = motion
        self._shot = None

    def relocate(self, rng: np.random.Generator) -> None:
        """Move the ego to a new place in the same town."""
        if self.script is not None:
            self.actors.remove(self.script.cast_ids)
            self.script = None
        self._depart(rng)
        self.script = self._stage_event(rng)
        self._shot = None

    def _stage_event(self, rng: np.random.Generator) -> Script | None:
        """Put the cast of the family's event, if it has one, at its place on the route."""
        if self._spot is None:
            return None
        script = Script(self._family, self.actors, self.route, self._spot, rng)
        if self.signals is not None:
            script.let_ego_go(self.signals, self.route, _USUAL_SPEED_MPS)
        return script

    def _depart(self, rng: np.random.Generator) -> None:
        """Put the ego on a road lane, a few metres in, with nobody in its place."""
        self.motion, self.route, self._spot = find_start(self._family, self.town, rng)
        m = self.motion
        if self.light.weather.glare_ratio > 0.0:
            self.light = turn_sun(self.light, m.yaw_rad)
        self.road = TownMap(self.town, self.route)
        x, y = m.x_m + 1.35 * math.cos(m.yaw_rad), m.y_m + 1.35 * math.sin(m.yaw_rad)
        self.actors.clear_around(x, y, 7.0)

    @property
    def ticks(self) -> int:
        """Return how many ticks the scenario lasts."""
        return round(self.scenario.duration_s * self.scenario.rate_hz)

    @property
    def rate_hz(self) -> float:
        """Return ticks per second."""
        return self.scenario.rate_hz

    @property
    def t_s(self) -> float:
        """Return the time since the start of the episode."""
        return self.frame_id / self.scenario.rate_hz

    @property
    def done(self) -> bool:
        """Return whether the scenario's time is over."""
        return self.frame_id >= self.ticks

    @property
    def mono_ns(self) -> int:
        """Return the time of the current frame on the route's clock."""
        return _START_NS + round(self.frame_id * 1e9 / self.scenario.rate_hz)

    @property
    def origin_m(self) -> tuple[float, float]:
        """Return where the local frame of this route begins, in town."""
        return self._origin

    @property
    def pose(self) -> np.ndarray:
        """Return x, y, yaw of the ego frame in town."""
        return np.array([self.motion.x_m, self.motion.y_m, self.motion.yaw_rad])

    @property
    def body(self) -> np.ndarray:
        """Return x, y, yaw, speed, length, width of the ego's body in town."""
        c = self.config
        reach = c.length_m / 2 - c.rear_overhang_m
        m = self.motion
        return np.array(
            [
                m.x_m + reach * math.cos(m.yaw_rad),
                m.y_m + reach * math.sin(m.yaw_rad),
                m.yaw_rad,
                m.speed_mps,
                c.length_m,
                c.width_m,
            ]
        )

    def shot(self) -> Shot:
        """Return all cameras of the current frame, rendered once."""
        if self._shot is None:
            if self._heads is not None:
                self._heads.show(self.t_s)
            self._shot = self.sensors.shoot(
                self.actors.table, self.pose, self.light, self.scenario.seed, self.frame_id,
                speed_mps=self.motion.speed_mps,
            )  # fmt: skip
        return self._shot

    def observe(self, *, truth: bool = False) -> Observation:
        """Return what the car is given on this tick; with `truth`, `.traffic` is the true scene."""
        images = self.shot().images if self.rig.cameras else {}
        return Observation(
            frame=FrameSet(frame_id=self.frame_id, mono_ns=self.mono_ns, images=images),
            ego=self.motion.ego_state(self.mono_ns, self._origin),
            guidance=self.route.guidance(
                self.motion, None if self.signals is None else self.signals.stop_s_m
            ),
            traffic=true_scene(
                self.actors.table, self.pose, self.frame_id, self.mono_ns, self.signal_ahead()
            )
            if truth
            else None,
        )

    def snapshot(self) -> Snapshot:
        """Return the truth of the current instant."""
        m = self.motion
        return Snapshot(
            t_s=self.t_s,
            ego=ego_sample(self.body, m.accel_mps2, m.curvature_1pm, self.config),
            actors=actor_states(self.actors.table),
            red_light_m=no_polygons()
            if self.signals is None
            else self.signals.red_lines_m(self.t_s),
            collided=tuple((0, a) for frame, a in self.collisions if frame == self.frame_id),
        )

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes float32 [M, 11] (BOX_COLUMNS) and BEV bits uint8 [100, 64]."""
        boxes = label_boxes(self.actors.table, self.pose, self.shot())
        scenery = self.town.scenery
        solids = scenery.footprints[scenery.solid]
        return boxes, label_bev(self.town.ground, boxes, solids, self.pose)

    def signal_ahead(self) -> Signal:
        """Return the traffic light that rules the ego's route within 60 m, as it is."""
        return signal_ahead(self.route, self.signals, self.t_s)[0]

    def road_truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return light float32 [2] (LIGHT_COLUMNS) and lanes float32 [4, 50] (LANE_LINES)."""
        signal, row = signal_ahead(self.route, self.signals, self.t_s)
        light = light_label(
            signal, row, self._heads, self.shot(), self.rig, self.pose,
            self.light.weather.extinction_1pm,
        )  # fmt: skip
        return light, self._lane_lines.label(self.route, self.pose)

    def step(self, command: ControlCommand | None) -> None:
        """Move the world on by one tick; without a command a driver who sees all drives."""
        left = 1.0 / self.scenario.rate_hz
        while left > 1e-9:
            dt = min(left, _MAX_STEP_S)
            if command is None:
                accel, curvature = drive_by_truth(
                    self.route, self.motion, self.actors.table, self.config, self.stop_ahead_m()
                )
            else:
                accel, curvature = command.accel_mps2, command.curvature_1pm
            self.motion = advance(self.motion, accel, curvature, dt, self.config)
            self.route.follow(self.motion)
            surprise(self, self._family, dt, self._dice)
            self._move_others(dt)
            left -= dt
        self.frame_id += 1
        self._shot = None
        self._note_collisions()

    def stop_ahead_m(self) -> float:
        """Return the way to the next stop line whose light says stop, for a driver who can."""
        if self.signals is None:
            return math.inf
        state = self.signals.lane_state(self.t_s)
        way = self.route.stop_ahead_m(np.where(state == RED, self.signals.stop_s_m, math.inf))
        soon = self.route.stop_ahead_m(np.where(state == YELLOW, self.signals.stop_s_m, math.inf))
        if soon - 4.0 > self.motion.speed_mps**2 / 5.0:
            way = min(way, soon)
        return way

    def _move_others(self, dt_s: float) -> None:
        claims, lights = self.route.claims(), None
        if self.signals is not None:
            lights = self.signals.lane_state(self.t_s)
            if lights[self.route.lane] == RED:
                claims[1] = -1  # it waits: others may cross before it
        self.actors.step(dt_s, self._rng, self.body, claims, lights)
        if self.script is not None:
            self.script.step(self.actors, self.route.index, self.body, dt_s)

    def _note_collisions(self) -> None:
        """Remember which actors the ego's body touches."""
        for actor in touched(self.actors.table, self.body):
            self.collided = True
            self.collisions.append((self.frame_id, actor))


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveResult:
    """How a closed-loop drive went.

    Args:
        ticks: driven.
        distance_m: along the path of the rear axle.
        collisions: contacts with actors, each actor counted once.
        events: triggers fired, by name.
        rungs: ticks on each rung of the degrade ladder.
        total_us: release to command of each tick.
    """

    ticks: int
    distance_m: float
    collisions: int
    events: dict[str, int]
    rungs: dict[str, int]
    total_us: tuple[int, ...]


def drive_episode(
    car: "Drive",
    episode: Episode,
    ticks: int,
    progress: Callable[[int], None] | None = None,
    truth: TruthLog | None = None,
) -> DriveResult:
    """Run the real car stack in a world: it sees, plans and steers; the world answers.

    Args:
        car: with its sinks; the caller closes it.
        ticks: how long.
        progress: called with the ticks driven so far.
        truth: keeps the labels of every tick.
    """
    events: Counter[str] = Counter()
    rungs: Counter[str] = Counter()
    total_us, distance_m = [], 0.0
    for done in range(1, ticks + 1):
        tick = car.tick(episode.observe())
        if truth is not None:
            truth.add(episode)
        events.update(e.trigger for e in tick.events)
        rungs[tick.timing.rung] += 1
        total_us.append(tick.timing.total_us)
        before = episode.motion
        episode.step(tick.command or _coast(episode))
        distance_m += math.hypot(episode.motion.x_m - before.x_m, episode.motion.y_m - before.y_m)
        if progress:
            progress(done)
    return DriveResult(
        ticks=ticks,
        distance_m=distance_m,
        collisions=len({actor for _, actor in episode.collisions}),
        events=dict(events),
        rungs=dict(rungs),
        total_us=tuple(total_us),
    )


def _coast(episode: Episode) -> ControlCommand:
    return ControlCommand(
        frame_id=episode.frame_id, mono_ns=episode.mono_ns, accel_mps2=-1.0, curvature_1pm=0.0
    )
