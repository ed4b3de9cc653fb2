"""The bench of the tracker: KITTI's 3D tracking beside a plain tracker, and a tick of the car."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.tracking import mot, mot_baseline
from sim.tracking.mot_match import Pairing, Told, pair
from sim.tracking.mot_run import BY_HALF, CHOSEN, Clocked
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.decode import MAX_BOXES
from vehicle.importers import kitti_mot
from vehicle.importers.kitti_mot import Sequence
from vehicle.tracker import Tracker, TrackerConfig

Scored = Callable[[Sequence], Told]

OVERLAPS: Final = {"car": (0.25, 0.5, 0.7), "pedestrian": (0.25, 0.5), "cyclist": (0.25, 0.5)}
PEER: Final = {
    "car": {"sAMOTA": 93.34, "MOTA": 86.48, "MOTP": 79.61, "IDS": 0, "fps": 140.6},
    "pedestrian": {"sAMOTA": 81.36, "MOTA": 73.92, "MOTP": 67.87, "IDS": 0, "fps": 146.6},
    "cyclist": {"sAMOTA": 93.58, "MOTA": 84.64, "MOTP": 77.31, "IDS": 1, "fps": 1532.8},
}
"""AB3DMOT with these detections and poses, at overlap 0.25, the author's code run on this kind of
machine on one core. Published (docs/KITTI.md of its repository, poses of an inertial unit): car
93.34 / 86.47, pedestrian 82.73 / 73.86, cyclist 93.78 / 84.79."""

FASTER: Final = 5.0
"""The car's tracker shall do at least this many times the peer's frames a second."""


def tracker_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Measure the tracker: how good and fast on KITTI, and how long a tick of the car takes.

    Where KITTI's files are not at hand only the tick is measured, and its figures do not hold.

    Args:
        frames: ticks of the car that are timed; KITTI is always tracked whole.
        bundle: plays no part.
    """
    bench = Bench(name="tracker")
    tick_rows(bench, frames, lambda share: progress(0.1 * share))
    folder = Path(os.environ.get("ROADLOOP_DATA") or "../shared/data") / "kitti-mot"
    if not folder.is_dir():
        bench.rows.append({"row": "KITTI 3D tracking", "skipped": f"no data at {folder}"})
        for kind in kitti_mot.CLASSES:
            _musts(bench, kind, None, 0.0, 0)
        return bench
    sequences = [kitti_mot.read(folder, name) for name in kitti_mot.names(folder)]
    for i, kind in enumerate(kitti_mot.CLASSES):
        kitti_rows(bench, sequences, kind)
        progress(0.1 + 0.3 * (i + 1))
    return bench


def kitti_rows(bench: Bench, sequences: list[Sequence], kind: str) -> None:
    """Measure one class, the car's tracker beside the plain one, and what must hold."""
    clocked = Clocked(kind, CHOSEN[kind])
    ours = _pairings(sequences, clocked.run, kind)
    halves = [Clocked(kind, config) for config in BY_HALF[kind]]
    held_out = [
        pair(s, halves[1 - i % 2].run(s), kind) for i, s in enumerate(sequences)
    ]  # each sequence with what was chosen on the other half
    began = time.thread_time()
    plain = _pairings(sequences, lambda s: mot_baseline.run(s, kind), kind)
    plain_fps = len(clocked.seconds) / (time.thread_time() - began)
    fps = len(clocked.seconds) / clocked.cpu_seconds
    label = kitti_mot.CLASSES[kind]
    for least in OVERLAPS[kind]:
        for name, pairings in (("", ours), (", held out", held_out), (", plain tracker", plain)):
            row = mot.evaluate(pairings, least).row()
            bench.rows.append({"row": f"{label} at {least:g}{name}", **row})
    for name, pairings in (("", ours), (", plain tracker", plain)):
        row = mot.evaluate(pairings, 0.25, as_published=True).row()
        bench.rows.append({"row": f"{label} at 0.25, rounded as published{name}", **row})
    bench.rows.append({"row": f"peer: {label} at 0.25, AB3DMOT", **PEER[kind]})
    timed = percentiles(np.array(clocked.seconds) * 1e3)
    bench.rows.append({"row": f"{label}, a frame", "ms": timed, "fps": round(fps, 1)})
    bench.rows.append({"row": f"{label}, a frame, plain tracker", "fps": round(plain_fps, 1)})
    best = mot.evaluate(ours, 0.25, as_published=True)
    _musts(bench, kind, best, fps, len(clocked.seconds))


def _pairings(sequences: list[Sequence], track: Scored, kind: str) -> list[Pairing]:
    return [pair(s, track(s), kind) for s in sequences]


def _musts(bench: Bench, kind: str, found: mot.MotReport | None, fps: float, n: int) -> None:
    """Add what measures.md asks of one class; figures are rounded as the peer's are."""
    label, peer = kitti_mot.CLASSES[kind], PEER[kind]
    row: dict[str, Any] = found.row() if found else {}
    for figure in ("sAMOTA", "MOTA"):
        bench.must.append(
            Must(
                figure=f"{label} {figure} at IoU 0.25",
                value=row.get(figure),
                op=">=",
                limit=round(peer[figure] + 0.01, 2),
                unit="%",
                n=n,
                peer=f"AB3DMOT {peer[figure]} %",
            )
        )
    bench.must.append(
        Must(
            figure=f"{label} identity switches",
            value=row.get("IDS"),
            op="<=",
            limit=peer["IDS"],
            unit="switches",
            n=n,
            peer=f"AB3DMOT {peer['IDS']}",
        )
    )
    bench.must.append(
        Must(
            figure=f"{label} frames per second of a core's time",
            value=round(fps, 1) if found else None,
            op=">=",
            limit=FASTER * peer["fps"],
            unit="1/s",
            n=n,
            peer=f"AB3DMOT {peer['fps']} 1/s",
        )
    )


def tick_rows(bench: Bench, ticks: int, progress: Callable[[float], None]) -> None:
    """Time the tracker as the car calls it, on as many road users as a frame can hold and on 24."""
    for count in (24, MAX_BOXES):
        tracker, taken = Tracker(TrackerConfig()), []
        crowd, rng = _crowd(count), np.random.default_rng(5)
        for i in range(ticks):
            found = crowd[rng.random(count) > 0.1].copy()
            found["x_m"] += rng.normal(0.0, 0.2, found.size)
            found["y_m"] += rng.normal(0.0, 0.2, found.size)
            ego = EgoState(mono_ns=i * 27_777_778, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=0.0)
            began = time.perf_counter_ns()
            tracker.update(found, ego, ego.mono_ns)
            taken.append((time.perf_counter_ns() - began) * 1e-6)
            if i % 200 == 0:
                progress(i / ticks)
        name = f"a tick of the car, {count} road users of {len(KINDS)} kinds"
        bench.rows.append({"row": name, "ms": percentiles(taken)})


def _crowd(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    crowd = np.zeros(count, TRACK)
    crowd["x_m"], crowd["y_m"] = rng.uniform(-20, 60, count), rng.uniform(-25, 25, count)
    crowd["kind"] = np.arange(count) % len(KINDS)
    crowd["length_m"], crowd["width_m"], crowd["height_m"] = 4.0, 1.8, 1.5
    crowd["score_prob"] = rng.uniform(0.3, 1.0, count)
    return crowd
