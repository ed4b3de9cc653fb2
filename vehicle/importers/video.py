"""Plain video: one forward camera, no motion; its calibration comes from who knows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np

from vehicle.contracts.frame import FrameSet, MissingCalibrationError, Observation, Rig
from vehicle.geometry import look_camera
from vehicle.importers.layout import LogDamagedError, LogLayoutError
from vehicle.sources import LogSource

LAYOUT: Final = "one video file (mp4, mkv, avi, mov) and --hfov-deg, its horizontal field of view"
MOUNTING: Final = {"x_m": 1.5, "y_m": 0.0, "z_m": 1.4, "yaw_deg": 0.0}
"""Behind the windscreen of a mid-size car: a bare video does not say."""


def open_log(path: Path, *, hfov_deg: float | None = None) -> LogSource:
    """Return one video as a source with one camera, "front", and no ego motion.

    Args:
        path: anything FFmpeg reads.
        hfov_deg: horizontal field of view, 10..170; without it the pictures mean nothing in metres.
    Raises:
        LogLayoutError: no such file.
        MissingCalibrationError: no field of view given.
        LogDamagedError: not a video.
    """
    if not path.is_file():
        raise LogLayoutError(f"{path} is not a file; `import video` takes {LAYOUT}")
    if hfov_deg is None:
        raise MissingCalibrationError(
            f"{path} has pictures but no calibration; give its horizontal field of view, e.g. "
            "--hfov-deg 60 (dashcams: 60 to 120; focal length f in pixels: 2 atan(width / 2f))"
        )
    if not 10.0 <= hfov_deg <= 170.0:
        raise MissingCalibrationError(f"--hfov-deg is {hfov_deg}, expected 10 to 170 degrees")
    width, height, rate_hz, ticks = _probe(path)
    camera = look_camera("front", width_px=width, height_px=height, hfov_deg=hfov_deg, **MOUNTING)
    metadata = {
        "car_id": "video",
        "route_id": path.stem.strip(".") or "video",
        "source": "video",
        "jurisdiction": "XX",
        "tag.hfov_deg": f"{hfov_deg:g}",
    }

    def walk() -> Iterator[Observation]:
        for i, (mono_ns, image) in enumerate(frames(path)):
            frame = FrameSet(frame_id=i, mono_ns=mono_ns, images={"front": image})
            yield Observation(frame=frame)

    return LogSource(
        rig=Rig(name="video", cameras=(camera,)),
        rate_hz=rate_hz,
        metadata=metadata,
        ticks=ticks,
        walk=walk,
    )


def _probe(path: Path) -> tuple[int, int, float, int | None]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise LogDamagedError(f"{path} has no video in it")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.base_rate
            if not rate or not stream.codec_context.width:
                raise LogDamagedError(f"{path} does not say its size or rate")
            size = stream.codec_context.width, stream.codec_context.height
            return *size, float(rate), stream.frames or None
    except (av.FFmpegError, IndexError) as error:
        raise LogDamagedError(f"{path} is not a video: {error}") from error


def frames(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (nanoseconds since the first frame, uint8 [H, W, 3] RGB) of a video file.

    Raises:
        LogDamagedError: not a video, or it breaks off.
    """
    first: int | None = None
    last_ns, count = -1, 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            period_ns = round(1e9 / float(stream.average_rate or stream.base_rate or 20))
            base = stream.time_base
            for frame in container.decode(stream):
                count += 1
                at_ns = last_ns + period_ns if last_ns >= 0 else 0
                if frame.pts is not None and base is not None:
                    first = frame.pts if first is None else first
                    at_ns = int((frame.pts - first) * base * 1_000_000_000)
                at_ns = max(at_ns, last_ns + 1)
                last_ns = at_ns
                yield at_ns, frame.to_ndarray(format="rgb24")
            if count < 0.95 * stream.frames:
                raise LogDamagedError(f"{path} breaks off after {count} of {stream.frames} frames")
    except (av.FFmpegError, IndexError) as error:
        raise LogDamagedError(f"{path} breaks off or is not a video: {error}") from error
