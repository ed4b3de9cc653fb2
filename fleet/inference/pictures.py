"""Pictures as JPEG over thin links: a model that takes pixels, asked with a tenth of the bytes.

The pixels of eight cameras are half a megabyte, a fifth of a second of an LTE uplink. Sizes are
read from each file's header before anything is decoded: a small file can unfold into gigabytes.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np

from fleet.inference.oip_model import Model
from fleet.inference.oip_tensors import BYTES
from fleet.inference.refusals import MalformedRequestError
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest

QUALITY: Final = 90
"""Of cv2's JPEG: seven to eight times smaller than the pixels of a simulated street."""

_AS_STORED: Final = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that carry a picture's size. Source: ITU-T T.81, table B.1."""


class JpegPictures:
    """A model whose pictures come as JPEG files: BYTES [N] in place of uint8 [N, H, W, 3], RGB.

    Args:
        model: what answers.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.version, self.digest = model.name, model.version, model.digest
        self.outputs = model.outputs
        self._pictures = {s.name: s for s in model.inputs if _is_pictures(s)}
        self.inputs: tuple[TensorSpec, ...] = tuple(
            TensorSpec(name=s.name, shape=s.shape[:1], dtype=BYTES) if _is_pictures(s) else s
            for s in model.inputs
        )

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Decode, then ask the model.

        Raises:
            MalformedRequestError: no JPEG, or not of the model's size.
        """
        return await self._model.infer(await asyncio.to_thread(self._decoded, inputs), request)

    def expected_us(self) -> int:
        """Return what the model says; decoding is a few percent of it."""
        return self._model.expected_us()

    def _decoded(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: np.stack([unpacked(bytes(file), self._pictures[name]) for file in array])
            if name in self._pictures
            else array
            for name, array in inputs.items()
        }


def packed(image_NHW3: np.ndarray, quality: int = QUALITY) -> np.ndarray:
    """Return pictures (uint8 [N, H, W, 3], RGB) as JPEG files: object [N] of bytes."""
    files = np.empty(len(image_NHW3), dtype=object)
    for i, image in enumerate(image_NHW3):
        _, file = cv2.imencode(
            ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        files[i] = file.tobytes()
    return files


def unpacked(file: bytes, spec: TensorSpec) -> np.ndarray:
    """Return the picture [H, W, 3] of a JPEG file.

    Raises:
        MalformedRequestError: it is none, or not of the spec's size.
    """
    height, width = spec.shape[1:3]
    found = size_of(file)
    if found != (height, width):
        raise MalformedRequestError(
            f"input {spec.name!r}: a picture is {found}, expected JPEG of {height} x {width}"
        )
    image = cv2.imdecode(np.frombuffer(file, np.uint8), _AS_STORED)
    if image is None or image.shape[:2] != (height, width):
        raise MalformedRequestError(f"input {spec.name!r}: a picture cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def size_of(file: bytes) -> tuple[int, int] | None:
    """Return height and width that a JPEG file declares, None where it declares none."""
    at = 2
    if file[:2] != b"\xff\xd8":
        return None
    while at + 9 <= len(file) and file[at] == 0xFF:
        marker, length = file[at + 1], int(struct.unpack_from(">H", file, at + 2)[0])
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", file, at + 5)
            return int(height), int(width)
        at += 2 + length
    return None


def _is_pictures(spec: TensorSpec) -> bool:
    return spec.dtype == "uint8" and len(spec.shape) == 4 and spec.shape[3] == 3
