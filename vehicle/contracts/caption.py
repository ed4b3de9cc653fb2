"""What is said of one frame of a clip: the search keys that an explainer makes."""

from dataclasses import dataclass
from typing import ClassVar

from vehicle.contracts.decision import LATERAL, LONGITUDINAL
from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Why the car decided so in one frame, in words.

    Args:
        clip_id, frame_id: which one.
        model: explainer, name@version.
        text: the sentence; "no explanation" where the explainer saw another decision coming.
        explained: whether there is one.
        longitudinal, lateral: the decision that was actuated.
        factors: what the sentence names, e.g. "light", "pedestrian", "hides car"; sorted.
    """

    SCHEMA: ClassVar[str] = "caption/1"
    clip_id: str
    frame_id: int
    model: str
    text: str
    explained: bool
    longitudinal: str
    lateral: str
    factors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.clip_id) and bool(self.model), "a caption without clip or model")
        require(self.longitudinal in LONGITUDINAL, f"longitudinal is {self.longitudinal!r}")
        require(self.lateral in LATERAL, f"lateral is {self.lateral!r}")
        require(self.explained or not self.factors, "factors of a caption that explains nothing")
