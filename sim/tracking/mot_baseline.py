"""A plain tracker to hold the evaluator against: one Kalman filter per box, one matching per frame.

It takes the published design and figures of AB3DMOT and no line of its code: constant velocity in
metres per frame, unit measurement noise, births after some hits in a row, deaths after some misses.

Source: Weng, Wang, Held, Kitani, 3D Multi-Object Tracking: A Baseline and New Evaluation Metrics
(2020), and the parameters listed in its repository for PointRCNN on KITTI. Own code.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from sim.tracking.mot_match import Told
from vehicle.geometry import wrap_angle
from vehicle.importers.kitti_mot import Sequence
from vehicle.overlap import overlaps
from vehicle.tracker_match import assign

_PRIOR, _PRIOR_SPEED, _DRIFT, _DRIFT_SPEED, _NOISE = 10.0, 10_000.0, 1.0, 0.01, 1.0
"""Variances, metres and frames: of a new box, of its speed, of a step, of its speed, of a find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """How one class is matched, born and dies.

    Args:
        measure: "giou" or "distance" between boxes. least: similarity below which nothing matches.
        greedy: take the most similar pair first, instead of the best matching of all.
        hits: finds before a track is told. age: misses after which it dies.
    """

    measure: Literal["giou", "distance"]
    least: float
    greedy: bool
    hits: int
    age: int


PUBLISHED: Final = {
    "car": Plain(measure="giou", least=-0.2, greedy=False, hits=3, age=2),
    "pedestrian": Plain(measure="giou", least=-0.4, greedy=True, hits=1, age=4),
    "cyclist": Plain(measure="distance", least=-2.0, greedy=False, hits=3, age=4),
}


@dataclass(slots=True)
class _Track:
    number: int
    box: np.ndarray
    speed: np.ndarray
    cov: np.ndarray  # of a position: xx, xv, vv
    fixed: float  # variance of what does not move
    source: int
    hits: int = 1
    missed: int = 0


def run(sequence: Sequence, kind: str, plain: Plain | None = None) -> Told:
    """Track one class through one sequence."""
    plain = plain or PUBLISHED[kind]
    found = sequence.found[kind]
    edges = np.searchsorted(found.frame, np.arange(sequence.frames + 1))
    tracks: list[_Track] = []
    born = 0
    told: list[tuple[int, int, int, np.ndarray]] = []
    for f in range(sequence.frames):
        rows = np.arange(edges[f], edges[f + 1])
        boxes = found.boxes[rows]
        for track in tracks:
            _predict(track)
            if f:
                track.box[:3] = _carried(track.box[:3], sequence.poses[f - 1], sequence.poses[f])
        left = set(range(len(rows)))
        for i, j in _pairs(tracks, boxes, plain):
            _correct(tracks[i], boxes[j])
            tracks[i].source = int(rows[j])
            left.discard(j)
        for j in sorted(left):
            born += 1
            cov = np.array([_PRIOR, 0.0, _PRIOR_SPEED])
            tracks.append(_Track(born, boxes[j].copy(), np.zeros(3), cov, _PRIOR, int(rows[j])))
        early = f < plain.hits
        for track in tracks:
            if track.missed < plain.age and (track.hits >= plain.hits or early):
                told.append((f, track.number, track.source, track.box.copy()))
        tracks = [t for t in tracks if t.missed < plain.age]
    return _told(sequence, kind, told)


def _carried(xyz: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return a point of the camera's frame as it was in the frame as it is.

    Only positions are carried, as published: speeds and headings keep their numbers while the
    camera turns.
    """
    world = before[:3, :3] @ xyz + before[:3, 3]
    return np.asarray((world - now[:3, 3]) @ now[:3, :3])


def _predict(track: _Track) -> None:
    track.box[:3] += track.speed
    xx, xv, vv = track.cov
    track.cov[:] = xx + 2 * xv + vv + _DRIFT, xv + vv, vv + _DRIFT_SPEED
    track.fixed += _DRIFT
    track.missed += 1


def _correct(track: _Track, box: np.ndarray) -> None:
    xx, xv, vv = track.cov
    kx, kv = xx / (xx + _NOISE), xv / (xx + _NOISE)
    off = box[:3] - track.box[:3]
    track.box[:3] += kx * off
    track.speed += kv * off
    track.cov[:] = (1 - kx) * xx, (1 - kx) * xv, vv - kv * xv
    keep = track.fixed / (track.fixed + _NOISE)
    turn = float(wrap_angle(box[3] - track.box[3]))
    if abs(turn) > np.pi / 2:  # the new find says which way it faces
        track.box[3] += np.pi
        turn = float(wrap_angle(turn - np.pi))
    track.box[3] = float(wrap_angle(track.box[3] + keep * turn))
    track.box[4:] += keep * (box[4:] - track.box[4:])
    track.fixed *= 1 - keep
    track.hits += 1
    track.missed = 0


def _pairs(tracks: list[_Track], boxes: np.ndarray, plain: Plain) -> list[tuple[int, int]]:
    if not tracks or not len(boxes):
        return []
    known = np.stack([t.box for t in tracks])
    if plain.measure == "giou":
        similar = overlaps(known, boxes, True)
    else:
        up = np.array([0.0, 0.0, 0.5])
        similar = -np.linalg.norm(
            (known[:, None, :3] + up * known[:, None, 6:])
            - (boxes[None, :, :3] + up * boxes[None, :, 6:]),
            axis=2,
        )
    if not plain.greedy:
        chosen = assign(-similar, 1e3)
        pairs = [(i, int(j)) for i, j in enumerate(chosen) if j >= 0]
    else:
        pairs, rest = [], similar.copy()
        while np.isfinite(rest).any():
            i, j = (int(v) for v in np.unravel_index(int(np.argmax(rest)), rest.shape))
            pairs.append((i, j))
            rest[i, :] = rest[:, j] = -np.inf
    return [(i, j) for i, j in pairs if similar[i, j] >= plain.least]


def _told(sequence: Sequence, kind: str, told: list[tuple[int, int, int, np.ndarray]]) -> Told:
    found = sequence.found[kind]
    source = np.array([t[2] for t in told], np.int64)
    return Told(
        frame=np.array([t[0] for t in told], np.int64),
        track=np.array([t[1] for t in told], np.int64),
        score=found.score[source],
        boxes=np.array([t[3] for t in told]).reshape(-1, 7),
        image_px=found.image_px[source],
    )
