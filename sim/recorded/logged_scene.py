"""Recorded scenes in one form, whatever dataset they come from.

A scene lives in its own metres: x east, y north, origin near where the ego starts (the offset is
kept in `origin_m`), so that single precision is enough for the renderer. Time runs on an even grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.contracts.scenario import Scenario
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError

MAX_ACTORS: Final = 2_000
MAX_STEPS: Final = 12_000
MAX_LANES: Final = 20_000
MAX_PLACE_M: Final = 1e6
MAX_SPEED_MPS: Final = 150.0
MAX_SIZE_M: Final = 100.0
MAX_LANE_M: Final = 20_000.0
MAX_GAP_S: Final = 1.0
"""A track that was lost for at most this long is joined by a straight line."""

TRUCK_LENGTH_M: Final = 6.5
"""Datasets call everything on four wheels a vehicle or a car; what is longer becomes a truck."""

MAX_BYTES: Final = 256 * 1024 * 1024
EGO_STATE: Final = ("x_m", "y_m", "yaw_rad", "speed_mps")


class LoggedSceneError(RefusedError, ValueError):
    """A recorded scene cannot be an episode; the message names the file and what is wrong."""


class SceneDamagedError(LoggedSceneError):
    """A file does not hold what its format says: malformed, wrong types, missing fields."""


class ForbiddenXmlError(LoggedSceneError):
    """An XML file declares a document type or entities, which no scene needs."""


class EmptyTrackError(LoggedSceneError):
    """A track has no pose."""


class PoseNotFiniteError(LoggedSceneError):
    """A pose, size or map point is NaN or infinite."""


class DuplicateTimeError(LoggedSceneError):
    """A track has two poses at one time."""


class UnknownEgoError(LoggedSceneError):
    """The scene does not say who the ego is, or where it starts."""


class TooManyActorsError(LoggedSceneError):
    """The scene is larger than an episode can be."""


class NoRoadError(LoggedSceneError):
    """The scene has no drivable ground."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    """A lane of a recorded map.

    Args:
        name: of the map.
        centre_m: [P, 2] in driving order.
        outline_m: [Q, 2] polygon of the lane.
        width_m: mean.
        speed_mps: limit; None where the map does not say.
        successors: names of the lanes it leads into.
        beside: names of lanes of the same direction left and right of it.
        junction: the map says it crosses a junction; None where the map does not say.
    """

    name: str
    centre_m: np.ndarray
    outline_m: np.ndarray
    width_m: float
    speed_mps: float | None = None
    successors: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    junction: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paint:
    """A painted line.

    Args:
        points_m: [P, 2].
        yellow, dashed: else white, solid.
        bound: the map only says that a lane ends here: nothing is painted inside junctions, nor
            an edge with road on both sides.
    """

    points_m: np.ndarray
    yellow: bool = False
    dashed: bool = False
    bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """Where and when a planning problem is solved.

    Args:
        regions_m: polygons; empty: anywhere.
        from_s, to_s: time window.
        speed_mps, yaw_rad: (least, most); None: any.
    """

    regions_m: tuple[np.ndarray, ...]
    from_s: float
    to_s: float
    speed_mps: tuple[float, float] | None = None
    yaw_rad: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedScene:
    """One recorded scene.

    Args:
        name, source: e.g. "scene-0103", "nuscenes".
        dt_s: between steps.
        names: [A] the dataset's ids of the actors.
        kinds: int64 [A] index into KINDS.
        sizes_m: [A, 3] length, width, height.
        poses: float64 [A, T, 3] x, y, yaw of the box centre; only where `valid` [A, T].
        start: EGO_STATE of the rear axle at step 0.
        ego: [T, 4] EGO_STATE of the rear axle; None where the ego was not recorded.
        lanes: the lane graph.
        areas_m: drivable areas, each a tuple of rings (outer and holes, even-odd).
        paint: lines on the road. crossings_m: polygons of crosswalks.
        goal: of a planning problem.
        scenario: how to run it again, where the file says: light, weather, seed, rate.
        origin_m: what was taken off the dataset's coordinates.
    """

    name: str
    source: str
    dt_s: float
    names: tuple[str, ...]
    kinds: np.ndarray
    sizes_m: np.ndarray
    poses: np.ndarray
    valid: np.ndarray
    start: np.ndarray
    ego: np.ndarray | None
    lanes: tuple[Lane, ...]
    areas_m: tuple[tuple[np.ndarray, ...], ...]
    paint: tuple[Paint, ...] = ()
    crossings_m: tuple[np.ndarray, ...] = ()
    goal: Goal | None = None
    scenario: Scenario | None = None
    origin_m: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        where = f"{self.source} {self.name}"
        if len(self.names) > MAX_ACTORS:
            raise TooManyActorsError(
                f"{where} has {len(self.names)} actors, at most {MAX_ACTORS}; cut the scene"
            )
        if not 2 <= self.steps <= MAX_STEPS:
            raise LoggedSceneError(f"{where} has {self.steps} steps, expected 2..{MAX_STEPS}")
        if not 0.005 <= self.dt_s <= 1.0:
            raise LoggedSceneError(f"{where}: a step is {self.dt_s} s, expected 0.005..1")
        if not self.areas_m:
            raise NoRoadError(f"{where} has no drivable area: its map is needed")
        if len(self.lanes) > MAX_LANES:
            raise LoggedSceneError(f"{where} has {len(self.lanes)} lanes, at most {MAX_LANES}")
        long = [x for x in self.lanes if np.hypot(*np.ptp(x.centre_m, axis=0)) > MAX_LANE_M]
        if long:
            raise LoggedSceneError(
                f"{where}: lane {long[0].name!r} is over {MAX_LANE_M:.0f} m long"
            )
        for lane in self.lanes:
            limit = 1.0 if lane.speed_mps is None else lane.speed_mps
            if not (0.5 <= lane.width_m <= 50.0 and 0.0 < limit < MAX_SPEED_MPS):
                raise LoggedSceneError(
                    f"{where}: lane {lane.name!r} is {lane.width_m} m wide, limit {limit} m/s"
                )
        bad = ~_near(np.where(self.valid[..., None], self.poses, 0.0)).all(axis=(1, 2))
        bad |= ~((self.sizes_m > 0.0) & (self.sizes_m < MAX_SIZE_M)).all(axis=1)
        if bad.any():
            name = self.names[int(np.argmax(bad))]
            raise PoseNotFiniteError(f"{where}: track {name!r} has a pose or size out of range")
        rows = self.start[None] if self.ego is None else np.vstack([self.start, self.ego])
        if not _near(rows).all() or rows[:, 3].max() > MAX_SPEED_MPS:
            raise PoseNotFiniteError(f"{where}: the ego has a pose or speed out of range")

    @property
    def steps(self) -> int:
        """Return how many steps were recorded."""
        return int(self.valid.shape[1])

    @property
    def duration_s(self) -> float:
        """Return the time from the first to the last step."""
        return (self.steps - 1) * self.dt_s


def _near(values: np.ndarray) -> np.ndarray:
    """Return where values are finite and no further off than a scene can be."""
    return np.isfinite(values) & (np.abs(values) < MAX_PLACE_M)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """One actor as read: its own times and poses [N, 3] (box centre, dataset's metres)."""

    name: str
    kind: str
    t_s: np.ndarray
    poses: np.ndarray
    size_m: tuple[float, float, float]


def kind_index(name: str) -> int:
    """Return the index of a kind, of "other" for what KINDS does not know."""
    return KINDS.index(name if name in KINDS else "other")


def _kind(track: Track) -> int:
    long = track.kind == "car" and track.size_m[0] > TRUCK_LENGTH_M
    return kind_index("truck" if long else track.kind)


def check_track(track: Track, where: str) -> None:
    """Refuse a track that is empty, not finite or has two poses at one time."""
    if len(track.t_s) == 0:
        raise EmptyTrackError(f"{where}: track {track.name!r} has no pose")
    if not (np.isfinite(track.t_s).all() and np.isfinite(track.poses).all()):
        raise PoseNotFiniteError(f"{where}: track {track.name!r} has a pose that is not finite")
    if not (np.isfinite(track.size_m).all() and min(track.size_m) > 0.0):
        raise PoseNotFiniteError(f"{where}: track {track.name!r} has the size {track.size_m}")
    steps = np.diff(track.t_s)
    if (steps == 0).any():
        at = float(track.t_s[int(np.argmax(steps == 0))])
        raise DuplicateTimeError(f"{where}: track {track.name!r} has two poses at {at:.3f} s")
    if (steps < 0).any():
        raise SceneDamagedError(f"{where}: the times of track {track.name!r} run backwards")


def on_grid(
    tracks: Iterable[Track], grid_s: np.ndarray, origin_m: np.ndarray, where: str
) -> dict[str, object]:
    """Return names, kinds, sizes_m, poses and valid of tracks on one even grid.

    Between two poses at most MAX_GAP_S apart a track runs straight; else it is not there.
    """
    tracks = list(tracks)
    if len(tracks) > MAX_ACTORS:
        raise TooManyActorsError(f"{where} has {len(tracks)} actors, at most {MAX_ACTORS}")
    poses = np.zeros((len(tracks), len(grid_s), 3))
    valid = np.zeros((len(tracks), len(grid_s)), bool)
    half = 0.5 * float(grid_s[1] - grid_s[0])
    for row, track in enumerate(tracks):
        check_track(track, where)
        t, yaw = track.t_s, np.unwrap(track.poses[:, 2])
        for k, values in enumerate((track.poses[:, 0], track.poses[:, 1], yaw)):
            poses[row, :, k] = np.interp(grid_s, t, values)
        poses[row, :, :2] -= origin_m
        after = np.clip(np.searchsorted(t, grid_s), 1, max(len(t) - 1, 1))
        inside = (grid_s >= t[0] - half) & (grid_s <= t[-1] + half)
        if len(t) > 1:
            lost = t[after] - t[after - 1] > MAX_GAP_S
            near = np.minimum(np.abs(grid_s - t[after]), np.abs(grid_s - t[after - 1])) < half
            inside &= ~lost | near
        valid[row] = inside
    here = valid.any(axis=1)
    keep = np.flatnonzero(here)
    return {
        "names": tuple(tracks[i].name for i in keep),
        "kinds": np.array([_kind(tracks[i]) for i in keep], np.int64),
        "sizes_m": np.array([tracks[i].size_m for i in keep], np.float64).reshape(-1, 3),
        "poses": poses[keep],
        "valid": valid[keep],
    }


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        SceneDamagedError: it cannot be read, or is larger than any scene is.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SceneDamagedError(f"{path} has {size} bytes, a scene has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SceneDamagedError(f"{path} cannot be read: {error}") from error


def points(values: object, where: str, least: int = 2) -> np.ndarray:
    """Return values as finite float64 [P >= least, 2]."""
    try:
        line = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SceneDamagedError(f"{where} does not hold points: {error}") from error
    if line.ndim != 2 or line.shape[1] < 2 or len(line) < least:
        raise SceneDamagedError(f"{where} has shape {line.shape}, expected [{least} or more, 2]")
    line = line[:, :2]
    if not (np.abs(line) < 1e9).all():
        raise PoseNotFiniteError(f"{where} holds points that are not finite or beyond the earth")
    return line


def distinct(line_m: np.ndarray, least_m: float = 1e-3) -> np.ndarray:
    """Return the polyline without repeated points; it keeps at least its two ends."""
    step = np.hypot(*np.diff(line_m, axis=0).T)
    keep = np.concatenate([[True], step > least_m])
    return line_m[keep] if keep.sum() >= 2 else line_m[[0, -1]]


def outline(left_m: np.ndarray, right_m: np.ndarray) -> np.ndarray:
    """Return the polygon between two bounds that run the same way."""
    return np.concatenate([left_m, right_m[::-1]])
