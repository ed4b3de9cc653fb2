"""KITTI 3D tracking: labels, somebody's 3D detections, calibration and poses of a sequence.

Source: Geiger, Lenz, Urtasun, Are we ready for Autonomous Driving? (2012) and the readme of the
tracking devkit: boxes are h, w, l, then x, y, z of the middle of the base in the rectified camera
frame, then rotation_y, zero where the length points right. Poses here are rows of
world_from_camera (3x4). Detections are rows `frame, type, x1, y1, x2, y2, score, h, w, l, x, y, z,
rotation_y, alpha` (AB3DMOT's layout); a score is a raw one of the detector, not a probability.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.contracts.wire import RefusedError
from vehicle.geometry import CAMERA_AXES, wrap_angle
from vehicle.importers.layout import LogDamagedError, LogLayoutError, require_files, table

LAYOUT: Final = (
    "a folder with label/, calib/, ego_orbslam3/ and pointrcnn_{Car,Pedestrian,Cyclist}_val/, "
    "one NNNN.txt per sequence in each"
)
CLASSES: Final = {"car": "Car", "pedestrian": "Pedestrian", "cyclist": "Cyclist"}
"""Kind of road user -> its name in the labels."""

RATE_HZ: Final = 10.0
_DET_COLUMNS: Final = 15
_LABEL_COLUMNS: Final = 17


class UnknownClassError(RefusedError, ValueError):
    """KITTI's tracking benchmark has no such class."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """What stands in one sequence, one row per box and frame, in order of frames.

    Args:
        frame: int64 [N]. track: int64 [N], -1 in areas nobody labelled.
        name: str [N], "Car", "Van", "DontCare", ...
        truncation, occlusion: int64 [N], 0 whole / seen .. 2.
        image_px: [N, 4] x1, y1, x2, y2.
        boxes: [N, 7], see vehicle/overlap.py; camera-level frame: x forward, y left, z up.
    """

    frame: np.ndarray
    track: np.ndarray
    name: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    image_px: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Detections of one class in one sequence, in order of frames.

    Args:
        frame: int64 [N]. score: [N], raw. image_px: [N, 4]. boxes: [N, 7], as in Labels.
    """

    frame: np.ndarray
    score: np.ndarray
    image_px: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence:
    """One drive: its labels, detections by kind, and where the camera was.

    Args:
        poses: [F, 4, 4] world_from_camera with axes x forward, y left, z up on both sides.
    """

    name: str
    frames: int
    labels: Labels
    found: dict[str, Found]
    poses: np.ndarray

    def pose(self, frame: int) -> tuple[float, float, float]:
        """Return x, y and yaw of the camera in the world."""
        m = self.poses[frame]
        return float(m[0, 3]), float(m[1, 3]), math.atan2(m[1, 0], m[0, 0])

    def to_level(self, frame: int, boxes: np.ndarray) -> np.ndarray:
        """Return boxes [N, 7] of the camera's frame in a level frame below the same camera.

        There x and y count from the camera along its heading, and heights from the world's zero:
        a pitching camera does not make parked cars fly.
        """
        m = self.poses[frame]
        x0, y0, yaw = self.pose(frame)
        world = boxes[:, :3] @ m[:3, :3].T + m[:3, 3]
        ahead = np.stack([np.cos(boxes[:, 3]), np.sin(boxes[:, 3]), 0.0 * boxes[:, 3]], axis=1)
        turned = ahead @ m[:3, :3].T
        c, s = math.cos(yaw), math.sin(yaw)
        out = boxes.copy()
        dx, dy = world[:, 0] - x0, world[:, 1] - y0
        out[:, 0], out[:, 1], out[:, 2] = c * dx + s * dy, -s * dx + c * dy, world[:, 2]
        out[:, 3] = wrap_angle(np.arctan2(turned[:, 1], turned[:, 0]) - yaw)
        return out

    def to_camera(self, frame: int, boxes: np.ndarray) -> np.ndarray:
        """Return level boxes [N, 7] in the camera's frame: the way back of `to_level`."""
        m = self.poses[frame]
        x0, y0, yaw = self.pose(frame)
        c, s = math.cos(yaw), math.sin(yaw)
        x, y = boxes[:, 0], boxes[:, 1]
        world = np.stack([c * x - s * y + x0, s * x + c * y + y0, boxes[:, 2]], axis=1)
        out = boxes.copy()
        out[:, :3] = (world - m[:3, 3]) @ m[:3, :3]
        heading = boxes[:, 3] + yaw
        ahead = np.stack([np.cos(heading), np.sin(heading), 0.0 * heading], axis=1) @ m[:3, :3]
        out[:, 3] = np.arctan2(ahead[:, 1], ahead[:, 0])
        return out


