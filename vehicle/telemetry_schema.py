"""What every telemetry message holds: one table, from which protobuf classes and docs are made.

Fields are named as in the contracts. Arrays travel as columns (packed repeated numbers), so that
Foxglove and Rerun plot them as they are. Fields are only ever added at the end of a message:
readers skip those they do not know.
"""

from typing import Final

PACKAGE: Final = "roadloop"

TRACK_COLUMNS: Final = {
    "track_id": "i64*",
    "kind": "i32*",
    "x_m": "f32*",
    "y_m": "f32*",
    "yaw_rad": "f32*",
    "length_m": "f32*",
    "width_m": "f32*",
    "height_m": "f32*",
    "vx_mps": "f32*",
    "vy_mps": "f32*",
    "score_prob": "f32*",
    "age_ticks": "i32*",
    "coasted_ticks": "i32*",
}

MESSAGES: Final[dict[str, dict[str, str]]] = {
    "Named": {"name": "text", "value": "f64"},
    "Frame": {"frame_id": "i64", "mono_ns": "i64", "cameras": "text*"},
    "Ego": {
        "mono_ns": "i64",
        "x_m": "f64",
        "y_m": "f64",
        "yaw_rad": "f64",
        "speed_mps": "f64",
        "accel_mps2": "f64",
        "yaw_rate_radps": "f64",
        "curvature_1pm": "f64",
        "latitude_deg": "f64?",
        "longitude_deg": "f64?",
    },
    "Guidance": {
        "x_m": "f64*",
        "y_m": "f64*",
        "speed_limit_mps": "f64",
        "lane_width_m": "f64",
        "source": "text",
        "stop_m": "f64?",
        "yield_m": "f64?",
        "left_lane_m": "f64",
        "right_lane_m": "f64",
        "goal": "Goal?",
    },
    "Goal": {
        "from_s": "f64",
        "to_s": "f64",
        "speed_mps": "f64*",
        "yaw_rad": "f64*",
        "regions": "Region*",
    },
    "Region": {"x_m": "f64*", "y_m": "f64*"},
    "Tracks": TRACK_COLUMNS,
    "LaneLine": {"kind": "text", "x_m": "f64*", "y_m": "f64*"},
    "Occupancy": {
        "x_min_m": "f64",
        "y_min_m": "f64",
        "cell_m": "f64",
        "nx": "i32",
        "ny": "i32",
        "drivable": "bytes",
        "lane": "bytes",
        "occupied": "bytes",
    },
    "Scene": {
        "frame_id": "i64",
        "mono_ns": "i64",
        "fresh": "bool",
        "uncertainty_ratio": "f64",
        "tracks": "Tracks",
        "lanes": "LaneLine*",
        "embedding": "f32*",
        "occupancy": "Occupancy?",
        "signal": "Signal?",
    },
    "Signal": {"state": "text", "prob": "f64", "distance_m": "f64", "source": "text"},
    "Plan": {
        "frame_id": "i64",
        "mono_ns": "i64",
        "rung": "text",
        "proposal": "text",
        "scores": "Named*",
        "t_s": "f64*",
        "x_m": "f64*",
        "y_m": "f64*",
        "yaw_rad": "f64*",
        "speed_mps": "f64*",
        "accel_mps2": "f64*",
        "curvature_1pm": "f64*",
    },
    "Command": {
        "frame_id": "i64",
        "mono_ns": "i64",
        "accel_mps2": "f64",
        "curvature_1pm": "f64",
        "hazard_lights": "bool",
        "limited_by": "text*",
    },
    "Miss": {"frame_id": "i64", "stage": "text", "took_us": "i64", "budget_us": "i64"},
    "Timing": {
        "frame_id": "i64",
        "release_mono_ns": "i64",
        "stages_us": "Named*",
        "total_us": "i64",
        "rung": "text",
        "cancelled": "bool",
        "misses": "Miss*",
    },
    "Event": {
        "trigger": "text",
        "campaign_id": "text",
        "frame_id": "i64",
        "mono_ns": "i64",
        "value": "f64",
        "threshold": "f64",
    },
    "TickRecord": {
        "frame": "Frame",
        "ego": "Ego?",
        "guidance": "Guidance?",
        "traffic": "Scene?",
        "scene": "Scene?",
        "plan": "Plan?",
        "command": "Command?",
        "timing": "Timing?",
        "events": "Event*",
    },
}
"""Message -> field -> type; "*" repeated, "?" may be absent. A field's number is its place."""
