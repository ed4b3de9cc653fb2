"""An encoder that stops answering takes nothing with it."""

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest

from vehicle import patient_codec, video
from vehicle.patient_codec import PatientCodec, StuckError
from vehicle.video import VideoDecoder, VideoEncoder, VideoError, is_keyframe


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_codec, "PATIENCE_S", 0.3)


def sticks_at(number: int) -> Callable[[Callable[[object], bytes]], Callable[[object], bytes]]:
    """Return what makes a coder wait for good at its frame of that number."""

    def wrap(code: Callable[[object], bytes]) -> Callable[[object], bytes]:
        seen = iter(range(10_000))

        def sticky(frame: object) -> bytes:
            if next(seen) == number:
                threading.Event().wait()
            return code(frame)

        return sticky

    return wrap


def test_a_stream_goes_on_with_a_keyframe_when_its_encoder_sticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, coder = [], video._coder

    def first_sticks(*size: object) -> Callable[[object], bytes]:
        opened.append(size)
        code = coder(*size)  # type: ignore[arg-type]
        return sticks_at(7)(code) if len(opened) == 1 else code

    monkeypatch.setattr(video, "_coder", first_sticks)
    encoder, decoder = VideoEncoder(64, 48, 5.0, "av1"), VideoDecoder(64, 48)
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None] * np.ones((48, 1, 3), np.uint8)
    for number in range(14):
        image = np.roll(ramp, number, axis=1)
        unit = encoder.encode(image)
        assert is_keyframe(unit, "av1") == (number in (0, 5, 7, 12))
        seen = decoder.decode(unit, "av1")
        assert np.abs(seen.astype(int) - image).mean() < 12.0
    assert (encoder.stalls, len(opened)) == (1, 2)


def test_two_that_stick_are_an_error_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = video._coder
    monkeypatch.setattr(video, "_coder", lambda *size: sticks_at(0)(coder(*size)))
    with pytest.raises(VideoError, match="two encoders"):
        VideoEncoder(64, 48, 5.0, "av1").encode(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(StuckError):
        PatientCodec(lambda: sticks_at(0)(lambda _: b"x")).encode(None)


def test_what_an_encoder_raises_is_raised_and_its_thread_ends_with_it() -> None:
    def broken(_: object) -> bytes:
        raise ValueError("no such picture")

    before = threading.active_count()
    codec = PatientCodec(lambda: broken)
    with pytest.raises(ValueError, match="no such picture"):
        codec.encode(None)
    assert threading.active_count() == before + 1
    del codec
    gc.collect()
    assert threading.active_count() == before
