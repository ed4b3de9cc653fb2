"""From orbits to contacts: when each satellite stands high enough over each site.

Positions by SGP4, turned with the Earth (mean sidereal time; polar motion and UT1 are left out:
metres and milliseconds), looked at from the ellipsoid's own vertical. A rise is found between two
samples by interpolation; a pass shorter than a step can be missed.

Source: Vallado et al., Revisiting Spacetrack Report #3 (2006), for SGP4 and its frame (TEME);
Vallado, Fundamentals of Astrodynamics (2013), equation 3-45, for sidereal time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sgp4.api import SatrecArray

from fleet.orbit.constellation import (
    Declaration,
    Shell,
    Site,
    satellite_name,
    satellites,
    site_ecef_km,
)
from fleet.orbit.plan import Contact, ContactPlan, PlanNode

LIGHT_KM_S: Final = 299_792.458
STEP_S: Final = 20.0
AT_ONCE: Final = 64
"""Satellites propagated in one piece: bounds the memory."""

UNIX_JD: Final = 2_440_587.5
DAY_NS: Final = 86_400 * 10**9
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A satellite over a site.

    Args:
        start_s, end_s: after the plan's start.
        near_km, far_km: distance at its nearest and at its farthest.
    """

    satellite: int
    start_s: float
    end_s: float
    near_km: float
    far_km: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How well a site is covered.

    Args:
        covered_ratio: share of the time with at least one satellite above the mask.
        longest_gap_s: longest time without.
        mean_pass_s, passes: of passes that begin and end within the time looked at.
        nearest_light_ms: one way, to the nearest satellite ever.
    """

    site: str
    mask_deg: float
    covered_ratio: float
    longest_gap_s: float
    mean_pass_s: float
    passes: int
    nearest_light_ms: float


def sidereal_rad(jd: Array) -> Array:
    """Return Greenwich mean sidereal time of Julian dates (UTC taken for UT1), rad."""
    t = (jd - 2_451_545.0) / 36_525.0
    seconds = 67_310.548_41 + (876_600 * 3_600 + 8_640_184.812_866) * t + 0.093_104 * t**2
    turned: Array = np.radians((seconds - 6.2e-6 * t**3) / 240.0 % 360.0)
    return turned


def passes(
    shell: Shell, sites: Sequence[Site], start_utc_ns: int, hours: float, step_s: float = STEP_S
) -> dict[str, list[Pass]]:
    """Return each site's passes, by satellite and time."""
    epoch_jd = UNIX_JD + start_utc_ns / DAY_NS
    times_s = np.arange(0.0, hours * 3_600.0 + step_s, step_s)
    days = times_s / 86_400.0
    angle = sidereal_rad(epoch_jd + days)
    records = satellites(shell, epoch_jd)
    found: dict[str, list[Pass]] = {site.name: [] for site in sites}
    for first in range(0, len(records), AT_ONCE):
        group = SatrecArray(records[first : first + AT_ONCE])
        whole = np.full_like(days, np.floor(epoch_jd))
        errors, teme_km, _ = group.sgp4(whole, epoch_jd - np.floor(epoch_jd) + days)
        if errors.any():
            raise ValueError(f"SGP4 fails with code {errors.max()} for {shell}")
        ecef_km = _turned(teme_km, angle)
        for site in sites:
            elevation, range_km = _seen(ecef_km, site)
            for index in range(len(ecef_km)):
                mine = _windows(elevation[index] - site.mask_deg, range_km[index], times_s)
                found[site.name] += (
                    Pass(satellite=first + index, start_s=a, end_s=b, near_km=near, far_km=far)
                    for a, b, near, far in mine
                )
    return found


