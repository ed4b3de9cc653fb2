"""What happened in an episode, in the words every score and every runner shares.

A `World` is anything that can be driven: a town or a recorded log. Each tick it gives a `Snapshot`
of the truth; the snapshots with the `RoadMap` they happened on are a `Trace`, all a score needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np

from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.plan import Plan
from vehicle.contracts.wire import RefusedError

ACTOR_STATE: Final = np.dtype(
    [
        ("actor_id", np.int64),  # from 1, the same actor keeps it; 0 is the ego
        ("kind", np.int64),  # index into vehicle.contracts.scene.KINDS
        ("x_m", np.float64),  # centre of the box, world frame
        ("y_m", np.float64),
        ("yaw_rad", np.float64),
        ("speed_mps", np.float64),  # along its yaw, negative in reverse
        ("length_m", np.float64),
        ("width_m", np.float64),
        ("static", np.bool_),  # a thing (cone, debris), not a road user; a parked car is none
    ]
)
"""One actor at one instant."""

EXPERT_COLUMNS: Final = ("t_s", "x_m", "y_m", "yaw_rad", "speed_mps")
"""Columns of an expert's path: where the centre of the recorded car's body was."""


class BadTraceError(RefusedError, ValueError):
    """A trace cannot be scored: too short, times that do not increase, a number not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoSample:
    """The ego's body and motion at one instant.

    Args:
        x_m, y_m, yaw_rad: centre of the body's box (not the rear axle), world frame.
        speed_mps, accel_mps2: along the body, negative in reverse / when braking.
        yaw_rate_radps, curvature_1pm: positive to the left.
        length_m, width_m: of the body.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    accel_mps2: float = 0.0
    yaw_rate_radps: float = 0.0
    curvature_1pm: float = 0.0
    length_m: float = 4.7
    width_m: float = 1.9


EGO_COLUMNS: Final = tuple(EgoSample.__dataclass_fields__)
"""Columns of `Trace.ego`: the fields of EgoSample in order."""


def no_actors() -> np.ndarray:
    """Return an empty ACTOR_STATE array."""
    return np.zeros(0, ACTOR_STATE)


def no_polygons() -> np.ndarray:
    """Return an empty float64 [0, 4, 2]."""
    return np.zeros((0, 4, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """The truth at one instant.

    Args:
        t_s: since the start of the episode.
        ego: body and motion.
        actors: ACTOR_STATE [N]: everybody else.
        red_light_m: float64 [K, 4, 2] world frame: areas nobody may be on now (behind a red
            light's stop line, inside the junction).
        collided: pairs of actor ids that touch now, 0 for the ego. Scores compute contacts from
            the boxes themselves; this is for whoever must stop an episode.
    """

    t_s: float
    ego: EgoSample
    actors: np.ndarray = field(default_factory=no_actors)
    red_light_m: np.ndarray = field(default_factory=no_polygons)
    collided: tuple[tuple[int, int], ...] = ()


@runtime_checkable
class RoadMap(Protocol):
    """The ground an episode happens on. Points are float64 [N, 2] in the world frame.

    Every answer is vectorised over N; N may be 0. A point on a border counts as inside.
    """

    def drivable(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: road, junction or parking, where wheels may go."""
        ...

    def on_route_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a lane in the direction of the ego's route (any parallel lane
        of that direction counts)."""
        ...

    def in_junction(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a junction."""
        ...

    def inside_one_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return int64 [N]: the lane each point is in, -1 outside every lane.

        Where lanes overlap (junctions), the route's lane wins, so that a car that follows its
        route has all its corners in one lane.
        """
        ...

    def centreline(self) -> np.ndarray:
        """Return float64 [P, 2], P >= 2: the centre of the ego's route, in driving order."""
        ...

    def speed_limit_mps(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: the limit of the nearest lane; inf where none is known."""
        ...

    def flow_yaw(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: direction of traffic of the lane each point is in; NaN off-lane and
        inside junctions."""
        ...


@runtime_checkable
class World(Protocol):
    """What metrics and evaluation need of any episode, of a town or of a recorded log."""

    @property
    def rate_hz(self) -> float:
        """Return ticks per second."""
        ...

    @property
    def rig(self) -> Rig:
        """Return the cameras of the ego."""
        ...

    @property
    def frame_id(self) -> int:
        """Return the current tick, from 0."""
        ...

    @property
    def done(self) -> bool:
        """Return whether the episode's time is over."""
        ...

    @property
    def road(self) -> RoadMap:
        """Return the ground of this episode."""
        ...

    def observe(self, *, truth: bool = False) -> Observation:
        """Return what the car is given now; with `truth`, `.traffic` is the true Scene."""
        ...

    def step(self, command: ControlCommand | None) -> None:
        """Move on by one tick; without a command a driver who sees all drives."""
        ...

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes float32 [M, 11] and BEV bits uint8 [100, 64] of the current frame."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the truth of the current instant."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A whole episode, as it was driven.

    Args:
        snapshots: at least two, evenly spaced in time.
        road: the ground.
        plans: what the car intended at each snapshot, for comfort between plans and MRM counts;
            empty for a driver without plans, None where a tick made none.
        expert: float64 [E, 5] EXPERT_COLUMNS, what a human did from the same start; None in towns.
    Raises:
        BadTraceError: fewer than two snapshots, times that do not increase, numbers not finite,
            or plans that do not match the snapshots one to one.
    """

    snapshots: tuple[Snapshot, ...]
    road: RoadMap
    plans: tuple[Plan | None, ...] = ()
    expert: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.snapshots)
        if n < 2:
            raise BadTraceError(f"a trace has {n} snapshots, expected at least 2")
        if self.plans and len(self.plans) != n:
            raise BadTraceError(f"{len(self.plans)} plans for {n} snapshots, expected one each")
        if not (np.isfinite(self.t_s).all() and (np.diff(self.t_s) > 0).all()):
            raise BadTraceError("snapshot times do not increase")
        if not np.isfinite(self.ego).all():
            row = int(np.argwhere(~np.isfinite(self.ego))[0, 0])
            raise BadTraceError(f"the ego of snapshot {row} is not finite: {self.ego[row]}")
        e = self.expert
        bad = e is not None and (e.ndim != 2 or len(e) < 2 or e.shape[1] != len(EXPERT_COLUMNS))
        if bad or (e is not None and not np.isfinite(e).all()):
            raise BadTraceError(f"the expert must be finite [E>=2, {len(EXPERT_COLUMNS)}]")

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    def __len__(self) -> int:
        return len(self.snapshots)

    @property
    def t_s(self) -> np.ndarray:
        """Return float64 [T]: time of each snapshot."""
        return np.array([s.t_s for s in self.snapshots], np.float64)

    @property
    def dt_s(self) -> float:
        """Return the mean time between snapshots."""
        t = self.t_s
        return float((t[-1] - t[0]) / (len(t) - 1))

    @property
    def ego(self) -> np.ndarray:
        """Return float64 [T, 9]: the ego of each snapshot, EGO_COLUMNS."""
        rows = [tuple(getattr(s.ego, name) for name in EGO_COLUMNS) for s in self.snapshots]
        return np.array(rows, np.float64)
