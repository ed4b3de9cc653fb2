"""How unlike a frame is to those of which home has enough already."""

from collections.abc import Sequence
from typing import Final

import numpy as np

SPREAD_ROWS: Final = 8
"""Fewer known embeddings have no spread worth the name; each dimension then counts as it is."""

LEAST_SPREAD: Final = 0.05
"""Of the mean spread: a dimension that hardly ever moves must not decide alone."""


class Novelty:
    """Distance of an embedding from the nearest known one.

    Each dimension is divided by its spread over the known set; the distance is the root mean square
    over dimensions. Cosine was tried and left: docs/decisions/0017.

    Args:
        known: [K][E] embeddings; those of other sizes than the network's do not count.
    Source: a diagonal Mahalanobis distance to the nearest neighbour; own work in the bounds.
    """

    def __init__(self, known: Sequence[Sequence[float]]) -> None:
        self._sets = {
            size: _prepared(np.array([row for row in known if len(row) == size], np.float64))
            for size in {len(row) for row in known}
        }

    def of(self, embedding: np.ndarray) -> float:
        """Return the distance in spreads, NaN without a known one of its size."""
        known = self._sets.get(len(embedding))
        if known is None:
            return float("nan")
        middle, scale, rows, squares = known
        here = (embedding - middle) * scale
        apart = float((squares - 2.0 * (rows @ here)).min()) + float(here @ here)
        return float(np.sqrt(max(0.0, apart) / len(here)))


def _prepared(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    middle, scale = rows.mean(axis=0), np.ones(rows.shape[1])
    if len(rows) >= SPREAD_ROWS:
        spread = rows.std(axis=0)
        scale = 1.0 / np.maximum(spread, LEAST_SPREAD * spread.mean() + 1e-9)
    placed = (rows - middle) * scale
    return middle, scale, placed, (placed * placed).sum(axis=1)
