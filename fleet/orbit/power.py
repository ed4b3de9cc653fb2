"""What a satellite can afford to compute: sun, battery, radiator; and what radiation may flip.

Every figure here is a model's. The Sun is analytic, the shadow a cylinder, the battery a tank, the
satellite one lump of heat; what is asked of them is only whether a batch may start now.

Source: The Astronomical Almanac (2024), page C5, low-precision Sun (0.01 degrees until 2050);
Vallado, Fundamentals of Astrodynamics (2013), section 5.3, shadow; Stefan-Boltzmann for heat.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sgp4.api import Satrec, SatrecArray

from fleet.orbit.constellation import EARTH_KM, Shell, satellites
from fleet.orbit.contacts import DAY_NS, UNIX_JD
from vehicle.contracts import wire
from vehicle.contracts.wire import ContractError, RefusedError, require

STEFAN_BOLTZMANN: Final = 5.670_374e-8
STEP_S: Final = 10.0
Array = NDArray[np.float64]


class NoPowerError(RefusedError):
    """The battery would fall below its reserve; says when to ask again."""


class TooHotError(RefusedError):
    """The satellite would get hotter than its parts may; says when to ask again."""


class UpsetError(RefusedError):
    """No two runs of a computation agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSpec:
    """A satellite of the size of a shoe box, as assumed.

    Args:
        panel_w: of its panels in sunlight, turned to the Sun.
        idle_w, compute_w: of everything but the computer, and of the computer while it computes.
        battery_wh, reserve_ratio: what it holds; a batch may not take it below the reserve.
        radiator_m2, emissivity: what gives its heat to space, at `surroundings_k` on average.
        heat_j_per_k: what warms it by a kelvin.
        absorbed_w: sunlight that becomes heat.
        hottest_k: what its parts bear.
    """

    SCHEMA: ClassVar[str] = "powerspec/1"
    panel_w: float = 90.0
    idle_w: float = 18.0
    compute_w: float = 40.0
    battery_wh: float = 80.0
    reserve_ratio: float = 0.4
    radiator_m2: float = 0.20
    emissivity: float = 0.85
    surroundings_k: float = 190.0
    heat_j_per_k: float = 9_000.0
    absorbed_w: float = 25.0
    hottest_k: float = 323.0

    def __post_init__(self) -> None:
        require(0.0 < self.reserve_ratio < 1.0, f"reserve_ratio is {self.reserve_ratio}")
        require(0.0 < self.emissivity <= 1.0, f"emissivity is {self.emissivity}")
        positive = (self.panel_w, self.battery_wh, self.radiator_m2, self.heat_j_per_k)
        require(min(positive) > 0.0, "a panel, battery, radiator or mass of nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerState:
    """How a satellite is: charge in Wh, temperature in K."""

    charge_wh: float
    temperature_k: float


def sun_direction(jd: Array) -> Array:
    """Return unit vectors (T, 3) to the Sun, mean equator of date, for Julian dates (T,)."""
    n = jd - 2_451_545.0
    anomaly = np.radians((357.528 + 0.985_600_3 * n) % 360.0)
    longitude = np.radians(
        (280.460 + 0.985_647_4 * n + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly)) % 360.0
    )
    tilt = np.radians(23.439 - 4e-7 * n)
    pointing = [
        np.cos(longitude),
        np.cos(tilt) * np.sin(longitude),
        np.sin(tilt) * np.sin(longitude),
    ]
    return np.stack(pointing, axis=-1)


def sunlit(satellite: Satrec, start_utc_ns: int, times_s: Array) -> NDArray[np.bool_]:
    """Return at which times (T,), s after the start, the satellite is out of the Earth's shadow."""
    epoch_jd = UNIX_JD + start_utc_ns / DAY_NS
    days = times_s / 86_400.0
    whole = np.full_like(days, np.floor(epoch_jd))
    place = SatrecArray([satellite]).sgp4(whole, epoch_jd - np.floor(epoch_jd) + days)[1][0]
    sun = sun_direction(epoch_jd + days)
    along = np.einsum("ti,ti->t", place, sun)
    aside = np.linalg.norm(place - along[:, None] * sun, axis=-1)
    lit: NDArray[np.bool_] = (along > 0.0) | (aside > EARTH_KM)
    return lit


