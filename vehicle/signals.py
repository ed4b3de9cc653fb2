"""Every signal of a tick in one place: what triggers compare, the log carries and the lake copies.

Nothing here waits, and nothing but ticks goes in: a replay computes what the car did. Two signals
come from beside the loop and are only looked up: the shadow's score, and what the person on board
did (in the observation). Those that the wall clock makes are unknown where nobody waits for a tick.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import RUNGS, Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.vocabulary import SIGNALS
from vehicle.flicker import Flicker
from vehicle.human_gap import HumanGap
from vehicle.novelty import Novelty
from vehicle.rss_margin import RssMargin
from vehicle.safety import first_contact, road_users

MOVING_MPS: Final = 0.5
"""A slower car has no time to collision."""

JERK_NS: Final = 300_000_000
RECENT_S: Final = 1.0
"""An older answer of the shadow is about another situation."""

Values = dict[str, Any]
"""Signal -> number or text, by the names of SIGNALS; one that is absent or NaN is unknown."""

_LONG_AGO: Final = -(1 << 62)
_LOGGED: Final = tuple(name for name, word in SIGNALS.items() if word.logged)
_RUNG_INDEX: Final = {rung: float(i) for i, rung in enumerate(RUNGS)}


class Signals:
    """Computes all signals of one tick after another.

    Args:
        car_id, route_id: of the drive; what `random_prob` is drawn from, beside the frame.
        rate_hz: ticks per second.
        config: the body, and what the safety envelope counts on.
        known: embeddings `novelty` is measured from.
        timed: somebody waits for each tick; False (simulation, replay at full speed) leaves what
            the wall clock says out.
        shadow: the shadow's last score and the frame it is about, looked up without waiting; NaN
            without one.
    """

    def __init__(
        self, *, car_id: str, route_id: str, rate_hz: float, config: VehicleConfig | None = None,
        known: Sequence[Sequence[float]] = (), timed: bool = True,
        shadow: Callable[[], tuple[float, int]] | None = None,
    ) -> None:  # fmt: skip
        config = config or VehicleConfig()
        self._body = (
            config.length_m - config.rear_overhang_m, config.rear_overhang_m, config.width_m
        )  # fmt: skip
        self._margin = RssMargin(config)
        self._dice = hashlib.blake2b(f"{car_id}\0{route_id}\0".encode(), digest_size=8)
        self._novelty = Novelty(known) if len(known) else None
        self._timed, self._shadow = timed, shadow
        self._recent_frames = max(1, round(RECENT_S * rate_hz))
        self._now_ns = _LONG_AGO
        self._forget()
        first_contact(np.ones((1, 7)), 1.0, 0.0, *self._body)  # compiles it before the car moves

    def _forget(self) -> None:
        self._accels: deque[tuple[int, float]] = deque()
        self._flicker, self._gap = Flicker(), HumanGap()
        self._late_ticks, self._engaged = 0, False

    def of(
        self, obs: Observation, scene: Scene | None, plan: Plan | None,
        command: ControlCommand | None, timing: StageTiming,
    ) -> Values:  # fmt: skip
        """Return the signals of this tick. Where time runs backwards, everything begins anew.

        Args:
            obs: measured ego motion, and what the driver did.
            scene: tracks, embedding and uncertainty.
            plan, command: what the car wants.
            timing: when the command left, and the rung.
        """
        out: Values = {}
        now_ns = obs.frame.mono_ns
        if now_ns < self._now_ns:
            self._forget()
        self._now_ns = now_ns
        if obs.ego is not None:
            self._motion(out, obs.ego, now_ns)
            self._around(out, obs.ego, scene, plan)
        if scene is not None:
            self._seen(out, scene, now_ns)
        self._made(out, plan, command, timing)
        self._driver(out, obs, plan, now_ns)
        if self._shadow is not None:
            score, frame_id = self._shadow()
            if obs.frame.frame_id - frame_id <= self._recent_frames:
                out["shadow_disagreement"] = score
        dice = self._dice.copy()
        dice.update(obs.frame.frame_id.to_bytes(8, "little", signed=True))
        out["random_prob"] = (int.from_bytes(dice.digest(), "little") >> 11) * 2.0**-53
        return out

    def _motion(self, out: Values, ego: EgoState, now_ns: int) -> None:
        out["speed_mps"], out["accel_mps2"] = ego.speed_mps, ego.accel_mps2
        out["yaw_rate_radps"], out["curvature_1pm"] = ego.yaw_rate_radps, ego.curvature_1pm
        out["lateral_accel_mps2"] = ego.speed_mps * ego.yaw_rate_radps
        if ego.latitude_deg is not None and ego.longitude_deg is not None:
            out["latitude_deg"], out["longitude_deg"] = ego.latitude_deg, ego.longitude_deg
        accels = self._accels
        accels.append((now_ns, ego.accel_mps2))
        while now_ns - accels[0][0] > JERK_NS:
            accels.popleft()
        since_ns, before = accels[0]
        if now_ns > since_ns:
            out["jerk_mps3"] = (ego.accel_mps2 - before) / ((now_ns - since_ns) * 1e-9)

    def _around(self, out: Values, ego: EgoState, scene: Scene | None, plan: Plan | None) -> None:
        if scene is None or ego.speed_mps < MOVING_MPS:
            return
        users = road_users(scene)
        contact_s, _ = first_contact(users, ego.speed_mps, ego.curvature_1pm, *self._body)
        if contact_s < 1e8:
            out["ttc_s"] = float(contact_s)
        if plan is not None:
            out["rss_margin_m"] = self._margin.of(
                users, ego.speed_mps, plan.trajectory.states[:, 1:4]
            )

    def _seen(self, out: Values, scene: Scene, now_ns: int) -> None:
        out["n_tracks"], out["fresh"] = float(len(scene.tracks)), float(scene.fresh)
        if not scene.fresh:
            return
        out["uncertainty_ratio"] = float(scene.uncertainty_ratio)
        out["flicker_ratio"] = self._flicker.of(scene.tracks, now_ns)
        if self._novelty is not None:
            out["novelty"] = self._novelty.of(scene.embedding)

    def _made(
        self, out: Values, plan: Plan | None, command: ControlCommand | None, timing: StageTiming
    ) -> None:
        if plan is not None:
            out["proposal"] = plan.proposal
        if command is not None:
            out["command_accel_mps2"] = command.accel_mps2
            out["command_curvature_1pm"] = command.curvature_1pm
            out["limited_by"] = ",".join(command.limited_by)
        out["rung"], out["rung_index"] = timing.rung, _RUNG_INDEX[timing.rung]
        out["mrm"] = float(timing.rung == "mrm")
        if self._timed:
            self._late_ticks = self._late_ticks + 1 if timing.missed else 0
            out["total_us"], out["missed"] = float(timing.total_us), float(timing.missed)
            out["late_ticks"] = float(self._late_ticks)

    def _driver(self, out: Values, obs: Observation, plan: Plan | None, now_ns: int) -> None:
        driver = obs.driver
        if driver is None:
            self._engaged = False
            return
        out["engaged"], out["bookmark"] = float(driver.engaged), float(driver.bookmark)
        out["takeover"] = float(self._engaged and not driver.engaged)
        self._engaged = driver.engaged
        if obs.ego is not None and plan is not None and not driver.engaged:
            out["human_gap_m"] = self._gap.of(obs.ego, plan, now_ns)


def logged(values: Values) -> dict[str, float]:
    """Return what of a tick's signals goes into the log: those computed here that are known."""
    return {n: values[n] for n in _LOGGED if n in values and values[n] == values[n]}
