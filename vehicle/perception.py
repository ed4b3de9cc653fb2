"""One frame of all cameras to what the network detects in it."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vehicle import bundles
from vehicle.config import VehicleConfig
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.frame import FrameSet, Rig
from vehicle.contracts.scene import KINDS, Occupancy
from vehicle.contracts.wire import RefusedError
from vehicle.decode import Decoder, all_finite, to_levels
from vehicle.engine import Engine, InferenceError
from vehicle.engine_choice import EngineChoice
from vehicle.preprocess import GREY, Preprocessor, input_shapes
from vehicle.visibility import seen_cells

OUTPUTS = ("heat", "box", "dense", "embedding", "uncertainty")


class NetworkShapeError(RefusedError):
    """A network takes or gives other arrays than perception does."""


class NotFiniteError(InferenceError):
    """The network answered with NaN or infinity: nothing of this frame can be used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What the network saw in one frame.

    Args:
        tracks: TRACK [N], ego frame, track_id 0, best score first.
        occupancy: grids of drivable space, lane paint and occupied cells.
        embedding: float32 [E].
        uncertainty_ratio: 0..1, see Scene.
    """

    tracks: np.ndarray
    occupancy: Occupancy
    embedding: np.ndarray
    uncertainty_ratio: float


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
        self.bundle = bundles.load(bundle_folder)
        self.preprocessor = Preprocessor(rig, self.bundle.rig, adapt=adapt)
        least = (config or VehicleConfig()).min_detection_prob
        _check_kinds(self.bundle)
        self._unseen: dict[str, np.ndarray] = {}
        if adapt and rig.digest != self.bundle.rig.digest:
            grids = {"heat": self.bundle.bev_box, "dense": self.bundle.bev}
            self._unseen = {name: ~seen_cells(rig, grid) for name, grid in grids.items()}
        self._decoder = Decoder(self.bundle.kinds, self.bundle.bev_box, least)
        self.stage_us: dict[str, float] = {}
        """Microseconds per stage of the last call; a stage that did not finish is not in it."""
        chosen = engine or EngineChoice()
        self._engine = Engine(bundle_folder / bundles.MODEL, chosen.threads, chosen.runtime)
        try:
            _check_network(self.bundle, self._engine)
            self._warm_up(rig)
        except BaseException:
            self._engine.close()
            raise

    def perceive(self, frame: FrameSet, deadline_mono_ns: int | None = None) -> Detections:
        """Return what the network detects in a frame.

        Args:
            frame: at least one image.
            deadline_mono_ns: absolute, system monotonic clock; inference still running then is
                cancelled. None never cancels.
        Raises:
            InferenceError: no usable answer for this frame (InferenceCancelledError: too late).
            CameraFrameError, MissingCalibrationError: the images do not fit the rig.
        """
        self.stage_us = {}
        began_ns = time.perf_counter_ns()
        inputs = self.preprocessor(frame)
        began_ns = self._mark("preprocess", began_ns)
        try:
            outputs = self._engine.run(inputs, deadline_mono_ns)
        finally:
            began_ns = self._mark("inference", began_ns)
        detections = self._decode(outputs)
        self._mark("decode", began_ns)
        return detections

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def _mark(self, stage: str, began_ns: int) -> int:
        now_ns = time.perf_counter_ns()
        self.stage_us[stage] = (now_ns - began_ns) * 1e-3
        return now_ns

    def _decode(self, outputs: dict[str, np.ndarray]) -> Detections:
        for name in OUTPUTS:
            if not all_finite(outputs[name]):
                raise NotFiniteError(f"bundle {self.bundle.tag}: output {name!r} is not finite")
        for name, cells in self._unseen.items():
            outputs[name][0][:, cells] = 0.0
        drivable, lane, occupied = to_levels(outputs["dense"][0])
        return Detections(
            tracks=self._decoder.boxes(outputs["heat"][0], outputs["box"][0]),
            occupancy=Occupancy(
                grid=self.bundle.bev, drivable=drivable, lane=lane, occupied=occupied
            ),
            embedding=outputs["embedding"][0].copy(),
            uncertainty_ratio=min(max(float(outputs["uncertainty"][0, 0]), 0.0), 1.0),
        )

    def _warm_up(self, rig: Rig) -> None:
        """Compile and touch everything once, so that the first frame costs what the others do."""
        images = {
            c.name: np.full((c.height_px, c.width_px, 3), GREY, np.uint8) for c in rig.cameras
        }
        try:
            self.perceive(FrameSet(frame_id=0, mono_ns=0, images=images))
        except NotFiniteError as error:
            raise NetworkShapeError(f"{error} on grey images: it must not drive") from error


def _check_kinds(bundle: ModelBundle) -> None:
    unknown = sorted(set(bundle.kinds) - set(KINDS))
    if unknown:
        raise NetworkShapeError(f"bundle {bundle.tag} detects {unknown}, known kinds: {KINDS}")


def _check_network(bundle: ModelBundle, engine: Engine) -> None:
    front, side = input_shapes(bundle.rig)
    box, bev = (bundle.bev_box.nx, bundle.bev_box.ny), (bundle.bev.nx, bundle.bev.ny)
    found = {s.name: (s.dtype, s.shape) for s in (*engine.inputs, *engine.outputs)}
    size = math.prod(found.get("embedding", ("", (0,)))[1])
    expected = {
        "front": ("uint8", front),
        "side": ("uint8", side),
        "heat": ("float32", (1, len(bundle.kinds), *box)),
        "box": ("float32", (1, 6, *box)),
        "dense": ("float32", (1, 3, *bev)),
        "embedding": ("float32", (1, size)),
        "uncertainty": ("float32", (1, 1)),
    }
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name):
            raise NetworkShapeError(
                f"bundle {bundle.tag}: {name!r} is {found.get(name)}, expected "
                f"{expected.get(name)} from its manifest"
            )
