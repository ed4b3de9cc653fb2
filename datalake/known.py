"""What the fleet has enough of, in a few vectors that a car can carry: the other side of novelty.

A car measures how far a frame's embedding lies from the nearest of a campaign's `known` ones
(vehicle/novelty.py: the same code here). They are centres of frames that home has, and belong to
the network that made them: a car with another bundle needs others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from datalake.campaign_file import set_known
from vehicle.contracts.campaign import MAX_KNOWN, Campaign, TriggerSpec
from vehicle.contracts.wire import RefusedError
from vehicle.novelty import Novelty

ROUNDS: Final = 50
SAMPLES: Final = 50_000
"""Vectors that centres are fitted to; of more, every n-th."""

JUDGED: Final = 5_000
"""Frames whose novelty is measured; of more, every n-th."""

DIGITS: Final = 4
"""Of a centre's numbers in the campaign; embeddings of the shipped network are about 1."""

RARE_RATIO: Final = 0.01
"""Of the known frames, so many are as novel as the threshold."""

_BLOCK_ROWS: Final = 8_192
_SEED: Final = 20260301


class KnownError(RefusedError):
    """Too few frames, or too many centres; or the file is not one to write campaigns in."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """Centres, and how far frames lie from them.

    Args:
        centre_KE: float64, as the network gives embeddings.
        threshold: novelty that RARE_RATIO of the frames reach.
        median: of the frames' novelty.
        held_out: both are of drives that the centres were not fitted to; False: of the same, for
            want of a second drive, and too small.
    """

    centre_KE: np.ndarray
    threshold: float
    median: float
    held_out: bool


def know(raw_NE: np.ndarray, drive_N: np.ndarray, k: int) -> Known:
    """Return vectors that stand for many, and what is novel beside them.

    Novelty is measured on drives that did not make the centres, each half by the other's: frames
    that did are nearer to them than any new drive of the same kind would be.

    Args:
        raw_NE: float32 [N, E], finite embeddings in an order that does not change.
        drive_N: int, which drive a row belongs to.
        k: 1..256; no more than there are different vectors.
    Raises:
        KnownError: by name.
    """
    centre_KE = centres(raw_NE, k)
    half_N = np.searchsorted(np.unique(drive_N), drive_N) % 2 == 0
    held_out = bool(half_N.any() and not half_N.all())
    if held_out:
        parts = []
        for own in (half_N, ~half_N):
            fit = raw_NE[own]
            there = min(k, len(np.unique(fit, axis=0)))
            parts.append(novelty(raw_NE[~own], centres(fit, there)))
        distance = np.concatenate(parts)
    else:
        distance = novelty(raw_NE, centre_KE)
    return Known(
        centre_KE=centre_KE,
        threshold=float(np.quantile(distance, 1.0 - RARE_RATIO)),
        median=float(np.median(distance)),
        held_out=held_out,
    )


def centres(raw_NE: np.ndarray, k: int) -> np.ndarray:
    """Return k vectors that stand for many, float64 [K, E].

    Dimensions are divided by their spread first, as novelty does.

    Raises:
        KnownError: k is not 1..256, or there are fewer different vectors.
    Source: Lloyd's k-means, begun by k-means++ (Arthur and Vassilvitskii, 2007) with a fixed seed:
        the same frames give the same centres.
    """
    if not 1 <= k <= MAX_KNOWN:
        raise KnownError(f"{k} known vectors are asked for, expected 1..{MAX_KNOWN}")
    sample = np.unique(_every(raw_NE, SAMPLES), axis=0).astype(np.float64)
    if len(sample) < k:
        raise KnownError(f"{len(sample)} different frames cannot have {k} centres; ask for fewer")
    spread = np.maximum(sample.std(axis=0), 1e-6)
    placed = sample / spread
    centre_KE = _begun(placed, k)
    for _ in range(ROUNDS):
        own = _nearest(placed, centre_KE)
        sums, counts = np.zeros(centre_KE.shape), np.bincount(own, minlength=k)[:, None]
        np.add.at(sums, own, placed)
        moved = np.where(counts > 0, sums / np.maximum(counts, 1), centre_KE)
        done = bool(np.abs(moved - centre_KE).max() < 1e-6)
        centre_KE = moved
        if done:
            break
    found: np.ndarray = np.round(centre_KE * spread, DIGITS)
    return found


def novelty(raw_NE: np.ndarray, centre_KE: np.ndarray) -> np.ndarray:
    """Return how novel frames are to a car that carries these centres, float64 [N]; of many frames,
    every n-th."""
    measure = Novelty(centre_KE.tolist())
    return np.array([measure.of(row) for row in _every(raw_NE, JUDGED)])


def into_campaign(path: Path, known: Known) -> Campaign:
    """Write the centres into a campaign's file; a new one gets a novelty trigger.

    Args:
        path: *.toml, as `roadloop fleet campaign add` signs it; its `known` is replaced and the
            rest left as it is. Where there is none, one is made that is called by its name.
    Returns:
        the campaign as it is now.
    Raises:
        CampaignFileError: the file holds no campaign. KnownError: it is no .toml.
    """
    if path.suffix != ".toml":
        raise KnownError(f"{path}: campaigns are written as *.toml; roadloop fleet campaign add")
    trigger = TriggerSpec(
        name="novelty", kind="novelty", threshold=float(f"{known.threshold:.3g}"), hold_s=0.3
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return set_known(path, known.centre_KE.tolist(), trigger)


def _every(rows: np.ndarray, most: int) -> np.ndarray:
    """Return all rows, or of more than `most` every n-th."""
    return rows[:: max(1, -(-len(rows) // most))]


def _nearest(placed: np.ndarray, centre_KE: np.ndarray) -> np.ndarray:
    squares = (centre_KE * centre_KE).sum(axis=1)
    blocks = np.array_split(placed, 1 + len(placed) // _BLOCK_ROWS)
    return np.concatenate([(squares - 2.0 * (b @ centre_KE.T)).argmin(axis=1) for b in blocks])


def _begun(placed: np.ndarray, k: int) -> np.ndarray:
    """Return k of the vectors, each drawn by its squared distance from those before it."""
    rng = np.random.default_rng(_SEED)
    chosen = [int(rng.integers(len(placed)))]
    far = ((placed - placed[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(1, k):
        chosen.append(int(rng.choice(len(placed), p=far / far.sum())))
        far = np.minimum(far, ((placed - placed[chosen[-1]]) ** 2).sum(axis=1))
    return placed[chosen]
