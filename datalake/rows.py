"""One clip as rows of the lake's tables: what the car recorded, copied as it wrote it.

Computed here: `luma` (how bright the picture is: night is mined by it), `h3_cell`, and the signals
of tables.COMPUTED where a log of before has none. What nobody wrote is NULL.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import h3
import numpy as np
import pyarrow as pa

from datalake.tables import CLIPS, EMBEDDINGS, EVENTS, INT, TICKS, TRACKS
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import Rig
from vehicle.contracts.plan import RUNGS
from vehicle.contracts.scene import KINDS, Scene
from vehicle.contracts.telemetry import STAGE_BUDGET_US
from vehicle.contracts.tick import Record, Tick
from vehicle.contracts.vocabulary import SIGNALS

FRONT_M: Final = 3.7
"""Ego origin (rear axle) to front bumper of the mid-size car of vehicle/config.py."""

HALF_LANE_M: Final = 1.25
"""A track whose near side is closer than this to the ego's path is in its way."""

H3_RESOLUTION: Final = 9
"""Cells of 0.1 km2, about a junction and its arms."""

_LOGGED: Final = frozenset(name for name, word in SIGNALS.items() if word.logged)
_COUNTS: Final = frozenset(c.name for c in TICKS.columns if c.kind == INT) & _LOGGED
_LUMA: Final = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601 luma of R'G'B'."""


RECOVERED_FROM: Final = "recovered_from"
"""Tag of a clip that holds what was whole of a damaged one: that one's clip_id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The object of a clip.

    Args:
        path: of the MCAP file under the lake's folder.
        sha256: of that file.
        scrub: detector@version that looked for faces and plates, "none" where nobody did.
        regions: blurred, over all pictures.
    """

    path: str
    sha256: str
    size_bytes: int
    scrub: str = "none"
    regions: int = 0


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
    stored: Stored,
) -> dict[str, pa.Table]:
    """Return the rows of one clip by table.

    Args:
        manifest: verified.
        records: every tick of the clip, in order.
        rig: cameras of the clip, None for a log without.
        rate_hz: ticks per second.
        luma: frame_id -> mean luminance, for the frames that were decoded.
        stored: the object that the lake keeps of it.
    """
    ticks = [_tick_row(manifest, record, luma) for record in records]
    tracks: list[dict[str, Any]] = []
    for record in records:
        scene = _scene_of(record)
        if scene is not None:
            tracks += _track_rows(manifest.clip_id, record.observation.frame.frame_id, scene)
    return {
        "clips": CLIPS.rows([_clip_row(manifest, records, rig, rate_hz, luma, stored)]),
        "ticks": TICKS.rows(ticks),
        "tracks": TRACKS.rows(tracks),
        "embeddings": EMBEDDINGS.rows(_embedding_rows(manifest, records)),
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
                "priority": event.priority,
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
    stored: Stored,
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
        "size_bytes": stored.size_bytes,
        "luma": float(np.mean(list(luma.values()))) if luma else None,
        "triggers": ",".join(sorted({event.trigger for event in manifest.events})),
        "tags": json.dumps(manifest.tags, sort_keys=True, ensure_ascii=False),
        "object": stored.path,
        "object_sha256": stored.sha256,
        "scrub": stored.scrub,
        "scrubbed": stored.regions,
        "light": manifest.tags.get("light"),
        "weather": manifest.tags.get("weather"),
        "whole": int(RECOVERED_FROM not in manifest.tags),
    }


def _tick_row(manifest: ClipManifest, record: Record, luma: Mapping[int, float]) -> dict[str, Any]:
    frame, ego = record.observation.frame, record.observation.ego
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
        row["h3_cell"] = _cell(ego)
        row["lateral_accel_mps2"] = ego.speed_mps * ego.yaw_rate_radps
    scene = _scene_of(record)
    if scene is not None:
        row["n_tracks"] = len(scene.tracks)
        row["fresh"] = int(scene.fresh)
        if scene.fresh:  # else it is that of the last frame the network ran on
            row["uncertainty_ratio"] = _finite(scene.uncertainty_ratio)
        if ego is not None:
            row["ttc_s"] = time_to_collision_s(scene.tracks, ego.speed_mps, ego.curvature_1pm)
    return row | _loop_columns(record.tick) if record.tick is not None else row


def _loop_columns(tick: Tick) -> dict[str, Any]:
    """Return what the loop made of a tick; what the car computed goes before what ingest does."""
    rung = tick.timing.rung
    row: dict[str, Any] = {
        "rung": rung,
        "rung_index": RUNGS.index(rung),
        "mrm": int(rung == "mrm"),
        "total_us": tick.timing.total_us,
        "cancelled": int(tick.timing.cancelled),
    }
    for stage in STAGE_BUDGET_US:
        row[f"{stage}_us"] = tick.timing.stage_us.get(stage)
    if tick.plan is not None:
        row["proposal"] = tick.plan.proposal
    if tick.command is not None:
        row["command_accel_mps2"] = tick.command.accel_mps2
        row["command_curvature_1pm"] = tick.command.curvature_1pm
        row["limited_by"] = ",".join(tick.command.limited_by)
    if tick.signals:
        row |= dict.fromkeys(_LOGGED)  # unknown to the car is unknown here
        for name in _LOGGED & tick.signals.keys():
            value = _finite(tick.signals[name])
            row[name] = round(value) if value is not None and name in _COUNTS else value
    return row


def _cell(ego: EgoState) -> int | None:
    if ego.latitude_deg is None or ego.longitude_deg is None:
        return None
    return h3.str_to_int(h3.latlng_to_cell(ego.latitude_deg, ego.longitude_deg, H3_RESOLUTION))


def _embedding_rows(manifest: ClipManifest, records: list[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        scene = record.tick.scene if record.tick is not None else None
        if scene is not None and scene.embedding.size:
            yield {
                "clip_id": manifest.clip_id,
                "frame_id": record.observation.frame.frame_id,
                "model": manifest.model,
                "embedding": scene.embedding,
            }


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
