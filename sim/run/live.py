"""A simulated world as a car's camera rig: frames on the clock, moved on by the car's commands."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sim.run.episode import Episode
from vehicle.contracts import wire
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.drive_verb import DriveRequest
from vehicle.road import drive_as_asked


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWorld:
    """Which world, and how fast it is filmed; see Episode."""

    SCHEMA: ClassVar[str] = "liveworld/1"
    town: int = 16
    seed: int = 0
    light: str = "day"
    weather: str = "clear"
    family: str = "town_drive"
    rate_hz: float = 10.0


class EpisodeSource:
    """Frames of an episode, for ever; the world stands still until it is told of a tick."""

    def __init__(self, world: LiveWorld) -> None:
        self._episode = Episode(
            town=world.town,
            seed=world.seed,
            light=world.light,
            weather=world.weather,
            family=world.family,
            rate_hz=world.rate_hz,
        )
        origin_m = self._episode.origin_m
        self.rig: Rig | None = self._episode.rig
        self.rate_hz: float = world.rate_hz
        self.metadata: Mapping[str, str] = {
            "source": "simulator",
            "origin_m": f"{origin_m[0]!r} {origin_m[1]!r}",
            "route_id": f"live-town{world.town}-seed{world.seed}-{world.light}",
            "tag.town": str(world.town),
            "tag.light": world.light,
            "tag.weather": world.weather,
            "tag.family": world.family,
        }

    def __iter__(self) -> Iterator[Observation]:
        """Yield what the cameras see now, again and again."""
        while True:
            yield self._episode.observe()

    def answer(self, tick: Tick) -> None:
        """Move the world on by one frame under the tick's command; without one the ego rolls."""
        rolling = ControlCommand(
            frame_id=tick.frame_id, mono_ns=0, accel_mps2=-1.0, curvature_1pm=0.0
        )
        self._episode.step(tick.command or rolling)


def main() -> None:
    """Be the loop's process over a simulated world: settings on stdin, as vehicle/road.py."""
    request = wire.from_bytes(DriveRequest, sys.stdin.buffer.read())
    try:
        world = wire.from_bytes(LiveWorld, request.source.encode())
        drive_as_asked(request, EpisodeSource(world))
    except RefusedError as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
