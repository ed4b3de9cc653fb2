"""Which ground a rig sees: what no camera sees, no network may claim to have seen."""

import numpy as np

from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BevGrid
from vehicle.geometry import project

BODY_M = 0.8
"""Half the height of what stands on a cell: seen when its middle or its foot is."""


def seen_cells(rig: Rig, grid: BevGrid) -> np.ndarray:
    """Return which cells of a grid at least one camera sees.

    Args:
        rig: any cameras, with or without distortion.
        grid: on the ground, ego frame.
    Returns:
        bool [nx, ny]; walls and other road users in between are not considered.
    """
    centres = grid.centres()
    seen = np.zeros((grid.nx, grid.ny), dtype=bool)
    for height_m in (0.0, BODY_M):
        points = np.concatenate([centres, np.full((*seen.shape, 1), height_m)], axis=-1)
        for camera in rig.cameras:
            uv_px, depth_m = project(camera, points)
            inside = (uv_px > -0.5) & (uv_px < [camera.width_px - 0.5, camera.height_px - 0.5])
            seen |= inside.all(axis=-1) & (depth_m > 0.1)
    return seen
