"""The world as perceived: tracks, drivable space, what the network thinks of its own answer."""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from vehicle.contracts.wire import require

KINDS: Final = (
    *("car", "pedestrian", "truck", "cyclist", "other"),
    *("bus", "motorcycle", "animal", "cone", "debris", "trailer", "emergency"),
)
"""Kinds of road user, and of things that lie or stand on the road; a track's `kind` is the index,
so new ones are added at the end. A bundle names the ones it was trained on. A pedestrian is an
adult or a child, told apart by height; "emergency" is a vehicle with blue lights."""

TRACK: Final = np.dtype(
    [
        ("track_id", np.int64),  # 0: a detection that no track owns yet
        ("kind", np.int8),  # index into KINDS
        ("x_m", np.float32),  # centre of the box on the ground, ego frame
        ("y_m", np.float32),
        ("yaw_rad", np.float32),
        ("length_m", np.float32),
        ("width_m", np.float32),
        ("height_m", np.float32),
        ("vx_mps", np.float32),  # velocity over ground, along ego axes
        ("vy_mps", np.float32),
        ("score_prob", np.float32),
        ("age_ticks", np.int32),
        ("coasted_ticks", np.int32),  # since last seen
    ]
)
"""One road user. Scenes hold arrays of these: the tracker and planner are compiled over them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BevGrid:
    """A raster on the ground, ego frame; cell [ix, iy] begins at min + index * cell.

    Args:
        x_min_m, y_min_m: corner of cell [0, 0]; x forward, y left.
        cell_m: side of a cell.
        nx, ny: cells along x and y.
    """

    SCHEMA: ClassVar[str] = "bevgrid/1"
    x_min_m: float
    y_min_m: float
    cell_m: float
    nx: int
    ny: int

    def __post_init__(self) -> None:
        require(self.cell_m > 0 and self.nx > 0 and self.ny > 0, f"empty grid: {self}")

    def centres(self) -> np.ndarray:
        """Return the cell centres, float64 [nx, ny, 2], metres in the ego frame."""
        x = self.x_min_m + (np.arange(self.nx) + 0.5) * self.cell_m
        y = self.y_min_m + (np.arange(self.ny) + 0.5) * self.cell_m
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)


BEV: Final = BevGrid(x_min_m=-20.0, y_min_m=-25.6, cell_m=0.8, nx=100, ny=64)
"""The raster of drivable space, lane paint and occupancy (net R: forward-biased 80 m x 51.2 m)."""

BEV_BOX: Final = BevGrid(x_min_m=-20.0, y_min_m=-25.6, cell_m=1.6, nx=50, ny=32)
"""The raster on which boxes are detected: half the resolution of BEV."""

FLOW_STEP_MPS: Final = 0.25
"""What a step of `Occupancy.flow` is worth; 127 of them are 114 km/h."""

BEV_DRIVABLE: Final = 1
BEV_LANE: Final = 2
BEV_OCCUPIED: Final = 4
"""Bits of a labelled BEV cell (uint8)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaneLine:
    """A line on the ground: `points_m` [P, 2], ego frame; `kind` "centre" or "boundary"."""

    kind: str
    points_m: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Occupancy:
    """Probabilities on a grid, uint8 0..255 for 0..1: [nx, ny] each.

    Args:
        flow: int8 [2, nx / k, ny / k] in steps of FLOW_STEP_MPS: velocity over ground, along ego
            axes, of what occupies a block of k x k cells; it means nothing where nothing does. None
            when the network does not say.
    """

    grid: BevGrid
    drivable: np.ndarray
    lane: np.ndarray
    occupied: np.ndarray
    flow: np.ndarray | None = None


SIGNAL_STATES: Final = ("none", "red", "yellow", "green")
"""What a traffic light shows; "none": none in sight rules the ego's way."""

SignalState = Literal["none", "red", "yellow", "green"]
SignalSource = Literal["network", "map", "truth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """The next traffic light that rules the ego's own way, as believed in one frame.

    Args:
        state: what it shows.
        prob: 0..1, that it shows this.
        distance_m: along the way from the rear axle to its stop line; NaN where not known.
        source: who says so.
    """

    SCHEMA: ClassVar[str] = "signal/1"
    state: SignalState
    prob: float = 1.0
    distance_m: float = math.nan
    source: SignalSource = "network"

    def __post_init__(self) -> None:
        require(self.state in SIGNAL_STATES, f"Signal.state is {self.state!r}: {SIGNAL_STATES}")
        require(0.0 <= self.prob <= 1.0, f"Signal.prob is {self.prob}, expected 0..1")
        require(not math.isinf(self.distance_m), "Signal.distance_m is infinite; unknown is NaN")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What the car believes about one frame.

    Args:
        frame_id: the frame it came from.
        tracks: TRACK [N], ego frame.
        occupancy: None when no camera fed the network.
        embedding: float32 [E], the network's summary of the frame; empty when it did not run.
        uncertainty_ratio: 0..1; 0.5 where the embedding lies at the 99th percentile of distance
            from the training data, towards 1 beyond it. NaN when the network did not run.
        fresh: False when tracks were only predicted (late, cancelled or absent inference).
        signal: None when nobody looked for traffic lights.
    """

    frame_id: int
    mono_ns: int
    tracks: np.ndarray
    lanes: tuple[LaneLine, ...] = ()
    occupancy: Occupancy | None = None
    embedding: np.ndarray
    uncertainty_ratio: float
    fresh: bool
    signal: Signal | None = None

    def __post_init__(self) -> None:
        require(self.tracks.dtype == TRACK, f"Scene.tracks is {self.tracks.dtype}, expected TRACK")
