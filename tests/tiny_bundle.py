"""A real bundle in a few kilobytes: the inputs and outputs of the shipped one, no learning in it.

It always detects one car at (CAR_X_M, CAR_Y_M) and one pedestrian; its embedding and uncertainty
follow the brightness of the images.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts.bundle import Lineage, ModelBundle
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BEV, BEV_BOX
from vehicle.engine import Engine
from vehicle.preprocess import input_shapes

CAR_X_M, CAR_Y_M, CAR_YAW_RAD = 20.5, -1.25, 0.3
PEDESTRIAN_X_M, PEDESTRIAN_Y_M = 10.25, 4.0


def model(inputs: list[Any], outputs: list[Any], nodes: list[Any], arrays: dict[str, Any]) -> bytes:
    """Return the bytes of an ONNX network."""
    weights = [numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def boxes() -> tuple[np.ndarray, np.ndarray]:
    """Return the heat and box maps of one car and one pedestrian."""
    heat = np.full((1, 2, BEV_BOX.nx, BEV_BOX.ny), 0.01, np.float32)
    box = np.zeros((1, 6, BEV_BOX.nx, BEV_BOX.ny), np.float32)
    rows = [
        (0, CAR_X_M, CAR_Y_M, 4.5, 1.9, CAR_YAW_RAD, 0.9),
        (1, PEDESTRIAN_X_M, PEDESTRIAN_Y_M, 0.6, 0.6, 0.0, 0.6),
    ]
    for kind, x_m, y_m, length_m, width_m, yaw_rad, score in rows:
        ix = int((x_m - BEV_BOX.x_min_m) / BEV_BOX.cell_m)
        iy = int((y_m - BEV_BOX.y_min_m) / BEV_BOX.cell_m)
        centre = BEV_BOX.centres()[ix, iy]
        heat[0, kind, ix, iy] = score
        sizes = [math.log(length_m), math.log(width_m), math.sin(yaw_rad), math.cos(yaw_rad)]
        box[0, :, ix, iy] = [x_m - centre[0], y_m - centre[1], *sizes]
    return heat, box


def network(rig: Rig = RIG_R, *, nan: bool = False) -> bytes:
    """Return a network with the inputs and outputs of the shipped one, for the cameras of `rig`."""
    front, side = input_shapes(rig)
    heat, box = boxes()
    dense = np.zeros((1, 3, BEV.nx, BEV.ny), np.float32)
    dense[0, 0], dense[0, 2, 50:52, 20:24] = 0.75, 1.0
    shapes = {"heat": heat, "box": box, "dense": dense}
    out = {**{n: list(a.shape) for n, a in shapes.items()}, "embedding": [1, 64]}
    nodes = [
        helper.make_node("Cast", ["front"], ["front_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["side"], ["side_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["front_f"], ["front_mean"], keepdims=0),
        helper.make_node("ReduceMean", ["side_f"], ["side_mean"], keepdims=0),
        helper.make_node("Mul", ["front_mean", "scale"], ["front_level"]),
        helper.make_node("Mul", ["side_mean", "scale"], ["side_level"]),
        helper.make_node("Mul", ["front_level", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"{n}_map", "nothing"], [n]) for n in shapes),
        helper.make_node("Mul", ["front_level", "direction"], ["embedding"]),
        helper.make_node("Mul", ["side_level", "one"], ["uncertainty"]),
    ]
    arrays: dict[str, Any] = {
        **{f"{n}_map": a for n, a in shapes.items()},
        "scale": np.float32(1 / 255),
        "zero": np.float32(np.nan if nan else 0.0),
        "one": np.ones((1, 1), np.float32),
        "direction": np.linspace(-1, 1, 64, dtype=np.float32)[None],
    }
    return model(
        [
            helper.make_tensor_value_info("front", TensorProto.UINT8, front),
            helper.make_tensor_value_info("side", TensorProto.UINT8, side),
        ],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in {**out, "uncertainty": [1, 1]}.items()
        ],
        nodes,
        arrays,
    )


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def golden_inputs(rig: Rig = RIG_R) -> dict[str, np.ndarray]:
    """Return one frame of seeded noise."""
    rng = np.random.default_rng(7)
    shapes = zip(("front", "side"), input_shapes(rig), strict=True)
    return {n: rng.integers(0, 256, shape, dtype=np.uint8) for n, shape in shapes}


def make(folder: Path, *, rig: Rig = RIG_R, version: int = 1, **fields: Any) -> ModelBundle:
    """Write a whole bundle into `folder` and return its manifest; `fields` replace the usual."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bundles.MODEL).write_bytes(network(rig))
    inputs = golden_inputs(rig)
    with Engine(folder / bundles.MODEL) as engine:
        outputs = {n: a.copy() for n, a in engine.run(inputs).items()}
        specs = engine.inputs, engine.outputs
    golden = {
        **{f"in_{n}": a for n, a in inputs.items()},
        **{f"out_{n}": a for n, a in outputs.items()},
    }
    usual: dict[str, Any] = {
        "name": "tiny",
        "version": version,
        "odd": {"light": "day"},
        "rig": rig,
        "inputs": specs[0],
        "outputs": specs[1],
        "kinds": ("car", "pedestrian"),
        "bev": BEV,
        "bev_box": BEV_BOX,
        "precision": "fp32",
        "latency_budget_us": 5500,
        "golden": dict.fromkeys(outputs, 1e-4),
        "lineage": Lineage(recipe="tiny", dataset_digest=""),
    }
    files = {
        bundles.MODEL: folder / bundles.MODEL,
        bundles.WEIGHTS: npz({"weight": np.zeros(3, np.float32)}),
        bundles.GOLDEN: npz(golden),
    }
    return bundles.write(folder, files, **{**usual, **fields})
