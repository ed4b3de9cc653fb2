"""The start of a world: enough words for the simulator to build the same episode again."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from vehicle.contracts.wire import require, require_finite

LightName = Literal["day", "dusk", "night"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One start of a world; an episode is one run of it.

    Args:
        town: number of the town.
        seed: of everything else that is drawn.
        light: "day", "dusk" or "night".
        family: name in sim/story/families.py.
        rate_hz: ticks per second.
        duration_s: how long an episode lasts.
        parameters: numbers that replace the family's own, by name.
        weather: name in sim/look/weather.py.
    """

    SCHEMA: ClassVar[str] = "scenario/1"
    town: int
    seed: int
    light: LightName = "day"
    family: str = "town_drive"
    rate_hz: float = 10.0
    duration_s: float = 60.0
    parameters: dict[str, float] = field(default_factory=dict)
    weather: str = "clear"

    def __post_init__(self) -> None:
        require_finite("Scenario", rate_hz=self.rate_hz, duration_s=self.duration_s)
        require_finite("Scenario.parameters", **self.parameters)
        require(self.seed >= 0, f"Scenario.seed is {self.seed}, expected >= 0")
        require(self.town >= 0, f"Scenario.town is {self.town}, expected >= 0")
        require(
            1.0 <= self.rate_hz <= 200.0, f"Scenario.rate_hz is {self.rate_hz}, expected 1..200"
        )
        require(self.duration_s > 0.0, f"Scenario.duration_s is {self.duration_s}, expected > 0")
        require(self.light in get_args(LightName), f"Scenario.light is {self.light!r}")
        require(bool(self.weather), "Scenario.weather is empty, expected e.g. 'clear'")
