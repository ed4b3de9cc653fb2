"""The car's own tracker on KITTI's 3D tracking sequences."""

import math
import time
from typing import Final

import numpy as np

from sim.tracking.mot_match import Told
from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.importers.kitti_mot import RATE_HZ, Found, Sequence
from vehicle.tracker import Tracker, TrackerConfig

SCORE_SCALE: Final = 0.5
"""Raw scores of the detector (-5 .. 15) become probabilities as 1 / (1 + exp(-scale * score))."""


_MOTION: Final = {  # noise_m, accel_mps2, speed_mps, yaw_gain, shape_gain
    "car": (0.1, 10.0, 5.0, 0.6, 0.5),
    "pedestrian": (0.1, 5.0, 20.0, 0.4, 0.4),
    "cyclist": (0.2, 5.0, 10.0, 0.4, 0.4),
}
"""Set once for laser detections at 10 Hz, which are true to decimetres."""


def _config(
    kind: str, *, overlap: float, tell: int, birth: float, hits: int = 2, sure: float = 2.0
) -> TrackerConfig:
    noise_m, accel_mps2, speed_mps, yaw_gain, shape_gain = _MOTION[kind]
    return TrackerConfig(
        by_overlap=True,
        least_overlap=overlap,
        tell_ticks=tell,
        birth_prob=birth,
        birth_hits=hits,
        sure_prob=sure,
        noise_m=noise_m,
        noise_ratio=0.005,
        accel_mps2=(accel_mps2,) * len(KINDS),
        speed_mps=(speed_mps,) * len(KINDS),
        yaw_gain=yaw_gain,
        shape_gain=shape_gain,
    )


CHOSEN: Final = {
    "car": _config("car", overlap=-0.1, tell=1, birth=0.6),
    "pedestrian": _config("pedestrian", overlap=-0.3, tell=3, birth=0.4, sure=0.85),
    "cyclist": _config("cyclist", overlap=-0.5, tell=1, birth=0.6),
}
"""What gave the best sum of sAMOTA and MOTA on all sequences (less 2 a switch, 0.02 a fragment), of
36 to 60 combinations of least overlap, ticks told, hits and score of a birth; of combinations as
good as equal, the one with fewer fragments. As the peer's parameters are, these are chosen on the
sequences they are measured on."""

BY_HALF: Final = {
    "car": (
        _config("car", overlap=-0.1, tell=1, birth=0.6),
        _config("car", overlap=-0.1, tell=1, birth=0.2),
    ),
    "pedestrian": (
        _config("pedestrian", overlap=-0.1, tell=3, birth=0.4, hits=3, sure=0.6),
        _config("pedestrian", overlap=-0.1, tell=1, birth=0.4, sure=0.95),
    ),
    "cyclist": (
        _config("cyclist", overlap=-0.5, tell=1, birth=0.6),
        _config("cyclist", overlap=-0.1, tell=1, birth=0.6),
    ),
}
"""The same, chosen on the first, third, fifth .. sequence alone, and on the others alone: each half
is then tracked with what the other half chose, which is the figure to expect elsewhere. Motion is
not chosen anew: it was set with a look at all sequences."""

_SIZES: Final = ("yaw_rad", "length_m", "width_m", "height_m")


class Clocked:
    """One tracker over many sequences, and the time it takes.

    Args:
        kind: "car", "pedestrian" or "cyclist". config: how it tracks.
    """

    def __init__(self, kind: str, config: TrackerConfig) -> None:
        self._kind, self._tracker = kind, Tracker(config)
        self.seconds: list[float] = []
        """Of each frame: detections into the level frame, the tracker, tracks out of it."""
        self.cpu_seconds = 0.0
        """The same of all frames, as time on a core: what others take of it is not counted."""

    def run(self, sequence: Sequence) -> Told:
        """Track one sequence from its first frame to its last.

        The score told for a track is that of the detection it took in last.
        """
        found, tracker = sequence.found[self._kind], self._tracker
        tracker.reset()
        edges = np.searchsorted(found.frame, np.arange(sequence.frames + 1))
        last: dict[int, int] = {}
        frames, numbers, sources, boxes = [], [], [], []
        for f in range(sequence.frames):
            began, cpu = time.perf_counter(), time.thread_time()
            out, told = self._frame(sequence, found, f, int(edges[f]), int(edges[f + 1]))
            self.cpu_seconds += time.thread_time() - cpu
            self.seconds.append(time.perf_counter() - began)
            for number, source in zip(out["track_id"], tracker.source, strict=True):
                if source >= 0:
                    last[int(number)] = int(edges[f] + source)
                frames.append(f)
                numbers.append(int(number))
                sources.append(last[int(number)])
            boxes.append(told)
        source_rows = np.array(sources, np.int64)
        return Told(
            frame=np.array(frames, np.int64),
            track=np.array(numbers, np.int64),
            score=found.score[source_rows],
            boxes=np.concatenate(boxes) if boxes else np.zeros((0, 7)),
            image_px=found.image_px[source_rows],
        )

    def _frame(
        self, sequence: Sequence, found: Found, frame: int, begin: int, end: int
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros(end - begin, TRACK)
        base_m = None
        if end > begin:
            level = sequence.to_level(frame, found.boxes[begin:end])
            rows["kind"] = KINDS.index(self._kind)
            rows["x_m"], rows["y_m"] = level[:, 0], level[:, 1]
            for column, name in enumerate(_SIZES):
                rows[name] = level[:, 3 + column]
            rows["score_prob"] = 1.0 / (1.0 + np.exp(-SCORE_SCALE * found.score[begin:end]))
            base_m = np.ascontiguousarray(level[:, 2])
        x_m, y_m, yaw_rad = sequence.pose(frame)
        mono_ns = math.floor(frame * 1e9 / RATE_HZ)
        ego = EgoState(mono_ns=mono_ns, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, speed_mps=0.0)
        out = self._tracker.update(rows, ego, mono_ns, base_m=base_m)
        told = np.zeros((out.size, 7))
        if out.size:
            told[:, 0], told[:, 1], told[:, 2] = out["x_m"], out["y_m"], self._tracker.base_m
            for column, name in enumerate(_SIZES):
                told[:, 3 + column] = out[name]
            told = sequence.to_camera(frame, told)
        return out, told
