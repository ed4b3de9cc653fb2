"""Lists of what several stations perceive, made into one: carried to one instant, doubles merged.

Two lists may rest on the same observation without saying so, so estimates are merged by covariance
intersection, which never becomes surer than it may, whatever they have in common; and of two scores
the better one counts, not both. Uses the terms of ETSI TS 103 324 (Collective Perception Service):
station, perceived object, reference position, measurement delta time.

Source: Julier and Uhlmann, A Non-divergent Estimation Algorithm in the Presence of Unknown
Correlations (1997); gate: chi squared of two degrees of freedom.
"""

from collections.abc import Mapping, Sequence
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

_SHARES: Final = np.linspace(0.0, 1.0, 9)


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
    items = [(name, s, i) for name, s in seen.items() for i in range(len(s.tracks))]
    items.sort(key=lambda item: float(np.trace(item[1].cov_m2[item[2]])))
    tracks = np.zeros(len(items), TRACK)
    cov_m2 = np.zeros((len(items), 2, 2))
    stations: list[list[str]] = []
    for name, source, i in items:
        row, cov, count = source.tracks[i], source.cov_m2[i], len(stations)
        j = _match(row, cov, name, tracks[:count], cov_m2[:count], stations)
        if j is None:
            tracks[count], cov_m2[count] = row, cov
            stations.append([name])
            continue
        _join(tracks, cov_m2, j, row, cov)
        stations[j].append(name)
    count = len(stations)
    tracks["track_id"][:count] = np.arange(1, count + 1)
    return Fused(
        tracks=tracks[:count],
        cov_m2=cov_m2[:count],
        stations=tuple(tuple(names) for names in stations),
    )


def _match(
    row: np.void,
    cov: np.ndarray,
    name: str,
    tracks: np.ndarray,
    cov_m2: np.ndarray,
    stations: Sequence[Sequence[str]],
) -> int | None:
    """Return the object that may be the same and is nearest; None when there is none."""
    if not len(tracks):
        return None
    delta = np.stack([tracks["x_m"] - row["x_m"], tracks["y_m"] - row["y_m"]], axis=-1)
    delta = delta.astype(np.float64)
    inverse = np.linalg.inv(cov_m2 + cov)
    distance = np.einsum("ni,nij,nj->n", delta, inverse, delta)
    apart_mps = np.hypot(tracks["vx_mps"] - row["vx_mps"], tracks["vy_mps"] - row["vy_mps"])
    own = np.array([name in names for names in stations])
    other = (_GROUP[tracks["kind"]] != _GROUP[row["kind"]]) | own | (apart_mps > ALIKE_MPS)
    distance[other] = np.inf
    best = int(np.argmin(distance))
    return best if distance[best] <= GATE else None


def _join(tracks: np.ndarray, cov_m2: np.ndarray, j: int, row: np.void, cov: np.ndarray) -> None:
    """Merge an estimate into object `j`, by covariance intersection of the least trace."""
    mine, theirs = np.linalg.inv(cov_m2[j]), np.linalg.inv(cov)
    shares = _SHARES[:, None, None]
    options = np.linalg.inv(shares * mine + (1.0 - shares) * theirs)
    best = int(np.argmin(np.trace(options, axis1=1, axis2=2)))
    share, joined = float(_SHARES[best]), options[best]
    here = np.array([tracks["x_m"][j], tracks["y_m"][j]], np.float64)
    there = np.array([row["x_m"], row["y_m"]], np.float64)
    place = joined @ (share * mine @ here + (1.0 - share) * theirs @ there)
    velocity = [share * float(tracks[n][j]) + (1.0 - share) * row[n] for n in ("vx_mps", "vy_mps")]
    if row["score_prob"] > tracks["score_prob"][j]:
        tracks[j] = row
    tracks["x_m"][j], tracks["y_m"][j] = place
    tracks["vx_mps"][j], tracks["vy_mps"][j] = velocity
    cov_m2[j] = joined


def occupied(fused: Fused, x_m: float, y_m: float, cells: int, cell_m: float) -> np.ndarray:
    """Return how probably each cell of a square is taken, uint8 [cells, cells], 255 for surely.

    Args:
        x_m, y_m: middle of the square; cell [0, 0] is its corner of least x and y.
    """
    grid = np.zeros((cells, cells))
    at = (np.arange(cells) + 0.5 - cells / 2) * cell_m
    cx, cy = np.meshgrid(x_m + at, y_m + at, indexing="ij")
    for row, cov in zip(fused.tracks, fused.cov_m2, strict=True):
        c, s = np.cos(row["yaw_rad"]), np.sin(row["yaw_rad"])
        dx, dy = cx - row["x_m"], cy - row["y_m"]
        out_l = np.maximum(0.0, np.abs(c * dx + s * dy) - 0.5 * row["length_m"])
        out_w = np.maximum(0.0, np.abs(c * dy - s * dx) - 0.5 * row["width_m"])
        sigma_m2 = 0.5 * np.trace(cov) + (cell_m / 2) ** 2
        grid = np.maximum(grid, row["score_prob"] * np.exp(-0.5 * (out_l**2 + out_w**2) / sigma_m2))
    return np.rint(grid * 255).astype(np.uint8)
