"""A dataset on disk: labelled frames as arrays, and the manifest that pins them.

Three packages meet in this file and in nothing else: the simulator and the lake write datasets,
training reads them. A dataset folder holds `dataset.json` (written last) and shards `*.npz`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import TRACK
from vehicle.contracts.wire import require

LABEL_MIN_PIXELS: Final = 6
"""Boxes with fewer visible pixels over all cameras are `ignore`: neither wanted nor punished."""

SHARD_ARRAYS: Final = {
    "frame_id": "int64 [N]",
    "images_<camera>": "uint8 [N, H, W, 3] RGB, one array per camera of the rig",
    "bev": "uint8 [N, 100, 64], bits BEV_DRIVABLE | BEV_LANE | BEV_OCCUPIED",
    "boxes": "TRACK fields as float32 [M, 9]: BOX_COLUMNS, all frames one after another",
    "box_start": "int64 [N + 1]: boxes of frame i are boxes[box_start[i]:box_start[i + 1]]",
}

BOX_COLUMNS: Final = (
    "kind",
    "x_m",
    "y_m",
    "yaw_rad",
    "length_m",
    "width_m",
    "height_m",
    "visible_px",
    "actor_id",
)
"""Columns of a labelled box, ego frame, float32."""


class DatasetError(wire.ContractError):
    """A dataset folder is incomplete or does not match its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """What a dataset is, pinned.

    Args:
        snapshot: lake snapshot it was read at; 0 for simulator output.
        query: the SQL or generator call that chose the frames.
        frames: how many labelled frames.
        boxes: labelled boxes per kind.
        sources: where the frames came from: clip ids, or "sim:town=3,seed=1".
        tags: e.g. {"light": "night", "split": "test"}.
    """

    SCHEMA: ClassVar[str] = "dataset/1"
    name: str
    snapshot: int
    query: str
    rig: Rig
    frames: int
    boxes: dict[str, int]
    sources: tuple[str, ...]
    files: tuple[FileEntry, ...]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the sha256 of the canonical manifest."""
        return wire.digest(wire.to_bytes(self))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One labelled frame: images by camera, boxes [M, 9] (BOX_COLUMNS), bev bits [100, 64]."""

    frame_id: int
    images: Mapping[str, np.ndarray]
    boxes: np.ndarray
    bev: np.ndarray


def boxes_from_tracks(tracks: np.ndarray, visible_px: np.ndarray) -> np.ndarray:
    """Return BOX_COLUMNS rows of TRACK rows and their visible pixel counts."""
    require(tracks.dtype == TRACK, "expected TRACK rows")
    columns = [tracks[name].astype(np.float32) for name in BOX_COLUMNS[:7]]
    ids = tracks["track_id"].astype(np.float32)
    return np.stack([*columns, visible_px.astype(np.float32), ids], axis=1)


def write_shard(path: Path, samples: list[Sample]) -> FileEntry:
    """Write samples as one shard, atomically; return its entry for the manifest."""
    require(len(samples) > 0, f"shard {path.name} would be empty")
    cameras = list(samples[0].images)
    counts = [len(s.boxes) for s in samples]
    arrays = {
        "frame_id": np.array([s.frame_id for s in samples], dtype=np.int64),
        "bev": np.stack([s.bev for s in samples]).astype(np.uint8),
        "boxes": np.concatenate([s.boxes.reshape(-1, len(BOX_COLUMNS)) for s in samples]).astype(
            np.float32
        ),
        "box_start": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{f"images_{c}": np.stack([s.images[c] for s in samples]) for c in cameras},
    }
    temp = path.with_name(f".{path.name}.part")
    try:
        with temp.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        data_digest, size = wire.digest_file(temp), temp.stat().st_size
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    return FileEntry(name=path.name, sha256=data_digest, size_bytes=size)


def read_manifest(folder: Path) -> DatasetManifest:
    """Return the manifest of a dataset folder.

    Raises:
        DatasetError: the folder has no manifest, or a shard is missing or of another size.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise DatasetError(f"{folder} is not a dataset: it has no dataset.json")
    manifest = wire.from_bytes(DatasetManifest, path.read_bytes())
    for entry in manifest.files:
        shard = folder / entry.name
        if not shard.is_file() or shard.stat().st_size != entry.size_bytes:
            raise DatasetError(f"{folder}: shard {entry.name} is missing or cut; make it again")
    return manifest


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a shard (no pickle is ever read)."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def iter_samples(folder: Path) -> Iterator[Sample]:
    """Yield every sample of a dataset in order."""
    for entry in read_manifest(folder).files:
        arrays = read_shard(folder / entry.name)
        cameras = [n.removeprefix("images_") for n in arrays if n.startswith("images_")]
        for i, frame_id in enumerate(arrays["frame_id"]):
            start, end = arrays["box_start"][i : i + 2]
            yield Sample(
                frame_id=int(frame_id),
                images={c: arrays[f"images_{c}"][i] for c in cameras},
                boxes=arrays["boxes"][start:end],
                bev=arrays["bev"][i],
            )
