"""Lists of what several stations perceive, made into one: carried to one instant, doubles merged.

Two lists may rest on the same observation without saying so, so estimates are merged by covariance
intersection, which never becomes surer than it may, whatever they have in common; and of two scores
the better one counts, not both. Uses the terms of ETSI TS 103 324 (Collective Perception Service):
station, perceived object, reference position, measurement delta time.

Source: Julier and Uhlmann, A Non-divergent Estimation Algorithm in the Presence of Unknown
Correlations (1997); gate: chi squared of two degrees of freedom.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.scene import KINDS, TRACK

GATE: Final = 11.8
"""Squared Mahalanobis distance within which two objects may be one: 99.7 % of those that are."""

ALIKE_MPS: Final = 4.0
"""Objects whose velocities differ by more are two."""

_GROUPS: Final = (("pedestrian", "animal"), ("cyclist", "motorcycle"), ("cone", "debris", "other"))
_GROUP: Final = np.array(
    [next((i for i, g in enumerate(_GROUPS, 1) if kind in g), 0) for kind in KINDS]
)
"""Kinds that sensors take for one another; 0: on four wheels or more."""

_HARDEST_MPS2: Final = np.array([{1: 2.0, 2: 3.0, 3: 0.0}.get(int(g), 4.0) for g in _GROUP])
"""How hard one of a kind may change its velocity: so fast doubt grows while nobody looks."""

_SHARES: Final = tuple(i / 8 for i in range(9))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What one station perceives at one instant.

    Args:
        tracks: TRACK [N], in the site's frame.
        cov_m2: float64 [N, 2, 2], of x and y.
        speed_sigma_mps: float64 [N], standard deviation of each component of velocity.
    """

    tracks: np.ndarray
    cov_m2: np.ndarray
    speed_sigma_mps: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fused:
    """What all stations perceive together.

    Args:
        tracks, cov_m2: as in Seen.
        stations: who perceives each.
    """

    tracks: np.ndarray
    cov_m2: np.ndarray
    stations: tuple[tuple[str, ...], ...]


def on_wheels(kind: np.ndarray) -> np.ndarray:
    """Return which kinds have four wheels or more."""
    return np.asarray(_GROUP[kind] == 0)


def carry(seen: Seen, dt_s: float | np.ndarray) -> Seen:
    """Return what a station would perceive later, and how much less surely.

    Args:
        dt_s: for all objects, or one each [N].
    """
    tracks, grown = seen.tracks.copy(), np.zeros_like(seen.cov_m2)
    tracks["x_m"] += seen.tracks["vx_mps"] * dt_s
    tracks["y_m"] += seen.tracks["vy_mps"] * dt_s
    turn_mps = _HARDEST_MPS2[tracks["kind"]] * np.abs(dt_s)
    strayed_m2 = (seen.speed_sigma_mps * dt_s) ** 2 + (0.5 * turn_mps * dt_s) ** 2
    grown[:, 0, 0] = grown[:, 1, 1] = strayed_m2
    return Seen(
        tracks=tracks,
        cov_m2=seen.cov_m2 + grown,
        speed_sigma_mps=np.hypot(seen.speed_sigma_mps, turn_mps),
    )


def near(seen: Seen, x_m: float, y_m: float, radius_m: float) -> Seen:
    """Return what lies within a radius."""
    dx, dy = seen.tracks["x_m"] - x_m, seen.tracks["y_m"] - y_m
    keep = np.hypot(dx, dy) <= radius_m
    return Seen(
        tracks=seen.tracks[keep],
        cov_m2=seen.cov_m2[keep],
        speed_sigma_mps=seen.speed_sigma_mps[keep],
    )


def merge(seen: Mapping[str, Seen]) -> Fused:
    """Return one list of what stations perceive at one instant.

    The surest go first. An object joins the nearest that may be the same one and that its own
    station does not perceive already: a station knows its own objects apart.
    """
    names = [name for name, source in seen.items() for _ in range(len(source.tracks))]
    tracks = np.concatenate([s.tracks for s in seen.values()] or [np.zeros(0, TRACK)])
    cov_m2 = np.concatenate([s.cov_m2 for s in seen.values()] or [np.zeros((0, 2, 2))])
    order = np.argsort(np.trace(cov_m2, axis1=1, axis2=2), kind="stable")
    tracks, cov_m2, names = tracks[order], cov_m2[order], [names[i] for i in order]
    distance = _distances(tracks, cov_m2)
    first: list[int] = []  # the surest of each that was found so far
    stations: list[list[str]] = []
    for i, name in enumerate(names):
        j = _same(distance[i, first], stations, name)
        if j is None:
            first.append(i)
            stations.append([name])
            continue
        _join(tracks, cov_m2, first[j], i)
        stations[j].append(name)
    found = tracks[first]
    found["track_id"] = np.arange(1, len(first) + 1)
    return Fused(
        tracks=found, cov_m2=cov_m2[first], stations=tuple(tuple(names) for names in stations)
    )


