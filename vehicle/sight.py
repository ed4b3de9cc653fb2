"""From a frame to a scene, whatever happens: perception, tracker, and how well both do."""

from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from vehicle.budget import Budget
from vehicle.cameras import FrameMender, FrameOrder, describe
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.plan import Rung
from vehicle.contracts.scene import Scene, Signal
from vehicle.contracts.telemetry import Health
from vehicle.engine import InferenceCancelledError, Wrap
from vehicle.engine_choice import EngineChoice
from vehicle.fallback import Cost, Ladder, Outcome, step
from vehicle.flatground import open_perception
from vehicle.perception import Detections, Perception
from vehicle.tracker import Tracker

PRICE_RUNS: Final = 3
"""Runs from which the price of all cameras beside half of them is taken, the cheapest of each."""

SIGNAL_HOLDS_NS: Final = 1_000_000_000
"""A traffic light seen this long ago still stands there: a late tick must not run a red one."""

_NO_EMBEDDING = np.zeros(0, np.float32)


class Sees(Protocol):
    """What perception must be able to do."""

    stage_us: dict[str, float]

    def perceive(
        self,
        frame: FrameSet,
        deadline_mono_ns: int | None = None,
        half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:
        """Return what is seen, or raise what is wrong; `half` 0 or 1 refreshes those cameras."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class Sight:
    """Answers every tick with a scene: seen, or predicted when perception does not answer.

    No fault of perception leaves this class: each is named in `health`, counted, and moves the
    ladder.

    Args:
        perception: None when the car has no cameras or no bundle; then there is never a scene.
        rig: the cameras every frame should have.
        lack: why there is no perception.
    """

    @classmethod
    def open(
        cls,
        bundle: Path | None,
        rig: Rig | None,
        adapt: bool,
        config: VehicleConfig,
        engine: EngineChoice | None = None,
    ) -> "Sight":
        """Return the sight of a car: with perception where there are a bundle and cameras.

        Raises:
            All errors of `open_perception`: a wrong bundle is refused, never driven without.
        """
        if bundle is None or rig is None or not rig.cameras:
            return cls(None, None, lack="no bundle" if bundle is None else "no cameras")
        seeing = open_perception(bundle, rig, adapt=adapt, config=config, engine=engine)
        return cls(seeing, rig)

    def __init__(self, perception: Sees | None, rig: Rig | None, lack: str = "absent") -> None:
        self.state = self.tracking = "drives" if perception is not None else lack
        self._ages: dict[int, int] = {}
        self._perception = perception
        self._mender = FrameMender(rig) if rig is not None and rig.cameras else None
        self._order = FrameOrder()
        self._tracker = Tracker()
        self._halves = bool(getattr(perception, "can_half", False))
        self._half = 0
        self._signal: Signal | None = None
        self._signal_ns = 0
        self._ladder = self._fresh_ladder(rig)
        self.cancelled = False
        self.health = Health(
            part="perception",
            mono_ns=0,
            ok=perception is not None,
            detail="" if perception is not None else lack,
            counters={"fresh": 0, "partial": 0, "late": 0, "failed": 0},
        )

    @property
    def rung(self) -> Rung:
        """Return where the tick stands on the ladder."""
        return self._ladder.rung

    def restart(self) -> None:
        """Leave a minimal risk manoeuvre: a person says that the car may go on."""
        self._ladder = Ladder(halves=self._halves, full_ratio=self._ladder.full_ratio)

    def close(self) -> None:
        """Stop perception."""
        if self._perception is not None:
            self._perception.close()

    def interpose(self, wrap: Wrap) -> None:
        """Put a fault round every run of the network, to see what the car makes of it."""
        if isinstance(self._perception, Perception):
            self._perception.interpose(wrap)

    def see(self, obs: Observation, budget: Budget) -> Scene | None:
        """Return the scene of this tick: seen, predicted, or the log's own; None without any."""
        if self._perception is None or self._mender is None:
            return None if obs.traffic is None else self._from_log(obs, obs.traffic, budget)
        wrong, again = self._order.check(obs.frame)
        if again:  # what was before means nothing now
            _forget(self._perception)
            self._tracker = Tracker()
            self._ladder = replace(
                self._ladder, bad_since_ns=None, full_since_ns=None, probe_ns=0, doubt_ns=0
            )
        found, outcome, detail, cost = (
            (None, "failed", wrong, None) if wrong else self._perceive(obs, budget)
        )
        self.cancelled = outcome == "late"
        if wrong:
            self._count("frame_" + wrong.split(":")[0].replace(" ", "_"))
        self._note(outcome, detail, obs.frame.mono_ns, cost)
        scene = self._scene(obs, found)
        budget.mark("track")
        return scene

    def _perceive(
        self, obs: Observation, budget: Budget
    ) -> tuple[Detections | None, Outcome, str, Cost | None]:
        """Return detections or None, how perception answered, what was wrong, and the cost."""
        assert self._perception is not None
        assert self._mender is not None
        perception, deadline_ns, room_us = (
            self._perception, budget.inference_deadline_ns, budget.inference_room_us
        )  # fmt: skip
        frame, faults = self._mender.mend(obs.frame, obs.ego)
        budget.mark("preprocess")
        for fault in faults.values():
            self._count(f"camera_{fault.kind}")
        detail = describe(faults)
        outcome: Outcome = "partial" if faults else "fresh"
        found: Detections | None = None
        try:
            if self._ladder.ask == "half":
                self._half = 1 - self._half
                found = perception.perceive(frame, deadline_ns, half=self._half, ego=obs.ego)
                outcome = outcome if found.half is None else "half"
            else:
                found = perception.perceive(frame, deadline_ns, ego=obs.ego)
            detail = f"{detail} {found.doubt}".strip()
        except InferenceCancelledError as error:
            outcome, detail = "late", f"{error} {detail}".strip()
        except Exception as error:  # whatever a frame does to perception, the car goes on
            outcome, detail = "failed", f"{type(error).__name__}: {error} {detail}".strip()
        budget.charge(perception.stage_us)
        took_us = sum(perception.stage_us.values())
        return found, outcome, detail, Cost(took_us=took_us, room_us=room_us) if room_us else None

    def _fresh_ladder(self, rig: Rig | None) -> Ladder:
        """Return a ladder that knows what all cameras cost beside half of them, where there are."""
        perception = self._perception
        if perception is None or rig is None or not self._halves:
            return Ladder()
        images = {c.name: np.full((c.height_px, c.width_px, 3), 114, np.uint8) for c in rig.cameras}
        frame, took_us = FrameSet(frame_id=0, mono_ns=0, images=images), []
        for half in (None, 0):
            runs = []
            for _ in range(PRICE_RUNS):
                perception.perceive(frame, half=half)
                runs.append(sum(perception.stage_us.values()))
            took_us.append(min(runs))
        _forget(perception)
        return Ladder(halves=True, full_ratio=max(1.0, took_us[0] / max(took_us[1], 1.0)))

    def _from_log(self, obs: Observation, traffic: Scene, budget: Budget) -> Scene:
        """Return the log's own road users: tracks as they are, mere detections tracked here."""
        tracks = traffic.tracks
        if (tracks["track_id"] == 0).any():
            tracks = self._tracker.update(tracks, obs.ego, obs.frame.mono_ns)
            self.tracking = "drives on the log's road users"
        else:
            ages = {int(i): self._ages.get(int(i), -1) + 1 for i in tracks["track_id"]}
            self._ages = ages
            tracks = tracks.copy()
            tracks["age_ticks"] = np.maximum(tracks["age_ticks"], list(ages.values()))
            self.tracking = "the log's own tracks"
        budget.mark("track")
        return replace(
            traffic, frame_id=obs.frame.frame_id, mono_ns=obs.frame.mono_ns, tracks=tracks
        )

    def _note(self, outcome: Outcome, detail: str, mono_ns: int, cost: Cost | None) -> None:
        mono_ns = max(mono_ns, self.health.mono_ns) if outcome == "failed" else mono_ns
        self._ladder = step(self._ladder, outcome, mono_ns, cost=cost)
        self._count(outcome)
        well = outcome in ("fresh", "half") and not detail
        self.health = replace(
            self.health, mono_ns=mono_ns, ok=well, detail=self.health.detail if well else detail
        )

    def _count(self, what: str) -> None:
        counters = {**self.health.counters, what: self.health.counters.get(what, 0) + 1}
        self.health = replace(self.health, counters=counters)

    def _scene(self, obs: Observation, found: Detections | None) -> Scene:
        frame_id, mono_ns = obs.frame.frame_id, obs.frame.mono_ns
        at_ns = self.health.mono_ns  # of the frame, or of a later one that it came after
        if found is None:
            return Scene(
                frame_id=frame_id,
                mono_ns=mono_ns,
                tracks=self._tracker.coast(obs.ego, at_ns),
                embedding=_NO_EMBEDDING,
                uncertainty_ratio=float("nan"),
                fresh=False,
                signal=self._signal_held(obs.ego, at_ns),
            )
        self._signal, self._signal_ns = found.signal, at_ns
        return Scene(
            frame_id=frame_id,
            mono_ns=mono_ns,
            tracks=self._tracker.update(
                found.tracks,
                obs.ego,
                at_ns,
                velocity_known=found.has_velocity,
                noise_m=found.noise_m,
            ),
            lanes=found.lanes,
            occupancy=found.occupancy,
            embedding=found.embedding,
            uncertainty_ratio=found.uncertainty_ratio,
            fresh=True,
            signal=found.signal,
        )

    def _signal_held(self, ego: EgoState | None, at_ns: int) -> Signal | None:
        """Return the light seen last, as far off as it now must be; None once that is too old."""
        signal, passed_ns = self._signal, at_ns - self._signal_ns
        if signal is None or not 0 <= passed_ns <= SIGNAL_HOLDS_NS:
            return None
        way_m = 0.0 if ego is None else ego.speed_mps * passed_ns * 1e-9
        return replace(signal, distance_m=signal.distance_m - way_m)


def _forget(perception: Sees) -> None:
    """Let perception begin anew, where it remembers anything."""
    forget = getattr(perception, "forget", None)
    if forget is not None:
        forget()
