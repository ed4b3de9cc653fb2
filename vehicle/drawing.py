"""Colours, words and lines shared by everything that draws a frame. All images are RGB uint8."""

from typing import Final

import cv2
import numpy as np

Colour = tuple[int, int, int]

BACKGROUND: Final[Colour] = (17, 21, 28)
PANEL: Final[Colour] = (25, 31, 41)
GRID: Final[Colour] = (44, 53, 67)
WORDS: Final[Colour] = (224, 230, 238)
QUIET: Final[Colour] = (133, 146, 163)
EGO: Final[Colour] = (245, 247, 250)
GUIDANCE: Final[Colour] = (150, 165, 190)
PLAN: Final[Colour] = (64, 214, 160)
PLAN_BRAKES: Final[Colour] = (255, 92, 92)
DRIVABLE: Final[Colour] = (58, 86, 128)
LANE: Final[Colour] = (226, 214, 150)
OCCUPIED: Final[Colour] = (240, 120, 60)
ALARM: Final[Colour] = (255, 92, 92)
KIND_COLOURS: Final[tuple[Colour, ...]] = (
    (92, 178, 255),  # car
    (255, 196, 64),  # pedestrian
    (178, 140, 255),  # truck
    (255, 140, 200),  # cyclist
    (150, 165, 180),  # other
    (120, 220, 210),  # bus
    (255, 160, 110),  # motorcycle
    (200, 150, 90),  # animal
    (255, 120, 40),  # cone
    (190, 190, 140),  # debris
    (140, 120, 200),  # trailer
    (90, 130, 255),  # emergency
)
"""By index into scene.KINDS; told apart also by people who see no red or green."""


def words(
    image: np.ndarray,
    text: str,
    at: tuple[float, float],
    *,
    size: int = 14,
    colour: Colour = WORDS,
    weight: int = 400,
) -> int:
    """Write `text` with its baseline at `at`; return the x where it ends."""
    face = cv2.FontFace("sans")
    end, _ = cv2.putText(image, text, (round(at[0]), round(at[1])), colour, face, size, weight)
    return int(end[0])


def width_of(text: str, size: int = 14, weight: int = 400) -> int:
    """Return the width of `text` in pixels."""
    box = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, weight)
    return int(box[2])


def label(image: np.ndarray, text: str, at: tuple[float, float], colour: Colour) -> None:
    """Write `text` on a dark plate, its lower left corner at `at`, kept inside the image."""
    wide, size = width_of(text, 12) + 8, 12
    x = int(min(max(0.0, at[0]), image.shape[1] - wide))
    y = int(min(max(17.0, at[1]), image.shape[0]))
    plate = image[y - 17 : y, x : x + wide]
    plate[:] = (plate * 0.35).astype(np.uint8)
    words(image, text, (x + 4, y - 5), size=size, colour=colour)


def line(
    image: np.ndarray, points: np.ndarray, colour: Colour, thick: int = 1, closed: bool = False
) -> None:
    """Draw a smooth line through pixels [P, 2]."""
    if len(points) >= 2:
        cv2.polylines(image, [fixed(points)], closed, colour, thick, cv2.LINE_AA, shift=SHIFT)


def dashes(image: np.ndarray, points: np.ndarray, colour: Colour, dash_px: float = 9.0) -> None:
    """Draw a dashed line through pixels [P, 2]."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if len(points) < 2 or along[-1] > 1e5:
        return
    for start in np.arange(0.0, along[-1], 2 * dash_px):
        at = np.linspace(start, min(start + dash_px, along[-1]), 3)
        line(image, np.column_stack([np.interp(at, along, points[:, k]) for k in (0, 1)]), colour)


def fill(image: np.ndarray, points: np.ndarray, colour: Colour, alpha: float) -> None:
    """Blend a filled polygon of pixels [P, 2] over the image."""
    if len(points) < 3:
        return
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, image.shape[1::-1])
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 2, 0, image.shape[1::-1])
    if (high <= low).any():
        return
    part = image[low[1] : high[1], low[0] : high[0]]
    over = part.copy()
    cv2.fillPoly(over, [fixed(points - low)], colour, cv2.LINE_AA, shift=SHIFT)
    cv2.addWeighted(over, alpha, part, 1.0 - alpha, 0.0, dst=part)


SHIFT: Final = 4


def fixed(points: np.ndarray) -> np.ndarray:
    """Return pixels as the fixed-point numbers that OpenCV draws below a pixel with."""
    return np.rint(np.clip(points, -30_000, 30_000) * (1 << SHIFT)).astype(np.int32)
