"""How much CO2 a kilowatt-hour costs, where and when: traces replayed behind a known interface.

The interface has the names and the meaning of the Green Software Foundation's Carbon Aware SDK
(EmissionsData; emissions by locations, the best of them, the average), which is .NET and so not
called. What ships is declared: yearly means that were published, times a shape of the day that is
ours. Nothing here is a measurement of any hour.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from vehicle.contracts.wire import RefusedError, require, require_finite

JOULES_PER_KWH: Final = 3.6e6

MEANS_2023: Final[dict[str, float]] = {
    "DE": 381.0,
    "FR": 56.0,
    "AT": 111.0,
    "BE": 138.0,
    "DK": 152.0,
    "FI": 79.0,
    "IE": 291.0,
    "NO": 30.0,
    "IN": 713.0,
    "CN": 582.0,
}
"""Grams of CO2 equivalent per kWh generated, mean of 2023. Source: Ember and Energy Institute in
ourworldindata.org/grapher/carbon-intensity-electricity (table, 1990 to 2023); NO: Ember in
statista.com 943137."""

SUN_SHARE: Final = 0.25
"""How far the synthetic day dips at noon and rises at night, of the mean: assumed."""


class UnknownLocationError(RefusedError):
    """No trace says anything of that place, or of that time there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmissionsData:
    """What one place's electricity costs for a while.

    Args:
        location: ISO 3166.
        time: when it begins, UTC.
        rating: grams of CO2 equivalent per kWh.
        duration: how long it holds.
    """

    location: str
    time: datetime
    rating: float
    duration: timedelta

    def __post_init__(self) -> None:
        require(self.time.tzinfo is not None, f"{self.location}: a time without a zone")
        require_finite("EmissionsData", rating=self.rating)
        require(self.rating >= 0.0, f"{self.location}: rating is {self.rating}")


class CarbonAware(Protocol):
    """What the SDK offers of it, and the router needs."""

    def get_emissions_data(
        self, locations: Sequence[str], start: datetime, end: datetime
    ) -> list[EmissionsData]:
        """Return all that holds between `start` and `end`, in order of time."""
        ...

    def get_best_emissions_data(
        self, locations: Sequence[str], start: datetime, end: datetime
    ) -> list[EmissionsData]:
        """Return the lowest of them; several when they are equal."""
        ...

    def get_average_carbon_intensity(self, location: str, start: datetime, end: datetime) -> float:
        """Return the mean rating, weighted by how long each holds."""
        ...


class Trace:
    """A trace replayed: `CarbonAware` over rows that are kept."""

    def __init__(self, rows: Sequence[EmissionsData], source: str) -> None:
        self.source = source
        self._rows: dict[str, list[EmissionsData]] = {}
        for row in sorted(rows, key=lambda r: r.time):
            self._rows.setdefault(row.location, []).append(row)

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """Return the trace of a CSV file: location, time (ISO 8601), rating, duration (s).

        Raises:
            UnknownLocationError: it is none.
        """
        try:
            with path.open(newline="") as file:
                rows = [
                    EmissionsData(
                        location=row["location"],
                        time=datetime.fromisoformat(row["time"]),
                        rating=float(row["rating"]),
                        duration=timedelta(seconds=float(row["duration"])),
                    )
                    for row in csv.DictReader(file)
                ]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UnknownLocationError(f"{path} is no trace: {error!r}") from error
        return cls(rows, str(path))

    def get_emissions_data(
        self, locations: Sequence[str], start: datetime, end: datetime
    ) -> list[EmissionsData]:
        """Return all that holds between `start` and `end`, in order of time."""
        found = [
            row
            for location in locations
            for row in self._at(location)
            if row.time < end and row.time + row.duration > start
        ]
        if not found:
            raise UnknownLocationError(f"nothing of {', '.join(locations)} from {start} to {end}")
        return sorted(found, key=lambda r: (r.time, r.location))

    def get_best_emissions_data(
        self, locations: Sequence[str], start: datetime, end: datetime
    ) -> list[EmissionsData]:
        """Return the lowest of them; several when they are equal."""
        found = self.get_emissions_data(locations, start, end)
        least = min(row.rating for row in found)
        return [row for row in found if row.rating == least]

    def get_average_carbon_intensity(self, location: str, start: datetime, end: datetime) -> float:
        """Return the mean rating, weighted by how long each holds."""
        found = self.get_emissions_data([location], start, end)
        held = [(min(r.time + r.duration, end) - max(r.time, start)).total_seconds() for r in found]
        return sum(r.rating * s for r, s in zip(found, held, strict=True)) / sum(held)

    def _at(self, location: str) -> list[EmissionsData]:
        if location not in self._rows:
            known = ", ".join(sorted(self._rows))
            raise UnknownLocationError(f"no trace of {location!r}; there are {known}")
        return self._rows[location]


def synthetic(start: datetime, hours: int = 24, means: Mapping[str, float] | None = None) -> Trace:
    """Return hourly ratings of a made-up day: published means, a shape that is ours.

    Lowest at 13:00 UTC, highest at 01:00; the mean over a day is the published one.
    """
    means = MEANS_2023 if means is None else means
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = [
        EmissionsData(
            location=location,
            time=(time := first + timedelta(hours=hour)),
            rating=mean * (1.0 + SUN_SHARE * math.cos((time.hour - 1) * math.tau / 24.0)),
            duration=timedelta(hours=1),
        )
        for location, mean in means.items()
        for hour in range(hours)
    ]
    return Trace(rows, "synthetic: means of 2023 (Ember), the day's shape assumed")


def grams(joules: float, rating: float) -> float:
    """Return grams of CO2 equivalent of `joules` at `rating` grams per kWh."""
    return joules * rating / JOULES_PER_KWH
