"""The words an expression may use: every signal of a tick and every column of a track.

The car computes them (vehicle/signals.py), the log carries them, the lake has a column for each by
the same name: one text means the same in all three.
"""

from dataclasses import dataclass
from typing import Final, Literal

from vehicle.contracts.plan import RUNGS
from vehicle.contracts.scene import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A name an expression may use.

    Args:
        kind: numbers are compared and reckoned with; a text is only equal to another or not.
        unit: as in the name's suffix; "" for counts and texts, "0/1" for yes and no.
        meaning: one line.
        logged: the car computes it in each tick and logs it in `Tick.signals`; the others are read
            off what a tick carries anyway.
        values: all a text may be; empty where that is open.
    """

    kind: Literal["number", "text"] = "number"
    unit: str = ""
    meaning: str
    logged: bool = False
    values: tuple[str, ...] = ()


def _number(unit: str, meaning: str) -> Word:
    return Word(unit=unit, meaning=meaning)


def _logged(unit: str, meaning: str) -> Word:
    return Word(unit=unit, meaning=meaning, logged=True)


SIGNALS: Final[dict[str, Word]] = {
    "speed_mps": _number("m/s", "along ego x"),
    "accel_mps2": _number("m/s2", "longitudinal, negative when braking"),
    "jerk_mps3": _logged("m/s3", "change of accel_mps2 over the last 0.3 s"),
    "yaw_rate_radps": _number("rad/s", "positive to the left"),
    "curvature_1pm": _number("1/m", "of the path, positive to the left"),
    "lateral_accel_mps2": _logged("m/s2", "speed times yaw rate, positive to the left"),
    "latitude_deg": _number("deg", "WGS84, where known"),
    "longitude_deg": _number("deg", "WGS84, where known"),
    "ttc_s": _logged(
        "s", "until somebody ahead is touched at present speeds and curvature; unknown beyond 3 s"
    ),
    "rss_margin_m": _logged(
        "m", "least gap beyond the RSS safe distance, negative inside it; unknown without anybody"
    ),
    "n_tracks": _number("", "road users the car believes in; unknown when it did not look"),
    "fresh": _number("0/1", "1: the network ran on this frame; 0: tracks were only predicted"),
    "uncertainty_ratio": _number(
        "0..1", "over 0.5: beyond 99 % of the training frames; unknown when the network did not run"
    ),
    "novelty": _logged(
        "spreads",
        "distance of the frame's embedding from the nearest known one, in spreads of the known set",
    ),
    "flicker_ratio": _logged(
        "0..1", "share of the near tracks of the last second that dropped out and came back"
    ),
    "shadow_disagreement": _logged(
        "0..1", "of the candidate in shadow with what drives; unknown without a recent answer"
    ),
    "human_gap_m": _logged(
        "m",
        "from where the plan of 1.5 s before led to where the driver went; unknown unless a human "
        "drives",
    ),
    "command_accel_mps2": _number("m/s2", "what the actuators were asked for"),
    "command_curvature_1pm": _number("1/m", "what the actuators were asked for"),
    "limited_by": Word(
        kind="text", meaning="safety rules that limited the command, joined by commas"
    ),
    "proposal": Word(kind="text", meaning="the planner's winning proposal"),
    "rung": Word(kind="text", meaning="where the tick stood on the degrade ladder", values=RUNGS),
    "rung_index": _logged("0..4", "the same as a number: 0 full ... 4 mrm"),
    "mrm": _logged("0/1", "1: a minimal risk manoeuvre"),
    "total_us": _number("us", "from the frame's scheduled release to the command"),
    "missed": _logged("0/1", "1: the command left late; unknown in a run that nobody waits for"),
    "late_ticks": _logged("", "ticks in a row that were late, this one included; unknown as above"),
    "engaged": _logged("0/1", "1: the car drives, 0: a human does; unknown where nobody says"),
    "takeover": _logged("0/1", "1: on this tick the driver took over"),
    "bookmark": _logged("0/1", "1: on this tick somebody asked to keep this"),
    "random_prob": _logged("0..1", "a fair draw, the same for a car, route and frame on every run"),
}
"""Name -> meaning; a name is also the column of the lake's `ticks`."""

TRACK_WORDS: Final[dict[str, Word]] = {
    "kind": Word(kind="text", meaning="kind of road user", values=KINDS),
    "range_m": _number("m", "distance of the centre from the ego origin"),
    "speed_mps": _number("m/s", "of the track over ground"),
    "x_m": _number("m", "centre on the ground, ego frame, forward"),
    "y_m": _number("m", "centre on the ground, ego frame, left"),
    "yaw_rad": _number("rad", "heading in the ego frame, positive to the left"),
    "length_m": _number("m", "along its heading"),
    "width_m": _number("m", "across its heading"),
    "height_m": _number("m", "above the ground"),
    "vx_mps": _number("m/s", "velocity over ground along ego x"),
    "vy_mps": _number("m/s", "velocity over ground along ego y"),
    "score_prob": _number("0..1", "detection score"),
    "age_ticks": _number("", "since first seen"),
    "coasted_ticks": _number("", "since last seen"),
    "track_id": _number("", "the same road user keeps its id along the route; 0: no track yet"),
}
"""What may be asked of one track inside tracks(), nearest() and appears()."""
