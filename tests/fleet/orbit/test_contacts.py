"""Contacts of declared constellations against the figures that were computed apart from this code
(an independent script over sgp4, docs/decisions/0027), and against brute looking."""

from dataclasses import replace

import numpy as np
import pytest
from sgp4.api import SatrecArray

from fleet.orbit.constellation import (
    Declaration,
    DeclarationError,
    Shell,
    Site,
    satellites,
    site_ecef_km,
)
from fleet.orbit.contacts import UNIX_JD, _seen, _turned, coverage, make_plan, passes, sidereal_rad

START_NS = 1_767_225_600 * 10**9
SPARSE = Shell(satellites=24, planes=3, phasing=1, inclination_deg=53.0, altitude_km=550.0)
DENSE = Shell(satellites=1_584, planes=72, phasing=17, inclination_deg=53.0, altitude_km=550.0)
STAR = Shell(satellites=66, planes=6, phasing=2, inclination_deg=86.4, altitude_km=780.0)
PLANE = Shell(satellites=16, planes=1, phasing=0, inclination_deg=97.8, altitude_km=600.0)


def user(mask_deg):
    return Site(
        name="user",
        kind="vehicle",
        latitude_deg=37.4,
        longitude_deg=-122.1,
        country="US",
        mask_deg=mask_deg,
    )


@pytest.mark.parametrize(
    ("shell", "hours", "mask_deg", "covered", "gap_min", "pass_s"),
    [
        (SPARSE, 24, 25.0, 0.155, 301, 222),
        (SPARSE, 24, 10.0, 0.457, 100, 365),
        (STAR, 24, 25.0, 0.373, 114, 288),
        (PLANE, 24, 25.0, 0.083, 675, 224),
        (PLANE, 24, 10.0, 0.207, 613, 403),
        (DENSE, 2, 25.0, 1.0, 0, 217),
        (DENSE, 2, 10.0, 1.0, 0, 355),
    ],
)
def test_coverage_is_what_was_computed_apart(shell, hours, mask_deg, covered, gap_min, pass_s):
    found = coverage(
        user(mask_deg), passes(shell, [user(mask_deg)], START_NS, hours)["user"], hours
    )
    assert found.covered_ratio == pytest.approx(covered, abs=0.02)
    assert found.longest_gap_s / 60 == pytest.approx(gap_min, abs=12)
    assert found.mean_pass_s == pytest.approx(pass_s, rel=0.05)
    assert found.passes >= 30


def test_rise_and_set_are_where_looking_each_second_finds_them():
    site, hours = user(10.0), 3
    epoch = UNIX_JD + START_NS / 86_400e9
    days = np.arange(0, hours * 3600) / 86_400
    teme = SatrecArray(satellites(SPARSE, epoch)).sgp4(np.full_like(days, epoch), days)[1]
    high = _seen(_turned(teme, sidereal_rad(epoch + days)), site)[0] > 10.0
    found = passes(SPARSE, [site], START_NS, hours)["user"]
    assert len(found) > 5
    for one in found:
        seen = np.flatnonzero(high[one.satellite])
        mine = seen[(seen > one.start_s - 5) & (seen < one.end_s + 5)]
        assert abs(mine[0] - one.start_s) < 1.5
        assert abs(mine[-1] - one.end_s) < 1.5


def test_satellite_straight_above_stands_at_ninety_degrees_of_the_geodetic_vertical():
    site = user(0.0)
    place, up = site_ecef_km(site)
    elevation, range_km = _seen((place + 550.0 * up)[None, None, :], site)
    assert elevation[0, 0] == pytest.approx(90.0, abs=1e-4)
    assert range_km[0, 0] == pytest.approx(550.0)


def test_plan_says_both_directions_at_their_own_rates_and_how_long_light_takes():
    plan = make_plan(Declaration.read("sparse"), START_NS, 6)
    up = next(c for c in plan.contacts if c.source == "car-1")
    down = next(c for c in plan.contacts if (c.target, c.source) == (up.source, up.target))
    assert (up.start_utc_ns, up.end_utc_ns) == (down.start_utc_ns, down.end_utc_ns)
    assert (up.rate_bps, down.rate_bps) == (2_000_000, 8_000_000)
    assert 1_800 < up.light_us < 5_000
    assert plan.node("ground-no").country == "NO"


def test_neighbours_whose_sight_grazes_the_ground_have_no_laser():
    declared = Declaration.read("sparse")
    assert 0.0 < declared.shell.grazing_km < 30.0
    blind = replace(declared, shell=replace(declared.shell, clearance_km=80.0))
    low = replace(declared, shell=replace(declared.shell, clearance_km=20.0))
    counts = [
        sum(c.source.startswith("sat") and c.target.startswith("sat") for c in p.contacts)
        for p in (make_plan(d, START_NS, 1) for d in (blind, low))
    ]
    assert counts == [0, 48]


@pytest.mark.parametrize(
    "text",
    [
        'name = "x"\nwarp = 9',
        'name = "x"\n[shell]\nsatellites = 5\nplanes = 2\nphasing = 0\ninclination_deg = 53.0\n'
        "altitude_km = 550.0",
        "not toml at all [",
    ],
)
def test_declaration_that_is_none_is_refused_by_name(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(DeclarationError):
        Declaration.read(str(path))
