"""Figures of merit for detections and rasters, each with its sample count and interval."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

MATCH_M: Final = 2.0
"""A detection is right when its centre is this near a labelled one (nuScenes detection task)."""

OPERATING_PROB: Final = 0.3
"""Score at which the car believes a detection; recall and precision are taken there."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    if n == 0:
        return 0.0, 1.0
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(slots=True)
class Matches:
    """Detections of one kind over many frames, matched to labels.

    Args:
        scores, right: per detection that counts.
        labels: how many labelled road users were wanted.
        found: how many of them were found at OPERATING_PROB; near: the same within `near_m`.
    """

    scores: list[float]
    right: list[bool]
    labels: int = 0
    found: int = 0
    near_labels: int = 0
    near_found: int = 0

    def add(
        self, detected: np.ndarray, wanted: np.ndarray, ignored: np.ndarray, near_m: float
    ) -> None:
        """Match one frame: each detection, best first, takes the nearest free label in reach.

        Args:
            detected: [P, 3] x_m, y_m, score, best first.
            wanted, ignored: [M, 2] centres; a detection on an ignored one does not count.
        """
        free = np.ones(len(wanted), dtype=bool)
        hit_at = np.zeros(len(wanted))
        for x_m, y_m, score in detected:
            gap = np.where(free, np.hypot(wanted[:, 0] - x_m, wanted[:, 1] - y_m), np.inf)
            best = int(np.argmin(gap)) if len(gap) else -1
            if best >= 0 and gap[best] <= MATCH_M:
                free[best], hit_at[best] = False, score
            elif len(ignored) and np.hypot(*(ignored - (x_m, y_m)).T).min() <= MATCH_M:
                continue
            self.scores.append(score)
            self.right.append(best >= 0 and gap[best] <= MATCH_M)
        seen = hit_at >= OPERATING_PROB
        near = np.hypot(wanted[:, 0], wanted[:, 1]) <= near_m
        self.labels += len(wanted)
        self.found += int(seen.sum())
        self.near_labels += int(near.sum())
        self.near_found += int((seen & near).sum())

    def average_precision(self) -> float:
        """Return the area under precision over recall, precision made monotonic from the right."""
        if not self.labels or not self.scores:
            return 0.0
        order = np.argsort(-np.array(self.scores), kind="stable")
        right = np.array(self.right)[order]
        hits = np.cumsum(right)
        precision = hits / np.arange(1, len(right) + 1)
        best_after = np.maximum.accumulate(precision[::-1])[::-1]
        return float((best_after * right).sum() / self.labels)

    def precision(self) -> tuple[int, int]:
        """Return right detections and all detections at OPERATING_PROB."""
        believed = [r for s, r in zip(self.scores, self.right, strict=True) if s >= OPERATING_PROB]
        return sum(believed), len(believed)