def _turned(teme_km: Array, angle_rad: Array) -> Array:
    """Return positions (S, T, 3) in the Earth-fixed frame."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    x, y, z = np.moveaxis(teme_km, -1, 0)
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=-1)


def _seen(ecef_km: Array, site: Site) -> tuple[Array, Array]:
    """Return elevation (deg) and distance (km) of satellites (S, T) from a site."""
    place, up = site_ecef_km(site)
    away = ecef_km - place
    range_km = np.linalg.norm(away, axis=-1)
    return np.degrees(np.arcsin(away @ up / range_km)), range_km


def _windows(
    above: Array, range_km: Array, times_s: Array
) -> Iterator[tuple[float, float, float, float]]:
    """Yield start, end, nearest and farthest of each stretch where `above` is positive."""
    high = above > 0.0
    edges = np.flatnonzero(high[1:] != high[:-1])
    share = above[edges] / (above[edges] - above[edges + 1])
    crossed = times_s[edges] + share * (times_s[edges + 1] - times_s[edges])
    far = range_km[edges] + share * (range_km[edges + 1] - range_km[edges])
    starts = [
        (float(t), float(d)) for t, d, e in zip(crossed, far, edges, strict=True) if high[e + 1]
    ]
    ends = [(float(t), float(d)) for t, d, e in zip(crossed, far, edges, strict=True) if high[e]]
    if high[0]:
        starts.insert(0, (float(times_s[0]), float(range_km[0])))
    if high[-1]:
        ends.append((float(times_s[-1]), float(range_km[-1])))
    for (start, far_a), (end, far_b) in zip(starts, ends, strict=True):
        inside = range_km[(times_s >= start) & (times_s <= end)]
        every = [far_a, far_b, *inside.tolist()]
        if end > start:
            yield start, end, min(every), max(every)


def make_plan(declared: Declaration, start_utc_ns: int, hours: float) -> ContactPlan:
    """Return the contact plan of a declared constellation.

    Sites are numbered from 1, satellites from 101.
    """
    shell = declared.shell
    nodes = [
        PlanNode(name=s.name, number=i, kind=s.kind, country=s.country)
        for i, s in enumerate(declared.sites, start=1)
    ]
    nodes += [
        PlanNode(name=satellite_name(shell, i), number=101 + i, kind="satellite")
        for i in range(shell.satellites)
    ]
    end_utc_ns = start_utc_ns + int(hours * 3_600e9)
    contacts = list(_lasers(declared, start_utc_ns, end_utc_ns))
    kinds = {site.name: site.kind for site in declared.sites}
    for site, seen in passes(shell, declared.sites, start_utc_ns, hours).items():
        for one in seen:
            satellite = satellite_name(shell, one.satellite)
            begin = start_utc_ns + int(one.start_s * 1e9)
            end = min(end_utc_ns, start_utc_ns + int(one.end_s * 1e9))
            up = declared.rates.of(kinds[site], "satellite")
            down = declared.rates.of("satellite", kinds[site])
            for source, target, rate in ((site, satellite, up), (satellite, site, down)):
                if begin < end:
                    contacts.append(
                        Contact(
                            source=source,
                            target=target,
                            start_utc_ns=begin,
                            end_utc_ns=end,
                            rate_bps=rate,
                            light_us=_light_us(one.far_km),
                        )
                    )
    contacts.sort(key=lambda c: (c.start_utc_ns, c.source, c.target))
    return ContactPlan(
        name=declared.name,
        start_utc_ns=start_utc_ns,
        end_utc_ns=end_utc_ns,
        nodes=tuple(nodes),
        contacts=tuple(contacts),
    )


def _lasers(declared: Declaration, start_utc_ns: int, end_utc_ns: int) -> Iterator[Contact]:
    """Yield the links between neighbours in a plane: always there, or never."""
    shell = declared.shell
    if shell.clearance_km is None or shell.grazing_km < shell.clearance_km or shell.per_plane < 2:
        return
    apart_km = 2.0 * shell.radius_km * float(np.sin(np.pi / shell.per_plane))
    for index in range(shell.satellites):
        plane, place = divmod(index, shell.per_plane)
        for step in sorted({1, shell.per_plane - 1}):
            other = plane * shell.per_plane + (place + step) % shell.per_plane
            yield Contact(
                source=satellite_name(shell, index),
                target=satellite_name(shell, other),
                start_utc_ns=start_utc_ns,
                end_utc_ns=end_utc_ns,
                rate_bps=declared.rates.laser_bps,
                light_us=_light_us(apart_km),
            )


def _light_us(range_km: float) -> int:
    return int(np.ceil(range_km / LIGHT_KM_S * 1e6))


def coverage(site: Site, seen: Sequence[Pass], hours: float) -> Coverage:
    """Return how well a site is covered by its passes."""
    end_s = hours * 3_600.0
    covered, gap, until = 0.0, 0.0, 0.0
    for start, end in sorted((p.start_s, min(p.end_s, end_s)) for p in seen):
        gap = max(gap, start - until)
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    whole = [p for p in seen if p.start_s > 0.0 and p.end_s < end_s]
    near_km = min((p.near_km for p in seen), default=float("nan"))
    return Coverage(
        site=site.name,
        mask_deg=site.mask_deg,
        covered_ratio=covered / end_s,
        longest_gap_s=max(gap, end_s - until),
        mean_pass_s=float(np.mean([p.end_s - p.start_s for p in whole])) if whole else 0.0,
        passes=len(whole),
        nearest_light_ms=near_km / LIGHT_KM_S * 1e3,
    )
