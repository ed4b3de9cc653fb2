"""A graph that looks at every frame twice, as it is and in a mirror, and means both answers.

What the network sees on the left it also saw on the right in training, so the two looks err apart
and their mean errs less. It takes twice the time: for a teacher, which nobody waits for at 36 Hz.
Each look keeps a memory of its own.

Source: test-time augmentation as in Krizhevsky et al., "ImageNet classification with deep
convolutional neural networks" (2012), section 4.1; here on the finished graph.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.batches import mirror_order
from vehicle.config import RIG_R
from vehicle.preprocess import FRONT_CAMERAS

_PREFIX: Final = "mirror_"
_MEANED: Final = ("heat", "box", "dense", "lanes", "light", "flow", "ego_motion")
_SIGNS: Final = {
    "box": (1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0),
    "flow": (1.0, -1.0),
    "ego_motion": (1.0, -1.0),
}
"""What changes its sign in a mirror: dy, the sine of the heading, vy; the yaw rate."""

_SURE: Final = 4.0
"""Boxes are weighed by this power of the best score of their cell: the look that has the peak
there says where it is."""


def looked_twice(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network that means what it sees and what it sees in a mirror.

    Args:
        model: a graph of `training.export`, for the cameras of rig R. Inputs and outputs stay as
            they are, except that the memory is twice as deep and that camera rows are not given:
            there is no half of it.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    made = _Surgery(graph.graph)
    made.mirror()
    del graph.graph.output[:]
    graph.graph.output.extend(made.outputs)
    onnx.checker.check_model(graph)
    return graph


class _Surgery:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._known = {i.name for i in graph.initializer}
        self._memory = next(i for i in graph.input if i.name == "memory")
        shape = [d.dim_value for d in self._memory.type.tensor_type.shape.dim]
        self._channels = shape[1]
        self._shapes = {
            o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output
        }
        self.outputs: list[onnx.ValueInfoProto] = []

    def mirror(self) -> None:
        """Put the second look beside the first, and both together behind them."""
        first = list(self._graph.node)
        given = [i.name for i in self._graph.input]
        outer = {o.name for o in self._graph.output}
        plain = {name: f"plain_{name}" for name in (*outer, "memory")}
        copies = []
        for node in first:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for fields in (copy.input, copy.output):
                fields[:] = [self._mirrored(name) for name in fields]
            copy.name = _PREFIX + node.name if node.name else ""
            copies.append(copy)
            for fields in (node.input, node.output):
                fields[:] = [plain.get(name, name) for name in fields]
        del self._graph.node[:]
        self._split_memory(plain["memory"])
        cameras = RIG_R.cameras
        for name, own in (("front", cameras[:FRONT_CAMERAS]), ("side", cameras[FRONT_CAMERAS:])):
            assert name in given
            order = self._constant(f"{name}_order", np.array(mirror_order(own), np.int64))
            self._node("Gather", [name, order], f"{name}_swapped", axis=0)
            self._flip(f"{name}_swapped", _PREFIX + name, axis=2)
        self._graph.node.extend([*first, *copies])
        for name in self._shapes:
            if name in _MEANED:
                self._mean(name, plain[name])
            elif name == "memory_out":
                self._flip(_PREFIX + name, "kept_back", axis=3)
                self._node("Concat", [plain[name], "kept_back"], name, axis=1)
            elif name != "rows":
                self._node("Identity", [plain[name]], name)
        self._declare()

    def _mirrored(self, name: str) -> str:
        return name if not name or name in self._known else _PREFIX + name

    def _split_memory(self, plain: str) -> None:
        half = self._constant("memory_parts", np.full(2, self._channels, np.int64))
        node = helper.make_node("Split", ["memory", half], [plain, "memory_back"], axis=1)
        self._graph.node.append(node)
        self._flip("memory_back", f"{_PREFIX}memory", axis=3)
        self._memory.type.tensor_type.shape.dim[1].dim_value = 2 * self._channels

    def _mean(self, name: str, plain: str) -> None:
        back = self._back(name)
        if name in ("box", "lanes"):
            self._weighed(name, plain, back)
            return
        self._node("Add", [plain, back], f"{name}_sum")
        self._node("Mul", [f"{name}_sum", self._constant("half", np.float32(0.5))], name)

    def _back(self, name: str) -> str:
        """Return the mirrored answer turned back: places, signs, and which boundary is which."""
        at = _PREFIX + name
        if name in ("heat", "box", "dense", "flow"):
            at = self._flip(at, f"{name}_turned", axis=3)
        if name == "lanes":
            at = self._flip(at, "lanes_turned", axis=1)
        signs = {**_SIGNS, "lanes": (-1.0, 1.0)}.get(name)
        if signs is None:
            return at
        wide = (1, 1, 1, 2) if name == "lanes" else (1, -1, *([1] * (len(self._shapes[name]) - 2)))
        factor = np.array(signs[: self._shapes[name][1]] if name != "lanes" else signs, np.float32)
        self._node(
            "Mul", [at, self._constant(f"{name}_signs", factor.reshape(wide))], f"{name}_back"
        )
        return f"{name}_back"

    def _weighed(self, name: str, plain: str, back: str) -> None:
        """Mean two answers by how sure each is of them; how sure a lane is, is meaned plainly."""
        if name == "box":
            sure = [self._best("plain_heat", "a"), self._best("heat_turned", "b")]
        else:
            one = self._constant("lane_there", np.array([1], np.int64))
            sure = [
                self._node("Gather", [at, one], f"lane_sure_{i}", axis=3)
                for i, at in enumerate((plain, back))
            ]
        floor = self._constant("floor", np.float32(1e-6))
        for i, (at, weight) in enumerate(zip((plain, back), sure, strict=True)):
            self._node("Add", [weight, floor], f"{name}_weight_{i}")
            self._node("Mul", [at, f"{name}_weight_{i}"], f"{name}_part_{i}")
        self._node("Add", [f"{name}_part_0", f"{name}_part_1"], f"{name}_parts")
        self._node("Add", [f"{name}_weight_0", f"{name}_weight_1"], f"{name}_weights")
        meaned = name if name == "box" else "lanes_meaned"
        self._node("Div", [f"{name}_parts", f"{name}_weights"], meaned)
        if name == "lanes":
            self._node("Add", sure, "lane_sure_sum")
            half = self._constant("half", np.float32(0.5))
            self._node("Mul", ["lane_sure_sum", half], "lane_sure")
            zero = self._constant("lane_where", np.array([0], np.int64))
            self._node("Gather", [meaned, zero], "lane_y", axis=3)
            self._node("Concat", ["lane_y", "lane_sure"], name, axis=3)

    def _best(self, heat: str, mark: str) -> str:
        axes = self._constant("channel", np.array([1], np.int64))
        self._node("ReduceMax", [heat, axes], f"best_{mark}", keepdims=1)
        power = self._constant("sure", np.float32(_SURE))
        return self._node("Pow", [f"best_{mark}", power], f"sure_{mark}")

    def _flip(self, source: str, target: str, *, axis: int) -> str:
        ends = (("last", -1), ("before", np.iinfo(np.int64).min), ("back", -1), ("axis", axis))
        start, end, step, along = (
            self._constant(f"{name}_{value}", np.array([value], np.int64)) for name, value in ends
        )
        return self._node("Slice", [source, start, end, along, step], target)

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        name = f"twice_{name}"
        if name not in self._known:
            self._known.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        node = helper.make_node(kind, list(inputs), [output], name=f"twice_{output}", **attributes)
        self._graph.node.append(node)
        return output

    def _declare(self) -> None:
        for name, shape in self._shapes.items():
            if name == "rows":
                continue
            deep = [shape[0], 2 * shape[1], *shape[2:]] if name == "memory_out" else shape
            info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, deep)
            self.outputs.append(info)
