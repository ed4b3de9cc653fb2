"""Tiny real bundles: one small ONNX network with golden vectors, a kilobyte each."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts.bundle import Lineage, ModelBundle, TensorSpec
from vehicle.contracts.frame import Rig
from vehicle.contracts.report import EvalReport, MetricResult
from vehicle.contracts.scene import BEV, BEV_BOX

SHAPE = (2, 4, 4, 3)


def make_bundle(
    folder: Path,
    *,
    version: int = 2,
    name: str = "base",
    rig: Rig = RIG_R,
    gain: float = 0.5,
    golden_gain: float | None = None,
) -> ModelBundle:
    """Write a bundle whose network multiplies pixels by `gain`.

    Args:
        golden_gain: what the golden vectors claim; another value makes the self-test fail.
    """
    scale = numpy_helper.from_array(np.array([gain], np.float32), "scale")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["front"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["pixels", "scale"], ["heat"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("front", TensorProto.UINT8, SHAPE)],
        [helper.make_tensor_value_info("heat", TensorProto.FLOAT, SHAPE)],
        [scale],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    heat = pixels.astype(np.float32) * np.float32(gain if golden_gain is None else golden_gain)
    golden = folder / bundles.GOLDEN
    np.savez(golden, in_front=pixels, out_heat=heat)
    return bundles.write(
        folder,
        {bundles.MODEL: model.SerializeToString(), bundles.GOLDEN: golden},
        name=name,
        version=version,
        rig=rig,
        inputs=(TensorSpec(name="front", shape=SHAPE, dtype="uint8"),),
        outputs=(TensorSpec(name="heat", shape=SHAPE, dtype="float32"),),
        kinds=("car",),
        bev=BEV,
        bev_box=BEV_BOX,
        precision="fp32",
        latency_budget_us=5_500,
        golden={"heat": 1e-4},
        lineage=Lineage(recipe="tiny", dataset_digest="0" * 64),
    )


def make_report(
    subject_digest: str,
    *,
    recall: float = 0.8,
    half_width: float = 0.03,
    guard: float = 0.9,
    data: str = "d" * 64,
    n: int = 500,
) -> EvalReport:
    """Return a report with one metric to raise and one to guard."""
    return EvalReport(
        kind="open-loop",
        subject_digest=subject_digest,
        subject="base",
        data_digest=data,
        config={"tag.light": "night"},
        metrics=(
            MetricResult(
                name="recall/car/night",
                value=recall,
                unit="ratio",
                n=n,
                low=recall - half_width,
                high=recall + half_width,
            ),
            MetricResult(name="recall/car/day", value=guard, unit="ratio", n=n),
        ),
    )
