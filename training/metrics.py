"""Figures of merit for detections and rasters, each with its sample count and interval."""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

MATCH_M: Final = 2.0
"""A detection is right when its centre is this near a labelled one (nuScenes detection task)."""

OPERATING_PROB: Final = 0.2
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


NEAR_M: Final = 30.0

_RESAMPLES: Final = 200


@dataclass(slots=True)
class Matches:
    """Detections of one kind over many frames, matched to labels.

    Args:
        scores, right: per detection that counts.
        labels: how many labelled road users were wanted.
        found: how many of them were found at OPERATING_PROB; near: the same within `near_m`.
        near, frame: per detection: within `near_m` (of a right one, its label), and which frame.
        label_near, label_frame: the same per label.
    """

    scores: list[float]
    right: list[bool]
    labels: int = 0
    found: int = 0
    near_labels: int = 0
    near_found: int = 0
    near: list[bool] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    label_near: list[bool] = field(default_factory=list)
    label_frame: list[int] = field(default_factory=list)
    frames: int = 0

    def add(
        self, detected: np.ndarray, wanted: np.ndarray, ignored: np.ndarray, near_m: float = NEAR_M
    ) -> np.ndarray:
        """Match one frame: each detection, best first, takes the nearest free label in reach.

        Args:
            detected: [P, 3 or more] x_m, y_m, score, best first.
            wanted, ignored: [M, 2] centres; a detection on an ignored one does not count.
        Returns:
            Per label, the best score it was found with, 0 when missed.
        """
        free = np.ones(len(wanted), dtype=bool)
        hit_at = np.zeros(len(wanted))
        near = np.hypot(wanted[:, 0], wanted[:, 1]) <= near_m
        for x_m, y_m, score in detected[:, :3]:
            gap = np.where(free, np.hypot(wanted[:, 0] - x_m, wanted[:, 1] - y_m), np.inf)
            best = int(np.argmin(gap)) if len(gap) else -1
            hit = best >= 0 and bool(gap[best] <= MATCH_M)
            if hit:
                free[best], hit_at[best] = False, score
            elif len(ignored) and np.hypot(*(ignored - (x_m, y_m)).T).min() <= MATCH_M:
                continue
            self.scores.append(float(score))
            self.right.append(hit)
            self.near.append(bool(near[best]) if hit else bool(np.hypot(x_m, y_m) <= near_m))
            self.frame.append(self.frames)
        seen = hit_at >= OPERATING_PROB
        self.labels += len(wanted)
        self.found += int(seen.sum())
        self.near_labels += int(near.sum())
        self.near_found += int((seen & near).sum())
        self.label_near += near.tolist()
        self.label_frame += [self.frames] * len(wanted)
        self.frames += 1
        return hit_at

    def merge(self, other: "Matches") -> None:
        """Take over what was counted on other frames."""
        self.frame += [f + self.frames for f in other.frame]
        self.label_frame += [f + self.frames for f in other.label_frame]
        for name in ("scores", "right", "near", "label_near"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("labels", "found", "near_labels", "near_found", "frames"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def average_precision(self, *, near: bool = False) -> float:
        """Return the area under precision over recall, precision made monotonic from the right."""
        return float(self._precisions(near, np.ones((1, max(self.frames, 1))))[0])

    def interval(self, *, near: bool = False) -> tuple[float, float]:
        """Return the 95 % interval of the average precision, bootstrapped over frames.

        Source: Efron & Tibshirani, "An introduction to the bootstrap" (1993), percentile method.
        """
        if not self.frames:
            return 0.0, 1.0
        rng = np.random.default_rng(self.labels)
        drawn = rng.multinomial(self.frames, np.full(self.frames, 1 / self.frames), _RESAMPLES)
        low, high = np.percentile(self._precisions(near, drawn), [2.5, 97.5])
        return float(low), float(high)

    def _precisions(self, near: bool, drawn_SF: np.ndarray) -> np.ndarray:
        """Return the average precision of each way S to draw the frames F."""
        taken = np.array(self.near if near else [True] * len(self.scores), dtype=bool)
        asked = np.array(self.label_near if near else [True] * self.labels, dtype=bool)
        labels_S = drawn_SF[:, np.array(self.label_frame, dtype=int)[asked]].sum(axis=1)
        order = np.argsort(-np.array(self.scores)[taken], kind="stable")
        right = np.array(self.right, dtype=bool)[taken][order]
        if not len(right):
            return np.zeros(len(drawn_SF))
        weight_SP = drawn_SF[:, np.array(self.frame, dtype=int)[taken][order]]
        hits = np.cumsum(weight_SP * right, axis=1)
        precision = hits / np.maximum(np.cumsum(weight_SP, axis=1), 1)
        best_after = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        area = (best_after * weight_SP * right).sum(axis=1)
        return np.asarray(area / np.maximum(labels_S, 1))

    def precision(self) -> tuple[int, int]:
        """Return right detections and all detections at OPERATING_PROB."""
        believed = [r for s, r in zip(self.scores, self.right, strict=True) if s >= OPERATING_PROB]
        return sum(believed), len(believed)
