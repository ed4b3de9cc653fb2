"""What a context outside the car says to it: evidence that can only make a plan more careful.

Advice speaks in the local frame of the car that asked, because the car has moved on when it comes.
It never says "faster", "left" or "go": there are no such words in it. The car believes what it
believes of it by its own rules (`vehicle/offboard.py`), and forgets it when it expires.

Asking: one request of the Open Inference Protocol with the tensors ASK_TRACKS and ASK_EGO, its
`parameters` carrying the InferenceRequest; a model that advises answers with one BYTES tensor
ANSWER of one element, the canonical bytes of an Advice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

import numpy as np

from vehicle.contracts.inference import CONTEXTS, Context
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.contracts.wire import require, require_finite

ADVISED_COLUMNS: Final = (
    *("kind", "x_m", "y_m", "yaw_rad", "length_m", "width_m", "height_m"),
    *("vx_mps", "vy_mps", "score_prob"),
)
"""Columns of an advised track: fields of TRACK, here in the local frame; it has no identity."""

ASK_TRACKS: Final = "tracks"
"""Input FP32 [N, 10]: what the car itself sees, ADVISED_COLUMNS in its local frame; N may be 0."""

ASK_EGO: Final = "ego"
"""Input FP64 [6], EGO_COLUMNS: where the car is."""

EGO_COLUMNS: Final = ("x_m", "y_m", "yaw_rad", "speed_mps", "origin_east_m", "origin_north_m")
"""Pose and speed in the local frame; and where the origin of that frame lies in the site's own
east-north-up frame, so that p_site = p_local + origin. Both frames have the same axes."""

ANSWER: Final = "advice"

MAX_TRACKS: Final = 32
MAX_CAPS: Final = 8
MAX_ADVICE_BYTES: Final = 32 << 10
"""Larger advice is refused before it is parsed."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_FAR_M: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedCap:
    """A disc on the ground, local frame, in which to be slower.

    Args:
        speed_mps: no faster than this inside.
        x_m, y_m, radius_m: the disc; an area the car does not know it cannot place.
    """

    SCHEMA: ClassVar[str] = "speedcap/1"
    speed_mps: float
    x_m: float
    y_m: float
    radius_m: float

    def __post_init__(self) -> None:
        require_finite(
            "SpeedCap",
            speed_mps=self.speed_mps,
            x_m=self.x_m,
            y_m=self.y_m,
            radius_m=self.radius_m,
        )
        require(self.speed_mps >= 0.0, f"SpeedCap.speed_mps is {self.speed_mps}, expected 0 or up")
        require(
            0.0 < self.radius_m <= 10_000.0,
            f"SpeedCap.radius_m is {self.radius_m}, expected 0..10,000",
        )
        require(max(abs(self.x_m), abs(self.y_m)) < _FAR_M, "SpeedCap lies a thousand km away")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One offboard answer.

    Args:
        request_id: 32 hex digits, of the request that it answers.
        context, site: who advises.
        model_set: name@version of what answered.
        input_utc_ns: the instant that the tracks are true of.
        valid_until_utc_ns: the car forgets it then, sooner if it thinks so.
        tracks: road users the car may not see, ADVISED_COLUMNS in the local frame.
        caps: where to be slower.
        reason: in words, for people: "pedestrian behind truck, seen by camera-3".
    """

    SCHEMA: ClassVar[str] = "advice/1"
    request_id: str
    context: Context
    site: str
    model_set: str
    input_utc_ns: int
    valid_until_utc_ns: int
    tracks: tuple[tuple[float, ...], ...] = ()
    caps: tuple[SpeedCap, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        require(bool(_ID.fullmatch(self.request_id)), "request_id is not 32 hex digits")
        require(self.context in CONTEXTS, f"context is {self.context!r}, expected {CONTEXTS}")
        for name, value in (("site", self.site), ("model_set", self.model_set)):
            require(bool(_NAME.fullmatch(value)), f"{name} is {value!r}, expected a short name")
        require(
            0 < self.input_utc_ns < self.valid_until_utc_ns,
            f"valid_until_utc_ns {self.valid_until_utc_ns} is not after {self.input_utc_ns}",
        )
        require(len(self.tracks) <= MAX_TRACKS, f"{len(self.tracks)} tracks, over {MAX_TRACKS}")
        require(len(self.caps) <= MAX_CAPS, f"{len(self.caps)} caps, over {MAX_CAPS}")
        require(len(self.reason) <= 300, f"reason has {len(self.reason)} letters, over 300")
        for row in self.tracks:
            require(
                len(row) == len(ADVISED_COLUMNS),
                f"a track has {len(row)} columns, expected {len(ADVISED_COLUMNS)}",
            )
            require_finite("Advice.tracks", **dict(zip(ADVISED_COLUMNS, row, strict=True)))
            require(
                row[0] in range(len(KINDS)),
                f"kind of a track is {row[0]:g}, expected 0..{len(KINDS) - 1}",
            )
            require(max(abs(value) for value in row) < _FAR_M, "a track is a thousand km away")


def rows_of(tracks: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Return TRACK [N] as rows of ADVISED_COLUMNS, in whatever frame they are."""
    columns = [tracks[name].astype(np.float64).tolist() for name in ADVISED_COLUMNS]
    return tuple(zip(*columns, strict=True))


def tracks_of(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Return rows of ADVISED_COLUMNS as TRACK [N], as old as anyone asks; frames stay as given."""
    out = np.zeros(len(rows), TRACK)
    for i, name in enumerate(ADVISED_COLUMNS):
        out[name] = [row[i] for row in rows]
    out["age_ticks"] = 100
    return out


Verdict = Literal["heeded", "no effect", "late", "stale", "future", "unplaced", "forged", "torn"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
"""What became of advice in one tick: it made the command more careful; the command was careful
enough; refused, for it had expired before it was looked at, is about too old an instant, is about
one that has not been yet, speaks of places that are none, did not come over a connection on which
both sides showed who they are, is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceNote:
    """What a tick did with one piece of advice; in the log beside the command.

    Args:
        request_id, context, site: whose advice.
        verdict: see VERDICTS; a refusal is told once, by the first tick that met it.
        age_us: from the instant the advice is about to this tick.
        held_back_mps2: how much less acceleration the command asks for than the car's own.
    """

    request_id: str
    context: Context
    site: str
    verdict: Verdict
    age_us: int
    held_back_mps2: float = 0.0
