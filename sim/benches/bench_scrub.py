"""How much of the faces and plates that can be seen is blurred, held against the renderer's truth.

A car drives (by truth, so that the figures do not depend on its planner) and perceives with the
base network; its clip is scrubbed as ingest would scrub it. Which pixels show a head or a plate is
read from the renderer's instance ids and depths.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from datalake.detect import Look
from datalake.detect_tracks import HEAD_M, PLATE_M, TrackDetector, believed
from datalake.scrub import mask_of, scrub
from sim.run.episode import Episode
from sim.sense.sensors import Shot
from vehicle.budget import Budget
from vehicle.bundles import base_folder
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import KINDS
from vehicle.contracts.tick import Tick
from vehicle.geometry import unproject
from vehicle.route import RouteReader, RouteWriter
from vehicle.sight import Sight

FRAMES: Final = 700
DRIVES: Final = (
    *(("market_day", "day", "clear"), ("school_run", "day", "clear"), ("rush_hour", "day", "rain")),
    *(("town_drive", "dusk", "clear"), ("market_day", "night", "clear")),
    *(("cycle_route", "day", "clear"), ("market_day", "day", "fog")),
)
SIZES_PX: Final = {"face": (10.0, 16.0), "plate": (20.0, 32.0)}
COVERED: Final = 0.9
"""A head or plate counts as blurred when this share of its visible pixels is."""

_PEOPLE = [KINDS.index(k) for k in ("pedestrian", "cyclist", "motorcycle")]
_CAR = KINDS.index("car")


@dataclass(slots=True)
class _Seen:
    """One head or plate in one picture: its size, and where its pixels are."""

    frame: int
    camera: str
    kind: str
    size_px: float
    rows: np.ndarray
    columns: np.ndarray


@dataclass(slots=True)
class _Count:
    found: list[bool] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    size_px: list[float] = field(default_factory=list)
    extra_px: int = 0
    blurred_px: int = 0
    all_px: int = 0
    encoded: int = 0
    pictures: int = 0
    scrub_s: float = 0.0
    clip_s: float = 0.0


def scrub_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Measure recall of heads and plates by their size, the share blurred, and what it costs."""
    bench, count = Bench(name="scrub"), _Count()
    each = max(frames // len(DRIVES), 20)
    for number, (family, light, weather) in enumerate(DRIVES):
        before = len(count.found)
        with tempfile.TemporaryDirectory() as folder:
            episode = Episode(
                town=40 + number, seed=100 + number, family=family, light=light, weather=weather
            )
            clip = Path(folder) / "clip.mcap"
            seen = _drive(episode, clip, each, bundle or base_folder())
            _judge(clip, seen, count)
        new = zip(count.found, count.kind, count.size_px, strict=True)
        hits = [f for f, kind, px in list(new)[before:] if px >= SIZES_PX[kind][0]]
        bench.rows.append(
            {
                "row": f"{family}, {light}, {weather}",
                "large enough to tell": len(hits),
                "recall": round(float(np.mean(hits)), 4) if hits else None,
            }
        )
        progress((number + 1) / len(DRIVES))
    _report(bench, count)
    return bench


def _drive(episode: Episode, clip: Path, ticks: int, bundle: Path) -> list[_Seen]:
    """Drive by truth, see with the network, write the clip; return what its pictures show."""
    sight = Sight.open(bundle, episode.rig, False, episode.config, None)
    budget = Budget(enforce=False, clock=SystemClock())
    seen: list[_Seen] = []
    try:
        with RouteWriter(clip, episode.rig, rate_hz=episode.rate_hz, metadata={}) as writer:
            for _ in range(ticks):
                observation = episode.observe()
                budget.begin(observation.frame.frame_id, None)
                scene = sight.see(observation, budget)
                budget.command_left()
                tick = Tick(
                    frame_id=episode.frame_id, scene=scene, plan=None, command=None,
                    timing=budget.timing("full", False),
                )  # fmt: skip
                writer.write(observation, tick)
                seen += _shown(episode, episode.shot())
                episode.step(None)
    finally:
        sight.close()
    return seen


def _shown(episode: Episode, shot: Shot) -> list[_Seen]:
    """Return the heads and rear plates that can be seen, from ids and depths."""
    found = []
    pose = episode.pose
    c, s = np.cos(pose[2]), np.sin(pose[2])
    for actor in episode.actors.table[np.isin(episode.actors.table["kind"], [*_PEOPLE, _CAR])]:
        for camera in episode.rig.cameras:
            rows, columns = np.nonzero(shot.ids[camera.name] == actor["actor_id"])
            if not len(rows):
                continue
            depth = shot.depths_m[camera.name][rows, columns].astype(np.float64)
            p = unproject(camera, np.stack([columns, rows], axis=1).astype(np.float64), depth)
            x = c * p[:, 0] - s * p[:, 1] + pose[0] - actor["x_m"]
            y = s * p[:, 0] + c * p[:, 1] + pose[1] - actor["y_m"]
            cy, sy = np.cos(actor["yaw_rad"]), np.sin(actor["yaw_rad"])
            u, v = (cy * x + sy * y) / actor["length_m"], (-sy * x + cy * y) / actor["width_m"]
            z = p[:, 2] / actor["height_m"]
            if actor["kind"] == _CAR:
                kind, true_m = "plate", PLATE_M
                part = (u < -0.49) & (np.abs(v) < 0.14) & (z > 0.2) & (z < 0.3)
            else:
                kind, true_m, part = "face", HEAD_M, z > 0.85
            if part.any():
                size_px = camera.fx_px * true_m / float(np.median(depth[part]))
                found.append(
                    _Seen(episode.frame_id, camera.name, kind, size_px, rows[part], columns[part])
                )
    return found


def _judge(clip: Path, seen: list[_Seen], count: _Count) -> None:
    detector = TrackDetector()
    start = time.perf_counter()
    report = scrub(clip, clip.with_name("out.mcap"), (detector,))
    count.scrub_s += time.perf_counter() - start
    reader = RouteReader(clip)
    records = list(reader.records())
    count.clip_s += len(records) / reader.rate_hz
    count.encoded += report.encoded
    count.pictures += report.pictures
    assert reader.rig is not None
    masks = _masks(reader.rig, records, detector)
    heads = {key: np.zeros_like(mask) for key, mask in masks.items()}
    for item in seen:
        key = (item.frame, item.camera)
        count.found.append(bool(masks[key][item.rows, item.columns].mean() >= COVERED))
        count.kind.append(item.kind)
        count.size_px.append(item.size_px)
        heads[key][item.rows, item.columns] = True
    count.blurred_px += sum(int(m.sum()) for m in masks.values())
    count.extra_px += sum(int((m & ~heads[k]).sum()) for k, m in masks.items())
    count.all_px += sum(m.size for m in masks.values())


def _masks(rig: Rig, records: list, detector: TrackDetector) -> dict[tuple[int, str], np.ndarray]:  # type: ignore[type-arg]
    """Return which pixels of which picture are blurred."""
    out = {}
    for record, tracks in zip(records, believed(records), strict=True):
        for camera in rig.cameras:
            regions = detector.regions(Look(camera=camera, tracks=tracks))
            key = (record.observation.frame.frame_id, camera.name)
            out[key] = mask_of((camera.height_px, camera.width_px), regions)
    return out


def _report(bench: Bench, count: _Count) -> None:
    found, kinds = np.array(count.found, bool), np.array(count.kind)
    sizes = np.array(count.size_px)
    for kind, limits in SIZES_PX.items():
        for low, high in zip((0.0, *limits), (*limits, np.inf), strict=True):
            chosen = (kinds == kind) & (sizes >= low) & (sizes < high)
            hits = found[chosen]
            bench.rows.append(
                {
                    "row": f"{kind} of {low:g}..{high:g} px",
                    "n": int(hits.size),
                    "recall": round(float(hits.mean()), 4) if hits.size else None,
                }
            )
    bench.rows.append(
        {
            "row": "cost",
            "blurred_ratio": round(count.blurred_px / max(count.all_px, 1), 5),
            "blurred beside faces and plates": round(count.extra_px / max(count.all_px, 1), 5),
            "encoded_ratio": round(count.encoded / max(count.pictures, 1), 4),
            "scrub_s per clip second": round(count.scrub_s / max(count.clip_s, 1e-9), 4),
        }
    )
