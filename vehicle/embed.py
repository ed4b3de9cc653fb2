"""A picture, or one picture per camera, as the network sees it: an embedding of something that was
never driven past.

A log is seen by all cameras and remembers the frame before; a picture from anywhere is one camera
without a past. What the network says of it is shifted by that, by about the same for every
picture, so whoever compares it with frames of a log must take the shift away (datalake/picture.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vehicle import bundles
from vehicle.bundles import base_folder
from vehicle.contracts.frame import CameraModel, FrameSet, Rig
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import look_camera
from vehicle.importers.video import MOUNTING
from vehicle.perception import Perception

__all__ = ["Eye", "PictureError", "base_folder", "read", "rig_of"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Pictures that are read."""

MAX_PIXELS: Final = 64_000_000
"""Larger ones are refused."""

_SHAPE_TOLERANCE: Final = 0.05


class PictureError(RefusedError):
    """A file is no picture, or its shape is not that of the camera it stands for."""


class Eye:
    """A bundle that looks at single instants through the cameras of one rig.

    Args:
        bundle_folder: verified before anything of it is used.
        rig: the cameras; the network's others are grey.
    Raises:
        All errors of Perception.
    """

    def __init__(self, bundle_folder: Path, rig: Rig) -> None:
        own = rig.digest == rig_of(bundle_folder).digest
        self.rig = rig
        self._perception = Perception(bundle_folder, rig, adapt=not own)
        self.model = self._perception.bundle.tag

    @property
    def fed(self) -> tuple[str, ...]:
        """Return the network's cameras that see something; the others are grey."""
        return self._perception.preprocessor.fed

    def embed(self, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the embedding, float32 [E], of pictures by camera: uint8 [H, W, 3] RGB."""
        frame = FrameSet(frame_id=0, mono_ns=0, images=images)
        return self._perception.perceive(frame).embedding

    def close(self) -> None:
        """Stop the engines."""
        self._perception.close()

    def __enter__(self) -> "Eye":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rig_of(bundle_folder: Path) -> Rig:
    """Return the cameras that a bundle was trained on."""
    return bundles.load(bundle_folder).rig


def read(
    path: Path, rig: Rig, *, hfov_deg: float | None = None
) -> tuple[Rig, dict[str, np.ndarray]]:
    """Read a picture, or a folder of pictures named by camera.

    Args:
        path: a picture: seen by the rig's first camera; or a folder with at least one picture
            called like a camera of the rig (front_wide.png).
        rig: of the bundle that will look.
        hfov_deg: horizontal field of view of the one picture, 10..170; None: it is the first
            camera's, and so must its shape be.
    Returns:
        the cameras there are, and a picture for each of them.
    Raises:
        PictureError: by name.
    """
    if path.is_dir():
        return _folder(path, rig)
    image, first = _decode(path), rig.cameras[0]
    height, width = image.shape[:2]
    if hfov_deg is not None:
        if not 10.0 <= hfov_deg <= 170.0:
            raise PictureError(f"--hfov-deg is {hfov_deg}, expected 10 to 170 degrees")
        camera = look_camera(
            first.name, width_px=width, height_px=height, hfov_deg=hfov_deg, **MOUNTING
        )
    else:
        camera, image = first, _fitted(path, image, first)
    return Rig(name="picture", cameras=(camera,)), {first.name: image}


def _folder(path: Path, rig: Rig) -> tuple[Rig, dict[str, np.ndarray]]:
    images = {}
    for camera in rig.cameras:
        files = [path / f"{camera.name}{suffix}" for suffix in SUFFIXES]
        there = [f for f in files if f.is_file()]
        if there:
            images[camera.name] = _fitted(there[0], _decode(there[0]), camera)
    if not images:
        names = ", ".join(c.name for c in rig.cameras)
        raise PictureError(f"{path} has no picture named by a camera; expected some of: {names}")
    cameras = tuple(c for c in rig.cameras if c.name in images)
    return (rig if cameras == rig.cameras else Rig(name="pictures", cameras=cameras)), images


def _decode(path: Path) -> np.ndarray:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror}") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        image = None
    if image is None or image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise PictureError(
            f"{path} is not a picture of up to {MAX_PIXELS / 1e6:.0f} million pixels; expected "
            f"{', '.join(SUFFIXES)}"
        )
    return np.ascontiguousarray(image[:, :, ::-1])


def _fitted(path: Path, image: np.ndarray, camera: CameraModel) -> np.ndarray:
    height, width = image.shape[:2]
    if (height, width) == (camera.height_px, camera.width_px):
        return image
    stretch = (width / height) / (camera.width_px / camera.height_px)
    if abs(stretch - 1.0) > _SHAPE_TOLERANCE:
        raise PictureError(
            f"{path} is {width}x{height}, camera {camera.name} {camera.width_px}x"
            f"{camera.height_px}: another shape; say how wide the picture sees, e.g. --hfov-deg 60"
        )
    return cv2.resize(image, (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
