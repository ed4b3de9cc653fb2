"""What travels home: a clip, and the manifest that makes it exist."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import ClassVar, Final

from vehicle.contracts.wire import ContractError, require, require_finite

THUMBNAIL_BYTES: Final = 64 * 1024
"""Most base64 text a summary's thumbnail may have; a summary has at most 128 KiB in all."""

PRIORITIES: Final = range(10)
"""Of a campaign and of the events it made; higher goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerEvent:
    """A trigger fired: at which frame, with which value against which threshold.

    Args:
        priority: of its campaign, 0..9.
    """

    SCHEMA: ClassVar[str] = "event/1"
    trigger: str
    campaign_id: str
    frame_id: int
    mono_ns: int
    value: float
    threshold: float
    priority: int = 0

    def __post_init__(self) -> None:
        require(
            self.priority in PRIORITIES,
            f"event of {self.trigger!r}: priority is {self.priority}, expected 0..9",
        )


def _is_plain(name: str) -> bool:
    """Return whether a name can be a file's, here and on a terminal."""
    lead = bool(name) and name.isprintable() and not name.startswith(".")
    return lead and len(name.encode()) <= 200 and not set(name) & set("/\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file by content."""

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        require(_is_plain(self.name), f"file name {self.name!a:.100} is not plain")
        require(
            len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef"),
            f"file {self.name!r}: sha256 is {self.sha256!r}, expected 64 hex digits",
        )
        require(self.size_bytes >= 0, f"file {self.name!r}: size is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipManifest:
    """Written last: a clip without a manifest does not exist.

    Args:
        clip_id: sha256 of the MCAP file; the same clip has the same name everywhere.
        frames: first and last frame_id, inclusive.
        start_mono_ns, end_mono_ns: of those frames.
        jurisdiction: ISO 3166 code of where it was recorded, or "ZZ" in simulation.
        model: bundle name and version that drove, e.g. "base@1".
        tags: what is known of the drive, e.g. {"source": "simulator", "town": "7"}.
    """

    SCHEMA: ClassVar[str] = "clip/1"
    clip_id: str
    car_id: str
    route_id: str
    events: tuple[TriggerEvent, ...]
    frames: tuple[int, int]
    start_mono_ns: int
    end_mono_ns: int
    created_utc_ns: int
    jurisdiction: str
    model: str
    rig_digest: str
    files: tuple[FileEntry, ...]
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.frames[0] <= self.frames[1], f"clip frames run backwards: {self.frames}")
        require(len(self.files) > 0, "clip has no files")
        require(self.clip_id == self.files[0].sha256, "clip_id is not the sha256 of its first file")
        require(_is_plain(self.car_id), f"car_id {self.car_id!a:.100} is not a plain name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSummary:
    """What home sees of a clip before it asks for all of it.

    Args:
        manifest: of the clip, as it lies beside it.
        thumbnail_jpeg: base64 of a JPEG: the camera that looks ahead, at the first event; "" for a
            clip without cameras.
        facts: what was worst in it, by name and unit: min_ttc_s, max_uncertainty_ratio, ...; what
            is not known is absent (vehicle/summary.py lists them).
        value: what eviction and sending rank by, 0..10 (vehicle/worth.py says how).
    """

    SCHEMA: ClassVar[str] = "summary/1"
    manifest: ClipManifest
    thumbnail_jpeg: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    value: float

    def __post_init__(self) -> None:
        size = len(self.thumbnail_jpeg)
        require(
            size <= THUMBNAIL_BYTES,
            f"thumbnail has {size} characters, expected at most {THUMBNAIL_BYTES}",
        )
        require_finite("summary", value=self.value)
        require_finite("summary.facts", **self.facts)
        require(0.0 <= self.value <= 10.0, f"summary value is {self.value}, expected 0..10")
        self.thumbnail()

    def thumbnail(self) -> bytes:
        """Return the JPEG itself, b"" without one.

        Raises:
            ContractError: the text is not base64 of a JPEG.
        """
        try:
            data = base64.b64decode(self.thumbnail_jpeg, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ContractError(f"thumbnail_jpeg is not base64 ({error})") from error
        require(not data or data.startswith(b"\xff\xd8"), "thumbnail_jpeg is not a JPEG")
        return data
