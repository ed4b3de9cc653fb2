"""A constellation as it is declared: a Walker shell, sites on the ground, cars, links.

Source: Walker, Satellite constellations (1984), for the pattern T/P/F; the declaration's form is
own work.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sgp4.api import WGS72, Satrec

from fleet.orbit.plan import Kind
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError, require, require_finite

SHIPPED: Final = ("sparse", "dense")
"""Declarations that come with the house: `fleet/orbit/NAME.toml`."""

MU_KM3_S2: Final = 398_600.8
"""Earth's gravity, WGS 72: what SGP4 reckons with."""

EARTH_KM: Final = 6_378.135
"""Equatorial radius, WGS 72."""


class DeclarationError(RefusedError, ValueError):
    """A declaration has an unknown key, a wrong type or a value out of range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Satellites on circular orbits of one height, in planes set evenly around the Earth.

    Args:
        satellites, planes, phasing: T/P/F of Walker's notation.
        inclination_deg, altitude_km: of all; the height above the equator's radius.
        spread_deg: of the planes' ascending nodes: 360 (delta) or 180 (star).
        clearance_km: neighbours in a plane have a laser link where their line of sight passes at
            least this high; None: there are no such links.
    """

    satellites: int
    planes: int
    phasing: int
    inclination_deg: float
    altitude_km: float
    spread_deg: float = 360.0
    clearance_km: float | None = None

    def __post_init__(self) -> None:
        require_finite("shell", inclination_deg=self.inclination_deg, altitude_km=self.altitude_km)
        require(0 < self.satellites <= 10_000, f"shell.satellites is {self.satellites}")
        require(
            self.planes > 0 and self.satellites % self.planes == 0,
            f"shell: {self.satellites} satellites do not divide into {self.planes} planes",
        )
        require(0 <= self.phasing < self.planes, f"shell.phasing is {self.phasing}")
        require(0.0 <= self.inclination_deg <= 180.0, "shell.inclination_deg is not in 0..180")
        require(200.0 <= self.altitude_km <= 2_000.0, "shell.altitude_km is not in 200..2000")
        require(0.0 < self.spread_deg <= 360.0, "shell.spread_deg is not in 0..360")

    @property
    def per_plane(self) -> int:
        """Return how many satellites share a plane."""
        return self.satellites // self.planes

    @property
    def radius_km(self) -> float:
        """Return the orbits' radius."""
        return EARTH_KM + self.altitude_km

    @property
    def grazing_km(self) -> float:
        """Return how high the line of sight between neighbours in a plane passes."""
        return self.radius_km * float(np.cos(np.pi / self.per_plane)) - EARTH_KM


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A ground station or a car.

    Args:
        mask_deg: a satellite lower than this is not heard.
        country: ISO 3166; whose law what lands here stands under.
    """

    name: str
    kind: Literal["ground", "vehicle"]
    latitude_deg: float
    longitude_deg: float
    country: str
    altitude_m: float = 0.0
    mask_deg: float = 10.0

    def __post_init__(self) -> None:
        require(-90.0 <= self.latitude_deg <= 90.0, f"site {self.name}: latitude out of range")
        require(-180.0 <= self.longitude_deg <= 180.0, f"site {self.name}: longitude out of range")
        require(0.0 <= self.mask_deg < 90.0, f"site {self.name}: mask_deg is {self.mask_deg}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bits a second of each kind of link; all of them assumptions, the declaration says whose."""

    vehicle_up_bps: int
    vehicle_down_bps: int
    ground_up_bps: int
    ground_down_bps: int
    laser_bps: int

    def of(self, source: Kind, target: Kind) -> int:
        """Return the rate from one kind of node to another."""
        if source == target:
            return self.laser_bps
        if source == "satellite":
            return self.ground_down_bps if target == "ground" else self.vehicle_down_bps
        return self.ground_up_bps if source == "ground" else self.vehicle_up_bps


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a contact plan is made from."""

    SCHEMA: ClassVar[str] = "constellation/1"
    name: str
    shell: Shell
    rates: Rates
    sites: tuple[Site, ...]

    @classmethod
    def read(cls, name: str) -> "Declaration":
        """Return a shipped declaration by name, or the one in a file.

        Raises:
            DeclarationError: unreadable, an unknown key, a wrong type or a value out of range.
        """
        shipped = name in SHIPPED
        source = files("fleet") / "orbit" / f"{name}.toml" if shipped else Path(name)
        try:
            plain = tomllib.loads(source.read_text())
            return wire.from_plain(cls, {"schema": cls.SCHEMA, **plain})
        except (OSError, ValueError) as error:
            raise DeclarationError(
                f"{source}: {error}; expected one of {', '.join(SHIPPED)} or a TOML file like "
                "fleet/orbit/sparse.toml"
            ) from error


def satellite_name(shell: Shell, index: int) -> str:
    """Return the name of a satellite: its plane and its place in it."""
    return f"sat-{index // shell.per_plane}-{index % shell.per_plane}"


def satellites(shell: Shell, epoch_jd: float) -> list[Satrec]:
    """Return the shell's satellites as SGP4 knows them, plane by plane.

    Drag is nought: a declared constellation is kept where it is declared.

    Args:
        epoch_jd: of the elements, Julian date (UTC).
    """
    motion_radpmin = 60.0 * np.sqrt(MU_KM3_S2 / shell.radius_km**3)
    made = []
    for index in range(shell.satellites):
        plane, place = divmod(index, shell.per_plane)
        node = shell.spread_deg * plane / shell.planes
        anomaly = 360.0 * (place / shell.per_plane + shell.phasing * plane / shell.satellites)
        record = Satrec()
        record.sgp4init(
            WGS72,
            "i",
            index % 100_000,
            epoch_jd - 2_433_281.5,  # days since 31 December 1949
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            np.radians(shell.inclination_deg),
            np.radians(anomaly % 360.0),
            motion_radpmin,
            np.radians(node),
        )
        made.append(record)
    return made


def site_ecef_km(site: Site) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a site's place (3,) in Earth-fixed km, and its geodetic up (3,), on WGS 84."""
    latitude, longitude = np.radians(site.latitude_deg), np.radians(site.longitude_deg)
    up = np.array(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    a_km, e2 = 6_378.137, 6.694_379_990_14e-3
    n_km = a_km / np.sqrt(1.0 - e2 * np.sin(latitude) ** 2)
    height_km = site.altitude_m / 1_000.0
    place = (n_km + height_km) * up
    place[2] = (n_km * (1.0 - e2) + height_km) * np.sin(latitude)
    return place, up
