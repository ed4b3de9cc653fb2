"""A graph on a labelled dataset: what it answers frame by frame, and which detections are right."""

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime

from training.decode import detections
from training.deploy import half_cameras, half_order
from training.frames import Frames
from training.metrics import Matches
from training.recall import inputs_of
from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import BEV_BOX, KINDS

LEAST_PROB = 0.01
"""Detections below count for nothing, not even for average precision."""

Answer = dict[str, np.ndarray]


def judged_frames(data: Frames) -> list[int]:
    """Return the frames that count: those with a memory where any has one, else all."""
    known = [i for i in range(len(data)) if data.before(i) is not None]
    return known or list(range(len(data)))


def answers(
    graph: onnxruntime.InferenceSession,
    data: Frames,
    outputs: list[str],
    *,
    forget: bool = False,
    stretch: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, Answer]]:
    """Yield (frame, outputs by name) of every frame that counts.

    Args:
        outputs: those the graph does not have are left out.
        forget: run without memory even where there is one.
        stretch: of the motion that is told between memory and frame, 1 for the truth.
    """
    shapes = {i.name: tuple(i.shape) for i in graph.get_inputs()}
    have = {o.name for o in graph.get_outputs()}
    wanted, memory = [n for n in outputs if n in have], shapes.get("memory")

    def see(inputs: Answer) -> np.ndarray:
        return np.asarray(graph.run(["memory_out"], inputs)[0])

    places = judged_frames(data)
    for done, i in enumerate(places):
        inputs = inputs_of(data, i, None if forget else see, memory, stretch)
        yield i, dict(zip(wanted, graph.run(wanted, inputs), strict=True))
        progress(done + 1, len(places))


def half_answers(
    whole: onnxruntime.InferenceSession,
    half: onnxruntime.InferenceSession,
    data: Frames,
    outputs: list[str],
) -> Iterator[tuple[int, Answer]]:
    """Yield (frame, outputs) of half ticks: the frame before was a whole look, this one looks
    through every other camera and takes the others' rows as they were then."""
    shape = tuple(next(i.shape for i in whole.get_inputs() if i.name == "memory"))
    for i in judged_frames(data):
        earlier = data.before(i)
        if earlier is None:
            continue
        kept, rows = whole.run(["memory_out", "rows"], inputs_of(data, earlier, None, shape))
        inputs = inputs_of(data, i, lambda _, kept=kept: kept, shape)  # type: ignore[misc]
        odd = bool(i // 2 % 2)
        front, side = half_cameras(odd)
        inputs["front"] = np.ascontiguousarray(inputs["front"][front])
        inputs["side"] = np.ascontiguousarray(inputs["side"][side])
        inputs |= {"cached": rows, "order": half_order(odd)}
        yield i, dict(zip(outputs, half.run(outputs, inputs), strict=True))


def detected(
    graph: onnxruntime.InferenceSession, data: Frames, kinds: tuple[str, ...]
) -> dict[str, Matches]:
    """Return the detections of a graph on a dataset, matched to labels, by kind."""
    return matched(answers(graph, data, ["heat", "box"]), data, kinds)


def matched(
    said: Iterator[tuple[int, Answer]], data: Frames, kinds: tuple[str, ...]
) -> dict[str, Matches]:
    """Return the detections in answers, matched to labels, by kind."""
    found = {kind: Matches([], []) for kind in kinds}
    for i, answer in said:
        boxes = detections(answer["heat"][0], answer["box"][0], kinds, LEAST_PROB)
        match(found, boxes, data.boxes[i])
    return found


def match(
    matches: dict[str, Matches], found: dict[str, np.ndarray], boxes: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Match one frame; return per kind the wanted boxes and the score each was found with."""
    x, y = boxes[:, 1], boxes[:, 2]
    far_x, far_y = (
        BEV_BOX.x_min_m + BEV_BOX.nx * BEV_BOX.cell_m,
        BEV_BOX.y_min_m + BEV_BOX.ny * BEV_BOX.cell_m,
    )
    inside = (x >= BEV_BOX.x_min_m) & (x < far_x) & (y >= BEV_BOX.y_min_m) & (y < far_y)
    visible = boxes[:, 7] >= LABEL_MIN_PIXELS
    out = {}
    for kind, matched in matches.items():
        of_kind = boxes[:, 0] == KINDS.index(kind)
        other = ~np.isin(boxes[:, 0], [KINDS.index(k) for k in matches])
        wanted = boxes[of_kind & visible & inside]
        ignored = boxes[(of_kind & ~(visible & inside)) | other, 1:3]
        out[kind] = (wanted, matched.add(found[kind], wanted[:, 1:3], ignored))
    return out
