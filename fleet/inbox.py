"""What cars tell before they send it, and what home asks of them: summaries and wanted clips.

fleet/summaries/CAR/CLIP_ID.json    as the car sent it
fleet/wanted/CAR/CLIP_ID            empty: home asks for the whole of this clip
"""

from collections.abc import Callable
from typing import Final

from fleet.landing import SHA256, ForeignClipError, UploadTooLargeError, check_sha256
from fleet.registry import check_car_id
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError, RefusedError

MOST_SUMMARIES: Final = 10_000
"""Of one car, with clips that have not landed."""


class UnknownClipError(RefusedError):
    """No car has told of this clip."""


class Summaries:
    """What cars have told of their clips."""

    def __init__(self, home: Home, most: int = MOST_SUMMARIES) -> None:
        self._folder, self._most = home.fleet / "summaries", most

    def put(
        self, car_id: str, clip_id: str, data: bytes, landed: Callable[[str], bool]
    ) -> ClipSummary:
        """Keep a summary.

        Args:
            car_id: the car that proved itself at the door.
            landed: whether a clip is here; summaries of such make room when there are many.
        Raises:
            ContractError: it is no summary, or of another clip.
            ForeignClipError: it is of another car's clip.
            UploadTooLargeError: the car has told of too many clips that it did not send.
        """
        summary = wire.from_bytes(ClipSummary, data)
        if summary.manifest.clip_id != check_sha256(clip_id):
            raise ContractError(f"summary is of clip {summary.manifest.clip_id}, sent as {clip_id}")
        if summary.manifest.car_id != car_id:
            raise ForeignClipError(
                f"summary is of car {summary.manifest.car_id!r}, sent by {car_id!r}"
            )
        path = self._folder / check_car_id(car_id) / f"{clip_id}.json"
        if not path.is_file():
            self._make_room(car_id, landed)
        wire.atomic_write(path, data)
        return summary

    def sweep(self) -> None:
        """Remove what a killed gateway left half-written; only a gateway writes here."""
        for half in self._folder.glob("*/.*.part"):
            half.unlink(missing_ok=True)

    def of(self, car_id: str) -> list[str]:
        """Return the clips that a car has told of."""
        folder = self._folder / check_car_id(car_id)
        return sorted(p.stem for p in folder.glob("*.json") if SHA256.fullmatch(p.stem))

    def car_of(self, clip_id: str) -> str:
        """Return the car that told of a clip.

        Raises:
            UnknownClipError: none did.
        """
        for path in self._folder.glob(f"*/{check_sha256(clip_id)}.json"):
            return path.parent.name
        raise UnknownClipError(
            f"no car has told of clip {clip_id}; `roadloop fleet status` counts those that have"
        )

    def _make_room(self, car_id: str, landed: Callable[[str], bool]) -> None:
        here = self.of(car_id)
        if len(here) < self._most:
            return
        done = [clip_id for clip_id in here if landed(clip_id)]
        for clip_id in done:
            (self._folder / car_id / f"{clip_id}.json").unlink(missing_ok=True)
        if len(here) - len(done) >= self._most:
            raise UploadTooLargeError(
                f"car {car_id!r} has told of {len(here)} clips that it did not send, at most "
                f"{self._most} are kept"
            )


class Wanted:
    """Clips that home asks cars to send whole."""

    def __init__(self, home: Home) -> None:
        self._folder = home.fleet / "wanted"

    def ask(self, car_id: str, clip_id: str) -> None:
        """Ask a car for a clip, from its next visit on."""
        path = self._folder / check_car_id(car_id) / check_sha256(clip_id)
        wire.atomic_write(path, b"")

    def of(self, car_id: str) -> tuple[str, ...]:
        """Return what a car is asked for."""
        folder = self._folder / check_car_id(car_id)
        return tuple(sorted(p.name for p in folder.glob("*") if SHA256.fullmatch(p.name)))

    def done(self, car_id: str, clip_id: str) -> None:
        """Ask no more for a clip that has landed."""
        (self._folder / check_car_id(car_id) / check_sha256(clip_id)).unlink(missing_ok=True)
