import numpy as np
import pytest

from fleet.orbit.constellation import Shell, satellites
from fleet.orbit.contacts import UNIX_JD
from fleet.orbit.power import (
    Board,
    NoPowerError,
    PowerSpec,
    PowerState,
    TooHotError,
    UpsetError,
    Upsets,
    agreed,
    charged,
    stepped,
    sun_direction,
    sunlit,
)

EQUINOX_NS = 1_774_017_960 * 10**9  # 2026-03-20 14:46 UTC (USNO)
JUNE_NS = 1_782_030_240 * 10**9  # solstice, 2026-06-21 08:24 UTC (USNO)


def satellite(utc_ns, inclination_deg=53.0, altitude_km=550.0, planes=1):
    shell = Shell(
        satellites=planes,
        planes=planes,
        phasing=0,
        inclination_deg=inclination_deg,
        altitude_km=altitude_km,
    )
    return satellites(shell, UNIX_JD + utc_ns / 86_400e9)


def test_sun_stands_over_the_equator_at_the_equinox_and_over_the_tropic_in_june():
    at = np.array([UNIX_JD + EQUINOX_NS / 86_400e9, UNIX_JD + JUNE_NS / 86_400e9])
    sun = sun_direction(at)
    assert np.degrees(np.arcsin(sun[0, 2])) == pytest.approx(0.0, abs=0.02)
    assert np.degrees(np.arctan2(sun[0, 1], sun[0, 0])) == pytest.approx(0.0, abs=0.02)
    assert np.degrees(np.arcsin(sun[1, 2])) == pytest.approx(23.44, abs=0.02)


def test_orbit_through_the_shadow_is_dark_for_what_geometry_says():
    board = Board(satellite(EQUINOX_NS, inclination_deg=0.0)[0], PowerSpec(), EQUINOX_NS)
    dark = np.arcsin(6_378.135 / (6_378.135 + 550.0)) / np.pi
    assert board.sunlit_ratio(EQUINOX_NS) == pytest.approx(1.0 - dark, abs=0.01)


def test_plane_across_the_sun_is_never_dark():
    shell = Shell(satellites=4, planes=4, phasing=0, inclination_deg=90.0, altitude_km=1_500.0)
    records = satellites(shell, UNIX_JD + EQUINOX_NS / 86_400e9)
    times = np.arange(0.0, 7_200.0, 10.0)
    shares = [sunlit(r, EQUINOX_NS, times).mean() for r in records]
    assert min(shares) < 0.8
    assert max(shares) == 1.0


def test_temperature_settles_where_heat_in_is_heat_out():
    spec, state = PowerSpec(), PowerState(charge_wh=80.0, temperature_k=250.0)
    for _ in range(20_000):
        state = stepped(spec, state, lit=True, load_w=0.0, dt_s=10.0)
    gain = spec.idle_w + spec.absorbed_w
    area = 5.670_374e-8 * spec.emissivity * spec.radiator_m2
    assert state.temperature_k == pytest.approx((gain / area + spec.surroundings_k**4) ** 0.25)
    assert state.charge_wh == spec.battery_wh


def test_batch_waits_for_the_battery_and_is_told_when_to_come_back():
    record, dusk_ns = satellite(EQUINOX_NS)[0], EQUINOX_NS + 1_700 * 10**9
    full = Board(record, PowerSpec(), dusk_ns)
    full.admit(dusk_ns, 1_200.0)
    low = Board(record, PowerSpec(), dusk_ns, charged(PowerSpec(), 0.6))
    with pytest.raises(NoPowerError, match=r"it may start in \d+ min"):
        low.admit(dusk_ns, 1_200.0)
    before_wh = low.state.charge_wh
    assert low.advance(dusk_ns + 1_000 * 10**9).charge_wh < before_wh
    assert low.advance(dusk_ns + 5_000 * 10**9).charge_wh > before_wh


def test_batch_waits_for_the_radiator():
    hot = PowerState(charge_wh=80.0, temperature_k=322.0)
    board = Board(satellite(EQUINOX_NS)[0], PowerSpec(compute_w=80.0), EQUINOX_NS, hot)
    with pytest.raises(TooHotError, match="it bears 323 K"):
        board.admit(EQUINOX_NS, 1_200.0)


def test_flipped_bit_is_found_by_running_again_and_the_answer_is_the_right_one():
    truth = {"scores": np.arange(64, dtype=np.float32)}
    rng_hits, more = 0, 0
    for seed in range(200):
        upsets = Upsets(prob=0.3, seed=seed)
        outputs, runs = agreed(lambda: truth, upsets, most=8)
        np.testing.assert_array_equal(outputs["scores"], truth["scores"])
        rng_hits, more = rng_hits + upsets.hits, more + (runs > 2)
    assert rng_hits > 100
    assert more > 50


def test_computer_that_is_always_hit_gives_no_answer_rather_than_a_wrong_one():
    with pytest.raises(UpsetError):
        agreed(lambda: {"x": np.zeros(1_000)}, Upsets(prob=1.0, seed=1))
