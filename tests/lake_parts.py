"""Real clips for the lake's tests: tiny pictures through the real route writer."""

import shutil
from pathlib import Path

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry, TriggerEvent
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.home import Home
from vehicle.contracts.sample import BOX_COLUMNS
from vehicle.contracts.scene import TRACK, Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.geometry import look_camera
from vehicle.route import RouteWriter

TINY = {"hfov_deg": 90.0, "x_m": 1.8, "y_m": 0.0, "z_m": 1.4}
RIG = Rig(
    name="tiny",
    cameras=(
        look_camera("front", width_px=48, height_px=32, yaw_deg=0.0, **TINY),
        look_camera("rear", width_px=32, height_px=32, yaw_deg=180.0, **TINY),
    ),
)
FRAMES = 12
RATE_HZ = 10.0


def observation(frame_id: int, seed: int, light: int, rig: Rig | None) -> Observation:
    rng = np.random.default_rng([seed, frame_id])
    images = {
        c.name: rng.integers(light, light + 20, (c.height_px, c.width_px, 3), dtype=np.uint8)
        for c in (rig.cameras if rig else ())
    }
    mono_ns = 1_000_000_000 + frame_id * 100_000_000
    ego = EgoState(
        mono_ns=mono_ns,
        x_m=float(frame_id),
        y_m=0.0,
        yaw_rad=0.0,
        speed_mps=10.0,
        accel_mps2=-0.5 * frame_id,
    )
    return Observation(frame=FrameSet(frame_id=frame_id, mono_ns=mono_ns, images=images), ego=ego)


def tick(obs: Observation, events: tuple[TriggerEvent, ...] = ()) -> Tick:
    frame = obs.frame
    tracks = np.zeros(1, dtype=TRACK)
    tracks[0] = (7, 0, 13.7, 0.0, 0.0, 4.0, 1.8, 1.5, 0.0, 0.0, 0.9, 5, 0)
    return Tick(
        frame_id=frame.frame_id,
        scene=Scene(
            frame_id=frame.frame_id,
            mono_ns=frame.mono_ns,
            tracks=tracks,
            embedding=np.arange(4, dtype=np.float32) + frame.frame_id,
            uncertainty_ratio=0.1 * (frame.frame_id % 10),
            fresh=True,
        ),
        plan=None,
        command=ControlCommand(
            frame_id=frame.frame_id,
            mono_ns=frame.mono_ns,
            accel_mps2=-1.0,
            curvature_1pm=0.0,
            limited_by=("rss",),
        ),
        timing=StageTiming(
            frame_id=frame.frame_id,
            release_mono_ns=frame.mono_ns,
            stage_us={"inference": 5_000, "plan": 700},
            total_us=7_000,
            rung="full",
        ),
        events=events,
    )


def land(
    home: Home,
    *,
    seed: int = 0,
    light: int = 100,
    first: int = 0,
    rig: Rig | None = RIG,
    driven: bool = True,
    car_id: str = "car-1",
) -> str:
    """Put one whole clip into the landing zone; return its id."""
    home.landing.mkdir(parents=True, exist_ok=True)
    route_id = f"drive-{seed}"
    event = TriggerEvent(
        trigger="ttc",
        campaign_id="default",
        frame_id=first + 3,
        mono_ns=first,
        value=1.0,
        threshold=1.5,
    )
    metadata = {"car_id": car_id, "route_id": route_id, "source": "simulator"}
    path = home.landing / f".{seed}.mcap"
    with RouteWriter(path, rig, rate_hz=RATE_HZ, metadata=metadata) as writer:
        for frame_id in range(first, first + FRAMES):
            obs = observation(frame_id, seed, light, rig)
            writer.write(obs, tick(obs) if driven else None)
    clip_id, size = wire.digest_file(path), path.stat().st_size
    manifest = ClipManifest(
        clip_id=clip_id,
        car_id=car_id,
        route_id=route_id,
        events=(event,),
        frames=(first, first + FRAMES - 1),
        start_mono_ns=1_000_000_000 + first * 100_000_000,
        end_mono_ns=1_000_000_000 + (first + FRAMES - 1) * 100_000_000,
        created_utc_ns=1_700_000_000_000_000_000,
        jurisdiction="ZZ",
        model="base@1",
        rig_digest=rig.digest if rig else "",
        files=(FileEntry(name="clip.mcap", sha256=clip_id, size_bytes=size),),
        tags={"source": "simulator", "town": str(seed)},
    )
    folder = home.landing / clip_id
    folder.mkdir()
    shutil.move(path, folder / "clip.mcap")
    (folder / "manifest.json").write_bytes(wire.to_bytes(manifest))
    return clip_id


def write_truth(
    home: Home, seed: int = 0, frames: int = FRAMES, car_id: str = "car-1", road: bool = False
) -> Path:
    """Write the truth of a drive: two boxes a frame, one of them too small to be drawn; the third
    frame of the drive is empty. With `road`, lights and lanes as well."""
    path = home.car(car_id) / "truth" / f"drive-{seed}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    counts = np.array([0 if i == 2 else 2 for i in range(frames)])
    boxes = rng.normal(size=(int(counts.sum()), len(BOX_COLUMNS))).astype(np.float32)
    boxes[:, 0] = 0
    boxes[:, 7] = np.arange(len(boxes)) % 2 * 100
    boxes[:, 8] = 5
    np.savez(
        path,
        frame_id=np.arange(frames, dtype=np.int64),
        bev=rng.integers(0, 8, (frames, 100, 64), dtype=np.uint8),
        boxes=boxes,
        box_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **(road_arrays(frames) if road else {}),
    )
    return path


def road_arrays(frames: int) -> dict[str, np.ndarray]:
    """Return a light that turns from red to green, and two lines of four."""
    lanes = np.full((frames, 4, 50), np.nan, np.float32)
    lanes[:, 1], lanes[:, 2] = 1.75, -1.75
    light = np.array([[1 if i < 4 else 3, 30.0 - i] for i in range(frames)], np.float32)
    return {"light": light, "lanes": lanes}


def rows(home: Home, query: str) -> list[dict[str, object]]:
    from datalake.lake import Lake

    with Lake(home) as lake:
        return lake.sql(query).to_pylist()
