"""Nearest frames by embedding: what else in the lake looks like this to the network.

Exact: every frame under the condition is compared, by cosine, in one pass over memory. What an
embedding is near to is what the network found worth telling apart, no more.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from datalake.duck import quoted
from datalake.lake import Lake
from datalake.vectors import (
    MixedModelsError,
    NoEmbeddingsError,
    load,
    matrix,
    models,
    unit,
)
from vehicle.contracts.wire import RefusedError

FOUND: Final = pa.schema(
    [("clip_id", pa.string()), ("frame_id", pa.int64()), ("similarity", pa.float64())]
)
"""What a search answers with."""


class Searchable(Protocol):
    """Frames of one model, and how their nearest are found."""

    @property
    def model(self) -> str:
        """Return whose embeddings they are, name@version."""
        ...

    @property
    def width(self) -> int:
        """Return the length of an embedding."""
        ...

    def __len__(self) -> int: ...

    def key(self, row: int) -> tuple[str, int]:
        """Return clip_id and frame_id of a row."""
        ...

    def nearest(self, query_E: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and cosines of the k nearest, best first, and of those as near."""
        ...


class UnknownClipError(RefusedError):
    """No clip of the lake begins like this, or it has no such frame."""


class AmbiguousClipError(RefusedError):
    """Several clips of the lake begin like this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """What is searched for.

    Args:
        model: whose space the vector lies in.
        unit_E: float32 [E], of length 1.
        clip_id: the clip it comes from; "" for a picture from elsewhere.
        about: in words.
    """

    model: str
    unit_E: np.ndarray
    clip_id: str = ""
    about: str = ""


def of_clip(lake: Lake, text: str, *, model: str | None = None, mean: bool = False) -> Query:
    """Return what to search for, given a clip or one of its frames.

    Args:
        text: CLIP or CLIP:FRAME; a clip by its id or the first letters of it. A clip stands for the
            frame of its first event, or for the mean of its frames where it has none.
        model: of which network, where the clip was seen by several.
        mean: the mean of the clip's frames in any case.
    Raises:
        UnknownClipError, AmbiguousClipError, NoEmbeddingsError, MixedModelsError: by name.
    """
    clip, colon, frame = text.partition(":")
    clip_id = resolve(lake, clip)
    if colon and not re.fullmatch(r"[0-9]{1,15}", frame):
        raise UnknownClipError(f"found {text!r}, expected CLIP:FRAME with a frame number")
    wanted = int(frame) if colon else None if mean else _first_event(lake, clip_id)
    rows = lake.sql(
        f"SELECT model, frame_id, embedding FROM embeddings WHERE clip_id = "
        f"{quoted(clip_id)} ORDER BY model, frame_id"
    )
    found = sorted(set(rows["model"].to_pylist()))
    if not found:
        raise NoEmbeddingsError(
            f"clip {clip_id[:12]} has no embedding: no network looked at it; ask with a picture"
        )
    if model is None and len(found) > 1:
        raise MixedModelsError(
            f"clip {clip_id[:12]} was seen by {', '.join(found)}; choose one with --model"
        )
    model = model or found[0]
    rows = rows.filter(pa.array([m == model for m in rows["model"].to_pylist()], pa.bool_()))
    if not rows.num_rows:
        raise NoEmbeddingsError(f"clip {clip_id[:12]} was seen by {', '.join(found)}, not {model}")
    vectors, frames = unit(matrix(rows["embedding"])), rows["frame_id"].to_pylist()
    if wanted is not None and wanted not in frames and colon:
        raise UnknownClipError(
            f"clip {clip_id[:12]} has no embedding of frame {wanted}; it has frames "
            f"{frames[0]}..{frames[-1]}"
        )
    if wanted in frames:
        vector, about = vectors[frames.index(wanted)], f"clip {clip_id[:12]}, frame {wanted}"
    else:
        vector, about = unit(vectors.mean(axis=0))[0], f"clip {clip_id[:12]}, mean of its frames"
    return Query(model=model, unit_E=vector, clip_id=clip_id, about=about)


def the_model(lake: Lake, model: str | None) -> str:
    """Return whose embeddings are meant: the only network's there is, unless one is named.

    Raises:
        NoEmbeddingsError, MixedModelsError: there is none, or there are several.
    """
    found = models(lake)
    if model is None and len(found) > 1:
        raise MixedModelsError(
            f"the lake holds embeddings of {', '.join(found)}; choose one with --model"
        )
    if not found or (model is not None and model not in found):
        raise NoEmbeddingsError(
            f"the lake holds no embedding{f' of {model}' if model else ''}; it holds those of: "
            f"{', '.join(found) or 'no network at all'}"
        )
    return model or found[0]


def similar(
    lake: Lake,
    query: Query,
    *,
    k: int = 10,
    where: str | None = None,
    per_clip: int = 1,
    own: bool = False,
    among: Searchable | None = None,
) -> pa.Table:
    """Return the frames of the lake that are nearest to a query, nearest first.

    Args:
        query: from `of_clip` or a picture.
        k: frames wanted; as many come back, where the condition leaves as many.
        where: SQL condition over columns of `ticks` and `clips`, before the search.
        per_clip: frames of one clip at most: neighbours in time look alike; 0: any number.
        own: let the query's own clip answer too.
        among: what to search instead, `where` already applied; None: exactly, over the lake.
    Returns:
        clip_id, frame_id, similarity (cosine, -1..1).
    Raises:
        NoEmbeddingsError, MixedModelsError, QueryError: by name.
    """
    frames: Searchable = load(lake, query.model, where=where) if among is None else among
    if frames.model != query.model:
        raise MixedModelsError(
            f"the query is of {query.model}, the frames of {frames.model}: embeddings of two "
            "networks cannot be compared"
        )
    if frames.width != len(query.unit_E):
        raise MixedModelsError(
            f"{query.model} gave {len(query.unit_E)} numbers here and {frames.width} in the lake: "
            "it is not the same network"
        )
    without = "" if own else query.clip_id
    wide = 32 * k if per_clip or without else k
    while True:
        wide = min(wide, len(frames))
        found = _thinned(frames, *frames.nearest(query.unit_E, wide), k, per_clip, without)
        if len(found) >= k or wide == len(frames):
            break
        wide *= 8
    columns = zip(*found, strict=True) if found else ((), (), ())
    return pa.table(dict(zip(FOUND.names, columns, strict=True)), schema=FOUND)


def resolve(lake: Lake, clip: str) -> str:
    """Return the id of the clip that begins with `clip`.

    Raises:
        UnknownClipError, AmbiguousClipError: by name.
    """
    if not re.fullmatch(r"[0-9a-f]{4,64}", clip):
        raise UnknownClipError(f"found {clip!r}, expected a clip_id or its first letters (4 to 64)")
    ids = lake.sql(
        f"SELECT clip_id FROM clips WHERE starts_with(clip_id, {quoted(clip)}) ORDER BY 1 LIMIT 3"
    )["clip_id"].to_pylist()
    if not ids:
        raise UnknownClipError(f"no clip of the lake begins with {clip}; roadloop datalake sql")
    if len(ids) > 1:
        raise AmbiguousClipError(
            f"{', '.join(i[: len(clip) + 6] for i in ids)} all begin with {clip}; give more of it"
        )
    return str(ids[0])


def _thinned(
    frames: Searchable, rows: np.ndarray, cosine: np.ndarray, k: int, per_clip: int, without: str
) -> list[tuple[str, int, float]]:
    """Return the k best, ties by clip and frame, at most `per_clip` of a clip."""
    keys = [(-c, *frames.key(r)) for r, c in zip(rows, cosine, strict=True)]
    found: list[tuple[str, int, float]] = []
    taken: dict[str, int] = {}
    for negative, clip_id, frame_id in sorted(keys):
        full = per_clip and taken.get(clip_id, 0) >= per_clip
        if clip_id == without or full:
            continue
        taken[clip_id] = taken.get(clip_id, 0) + 1
        found.append((clip_id, frame_id, float(-negative)))
        if len(found) == k:
            break
    return found


def _first_event(lake: Lake, clip_id: str) -> int | None:
    rows = lake.sql(
        f"SELECT frame_id FROM events WHERE clip_id = {quoted(clip_id)} ORDER BY 1 LIMIT 1"
    )
    return rows["frame_id"][0].as_py() if rows.num_rows else None
