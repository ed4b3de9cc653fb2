"""Somebody's detector of boxes in pictures: how a picture goes in, and what the answer means."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from vehicle.contracts.bundle import Detector2D, TensorSpec
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError
from vehicle.preprocess import GREY

STRIDES: Final = (8, 16, 32)
"""Pixels of the input per cell of the three maps of a "yolox" output."""

MAX_BOXES: Final = 64
"""Most boxes of one picture; the best by score are kept."""


class DetectorShapeError(RefusedError):
    """A network takes or gives other arrays than its manifest says its kind of detector does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureBoxes:
    """Boxes in one picture, best first.

    Args:
        box_px: float64 [N, 4] x1, y1, x2, y2 in the picture, pixel centres at whole numbers.
        kind: int8 [N], index into KINDS. score: float64 [N], 0..1.
        px_per_input: pixels of the picture per pixel of the network's input, along x and y.
    """

    box_px: np.ndarray
    kind: np.ndarray
    score: np.ndarray
    px_per_input: tuple[float, float]


class Reader:
    """Feeds one detector and reads its answers.

    Args:
        spec: what the manifest says. inputs, outputs: what the network has.
    Raises:
        DetectorShapeError: they do not go together; it says what was found and what expected.
    """

    def __init__(
        self, spec: Detector2D, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self._spec = spec
        self._height, self._width = input_size(spec, inputs)
        self._name, dtype = inputs[0].name, inputs[0].dtype
        check_output(spec, (self._height, self._width), outputs)
        self._output = outputs[0].name
        self._canvas = np.full((self._height, self._width, 3), GREY, np.uint8)
        self._tensor = np.zeros(inputs[0].shape, dtype)
        self._kind_of = np.array(
            [KINDS.index(k) if k else -1 for k in spec.classes], dtype=np.int64
        )
        self._grid = _grid(self._height, self._width) if spec.output == "yolox" else None

    def feed(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the network's input for a picture, uint8 [H, W, 3] RGB; one array, used again."""
        spec, (across, down) = self._spec, self.inputs_per_px(image.shape)
        width, height = round(image.shape[1] * across), round(image.shape[0] * down)
        target = self._canvas[:height, :width]
        target[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        self._canvas[height:] = GREY
        self._canvas[:, width:] = GREY
        for channel in range(3):
            source = channel if spec.channels == "RGB" else 2 - channel
            plane = (self._canvas[:, :, source] - np.float32(spec.offset[channel])) * np.float32(
                spec.scale[channel]
            )
            if spec.layout == "NCHW":
                self._tensor[0, channel] = plane
            else:
                self._tensor[0, :, :, channel] = plane
        return {self._name: self._tensor}

    def inputs_per_px(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Return pixels of the input per pixel of a picture [H, W, ...], along x and y."""
        across, down = self._width / shape[1], self._height / shape[0]
        if self._spec.resize == "letterbox":
            across = down = min(across, down)
        return across, down

    def read(self, outputs: dict[str, np.ndarray], shape: tuple[int, ...]) -> PictureBoxes:
        """Return the road users in an answer.

        Args:
            outputs: of the network. shape: [H, W, ...] of the picture that went in.
        """
        raw = outputs[self._output]
        box, classes = {"fastestdet": self._fastestdet, "yolox": self._yolox, "boxes": self._boxes}[
            self._spec.output
        ](raw)
        kind, score = _best_kind(classes, self._kind_of)
        kept = np.flatnonzero(score >= self._spec.min_score_prob)
        kept = kept[np.isfinite(box[kept]).all(axis=1)]
        kept = kept[_nms(box[kept], score[kept], kind[kept], self._spec.nms_iou)]
        across, down = self.inputs_per_px(shape)
        edges = np.array([shape[1], shape[0], shape[1], shape[0]], np.float64)
        in_picture = box[kept].astype(np.float64) / [across, down, across, down]
        in_picture = np.clip(in_picture, 0.0, edges) - 0.5  # pixel centres at whole numbers
        return PictureBoxes(
            box_px=in_picture,
            kind=kind[kept].astype(np.int8),
            score=score[kept].astype(np.float64),
            px_per_input=(1.0 / across, 1.0 / down),
        )

    def _yolox(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source: Ge et al., YOLOX (2021): centre in cells from the cell, log size in cells."""
        assert self._grid is not None
        likely = raw[0, :, 4] >= self._spec.min_score_prob  # scores are at most this
        rows, grid = raw[0][likely], self._grid[likely]
        cells, stride = grid[:, :2], grid[:, 2:]
        middle = (rows[:, :2] + cells) * stride
        half = 0.5 * np.exp(np.minimum(rows[:, 2:4], 10.0)) * stride
        return np.hstack([middle - half, middle + half]), rows[:, 5:] * rows[:, 4:5]

    def _fastestdet(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source: FastestDet (dog-qiuqiu, 2022): one map; tanh centre in cells, sigmoid size."""
        maps = raw[0].reshape(raw.shape[1], -1).T
        ny, nx = raw.shape[2:]
        y, x = np.divmod(np.arange(nx * ny), nx)
        middle_x = (x + np.tanh(maps[:, 1])) / nx * self._width
        middle_y = (y + np.tanh(maps[:, 2])) / ny * self._height
        half_w = 0.5 * self._width / (1.0 + np.exp(-maps[:, 3]))
        half_h = 0.5 * self._height / (1.0 + np.exp(-maps[:, 4]))
        box = np.stack(
            [middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h], axis=1
        )
        sure = np.clip(maps[:, :1], 0.0, 1.0) ** 0.6 * np.clip(maps[:, 5:], 0.0, 1.0) ** 0.4
        return box, sure

    def _boxes(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, count = raw[0], len(self._spec.classes)
        number = np.clip(np.nan_to_num(rows[:, 5]).astype(np.int64), -1, count)
        classes = np.zeros((rows.shape[0], count), np.float32)
        known = np.flatnonzero((number >= 0) & (number < count))
        classes[known, number[known]] = rows[known, 4]
        return rows[:, :4], classes


def input_size(spec: Detector2D, inputs: tuple[TensorSpec, ...]) -> tuple[int, int]:
    """Return height and width of a detector's one input.

    Raises:
        DetectorShapeError: not one picture of three colours in numbers we can fill.
    """
    shapes = [(s.dtype, s.shape) for s in inputs]
    wanted = "(1, 3, H, W)" if spec.layout == "NCHW" else "(1, H, W, 3)"
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].dtype in ("float32", "uint8"):
        one, *rest = inputs[0].shape
        colours, size = (rest[0], rest[1:]) if spec.layout == "NCHW" else (rest[2], rest[:2])
        if one == 1 and colours == 3:
            return size[0], size[1]
    raise DetectorShapeError(
        f"the network takes {shapes}, expected one float32 or uint8 input {wanted}; export it for "
        "one picture with fixed sizes"
    )


def check_output(spec: Detector2D, size: tuple[int, int], outputs: tuple[TensorSpec, ...]) -> None:
    """Raise DetectorShapeError unless the network's one output is what `spec.output` means."""
    count, (height, width) = len(spec.classes), size
    rows = sum((height // s) * (width // s) for s in STRIDES)
    shape = outputs[0].shape if outputs else ()
    if spec.output == "yolox":
        text, fits = f"(1, {rows}, 5 + {count} classes)", shape == (1, rows, 5 + count)
    elif spec.output == "fastestdet":
        text = f"(1, 5 + {count} classes, rows, columns)"
        fits = len(shape) == 4 and shape[:2] == (1, 5 + count)
    else:
        text, fits = "(1, N, 6)", len(shape) == 3 and shape[0] == 1 and shape[2] == 6
    shapes = [(o.dtype, o.shape) for o in outputs]
    if len(outputs) != 1 or outputs[0].dtype != "float32" or not fits:
        raise DetectorShapeError(
            f"the network gives {shapes}, expected one float32 output {text} for an output like "
            f"{spec.output!r}: is it another kind of detector, or are its classes others?"
        )


def _grid(height: int, width: int) -> np.ndarray:
    """Return column, row and stride of every cell of a "yolox" output, float32 [N, 3]."""
    parts = []
    for stride in STRIDES:
        y, x = np.divmod(np.arange((height // stride) * (width // stride)), width // stride)
        parts.append(np.stack([x, y, np.full(x.size, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _best_kind(classes: np.ndarray, kind_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each box's kind and score: of the best class, 0 where that is none of ours."""
    best = np.argmax(classes, axis=1)
    kind = kind_of[best]
    score = np.take_along_axis(classes, best[:, None], axis=1)[:, 0]
    return kind, np.where((kind >= 0) & np.isfinite(score), score, 0.0)


def _nms(box: np.ndarray, score: np.ndarray, kind: np.ndarray, iou: float) -> np.ndarray:
    """Return rows to keep, best first: of two of a kind that overlap more than `iou`, the better.

    OpenCV's own is not used: it takes lists, and leaves the order of equal scores open.
    """
    order = np.argsort(-score, kind="stable")[: 4 * MAX_BOXES]
    area = np.prod(np.clip(box[:, 2:] - box[:, :2], 0.0, None), axis=1)
    kept: list[int] = []
    while order.size and len(kept) < MAX_BOXES:
        i, order = int(order[0]), order[1:]
        kept.append(i)
        low = np.maximum(box[i, :2], box[order, :2])
        high = np.minimum(box[i, 2:], box[order, 2:])
        shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
        union = np.maximum(area[i] + area[order] - shared, 1e-9)
        order = order[(shared / union <= iou) | (kind[order] != kind[i])]
    return np.array(kept, np.int64)
