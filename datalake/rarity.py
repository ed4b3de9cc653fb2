"""How rare a frame is in its fleet, in bits: how surprised one should be to meet it.

Three surprises, each minus the binary logarithm of a share of the fleet's frames, added up as if
they knew nothing of each other:

- unlike: frames whose k-th nearest neighbour among other drives is at least as far as this one's
  (by the network's embedding; neighbours of the same drive look alike and say nothing);
- condition: frames in this light and weather;
- kind: frames that show the rarest kind of road user in this one.

A frame of 10 bits is one in a thousand. Shares are counted over frames, so a long common drive
makes everything else rarer; what nobody knows counts as a condition of its own.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from datalake.lake import Lake
from datalake.vectors import Frames, Vectors, frames_of, load

Progress = Callable[[int, int], None]

NEIGHBOUR: Final = 5
"""k: a scene that happened five times in other drives is not rare."""

REFERENCES: Final = 20_000
"""Frames that distances are measured to; of a larger fleet every n-th."""

BLOCK_ROWS: Final = 512

RARE: Final = pa.schema(
    [
        *(("clip_id", pa.string()), ("frame_id", pa.int64()), ("rarity_bits", pa.float64())),
        *(("unlike_bits", pa.float64()), ("distance", pa.float64())),
        *(("condition_bits", pa.float64()), ("condition", pa.string())),
        *(("kind_bits", pa.float64()), ("kind", pa.string())),
    ]
)
"""What `rarity` yields; `distance` is 1 - cosine."""


def rarity(
    lake: Lake, model: str, *, where: str | None = None, progress: Progress | None = None
) -> pa.Table:
    """Return how rare frames are, rarest first.

    Args:
        model: whose embeddings tell how unlike frames are.
        where: SQL condition on the frames to be told; they are compared with the whole fleet.
        progress: called with frames compared and in all.
    Returns:
        RARE.
    Raises:
        NoEmbeddingsError, QueryError: by name.
    """
    fleet = load(lake, model, ordered=True)
    distance = distances(fleet.unit_NE, drives(lake, fleet), progress=progress)
    unlike = _surprise_of_rank(distance)
    condition, condition_bits = _conditions(lake, fleet)
    kinds, kind_bits = _kinds(lake, fleet)
    total = unlike + condition_bits + kind_bits
    rows = np.arange(len(fleet)) if where is None else _rows(lake, fleet, where)
    rows = rows[np.lexsort((rows, -total[rows]))]
    clip, frame = zip(*(fleet.key(row) for row in rows), strict=True)
    columns = {
        "clip_id": clip,
        "frame_id": frame,
        "rarity_bits": total[rows],
        "unlike_bits": unlike[rows],
        "distance": [None if math.isnan(d) else d for d in distance[rows]],
        "condition_bits": condition_bits[rows],
        "condition": [condition[row] for row in rows],
        "kind_bits": kind_bits[rows],
        "kind": [kinds[row] for row in rows],
    }
    return pa.table(columns, schema=RARE)


def distances(
    unit_NE: np.ndarray,
    drive_N: np.ndarray,
    k: int = NEIGHBOUR,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return 1 - cosine to the k-th nearest frame of another drive, float64 [N].

    Args:
        unit_NE: float32, rows of length 1, in an order that does not change.
        drive_N: int, which drive a row belongs to.
        k: fewer where other drives have fewer; NaN where there is no other drive.
    """
    step = max(1, math.ceil(len(unit_NE) / REFERENCES))
    reference, drive_R = unit_NE[::step], drive_N[::step]
    out = np.full(len(unit_NE), np.nan)
    for start in range(0, len(unit_NE), BLOCK_ROWS):
        if progress is not None:
            progress(start, len(unit_NE))
        block = slice(start, start + BLOCK_ROWS)
        cosine = unit_NE[block] @ reference.T
        cosine[drive_N[block, None] == drive_R] = -np.inf
        there = np.minimum(np.isfinite(cosine).sum(axis=1), k)
        best = -np.partition(-cosine, min(k, cosine.shape[1]) - 1, axis=1)[:, :k]
        best = -np.sort(-best, axis=1)
        found = best[np.arange(len(best)), np.maximum(there, 1) - 1]
        out[block] = np.where(there > 0, 1.0 - found, np.nan)
    return np.round(out, 6)  # below what float32 tells apart, ties are ties


def _surprise_of_rank(distance_N: np.ndarray) -> np.ndarray:
    """Return bits: how few frames are at least as far; 0 where nobody knows."""
    known = np.sort(distance_N[~np.isnan(distance_N)])
    if not len(known):
        return np.zeros(len(distance_N))
    at_least = len(known) - np.searchsorted(known, distance_N, side="left")
    bits: np.ndarray = np.log2(len(known) / np.maximum(at_least, 1))
    return np.where(np.isnan(distance_N), 0.0, bits)


def drives(lake: Lake, fleet: Frames) -> np.ndarray:
    """Return which drive each row belongs to, int [N]; frames of several clips may share one."""
    rows = lake.sql("SELECT clip_id, car_id, route_id FROM clips")
    columns = (rows[name].to_pylist() for name in ("clip_id", "car_id", "route_id"))
    drive = {clip: (car, route) for clip, car, route in zip(*columns, strict=True)}
    number = {d: n for n, d in enumerate(sorted({drive[c] for c in fleet.clips}, key=str))}
    of_clip = np.array([number[drive[c]] for c in fleet.clips])
    return np.take(of_clip, fleet.clip_N)


def _conditions(lake: Lake, fleet: Frames) -> tuple[list[str], np.ndarray]:
    rows = lake.sql("SELECT clip_id, light, weather FROM clips")
    columns = (rows[name].to_pylist() for name in ("clip_id", "light", "weather"))
    told = {c: " ".join(w or "unknown" for w in words) for c, *words in zip(*columns, strict=True)}
    of_clip = np.array([told[c] for c in fleet.clips])
    names, code_N = np.unique(of_clip[fleet.clip_N], return_inverse=True)
    bits = -np.log2(np.bincount(code_N) / len(code_N))
    return [str(n) for n in names[code_N]], bits[code_N]


def _kinds(lake: Lake, fleet: Frames) -> tuple[list[str | None], np.ndarray]:
    rows = lake.sql(
        "SELECT clip_id, frame_id, list(DISTINCT kind ORDER BY kind) AS kinds FROM tracks GROUP BY "
        "ALL"
    )
    columns = (rows[name].to_pylist() for name in ("clip_id", "frame_id", "kinds"))
    shown = {(clip, frame): kinds for clip, frame, kinds in zip(*columns, strict=True)}
    frames = [shown.get(fleet.key(row), []) for row in range(len(fleet))]
    counts: dict[str, int] = {}
    for kinds in frames:
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + 1
    rarest = [min(kinds, key=lambda k: (counts[k], k), default=None) for kinds in frames]
    bits = [0.0 if k is None else -math.log2(counts[k] / len(frames)) for k in rarest]
    return rarest, np.array(bits)


def _rows(lake: Lake, fleet: Vectors, where: str) -> np.ndarray:
    wanted = frames_of(lake, fleet.model, where=where)
    keys = {wanted.key(row) for row in range(len(wanted))}
    return np.array([row for row in range(len(fleet)) if fleet.key(row) in keys])
