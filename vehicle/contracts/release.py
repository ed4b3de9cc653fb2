"""A decision to put a bundle on cars."""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from vehicle.contracts.clip import FileEntry
from vehicle.contracts.wire import require

RELEASE_FIELD: Final = "release"
"""Key in a TUF target's custom data; its value is the release's canonical text, because TUF signs
a canonical form that has no fractions."""

_PLAIN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A share of the fleet that gets the release together."""

    name: str
    share_ratio: float

    def __post_init__(self) -> None:
        require(0.0 < self.share_ratio <= 1.0, f"wave {self.name!r}: share is {self.share_ratio}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What TUF signs as a target's custom data and the car reads before installing.

    Args:
        release_counter: only grows; a car refuses a smaller one than it runs (Uptane).
        archive: the one file that travels (an uncompressed tar of the bundle folder).
        bundle_digest: sha256 of the bundle's manifest bytes.
        rig_digest: a car with other cameras refuses it.
    """

    SCHEMA: ClassVar[str] = "release/1"
    release_counter: int
    bundle: str
    bundle_digest: str
    rig_digest: str
    archive: FileEntry
    report_digests: tuple[str, ...]
    waves: tuple[Wave, ...] = (Wave(name="all", share_ratio=1.0),)

    def __post_init__(self) -> None:
        require(self.release_counter >= 1, f"release_counter is {self.release_counter}")
        name = self.bundle.partition("@")[0]
        require(
            _PLAIN_NAME.fullmatch(name) is not None,
            f"release of bundle {self.bundle!r}: its name is {name!r}, expected small letters, "
            "digits, - and _, because it names a folder",
        )

    @property
    def target_path(self) -> str:
        """Return where it stands among the TUF targets: `<bundle name>/<counter>.tar`."""
        return f"{self.bundle.partition('@')[0]}/{self.release_counter}.tar"
