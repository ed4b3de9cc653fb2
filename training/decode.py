"""Maps -> boxes, for measuring: the same rules as the car's compiled decoder, in plain numpy."""

from typing import Final

import numpy as np

from vehicle.contracts.scene import BEV_BOX

SEPARATION_M: Final = {
    **{"car": 2.0, "pedestrian": 0.8, "truck": 3.0, "cyclist": 1.2, "other": 1.0},
    **{"bus": 3.0, "motorcycle": 1.2, "animal": 0.8, "cone": 0.6, "debris": 0.8},
    **{"trailer": 2.0, "emergency": 2.5},
}
"""Two detections of a kind nearer than this are one; as in vehicle/decode.py."""

_LOG_SIZE: Final = (np.log(0.2), np.log(25.0))


def peaks(heat_XY: np.ndarray, least_prob: float) -> np.ndarray:
    """Return the cells [P, 2] largest of their 3x3 and at least `least_prob`, best first.

    Of equal cells the first is the peak, as in the car: uint8 networks often say the same twice.
    """
    padded = np.pad(heat_XY, 1, constant_values=-1.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*heat_XY.shape, 9)
    earlier, later = windows[..., :4].max(axis=2), windows[..., 5:].max(axis=2)
    cells = np.argwhere((heat_XY >= least_prob) & (heat_XY > earlier) & (heat_XY >= later))
    return cells[np.argsort(-heat_XY[cells[:, 0], cells[:, 1]], kind="stable")]


def detections(
    heat_KXY: np.ndarray, box_CXY: np.ndarray, kinds: tuple[str, ...], least_prob: float
) -> dict[str, np.ndarray]:
    """Return per kind rows [P, 6]: x_m, y_m, score, yaw_rad, length_m, width_m; best first."""
    found = {}
    for kind, heat_XY in zip(kinds, heat_KXY, strict=True):
        rows: list[tuple[float, ...]] = []
        for ix, iy in peaks(heat_XY, least_prob):
            x_m = BEV_BOX.x_min_m + (ix + 0.5) * BEV_BOX.cell_m + box_CXY[0, ix, iy]
            y_m = BEV_BOX.y_min_m + (iy + 0.5) * BEV_BOX.cell_m + box_CXY[1, ix, iy]
            if all(np.hypot(x_m - r[0], y_m - r[1]) >= SEPARATION_M[kind] for r in rows):
                yaw_rad = np.arctan2(box_CXY[4, ix, iy], box_CXY[5, ix, iy])
                length_m, width_m = np.exp(np.clip(box_CXY[2:4, ix, iy], *_LOG_SIZE))
                rows.append((x_m, y_m, heat_XY[ix, iy], yaw_rad, length_m, width_m))
        found[kind] = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return found
