import os

import numpy as np
import pytest
from route_parts import picture

from vehicle.video import Codec, VideoDecoder, VideoEncoder, VideoError, is_keyframe, obu_kinds


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("codec", ["h264", "av1"])
@pytest.mark.parametrize("size", [(256, 128), (51, 33), (2, 2), (1, 1)])
def test_each_picture_comes_back_at_once_in_its_own_size(
    size: tuple[int, int], codec: Codec
) -> None:
    encoder, decoder = VideoEncoder(*size, 10.0, codec), VideoDecoder(*size)
    image = picture(*size)
    for shift in range(12):
        sent = np.roll(image, shift, axis=1)
        got = decoder.decode(encoder.encode(sent), codec)
        assert got is not None
        assert got.shape == sent.shape
        assert psnr_db(sent, got) > (30.0 if codec == "h264" else 25.0)


def test_a_keyframe_with_parameter_sets_comes_every_second() -> None:
    encoder = VideoEncoder(64, 48, 5.0)
    units = [encoder.encode(np.roll(picture(64, 48), i, axis=1)) for i in range(11)]
    assert [is_keyframe(u) for u in units] == [i % 5 == 0 for i in range(11)]
    for unit in units:
        kinds = [unit[i + 3] & 31 for i in range(len(unit) - 3) if unit[i : i + 3] == b"\0\0\1"]
        assert {7, 8, 5} <= set(kinds) if is_keyframe(unit) else set(kinds) <= {1, 6}


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_an_encoder_raises_no_thread_above_the_one_that_opened_it(codec: Codec) -> None:
    before = os.sched_getscheduler(0)
    VideoEncoder(64, 48, 5.0, codec).encode(np.zeros((48, 64, 3), np.uint8))
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(thread) for thread in threads} == {before}


def test_an_av1_unit_shows_one_picture_and_a_keyframe_carries_its_sequence_header() -> None:
    encoder = VideoEncoder(64, 48, 5.0, "av1")
    units = [encoder.encode(np.roll(picture(64, 48), i, axis=1)) for i in range(11)]
    delimiter, sequence, frame = 2, 1, 6
    for i, unit in enumerate(units):
        assert is_keyframe(unit, "av1") == (i % 5 == 0)
        header = [sequence] if i % 5 == 0 else []
        assert obu_kinds(unit) == [delimiter, *header, frame]


def test_a_codec_that_cannot_be_read_or_written_is_named() -> None:
    with pytest.raises(VideoError, match="h265"):
        VideoDecoder(64, 48).decode(b"\0\0\1", "h265")
    with pytest.raises(VideoError, match="expected one of h264, av1"):
        VideoEncoder(64, 48, 10.0, "h265")  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_the_same_pictures_give_the_same_bytes(codec: Codec) -> None:
    runs = []
    for _ in range(2):
        encoder = VideoEncoder(96, 64, 10.0, codec)
        runs.append([encoder.encode(np.roll(picture(96, 64), i, axis=0)) for i in range(12)])
    assert runs[0] == runs[1]


def test_a_stream_joined_late_waits_for_its_keyframe() -> None:
    encoder, decoder = VideoEncoder(64, 48, 4.0), VideoDecoder(64, 48)
    units = [encoder.encode(picture(64, 48)) for _ in range(6)]
    assert [decoder.decode(u) is not None for u in units[2:]] == [False, False, True, True]


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(VideoError, match="expected uint8"):
        VideoEncoder(64, 48, 10.0).encode(picture(48, 64))


def test_garbage_is_refused_by_name() -> None:
    with pytest.raises(VideoError):
        VideoDecoder(64, 48).decode(b"\0\0\0\1\x67" + bytes(range(60)))


def test_video_smaller_than_its_calibration_is_refused() -> None:
    unit = VideoEncoder(32, 32, 10.0).encode(picture(32, 32))
    with pytest.raises(VideoError, match="calibration says 64x48"):
        VideoDecoder(64, 48).decode(unit)
