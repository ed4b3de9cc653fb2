"""Drives on which every family of triggers has something to notice, and what it noticed.

The car drives on its cameras. What does not come by itself is done to it: jolts, late ticks, a
network that answers nothing, a driver who takes over, presses the button or drives himself, a
candidate in the shadow that sees badly.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from sim.run.episode import Episode
from sim.trigger.trigger_truth import FAMILY_TRIGGERS, PIECE_S, TrueState, intervals
from sim.users.navigation import drive_by_truth
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.ego import ControlCommand, DriverInput, EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.disagreement import disagreement
from vehicle.drive import Drive
from vehicle.engine import InferenceCancelledError
from vehicle.lookout import Lookout
from vehicle.perception import Detections, Perception
from vehicle.planner import Planner
from vehicle.sight import Sight

Who = Literal["car", "jolted", "human", "shadow", "outage"]

RATE_HZ: Final = 10.0
ON_TIME_US: Final = 4_000
LATE_US: Final = 12_000

EVERY_S: Final = 9.0
"""Something is done to the car so often."""

OUTAGES_S: Final = (0.6, 2.0)
"""Long enough for predicted tracks (0.5 s on the ladder), and for a minimal risk manoeuvre."""


TRAINED_IN: Final = (
    *(("day", "clear"), ("dusk", "clear"), ("night", "clear")),
    *(("day", "rain"), ("night", "rain")),
)
"""Light and weather the shipped network knows; fog is none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One drive; see Episode. `who` drives, and what is done to the car."""

    family: str
    seed: int
    light: str = "day"
    weather: str = "clear"
    who: Who = "car"

    @property
    def town(self) -> int:
        """Return a town no network was trained in."""
        return 100 + self.seed


def _trials() -> tuple[Trial, ...]:
    own = (
        ("cut_in", "day", "clear"), ("sudden_brake", "day", "clear"),
        ("jaywalker", "dusk", "clear"),
        ("emergency_stop", "day", "clear"), ("stopped_vehicle", "day", "rain"),
        ("child_runs_out", "day", "clear"), ("mixed_traffic", "night", "clear"),
        ("rush_hour", "day", "clear"), ("boulevard", "dusk", "clear"),
        ("town_drive", "day", "rain"), ("cyclist_right", "day", "clear"),
        ("motorcycle_filters", "day", "clear"), ("oncoming_overtakes", "day", "clear"),
        ("wrong_way", "day", "clear"), ("red_runner", "dusk", "clear"),
    )  # fmt: skip
    fog = (
        ("town_drive", "day"), ("town_drive", "night"), ("cut_in", "dusk"), ("rush_hour", "day"),
        ("mixed_traffic", "day"), ("boulevard", "night"),
    )  # fmt: skip
    done: tuple[tuple[str, Who], ...] = (
        ("town_drive", "jolted"), ("boulevard", "jolted"), ("mixed_traffic", "jolted"),
        ("town_drive", "human"), ("rush_hour", "human"), ("mixed_traffic", "human"),
        ("boulevard", "human"), ("sudden_brake", "human"), ("boulevard", "shadow"),
        ("mixed_traffic", "shadow"), ("rush_hour", "shadow"),
        ("town_drive", "outage"), ("mixed_traffic", "outage"),
    )  # fmt: skip
    out = [Trial(family=f, seed=i, light=li, weather=w) for i, (f, li, w) in enumerate(own)]
    out += [Trial(family=f, seed=40 + i, light=li, weather="fog") for i, (f, li) in enumerate(fog)]
    out += [Trial(family=f, seed=60 + i, who=who) for i, (f, who) in enumerate(done)]
    return tuple(out)


TRIALS: Final = _trials()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """One tick without its pictures and grids: all that the trigger stage is given."""

    obs: Observation
    scene: Scene | None
    plan: Plan | None
    command: ControlCommand | None
    timing: StageTiming


@dataclass(slots=True)
class Drove:
    """What came of a trial.

    Args:
        fired_s: family -> when it fired.
        truth_s: family -> from when to when it should have; only families this trial asks about.
        ticks: to time the stage on.
    """

    seconds: float
    fired_s: dict[str, list[float]] = field(default_factory=dict)
    truth_s: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ticks: list[Kept] = field(default_factory=list)


def known_embeddings(count: int) -> tuple[tuple[float, ...], ...]:
    """Return what the shipped network makes of drives in light and weather it was trained in."""
    perception, rows = Perception(bundles.base_folder(), RIG_R), []
    try:
        for i, (light, weather) in enumerate(TRAINED_IN):
            episode = Episode(town=40 + i, seed=i, light=light, weather=weather)
            for _ in range(max(1, count // len(TRAINED_IN))):
                found = perception.perceive(episode.observe().frame)
                rows.append(tuple(round(float(x), 5) for x in found.embedding))
                for _ in range(4):
                    episode.step(None)
    finally:
        perception.close()
    return tuple(rows)


def drive_trial(trial: Trial, ticks: int, known: tuple[tuple[float, ...], ...]) -> Drove:
    """Drive one trial to its end and compare."""
    return _Run(trial, known).drive(ticks)


class _Run:
    """One trial being driven."""

    def __init__(self, trial: Trial, known: tuple[tuple[float, ...], ...]) -> None:
        self._trial = trial
        self._episode = Episode(
            town=trial.town, seed=trial.seed, light=trial.light, weather=trial.weather,
            family=trial.family, rate_hz=RATE_HZ,
        )  # fmt: skip
        self._car = Drive(
            car_id="trial", route_id=f"{trial.family}-{trial.seed}", rig=RIG_R,
            bundle=bundles.base_folder(), campaigns=(),
            budget=Budget(enforce=False, clock=SystemClock()), rate_hz=RATE_HZ,
        )  # fmt: skip
        self._shadow = _Shadow() if trial.who == "shadow" else None
        self._lookout = Lookout(
            car_id="trial", route_id=f"{trial.family}-{trial.seed}",
            campaigns=(replace(FAMILY_TRIGGERS, known=known),), rate_hz=RATE_HZ, timed=True,
            shadow=None if self._shadow is None else self._shadow.score,
        )  # fmt: skip
        self._state = TrueState(self._episode)
        self._network = _Silenced() if trial.who == "outage" else None
        if self._network is not None:
            self._car.sight.close()
            self._car.sight = Sight(self._network, RIG_R)

    def drive(self, ticks: int) -> Drove:
        """Drive so many ticks."""
        out, holds = Drove(seconds=ticks / RATE_HZ), dict[str, list[bool]]()
        try:
            for i in range(ticks):
                fired = self._tick(i, out.ticks, holds)
                for name in fired:
                    out.fired_s.setdefault(name, []).append(i / RATE_HZ)
        finally:
            self._car.close()
            if self._shadow is not None:
                self._shadow.close()
        hold_s = {spec.name: spec.hold_s for spec in FAMILY_TRIGGERS.triggers}
        for name, held in holds.items():
            piece_s = PIECE_S if name in ("uncertainty", "novelty") else 0.0
            least_s = hold_s.get(name, 0.0)
            out.truth_s[name] = intervals(held, RATE_HZ, hold_s=least_s, piece_s=piece_s)
        return out

    def _tick(self, i: int, kept: list[Kept], holds: dict[str, list[bool]]) -> list[str]:
        done = self._done(i)
        if self._network is not None:
            self._network.silent = done["dark"]
        driver = DriverInput(engaged=not done["human"], bookmark=done["bookmark"])
        obs = replace(self._episode.observe(), driver=driver)
        tick = self._car.tick(obs)
        if self._shadow is not None:
            self._shadow.look(obs, tick, blind=done["blind"])
        timing = replace(tick.timing, total_us=LATE_US if done["late"] else ON_TIME_US)
        _, events = self._lookout.notice(obs, tick.scene, tick.plan, tick.command, timing)
        kept.append(_kept(obs, tick, timing))
        now = self._state.of(obs, tick.scene, tick.plan, human=self._trial.who == "human")
        for name, held in {**now, **self._meant(done)}.items():
            holds.setdefault(name, []).append(bool(held))
        if done["restart"]:
            self._car.sight.restart()
            self._car.pilot.restart()
        self._episode.step(self._command(tick, done))
        return [event.trigger for event in events]

    def _done(self, i: int) -> dict[str, Any]:
        """Return what is done to the car on this tick, by name."""
        who, t = self._trial.who, i / RATE_HZ
        phase, turn = t % EVERY_S - 4.0, int(t // EVERY_S)
        outage_s = OUTAGES_S[turn % 2]
        pair = who == "car" and 0.0 <= phase < 0.25  # ticks late in a row
        return {
            "human": who == "human" or (who == "car" and 2.0 <= phase < 3.0),
            "bookmark": who == "car" and abs(phase - 4.0) < 0.05,
            "late": pair or (who == "car" and abs(phase + 2.0) < 0.05),  # and one alone
            "late_row": pair and phase >= 0.05,
            "takeover": who == "car" and abs(phase - 2.0) < 0.05,
            "dark": who == "outage" and 0.0 <= phase < outage_s,
            "low": who == "outage" and 0.0 <= phase < (4.0 if turn % 2 else outage_s + 0.5),
            "stopping": who == "outage" and turn % 2 == 1 and 1.0 <= phase < 4.0,
            "restart": who == "outage" and abs(phase - 4.0) < 0.05,
            "blind": who == "shadow" and 0.0 <= phase < 3.0,
            "jolt": turn % 2 if who in ("jolted", "human") and 0.0 <= phase < 0.8 else None,
        }

    def _meant(self, done: dict[str, Any]) -> dict[str, bool]:
        """Return what should be noticed because it was done."""
        fog, who = self._trial.weather == "fog", self._trial.who
        out = {"uncertainty": fog, "novelty": fog} if who in ("car", "human") else {}
        if who == "car":
            out |= {"deadline_miss": done["late_row"], "takeover": done["takeover"]}
            out |= {"bookmark": done["bookmark"]}
        if who == "shadow":
            out["shadow_disagreement"] = done["blind"]
        if who in ("car", "outage"):
            out |= {"rung": done["low"], "mrm": done["stopping"]}
        return out

    def _command(self, tick: Tick, done: dict[str, Any]) -> ControlCommand | None:
        """Return what moves the car: its own command, a human, or a jolt on top of either."""
        episode, command = self._episode, tick.command
        if self._trial.who == "human":
            accel, curvature = drive_by_truth(
                episode.route, episode.motion, episode.actors.table, episode.config,
                episode.stop_ahead_m(),
            )  # fmt: skip
            command = _asked(tick.frame_id, accel, curvature)
        if command is None:
            return _asked(tick.frame_id, -1.0, 0.0)
        if done["jolt"] == 0:
            return replace(command, accel_mps2=-6.0)
        if done["jolt"] == 1:
            aside = 4.0 / max(episode.motion.speed_mps, 4.0) ** 2
            return replace(command, curvature_1pm=command.curvature_1pm + aside)
        return command


class _Silenced:
    """The shipped network, which answers nothing while it is silent."""

    def __init__(self) -> None:
        self._perception = Perception(bundles.base_folder(), RIG_R)
        self.silent = False

    @property
    def stage_us(self) -> dict[str, float]:
        """Return what the last call took."""
        return self._perception.stage_us

    def perceive(
        self, frame: FrameSet, deadline_mono_ns: int | None = None, half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:  # fmt: skip
        """Return what is seen, or raise as if it came too late."""
        if self.silent:
            raise InferenceCancelledError("silenced by the trial")
        return self._perception.perceive(frame, deadline_mono_ns, half, ego)

    def close(self) -> None:
        """Stop."""
        self._perception.close()


class _Shadow:
    """A candidate that sees noise, and now and then next to nothing."""

    def __init__(self) -> None:
        self._sight = Sight.open(bundles.base_folder(), RIG_R, False, VehicleConfig())
        self._budget = Budget(enforce=False, clock=SystemClock())
        self._planner, self._previous = Planner(VehicleConfig()), None
        self._rng = np.random.default_rng(1)
        self._score, self._frame = math.nan, -1

    def look(self, obs: Observation, tick: Tick, *, blind: bool) -> None:
        """Compare one frame, seen through a noisy lens, or one nearly closed."""
        share, sigma = (0.1, 6.0) if blind else (1.0, 6.0)
        images = {
            name: np.clip(
                image * share + self._rng.normal(0.0, sigma, image.shape), 0.0, 255.0
            ).astype(np.uint8)
            for name, image in obs.frame.images.items()
        }
        seen = replace(obs, frame=replace(obs.frame, images=images))
        self._budget.begin(obs.frame.frame_id)
        scene = self._sight.see(seen, self._budget)
        self._previous = self._planner.plan(scene, seen, self._previous, "full")
        self._score = disagreement(tick.scene, scene, tick.plan, self._previous).score
        self._frame = obs.frame.frame_id

    def score(self) -> tuple[float, int]:
        """Return the last score and its frame."""
        return self._score, self._frame

    def close(self) -> None:
        """Stop the candidate."""
        self._sight.close()


def _asked(frame_id: int, accel: float, curvature: float) -> ControlCommand:
    return ControlCommand(
        frame_id=frame_id, mono_ns=0, accel_mps2=float(accel), curvature_1pm=float(curvature)
    )


def _kept(obs: Observation, tick: Tick, timing: StageTiming) -> Kept:
    scene = tick.scene
    return Kept(
        obs=replace(obs, frame=replace(obs.frame, images={}), guidance=None),
        scene=None if scene is None else replace(scene, occupancy=None, lanes=()),
        plan=tick.plan,
        command=tick.command,
        timing=timing,
    )
