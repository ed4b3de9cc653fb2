"""Near-duplicates: frames that show again what another frame shows already.

First by time: a tick that two clips both hold is one frame. Then by embedding, greedily in the
order of recording: a frame stays unless one that stayed before it is at least as near as the
threshold. What stays depends on nothing but the lake and the threshold.

How near is near depends on the network: docs/how-to/find-similar.md has the shipped one's table.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from datalake.lake import Lake
from datalake.vectors import NoEmbeddingsError, Vectors, load, models, text_list
from vehicle.contracts.wire import RefusedError

BLOCK_ROWS: Final = 1_024
KEPT_ROWS: Final = 16_384
_SLACK: Final = 1e-5

CLIP_SHARE: Final = 0.9
"""A clip of which so much is in earlier clips adds nothing."""

Progress = Callable[[int, int], None]

Chosen = Mapping[str, Sequence[int]]
"""clip_id -> frame_ids in order."""

Order = tuple[int, str, int]
"""When a clip was closed, the clip, the frame: the order in which frames are gone through."""

Tick = tuple[str, str, int, int]
"""Car, route, time and number of a tick: two clips may hold the same."""


class ThresholdError(RefusedError, ValueError):
    """A threshold is no cosine that could tell duplicates apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """What stayed.

    Args:
        kept: clip_id -> frame_ids, both in order.
        same_tick: left out because another clip holds the very tick.
        alike: left out because a frame that stayed looks like it.
        unjudged: kept because no network has looked at them.
    """

    kept: dict[str, list[int]]
    same_tick: int
    alike: int
    unjudged: int


def thin(lake: Lake, chosen: Chosen, threshold: float, progress: Progress | None = None) -> Thinned:
    """Leave out near-duplicates among frames.

    A frame that several networks saw is judged by the one that saw most frames of the lake;
    embeddings of different networks are never compared.

    Args:
        chosen: frames of the lake.
        threshold: least cosine of duplicates, over 0, up to 1.
        progress: called with frames judged and in all, for each network.
    Raises:
        ThresholdError: outside of that.
    """
    _check(threshold)
    moments = _moments(lake, chosen)
    wanted = {(clip, frame) for clip, frames in chosen.items() for frame in frames}
    first: dict[Tick, tuple[str, int]] = {}
    for key in sorted(wanted, key=lambda k: moments[k][0]):
        first.setdefault(moments[key][1], key)
    unique = set(first.values())
    gone: set[tuple[str, int]] = set()
    judged: set[tuple[str, int]] = set()
    for vectors in _seen(lake, chosen):
        fresh = unique - judged
        rows = [r for r in range(len(vectors)) if vectors.key(r) in fresh]
        rows.sort(key=lambda r: moments[vectors.key(r)][0])
        stays = greedy(vectors.unit_NE[rows], threshold, progress)
        judged |= {vectors.key(r) for r in rows}
        gone |= {vectors.key(r) for r, s in zip(rows, stays, strict=True) if not s}
    kept: dict[str, list[int]] = {}
    for clip, frame in sorted(unique - gone):
        kept.setdefault(clip, []).append(frame)
    return Thinned(
        kept=kept,
        same_tick=len(wanted) - len(unique),
        alike=len(gone),
        unjudged=len(unique - judged),
    )


def greedy(unit_NE: np.ndarray, threshold: float, progress: Progress | None = None) -> np.ndarray:
    """Return which rows stay, bool [N]: those that no row that stayed before is near to.

    Source: own work. Products in float32; a pair within 1e-5 of the threshold is computed again
    in float64, so that the answer does not depend on blocks or threads.
    """
    stays = np.zeros(len(unit_NE), bool)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(unit_NE), BLOCK_ROWS):
        if progress is not None:
            progress(start, len(unit_NE))
        block = np.arange(start, min(start + BLOCK_ROWS, len(unit_NE)))
        fresh = block[~near_any(unit_NE, block, kept, threshold)]
        near = _near(unit_NE, fresh, fresh, threshold)
        alive = np.zeros(len(fresh), bool)
        for i in range(len(fresh)):
            alive[i] = not near[i, :i][alive[:i]].any()
        stays[fresh[alive]] = True
        kept = np.concatenate([kept, fresh[alive]])
    return stays


