"""A trained network ready to drive: what it takes, what it gives, where it came from."""

from dataclasses import dataclass, field
from typing import ClassVar

from vehicle.contracts.clip import FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BevGrid
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

    def __post_init__(self) -> None:
        require(
            self.version >= 1, f"bundle {self.name!r}: version is {self.version}, expected >= 1"
        )
        require(bool(self.kinds), f"bundle {self.name!r} detects nothing")

    @property
    def tag(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"
