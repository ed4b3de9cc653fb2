"""Observations and ticks with every field filled, for the tests of route files."""

import cv2
import numpy as np

from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand, EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import BEV, TRACK, LaneLine, Occupancy, Scene, Signal
from vehicle.contracts.telemetry import DeadlineMiss, StageTiming
from vehicle.contracts.tick import Tick
from vehicle.geometry import look_camera

SIZE = {"x_m": 1.0, "y_m": 0.0, "z_m": 1.4, "yaw_deg": 0.0}
RIG = Rig(
    name="pair",
    cameras=(
        look_camera("wide", width_px=96, height_px=64, hfov_deg=90.0, **SIZE),
        look_camera("odd", width_px=51, height_px=33, hfov_deg=50.0, **SIZE),
    ),
)
STEP_NS = 100_000_000


def picture(width_px: int, height_px: int, seed: int = 0) -> np.ndarray:
    """Return smooth, greyish colours: what a codec keeps, as a road does."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(40, 200, (4, 5, 1)) + rng.integers(0, 30, (4, 5, 3))
    return cv2.resize(grey.astype(np.uint8), (width_px, height_px))


def scene_of(frame_id: int, tracks: int = 30) -> Scene:
    rng = np.random.default_rng(frame_id)
    rows = np.zeros(tracks, dtype=TRACK)
    rows["track_id"] = np.arange(tracks) + 2**40
    for name in ("x_m", "y_m", "yaw_rad", "vx_mps", "score_prob"):
        rows[name] = rng.normal(size=tracks)
    rows["kind"], rows["coasted_ticks"] = 1, 3
    layer = rng.integers(0, 255, (BEV.nx, BEV.ny), dtype=np.uint8)
    return Scene(
        frame_id=frame_id,
        mono_ns=frame_id * STEP_NS,
        tracks=rows,
        lanes=(LaneLine(kind="centre", points_m=rng.normal(size=(4, 2))),),
        occupancy=Occupancy(
            grid=BEV,
            drivable=layer,
            lane=layer // 2,
            occupied=layer // 3,
            flow=rng.integers(-127, 127, (2, BEV.nx // 2, BEV.ny // 2), dtype=np.int8),
        ),
        embedding=rng.normal(size=64).astype(np.float32),
        uncertainty_ratio=0.25,
        fresh=True,
        signal=Signal(state="yellow", prob=0.75, distance_m=12.5),
    )


def obs_of(frame_id: int, *, cameras: bool = True) -> Observation:
    images = {
        c.name: np.roll(picture(c.width_px, c.height_px), frame_id, axis=1) for c in RIG.cameras
    }
    mono_ns = frame_id * STEP_NS
    line = np.column_stack([np.arange(60.0), np.zeros(60)])
    return Observation(
        frame=FrameSet(frame_id=frame_id, mono_ns=mono_ns, images=images if cameras else {}),
        ego=EgoState(
            mono_ns=mono_ns,
            x_m=0.1 * frame_id,
            y_m=-1.0 / 3.0,
            yaw_rad=0.1,
            speed_mps=1.0,
            latitude_deg=0.0,
        ),
        guidance=Guidance(
            centreline_m=line, speed_limit_mps=13.9, source="log", stop_m=0.0, right_lane_m=40.0
        ),
    )


def tick_of(frame_id: int) -> Tick:
    mono_ns = frame_id * STEP_NS
    states = np.random.default_rng(frame_id).normal(size=(41, 7))
    states[:, 0] = np.arange(41) * 0.1
    event = TriggerEvent(
        trigger="ttc", campaign_id="c", frame_id=frame_id, mono_ns=mono_ns, value=1.0, threshold=2.0
    )
    return Tick(
        frame_id=frame_id,
        scene=scene_of(frame_id),
        plan=Plan(
            frame_id=frame_id,
            mono_ns=mono_ns,
            trajectory=Trajectory(states=states),
            rung="full",
            proposal="lateral+1.0/speed80",
            scores={"progress": 1.0 / 3.0, "comfort": 0.9},
        ),
        command=ControlCommand(
            frame_id=frame_id,
            mono_ns=mono_ns,
            accel_mps2=-0.3,
            curvature_1pm=0.01,
            limited_by=("rss_longitudinal", "grip"),
        ),
        timing=StageTiming(
            frame_id=frame_id,
            release_mono_ns=mono_ns + 7,
            stage_us={"plan": 900, "track": 150},
            total_us=4200,
            rung="full",
        ),
        misses=(DeadlineMiss(frame_id=frame_id, stage="plan", took_us=1800, budget_us=1500),),
        events=(event, event) if frame_id % 3 == 0 else (),
    )


def same_scene(a: Scene, b: Scene) -> bool:
    """Return whether two scenes hold the same numbers, bit for bit."""
    return (
        (a.frame_id, a.mono_ns, a.fresh) == (b.frame_id, b.mono_ns, b.fresh)
        and a.signal == b.signal
        and bool((a.tracks == b.tracks).all())
        and bool((a.embedding == b.embedding).all())
        and all(
            x.kind == y.kind and bool((x.points_m == y.points_m).all())
            for x, y in zip(a.lanes, b.lanes, strict=True)
        )
        and (a.occupancy is None) == (b.occupancy is None)
        and (
            a.occupancy is None
            or b.occupancy is None
            or all(
                bool((getattr(a.occupancy, n) == getattr(b.occupancy, n)).all())
                for n in ("drivable", "lane", "occupied", "flow")
            )
        )
    )
