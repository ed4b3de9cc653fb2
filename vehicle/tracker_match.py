"""One-to-one matching at least cost."""

from typing import Final

import numpy as np
from numba import njit

WORK_ROWS: Final = 7
"""Rows of the scratch array of `assign_into`; the first holds the answer."""


@njit(cache=True)
def assign(cost: np.ndarray, forbidden: float) -> np.ndarray:
    """Return for each row the column of the cheapest one-to-one matching, -1 for none.

    Args:
        cost: [N, M] float64; entries >= forbidden are never matched.
        forbidden: cost of leaving a pair apart.
    """
    n, m = cost.shape
    work = np.zeros((WORK_ROWS, n + m + 2))
    assign_into(cost, forbidden, work)
    return work[0, :n].astype(np.int64)


@njit(cache=True)
def assign_into(cost: np.ndarray, forbidden: float, work: np.ndarray) -> None:
    """Match as `assign`, without making an array: work[0, :N] is filled with columns or -1.

    Rows are placed one at a time along a shortest augmenting path; a path may also end in leaving
    one of the rows on it alone, at cost `forbidden`.

    Args:
        cost: [N, M] float64. work: [WORK_ROWS, > max(N, M)] float64.
    Source: Kuhn-Munkres by shortest augmenting paths (Jonker and Volgenant, 1987), own code.
    """
    n, m = cost.shape
    chosen, u, v, least = work[0], work[1], work[2], work[3]
    way, owner, used = work[4], work[5], work[6]
    u[: n + 1] = 0.0
    v[: m + 1] = 0.0
    owner[: m + 1] = 0.0  # column -> row, from 1
    for i in range(1, n + 1):
        owner[0] = i
        j0 = 0
        least[: m + 1] = np.inf
        used[: m + 1] = 0.0
        least_alone, alone_at = np.inf, 0
        while True:
            used[j0] = 1.0
            i0 = int(owner[j0])
            if forbidden - u[i0] < least_alone:
                least_alone, alone_at = forbidden - u[i0], j0
            delta, j1 = least_alone, -1
            for j in range(1, m + 1):
                if used[j] == 0.0:
                    price = cost[i0 - 1, j - 1]
                    if price < forbidden and price - u[i0] - v[j] < least[j]:
                        least[j] = price - u[i0] - v[j]
                        way[j] = j0
                    if least[j] < delta:
                        delta, j1 = least[j], j
            for j in range(m + 1):
                if used[j] == 1.0:
                    u[int(owner[j])] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            least_alone -= delta
            if j1 < 0:
                j0 = alone_at
                break
            j0 = j1
            if owner[j0] == 0.0:
                break
        while j0 != 0:
            owner[j0] = owner[int(way[j0])]
            j0 = int(way[j0])
    chosen[:n] = -1.0
    for j in range(1, m + 1):
        if owner[j] > 0.0:
            chosen[int(owner[j]) - 1] = j - 1
