"""A trained network ready to drive: what it takes, what it gives, where it came from."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vehicle.contracts.clip import FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import KINDS, BevGrid
from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and dtype of one input or output of the network."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a bundle came from, so that every answer leads back to clips and cars.

    Args:
        recipe: name of the function in training/recipes.py.
        dataset_digest: digest of the dataset manifest it was trained on.
        parent_digest: digest of the bundle it was fine-tuned from, "" for none.
        config_digest: sha256 of the training configuration.
    """

    recipe: str
    dataset_digest: str
    parent_digest: str = ""
    config_digest: str = ""
    seed: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector2D:
    """How somebody's detector of boxes in pictures is fed and read; see vehicle/flatground.py.

    Args:
        cameras: names in the rig; the network runs once per camera and tick.
        resize: "letterbox" keeps the picture's proportions and fills right and below with grey 114,
            "stretch" fills the whole input.
        layout: order of the input's axes. channels: order of its colours.
        scale, offset: a level 0..255 goes in as (level - offset) * scale, per channel in the
            input's order.
        output: what the numbers mean: "fastestdet", "yolox", or "boxes" [1, N, 6] of x1, y1, x2,
            y2 in pixels of the input, score, class.
        classes: kind of road user per class of the network, "" for classes to be passed over.
        min_score_prob: boxes below are no detections.
        nms_iou: of two boxes of a kind that overlap more, the better one stays.
        foot_px: standard deviation of a box's lower edge, pixels of the network's input.
    """

    cameras: tuple[str, ...]
    resize: Literal["letterbox", "stretch"]
    layout: Literal["NCHW", "NHWC"]
    channels: Literal["RGB", "BGR"]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    output: Literal["fastestdet", "yolox", "boxes"]
    classes: tuple[str, ...]
    min_score_prob: float = 0.35
    nms_iou: float = 0.45
    foot_px: float = 1.5

    def __post_init__(self) -> None:
        require(bool(self.cameras), "Detector2D.cameras is empty: name one to look through")
        unknown = sorted(set(self.classes) - set(KINDS) - {""})
        require(not unknown, f"Detector2D.classes has {unknown}, expected kinds of {KINDS} or ''")
        require(any(self.classes), "Detector2D.classes names no kind: it would see nobody")
        for name in ("min_score_prob", "nms_iou"):
            value = getattr(self, name)
            require(0.0 < value < 1.0, f"Detector2D.{name} is {value}, expected between 0 and 1")
        require(0.0 < self.foot_px < 100.0, f"Detector2D.foot_px is {self.foot_px}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """Manifest of a bundle folder: model.onnx, weights.npz, golden.npz and this, written last.

    Args:
        name, version: `name@version`; versions only grow.
        odd: where it was trained to work, e.g. {"light": "day"}.
        rig: the cameras whose geometry is baked into the network's gather tables.
        kinds: road users it detects, in the order of its heat-map channels.
        golden: golden.npz holds inputs and outputs the engine must reproduce; this is the largest
            allowed absolute difference per output.
        report_digests: evaluation reports the release gate read.
        memory_age_s: how old the map is that the network was trained to read as its memory; only a
            network with an input `memory` has one.
        detector: set when the network finds boxes in pictures instead of road users on the ground.
    """

    SCHEMA: ClassVar[str] = "bundle/1"
    name: str
    version: int
    odd: dict[str, str] = field(default_factory=dict)
    rig: Rig
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kinds: tuple[str, ...]
    bev: BevGrid
    bev_box: BevGrid
    precision: str
    latency_budget_us: int
    golden: dict[str, float]
    lineage: Lineage
    files: tuple[FileEntry, ...]
    report_digests: tuple[str, ...] = ()
    memory_age_s: float = 0.1
    detector: Detector2D | None = None

    def __post_init__(self) -> None:
        require(
            self.version >= 1, f"bundle {self.name!r}: version is {self.version}, expected >= 1"
        )
        require(bool(self.kinds), f"bundle {self.name!r} detects nothing")
        require(
            0.01 <= self.memory_age_s <= 1.0,
            f"bundle {self.name!r}: memory_age_s is {self.memory_age_s}, expected 0.01..1",
        )

    @property
    def tag(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"
