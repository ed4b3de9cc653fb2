"""One frame of all cameras to what the network detects in it."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vehicle import bundles
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Rig
from vehicle.contracts.scene import LaneLine, Occupancy, Signal
from vehicle.decode import Decoder, all_finite, lane_lines, to_levels, to_steps
from vehicle.engine import Engine, InferenceError, Wrap
from vehicle.engine_choice import EngineChoice
from vehicle.memory import GAP_S, Memory
from vehicle.network_spec import (
    FURTHER,
    NEEDED,
    NetworkShapeError,
    check_half,
    check_kinds,
    check_network,
    half_order,
)
from vehicle.preprocess import GREY, Preprocessor
from vehicle.visibility import seen_cells
from vehicle.watch import LightWatch, MotionWatch

__all__ = ["OUTPUTS", "Detections", "NetworkShapeError", "NotFiniteError", "Perception"]

OUTPUTS = (*NEEDED, "lanes", "light", "flow", "ego_motion")
"""What is read of every answer, where the network gives it."""


class NotFiniteError(InferenceError):
    """The network answered with NaN or infinity: nothing of this frame can be used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What the network saw in one frame.

    Args:
        tracks: TRACK [N], ego frame, track_id 0, best score first.
        occupancy: grids of drivable space, lane paint and occupied cells; None: not looked for.
        embedding: float32 [E].
        uncertainty_ratio: 0..1, see Scene.
        has_velocity: tracks carry the velocity the network saw; else zeros, which mean nothing.
        lanes: boundaries of the ego's lane and of those beside it.
        signal: the traffic light that rules the way; None when the network does not look for any.
        doubt: what is wrong with odometry as the pictures show it, in a few words.
        half: which half of the cameras was refreshed; None: all.
        noise_m: float64 [N], standard deviation of each track's place where it is known.
    """

    tracks: np.ndarray
    occupancy: Occupancy | None
    embedding: np.ndarray
    uncertainty_ratio: float
    has_velocity: bool = False
    lanes: tuple[LaneLine, ...] = ()
    signal: Signal | None = None
    doubt: str = ""
    half: int | None = None
    noise_m: np.ndarray | None = None


class Perception:
    """Runs one bundle over the frames of one car; ready for the first frame when made.

    Args:
        bundle_folder: verified before anything of it is used.
        rig: the car's cameras.
        adapt: see through other cameras than the network was trained on.
        config: for the least score of a detection.
        engine: what runs the network; None: the default runtime on one thread.
    Raises:
        RigMismatchError: the cameras differ, and adapt is off or does not help.
        NetworkShapeError: the network does not fit its manifest or this stage.
        All errors of `bundles.load` and `Engine`.
    """

    def __init__(
        self,
        bundle_folder: Path,
        rig: Rig,
        *,
        adapt: bool = False,
        config: VehicleConfig | None = None,
        engine: EngineChoice | None = None,
    ) -> None:
        self.bundle = bundle = bundles.load(bundle_folder)
        self.preprocessor = Preprocessor(rig, bundle.rig, adapt=adapt)
        least = (config or VehicleConfig()).min_detection_prob
        check_kinds(bundle)
        self._unseen: dict[str, np.ndarray] = {}
        if adapt and rig.digest != bundle.rig.digest:
            grids = {"heat": bundle.bev_box, "dense": bundle.bev}
            self._unseen = {name: ~seen_cells(rig, grid) for name, grid in grids.items()}
        self._decoder = Decoder(bundle.kinds, bundle.bev_box, least)
        self._light, self._motion = LightWatch(), MotionWatch()
        self.stage_us: dict[str, float] = {}
        """Microseconds per stage of the last call; a stage that did not finish is not in it."""
        chosen = engine or EngineChoice()
        self._engine = Engine(bundle_folder / bundles.MODEL, chosen.threads, chosen.runtime)
        self._half: Engine | None = None
        self._rows: np.ndarray | None = None
        self._rows_ns = 0
        try:
            self.can = can = check_network(bundle, self._engine)
            self._memory = (
                Memory(can.memory_channels, bundle.bev_box, bundle.memory_age_s)
                if can.memory_channels
                else None
            )
            if can.rows and any(f.name == bundles.HALF for f in bundle.files):
                self._half = Engine(bundle_folder / bundles.HALF, chosen.threads, chosen.runtime)
                check_half(bundle, self._engine, self._half)
                self._orders = [half_order(bundle, can.rows[1], odd) for odd in range(2)]
            self._warm_up(rig)
        except BaseException:
            self.close()
            raise

    @property
    def can_half(self) -> bool:
        """Return whether a tick can refresh half of the cameras."""
        return self._half is not None

    def perceive(
        self,
        frame: FrameSet,
        deadline_mono_ns: int | None = None,
        half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:
        """Return what the network detects in a frame.

        Args:
            frame: at least one image.
            deadline_mono_ns: absolute, system monotonic clock; inference still running then is
                cancelled. None never cancels.
            half: 0 or 1: look through that half of the cameras and take the others as they last
                were; where nothing was seen within GAP_S, or the bundle cannot, all are looked
                through.
            ego: odometry of this frame; without it the network has no memory.
        Raises:
            InferenceError: no usable answer for this frame (InferenceCancelledError: too late).
            CameraFrameError, MissingCalibrationError: the images do not fit the rig.
        """
        self.stage_us = {}
        began_ns = time.perf_counter_ns()
        if half is not None and not self._knows_rows(frame.mono_ns):
            half = None
        inputs = dict(self.preprocessor(frame, half))
        if self._memory is not None:
            inputs["memory"] = self._memory.recall(ego, frame.mono_ns)
        engine = self._engine
        if half is not None and self._half is not None and self._rows is not None:
            engine = self._half
            inputs |= {"cached": self._rows, "order": self._orders[half]}
        began_ns = self._mark("preprocess", began_ns)
        try:
            outputs = engine.run(inputs, deadline_mono_ns)
        finally:
            began_ns = self._mark("inference", began_ns)
        detections = self._decode(outputs, frame.mono_ns, ego, half)
        self._mark("decode", began_ns)
        return detections

    def interpose(self, wrap: Wrap) -> None:
        """Put something round every run of the network; see `Engine.interpose`."""
        self._engine.interpose(wrap)
        if self._half is not None:
            self._half.interpose(wrap)

    def close(self) -> None:
        """Stop the engines."""
        self._engine.close()
        if self._half is not None:
            self._half.close()

    def _knows_rows(self, mono_ns: int) -> bool:
        """Return whether half of the cameras is enough: the others were seen not long ago."""
        known = self._half is not None and self._rows is not None
        return known and 0 <= mono_ns - self._rows_ns <= GAP_S * 1e9

    def _mark(self, stage: str, began_ns: int) -> int:
        now_ns = time.perf_counter_ns()
        self.stage_us[stage] = (now_ns - began_ns) * 1e-3
        return now_ns

    def _decode(
        self, outputs: dict[str, np.ndarray], mono_ns: int, ego: EgoState | None, half: int | None
    ) -> Detections:
        can, memory = self.can, self._memory
        for name in OUTPUTS:
            if name in can.outputs and not all_finite(outputs[name]):
                raise NotFiniteError(f"bundle {self.bundle.tag}: output {name!r} is not finite")
        if memory is not None and not memory.keep(outputs["memory_out"], ego, mono_ns):
            raise NotFiniteError(f"bundle {self.bundle.tag}: output 'memory_out' is not finite")
        if can.rows:
            self._rows, self._rows_ns = outputs["rows"], mono_ns
        for name, cells in self._unseen.items():
            outputs[name][0][:, cells] = 0.0
        drivable, lane, occupied = to_levels(outputs["dense"][0])
        tracks = self._decoder.boxes(outputs["heat"][0], outputs["box"][0])
        remembers = memory is not None and memory.used
        if can.velocity and not remembers:  # nothing to read a speed off
            tracks["vx_mps"] = tracks["vy_mps"] = 0.0
        told = {name: outputs[name][0] for name in can.outputs.intersection(FURTHER)}
        return Detections(
            tracks=tracks,
            occupancy=Occupancy(
                grid=self.bundle.bev,
                drivable=drivable,
                lane=lane,
                occupied=occupied,
                flow=to_steps(told["flow"]) if "flow" in told else None,
            ),
            embedding=outputs["embedding"][0].copy(),
            uncertainty_ratio=min(max(float(outputs["uncertainty"][0, 0]), 0.0), 1.0),
            has_velocity=can.velocity and remembers,
            lanes=lane_lines(told["lanes"], self.bundle.bev_box) if "lanes" in told else (),
            signal=self._light.see(told["light"], mono_ns) if "light" in told else None,
            doubt=self._motion.doubt(told["ego_motion"], ego, mono_ns)
            if "ego_motion" in told and remembers
            else "",
            half=half,
        )

    def _warm_up(self, rig: Rig) -> None:
        """Compile and touch everything once, so that the first frame costs what the others do."""
        warm = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=0.0)
        aged_ns = round(self.bundle.memory_age_s * 1e9)
        images = {
            c.name: np.full((c.height_px, c.width_px, 3), GREY, np.uint8) for c in rig.cameras
        }
        try:
            for mono_ns, half in ((0, None), (aged_ns, 0), (2 * aged_ns, 1)):
                self.perceive(
                    FrameSet(frame_id=0, mono_ns=mono_ns, images=images), half=half, ego=warm
                )
        except NotFiniteError as error:
            raise NetworkShapeError(f"{error} on grey images: it must not drive") from error
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing of earlier frames has a part in the next."""
        if self._memory is not None:
            self._memory.forget()
        self._rows = None
        self._light, self._motion = LightWatch(), MotionWatch()