def names(folder: Path) -> tuple[str, ...]:
    """Return the sequences of a folder, in order.

    Raises:
        LogLayoutError: something of LAYOUT is missing; it is named.
    """
    require_files(folder, ("label", "calib", "ego_orbslam3"), "kitti_mot", LAYOUT)
    found = tuple(sorted(p.stem for p in (folder / "label").glob("*.txt")))
    if not found:
        raise LogLayoutError(f"{folder}/label holds no NNNN.txt; expected {LAYOUT}")
    return found


def read(folder: Path, name: str, kinds: tuple[str, ...] = tuple(CLASSES)) -> Sequence:
    """Return one sequence.

    Raises:
        UnknownClassError: a kind that is not in CLASSES.
        LogLayoutError: a file is missing.
        LogDamagedError: a file does not read, or frames and poses do not go together.
    """
    unknown = sorted(set(kinds) - set(CLASSES))
    if unknown:
        raise UnknownClassError(f"no class {unknown[0]!r}; there are: {', '.join(CLASSES)}")
    wanted = [f"label/{name}.txt", f"ego_orbslam3/{name}.txt"]
    wanted += [f"pointrcnn_{CLASSES[k]}_val/{name}.txt" for k in kinds]
    require_files(folder, wanted, "kitti_mot", LAYOUT)
    poses = _poses(folder / wanted[1])
    labels = _labels(folder / wanted[0])
    found = {k: _found(folder / w) for k, w in zip(kinds, wanted[2:], strict=True)}
    for what, frame in (("labels", labels.frame), *((k, f.frame) for k, f in found.items())):
        last = int(frame.max(initial=0))
        if last >= len(poses) or (np.diff(frame) < 0).any():
            raise LogDamagedError(
                f"{folder}, sequence {name}: {what} reach frame {last} of {len(poses)} poses, "
                "expected frames in order, each with a pose"
            )
    return Sequence(name=name, frames=len(poses), labels=labels, found=found, poses=poses)


def _rows(path: Path, separator: str | None, columns: int) -> list[list[str]]:
    rows = [r.split(separator) for r in path.read_text(errors="replace").splitlines() if r.strip()]
    short = next((i for i, row in enumerate(rows) if len(row) < columns), None)
    if short is not None:
        raise LogDamagedError(
            f"{path}, line {short + 1} has {len(rows[short])} values, expected {columns}"
        )
    return rows


def _numbers(path: Path, rows: list[list[str]], begin: int, end: int) -> np.ndarray:
    try:
        values = [[float(v) for v in row[begin:end]] for row in rows]
    except ValueError as error:
        raise LogDamagedError(f"{path} does not read: {error}") from error
    return table(values, (-1, end - begin), str(path)) if rows else np.zeros((0, end - begin))


def _boxes(hwlxyzr: np.ndarray) -> np.ndarray:
    h, w, length, x, y, z, turn = hwlxyzr.T
    yaw = wrap_angle(-turn - math.pi / 2.0)
    return np.stack([z, -x, -y, yaw, length, w, h], axis=1)


def _labels(path: Path) -> Labels:
    rows = _rows(path, None, _LABEL_COLUMNS)
    head, rest = _numbers(path, rows, 0, 2), _numbers(path, rows, 3, _LABEL_COLUMNS)
    return Labels(
        frame=head[:, 0].astype(np.int64),
        track=head[:, 1].astype(np.int64),
        name=np.array([row[2] for row in rows], dtype=np.str_),
        truncation=rest[:, 0].astype(np.int64),
        occlusion=rest[:, 1].astype(np.int64),
        image_px=rest[:, 3:7],
        boxes=_boxes(rest[:, 7:14]),
    )


def _found(path: Path) -> Found:
    rows = _rows(path, ",", _DET_COLUMNS)
    values = _numbers(path, rows, 0, _DET_COLUMNS)
    return Found(
        frame=values[:, 0].astype(np.int64),
        score=values[:, 6],
        image_px=values[:, 2:6],
        boxes=_boxes(values[:, 7:14]),
    )


def _poses(path: Path) -> np.ndarray:
    rows = _numbers(path, _rows(path, None, 12), 0, 12)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    m = rows.reshape(-1, 3, 4)
    poses[:, :3, :3] = CAMERA_AXES @ m[:, :, :3] @ CAMERA_AXES.T
    poses[:, :3, 3] = m[:, :, 3] @ CAMERA_AXES.T
    return poses
