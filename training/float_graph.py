"""The float twin of a bundle's uint8 network, with the same inputs: what quantising costs and buys.

Never shipped: on the road it is slower, and on dark pictures it may be much slower.
"""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.calibrate import set_scores
from training.deploy import to_onnx
from training.model import PIXEL_SPREAD, PIXEL_ZERO
from training.quantize import PICTURES
from training.weights import network_of, read_weights

_FLOAT: Final = onnx.TensorProto.FLOAT


def float_graph(bundle_folder: Path) -> bytes:
    """Return the float ONNX graph of a bundle's weights, with uint8 NHWC pictures as inputs.

    Scores are as in the bundle; embedding and uncertainty are not fitted and mean nothing.

    Raises:
        ParentBundleError: no weights, or those of another kind of network.
    """
    bundle, arrays = read_weights(bundle_folder)
    net = network_of(bundle.kinds, arrays)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        to_onnx(net, path)
        model = onnx.load(path)
    set_scores(model, net)
    constants = {"pixel_zero": PIXEL_ZERO, "pixel_spread": PIXEL_SPREAD}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    for name in PICTURES:
        _take_pixels(model.graph, name)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _take_pixels(graph: onnx.GraphProto, name: str) -> None:
    """Make input `name` uint8 NHWC, scaled and turned in the graph."""
    scaled = f"{name}_scaled"
    for node in graph.node:
        for i, taken in enumerate(node.input):
            if taken == name:
                node.input[i] = scaled
    entry = next(i for i in graph.input if i.name == name)
    n, c, h, w = (d.dim_value for d in entry.type.tensor_type.shape.dim)
    entry.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [n, h, w, c]))
    steps = [
        helper.make_node("Cast", [name], [f"{name}_float"], to=_FLOAT),
        helper.make_node("Sub", [f"{name}_float", "pixel_zero"], [f"{name}_level"]),
        helper.make_node("Div", [f"{name}_level", "pixel_spread"], [f"{name}_share"]),
        helper.make_node("Transpose", [f"{name}_share"], [scaled], perm=[0, 3, 1, 2]),
    ]
    for place, node in enumerate(steps):
        graph.node.insert(place, node)
