"""Embeddings out of the lake as one matrix of unit vectors, without a Python list on the way.

Vectors of different networks live in different spaces: nothing here ever puts two models' vectors
side by side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from datalake.duck import quoted
from datalake.lake import Lake
from datalake.tables import SQL_TYPES
from vehicle.contracts.wire import RefusedError

FRAMES_SQL: Final = "SELECT t.*, c.* FROM ticks t JOIN clips c USING (clip_id)"
"""What a condition is asked of: columns of `ticks`, and those of `clips` that `ticks` has not."""

BLOCK_ROWS: Final = 1 << 18
"""Rows compared at a time: few enough that their cosines stay in the cache, and blocks few enough
that the threads of a matrix product seldom wait for each other."""

_NORM_ROWS: Final = 1 << 14

_SLACK: Final = 1e-5
"""More than float32 loses in a sum of a few hundred products of unit vectors."""


class NoEmbeddingsError(RefusedError):
    """The lake holds no embedding of this model under this condition."""


class MixedModelsError(RefusedError):
    """Embeddings of several networks were to be compared: their distances mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Frames that one model's embeddings belong to; a row is a place in these arrays.

    Args:
        model: bundle that made them, name@version.
        clips: the clip_ids there are.
        clip_N: int32, index into `clips`. frame_N: int64, frame_id.
    """

    model: str
    clips: tuple[str, ...]
    clip_N: np.ndarray
    frame_N: np.ndarray

    def __len__(self) -> int:
        return len(self.frame_N)

    def key(self, row: int) -> tuple[str, int]:
        """Return clip_id and frame_id of a row."""
        return self.clips[self.clip_N[row]], int(self.frame_N[row])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors(Frames):
    """Embeddings of one model, to be compared one by one.

    Args:
        unit_NE: float32, each of length 1 (0 where the network gave zeros).
    """

    unit_NE: np.ndarray

    @property
    def width(self) -> int:
        """Return the length of an embedding."""
        return int(self.unit_NE.shape[1])

    def nearest(self, query_E: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and cosines of the nearest, exactly; see `nearest`."""
        return nearest(self.unit_NE, query_E, k)


def load(lake: Lake, model: str, *, where: str | None = None, ordered: bool = False) -> Vectors:
    """Read the embeddings of one model.

    Args:
        model: name@version.
        where: SQL condition over FRAMES_SQL; it holds before anything is compared.
        ordered: by clip_id and frame_id; otherwise as the lake hands them out, sooner.
    Raises:
        NoEmbeddingsError: there are none. MixedModelsError: they differ in length.
        QueryError: the condition does not parse.
    """
    order = " ORDER BY clip_id, frame_id" if ordered else ""
    rows = _rows(lake, "clip_id, frame_id, embedding", model, where, order)
    clips, clip_N = _coded(rows["clip_id"])
    return Vectors(
        model=model,
        clips=clips,
        clip_N=clip_N,
        frame_N=rows["frame_id"].to_numpy(),
        unit_NE=unit(matrix(rows["embedding"])),
    )


def raw_of(
    lake: Lake, model: str, chosen: Mapping[str, Iterable[int]]
) -> tuple[Frames, np.ndarray]:
    """Return the embeddings that a model has of these frames, as the network gave them.

    Args:
        chosen: clip_id -> frame_ids.
    Returns:
        the frames in the order of their keys, and float32 [N, E]; frames whose embedding is not
        finite are left out.
    Raises:
        NoEmbeddingsError: it has seen none of them.
    """
    where = f"list_contains({text_list(sorted(chosen))}, clip_id)"
    columns = "clip_id, frame_id, embedding"
    rows = _rows(lake, columns, model, where, " ORDER BY clip_id, frame_id")
    clips, clip_N = _coded(rows["clip_id"])
    frame_N, raw_NE = rows["frame_id"].to_numpy(), matrix(rows["embedding"])
    keep = np.isfinite(raw_NE).all(axis=1)
    for code, clip in enumerate(clips):
        of_clip = np.flatnonzero(clip_N == code)
        keep[of_clip] &= np.isin(frame_N[of_clip], np.fromiter(chosen[clip], np.int64))
    if not keep.any():
        raise NoEmbeddingsError(f"{model} has seen none of these frames")
    frames = Frames(model=model, clips=clips, clip_N=clip_N[keep], frame_N=frame_N[keep])
    return frames, raw_NE[keep]


def frames_of(lake: Lake, model: str, *, where: str | None = None) -> Frames:
    """Return the frames of one model in the order of their keys, without their vectors.

    Raises:
        NoEmbeddingsError, QueryError: as `load`.
    """
    rows = _rows(lake, "clip_id, frame_id", model, where, " ORDER BY clip_id, frame_id")
    clips, clip_N = _coded(rows["clip_id"])
    return Frames(model=model, clips=clips, clip_N=clip_N, frame_N=rows["frame_id"].to_numpy())


