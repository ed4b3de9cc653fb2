"""Who is whom: tracks against labels, frame by frame, under the rules of KITTI's benchmark."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from vehicle.importers.kitti_mot import CLASSES, Sequence
from vehicle.overlap import overlaps
from vehicle.tracker_match import assign

MAX_OCCLUSION: Final = 2
MAX_TRUNCATION: Final = 0
MIN_HEIGHT_PX: Final = 25.0
"""Labels hidden or cut more than this are ignored, and boxes lower than this that match nothing."""

AREA_SHARE: Final = 0.5
"""A box is in an area nobody labelled when more than this share of it is."""

NEIGHBOURS: Final = {"car": ("Van",), "pedestrian": ("Person_sitting",), "cyclist": ()}
"""Classes close to one: labels of them that are found or missed count for nothing.

The published protocol asks for "person_sitting", but KITTI's tracking labels say "Person": sitting
people therefore count as background there, and here, or the figures would not compare.
"""

_FAR: Final = 1e6
_NEVER: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """What a tracker said about one sequence, one row per box and frame, in order of frames.

    Args:
        frame, track: int64 [N]. score: [N], larger is surer; any scale.
        boxes: [N, 7], the camera's frame (see vehicle/importers/kitti_mot.py).
        image_px: [N, 4] box in the picture, of the detection last taken in.
    """

    frame: np.ndarray
    track: np.ndarray
    score: np.ndarray
    boxes: np.ndarray
    image_px: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairing:
    """One sequence laid out for matching: overlaps and what is ignored, once for every threshold.

    Args:
        gt_from, told_from: [F + 1] first row of each frame. gt_track: [G], dense from 0.
        gt_ignored: [G] labels that count for nothing. told_track: [T], dense from 0.
        told_score: [T], mean score of the whole track. told_ignored: [T] unmatched, it counts for
            nothing. overlap_from: [F + 1] first of each frame's overlaps. overlap: frames' matrices
            [G_f, T_f], one after the other. gt_whole: [G] not cut by the picture's border.
    """

    gt_from: np.ndarray
    gt_track: np.ndarray
    gt_ignored: np.ndarray
    gt_whole: np.ndarray
    told_from: np.ndarray
    told_track: np.ndarray
    told_score: np.ndarray
    told_ignored: np.ndarray
    overlap_from: np.ndarray
    overlap: np.ndarray


def pair(sequence: Sequence, told: Told, kind: str) -> Pairing:
    """Return labels and tracks of one class, laid out for `match`."""
    labels, name = sequence.labels, CLASSES[kind]
    listed = np.isin(labels.name, (name, *NEIGHBOURS[kind])) & (labels.track >= 0)
    areas = labels.name == "DontCare"
    edges = np.arange(sequence.frames + 1)
    gt_from = np.searchsorted(labels.frame[listed], edges)
    told_from = np.searchsorted(told.frame, edges)
    area_from = np.searchsorted(labels.frame[areas], edges)
    gt_boxes, area_px = labels.boxes[listed], labels.image_px[areas]
    _, gt_track = np.unique(labels.track[listed], return_inverse=True)
    _, told_track = np.unique(told.track, return_inverse=True)
    low = np.abs(told.image_px[:, 3] - told.image_px[:, 1]) <= MIN_HEIGHT_PX
    matrices, overlap_from, inside = [np.zeros(0)], [0], low.copy()
    for f in range(sequence.frames):
        now = slice(told_from[f], told_from[f + 1])
        matrix = overlaps(gt_boxes[gt_from[f] : gt_from[f + 1]], told.boxes[now], False)
        matrices.append(matrix.reshape(-1))
        overlap_from.append(overlap_from[-1] + matrix.size)
        inside[now] |= _in_area(told.image_px[now], area_px[area_from[f] : area_from[f + 1]])
    hidden = labels.occlusion[listed] > MAX_OCCLUSION
    cut = labels.truncation[listed] > MAX_TRUNCATION
    return Pairing(
        gt_from=gt_from,
        gt_track=gt_track,
        gt_ignored=hidden | cut | (labels.name[listed] != name),
        gt_whole=~cut,
        told_from=told_from,
        told_track=told_track,
        told_score=track_means(told_track, told.score),
        told_ignored=inside,
        overlap_from=np.array(overlap_from),
        overlap=np.concatenate(matrices),
    )


def track_means(track: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return for each row [N] the mean score of all rows of its track, added up in their order."""
    total = np.bincount(track, score, minlength=1)
    return np.asarray((total / np.maximum(np.bincount(track, minlength=1), 1))[track])


