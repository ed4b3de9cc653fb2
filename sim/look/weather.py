"""Weather and what else spoils a picture, as pure data: what each kind changes, and by how much.

A kind is a set of ranges; an episode draws one number from each by its seed. Nothing here draws a
pixel: sim.look.render hands the numbers to sim.look.air (between the world and the lens) and to
sim.look.lens.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from vehicle.contracts.wire import RefusedError

LIGHTS: Final = ("day", "dusk", "night")
"""Times of day a scenario may have."""


class UnknownWeatherError(RefusedError, ValueError):
    """No weather has this name."""


class Weather(NamedTuple):
    """The numbers of one episode's weather; the defaults are a clear day through a clean lens.

    Args:
        sun_ratio: of the direct sun that comes through.
        sky_ratio: brightness of sky and ambient light.
        grey_ratio: 0 the sky's own colours, 1 an overcast sky.
        sun_height_rad: above the horizon; 0 leaves it to the light.
        extinction_1pm: of the air, 3.9 / visibility (Koschmieder 1924).
        wet_ratio: 0 a dry road, 1 a film of water that mirrors.
        rain_ratio: 1 a heavy shower before the lens.
        wind_mps: sideways speed of the falling drops.
        drops_ratio: water on the lens. dirt_ratio: dirt on the lens.
        glare_ratio: sun light scattered in lens and air. bloom_ratio: the same of all that shines.
        gain_ratio: exposure, 1 for right. noise_ratio: sensor noise, 1 as in the light's own range.
        lamps_ratio: 1 where cars drive with their lamps on by day.
    """

    sun_ratio: float = 1.0
    sky_ratio: float = 1.0
    grey_ratio: float = 0.0
    sun_height_rad: float = 0.0
    extinction_1pm: float = 0.0
    wet_ratio: float = 0.0
    rain_ratio: float = 0.0
    wind_mps: float = 0.0
    drops_ratio: float = 0.0
    dirt_ratio: float = 0.0
    glare_ratio: float = 0.0
    bloom_ratio: float = 0.0
    gain_ratio: float = 1.0
    noise_ratio: float = 1.0
    lamps_ratio: float = 0.0


CLEAR: Final = Weather()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherKind:
    """What a weather is called to mean, and the range each of its numbers is drawn from."""

    about: str
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> Weather:
        """Return one weather of this kind."""
        return Weather(**{name: float(rng.uniform(*ends)) for name, ends in self.ranges.items()})


WEATHERS: Final = {
    "clear": WeatherKind(about="Clear air, dry road, clean lens."),
    "rain": WeatherKind(
        about="Streaks, drops on the lens, a road that mirrors, grey sky, lamps on.",
        ranges={
            "sun_ratio": (0.0, 0.1),
            "sky_ratio": (0.65, 0.9),
            "grey_ratio": (0.9, 1.0),
            "extinction_1pm": (0.006, 0.016),
            "wet_ratio": (0.75, 1.0),
            "rain_ratio": (0.45, 1.0),
            "wind_mps": (-3.0, 3.0),
            "drops_ratio": (0.3, 1.0),
            "bloom_ratio": (0.35, 0.6),
            "noise_ratio": (1.1, 1.6),
            "lamps_ratio": (1.0, 1.0),
        },
    ),
    "fog": WeatherKind(
        about="Visibility of 45 to 120 m, no shadows, lamps on.",
        ranges={
            "sun_ratio": (0.0, 0.05),
            "sky_ratio": (0.8, 1.0),
            "grey_ratio": (0.9, 1.0),
            "extinction_1pm": (0.033, 0.087),
            "bloom_ratio": (0.6, 0.9),
            "lamps_ratio": (1.0, 1.0),
        },
    ),
    "glare": WeatherKind(
        about="A low sun into some of the cameras; by night, lamps that dazzle.",
        ranges={
            "sun_height_rad": (0.07, 0.2),
            "sky_ratio": (0.85, 1.0),
            "extinction_1pm": (0.001, 0.003),
            "glare_ratio": (0.8, 1.25),
            "bloom_ratio": (0.7, 1.0),
        },
    ),
    "wet": WeatherKind(
        about="After the rain: a road with puddles that mirrors houses, cars and lamps.",
        ranges={
            "sun_ratio": (0.35, 0.8),
            "sky_ratio": (0.8, 1.0),
            "grey_ratio": (0.2, 0.8),
            "wet_ratio": (0.8, 1.0),
            "bloom_ratio": (0.15, 0.3),
        },
    ),
    "dirty_lens": WeatherKind(
        about="Smears and specks on every lens, each its own.",
        ranges={"dirt_ratio": (0.55, 1.0), "bloom_ratio": (0.25, 0.5)},
    ),
    "noisy": WeatherKind(
        about="A sensor that is too warm: noise, four to eight times the usual.",
        ranges={"noise_ratio": (4.0, 8.0)},
    ),
    "overexposed": WeatherKind(
        about="Exposed too long: bright things burn out and bloom.",
        ranges={"gain_ratio": (1.7, 2.5), "bloom_ratio": (0.4, 0.7)},
    ),
    "underexposed": WeatherKind(
        about="Exposed too briefly: dark, with little left above the noise.",
        ranges={"gain_ratio": (0.22, 0.42)},
    ),
}


def kind_of(name: str) -> WeatherKind:
    """Return the kind of weather of a name.

    Raises:
        UnknownWeatherError: names the ones there are.
    """
    if name not in WEATHERS:
        raise UnknownWeatherError(f"weather {name!r} is unknown; known: {', '.join(WEATHERS)}")
    return WEATHERS[name]