def nearest(unit_NE: np.ndarray, query_E: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows nearest to a vector by cosine, exactly.

    Args:
        unit_NE: float32 [N, E], rows of length 1.
        query_E: float32 [E], of length 1.
        k: how many; fewer come back only where there are fewer rows.
    Returns:
        rows (int64) and cosines (float64), best first; equal cosines by row. Rows as near as the
        k-th one come back too, so that the caller may break ties.
    Source: own work. Products in float32 by block; whatever may be among the k best is computed
        again in float64, so the answer does not depend on blocks or threads.
    """
    if k < 1 or not len(unit_NE):
        return np.zeros(0, np.int64), np.zeros(0)
    floor, kept_rows, kept = -np.inf, np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, len(unit_NE), BLOCK_ROWS):
        cosine = unit_NE[start : start + BLOCK_ROWS] @ query_E
        rows = np.flatnonzero(cosine >= floor - _SLACK)
        kept_rows = np.concatenate([kept_rows, rows + start])
        kept = np.concatenate([kept, cosine[rows]])
        if len(kept) >= k:
            floor = float(np.partition(kept, len(kept) - k)[-k])
            near = kept >= floor - _SLACK
            kept_rows, kept = kept_rows[near], kept[near]
    exact = (unit_NE[kept_rows].astype(np.float64) * query_E).sum(axis=1)  # row by row the same
    order = np.lexsort((kept_rows, -exact))
    last = exact[order[min(k, len(order)) - 1]]
    order = order[exact[order] >= last]
    return kept_rows[order], exact[order]


def models(lake: Lake) -> list[str]:
    """Return the models whose embeddings the lake holds, most embeddings first."""
    rows = lake.sql(
        "SELECT model, count(*) AS n FROM embeddings GROUP BY ALL ORDER BY n DESC, model"
    )
    return [str(m) for m in rows["model"].to_pylist()]


def chosen_sql(model: str, where: str | None) -> str:
    """Return the SQL of one model's embeddings whose frames meet a condition."""
    sql = f"SELECT clip_id, frame_id, embedding FROM embeddings WHERE model = {quoted(model)}"
    if where is not None:
        sql += " AND (clip_id, frame_id) IN "
        sql += f"(SELECT (clip_id, frame_id) FROM ({FRAMES_SQL}) WHERE {where}\n)"
    return sql


def unit(vectors_NE: np.ndarray) -> np.ndarray:
    """Return float32 vectors of length 1; one without length, or not finite, becomes zeros."""
    out = np.array(vectors_NE, dtype=np.float32, order="C", ndmin=2)
    for start in range(0, len(out), _NORM_ROWS):
        block = out[start : start + _NORM_ROWS]
        length = np.sqrt(np.einsum("ne,ne->n", block, block, dtype=np.float64))
        usable = np.isfinite(length) & (length > 0.0)
        block[~usable] = 0.0
        block /= np.where(usable, length, 1.0).astype(np.float32)[:, None]
    return out


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a FLOAT[] column without NULLs as float32 [N, E].

    Raises:
        MixedModelsError: vectors of different lengths.
    """
    lengths = {
        int(n) for chunk in column.chunks for n in np.unique(np.diff(chunk.offsets.to_numpy()))
    }
    if len(lengths) > 1:
        raise MixedModelsError(
            f"embeddings of lengths {sorted(lengths)} under one model's name; give every network "
            "its own name@version and ingest again"
        )
    out = np.empty((len(column), max(lengths, default=0)), np.float32)
    start = 0
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=True)
        out[start : start + len(chunk)] = values.reshape(len(chunk), out.shape[1])
        start += len(chunk)
    return out


def values_sql(table: pa.Table) -> str:
    """Return a query that yields the rows of a table in their order: an answer to ask on with."""
    kinds = [SQL_TYPES[field.type] for field in table.schema]
    names = ", ".join(table.column_names)
    if not table.num_rows:
        pairs = zip(kinds, table.column_names, strict=True)
        return f"SELECT {', '.join(f'NULL::{k} AS {n}' for k, n in pairs)} WHERE false"
    columns = [
        [_literal(v, kind) for v in column.to_pylist()]
        for column, kind in zip(table.columns, kinds, strict=True)
    ]
    rows = ", ".join(f"({', '.join(row)})" for row in zip(*columns, strict=True))
    return f"SELECT {names} FROM (VALUES {rows}) AS found({names})"


def text_list(values: Iterable[str]) -> str:
    """Return an SQL list of texts."""
    return f"[{', '.join(quoted(v) for v in values)}]::VARCHAR[]"


def _literal(value: Any, kind: str) -> str:
    text = "NULL" if value is None else quoted(value) if kind == "VARCHAR" else repr(value)
    return f"{text}::{kind}"


def _rows(lake: Lake, columns: str, model: str, where: str | None, order: str) -> pa.Table:
    rows = lake.sql(f"SELECT {columns} FROM ({chosen_sql(model, where)}){order}")
    if not rows.num_rows:
        raise NoEmbeddingsError(
            f"the lake holds no embedding of {model}"
            + (f" where {where}" if where else "")
            + f"; it holds those of: {', '.join(models(lake)) or 'no network at all'}"
        )
    return rows


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray]:
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return tuple(coded.dictionary.to_pylist()), coded.indices.to_numpy()
