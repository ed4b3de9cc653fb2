"""Earth-fixed coordinates to a local east-north-up frame and to degrees (WGS84).

Source: B. R. Bowring, Transformation from spatial to geographical coordinates (1976); one step is
exact to micrometres at the heights of roads.
"""

from typing import Final

import numpy as np

_A_M: Final = 6_378_137.0
_F: Final = 1.0 / 298.257223563
_B_M: Final = _A_M * (1.0 - _F)
_E2: Final = _F * (2.0 - _F)


def latlon_from_ecef(xyz_m: np.ndarray) -> np.ndarray:
    """Return latitude and longitude, degrees [..., 2], of ECEF points [..., 3]."""
    x, y, z = np.moveaxis(xyz_m, -1, 0)
    p = np.hypot(x, y)
    theta = np.arctan2(z * _A_M, p * _B_M)
    ep2 = _E2 / (1.0 - _E2)
    latitude = np.arctan2(z + ep2 * _B_M * np.sin(theta) ** 3, p - _E2 * _A_M * np.cos(theta) ** 3)
    return np.degrees(np.stack([latitude, np.arctan2(y, x)], axis=-1))


def ecef_from_latlon(latlon_deg: np.ndarray, height_m: np.ndarray) -> np.ndarray:
    """Return ECEF points [..., 3] of degrees [..., 2] and heights above the ellipsoid."""
    lat, lon = np.radians(np.moveaxis(latlon_deg, -1, 0))
    n = _A_M / np.sqrt(1.0 - _E2 * np.sin(lat) ** 2)
    xy = (n + height_m) * np.cos(lat)
    return np.stack(
        [xy * np.cos(lon), xy * np.sin(lon), (n * (1.0 - _E2) + height_m) * np.sin(lat)], axis=-1
    )


def enu_from_ecef(origin_m: np.ndarray) -> np.ndarray:
    """Return the 3x3 rotation from ECEF axes to east, north, up at `origin_m` [3]."""
    lat, lon = np.radians(latlon_from_ecef(origin_m))
    sin_lat, cos_lat, sin_lon, cos_lon = np.sin(lat), np.cos(lat), np.sin(lon), np.cos(lon)
    return np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def latlon_from_utm(easting_m: np.ndarray, northing_m: np.ndarray, zone: int) -> np.ndarray:
    """Return degrees [..., 2] of UTM coordinates, northern hemisphere.

    Source: J. P. Snyder, Map Projections: A Working Manual, USGS PP 1395 (1987), eq. 8-17 to 8-25.
    """
    k0, ep2 = 0.9996, _E2 / (1.0 - _E2)
    e1 = (1 - np.sqrt(1 - _E2)) / (1 + np.sqrt(1 - _E2))
    mu = northing_m / k0 / (_A_M * (1 - _E2 / 4 - 3 * _E2**2 / 64 - 5 * _E2**3 / 256))
    phi = (
        mu
        + (3 * e1 / 2 - 27 * e1**3 / 32) * np.sin(2 * mu)
        + (21 * e1**2 / 16 - 55 * e1**4 / 32) * np.sin(4 * mu)
        + 151 * e1**3 / 96 * np.sin(6 * mu)
    )
    sin2, t, c = np.sin(phi) ** 2, np.tan(phi) ** 2, ep2 * np.cos(phi) ** 2
    n = _A_M / np.sqrt(1 - _E2 * sin2)
    r = _A_M * (1 - _E2) / (1 - _E2 * sin2) ** 1.5
    d = (easting_m - 500_000.0) / (n * k0)
    latitude = phi - n * np.tan(phi) / r * (
        d**2 / 2 - (5 + 3 * t + 10 * c - 4 * c**2 - 9 * ep2) * d**4 / 24
    )
    longitude = (
        d
        - (1 + 2 * t + c) * d**3 / 6
        + (5 - 2 * c + 28 * t - 3 * c**2 + 8 * ep2 + 24 * t**2) * d**5 / 120
    ) / np.cos(phi)
    return np.stack([np.degrees(latitude), np.degrees(longitude) + zone * 6 - 183], axis=-1)
