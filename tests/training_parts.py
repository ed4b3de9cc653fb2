"""Small datasets and small networks with every part of the real ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.model import NetConfig
from training.recipes import TrainConfig, recipe
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import DatasetManifest, Sample, write_shard

SMALL_NET = NetConfig(
    stem=8,
    quarter=8,
    eighth=16,
    sixteenth=16,
    features=8,
    depth_bins=8,
    bev=16,
    bev_half=16,
    head=8,
    memory=4,
)
CAR, PEDESTRIAN, TRUCK = 0.0, 1.0, 2.0


def box(
    kind: float, x_m: float, y_m: float, *, yaw_rad: float = 0.0, px: float = 50
) -> list[float]:
    """Return one labelled box (BOX_COLUMNS)."""
    length_m, width_m = (4.5, 1.9) if kind == CAR else (0.6, 0.6)
    return [kind, x_m, y_m, yaw_rad, length_m, width_m, 1.6, px, 1.0, 0.5, 0.25]


def make_dataset(
    folder: Path,
    *,
    frames: int = 4,
    seed: int = 0,
    rig: Rig = RIG_R,
    runs: bool = False,
    **fields: Any,
) -> Path:
    """Write a dataset of noise, a car and a pedestrian in each frame; return its folder.

    Args:
        runs: all frames of a shard are one drive at 5 m/s towards a red light, with lanes.
    """
    rng = np.random.default_rng(seed)
    lanes = np.repeat(np.array([[np.nan], [1.75], [-1.75], [np.nan]], np.float32), 50, axis=1)
    labels = {
        "motion": np.array([0.5, 0.0, 0.01, 0.1], np.float32),
        "light": np.array([1.0, 24.0], np.float32),
        "lanes": lanes,
    }
    samples = [
        Sample(
            frame_id=i,
            images={
                c.name: rng.integers(0, 256, (c.height_px, c.width_px, 3), dtype=np.uint8)
                for c in rig.cameras
            },
            boxes=np.array(
                [box(CAR, 12.3 + i, -3.1, yaw_rad=0.3), box(PEDESTRIAN, 8.0, 5.0)], np.float32
            ),
            bev=rng.integers(0, 8, (100, 64)).astype(np.uint8),
            **(labels if runs else {}),
        )
        for i in range(frames)
    ]
    folder.mkdir(parents=True)
    entries = tuple(
        write_shard(folder / f"shard-{k}.npz", samples[k : k + 3]) for k in range(0, frames, 3)
    )
    usual: dict[str, Any] = {
        "name": folder.name,
        "snapshot": 0,
        "query": "noise",
        "rig": rig,
        "frames": frames,
        "boxes": {"car": frames, "pedestrian": frames},
        "sources": (f"seed={seed}",),
        "files": entries,
    }
    manifest = DatasetManifest(**{**usual, **fields})
    wire.atomic_write(folder / "dataset.json", wire.to_bytes(manifest))
    return folder


def small(**fields: Any) -> TrainConfig:
    """Return the tiny recipe with a small network and without augmentation."""
    usual = {"net": SMALL_NET, "flip_ratio": 0.0, "brightness": 0.0, "noise_levels": 0.0}
    return replace(recipe("tiny"), **{**usual, **fields})
