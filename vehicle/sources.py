"""Where observations come from: a route file, or somebody else's log opened by an importer.

A source can be walked again and again and holds one tick in memory at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vehicle.contracts.frame import Observation, Rig
from vehicle.route import RouteReader


class Source(Protocol):
    """What replay and import take."""

    @property
    def rig(self) -> Rig | None:
        """Return the cameras, None for a log without any."""
        ...

    @property
    def rate_hz(self) -> float:
        """Return ticks per second."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return what is known of the drive, by the keys of docs/reference/route-file.md."""
        ...

    def __iter__(self) -> Iterator[Observation]:
        """Yield each tick's observation, in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Somebody else's log, opened: what an importer returns.

    Args:
        ticks: how many, where the log says so before it is read; for progress bars.
        walk: begins one pass over the observations.
    """

    rig: Rig | None
    rate_hz: float
    metadata: Mapping[str, str]
    ticks: int | None
    walk: Callable[[], Iterator[Observation]]

    def __iter__(self) -> Iterator[Observation]:
        """Yield each tick's observation, in order."""
        return self.walk()


class RouteSource:
    """A route file or clip."""

    def __init__(self, path: Path, *, recover: bool = False) -> None:
        """Open `path`; see RouteReader for what is refused."""
        self._reader = RouteReader(path, recover=recover)
        self.rig: Rig | None = self._reader.rig
        self.rate_hz: float = self._reader.rate_hz
        self.metadata: Mapping[str, str] = self._reader.metadata

    def __iter__(self) -> Iterator[Observation]:
        """Yield each tick's observation, in order."""
        return self._reader.observations()
