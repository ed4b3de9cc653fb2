"""Number plates in real pictures by classical means: OpenCV ships no model for them.

A plate is a light rectangle of known width full of dark upright strokes, at bumper height. The
first is found by morphology, the second is asked of the camera's calibration: at the distance that
its width tells, a plate must hang between the ground and 1.6 m. Without that question every shop
sign would be one.
"""

from typing import Final

import cv2
import numpy as np

from datalake.detect import Look, Region
from vehicle.contracts.frame import CameraModel
from vehicle.geometry import apply

WIDTHS_M: Final = (0.28, 0.54)
"""Narrowest (North America, seen 20 degrees aside) and widest (EU) plate."""

HEIGHTS_M: Final = (0.1, 1.6)
_ASPECTS: Final = (1.4, 7.0)
_LEAST_FILL_RATIO: Final = 0.45
_STROKES: Final = 3
"""Fewest changes between dark and light along the middle of a plate."""


class PlateDetector:
    """Finds plates by their strokes and their place.

    Args:
        min_plate_px: narrower ones are left alone.
    """

    name = "plates@1"
    needs_pixels = True

    def __init__(self, *, min_plate_px: float = 20.0) -> None:
        self._min_px = min_plate_px

    def regions(self, look: Look) -> list[Region]:
        """Return a rectangle around everything that may be a plate."""
        assert look.image is not None
        grey = cv2.cvtColor(look.image, cv2.COLOR_RGB2GRAY)
        found: dict[tuple[int, int, int, int], Region] = {}
        for size in (5, 9, 17):  # strokes of small, middling and near plates
            for box in self._candidates(grey, size):
                if self._is_plate(grey, box, look.camera):
                    left, top, width, height = box
                    pad = max(2, height // 4)
                    found[box] = Region(
                        kind="plate",
                        left_px=left - pad,
                        top_px=top - pad,
                        right_px=left + width + pad,
                        bottom_px=top + height + pad,
                        score=0.5,
                    )
        return list(found.values())

    def _candidates(self, grey: np.ndarray, size: int) -> list[tuple[int, int, int, int]]:
        """Return boxes (left, top, width, height) of dense dark strokes `size` px apart."""
        across = cv2.getStructuringElement(cv2.MORPH_RECT, (size, max(3, size // 2)))
        strokes = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, across)
        slope = np.abs(cv2.Sobel(strokes, cv2.CV_32F, 1, 0, ksize=3))
        slope = np.clip(slope / 4.0, 0, 255).astype(np.uint8)
        joined = cv2.morphologyEx(slope, cv2.MORPH_CLOSE, across)
        _, mask = cv2.threshold(joined, 28, 255, cv2.THRESH_BINARY)
        mask = cv2.morphologyEx(
            mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_RECT, (size, 3))
        )
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        boxes = []
        for left, top, width, height, area in stats[1:].tolist():
            good = (
                width >= self._min_px and height >= 3 and area >= _LEAST_FILL_RATIO * width * height
            )
            if good and _ASPECTS[0] <= width / height <= _ASPECTS[1] and height <= 3 * size:
                boxes.append((left, top, width, height))
        return boxes

    def _is_plate(
        self, grey: np.ndarray, box: tuple[int, int, int, int], camera: CameraModel
    ) -> bool:
        left, top, width, height = box
        if not _hangs_low(box, camera):
            return False
        middle = slice(top + height // 3, top + height // 3 + max(height // 3, 1))
        line = grey[middle, left : left + width].mean(axis=0)
        low, high = float(line.min()), float(line.max())
        if high - low < 24.0:
            return False
        dark = line < (low + high) / 2
        return int((np.diff(dark.astype(np.int8)) != 0).sum()) >= 2 * _STROKES - 2


def _hangs_low(box: tuple[int, int, int, int], camera: CameraModel) -> bool:
    """Return whether a plate of some lawful width would hang at bumper height in this place."""
    left, top, width, height = box
    u, v = left + width / 2, top + height / 2
    ray = np.array([(u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px, 1.0])
    heights = [
        float(apply(camera.matrix, ray * (camera.fx_px * wide_m / width))[2]) for wide_m in WIDTHS_M
    ]
    return min(heights) < HEIGHTS_M[1] and max(heights) > HEIGHTS_M[0]