def _in_area(image_px: np.ndarray, areas_px: np.ndarray) -> np.ndarray:
    """Return which boxes [N, 4] lie mostly in one of the areas [A, 4]."""
    low = np.maximum(image_px[:, None, :2], areas_px[None, :, :2])
    high = np.minimum(image_px[:, None, 2:], areas_px[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    size = np.prod(image_px[:, 2:] - image_px[:, :2], axis=1)
    return np.asarray((shared > AREA_SHARE * size[:, None]).any(axis=1))


def match(p: Pairing, least_score: float, least_overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which track each label is matched to, and how many boxes match nothing.

    Args:
        least_score: tracks of a lower mean score are left out.
        least_overlap: intersection over union by volume below which nothing matches.
    Returns:
        Row of `told` per label, -1 where missed [G]; false alarms per frame [F].
    """
    return _match(
        p.gt_from,
        p.told_from,
        p.told_score >= least_score,
        p.told_ignored,
        p.overlap_from,
        p.overlap,
        least_overlap,
    )


@njit(cache=True)
def _match(
    gt_from: np.ndarray,
    told_from: np.ndarray,
    kept: np.ndarray,
    ignored: np.ndarray,
    overlap_from: np.ndarray,
    overlap: np.ndarray,
    least: float,
) -> tuple[np.ndarray, np.ndarray]:
    frames = gt_from.size - 1
    matched = np.full(gt_from[frames], -1, np.int64)
    alarms = np.zeros(frames, np.int64)
    for f in range(frames):
        g0, g1, t0, t1 = gt_from[f], gt_from[f + 1], told_from[f], told_from[f + 1]
        n, width = g1 - g0, t1 - t0
        rows = np.zeros(width, np.int64)
        m = 0
        for t in range(width):
            if kept[t0 + t]:
                rows[m] = t
                m += 1
        cost = np.full((n, m), _FAR)
        for i in range(n):
            for j in range(m):
                share = overlap[overlap_from[f] + i * width + rows[j]]
                if share >= least:
                    cost[i, j] = 1.0 - share
        taken = np.zeros(width, np.bool_)
        chosen = assign(cost, _NEVER)
        for i in range(n):
            if chosen[i] >= 0:
                matched[g0 + i] = t0 + rows[chosen[i]]
                taken[rows[chosen[i]]] = True
        for j in range(m):
            t = rows[j]
            if not taken[t] and not ignored[t0 + t]:
                alarms[f] += 1
    return matched, alarms


@njit(cache=True)
def breaks(
    order: np.ndarray, gt_track: np.ndarray, seen: np.ndarray, ignored: np.ndarray
) -> tuple[int, int]:
    """Return how often labelled tracks change the track they are matched to, and how often broken.

    Args:
        order: rows of labels sorted by label track, then frame. gt_track: [G] label track.
        seen: [G] track matched to, -1 for none. ignored: [G] labels that count for nothing.
    Returns:
        Identity switches: another track than the one last matched, with a match in the frame before
        too. Fragmentations: matched again by another, or after a miss, and not at once lost.
    Source: the rules of KITTI's tracking devkit (2013), own code.
    """
    switches = fragments = 0
    begin = 0
    while begin < order.size:
        end = begin
        while end < order.size and gt_track[order[end]] == gt_track[order[begin]]:
            end += 1
        last = seen[order[begin]]
        counted = False
        for k in range(begin, end):
            counted = counted or not ignored[order[k]]
        for k in range(begin + 1, end):
            if not counted:
                break
            now, before = seen[order[k]], seen[order[k - 1]]
            if ignored[order[k]]:
                last = -1
                continue
            if last != -1 and now != -1 and now != last and before != -1:
                switches += 1
            if now != -1 and before != now:
                final = k == end - 1
                if final or (last != -1 and seen[order[k + 1]] != -1):
                    fragments += 1
            if now != -1:
                last = now
        begin = end
    return switches, fragments
