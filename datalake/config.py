"""What home's lake is told once: what is blurred where, and whose clips stay out of datasets."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

SIMULATION: Final = "ZZ"
"""The jurisdiction of clips from the simulator."""

DETECTORS: Final = ("tracks", "plates", "faces")


class LakeConfigError(RefusedError, ValueError):
    """privacy.toml has an unknown key, a wrong type or a value out of range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPolicy:
    """What is looked for before a clip can be asked about, and what a jurisdiction forbids.

    Read from $ROADLOOP_HOME/privacy.toml; without that file these defaults hold.

    Args:
        detectors: jurisdiction -> who looks, of DETECTORS: "tracks" (the car's own tracks, no
            pixels needed), "plates" (OpenCV, real pictures), "faces" (the network of `face_model`).
            "*" is every jurisdiction that is not named. In simulation nobody looks: its people are
            nobody, and blurred heads cost a network pedestrians (docs/how-to/privacy.md).
        min_face_px: heads lower than this in the picture are left: faces are not recognised below
            16 x 16 pixels (Zou and Yuen, "Very low resolution face recognition problem", 2012).
        min_plate_px: plates narrower than this are left: less than three columns to a character.
        face_model: ONNX file of the face detector (CenterFace); needed where "faces" looks.
        face_model_sha256: its digest; another file is refused.
        closed: jurisdictions whose clips may be asked about here but enter no dataset or export.
    """

    SCHEMA = "scrubpolicy/1"
    detectors: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"*": ("tracks", "plates"), SIMULATION: ()}
    )
    min_face_px: float = 10.0
    min_plate_px: float = 20.0
    face_model: str = ""
    face_model_sha256: str = ""
    closed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wire.require("*" in self.detectors, 'detectors has no "*": say what looks everywhere else')
        for place, names in self.detectors.items():
            for name in names:
                wire.require(
                    name in DETECTORS,
                    f"detectors.{place} names {name!r}; known: {', '.join(DETECTORS)}",
                )
            wire.require(
                "faces" not in names or bool(self.face_model and self.face_model_sha256),
                f"detectors.{place} wants faces found: give face_model and face_model_sha256",
            )
        for name in ("min_face_px", "min_plate_px"):
            value = getattr(self, name)
            wire.require(0.0 <= value <= 1000.0, f"{name} is {value}, expected 0..1000")

    def who_looks(self, jurisdiction: str) -> tuple[str, ...]:
        """Return the names of the detectors for clips of a jurisdiction."""
        return self.detectors.get(jurisdiction, self.detectors["*"])

    @classmethod
    def of(cls, home: Home) -> "ScrubPolicy":
        """Read $ROADLOOP_HOME/privacy.toml strictly; without that file, the default.

        Raises:
            LakeConfigError: unreadable, unknown key, wrong type or out of range; names the key.
        """
        path = home.root / "privacy.toml"
        if not path.exists():
            return cls()
        return cls.from_toml(path)

    @classmethod
    def from_toml(cls, path: Path) -> "ScrubPolicy":
        """Read a policy; raises as `of`."""
        try:
            table = tomllib.loads(path.read_text())
            return wire.from_plain(cls, {"schema": cls.SCHEMA} | table)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, wire.ContractError) as error:
            raise LakeConfigError(f"{path}: {error}") from error
