"""Ticks as a loop would publish them, and the clips a recorder made of them."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, TriggerEvent
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.geometry import look_camera
from vehicle.route import RouteReader

SIZE = {"width_px": 64, "height_px": 48, "x_m": 1.0, "y_m": 0.0, "z_m": 1.0, "yaw_deg": 0.0}
RIG = Rig(name="one", cameras=(look_camera("a", hfov_deg=90.0, **SIZE),))
NOISE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def tick_of(frame_id: int, *, event: bool = False) -> tuple[Observation, Tick]:
    mono_ns = frame_id * 100_000_000
    frame = FrameSet(frame_id=frame_id, mono_ns=mono_ns, images={"a": np.roll(NOISE, frame_id)})
    ego = EgoState(mono_ns=mono_ns, x_m=float(frame_id), y_m=0.0, yaw_rad=0.0, speed_mps=10.0)
    timing = StageTiming(
        frame_id=frame_id, release_mono_ns=mono_ns, stage_us={}, total_us=100, rung="full"
    )
    fired = TriggerEvent(
        trigger="brake",
        campaign_id="test",
        frame_id=frame_id,
        mono_ns=mono_ns,
        value=9.0,
        threshold=3.5,
    )
    tick = Tick(
        frame_id=frame_id,
        scene=None,
        plan=None,
        command=None,
        timing=timing,
        events=(fired,) if event else (),
    )
    return Observation(frame=frame, ego=ego), tick


def clips(folder: Path) -> list[tuple[ClipManifest, list[int]]]:
    found = []
    for path in folder.glob("outbox/[0-9a-f]*/manifest.json"):
        clip = wire.from_bytes(ClipManifest, path.read_bytes())
        records = RouteReader(path.parent / "clip.mcap").records()
        found.append((clip, [r.observation.frame.frame_id for r in records]))
    return sorted(found, key=lambda item: item[0].frames)


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "took too long"
        time.sleep(0.01)
