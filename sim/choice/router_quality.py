"""What asking would gain, measured: road users that a second look finds beside the car's own.

Frames are of towns that no network was trained on. The car looks with its memory, as it drives; a
site looks at the same frame as JPEG, without one. The car keeps what it saw and adds what the site
is sure of, so it never knows less; what is added without being there is counted beside it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnx
import onnxruntime

from sim.choice.router_sites import TEACHER, TWICE
from sim.sense.generate import generate
from training.evaluate import counted, open_bundle
from training.frames import Frames, load_frames
from training.metrics import MATCH_M, NEAR_M, OPERATING_PROB
from training.mirror import looked_twice
from vehicle import bundles

Told = Callable[[float], None]
Array = np.ndarray

TOWNS: Final = (104, 105, 106)
USERS: Final = ("car", "pedestrian", "truck", "cyclist", "bus", "motorcycle")
SURE_PROB: Final = 0.5
"""From where on a site's detection is believed; as in fleet/inference/teacher.py."""

JPEG_QUALITY: Final = 90
RUNS: Final = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Frames judged by the car and by networks elsewhere; arrays (F,).

    Args:
        labels: near road users in the frame.
        known: of the car alone.
        known_with: by network, of the car and what that network is sure of.
        false_with: by network, detections added that are no road user.
        size_bytes: of the frame as JPEG, all cameras.
        busy_s: by network, median of a run on one core of this machine, s.
    """

    labels: Array
    known: Array
    known_with: dict[str, Array]
    false_with: dict[str, Array]
    size_bytes: Array
    busy_s: dict[str, float]

    def recall(self, frame: int, network: str = "") -> float:
        """Return the share of near road users that are known, with or without a second look."""
        known = self.known_with[network] if network else self.known
        return float(known[frame] / self.labels[frame]) if self.labels[frame] else 1.0

    def gains(self, network: str) -> Array:
        """Return how much the share rises by a second look (F,)."""
        more: Array = (self.known_with[network] - self.known) / np.maximum(self.labels, 1)
        return more


def judge(scratch: Path, frames: int, teacher: Path | None, progress: Told) -> Judged:
    """Draw labelled frames, and look at them as the car and as sites do.

    Args:
        frames: labelled; two make a memory and its use.
        teacher: bundle of a larger network; None: there is none.
    """
    folder = scratch / "frames"
    generate(folder, towns=TOWNS, frames=frames, seed=29, sequence=2)
    progress(0.5)
    manifest, graph = open_bundle(bundles.base_folder())
    data = load_frames(folder, manifest.rig)
    sent, sizes = _as_jpeg(data)
    graphs = {TWICE: _session(looked_twice(onnx.load(bundles.base_folder() / bundles.MODEL)))}
    if teacher is not None:
        graphs[TEACHER] = open_bundle(teacher)[1]
    own = _looks(graph, data, manifest.kinds, forget=False)
    places = sorted(own)
    labels = np.array([_labels(own[i]) for i in places])
    known_with, false_with, busy_s = {}, {}, {}
    for number, (name, other) in enumerate(graphs.items()):
        second = _looks(other, sent, manifest.kinds, forget=True)
        busy_s[name] = _busy_s(other)
        pairs = [(own[i], second[i]) for i in places]
        known_with[name] = np.array([_known(mine, theirs) for mine, theirs in pairs])
        false_with[name] = np.array([_false(data, i, own[i], second[i]) for i in places])
        progress(0.5 + 0.5 * (number + 1) / len(graphs))
    return Judged(
        labels=labels,
        known=np.array([_known(own[i], None) for i in places]),
        known_with=known_with,
        false_with=false_with,
        size_bytes=sizes[places],
        busy_s=busy_s,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one network made of one frame, by kind."""

    found: dict[str, Array]
    wanted: dict[str, tuple[Array, Array]]


def _looks(
    graph: onnxruntime.InferenceSession, data: Frames, kinds: tuple[str, ...], *, forget: bool
) -> dict[int, _Look]:
    looks: dict[int, _Look] = {}
    counted(graph, data, kinds, forget=forget, look=lambda i, f, w: looks.update({i: _Look(f, w)}))
    return looks


def _near(look: _Look, kind: str) -> tuple[Array, Array]:
    """Return place (M, 2) and score (M,) of the near labels of a kind."""
    boxes, scores = look.wanted[kind]
    near = np.hypot(boxes[:, 1], boxes[:, 2]) <= NEAR_M
    return boxes[near, 1:3], np.asarray(scores)[near]


def _labels(look: _Look) -> int:
    return sum(len(_near(look, kind)[1]) for kind in USERS)


def _known(mine: _Look, theirs: _Look | None) -> int:
    known = 0
    for kind in USERS:
        seen = _near(mine, kind)[1] >= OPERATING_PROB
        if theirs is not None:
            seen |= _near(theirs, kind)[1] >= SURE_PROB
        known += int(seen.sum())
    return known


def _false(data: Frames, frame: int, mine: _Look, theirs: _Look) -> int:
    """Return how many near detections are added where neither a label nor the car's own is."""
    there = data.boxes[frame][:, 1:3]
    added = 0
    for kind in USERS:
        found = theirs.found[kind]
        sure = found[(found[:, 2] >= SURE_PROB) & (np.hypot(found[:, 0], found[:, 1]) <= NEAR_M)]
        own = mine.found[kind]
        own_places = own[own[:, 2] >= OPERATING_PROB, :2]
        for place in sure[:, :2]:
            known = np.concatenate([there, own_places])
            apart = np.hypot(*(known - place).T) if len(known) else np.empty(0)
            added += not (apart <= MATCH_M).any()
    return added


def _busy_s(graph: onnxruntime.InferenceSession) -> float:
    """Return how long a network runs on one core, median, s."""
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    inputs = {i.name: np.zeros(i.shape, kinds[i.type]) for i in graph.get_inputs()}
    times = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        graph.run(None, inputs)
        times.append(time.perf_counter() - began_s)
    return float(np.median(times))


def _as_jpeg(data: Frames) -> tuple[Frames, Array]:
    """Return the frames as a site gets them, and their bytes (N,)."""
    sizes = np.zeros(len(data), np.int64)
    turned = {}
    for name in ("front", "side"):
        pictures = getattr(data, name).copy()
        for i in range(len(data)):
            for camera in pictures[i]:
                packed = cv2.imencode(".jpg", camera, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
                sizes[i] += len(packed)
                camera[:] = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        turned[name] = pictures
    return replace(data, **turned), sizes


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
