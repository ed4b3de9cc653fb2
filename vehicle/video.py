"""Pictures to H.264 and back, one frame per message, by the rules that every viewer keeps.

Annex B, no B-frames, parameter sets in every keyframe, a keyframe each second: Foxglove's rules
for CompressedVideo. One thread, no lookahead: the same pictures give the same bytes, and each
picture leaves at once.
"""

from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from vehicle.contracts.wire import RefusedError

CRF: Final = 20
"""Constant quality of libx264: about 44 dB on road footage."""


class VideoError(RefusedError, ValueError):
    """A picture does not fit its encoder, or bytes are not decodable H.264."""


class VideoEncoder:
    """Encodes one camera; every call returns the access unit of that picture."""

    def __init__(self, width_px: int, height_px: int, rate_hz: float) -> None:
        """Open libx264 for RGB pictures of one size; odd sizes are padded to even ones."""
        if not (0 < width_px <= 8192 and 0 < height_px <= 8192 and 0.1 <= rate_hz <= 1000.0):
            raise VideoError(f"cannot encode {width_px}x{height_px} at {rate_hz} Hz")
        self._shape = (height_px, width_px, 3)
        self._pad = (height_px % 2, width_px % 2)
        self._group = max(1, round(rate_hz))
        self._count = 0
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height = width_px + width_px % 2, height_px + height_px % 2
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, 1_000_000)
        context.framerate = Fraction(rate_hz).limit_denominator(1000)
        context.gop_size, context.max_b_frames = self._group, 0
        context.thread_count = 1
        context.color_range, context.colorspace = 1, 6  # limited range, BT.601
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "crf": str(CRF),
            "x264-params": f"keyint={self._group}:min-keyint={self._group}:scenecut=0:bframes=0"
            ":threads=1:sliced-threads=0:rc-lookahead=0:repeat-headers=1:annexb=1:force-cfr=1",
        }
        context.open()
        self._context: av.VideoCodecContext = context
        self._reformat = VideoReformatter()

    def encode(self, image: np.ndarray) -> bytes:
        """Return the H.264 access unit of `image`, uint8 [H, W, 3] RGB.

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
        frame.pts = self._count
        self._count += 1
        return b"".join(bytes(p) for p in self._context.encode(frame))


class VideoDecoder:
    """Decodes one camera; every call returns the picture of that access unit."""

    def __init__(self, width_px: int, height_px: int) -> None:
        """Open a decoder that hands out pictures cropped to this size."""
        context = av.CodecContext.create("h264", "r")
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.low_delay
        self._context: av.VideoCodecContext = context
        self._size = (height_px, width_px)
        self._reformat = VideoReformatter()
        self.waiting = True
        """No keyframe has come yet: a clip cut between keyframes begins with undecodable units."""

    def decode(self, data: bytes) -> np.ndarray | None:
        """Return uint8 [H, W, 3] RGB, or None before the first keyframe.

        Raises:
            VideoError: the bytes are damaged, or the picture is smaller than the camera's.
        """
        if self.waiting and not is_keyframe(data):
            return None
        try:
            frames = self._context.decode(av.Packet(data))
        except av.FFmpegError as error:
            raise VideoError(f"H.264 unit of {len(data)} bytes does not decode: {error}") from error
        if len(frames) != 1:
            raise VideoError(f"H.264 unit of {len(data)} bytes gave {len(frames)} pictures, not 1")
        self.waiting = False
        image = self._reformat.reformat(
            frames[0], format="rgb24", src_colorspace=Colorspace.ITU601
        ).to_ndarray()
        height, width = self._size
        if image.shape[0] < height or image.shape[1] < width:
            raise VideoError(
                f"video is {image.shape[1]}x{image.shape[0]}, calibration says {width}x{height}"
            )
        return np.ascontiguousarray(image[:height, :width])


def is_keyframe(data: bytes) -> bool:
    """Return whether an Annex B access unit holds an IDR slice or parameter sets."""
    at = data.find(b"\x00\x00\x01")
    while at >= 0 and at + 3 < len(data):
        if data[at + 3] & 0x1F in (5, 7):
            return True
        if data[at + 3] & 0x1F == 1:
            return False
        at = data.find(b"\x00\x00\x01", at + 3)
    return False
