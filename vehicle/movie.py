"""Pictures to an MP4 file that any browser plays: H.264, index first, whole or not at all."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import numpy as np

from vehicle.contracts import wire
from vehicle.video import VideoError

CRF: Final = 27
"""Good enough to judge a drive by: about 1 MB for 20 s of a page-wide picture."""


class Movie:
    """Writes one film; as a context manager it is there after the block, or not at all.

    Args:
        path: of the film; its folder is made.
        width_px, height_px: of every picture, both even.
        rate_hz: pictures per second.
    Raises:
        VideoError: a size that H.264 cannot have.
    """

    def __init__(self, path: Path, width_px: int, height_px: int, rate_hz: float) -> None:
        if width_px <= 0 or height_px <= 0 or width_px % 2 or height_px % 2:
            raise VideoError(f"{path}: {width_px}x{height_px}: expected even numbers over 0")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._shape, self._count = (height_px, width_px, 3), 0
        self._file = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream = self._file.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = width_px, height_px
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1
        self._stream.options = {"preset": "veryfast", "crf": str(CRF)}

    def __enter__(self) -> "Movie":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def add(self, image: np.ndarray) -> None:
        """Append a picture, uint8 [H, W, 3] RGB.

        Raises:
            VideoError: another shape or dtype than the film was opened for.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise VideoError(
                f"picture is {image.dtype} {image.shape}, expected uint8 {self._shape}"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._file.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        """Finish the film and give it its name.

        Raises:
            VideoError: it has no pictures.
        """
        if not self._count:
            self.abort()
            raise VideoError(f"{self._path}: a film of no pictures")
        try:
            self._file.mux(self._stream.encode(None))
            self._file.close()
            self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)
        wire.sync_folder(self._path.parent)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)