def stepped(
    spec: PowerSpec, state: PowerState, *, lit: bool, load_w: float, dt_s: float
) -> PowerState:
    """Return the state after `dt_s` with a computer that takes `load_w`."""
    used_w = spec.idle_w + load_w
    charge = state.charge_wh + ((spec.panel_w if lit else 0.0) - used_w) * dt_s / 3_600.0
    gone_w = (
        STEFAN_BOLTZMANN
        * spec.emissivity
        * spec.radiator_m2
        * (state.temperature_k**4 - spec.surroundings_k**4)
    )
    warmed_w = used_w + (spec.absorbed_w if lit else 0.0) - gone_w
    return PowerState(
        charge_wh=min(spec.battery_wh, max(0.0, charge)),
        temperature_k=state.temperature_k + warmed_w * dt_s / spec.heat_j_per_k,
    )


def after(
    spec: PowerSpec, state: PowerState, lit: Sequence[bool] | NDArray[np.bool_], busy_s: float
) -> tuple[PowerState, float, float]:
    """Return the state after steps of STEP_S, the first `busy_s` computing; the lowest charge
    (Wh) and the highest temperature (K) on the way."""
    lowest, hottest = state.charge_wh, state.temperature_k
    for i, light in enumerate(lit):
        load_w = spec.compute_w if i * STEP_S < busy_s else 0.0
        state = stepped(spec, state, lit=bool(light), load_w=load_w, dt_s=STEP_S)
        lowest, hottest = min(lowest, state.charge_wh), max(hottest, state.temperature_k)
    return state, lowest, hottest


