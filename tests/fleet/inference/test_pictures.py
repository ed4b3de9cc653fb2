"""Pictures as JPEG: what comes out is what was taken, and nothing larger."""

import asyncio
from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from fleet.inference.oip_tensors import BYTES
from fleet.inference.pictures import JpegPictures, packed, size_of, unpacked
from fleet.inference.refusals import MalformedRequestError
from vehicle.contracts.bundle import TensorSpec

SPEC = TensorSpec(name="front", shape=(2, 96, 128, 3), dtype="uint8")


class Looks:
    """A model that gives back what it saw."""

    name, version, digest = "looks", "1", "0" * 64
    inputs = (SPEC, TensorSpec(name="ego", shape=(6,), dtype="float64"))
    outputs = inputs

    async def infer(self, inputs: Mapping[str, np.ndarray], request: None) -> dict[str, np.ndarray]:
        return dict(inputs)

    def expected_us(self) -> int:
        return 7


def street() -> np.ndarray:
    """Return two smooth pictures whose red, green and blue differ."""
    y, x = np.mgrid[0:96, 0:128]
    one = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    return np.stack([one, one[::-1]])


def test_pictures_come_out_as_they_were_taken() -> None:
    model = JpegPictures(Looks())
    assert (model.inputs[0].shape, model.inputs[0].dtype) == ((2,), BYTES)
    assert model.inputs[1] == Looks.inputs[1]
    seen = asyncio.run(model.infer({"front": packed(street()), "ego": np.ones(6)}, None))
    assert seen["front"].shape == (2, 96, 128, 3)
    assert np.abs(seen["front"].astype(int) - street()).mean() < 2.0
    assert (seen["ego"] == 1.0).all()


def test_a_file_that_unfolds_is_refused_before_it_is_decoded() -> None:
    bomb = packed(np.zeros((1, 4_000, 4_000, 3), np.uint8))[0]
    with pytest.raises(MalformedRequestError, match="4000"):
        unpacked(bomb, SPEC)


def test_a_file_that_lies_about_its_size_is_refused() -> None:
    file = bytearray(packed(street())[0])
    ok, png = cv2.imencode(".png", street()[0])
    assert ok
    with pytest.raises(MalformedRequestError, match="expected JPEG of 96 x 128"):
        unpacked(png.tobytes(), SPEC)
    for cut in range(0, len(file), 97):
        if size_of(bytes(file[:cut])) != (96, 128):
            with pytest.raises(MalformedRequestError):
                unpacked(bytes(file[:cut]), SPEC)
