"""A decoder that explains decisions: its file, its language, and what it was trained on."""

from dataclasses import dataclass
from typing import ClassVar, Final

from vehicle.contracts.explanation import LANGUAGE, MAX_ANSWER, MAX_SCENE, VOCABULARY
from vehicle.contracts.wire import require

MANIFEST: Final = "explainer.json"
GRAPH: Final = "explainer.onnx"
WINDOW: Final = MAX_SCENE + MAX_ANSWER
"""Most positions of a scene and its answer together: what a slot keeps keys and values of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """What stands beside an explainer's graph.

    The graph takes words, slots, places [B, T] and numbers [B, T, NUMBERS], the keys and values
    `past` [B, layers, 2, heads, P, size] kept of `kept` [B] positions, and gives logits
    [B, T, vocabulary] and the T positions' own keys and values `present`.

    Args:
        name, version: name@version; the version only grows.
        language, vocabulary: what it speaks.
        layers, heads, size: of the network; size is a head's.
        parameters: learned numbers.
        records: decision records it was trained on, and `records_digest` sha256 over their files'.
        steps, seed, recipe: of the training run.
        graph_sha256: of GRAPH.
    """

    SCHEMA: ClassVar[str] = "explainer/1"
    name: str
    version: int
    layers: int
    heads: int
    size: int
    parameters: int
    records: int
    records_digest: str
    recipe: str
    steps: int
    seed: int
    graph_sha256: str
    language: str = LANGUAGE
    vocabulary: int = VOCABULARY

    def __post_init__(self) -> None:
        require(self.language == LANGUAGE, f"it speaks {self.language!r}, expected {LANGUAGE!r}")
        require(
            self.vocabulary == VOCABULARY,
            f"it knows {self.vocabulary} words, expected {VOCABULARY}: train it again",
        )
        require(self.layers > 0 and self.heads > 0 and self.size > 0, "an empty network")

    @property
    def tag(self) -> str:
        """Return name@version."""
        return f"{self.name}@{self.version}"