def _same(distance: np.ndarray, stations: list[list[str]], name: str) -> int | None:
    """Return which object may be the same and is nearest; None: none that is another station's."""
    for j in np.argsort(distance, kind="stable"):
        if distance[j] > GATE:
            return None
        if name not in stations[j]:
            return int(j)
    return None


def _distances(tracks: np.ndarray, cov_m2: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances [N, N]; infinite between two that are never one."""
    x, y, vx, vy = (tracks[n].astype(np.float64) for n in ("x_m", "y_m", "vx_mps", "vy_mps"))
    dx, dy = x[:, None] - x, y[:, None] - y
    xx, xy, yy = (cov_m2[:, i, j, None] + cov_m2[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    distance: np.ndarray = (dx**2 * yy - 2.0 * dx * dy * xy + dy**2 * xx) / (xx * yy - xy**2)
    group = _GROUP[tracks["kind"]]
    other = group[:, None] != group
    other |= (vx[:, None] - vx) ** 2 + (vy[:, None] - vy) ** 2 > ALIKE_MPS**2
    distance[other] = np.inf
    return distance


def _join(tracks: np.ndarray, cov_m2: np.ndarray, j: int, i: int) -> None:
    """Merge estimate `i` into `j`, by covariance intersection of the least trace."""
    mine, theirs = _inverse(*_three(cov_m2[j])), _inverse(*_three(cov_m2[i]))
    share, joined, least = 1.0, _three(cov_m2[j]), np.inf
    for option in _SHARES:
        both = [option * m + (1.0 - option) * t for m, t in zip(mine, theirs, strict=True)]
        xx, xy, yy = _inverse(*both)
        if xx + yy < least:
            share, joined, least = option, (xx, xy, yy), xx + yy
    row = tracks[i].copy()
    ax, ay = _times(mine, tracks["x_m"][j], tracks["y_m"][j])
    bx, by = _times(theirs, row["x_m"], row["y_m"])
    place = _times(joined, share * ax + (1.0 - share) * bx, share * ay + (1.0 - share) * by)
    velocity = [share * tracks[n][j] + (1.0 - share) * row[n] for n in ("vx_mps", "vy_mps")]
    if row["score_prob"] > tracks["score_prob"][j]:
        tracks[j] = row
    tracks["x_m"][j], tracks["y_m"][j] = place
    tracks["vx_mps"][j], tracks["vy_mps"][j] = velocity
    xx, xy, yy = joined
    cov_m2[j] = ((xx, xy), (xy, yy))


def _three(cov: np.ndarray) -> tuple[float, float, float]:
    return float(cov[0, 0]), float(cov[0, 1]), float(cov[1, 1])


def _inverse(xx: float, xy: float, yy: float) -> tuple[float, float, float]:
    """Return the inverse of a symmetric matrix of two by two."""
    whole = xx * yy - xy * xy
    return yy / whole, -xy / whole, xx / whole


def _times(matrix: tuple[float, float, float], x: float, y: float) -> tuple[float, float]:
    xx, xy, yy = matrix
    return xx * float(x) + xy * float(y), xy * float(x) + yy * float(y)


def occupied(fused: Fused, x_m: float, y_m: float, cells: int, cell_m: float) -> np.ndarray:
    """Return how probably each cell of a square is taken, uint8 [cells, cells], 255 for surely.

    Args:
        x_m, y_m: middle of the square; cell [0, 0] is its corner of least x and y.
    """
    grid = np.zeros((cells, cells), np.float32)
    low_x, low_y = x_m - cells * cell_m / 2, y_m - cells * cell_m / 2
    for row, cov in zip(fused.tracks, fused.cov_m2, strict=True):
        sigma_m2 = (cov[0, 0] + cov[1, 1]) / 2 + (cell_m / 2) ** 2
        reach_m = 0.5 * math.hypot(row["length_m"], row["width_m"]) + 3.0 * math.sqrt(sigma_m2)
        x, y = float(row["x_m"]) - low_x, float(row["y_m"]) - low_y
        ends = (x - reach_m, x + reach_m, y - reach_m, y + reach_m)
        x0, x1, y0, y1 = (min(max(math.floor(end / cell_m), 0), cells) for end in ends)
        dx = ((np.arange(x0, x1) + 0.5) * cell_m - x)[:, None]
        dy = ((np.arange(y0, y1) + 0.5) * cell_m - y)[None, :]
        c, s = math.cos(row["yaw_rad"]), math.sin(row["yaw_rad"])
        out_l = np.maximum(0.0, np.abs(c * dx + s * dy) - 0.5 * row["length_m"])
        out_w = np.maximum(0.0, np.abs(c * dy - s * dx) - 0.5 * row["width_m"])
        taken = row["score_prob"] * np.exp(-0.5 * (out_l**2 + out_w**2) / sigma_m2)
        part = grid[x0:x1, y0:y1]
        np.maximum(part, taken, out=part)
    return np.rint(grid * 255).astype(np.uint8)
