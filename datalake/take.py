"""Takes in what networks at home said about clips: a teacher's labels, a new network's embeddings.

A teacher's label stands beside whatever else a frame has, under the teacher's own name: truth that
was bought is never touched, and where it is, datasets take it. Taking a folder twice changes
nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake.label import TEACHER, BadTruthError, Truth, UnknownClipError, deliver, read_arrays
from datalake.lake import Lake, Writer
from datalake.tables import EMBEDDINGS, LABELLED, LABELS
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.judged import JUDGED, Judged
from vehicle.contracts.wire import RefusedError

_EMBEDDING_AXES: Final = 2


class JudgedFolderError(RefusedError):
    """A folder holds no judgements, or other files than its manifest names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeReport:
    """What came in.

    Args:
        what: labels or embeddings. model: who said it.
        clips: in the folder.
        frames: new in the lake. already: there before, by the same network.
        boxes: labelled boxes that count, in the new frames.
    """

    SCHEMA = "taken/1"
    what: str
    model: str
    clips: int
    frames: int
    already: int
    boxes: int


def take(home: Home, lake: Lake, folder: Path) -> TakeReport:
    """Take a folder of judgements into the lake, in one transaction.

    Args:
        folder: with JUDGED, as `roadloop fleet infer label` or `embed` writes it.
    Raises:
        JudgedFolderError: no such folder, or tampered.
        UnknownClipError: it judges a clip or frame that the lake has not.
        BadTruthError: a file is not in its format.
    """
    judged = _manifest(folder)
    clips = {entry.name.removesuffix(".npz"): folder / entry.name for entry in judged.files}
    ticks = _ticks(lake, clips)

    def change(writer: Writer) -> tuple[int, int]:
        if judged.what == "labels":
            return _labels(home, writer, judged, clips, ticks)
        return _embeddings(writer, judged, clips, ticks), 0

    frames, boxes = lake.write(change)
    return TakeReport(
        what=judged.what,
        model=judged.model,
        clips=len(clips),
        frames=frames,
        already=judged.frames - frames,
        boxes=boxes,
    )


def _manifest(folder: Path) -> Judged:
    path = folder / JUDGED
    if not path.is_file():
        raise JudgedFolderError(f"{folder} has no {JUDGED}: `roadloop fleet infer label` makes one")
    judged = wire.from_bytes(Judged, path.read_bytes())
    for entry in judged.files:
        file = folder / entry.name
        if not file.is_file() or wire.digest_file(file) != entry.sha256:
            raise JudgedFolderError(f"{file} is not the file that {JUDGED} names; make it again")
    return judged


def _ticks(lake: Lake, clips: dict[str, Path]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {clip_id: set() for clip_id in clips}
    names = ", ".join(f"'{clip_id}'" for clip_id in sorted(clips))
    if clips:
        rows = lake.sql(f"SELECT clip_id, frame_id FROM ticks WHERE clip_id IN ({names})")
        for clip_id, frame in zip(*(rows[c].to_pylist() for c in rows.column_names), strict=True):
            found[clip_id].add(frame)
    unknown = sorted(clip_id for clip_id, frames in found.items() if not frames)
    if unknown:
        raise UnknownClipError(f"clip {unknown[0][:12]} is not in the lake; ingest it first")
    return found


def _new(frames: np.ndarray, ticks: set[int], known: set[int], clip_id: str) -> list[int]:
    given = frames.tolist()
    strange = sorted(set(given) - ticks)
    if strange:
        raise UnknownClipError(f"clip {clip_id[:12]} has no frame {strange[0]}")
    return [frame for frame in given if frame not in known]


def _labels(
    home: Home,
    writer: Writer,
    judged: Judged,
    clips: dict[str, Path],
    ticks: dict[str, set[int]],
) -> tuple[int, int]:
    source = TEACHER + judged.model
    labelled: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for clip_id, path in clips.items():
        truth = Truth(path)
        (frames,) = read_arrays(path, ("frame_id",)).values()
        known = writer.frames("labelled", clip_id, f"source = '{source}'")
        new = _new(frames, ticks[clip_id], known, clip_id)
        if new:
            told = {frame: truth.frame(frame) for frame in new}
            deliver(home, clip_id, told, labelled, boxes, source)
    writer.append("labelled", LABELLED.rows(labelled))
    writer.append("labels", LABELS.rows(boxes))
    return len(labelled), sum(row["boxes"] for row in labelled)


def _embeddings(
    writer: Writer, judged: Judged, clips: dict[str, Path], ticks: dict[str, set[int]]
) -> int:
    rows = 0
    for clip_id, path in clips.items():
        known = writer.frames("embeddings", clip_id, f"model = '{judged.model}'")
        new = list(_vectors(path, judged.model, clip_id, ticks[clip_id], known))
        rows += writer.append("embeddings", EMBEDDINGS.rows(new))
    return rows


def _vectors(
    path: Path, model: str, clip_id: str, ticks: set[int], known: set[int]
) -> Iterator[dict[str, Any]]:
    arrays = read_arrays(path, ("frame_id", "embedding"))
    frames, vectors = arrays["frame_id"], arrays["embedding"]
    if vectors.ndim != _EMBEDDING_AXES or len(vectors) != len(frames):
        raise BadTruthError(f"{path}: embedding is {vectors.shape}, expected [{len(frames)}, E]")
    new = set(_new(frames, ticks, known, clip_id))
    for frame, vector in zip(frames.tolist(), vectors, strict=True):
        if frame in new:
            cells = vector.astype(np.float32)
            yield {"clip_id": clip_id, "frame_id": frame, "model": model, "embedding": cells}
