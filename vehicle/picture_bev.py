"""The ground from above, forward up: occupancy, lanes, road users, guidance and plan."""

from typing import Final

import cv2
import numpy as np

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import Guidance
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import BEV, FLOW_STEP_MPS, LaneLine, Occupancy
from vehicle.drawing import (
    DRIVABLE,
    EGO,
    GRID,
    GUIDANCE,
    KIND_COLOURS,
    LANE,
    OCCUPIED,
    PANEL,
    PLAN,
    PLAN_BRAKES,
    QUIET,
    WORDS,
    dashes,
    fill,
    line,
    words,
)
from vehicle.geometry import box_corners

X_MIN_M: Final = BEV.x_min_m
X_MAX_M: Final = BEV.x_min_m + BEV.nx * BEV.cell_m
Y_MAX_M: Final = BEV.y_min_m + BEV.ny * BEV.cell_m

_LIKELY_LEVEL: Final = 127
_MOVES_MPS: Final = 1.0


class Ground:
    """A picture of the ground around the ego, and the way from metres into its pixels."""

    def __init__(self, height_px: int, width_px: int | None = None) -> None:
        """Begin as high as the grid is long, and as wide as asked or as the grid is."""
        self.scale = height_px / (X_MAX_M - X_MIN_M)
        width_px = width_px or round((Y_MAX_M - BEV.y_min_m) * self.scale)
        self.y_max_m = width_px / self.scale / 2
        self.image = np.full((height_px, width_px, 3), PANEL, np.uint8)

    def pixels(self, points_ego: np.ndarray) -> np.ndarray:
        """Return pixels [P, 2] of ego points [P, 2 or more]: left is left, forward is up."""
        x, y = points_ego[..., 0], points_ego[..., 1]
        return np.stack([(self.y_max_m - y) * self.scale, (X_MAX_M - x) * self.scale], axis=-1)


def draw_rings(ground: Ground) -> None:
    """Draw circles every 20 m with their distance."""
    centre = ground.pixels(np.zeros(2))
    for range_m in (20, 40, 60):
        turn = np.linspace(0, 2 * np.pi, 120)
        ring = np.column_stack([np.cos(turn), np.sin(turn)]) * range_m
        line(ground.image, ground.pixels(ring), GRID, 1)
        side = min(range_m * 0.64, ground.y_max_m - 5.0)  # beside the road, not on it
        at = ground.pixels(np.array([np.sqrt(range_m**2 - side**2), -side]))
        words(ground.image, f"{range_m} m", (at[0] + 4, at[1] - 4), size=11, colour=QUIET)
    line(ground.image, np.array([[centre[0], 0], [centre[0], ground.image.shape[0]]]), GRID, 1)


