"""Codecs side by side on the same pictures: processor time, bytes, and what is left of the picture.

Peers are what one would write without thinking: libx264 as most tools call it, a JPEG a picture,
the raw pictures packed by zstd.
"""

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Final

import av
import cv2
import numpy as np
import zstandard

from vehicle.contracts.frame import Observation
from vehicle.video import CRF, Codec, VideoDecoder, VideoEncoder

Images = Sequence[np.ndarray]
Coder = Callable[[Images, float], list[bytes]]
Reader = Callable[[list[bytes], np.ndarray], list[np.ndarray]]


def codec_row(name: str, seen: Sequence[Observation], rate_hz: float) -> dict[str, Any]:
    """Return a row of one of CODECS over all cameras of these ticks.

    Processor milliseconds are of all cameras of a tick together; PSNR is of luma (BT.601), the
    mean over pictures.
    """
    encode, decode = CODECS[name]
    cameras = list(seen[0].frame.images)
    encode_s = decode_s = size_bytes = 0.0
    psnr_db: list[float] = []
    for camera in cameras:
        images = [obs.frame.images[camera] for obs in seen]
        begin_s = time.process_time()
        units = encode(images, rate_hz)
        encode_s += time.process_time() - begin_s
        begin_s = time.process_time()
        shown = decode(units, images[0])
        decode_s += time.process_time() - begin_s
        size_bytes += sum(map(len, units))
        psnr_db += [_psnr_y_db(a, b) for a, b in zip(images, shown, strict=True)]
    return {
        "row": f"codec {name}",
        "encode_cpu_ms_per_tick": round(1e3 * encode_s / len(seen), 2),
        "decode_cpu_ms_per_tick": round(1e3 * decode_s / len(seen), 2),
        "bytes_per_s": round(size_bytes / len(seen) * rate_hz),
        "psnr_y_db": round(float(np.mean(psnr_db)), 2)
        if np.isfinite(psnr_db).all()
        else "lossless",
        "cameras": len(cameras),
        "n": len(psnr_db),
    }


def _psnr_y_db(a: np.ndarray, b: np.ndarray) -> float:
    luma = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float32) for x in (a, b)]
    error = float(np.mean((luma[0] - luma[1]) ** 2))
    return float("inf") if error == 0.0 else 10.0 * float(np.log10(255.0**2 / error))


def _ours(codec: Codec) -> tuple[Coder, Reader]:
    def encode(images: Images, rate_hz: float) -> list[bytes]:
        height, width = images[0].shape[:2]
        encoder = VideoEncoder(width, height, rate_hz, codec)
        return [encoder.encode(image) for image in images]

    def decode(units: list[bytes], like: np.ndarray) -> list[np.ndarray]:
        decoder = VideoDecoder(like.shape[1], like.shape[0])
        return [image for u in units if (image := decoder.decode(u, codec)) is not None]

    return encode, decode


def _plain_x264(images: Images, rate_hz: float, options: dict[str, str]) -> list[bytes]:
    height, width = images[0].shape[:2]
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = (
        Fraction(1, 36),
        Fraction(rate_hz).limit_denominator(1000),
    )
    context.thread_count = 1
    context.options = {"preset": "veryfast", **options}
    units: list[bytes] = []
    for i, image in enumerate([*images, None]):
        frame = None
        if image is not None:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = i
        units += [bytes(packet) for packet in context.encode(frame)]
    return units


def _plain_h264(units: list[bytes], like: np.ndarray) -> list[np.ndarray]:
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    packets = [*(av.Packet(u) for u in units), None]
    return [f.to_ndarray(format="rgb24") for p in packets for f in context.decode(p)]


def _jpeg(images: Images, rate_hz: float) -> list[bytes]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    return [cv2.imencode(".jpg", image[:, :, ::-1], quality)[1].tobytes() for image in images]


def _unjpeg(units: list[bytes], like: np.ndarray) -> list[np.ndarray]:
    raw = (np.frombuffer(unit, np.uint8) for unit in units)
    return [cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1] for data in raw]


def _zstd(images: Images, rate_hz: float) -> list[bytes]:
    packer = zstandard.ZstdCompressor(level=1)
    return [packer.compress(np.ascontiguousarray(image)) for image in images]


def _unzstd(units: list[bytes], like: np.ndarray) -> list[np.ndarray]:
    opener = zstandard.ZstdDecompressor()
    return [np.frombuffer(opener.decompress(u), np.uint8).reshape(like.shape) for u in units]


_PLAIN: Final = {"crf": "23"}
_LIVE: Final = {"crf": "18", "tune": "zerolatency", "g": "36"}
"""No B-frames, no lookahead, a keyframe each second: as recorded, but for the preset."""

CODECS: Final[dict[str, tuple[Coder, Reader]]] = {
    f"H.264 as recorded (x264 ultrafast, crf {CRF['h264']})": _ours("h264"),
    f"AV1 as recorded (SVT-AV1 preset 12, crf {CRF['av1']})": _ours("av1"),
    "peer: x264 veryfast, crf 23, B-frames": (partial(_plain_x264, options=_PLAIN), _plain_h264),
    "peer: x264 veryfast, crf 18, at once": (partial(_plain_x264, options=_LIVE), _plain_h264),
    "peer: JPEG, quality 85": (_jpeg, _unjpeg),
    "peer: raw RGB, zstd level 1": (_zstd, _unzstd),
}
"""Name -> how a camera's pictures become bytes, and pictures again."""
