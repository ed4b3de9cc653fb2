"""Labels are bought: truth is released for the frames that are paid for, and for no other.

In simulation the truth of a whole drive lies in the car's truth folder, as an annotator's work
would lie with the annotator; only the frames asked for here enter the lake, and every box is
counted.
"""

import io
import math
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake.lake import Lake, Writer
from datalake.tables import LABELLED, LABELS
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.sample import BOX_COLUMNS, LABEL_MIN_PIXELS, DatasetError, all_columns
from vehicle.contracts.scene import BEV, KINDS

SOURCE: Final = "simulator"
_INTEGERS: Final = ("kind", "visible_px", "actor_id")
_VELOCITY: Final = ("vx_mps", "vy_mps")


class UnknownClipError(wire.RefusedError):
    """A clip was named that the lake does not hold."""


class MissingTruthError(wire.RefusedError):
    """Nobody can label this clip: there is no truth for its drive, or not for a frame of it."""


class BadTruthError(wire.RefusedError):
    """A truth or label file is not in the shard array format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """What was bought.

    Args:
        clips: clips asked for.
        frames: frames bought by this call.
        already: frames that were labelled before and cost nothing now.
        boxes: boxes drawn in the frames bought: the cost. Boxes under LABEL_MIN_PIXELS are
            delivered, marked by visible_px, and not counted: nobody could have drawn them.
    """

    SCHEMA = "labelling/1"
    clips: int
    frames: int
    already: int
    boxes: int


def label(
    home: Home,
    lake: Lake,
    clip_ids: Iterable[str],
    *,
    frames: Mapping[str, Collection[int]] | None = None,
    every: int = 1,
) -> LabelReport:
    """Buy the labels of clips.

    Args:
        home: where the truth of each drive lies: cars/<car>/truth/<route_id>.npz.
        lake: receives rows in `labelled` and `labels`, rasters in labels/<clip_id>.npz.
        clip_ids: the clips to buy.
        frames: clip_id -> the frames to buy of it; None buys every `every`-th of each clip.
        every: 1 buys all frames.
    Returns:
        frames and boxes paid for.
    Raises:
        UnknownClipError: a clip is not in the lake.
        MissingTruthError: there is no truth for a clip or frame; nothing was bought.
    """
    wire.require(every >= 1, f"every is {every}, expected 1 or more")
    ids = sorted(set(clip_ids))
    facts = _facts(lake)
    unknown = [c for c in ids if c not in facts]
    if unknown:
        raise UnknownClipError(f"clip {unknown[0][:12]} is not in the lake; ingest it first")
    wanted = {clip_id: _wanted(lake, clip_id, frames, every) for clip_id in ids}

    def change(writer: Writer) -> tuple[int, int]:
        bought: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for clip_id in ids:
            new = sorted(set(wanted[clip_id]) - writer.frames("labelled", clip_id))
            if new:
                car_id, route_id = facts[clip_id]
                truth = Truth(home.car(car_id) / "truth" / f"{route_id}.npz")
                _deliver(home, clip_id, {f: truth.frame(f) for f in new}, bought, boxes)
        writer.append("labelled", LABELLED.rows(bought))
        writer.append("labels", LABELS.rows(boxes))
        return len(bought), sum(row["boxes"] for row in bought)

    count, cost = lake.write(change)
    asked = sum(len(f) for f in wanted.values())
    return LabelReport(clips=len(ids), frames=count, already=asked - count, boxes=cost)


def rasters(home: Home, clip_id: str) -> dict[int, np.ndarray]:
    """Return frame_id -> BEV bits [100, 64] of every frame of a clip bought so far."""
    path = labels_file(home, clip_id)
    if not path.is_file():
        return {}
    arrays = read_arrays(path, ("frame_id", "bev"))
    return dict(zip(arrays["frame_id"].tolist(), arrays["bev"], strict=True))


def labels_file(home: Home, clip_id: str) -> Path:
    """Return where the rasters of a clip are kept."""
    return home.lake / "labels" / f"{clip_id}.npz"


class Truth:
    """The truth of one drive, frame by frame."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingTruthError(
                f"no truth at {path}: only simulated drives can be labelled here; bring labels of "
                "your own for recorded ones"
            )
        self.path = path
        arrays = read_arrays(path, ("frame_id", "bev", "boxes", "box_start"))
        try:
            self._boxes = all_columns(arrays["boxes"])
        except DatasetError as error:
            raise BadTruthError(f"{path}: {error}") from error
        self._bev, self._start = arrays["bev"], arrays["box_start"]
        self._row = {frame: i for i, frame in enumerate(arrays["frame_id"].tolist())}
        if self._bev.shape != (len(self._row), BEV.nx, BEV.ny) or self._start.shape != (
            len(self._row) + 1,
        ):
            raise BadTruthError(f"{path} is not in the shard array format of contracts/sample.py")

    def frame(self, frame_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes [M, 11] and BEV bits of one frame."""
        if frame_id not in self._row:
            raise MissingTruthError(f"{self.path} has no truth for frame {frame_id}")
        row = self._row[frame_id]
        return self._boxes[self._start[row] : self._start[row + 1]], self._bev[row]


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return named arrays of an npz file (no pickle is ever read)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadTruthError(f"{path} does not read: {error}; make it again") from error


def _facts(lake: Lake) -> dict[str, tuple[str, str]]:
    rows = lake.sql("SELECT clip_id, car_id, route_id FROM clips").to_pylist()
    return {r["clip_id"]: (r["car_id"], r["route_id"]) for r in rows}


def _wanted(
    lake: Lake, clip_id: str, frames: Mapping[str, Collection[int]] | None, every: int
) -> list[int]:
    found = lake.sql(f"SELECT frame_id FROM ticks WHERE clip_id = '{clip_id}' ORDER BY frame_id")
    there: list[int] = found["frame_id"].to_pylist()
    if frames is None:
        return there[::every]
    wanted = sorted(set(frames.get(clip_id, ())))
    strange = sorted(set(wanted) - set(there))
    if strange:
        raise UnknownClipError(f"clip {clip_id[:12]} has no frame {strange[0]}")
    return wanted


def _deliver(
    home: Home,
    clip_id: str,
    frames: Mapping[int, tuple[np.ndarray, np.ndarray]],
    bought: list[dict[str, Any]],
    boxes: list[dict[str, Any]],
) -> None:
    """Keep the rasters of a clip's new frames; add their rows to `bought` and `boxes`."""
    kept = rasters(home, clip_id) | {frame: bev for frame, (_, bev) in frames.items()}
    _write_rasters(labels_file(home, clip_id), kept)
    for frame, (drawn, bev) in frames.items():
        boxes += _box_rows(clip_id, frame, drawn)
        bought.append(
            {
                "clip_id": clip_id,
                "frame_id": frame,
                "boxes": int((drawn[:, 7] >= LABEL_MIN_PIXELS).sum()),
                "source": SOURCE,
                "bev_sha256": bev_digest(bev),
            }
        )


def bev_digest(bev: np.ndarray) -> str:
    """Return the sha256 of a raster's bytes."""
    return wire.digest(np.ascontiguousarray(bev, dtype=np.uint8).tobytes())


def _box_rows(clip_id: str, frame_id: int, boxes: np.ndarray) -> Iterable[dict[str, Any]]:
    for index, box in enumerate(boxes.tolist()):
        row: dict[str, Any] = dict(zip(BOX_COLUMNS, box, strict=True))
        row |= {name: int(row[name]) for name in _INTEGERS}
        row["kind"] = KINDS[row["kind"]]
        row |= {name: None for name in _VELOCITY if math.isnan(row[name])}
        yield {"clip_id": clip_id, "frame_id": frame_id, "box": index, **row}


def _write_rasters(path: Path, kept: Mapping[int, np.ndarray]) -> None:
    order = sorted(kept)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        frame_id=np.array(order, dtype=np.int64),
        bev=np.stack([kept[f] for f in order]).astype(np.uint8),
    )
    wire.atomic_write(path, buffer.getvalue())
