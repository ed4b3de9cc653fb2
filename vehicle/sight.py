"""From a frame to a scene, whatever happens: perception, tracker, and how well both do."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from vehicle.budget import Budget
from vehicle.config import VehicleConfig
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.plan import Rung
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import Health
from vehicle.engine import InferenceCancelledError
from vehicle.fallback import FrameMender, Ladder, Outcome, describe, step
from vehicle.perception import Detections, Perception
from vehicle.tracker import Tracker

_NO_EMBEDDING = np.zeros(0, np.float32)


class Sees(Protocol):
    """What perception must be able to do."""

    stage_us: dict[str, float]

    def perceive(self, frame: FrameSet, deadline_mono_ns: int | None = None) -> Detections:
        """Return what is seen, or raise what is wrong."""
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
        cls, bundle: Path | None, rig: Rig | None, adapt: bool, config: VehicleConfig
    ) -> "Sight":
        """Return the sight of a car: with perception where there are a bundle and cameras.

        Raises:
            All errors of `Perception`: a wrong bundle is refused, never driven without.
        """
        if bundle is None or rig is None or not rig.cameras:
            return cls(None, None, lack="no bundle" if bundle is None else "no cameras")
        return cls(Perception(bundle, rig, adapt=adapt, config=config), rig)

    def __init__(self, perception: Sees | None, rig: Rig | None, lack: str = "absent") -> None:
        self.state = self.tracking = "drives" if perception is not None else lack
        self._ages: dict[int, int] = {}
        self._perception = perception
        self._mender = FrameMender(rig) if rig is not None and rig.cameras else None
        self._tracker = Tracker()
        self._ladder = Ladder()
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
        self._ladder = Ladder()

    def close(self) -> None:
        """Stop perception."""
        if self._perception is not None:
            self._perception.close()

    def see(self, obs: Observation, budget: Budget) -> Scene | None:
        """Return the scene of this tick: seen, predicted, or the log's own; None without any."""
        if self._perception is None or self._mender is None:
            return None if obs.traffic is None else self._from_log(obs, obs.traffic, budget)
        frame, faults = self._mender.mend(obs.frame)
        found: Detections | None = None
        outcome: Outcome = "partial" if faults else "fresh"
        detail = describe(faults)
        try:
            found = self._perception.perceive(frame, budget.inference_deadline_ns)
        except InferenceCancelledError as error:
            outcome, detail = "late", str(error)
        except Exception as error:  # whatever a frame does to perception, the car goes on
            outcome, detail = "failed", f"{type(error).__name__}: {error} {detail}".strip()
        self.cancelled = outcome == "late"
        budget.charge(self._perception.stage_us)
        self._note(outcome, detail, obs.frame.mono_ns)
        scene = self._scene(obs, found)
        budget.mark("track")
        return scene

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

    def _note(self, outcome: Outcome, detail: str, mono_ns: int) -> None:
        self._ladder = step(self._ladder, outcome, mono_ns)
        counters = {**self.health.counters, outcome: self.health.counters[outcome] + 1}
        last = self.health.detail if outcome == "fresh" else detail
        self.health = replace(
            self.health, mono_ns=mono_ns, ok=outcome == "fresh", detail=last, counters=counters
        )

    def _scene(self, obs: Observation, found: Detections | None) -> Scene:
        frame_id, mono_ns = obs.frame.frame_id, obs.frame.mono_ns
        if found is None:
            return Scene(
                frame_id=frame_id,
                mono_ns=mono_ns,
                tracks=self._tracker.coast(obs.ego, mono_ns),
                embedding=_NO_EMBEDDING,
                uncertainty_ratio=float("nan"),
                fresh=False,
            )
        return Scene(
            frame_id=frame_id,
            mono_ns=mono_ns,
            tracks=self._tracker.update(found.tracks, obs.ego, mono_ns),
            occupancy=found.occupancy,
            embedding=found.embedding,
            uncertainty_ratio=found.uncertainty_ratio,
            fresh=True,
        )
