"""A frame seen from above, drawn from numbers alone: for logs without cameras, and to see where
things are. Ahead is up, left is left; the ego is white."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np

from vehicle.geometry import box_corners

COLOURS: Final = {
    "car": (255, 190, 40),
    "truck": (255, 140, 60),
    "bus": (255, 140, 60),
    "trailer": (255, 140, 60),
    "emergency": (90, 150, 255),
    "pedestrian": (60, 230, 255),
    "cyclist": (120, 255, 140),
    "motorcycle": (120, 255, 140),
}
"""RGB by kind; anything else is OTHER."""

OTHER: Final = (255, 120, 255)
_GROUND, _RING, _INK = (26, 30, 34), (48, 54, 60), (150, 158, 166)
_PAST, _AHEAD = (110, 118, 126), (235, 235, 235)
_AHEAD_M, _BEHIND_M = 50.0, 15.0
_EGO: Final = {"x_m": 1.35, "y_m": 0.0, "yaw_rad": 0.0, "length_m": 4.7, "width_m": 1.9}
"""The mid-size car of vehicle/config.py, from its rear axle."""


def birdseye(
    tracks: Sequence[Mapping[str, Any]],
    past_P2: np.ndarray,
    ahead_P2: np.ndarray,
    width_px: int,
    height_px: int,
) -> np.ndarray:
    """Return a picture of the ground around the ego, uint8 [H, W, 3] RGB.

    Args:
        tracks: rows of the lake's `tracks` of one frame.
        past_P2, ahead_P2: where the ego was and went, metres in its frame, in order of time.
        width_px, height_px: of the picture; 50 m ahead and 15 m behind fill its height.
    """
    scale = height_px / (_AHEAD_M + _BEHIND_M)
    origin = np.array([width_px / 2, _AHEAD_M * scale])

    def pixels(points_N2: np.ndarray) -> np.ndarray:
        shown = origin - np.asarray(points_N2, np.float64)[:, ::-1] * scale
        return np.round(np.clip(shown, -10_000, 10_000) * 16).astype(np.int32)

    def outline(row: Mapping[str, Any]) -> np.ndarray:
        place = float(row["x_m"]), float(row["y_m"]), float(row["yaw_rad"])
        size = float(row["length_m"]), float(row["width_m"])
        return pixels(box_corners(*place, *size, 1.0)[:4, :2])

    picture = np.full((height_px, width_px, 3), _GROUND, np.uint8)
    how: dict[str, Any] = {"lineType": cv2.LINE_AA, "shift": 4}
    for ring_m in range(10, 60, 10):
        middle = tuple(int(v) for v in np.round(origin * 16))
        cv2.circle(picture, middle, round(ring_m * scale * 16), _RING, 1, **how)
    face, size = cv2.FontFace("sans"), max(9, height_px // 22)
    for ring_m in (20, 40):
        spot = int(origin[0]) + 3, int(origin[1] - ring_m * scale) - 3
        cv2.putText(picture, f"{ring_m} m", spot, _INK, face, size)
    for points, colour in ((past_P2, _PAST), (ahead_P2, _AHEAD)):
        if len(points) > 1:
            cv2.polylines(picture, [pixels(points)], False, colour, 1, **how)
    for row in tracks:
        colour = COLOURS.get(str(row["kind"]), OTHER)
        dim = tuple(int(c * 0.45) for c in colour)
        shape = outline(row)
        cv2.fillPoly(picture, [shape], dim, **how)
        cv2.polylines(picture, [shape], True, colour, 1, **how)
        velocity = np.array([row["vx_mps"] or 0.0, row["vy_mps"] or 0.0])
        if np.hypot(*velocity) > 0.5:
            centre = np.array([row["x_m"], row["y_m"]])
            ends = pixels(np.stack([centre, centre + velocity]))
            cv2.polylines(picture, [ends], False, colour, 1, **how)
    cv2.fillPoly(picture, [outline(_EGO)], (245, 245, 245), **how)
    return picture
