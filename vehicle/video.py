"""Pictures to H.264 or AV1 and back, one frame per message, by the rules that every viewer keeps.

No B-frames, a keyframe each second that carries all a decoder needs: Foxglove's rules for
CompressedVideo. H.264 is Annex B, AV1 the low-overhead stream. One thread, no lookahead: the same
pictures give the same bytes, and each picture leaves at once.
"""

import os
from fractions import Fraction
from functools import partial
from typing import Final, Literal, cast, get_args

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from vehicle.contracts.wire import RefusedError
from vehicle.patient_codec import Coder, PatientCodec, StuckError
from vehicle.realtime import same_class

Codec = Literal["h264", "av1"]
"""As `CompressedVideo.format` names them."""

CRF: Final = {"h264": 20, "av1": 35}
"""Constant quality: 39.5 dB of luma with libx264, 35.8 dB at half the bytes with SVT-AV1, on
rendered pictures of the shipped cameras (`roadloop bench clip`, n = 1,152 each)."""

_ENCODER: Final = {"h264": "libx264", "av1": "libsvtav1"}
_DECODER: Final = {"h264": "h264", "av1": "libdav1d"}
_LEAST_PX: Final = {"h264": 2, "av1": 4}
_BT601: Final = 6


class VideoError(RefusedError, ValueError):
    """A picture does not fit its encoder, or bytes are not decodable video."""