class Board:
    """The budget of one satellite's computer: how it is now, and whether a batch may start.

    Args:
        satellite: as SGP4 knows it.
        state: at `utc_ns`.
    """

    AHEAD_S: Final = 6_000.0
    """How far a batch is thought ahead: more than one round of the Earth."""

    def __init__(
        self,
        satellite: Satrec,
        spec: PowerSpec,
        utc_ns: int,
        state: PowerState | None = None,
    ) -> None:
        self.spec = spec
        self.state = state or PowerState(charge_wh=spec.battery_wh, temperature_k=283.0)
        self._satellite, self._utc_ns = satellite, utc_ns

    def advance(self, utc_ns: int, busy_s: float = 0.0) -> PowerState:
        """Bring the state to `utc_ns`; the computer was busy for the first `busy_s`."""
        steps = int((utc_ns - self._utc_ns) / 1e9 // STEP_S)
        if steps > 0:
            lit = self._lit(self._utc_ns, steps * STEP_S)
            self.state = after(self.spec, self.state, lit, busy_s)[0]
            self._utc_ns += int(steps * STEP_S * 1e9)
        return self.state

    def admit(self, utc_ns: int, busy_s: float) -> None:
        """Let a batch of `busy_s` start now.

        Raises:
            NoPowerError, TooHotError: it may not; the message says from when on it may.
        """
        self.advance(utc_ns)
        refused = self._refused(0.0, busy_s)
        if refused is None:
            return
        waits = np.arange(300.0, self.AHEAD_S, 300.0)
        wait_s = next((w for w in waits if self._refused(float(w), busy_s) is None), None)
        when = f"in {wait_s / 60:.0f} min" if wait_s is not None else "not within the next orbit"
        raise type(refused)(f"{refused}; it may start {when}")

    def sunlit_ratio(self, utc_ns: int, hours: float = 24.0) -> float:
        """Return the share of the time from `utc_ns` on that it is out of the shadow."""
        return float(self._lit(utc_ns, hours * 3_600.0).mean())

    def _refused(self, wait_s: float, busy_s: float) -> RefusedError | None:
        """Return why a batch may not start after a wait, None when it may."""
        spec = self.spec
        lit = self._lit(self._utc_ns, wait_s + self.AHEAD_S)
        before = int(wait_s // STEP_S)
        state = after(spec, self.state, lit[:before], 0.0)[0]
        _, lowest, hottest = after(spec, state, lit[before:], busy_s)
        if lowest < spec.reserve_ratio * spec.battery_wh:
            return NoPowerError(
                f"a batch of {busy_s:.0f} s would leave {lowest:.1f} Wh, the reserve is "
                f"{spec.reserve_ratio * spec.battery_wh:.1f} Wh"
            )
        if hottest > spec.hottest_k:
            return TooHotError(
                f"a batch of {busy_s:.0f} s would heat it to {hottest:.0f} K, it bears "
                f"{spec.hottest_k:.0f} K"
            )
        return None

    def _lit(self, utc_ns: int, length_s: float) -> NDArray[np.bool_]:
        return sunlit(self._satellite, utc_ns, np.arange(0.0, length_s, STEP_S))


Outputs = Mapping[str, np.ndarray]


@dataclass(slots=True)
class Upsets:
    """Flips one bit of an output now and then, as radiation does in memory without protection.

    Args:
        prob: that one run is hit.
        seed: the same seed hits the same runs.
    """

    prob: float
    seed: int = 0
    hits: int = 0

    def __call__(self, outputs: Outputs, run: int) -> Outputs:
        """Return what is left of one run's outputs."""
        rng = np.random.default_rng([self.seed, run, self.hits])
        if rng.random() >= self.prob:
            return outputs
        self.hits += 1
        name = sorted(outputs)[int(rng.integers(len(outputs)))]
        data = bytearray(np.ascontiguousarray(outputs[name]).tobytes())
        if not data:
            return outputs
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        hit = np.frombuffer(bytes(data), outputs[name].dtype).reshape(outputs[name].shape)
        return {**outputs, name: hit}


def digest_of(outputs: Outputs) -> str:
    """Return one sha256 over named arrays: names, types, shapes and bytes."""
    parts = [
        wire.canonical([n, str(a.dtype), list(a.shape)]) + np.ascontiguousarray(a).tobytes()
        for n, a in sorted(outputs.items())
    ]
    return wire.digest(b"".join(parts))


def agreed(
    run: Callable[[], Outputs], upsets: Upsets | None = None, most: int = 5
) -> tuple[Outputs, int]:
    """Return outputs on which two runs agree to the bit, and how many runs that took.

    Args:
        run: deterministic, as the engine is on one thread.
        upsets: what radiation does to each run's outputs.
        most: runs before giving up.
    Raises:
        UpsetError: no two agree.
    """
    seen: dict[str, Outputs] = {}
    for number in range(1, most + 1):
        outputs = run()
        if upsets is not None:
            outputs = upsets(outputs, number)
        digest = digest_of(outputs)
        if digest in seen:
            return outputs, number
        seen[digest] = outputs
    raise UpsetError(f"{most} runs gave {len(seen)} different answers; send it to the ground")


def charged(spec: PowerSpec, ratio: float) -> PowerState:
    """Return a satellite at 283 K whose battery is so full."""
    return replace(
        PowerState(charge_wh=spec.battery_wh, temperature_k=283.0),
        charge_wh=ratio * spec.battery_wh,
    )


def board_of(name: str, shell: Shell, epoch_utc_ns: int, now_utc_ns: int) -> Board:
    """Return the budget of a satellite of a plan, its battery full.

    Args:
        name: sat-PLANE-PLACE.
        shell: that it flies in.
        epoch_utc_ns: of the shell's elements: the plan's start.
    Raises:
        ContractError: the shell has no such satellite.
    """
    try:
        plane, place = (int(part) for part in name.removeprefix("sat-").split("-"))
        record = satellites(shell, UNIX_JD + epoch_utc_ns / DAY_NS)[plane * shell.per_plane + place]
    except (ValueError, IndexError) as error:
        raise ContractError(f"{name!r} is no satellite of the shell: {error}") from error
    return Board(record, PowerSpec(), now_utc_ns)