def clip_duplicates(lake: Lake, clips: Sequence[str], threshold: float) -> pa.Table:
    """Return the clips that earlier clips make superfluous.

    A frame is covered when an earlier clip that stays holds its very tick, or a frame that near to
    it; a clip is a duplicate when CLIP_SHARE of its frames are covered.

    Returns:
        clip_id, duplicate_of (the clip that covers most of it), covered_ratio; by clip_id.
    Raises:
        ThresholdError: as `thin`.
    """
    _check(threshold)
    moments = _moments(lake, clips)
    frames: dict[str, list[int]] = {}
    for clip, frame in moments:
        frames.setdefault(clip, []).append(frame)
    networks = [_Network(v) for v in _seen(lake, frames)]
    owners: dict[Tick, str] = {}
    found: list[dict[str, Any]] = []
    for clip in sorted(frames, key=lambda c: moments[c, frames[c][0]][0]):
        ticks = {frame: moments[clip, frame][1] for frame in frames[clip]}
        covered = {f: owners[tick] for f, tick in ticks.items() if tick in owners}
        for network in networks:
            covered |= network.covered(clip, covered, threshold)
        share = len(covered) / len(ticks)
        if share >= CLIP_SHARE:
            by = Counter(covered.values())
            best = min(by, key=lambda c: (-by[c], c))
            found.append({"clip_id": clip, "duplicate_of": best, "covered_ratio": share})
            continue
        for network in networks:
            network.stay(clip)
        for tick in ticks.values():
            owners.setdefault(tick, clip)
    names = [("clip_id", pa.string()), ("duplicate_of", pa.string())]
    schema = pa.schema([*names, ("covered_ratio", pa.float64())])
    return pa.Table.from_pylist(found, schema=schema).sort_by("clip_id")


class _Network:
    """What one network saw of the clips, and which of its rows belong to clips that stay."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._rows: dict[str, list[int]] = {}
        for row in range(len(vectors)):
            self._rows.setdefault(vectors.key(row)[0], []).append(row)
        self._stayed = np.zeros(0, np.int64)

    def covered(self, clip: str, already: Mapping[int, str], threshold: float) -> dict[int, str]:
        """Return frame -> clip that stays, for the frames of `clip` that it covers."""
        vectors, found = self._vectors, dict[int, str]()
        mine = [r for r in self._rows.get(clip, ()) if int(vectors.frame_N[r]) not in already]
        rows = np.array(mine, np.int64)
        for first in range(0, len(self._stayed), KEPT_ROWS):
            theirs = self._stayed[first : first + KEPT_ROWS]
            near = _near(vectors.unit_NE, rows, theirs, threshold)
            for i in np.flatnonzero(near.any(axis=1)):
                other = vectors.key(int(theirs[near[i].argmax()]))[0]
                found.setdefault(int(vectors.frame_N[rows[i]]), other)
        return found

    def stay(self, clip: str) -> None:
        """Let a clip cover later ones."""
        rows = np.array(self._rows.get(clip, ()), np.int64)
        self._stayed = np.concatenate([self._stayed, rows])


def frames_table(kept: Chosen) -> pa.Table:
    """Return these frames as clip_id and frame_id."""
    keys = [(clip, frame) for clip, frames in kept.items() for frame in frames]
    return pa.table(
        {
            "clip_id": pa.array([k[0] for k in keys], pa.string()),
            "frame_id": pa.array([k[1] for k in keys], pa.int64()),
        }
    )


def near_any(unit_NE: np.ndarray, a: np.ndarray, b: np.ndarray, threshold: float) -> np.ndarray:
    """Return which of rows `a` are near any of rows `b`, bool [A]."""
    found = np.zeros(len(a), bool)
    for start in range(0, len(a), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for first in range(0, len(b), KEPT_ROWS):
            found[rows] |= _near(unit_NE, a[rows], b[first : first + KEPT_ROWS], threshold).any(1)
    return found


def _near(unit_NE: np.ndarray, a: np.ndarray, b: np.ndarray, threshold: float) -> np.ndarray:
    """Return whether rows `a` are near rows `b`, bool [A, B]."""
    cosine = unit_NE[a] @ unit_NE[b].T
    near: np.ndarray = cosine >= threshold + _SLACK
    for i, j in zip(*np.nonzero(~near & (cosine >= threshold - _SLACK)), strict=True):
        exact = (unit_NE[a[i]].astype(np.float64) * unit_NE[b[j]]).sum()
        near[i, j] = exact >= threshold - 1e-7  # float32 vectors of length 1 are that far from it
    return near


def _seen(lake: Lake, clips: Collection[str]) -> Iterator[Vectors]:
    """Yield the embeddings of these clips by network, the one that saw most of the lake first."""
    among = f"list_contains({text_list(sorted(clips))}, clip_id)"
    for model in models(lake):
        with contextlib.suppress(NoEmbeddingsError):
            yield load(lake, model, where=among, ordered=True)


def _moments(lake: Lake, clips: Collection[str]) -> dict[tuple[str, int], tuple[Order, Tick]]:
    """Return of every frame of these clips when it was recorded, and which tick it is."""
    rows = lake.sql(
        "SELECT t.clip_id, t.frame_id, c.created_utc_ns, c.car_id, c.route_id, t.mono_ns "
        "FROM ticks t JOIN clips c USING (clip_id) WHERE "
        f"list_contains({text_list(sorted(clips))}, t.clip_id) ORDER BY t.clip_id, t.frame_id"
    )
    found: dict[tuple[str, int], tuple[Order, Tick]] = {}
    for clip, frame, created, car, route, mono in zip(
        *(column.to_pylist() for column in rows.columns), strict=True
    ):
        found[clip, frame] = (created or 0, clip, frame), (car, route, mono, frame)
    return found


def _check(threshold: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise ThresholdError(f"the threshold is {threshold}, expected over 0 and up to 1")
