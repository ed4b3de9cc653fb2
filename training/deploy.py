"""The network as a car runs it: probabilities and metres instead of logits, as float ONNX graphs.

Two graphs of the same weights: `model` looks through all cameras; `half` looks through every other
one and takes what the others last saw (`cached`) as it was, for a tick with less time.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.heads import LIGHT_REACH_M, LIGHTS, lane_points
from training.lift import feature_rows
from training.model import VELOCITY_UNIT_MPS, NetR
from training.quantize import as_floats
from vehicle.config import RIG_R
from vehicle.contracts.wire import RefusedError
from vehicle.preprocess import FRONT_CAMERAS

OUTPUTS: Final = (
    *("heat", "box", "dense", "embedding", "uncertainty"),
    *("lanes", "light", "flow", "ego_motion", "memory_out", "rows"),
)
PARITY_LIMIT: Final = 1e-3


class ParityError(RefusedError):
    """The exported graph does not compute what torch computes."""


class Deploy(nn.Module):
    """What a car runs. Statistics of the embedding and the scores' calibration are set in the graph
    afterwards: here they stand as numbers that no optimiser folds into others."""

    def __init__(self, net: NetR) -> None:
        super().__init__()
        self.net = net
        size = net.embedding_size
        self.register_buffer("embedding_mean", torch.full((size,), 0.5))
        self.register_buffer("embedding_whiten", torch.full((size, size), 0.5))
        shape = (1, len(net.kinds), 1, 1)
        self.register_buffer("score_scale", torch.full(shape, 0.5))
        self.register_buffer("score_offset", torch.full(shape, 0.25))

    def forward(self, front: Tensor, side: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        """Return OUTPUTS from scaled pictures of all cameras."""
        return self.answer(*self.net.rows(front, side, 1), memory)

    def answer(self, feature: Tensor, depth: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        """Return OUTPUTS from camera rows."""
        net = self.net
        out = net.read(feature, depth, memory)
        white = (out["embedding"] - self.embedding_mean) @ self.embedding_whiten
        distance = white.square().sum(dim=1, keepdim=True)
        y_m, there = lane_points(out["lanes"])
        states, stop = out["light"].split([len(LIGHTS), 1], dim=1)
        return (
            (out["heat"] * self.score_scale + self.score_offset).sigmoid(),
            torch.cat([out["box"], out["velocity"] * VELOCITY_UNIT_MPS], dim=1),
            out["dense"].sigmoid(),
            out["embedding"],
            distance / (1.0 + distance),
            torch.stack([y_m, there], dim=3),
            torch.cat([states.softmax(dim=1), stop.sigmoid() * LIGHT_REACH_M], dim=1),
            out["flow"] * VELOCITY_UNIT_MPS,
            out["ego_motion"] * torch.tensor([VELOCITY_UNIT_MPS, 1.0]),
            out["memory_out"],
            torch.cat([feature, depth], dim=2),
        )


class DeployHalf(Deploy):
    """The same, with every other camera taken from the rows of an earlier tick."""

    def forward(  # type: ignore[override]
        self, front: Tensor, side: Tensor, memory: Tensor, cached: Tensor, order: Tensor
    ) -> tuple[Tensor, ...]:
        """Return OUTPUTS from scaled pictures of half the cameras.

        Args:
            cached: [1, R, E], `rows` of the tick before, in camera order.
            order: int64 [R], index of each row into fresh rows followed by `cached`.
        """
        fresh = torch.cat(self.net.rows(front, side, 1), dim=2)
        rows = torch.cat([fresh, cached], dim=1).index_select(1, order)
        config = self.net.config
        feature, depth = rows.split([config.features, config.depth_bins], dim=2)
        return self.answer(feature, depth, memory)


def half_cameras(odd: bool) -> tuple[list[int], list[int]]:
    """Return which front and which side pictures a half tick looks through: every other camera."""
    count, first = len(RIG_R.cameras), int(odd)
    chosen = range(first, count, 2)
    front = [i for i in chosen if i < FRONT_CAMERAS]
    return front, [i - FRONT_CAMERAS for i in chosen if i >= FRONT_CAMERAS]


def half_order(odd: bool) -> np.ndarray:
    """Return `order` of a half tick: int64 [R], rows of chosen cameras fresh, the others cached."""
    counts = [feature_rows(c) for c in RIG_R.cameras]
    starts = np.concatenate([[0], np.cumsum(counts)])
    chosen = list(range(int(odd), len(counts), 2))
    fresh = sum(counts[i] for i in chosen)
    order, done = fresh + np.arange(starts[-1]), 0
    for i in chosen:
        order[starts[i] : starts[i + 1]] = np.arange(done, done + counts[i])
        done += counts[i]
    return order.astype(np.int64)


def blank(net: NetR, *, half: bool = False) -> dict[str, np.ndarray]:
    """Return black inputs of a graph, pictures as the car gives them (uint8 NHWC)."""
    front, side = RIG_R.cameras[0], RIG_R.cameras[-1]
    count = (FRONT_CAMERAS, len(RIG_R.cameras) - FRONT_CAMERAS)
    if half:
        count = (count[0] // 2, count[1] // 2)
    inputs = {
        "front": np.zeros((count[0], front.height_px, front.width_px, 3), np.uint8),
        "side": np.zeros((count[1], side.height_px, side.width_px, 3), np.uint8),
        "memory": net.no_memory(1).numpy(),
    }
    if half:
        order = half_order(False)
        width = net.config.features + net.config.depth_bins
        inputs |= {"cached": np.zeros((1, len(order), width), np.float32), "order": order}
    return inputs


def to_onnx(net: NetR, path: Path, *, half: bool = False) -> None:
    """Write a float graph with folded batch norms; pictures are scaled float NCHW."""
    copy = folded(net)
    deploy = (DeployHalf(copy) if half else Deploy(copy)).eval()
    inputs = as_floats(blank(net, half=half))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deploy,
            tuple(torch.from_numpy(v) for v in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(OUTPUTS),
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.save(_with_short_indices(onnx.load(path)), path)


def _with_short_indices(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with gathers that take their int32 tables as they are, not made int64."""
    casts = {n.output[0]: n for n in model.graph.node if n.op_type == "Cast"}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[1] in casts:
            node.input[1] = casts[node.input[1]].input[0]
    used = {name for n in model.graph.node for name in n.input}
    for name, node in casts.items():
        if name not in used:
            model.graph.node.remove(node)
    return model


