"""What is looked for before a picture may be asked about: faces and number plates.

A detector is anything with a name, a word whether it needs pixels, and `regions`. More than one may
look at a clip; what any of them finds is blurred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from vehicle.contracts.frame import CameraModel
from vehicle.contracts.scene import TRACK

Kind = Literal["face", "plate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rectangle of a picture that shows who somebody is.

    Args:
        kind: "face" (a whole head: hair and helmets tell people apart too) or "plate".
        left_px, top_px: first column and row. right_px, bottom_px: one past the last.
        score: 0..1, how sure the detector is.
    """

    kind: Kind
    left_px: int
    top_px: int
    right_px: int
    bottom_px: int
    score: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """One camera at one instant, as a detector is given it.

    Args:
        image: uint8 [H, W, 3] RGB; None for a detector that does not ask for pixels.
        tracks: TRACK [N], ego frame: what the car (or the log's annotators) believed was there.
    """

    camera: CameraModel
    image: np.ndarray | None = None
    tracks: np.ndarray = field(default_factory=lambda: np.zeros(0, TRACK))


class Detector(Protocol):
    """Finds faces or plates. The same look gives the same regions."""

    @property
    def name(self) -> str:
        """Return name@version: written beside every clip it looked at."""
        ...

    @property
    def needs_pixels(self) -> bool:
        """Return whether `regions` wants `Look.image`; decoding costs more than most detectors."""
        ...

    def regions(self, look: Look) -> Sequence[Region]:
        """Return what to blur; parts outside the picture are cut off by the caller."""
        ...


def name_of(detectors: Sequence[Detector]) -> str:
    """Return the names of all that looked, "none" for nobody."""
    return "+".join(d.name for d in detectors) or "none"
