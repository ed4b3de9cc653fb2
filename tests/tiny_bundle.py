"""A real bundle in a few kilobytes: the inputs and outputs of the shipped one, no learning in it.

It always detects one car at (CAR_X_M, CAR_Y_M) and one pedestrian; its embedding and uncertainty
follow the brightness of the images. A `rich` one has every output a bundle may have: it keeps the
same map on every frame (KEPT), says as flow what its memory holds, and its rows are the brightness
of the pictures they come from.
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
CAR_VX_MPS, CAR_VY_MPS = 6.5, -0.5
SPEED_MPS, STOP_M = 5.0, 22.0
MEMORY, ROW = 4, 3
"""Channels of the memory, and numbers in a feature row."""

STRIDE = 8
KEPT = np.random.default_rng(5).normal(size=(1, MEMORY, BEV_BOX.nx, BEV_BOX.ny)).astype(np.float32)


def model(
    inputs: list[Any],
    outputs: list[Any],
    nodes: list[Any],
    arrays: dict[str, Any],
    opset: int = 17,
) -> bytes:
    """Return the bytes of an ONNX network."""
    weights = [numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def boxes(*, moving: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the heat and box maps of one car and one pedestrian; only the car moves."""
    heat = np.full((1, 2, BEV_BOX.nx, BEV_BOX.ny), 0.01, np.float32)
    box = np.zeros((1, 8 if moving else 6, BEV_BOX.nx, BEV_BOX.ny), np.float32)
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
        box[0, :6, ix, iy] = [x_m - centre[0], y_m - centre[1], *sizes]
        if moving and kind == 0:
            box[0, 6:, ix, iy] = CAR_VX_MPS, CAR_VY_MPS
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


def rich_network(rig: Rig = RIG_R, *, half: bool = False) -> bytes:
    """Return a network with every input and output a bundle may have.

    Args:
        half: the one that looks through half of the cameras.
    """
    shapes = input_shapes(rig)
    rows = [n * (h // STRIDE) * (w // STRIDE) for n, h, w, _ in shapes]
    if half:
        shapes = tuple((n // 2, *rest) for n, *rest in shapes)  # type: ignore[assignment]
    fresh = [n * (h // STRIDE) * (w // STRIDE) for n, h, w, _ in shapes]
    heat, box = boxes(moving=True)
    lanes = np.zeros((1, 4, BEV_BOX.nx, 2), np.float32)
    lanes[0, 1], lanes[0, 2] = (1.75, 0.9), (-1.75, 0.9)
    dense = np.zeros((1, 3, BEV.nx, BEV.ny), np.float32)
    fixed = {
        **{"heat": heat, "box": box, "dense": dense, "lanes": lanes, "memory_out": KEPT},
        "light": np.array([[0.1, 0.8, 0.05, 0.05, STOP_M]], np.float32),
        "ego_motion": np.array([[SPEED_MPS, 0.0]], np.float32),
    }
    nodes = []
    for name in ("front", "side"):
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{name}_f", "axes"], [f"{name}_mean"], keepdims=1),
            helper.make_node("Reshape", [f"{name}_mean", "column"], [f"{name}_each"]),
            helper.make_node("Expand", [f"{name}_each", f"{name}_wide"], [f"{name}_all"]),
            helper.make_node("Reshape", [f"{name}_all", f"{name}_rows"], [f"{name}_row"]),
        ]
    nodes += [
        helper.make_node("Concat", ["front_row", "side_row"], ["fresh"], axis=1),
        helper.make_node("ReduceMean", ["fresh"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nought"], ["nothing"]),
        helper.make_node("Mul", ["mean", "direction"], ["embedding"]),
        helper.make_node("Mul", ["mean", "scale"], ["uncertainty"]),
        helper.make_node("Slice", ["memory", "from", "to", "channel"], ["flow"]),
        *(helper.make_node("Add", [f"{n}_map", "nothing"], [n]) for n in fixed),
    ]
    if half:
        nodes += [
            helper.make_node("Concat", ["fresh", "cached"], ["either"], axis=1),
            helper.make_node("Gather", ["either", "order"], ["rows"], axis=1),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["fresh"], ["rows"]))
    arrays: dict[str, Any] = {
        **{f"{n}_map": a for n, a in fixed.items()},
        "axes": np.array([1, 2, 3], np.int64),
        "column": np.array([-1, 1, 1], np.int64),
        **{
            f"{n}_wide": np.array([s[0], c // s[0], ROW], np.int64)
            for n, s, c in zip(("front", "side"), shapes, fresh, strict=True)
        },
        **{f"{n}_rows": np.array([1, -1, ROW], np.int64) for n in ("front", "side")},
        "nought": np.float32(0.0),
        "scale": np.full((1, 1), 1 / 255, np.float32),
        "direction": np.linspace(-1, 1, 64, dtype=np.float32)[None] / 255,
        **{n: np.array([v], np.int64) for n, v in (("from", 0), ("to", 2), ("channel", 1))},
    }
    value, kept = helper.make_tensor_value_info, list(KEPT.shape)
    inputs = [
        value("front", TensorProto.UINT8, shapes[0]),
        value("side", TensorProto.UINT8, shapes[1]),
        value("memory", TensorProto.FLOAT, kept),
    ]
    if half:
        inputs.append(value("cached", TensorProto.FLOAT, [1, sum(rows), ROW]))
        inputs.append(value("order", TensorProto.INT64, [sum(rows)]))
    out = {
        **{n: list(a.shape) for n, a in fixed.items()},
        **{"embedding": [1, 64], "uncertainty": [1, 1]},
        **{"flow": [1, 2, BEV_BOX.nx, BEV_BOX.ny], "rows": [1, sum(rows), ROW]},
    }
    outputs = [value(n, TensorProto.FLOAT, s) for n, s in out.items()]
    return model(inputs, outputs, nodes, arrays, opset=18)


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


def make(
    folder: Path, *, rig: Rig = RIG_R, version: int = 1, rich: bool = False, **fields: Any
) -> ModelBundle:
    """Write a whole bundle into `folder` and return its manifest; `fields` replace the usual.

    Args:
        rich: with memory, all outputs, and the network for half of the cameras.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bundles.MODEL).write_bytes(rich_network(rig) if rich else network(rig))
    inputs = golden_inputs(rig)
    if rich:
        inputs["memory"] = KEPT
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
        **({bundles.HALF: rich_network(rig, half=True)} if rich else {}),
    }
    return bundles.write(folder, files, **{**usual, **fields})
