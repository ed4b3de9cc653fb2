"""An explainer as the runtime runs it: a scene at once, then a word for every answer under way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from vehicle.contracts import wire
from vehicle.contracts.explainer import GRAPH, MANIFEST, WINDOW, Explainer
from vehicle.contracts.explanation import NUMBERS, Positions
from vehicle.contracts.wire import RefusedError

Floats = np.ndarray[Any, np.dtype[np.float32]]

_NEVER: Final = 1
"""Rows of a past that holds nothing: one, which does not count."""


class NoExplainerError(RefusedError):
    """There is no explainer in the folder, or it is not the one its manifest names."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Keys and values of one answer under way, and of how many positions."""

    rows: Floats
    kept: int


class ExplainModel:
    """The graph of an explainer, and its manifest.

    Args:
        folder: that `roadloop training explain` wrote.
        threads: of the runtime.
    Raises:
        NoExplainerError: as it says.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        path = folder / MANIFEST
        if not path.is_file():
            raise NoExplainerError(
                f"{folder} holds no explainer; make one: roadloop sim decisions run/why.jsonl, then"
                f" roadloop training explain run/why.jsonl --out {folder}"
            )
        self.manifest = wire.from_bytes(Explainer, path.read_bytes())
        data = (folder / GRAPH).read_bytes()
        if wire.digest(data) != self.manifest.graph_sha256:
            raise NoExplainerError(f"{folder / GRAPH} is not the graph that {MANIFEST} names")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])

    @property
    def tag(self) -> str:
        """Return name@version."""
        return self.manifest.tag

    @property
    def digest(self) -> str:
        """Return the sha256 of the graph."""
        return self.manifest.graph_sha256

    def read(self, scenes: Sequence[Positions]) -> tuple[Floats, list[Past]]:
        """Return logits [B, VOCABULARY] of each answer's first word, and what to keep of each."""
        count = max(len(scene.words) for scene in scenes)
        words, slots = (np.zeros((len(scenes), count), np.int64) for _ in range(2))
        numbers = np.zeros((len(scenes), count, NUMBERS), np.float32)
        for i, scene in enumerate(scenes):
            length = len(scene.words)
            words[i, :length], slots[i, :length] = scene.words, scene.slots
            numbers[i, :length] = scene.numbers
        kept = np.zeros(len(scenes), np.int64)
        logits, present = self._run(words, slots, words * 0, numbers, self._past(len(scenes)), kept)
        lengths = [len(scene.words) for scene in scenes]
        pasts = []
        for i, length in enumerate(lengths):
            rows = self._past(1, WINDOW)[0]
            rows[..., :length, :] = present[i, ..., :length, :]
            pasts.append(Past(rows, length))
        return logits[np.arange(len(scenes)), np.array(lengths) - 1], pasts

    def go_on(
        self, words: Sequence[int], slots: Sequence[int], places: Sequence[int], pasts: list[Past]
    ) -> tuple[Floats, list[Past]]:
        """Return logits [B, VOCABULARY] after one more word of each answer, and what to keep."""
        count = len(words)
        kept = np.array([past.kept for past in pasts], np.int64)
        room = int(kept.max())
        rows = np.stack([past.rows[..., :room, :] for past in pasts])
        columns = (np.array(c, np.int64)[:, None] for c in (words, slots, places))
        numbers = np.zeros((count, 1, NUMBERS), np.float32)
        logits, present = self._run(*columns, numbers, rows, kept)
        for i, past in enumerate(pasts):
            past.rows[..., past.kept, :] = present[i, ..., 0, :]
        return logits[:, 0], [Past(past.rows, past.kept + 1) for past in pasts]

    def _past(self, count: int, room: int = _NEVER) -> Floats:
        m = self.manifest
        return np.zeros((count, m.layers, 2, m.heads, room, m.size), np.float32)

    def _run(self, *inputs: Any) -> tuple[Floats, Floats]:
        names = ("words", "slots", "places", "numbers", "past", "kept")
        logits, present = self._session.run(
            ["logits", "present"], dict(zip(names, inputs, strict=True))
        )
        return logits, present
