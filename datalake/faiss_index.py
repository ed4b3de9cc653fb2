"""An index of FAISS over the embeddings of one model, kept beside the lake: the extra [faiss].

Exact search needs none and answers over a million frames in a tenth of a second; an index pays from
tens of millions on, or for many questions. Up to FLAT_ROWS it is exact as well; beyond, it looks
into the nearest cells of a partition, or into all of them when a condition has filtered the rows.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake.lake import Lake
from datalake.vectors import Frames, frames_of, load
from vehicle.contracts.wire import RefusedError

FLAT_ROWS: Final = 50_000
PROBES: Final = 32
"""Cells looked into, of 4 sqrt(N)."""


class FaissMissingError(RefusedError):
    """FAISS was asked for and is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Indexed(Frames):
    """Frames found through an index.

    Args:
        index: a faiss.Index; its numbers are places in the model's frames, in order.
        place_N: int64, the number of each row in the index.
        filtered: only these rows may answer, others are in the index as well.
    """

    index: Any
    place_N: np.ndarray
    filtered: bool

    @property
    def width(self) -> int:
        """Return the length of an embedding."""
        return int(self.index.d)

    def nearest(self, query_E: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and cosines of the k nearest, best first."""
        how: dict[str, Any] = {}
        if self.filtered:
            faiss = _faiss()
            selector = faiss.IDSelectorBatch(self.place_N)
            cells = getattr(self.index, "nlist", 0)
            how["params"] = (
                faiss.SearchParametersIVF(sel=selector, nprobe=cells)
                if cells
                else faiss.SearchParameters(sel=selector)
            )
        cosine, places = self.index.search(query_E[None, :], k, **how)
        found = places[0] >= 0
        rows = np.searchsorted(self.place_N, places[0][found])
        return rows, cosine[0][found].astype(np.float64)


def indexed(lake: Lake, model: str, *, where: str | None = None) -> Indexed:
    """Return a model's frames behind an index: the one kept in lake/index, or a new one.

    It is named by the frames in it; for other frames it is made anew and the older one removed.

    Args:
        model: name@version.
        where: SQL condition, as in `vectors.load`.
    Raises:
        FaissMissingError: not installed. NoEmbeddingsError: nothing to index, or to answer.
    """
    faiss = _faiss()
    everything = frames_of(lake, model)
    folder = lake.home.lake / "index" / hashlib.sha256(model.encode()).hexdigest()[:16]
    path = folder / f"{_digest(everything)}.faiss"
    if path.is_file():
        index = faiss.read_index(str(path))
    else:
        index = build(load(lake, model, ordered=True).unit_NE)
        for old in folder.glob("*.faiss"):
            old.unlink()
        _write(index, path)
    chosen = everything if where is None else frames_of(lake, model, where=where)
    places = np.arange(len(everything)) if where is None else _places(everything, chosen)
    return Indexed(
        model=model,
        clips=chosen.clips,
        clip_N=chosen.clip_N,
        frame_N=chosen.frame_N,
        index=index,
        place_N=places,
        filtered=where is not None,
    )


def build(unit_NE: np.ndarray) -> Any:
    """Return an index over unit vectors, float32 [N, E]."""
    faiss = _faiss()
    rows, width = unit_NE.shape
    flat = faiss.IndexFlatIP(width)
    if rows <= FLAT_ROWS:
        flat.add(unit_NE)
        return flat
    cells = int(4 * rows**0.5)
    index = faiss.IndexIVFFlat(flat, width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(unit_NE)
    index.add(unit_NE)
    index.nprobe = PROBES
    return index


def _places(everything: Frames, chosen: Frames) -> np.ndarray:
    """Return where each chosen frame stands among all; both are in the order of their keys."""
    code = {clip: n for n, clip in enumerate(everything.clips)}
    whole = everything.clip_N.astype(np.int64) << 40 | everything.frame_N
    codes = np.array([code[clip] for clip in chosen.clips], np.int64)
    wanted = codes[chosen.clip_N] << 40 | chosen.frame_N
    places: np.ndarray = np.searchsorted(whole, wanted)
    return places


def _digest(frames: Frames) -> str:
    digest = hashlib.sha256("\n".join(frames.clips).encode())
    digest.update(frames.clip_N.astype("<i4").tobytes())
    digest.update(frames.frame_N.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def _write(index: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _faiss().write_index(index, str(part))
    part.replace(path)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise FaissMissingError(
            "FAISS is not installed: pip install 'roadloop[faiss]', or search exactly (--index "
            "exact), which answers over a million frames in a tenth of a second"
        ) from None
    return faiss