class VideoEncoder:
    """Encodes one camera; every call returns the access unit of that picture."""

    def __init__(
        self, width_px: int, height_px: int, rate_hz: float, codec: Codec = "h264"
    ) -> None:
        """Open an encoder for RGB pictures of one size; odd and tiny sizes are padded.

        Raises:
            VideoError: a size, rate or codec that cannot be encoded.
        """
        if codec not in get_args(Codec):
            raise VideoError(f"codec is {codec!r}, expected one of {', '.join(get_args(Codec))}")
        if not (0 < width_px <= 8192 and 0 < height_px <= 8192 and 0.1 <= rate_hz <= 1000.0):
            raise VideoError(f"cannot encode {width_px}x{height_px} at {rate_hz} Hz")
        self._shape = (height_px, width_px, 3)
        self._pad = tuple(_even(n, _LEAST_PX[codec]) - n for n in (height_px, width_px))
        self._count = 0
        size = (width_px + self._pad[1], height_px + self._pad[0])
        open_ = partial(_coder, *size, rate_hz, codec)
        self._patient = PatientCodec(open_) if codec == "av1" else None
        self._code = self._patient.encode if self._patient else open_()
        self._reformat = VideoReformatter()

    def encode(self, image: np.ndarray) -> bytes:
        """Return the access unit of `image`, uint8 [H, W, 3] RGB.

        Raises:
            VideoError: another shape or dtype than the encoder was opened for.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise VideoError(
                f"picture is {image.dtype} {image.shape}, expected uint8 {self._shape}"
            )
        if any(self._pad):
            image = np.pad(image, ((0, self._pad[0]), (0, self._pad[1]), (0, 0)), mode="edge")
        frame = self._reformat.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
        )
        return self._encode(frame)

    def encode_planes(self, planes: np.ndarray) -> bytes:
        """Return the access unit of a picture as `VideoDecoder.planes` gave it: nothing is lost to
        colours on the way.

        Raises:
            VideoError: another size than the encoder was opened for.
        """
        shape = ((self._shape[0] + self._pad[0]) * 3 // 2, self._shape[1] + self._pad[1])
        if planes.shape != shape or planes.dtype != np.uint8:
            raise VideoError(f"planes are {planes.dtype} {planes.shape}, expected uint8 {shape}")
        return self._encode(av.VideoFrame.from_ndarray(planes, format="yuv420p"))

    def _encode(self, frame: av.VideoFrame) -> bytes:
        frame.pts = self._count
        self._count += 1
        try:
            return self._code(frame)
        except StuckError as error:
            raise VideoError(str(error)) from error

    @property
    def stalls(self) -> int:
        """Return how often its codec stopped answering and another one went on."""
        return self._patient.stalls if self._patient else 0


def _coder(width_px: int, height_px: int, rate_hz: float, codec: Codec) -> Coder:
    """Open an encoder of pictures of one size; return what encodes one."""
    group = max(1, round(rate_hz))
    context = cast("av.VideoCodecContext", av.CodecContext.create(_ENCODER[codec], "w"))
    context.height, context.width = height_px, width_px
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, 1_000_000)
    context.framerate = Fraction(rate_hz).limit_denominator(1000)
    context.gop_size, context.max_b_frames = group, 0
    context.thread_count = 1
    context.color_range, context.colorspace = 1, _BT601  # limited range
    context.options = _options(codec, group)
    with same_class():
        context.open()
    return lambda frame: b"".join(bytes(packet) for packet in context.encode(frame))


def _even(pixels: int, least: int) -> int:
    return max(least, pixels + pixels % 2)


def _options(codec: Codec, group: int) -> dict[str, str]:
    """Return what makes an encoder hand out each picture at once, a keyframe every `group`."""
    if codec == "h264":
        return {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "crf": str(CRF[codec]),
            "x264-params": f"keyint={group}:min-keyint={group}:scenecut=0:bframes=0"
            ":threads=1:sliced-threads=0:rc-lookahead=0:repeat-headers=1:annexb=1:force-cfr=1",
        }
    os.environ.setdefault("SVT_LOG", "0")  # it talks on stderr; errors come back as values
    return {
        "preset": "12",
        "crf": str(CRF[codec]),
        "svtav1-params": f"rtc=1:pred-struct=1:lp=1:lookahead=0:scd=0:keyint={group}"
        ":irefresh-type=2",
    }


class VideoDecoder:
    """Decodes one camera; every call returns the picture of that access unit."""

    def __init__(self, width_px: int, height_px: int) -> None:
        """Prepare to hand out pictures cropped to this size; the codec is that of each unit."""
        self._context: av.VideoCodecContext | None = None
        self._codec = ""
        self._size = (height_px, width_px)
        self._reformat = VideoReformatter()
        self.waiting = True
        """No keyframe has come yet: a clip cut between keyframes begins with undecodable units."""

    def decode(self, data: bytes, codec: str = "h264") -> np.ndarray | None:
        """Return uint8 [H, W, 3] RGB, or None before the first keyframe.

        Raises:
            VideoError: the bytes are damaged, the codec is another than h264 and av1, or the
                picture is smaller than the camera's.
        """
        frame = self._frame(data, codec)
        return None if frame is None else self._image(frame)

    def planes(self, data: bytes, codec: str = "h264") -> np.ndarray | None:
        """Return the picture as it is coded, uint8 [H * 3 / 2, W]: luma, then both chroma planes at
        half the size (I420), padding included. Returns None and raises as `decode`."""
        frame = self._frame(data, codec)
        if frame is None:
            return None
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            raise VideoError(f"{codec} picture is {frame.format.name}, expected yuv420p")
        return np.array(frame.to_ndarray())

    def image(self, planes: np.ndarray) -> np.ndarray:
        """Return uint8 [H, W, 3] RGB of `planes`."""
        return self._image(av.VideoFrame.from_ndarray(planes, format="yuv420p"))

    def _frame(self, data: bytes, codec: str) -> av.VideoFrame | None:
        if codec != self._codec:
            self._open(codec)
        if self.waiting and not is_keyframe(data, codec):
            return None
        assert self._context is not None
        try:
            frames = self._context.decode(av.Packet(data))
        except av.FFmpegError as error:
            raise VideoError(
                f"{codec} unit of {len(data)} bytes does not decode: {error}"
            ) from error
        if len(frames) != 1:
            raise VideoError(
                f"{codec} unit of {len(data)} bytes gave {len(frames)} pictures, not 1"
            )
        self.waiting = False
        return frames[0]

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        image = self._reformat.reformat(
            frame, format="rgb24", src_colorspace=Colorspace.ITU601
        ).to_ndarray()
        height, width = self._size
        if image.shape[0] < height or image.shape[1] < width:
            raise VideoError(
                f"video is {image.shape[1]}x{image.shape[0]}, calibration says {width}x{height}"
            )
        return np.ascontiguousarray(image[:height, :width])

    def _open(self, codec: str) -> None:
        if codec not in _DECODER:
            raise VideoError(f"video is {codec!r}, readable are {', '.join(_DECODER)}")
        context = cast("av.VideoCodecContext", av.CodecContext.create(_DECODER[codec], "r"))
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.low_delay
        if codec == "av1":
            context.options = {"max_frame_delay": "1"}
        self._context, self._codec, self.waiting = context, codec, True


def is_keyframe(data: bytes, codec: str = "h264") -> bool:
    """Return whether a unit begins a group: an IDR slice or parameter sets of H.264, a sequence
    header of AV1."""
    if codec == "av1":
        return any(kind == _SEQUENCE_HEADER for kind in obu_kinds(data))
    at = data.find(b"\x00\x00\x01")
    while at >= 0 and at + 3 < len(data):
        if data[at + 3] & 0x1F in (5, 7):
            return True
        if data[at + 3] & 0x1F == 1:
            return False
        at = data.find(b"\x00\x00\x01", at + 3)
    return False


_SEQUENCE_HEADER: Final = 1


def obu_kinds(data: bytes) -> list[int]:
    """Return the types of the open bitstream units of a low-overhead AV1 unit.

    Source: AOMedia, AV1 Bitstream & Decoding Process Specification (2019), 5.3.2 and 4.10.5.
    """
    kinds: list[int] = []
    at = 0
    while at < len(data):
        head = data[at]
        kinds.append(head >> 3 & 15)
        at += 1 + (head >> 2 & 1)
        if not head >> 1 & 1:  # it has no size: it is the last
            break
        size = shift = 0
        while at < len(data) and shift < 56:
            byte = data[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if not byte & 128:
                break
        at += size
    return kinds
