"""How good tracks are: CLEAR MOT at one threshold, and averaged over recall.

Source: Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance: The CLEAR MOT
Metrics (2008); Weng, Wang, Held, Kitani, 3D Multi-Object Tracking: A Baseline and New Evaluation
Metrics (2020): AMOTA, AMOTP and sAMOTA over 40 recalls. Own code.
"""

import math
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sim.tracking.mot_match import Pairing, breaks, match, track_means

RECALLS: Final = 40
"""Recall is sampled at 1/40 .. 40/40; what is never reached scores zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """CLEAR MOT of some sequences with tracks above one score.

    Args:
        hits: labels found, those that count for nothing among them, as the benchmark has it.
        labels: labels that count. overlap: summed over hits.
    """

    hits: int
    missed: int
    alarms: int
    switches: int
    fragments: int
    labels: int
    overlap: float

    @property
    def mota(self) -> float:
        """Return 1 - (missed + alarms + switches) / labels; 1 is perfect, it may be negative."""
        wrong = self.missed + self.alarms + self.switches
        return 1.0 - wrong / self.labels if self.labels else -math.inf

    @property
    def motp(self) -> float:
        """Return the mean overlap of what was found."""
        return self.overlap / self.hits if self.hits else 0.0

    @property
    def recall(self) -> float:
        """Return the share of labels found."""
        return self.hits / max(self.hits + self.missed, 1)

    def scaled(self, recall: float) -> float:
        """Return MOTA as a share of what can be had at `recall`, 0..1."""
        wrong = self.missed + self.alarms + self.switches
        best = recall * self.labels
        return min(1.0, max(0.0, 1.0 - (wrong - (1.0 - recall) * self.labels) / best))


@dataclass(frozen=True, slots=True, kw_only=True)
class MotReport:
    """Figures of one class at one overlap; ratios, not percent.

    Args:
        samota, amota, amotp: means over 40 recalls of scaled MOTA, MOTA and MOTP.
        best: CLEAR MOT at the sampled score with the best MOTA.
        score: that score.
    """

    samota: float
    amota: float
    amotp: float
    best: Clear
    score: float

    def row(self) -> dict[str, Any]:
        """Return the figures as one row, in percent and counts."""
        b = self.best
        share = {"sAMOTA": self.samota, "AMOTA": self.amota, "AMOTP": self.amotp}
        share |= {"MOTA": b.mota, "MOTP": b.motp}
        counts = {"IDS": b.switches, "FRAG": b.fragments, "FP": b.alarms, "FN": b.missed}
        return {k: round(100.0 * v, 2) for k, v in share.items()} | counts


def clear(pairings: Many[Pairing], least_score: float, least_overlap: float) -> Clear:
    """Return CLEAR MOT over sequences with the tracks of at least a mean score."""
    return _clear(pairings, least_score, least_overlap)[0]


def evaluate(
    pairings: Many[Pairing], least_overlap: float, *, as_published: bool = False
) -> MotReport:
    """Return every figure of one class over some sequences.

    Args:
        pairings: one per sequence, from `mot_match.pair`.
        least_overlap: intersection over union by volume that makes a match: 0.25, 0.5 or 0.7.
        as_published: round as the program behind the published tables does. It averages a track's
            scores anew at every threshold, out of the averages of the time before; by rounding, the
            very track a threshold was taken from then often falls below it and is left out, which
            costs up to two points. Use it to compare with those tables, and not otherwise.
    """
    full, scores = _clear(pairings, -math.inf, least_overlap)
    points: list[tuple[float, float, Clear]] = []
    for recall, score in sample(scores, full.hits + full.missed):
        pairings = _averaged(pairings) if as_published else pairings
        points.append((recall, score, clear(pairings, score, least_overlap)))
    if not points:
        return MotReport(samota=0.0, amota=0.0, amotp=0.0, best=full, score=-math.inf)
    _, score, best = max(points, key=lambda p: p[2].mota)
    if as_published:
        best = clear(_averaged(pairings), score, least_overlap)
    return MotReport(
        samota=sum(c.scaled(r) for r, _, c in points) / RECALLS,
        amota=sum(c.mota for _, _, c in points) / RECALLS,
        amotp=sum(c.motp for _, _, c in points) / RECALLS,
        best=best,
        score=score,
    )


def _averaged(pairings: Many[Pairing]) -> list[Pairing]:
    return [replace(p, told_score=track_means(p.told_track, p.told_score)) for p in pairings]


def sample(scores: np.ndarray, labels: int) -> list[tuple[float, float]]:
    """Return (recall, score) for each recall 1/40, 2/40 .. that hits of these scores reach.

    The score is the one at whose hit recall comes closest to the point.
    """
    ordered = np.sort(scores)[::-1]
    points: list[tuple[float, float]] = []
    k = 0
    for i, score in enumerate(ordered):
        here, last = (i + 1) / labels, i == ordered.size - 1
        after = here if last else (i + 2) / labels
        wanted = k / RECALLS
        if after - wanted < wanted - here and not last:
            continue
        points.append((wanted, float(score)))
        k += 1
    return points[1:]


def _clear(
    pairings: Many[Pairing], least_score: float, least_overlap: float
) -> tuple[Clear, np.ndarray]:
    total = np.zeros(6, np.int64)
    overlap = 0.0
    scores = [np.zeros(0)]
    for p in pairings:
        matched, alarms = match(p, least_score, least_overlap)
        hit = matched >= 0
        seen = np.where(hit, p.told_track[matched] if p.told_track.size else -1, -1)
        order = np.argsort(p.gt_track, kind="stable")
        switches, fragments = breaks(order, p.gt_track, seen, p.gt_ignored)
        missed = np.sum(~hit & ~p.gt_ignored)
        total += [hit.sum(), missed, alarms.sum(), switches, fragments, np.sum(~p.gt_ignored)]
        frame = np.searchsorted(p.gt_from, np.flatnonzero(hit), side="right") - 1
        width = p.told_from[frame + 1] - p.told_from[frame]
        row = np.flatnonzero(hit) - p.gt_from[frame]
        place = p.overlap_from[frame] + row * width + matched[hit] - p.told_from[frame]
        overlap += float(p.overlap[place].sum())
        scores.append(p.told_score[matched[hit]])
    hits, missed_all, alarms_all, switches_all, fragments_all, labels = (int(v) for v in total)
    found = Clear(
        hits=hits,
        missed=missed_all,
        alarms=alarms_all,
        switches=switches_all,
        fragments=fragments_all,
        labels=labels,
        overlap=overlap,
    )
    return found, np.concatenate(scores)
