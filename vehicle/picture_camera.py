"""What the car believes, drawn into what its cameras saw: boxes, planned path, guidance."""

import itertools
from typing import Final

import cv2
import numpy as np

from vehicle.contracts.ego import Guidance
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import KINDS
from vehicle.drawing import (
    GUIDANCE,
    KIND_COLOURS,
    PLAN,
    PLAN_BRAKES,
    WORDS,
    Colour,
    dashes,
    fill,
    label,
    line,
)
from vehicle.geometry import apply, box_corners, distort, inverse

NEAR_M: Final = 0.5
"""What is closer to the lens is cut off: it would project to infinity."""

_EDGES: Final = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)


class View:
    """A camera picture enlarged for drawing, and the way from the ego frame into its pixels."""

    def __init__(self, image: np.ndarray, camera: CameraModel, width_px: int) -> None:
        self.camera = camera
        self.scale = width_px / camera.width_px
        size = (width_px, round(camera.height_px * self.scale))
        how = cv2.INTER_CUBIC if self.scale > 1.0 else cv2.INTER_AREA
        self.image = cv2.resize(image, size, interpolation=how)
        self._camera_from_ego = inverse(camera.matrix)

    def see(self, points_ego: np.ndarray) -> np.ndarray:
        """Return points [P, 3] of the ego frame in the camera frame."""
        return apply(self._camera_from_ego, points_ego)

    def pixels(self, points_camera: np.ndarray) -> np.ndarray:
        """Return drawing pixels [P, 2] of camera points that lie ahead of the lens."""
        c, z = self.camera, points_camera[:, 2]
        x, y = distort(c, points_camera[:, 0] / z, points_camera[:, 1] / z)
        u, v = c.fx_px * x + c.cx_px, c.fy_px * y + c.cy_px
        return np.column_stack([(u + 0.5) * self.scale - 0.5, (v + 0.5) * self.scale - 0.5])

    def polygon(self, points_ego: np.ndarray) -> np.ndarray:
        """Return pixels of a polygon, cut at the near plane; [0, 2] where nothing is left.

        Source: Sutherland, Hodgman, Reentrant Polygon Clipping (1974), one plane.
        """
        points, kept = self.see(points_ego), []
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            if a[2] >= NEAR_M:
                kept.append(a)
            if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
                kept.append(a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2]))
        return self.pixels(np.array(kept)) if kept else np.zeros((0, 2))

    def segment(self, a_camera: np.ndarray, b_camera: np.ndarray) -> np.ndarray:
        """Return pixels [2, 2] of a line between camera points, cut at the near plane."""
        if a_camera[2] < NEAR_M and b_camera[2] < NEAR_M:
            return np.zeros((0, 2))
        ends = []
        for p, q in ((a_camera, b_camera), (b_camera, a_camera)):
            ends.append(p if p[2] >= NEAR_M else p + (q - p) * (NEAR_M - p[2]) / (q[2] - p[2]))
        return self.pixels(np.array(ends))


def draw_path(view: View, plan: Plan, width_m: float) -> None:
    """Lay the planned path on the road as a band, red where it brakes."""
    states = plan.trajectory.states
    x, y, yaw, accel = states[:, 1], states[:, 2], states[:, 3], states[:, 5]
    side = np.column_stack([-np.sin(yaw), np.cos(yaw), np.zeros(len(yaw))]) * width_m / 2
    centre = np.column_stack([x, y, np.zeros(len(x))])
    left, right = centre + side, centre - side
    moves = np.hypot(*np.diff(states[:, 1:3], axis=0).T) > 0.02
    brakes = accel[:-1] < -1.0
    starts = np.flatnonzero(np.diff(brakes.astype(int) + 2 * moves, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(moves)], strict=True):
        if moves[start]:
            ring = np.concatenate([left[start : end + 1], right[start : end + 1][::-1]])
            colour = PLAN_BRAKES if brakes[start] else PLAN
            fill(view.image, view.polygon(ring), colour, 0.38)
    for edge in (left, right):
        for a, b in itertools.pairwise(view.see(edge)):
            line(view.image, view.segment(a, b), PLAN, 1)


def draw_guidance(view: View, guidance: Guidance) -> None:
    """Draw where navigation leads, dashed on the road."""
    points = guidance.centreline_m
    seen = view.see(np.column_stack([points, np.zeros(len(points))]))
    ahead = seen[seen[:, 2] > 1.0]
    if len(ahead) >= 2:
        dashes(view.image, view.pixels(ahead), GUIDANCE)


def draw_tracks(view: View, tracks: np.ndarray) -> None:
    """Draw a box around each road user, far ones first; only predicted ones thinner."""
    tags: list[tuple[str, float, float, Colour]] = []
    for track in tracks[np.argsort(-np.hypot(tracks["x_m"], tracks["y_m"]))]:
        geometry = [float(track[n]) for n in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")]
        corners = view.see(box_corners(*geometry, float(track["height_m"])))
        if (corners[:, 2] < NEAR_M).all():
            continue
        colour = KIND_COLOURS[int(track["kind"]) % len(KIND_COLOURS)]
        parts = [view.segment(corners[a], corners[b]) for a, b in _EDGES]
        drawn = np.concatenate([p for p in parts if len(p)])
        height, width = view.image.shape[:2]
        low, high = drawn.min(axis=0), drawn.max(axis=0)
        if (high < 0).any() or low[0] >= width or low[1] >= height:
            continue
        front = corners[[0, 1, 5, 4]]
        if (front[:, 2] >= NEAR_M).all():
            fill(view.image, view.pixels(front), colour, 0.2)
        for part in parts:
            line(view.image, part, colour, 1 if track["coasted_ticks"] else 2)
        name = KINDS[int(track["kind"]) % len(KINDS)]
        range_m = float(np.hypot(track["x_m"], track["y_m"]))
        if high[0] - low[0] > 24:
            tags.append((f"{name} {range_m:.0f} m", float(low[0]), float(low[1]) - 2, colour))
    taken: list[tuple[float, float]] = []
    for text, x, y, colour in reversed(tags):  # the nearest keeps its place
        if all(abs(x - tx) > 74 or abs(y - ty) > 17 for tx, ty in taken):
            label(view.image, text, (x, y), colour)
            taken.append((x, y))


def caption(view: View, text: str) -> None:
    """Name the camera in its corner."""
    label(view.image, text, (6, 23), WORDS)
