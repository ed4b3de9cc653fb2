"""Detections in, tracks out: one constant-velocity Kalman filter per road user.

Filters live in the local frame, so that the ego's own motion needs no compensation inside them;
detections are carried in and tracks out through the ego pose of their instant.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle import tracker_kernels as k
from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.tracker_match import WORK_ROWS, assign

__all__ = ["FAMILIES", "Tracker", "TrackerConfig", "assign"]

FAMILIES: Final = (
    ("car", "truck", "bus", "trailer", "emergency"),
    ("cyclist", "motorcycle"),
    ("cone", "debris", "other"),
)
"""Kinds a detector takes for one another: a track may go on as another kind of its family."""

MAX_DETECTIONS: Final = 128
_GAP_S: Final = 2.0
"""No prediction survives a gap longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How tracks are born, matched and die.

    Args:
        birth_hits: detections in a row before a track is told to anyone.
        sure_prob: a single detection of this score is told at once; over 1: none is.
        birth_prob: least score of a detection that begins a track.
        coast_ticks: ticks without a detection that every track survives.
        coast_s: seconds without one that a track seen for as long survives; the longer of both.
        tell_ticks: ticks without a detection for which a track is still told.
        gate_sigma2: largest squared Mahalanobis distance of a match (11.8: 99.7 % of 2-D).
        by_overlap: match by generalised overlap instead of distance; asks for good boxes.
        least_overlap: generalised overlap below which nothing matches then.
        switch_cost: added, in squared sigmas, between two kinds of one family.
        noise_m: standard deviation of a detected position, plus `noise_ratio` of its range.
        speed_noise_mps: standard deviation of a detected velocity if ticks were independent:
            a network reads speeds off looks, so its error stays for seconds; at 36 Hz a small one
            would hold every track to what the first look said.
        accel_mps2: process noise per kind (KINDS order): what road users do unannounced.
        speed_mps: standard deviation of the speed of a new track, per kind.
        yaw_gain, shape_gain: how far a detection turns a track, and changes its size.
        max_tracks: rows of the table; the least sure detections beyond it are dropped.
    """

    birth_hits: int = 2
    sure_prob: float = 2.0
    birth_prob: float = 0.0
    coast_ticks: int = 6
    coast_s: float = 0.6
    tell_ticks: int = 10_000
    gate_sigma2: float = 11.8
    by_overlap: bool = False
    least_overlap: float = -1.0
    switch_cost: float = 4.0
    noise_m: float = 0.6
    noise_ratio: float = 0.04
    speed_noise_mps: float = 6.0
    accel_mps2: tuple[float, ...] = (
        *(2.0, 0.8, 2.0, 1.5, 1.5),
        *(1.5, 2.5, 2.0, 0.3, 0.3, 2.0, 2.5),
    )
    speed_mps: tuple[float, ...] = (
        *(5.0, 1.2, 5.0, 3.0, 3.0),
        *(5.0, 6.0, 2.0, 0.5, 0.5, 5.0, 6.0),
    )
    yaw_gain: float = 0.4
    shape_gain: float = 0.3
    max_tracks: int = 128

    def settings(self) -> np.ndarray:
        """Return the numbers as the kernels take them."""
        s = np.zeros(k.SETTINGS)
        s[k.GATE], s[k.SWITCH_COST] = self.gate_sigma2, self.switch_cost
        s[k.BY_OVERLAP], s[k.LEAST_OVERLAP] = self.by_overlap, self.least_overlap
        s[k.NOISE], s[k.RATIO] = self.noise_m, self.noise_ratio
        s[k.SPEED_NOISE], s[k.BIRTH_PROB] = self.speed_noise_mps, self.birth_prob
        s[k.BIRTH_HITS], s[k.TELL_TICKS] = self.birth_hits, self.tell_ticks
        s[k.COAST_TICKS], s[k.COAST_S] = self.coast_ticks, self.coast_s
        s[k.SURE_PROB] = self.sure_prob
        s[k.YAW_GAIN], s[k.SHAPE_GAIN] = self.yaw_gain, self.shape_gain
        return s


class Tracker:
    """Keeps road users by number while they are seen, and for a while when they are not."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        c = config or TrackerConfig()
        n, m = c.max_tracks, MAX_DETECTIONS
        self._settings = c.settings()
        self._accel2 = np.array(c.accel_mps2, dtype=np.float64) ** 2
        self._prior2 = np.array(c.speed_mps, dtype=np.float64) ** 2
        self._family = _families()
        self._table, self._cov = np.zeros((n, k.COLUMNS)), np.zeros((n, 3))
        self._ids, self._source = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._found, self._noise2 = np.zeros((m, k.COLUMNS)), np.zeros(m)
        self._order = np.zeros(m, np.int64)
        self._shared, self._cost = np.zeros((n, m)), np.zeros((n, m))
        self._work = np.zeros((WORK_ROWS, max(n, m) + 2))
        self._out, self._zero = np.zeros(n, TRACK), np.zeros(m)
        self._told = (np.zeros(n), np.zeros(n, np.int64))
        self.reset()
        warm = np.zeros(2, TRACK)
        for mono_ns in (0, 100_000_000):  # compiles every kernel before the car moves
            self.update(warm, None, mono_ns)
        self.coast(None, 200_000_000)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._count, self._next_id, self._shown = 0, 1, 0
        self._mono_ns: int | None = None
        self._pose = (0.0, 0.0, 0.0)
        self._motion = (0.0, 0.0)

    def update(
        self,
        detections: np.ndarray,
        ego: EgoState | None,
        mono_ns: int,
        *,
        velocity_known: bool = False,
        base_m: np.ndarray | None = None,
        noise_m: np.ndarray | None = None,
    ) -> np.ndarray:
        """Take one frame's detections in and return the tracks at that instant.

        Args:
            detections: TRACK [N], ego frame of this instant.
            ego: pose and motion; None holds the last known motion.
            mono_ns: of the frame.
            velocity_known: the detections' velocities over ground are measured: use them.
            base_m: [N] height of each box's base; None: all stand on the ground, z = 0.
            noise_m: [N] standard deviation of each place; None: as the configuration has it.
        Returns:
            TRACK [M] of tracks born by `birth_hits` detections, ego frame, velocity over ground.
        """
        dt = self._advance(ego, mono_ns)
        heights = self._zero if base_m is None else base_m
        noises = self._zero if noise_m is None else noise_m
        if detections.size > MAX_DETECTIONS:
            surest = np.argsort(-detections["score_prob"], kind="stable")[:MAX_DETECTIONS]
            detections = detections[surest]
            heights = heights if base_m is None else heights[surest]
            noises = noises if noise_m is None else noises[surest]
        self._count, self._next_id, self._shown = k.tick(
            detections, heights, noises, self._pose, dt, velocity_known, self._count, self._next_id,
            self._settings, self._accel2, self._prior2, self._family, self._table, self._cov,
            self._ids, self._source, self._found, self._noise2, self._order,
            self._shared, self._cost, self._work, self._out, *self._told,
        )  # fmt: skip
        return self._out[: self._shown].copy()

    def coast(self, ego: EgoState | None, mono_ns: int) -> np.ndarray:
        """Return the tracks predicted to `mono_ns` when nothing could be detected."""
        return self.update(_NONE, ego, mono_ns)

    @property
    def base_m(self) -> np.ndarray:
        """Return the height of the base of each track told last."""
        return self._told[0][: self._shown]

    @property
    def source(self) -> np.ndarray:
        """Return which detection each track told last took in at this tick, -1 for none.

        Where more were given than fit, they count from the surest on.
        """
        return self._told[1][: self._shown]

    def _advance(self, ego: EgoState | None, mono_ns: int) -> float:
        dt = 0.0 if self._mono_ns is None else max(0.0, (mono_ns - self._mono_ns) * 1e-9)
        self._mono_ns = mono_ns
        if ego is not None:
            self._pose = (ego.x_m, ego.y_m, ego.yaw_rad)
            self._motion = (ego.speed_mps, ego.yaw_rate_radps)
            late = (mono_ns - ego.mono_ns) * 1e-9
            if 0.0 < abs(late) < 0.2:  # the pose is of another instant: carry it to the frame's
                self._pose = _carry(self._pose, self._motion, late)
        elif dt > 0.0:
            self._pose = _carry(self._pose, self._motion, dt)
        if dt > _GAP_S:
            self._count = 0
        return dt


_NONE: Final = np.zeros(0, TRACK)


def _families() -> np.ndarray:
    """Return a number per kind (KINDS order), the same for kinds of one family."""
    number = np.arange(len(KINDS))
    for family in FAMILIES:
        number[[KINDS.index(kind) for kind in family]] = KINDS.index(family[0])
    return number


def _carry(
    pose: tuple[float, float, float], motion: tuple[float, float], dt: float
) -> tuple[float, float, float]:
    x, y, yaw = pose
    speed, rate = motion
    middle = yaw + rate * dt / 2.0
    return x + speed * dt * math.cos(middle), y + speed * dt * math.sin(middle), yaw + rate * dt
