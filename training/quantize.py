"""Float graph -> the uint8 graph a car runs.

Static QDQ: uint8 activations (int8 ones are 1.7 times slower in onnxruntime), int8 weights per
output channel within -64..64: processors without VNNI add pairs of products in 16 bits, which
larger weights overflow, and the golden answers must hold there too. Pictures are uint8 already:
they enter the first convolution as they are, with the scale that training used, so that no float
copy of a picture is ever made.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from training.model import PIXEL_SPREAD, PIXEL_ZERO

PICTURES: Final = ("front", "side")
MEMORY: Final = "memory"
LOGIT_RANGE: Final = {
    "net.heat.1.weight": (-10.0, 6.0),
    "net.dense.weight": (-8.0, 8.0),
    "net.lanes.column.weight": (-16.0, 16.0),
}
"""Logits beyond say no more than "surely": they are cut off, so that 256 steps are fine ones. The
least certain of twelve kinds would stretch one step of the heat map to 0.3 otherwise."""

QUANTISED_OPS: Final = ("Conv", "Relu", "Resize", "Add")


class _Frames(CalibrationDataReader):
    def __init__(self, frames: Iterable[Mapping[str, np.ndarray]]) -> None:
        self._frames: Iterator[Mapping[str, np.ndarray]] = iter(frames)

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._frames, None)
        return None if frame is None else as_floats(frame)


def scaled(image_NHWC: np.ndarray) -> np.ndarray:
    """Return uint8 pictures as the float NCHW tensor the graph computes with."""
    image = (image_NHWC.astype(np.float32) - PIXEL_ZERO) / PIXEL_SPREAD
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def as_floats(frame: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the inputs of a frame as the float graph takes them; only pictures change."""
    return {k: scaled(v) if k in PICTURES else v for k, v in frame.items()}


def quantise(float_model: Path, frames: Iterable[Mapping[str, np.ndarray]]) -> onnx.ModelProto:
    """Return the uint8 QDQ graph with uint8 NHWC picture inputs.

    Args:
        float_model: ONNX file with float NCHW inputs `front` and `side`.
        frames: calibration frames, uint8 NHWC arrays by input name.
    """
    overrides = {
        name: [
            {
                "quant_type": QuantType.QUInt8,
                "scale": np.array(1.0 / PIXEL_SPREAD, np.float32),
                "zero_point": np.array(PIXEL_ZERO, np.uint8),
            }
        ]
        for name in PICTURES
    }
    for node in onnx.load(float_model).graph.node:
        if node.op_type == "Conv" and node.input[1] in LOGIT_RANGE:
            low, high = (np.array(v, np.float32) for v in LOGIT_RANGE[node.input[1]])
            cut = {"quant_type": QuantType.QUInt8, "rmin": low, "rmax": high}
            overrides[node.output[0]] = [cut]
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_static(
            float_model,
            out,
            _Frames(frames),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=list(QUANTISED_OPS),
            nodes_to_exclude=_float_adds(onnx.load(float_model)),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides, "CalibMovingAverage": True},
        )
        model = onnx.load(out)
    for name in PICTURES:
        _take_pixels(model.graph, name)
    _remember_exactly(model.graph)
    onnx.checker.check_model(model)
    return model


def _float_adds(model: onnx.ModelProto) -> list[str]:
    """Return the additions that join no two encoder maps: lift and uncertainty stay float."""
    maps = {n.output[0] for n in model.graph.node if n.op_type in ("Conv", "Relu", "Resize")}
    adds = [n for n in model.graph.node if n.op_type == "Add"]
    return [n.name for n in adds if not maps >= set(n.input)]


def _remember_exactly(graph: onnx.GraphProto) -> None:
    """Let everything but convolutions read the memory itself, not its uint8 copy.

    Own motion is read off the edge of what the memory covers: a hundredth matters there.
    """
    quantised = {
        n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == MEMORY
    }
    copies = {
        n.output[0]
        for n in graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in quantised
    }
    for node in graph.node:
        if node.op_type != "Conv":
            for i, name in enumerate(node.input):
                if name in copies:
                    node.input[i] = MEMORY


def _take_pixels(graph: onnx.GraphProto, name: str) -> None:
    """Make input `name` uint8 NHWC: its QuantizeLinear becomes a Transpose of the pixels."""
    node = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == name)
    where = list(graph.node).index(node)
    entry = next(i for i in graph.input if i.name == name)
    n, c, h, w = (d.dim_value for d in entry.type.tensor_type.shape.dim)
    entry.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [n, h, w, c]))
    turn = helper.make_node("Transpose", [name], list(node.output), perm=[0, 3, 1, 2])
    turn.name = f"pixels_{name}"
    graph.node.remove(node)
    graph.node.insert(where, turn)