def draw_occupancy(ground: Ground, occupancy: Occupancy) -> None:
    """Tint the ground by what the network believes of each cell."""
    grid = occupancy.grid
    corner = np.array(
        [
            [grid.x_min_m + grid.nx * grid.cell_m, grid.y_min_m + grid.ny * grid.cell_m],
            [grid.x_min_m, grid.y_min_m],
        ]
    )
    (left, top), (right, bottom) = np.rint(ground.pixels(corner)).astype(int)
    height, width = ground.image.shape[:2]
    inside = (slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width)))
    for layer, colour, most in (
        (occupancy.drivable, DRIVABLE, 0.75),
        (occupancy.lane, LANE, 0.8),
        (occupancy.occupied, OCCUPIED, 0.7),
    ):
        upright = np.ascontiguousarray(layer[::-1, ::-1])  # forward up, left left
        size = (right - left, bottom - top)
        soft = cv2.resize(upright, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0
        soft = soft[max(-top, 0) :, max(-left, 0) :]
        part = ground.image[inside]
        alpha = (np.clip(soft * 1.25 - 0.2, 0, 1) * most)[: part.shape[0], : part.shape[1], None]
        part[:] = (part * (1 - alpha) + np.array(colour, np.float32) * alpha).astype(np.uint8)


def draw_flow(ground: Ground, occupancy: Occupancy) -> None:
    """Draw where what occupies a block of cells moves to within half a second."""
    grid, flow = occupancy.grid, occupancy.flow
    if flow is None:
        return
    block = grid.nx // flow.shape[1]
    parts = (flow.shape[1], block, flow.shape[2], block)
    full = occupancy.occupied[: parts[0] * block, : parts[2] * block].reshape(parts).max((1, 3))
    moving = np.hypot(*(flow * np.float32(FLOW_STEP_MPS))) > _MOVES_MPS
    for ix, iy in np.argwhere((full > _LIKELY_LEVEL) & moving):
        here = np.array([grid.x_min_m, grid.y_min_m]) + (np.array([ix, iy]) + 0.5) * (
            block * grid.cell_m
        )
        there = here + 0.5 * FLOW_STEP_MPS * flow[:, ix, iy].astype(np.float64)
        a, b = (tuple(map(round, p)) for p in ground.pixels(np.stack([here, there])))
        cv2.line(ground.image, a, b, WORDS, 1, cv2.LINE_AA)


def draw_lanes(ground: Ground, lanes: tuple[LaneLine, ...]) -> None:
    """Draw known lane lines: centres faint, boundaries as paint."""
    for lane in lanes:
        line(ground.image, ground.pixels(lane.points_m), GRID if lane.kind == "centre" else LANE)


def draw_tracks(ground: Ground, tracks: np.ndarray) -> None:
    """Draw each road user's footprint and where it will be in a second."""
    for track in tracks:
        colour = KIND_COLOURS[int(track["kind"]) % len(KIND_COLOURS)]
        geometry = [float(track[n]) for n in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")]
        corners = ground.pixels(box_corners(*geometry, 0.0)[:4])
        fill(ground.image, corners, colour, 0.2 if track["coasted_ticks"] else 0.55)
        line(ground.image, corners, colour, 1, closed=True)
        here = np.array(geometry[:2])
        there = here + np.array([track["vx_mps"], track["vy_mps"]])
        if np.hypot(*(there - here)) > 0.5:
            a, b = ground.pixels(np.stack([here, there]))
            cv2.arrowedLine(
                ground.image, tuple(map(round, a)), tuple(map(round, b)), colour, 1, cv2.LINE_AA
            )


def draw_guidance(ground: Ground, guidance: Guidance) -> None:
    """Draw where navigation leads, dashed."""
    dashes(ground.image, ground.pixels(guidance.centreline_m), GUIDANCE, 6.0)


def draw_plan(ground: Ground, plan: Plan) -> None:
    """Draw the planned path, red where it brakes, a dot each second."""
    states = plan.trajectory.states
    points = ground.pixels(states[:, 1:3])
    for i in range(len(states) - 1):
        colour = PLAN_BRAKES if states[i, 5] < -1.0 else PLAN
        line(ground.image, points[i : i + 2], colour, 3)
    for second in np.arange(1.0, states[-1, 0] + 1e-6):
        at = points[int(np.argmin(np.abs(states[:, 0] - second)))]
        cv2.circle(ground.image, tuple(map(round, at)), 3, EGO, -1, cv2.LINE_AA)


def draw_ego(ground: Ground, config: VehicleConfig) -> None:
    """Draw the ego's body; its origin is the rear axle."""
    middle = config.length_m / 2 - config.rear_overhang_m
    corners = box_corners(middle, 0.0, 0.0, config.length_m, config.width_m, 0.0)[:4]
    fill(ground.image, ground.pixels(corners), EGO, 0.9)
    nose = np.array([[middle + 1.6, 0.0], [middle, 0.7], [middle, -0.7]])
    fill(ground.image, ground.pixels(nose), PANEL, 1.0)
