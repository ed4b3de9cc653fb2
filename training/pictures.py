"""A grid of camera pictures: what the network found, missed and made up, best and worst frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from training.frames import Frames
from training.metrics import MATCH_M, NEAR_M, OPERATING_PROB
from vehicle.config import RIG_R
from vehicle.contracts.scene import KINDS
from vehicle.decode import HEIGHT_M
from vehicle.drawing import Colour, label, line
from vehicle.geometry import box_corners
from vehicle.picture_camera import NEAR_M as LENS_NEAR_M
from vehicle.picture_camera import View

FOUND: Final[Colour] = (90, 230, 120)
MISSED: Final[Colour] = (255, 70, 70)
INVENTED: Final[Colour] = (255, 190, 40)
WIDTH_PX: Final = 480
COLUMNS: Final = 3
LEAST_LABELS: Final = 3

_EDGES: Final = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """One frame judged: boxes (x, y, yaw, length, width, height) with a colour and a word each.

    Args:
        score: right ones less wrong ones within NEAR_M; the worst frames have the least.
    """

    front: np.ndarray
    title: str
    boxes: tuple[tuple[np.ndarray, Colour, str], ...]
    score: float


def sight_of(
    data: Frames,
    index: int,
    found: dict[str, np.ndarray],
    wanted: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Sight:
    """Return what was right and wrong before the car in one frame."""
    boxes: list[tuple[np.ndarray, Colour, str]] = []
    right = wrong = 0
    for kind, (rows, scores) in wanted.items():
        for row, score in zip(rows, scores, strict=True):
            seen, near = score >= OPERATING_PROB, np.hypot(row[1], row[2]) <= NEAR_M
            right, wrong = right + (seen and near), wrong + (not seen and near)
            word = f"{kind} {score:.2f}" if seen else kind
            boxes.append((row[1:7], FOUND if seen else MISSED, word))
        for x_m, y_m, score, yaw_rad, length_m, width_m in found[kind]:
            gap = np.hypot(*(data.boxes[index][:, 1:3] - (x_m, y_m)).T)
            close = data.boxes[index][gap <= MATCH_M]
            if score < OPERATING_PROB or (close[:, 0] == KINDS.index(kind)).any():
                continue
            wrong += np.hypot(x_m, y_m) <= NEAR_M
            body = np.array([x_m, y_m, yaw_rad, length_m, width_m, HEIGHT_M[kind]])
            boxes.append((body, INVENTED, f"{kind} {score:.2f}"))
    return Sight(
        front=data.front[index].copy(),
        title=f"{data.manifest.name} #{index}",
        boxes=tuple(boxes),
        score=right - 2.0 * wrong if right + wrong >= LEAST_LABELS else -np.inf,
    )


def write_grid(path: Path, sights: list[Sight]) -> None:
    """Write frames as a grid of their two front pictures, one above the other."""
    tiles = [_tile(sight) for sight in sights]
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path} cannot be written")


def _tile(sight: Sight) -> np.ndarray:
    views = [
        View(image, camera, WIDTH_PX)
        for image, camera in zip(sight.front, RIG_R.cameras, strict=False)
    ]
    for view in views:
        for body, colour, word in sorted(sight.boxes, key=lambda b: -float(np.hypot(*b[0][:2]))):
            _draw(view, body, colour, word)
    label(views[0].image, sight.title, (6, 23), (255, 255, 255))
    tile = np.vstack([view.image for view in views])
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(17, 21, 28))


def _draw(view: View, body: np.ndarray, colour: Colour, word: str) -> None:
    corners = view.see(box_corners(*(float(v) for v in body)))
    if (corners[:, 2] < LENS_NEAR_M).any():
        return
    pixels = view.pixels(corners)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    height, width = view.image.shape[:2]
    if high[0] < 0 or high[1] < 0 or low[0] >= width or low[1] >= height:
        return
    for a, b in _EDGES:
        line(view.image, pixels[[a, b]], colour, 1)
    if high[0] - low[0] > 14:
        label(view.image, word, (float(low[0]), float(low[1]) - 2), colour)
