"""What travels home: a clip, and the manifest that makes it exist."""

from dataclasses import dataclass, field
from typing import ClassVar

from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerEvent:
    """A trigger fired: at which frame, with which value against which threshold."""

    SCHEMA: ClassVar[str] = "event/1"
    trigger: str
    campaign_id: str
    frame_id: int
    mono_ns: int
    value: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file by content."""

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        plain = self.name and "/" not in self.name and "\\" not in self.name
        require(
            bool(plain) and not self.name.startswith("."), f"file name {self.name!r} is not plain"
        )
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
        plain = bool(self.car_id) and "/" not in self.car_id and not self.car_id.startswith(".")
        require(plain, f"car_id {self.car_id!r} is not a plain name")