def folded(net: NetR) -> NetR:
    """Return a copy whose batch norms are folded into their convolutions."""
    copy = NetR(net.kinds, net.config)
    copy.load_state_dict(net.state_dict())
    copy.eval()
    for module in list(copy.modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return copy


def check_parity(net: NetR, path: Path, frames: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Return the largest difference between torch and the float graph.

    Raises:
        ParityError: it is over PARITY_LIMIT; names the output.
    """
    graph = session(path.read_bytes())
    deploy = Deploy(net).eval()
    worst = 0.0
    for frame in frames:
        inputs = as_floats(frame)
        answer = dict(zip(OUTPUTS, graph.run(list(OUTPUTS), inputs), strict=True))
        with torch.no_grad():
            said = deploy(*(torch.from_numpy(v) for v in inputs.values()))
        for name, value in zip(OUTPUTS, said, strict=True):
            if name == "uncertainty":
                continue
            gap = float(np.abs(answer[name] - value.numpy()).max())
            if gap > PARITY_LIMIT * max(1.0, float(value.abs().max()) / 10.0):
                raise ParityError(f"output {name!r} differs from torch by {gap:.2g}")
            worst = max(worst, gap)
    return worst


def session(model: bytes) -> onnxruntime.InferenceSession:
    """Return a graph ready to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
