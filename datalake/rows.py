"""One clip as rows of the lake's tables: what the car recorded, and two facts computed here.

Computed here: `luma` (how bright the picture is: night is mined by it) and `ttc_s`. Everything else
is copied as the car wrote it, with NULL where the car wrote nothing.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from datalake.tables import CLIPS, EVENTS, TICKS, TRACKS
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import KINDS, Scene
from vehicle.contracts.telemetry import STAGE_BUDGET_US
from vehicle.contracts.tick import Record

FRONT_M: Final = 3.7
"""Ego origin (rear axle) to front bumper of the mid-size car of vehicle/config.py."""

HALF_LANE_M: Final = 1.25
"""A track whose near side is closer than this to the ego's path is in its way."""

_LUMA: Final = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601 luma of R'G'B'."""


def luma_of(image: np.ndarray) -> float:
    """Return the mean BT.601 luma of an RGB picture, 0..255, from every fourth pixel each way."""
    return float(image[::4, ::4].reshape(-1, 3).mean(axis=0) @ _LUMA)


def time_to_collision_s(tracks: np.ndarray, speed_mps: float, curvature_1pm: float) -> float | None:
    """Return the least time until the ego's front reaches a track that it is closing in on.

    Args:
        tracks: TRACK [N], ego frame.
        speed_mps, curvature_1pm: of the ego; the path is the circle of that curvature.
    Returns:
        seconds at the present speeds along ego x, or None when nothing is in the way.
    Source: own work; the constant-velocity TTC of Hayward (1972) along the ego's path.
    """
    ahead = tracks["x_m"].astype(np.float64)
    path_y = 0.5 * curvature_1pm * ahead**2
    beside = np.abs(tracks["y_m"] - path_y) - tracks["width_m"] / 2
    gap = ahead - tracks["length_m"] / 2 - FRONT_M
    closing = speed_mps - tracks["vx_mps"]
    hit = (ahead > FRONT_M) & (beside < HALF_LANE_M) & (closing > 0.1)
    if not hit.any():
        return None
    return float((np.maximum(gap[hit], 0.0) / closing[hit]).min())


def clip_rows(
    manifest: ClipManifest,
    records: list[Record],
    *,
    rig: Rig | None,
    rate_hz: float,
    luma: Mapping[int, float],
    stored_as: str,
) -> dict[str, pa.Table]:
    """Return the rows of one clip by table.

    Args:
        manifest: verified.
        records: every tick of the clip, in order.
        rig: cameras of the clip, None for a log without.
        rate_hz: ticks per second.
        luma: frame_id -> mean luminance, for the frames that were decoded.
        stored_as: path of the MCAP file under the lake's folder.
    """
    ticks = [_tick_row(manifest, record, luma) for record in records]
    tracks: list[dict[str, Any]] = []
    for record in records:
        scene = _scene_of(record)
        if scene is not None:
            tracks += _track_rows(manifest.clip_id, record.observation.frame.frame_id, scene)
    return {
        "clips": CLIPS.rows([_clip_row(manifest, records, rig, rate_hz, luma, stored_as)]),
        "ticks": TICKS.rows(ticks),
        "tracks": TRACKS.rows(tracks),
        "events": EVENTS.rows(
            {
                "clip_id": manifest.clip_id,
                "car_id": manifest.car_id,
                "trigger": event.trigger,
                "campaign_id": event.campaign_id,
                "frame_id": event.frame_id,
                "mono_ns": event.mono_ns,
                "value": _finite(event.value),
                "threshold": _finite(event.threshold),
            }
            for event in manifest.events
        ),
    }


def _clip_row(
    manifest: ClipManifest,
    records: list[Record],
    rig: Rig | None,
    rate_hz: float,
    luma: Mapping[int, float],
    stored_as: str,
) -> dict[str, Any]:
    first, last = records[0].observation.frame, records[-1].observation.frame
    return {
        "clip_id": manifest.clip_id,
        "car_id": manifest.car_id,
        "route_id": manifest.route_id,
        "source": manifest.tags.get("source"),
        "jurisdiction": manifest.jurisdiction,
        "model": manifest.model,
        "rig_digest": manifest.rig_digest,
        "cameras": len(rig.cameras) if rig else 0,
        "rate_hz": _finite(rate_hz),
        "frame_first": first.frame_id,
        "frame_last": last.frame_id,
        "frames": len(records),
        "start_mono_ns": first.mono_ns,
        "end_mono_ns": last.mono_ns,
        "duration_s": (last.mono_ns - first.mono_ns) * 1e-9,
        "created_utc_ns": manifest.created_utc_ns,
        "size_bytes": manifest.files[0].size_bytes,
        "luma": float(np.mean(list(luma.values()))) if luma else None,
        "triggers": ",".join(sorted({event.trigger for event in manifest.events})),
        "tags": json.dumps(manifest.tags, sort_keys=True, ensure_ascii=False),
        "object": stored_as,
    }


def _tick_row(manifest: ClipManifest, record: Record, luma: Mapping[int, float]) -> dict[str, Any]:
    frame, ego, tick = record.observation.frame, record.observation.ego, record.tick
    row: dict[str, Any] = {
        "clip_id": manifest.clip_id,
        "car_id": manifest.car_id,
        "route_id": manifest.route_id,
        "frame_id": frame.frame_id,
        "mono_ns": frame.mono_ns,
        "luma": luma.get(frame.frame_id),
    }
    if ego is not None:
        names = ("x_m", "y_m", "yaw_rad", "speed_mps", "accel_mps2", "yaw_rate_radps")
        for name in (*names, "curvature_1pm", "latitude_deg", "longitude_deg"):
            row[name] = getattr(ego, name)
    scene = _scene_of(record)
    if scene is not None:
        row["n_tracks"] = len(scene.tracks)
        row["fresh"] = int(scene.fresh)
        row["uncertainty_ratio"] = _finite(scene.uncertainty_ratio)
        row["embedding"] = scene.embedding.tolist() or None
        if ego is not None:
            row["ttc_s"] = time_to_collision_s(scene.tracks, ego.speed_mps, ego.curvature_1pm)
    if tick is not None:
        row["rung"] = tick.timing.rung
        row["total_us"] = tick.timing.total_us
        row["cancelled"] = int(tick.timing.cancelled)
        for stage in STAGE_BUDGET_US:
            row[f"{stage}_us"] = tick.timing.stage_us.get(stage)
        if tick.plan is not None:
            row["proposal"] = tick.plan.proposal
        if tick.command is not None:
            row["command_accel_mps2"] = tick.command.accel_mps2
            row["command_curvature_1pm"] = tick.command.curvature_1pm
            row["limited_by"] = ",".join(tick.command.limited_by)
    return row


def _scene_of(record: Record) -> Scene | None:
    """Return what the car perceived, or else what the log's own sensors saw."""
    if record.tick is not None and record.tick.scene is not None:
        return record.tick.scene
    return record.observation.traffic


def _track_rows(clip_id: str, frame_id: int, scene: Scene) -> list[dict[str, Any]]:
    rows = []
    for track in scene.tracks:
        row = {name: track[name].item() for name in track.dtype.names or ()}
        row["kind"] = KINDS[row["kind"]] if 0 <= row["kind"] < len(KINDS) else "other"
        row["range_m"] = math.hypot(row["x_m"], row["y_m"])
        rows.append({"clip_id": clip_id, "frame_id": frame_id, **row})
    return rows


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
