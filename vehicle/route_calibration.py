"""A rig in the words of the viewers: Foxglove calibrations, and where each camera is mounted."""

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform

from vehicle.contracts.frame import CameraModel, Rig

CALIBRATION_TOPICS: Final = {"/calibration/": CameraCalibration, "/mounting": FrameTransform}
"""How the topics begin, and what they carry."""


def calibration_messages(rig: Rig, mono_ns: int) -> Iterator[tuple[str, Any]]:
    """Yield (topic, message) of every camera's calibration and mounting."""
    for camera in rig.cameras:
        yield f"/calibration/{camera.name}", _calibration(camera, mono_ns)
        yield "/mounting", _mounting(camera, mono_ns)


def _calibration(camera: CameraModel, mono_ns: int) -> CameraCalibration:
    k = camera.intrinsics
    message = CameraCalibration(
        frame_id=camera.name,
        width=camera.width_px,
        height=camera.height_px,
        distortion_model="plumb_bob",
        D=camera.distortion,
        K=k.reshape(-1).tolist(),
        R=np.eye(3).reshape(-1).tolist(),
        P=np.column_stack([k, np.zeros(3)]).reshape(-1).tolist(),
    )
    message.timestamp.FromNanoseconds(mono_ns)
    return message


def _mounting(camera: CameraModel, mono_ns: int) -> FrameTransform:
    message = FrameTransform(parent_frame_id="ego", child_frame_id=camera.name)
    message.timestamp.FromNanoseconds(mono_ns)
    matrix = camera.matrix
    t, q = message.translation, message.rotation
    t.x, t.y, t.z = matrix[:3, 3]
    q.w, q.x, q.y, q.z = quaternion_from_rotation(matrix[:3, :3])
    return message


def quaternion_from_rotation(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Return (w, x, y, z) of a 3x3 rotation, w >= 0.

    Source: S. W. Shepperd, Quaternion from Rotation Matrix (1978): divide by the largest.
    """
    r, trace = rotation, float(np.trace(rotation))
    squares = [trace, float(r[0, 0]), float(r[1, 1]), float(r[2, 2])]
    i = int(np.argmax(squares))
    if i == 0:
        q = [1.0 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]
    else:
        a, b, c = i - 1, i % 3, (i + 1) % 3
        vector = [0.0, 0.0, 0.0]
        vector[a] = 1.0 + r[a, a] - r[b, b] - r[c, c]
        vector[b], vector[c] = r[b, a] + r[a, b], r[c, a] + r[a, c]
        q = [r[c, b] - r[b, c], *vector]
    scale = math.copysign(1.0 / math.sqrt(sum(float(v) ** 2 for v in q)), float(q[0]))
    w, x, y, z = (float(v) * scale for v in q)
    return w, x, y, z
