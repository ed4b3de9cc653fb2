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


def peaks(heat_XY: np.ndarray, least_prob: float) -> np.ndarray:
    """Return the cells [P, 2] largest of their 3x3 and at least `least_prob`, best first."""
    padded = np.pad(heat_XY, 1, constant_values=-1.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    cells = np.argwhere((heat_XY >= least_prob) & (heat_XY >= windows.max(axis=(2, 3))))
    return cells[np.argsort(-heat_XY[cells[:, 0], cells[:, 1]], kind="stable")]


def detections(
    heat_KXY: np.ndarray, box_CXY: np.ndarray, kinds: tuple[str, ...], least_prob: float
) -> dict[str, np.ndarray]:
    """Return per kind the rows [P, 3] of x_m, y_m, score, best first."""
    found = {}
    for kind, heat_XY in zip(kinds, heat_KXY, strict=True):
        rows: list[tuple[float, float, float]] = []
        for ix, iy in peaks(heat_XY, least_prob):
            x_m = BEV_BOX.x_min_m + (ix + 0.5) * BEV_BOX.cell_m + box_CXY[0, ix, iy]
            y_m = BEV_BOX.y_min_m + (iy + 0.5) * BEV_BOX.cell_m + box_CXY[1, ix, iy]
            if all(np.hypot(x_m - r[0], y_m - r[1]) >= SEPARATION_M[kind] for r in rows):
                rows.append((float(x_m), float(y_m), float(heat_XY[ix, iy])))
        found[kind] = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return found
