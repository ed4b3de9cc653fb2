"""A clip with every face and plate that was found made unrecognisable, for good.

Only the video from the first hit to the end of its one-second group of pictures is encoded again;
every other message is carried over byte for byte. The same clip and detectors give the same bytes.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast, get_args

import cv2
import numpy as np
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from google.protobuf.message import DecodeError
from mcap.records import Message

from datalake.detect import Detector, Look, Region, name_of
from datalake.detect_tracks import believed
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.scene import TRACK
from vehicle.contracts.wire import RefusedError, sync_folder
from vehicle.mcap_records import McapRecords, open_mcap
from vehicle.route import RouteReader, RouteWriter
from vehicle.video import Codec, VideoDecoder, VideoEncoder, VideoError, is_keyframe
from vehicle.whole_ticks import CAMERA_TOPIC

CELLS: Final = 2
STEP: Final = 16
"""What a region keeps: 2 x 2 means of each plane in 16 levels, 48 bits. Networks have read faces
from mosaics down to 8 x 8 cells (McPherson, Shokri, Shmatikov, "Defeating image obfuscation with
deep learning", 2016), and finer ones add up over a video's frames; this is not enough for that."""

_NOBODY: Final = np.zeros(0, TRACK)


class ScrubError(RefusedError):
    """A clip could not be scrubbed; it must not be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """What was blurred.

    Args:
        regions: rectangles blurred, over all pictures, and messages withheld whole because
            nobody could look at them; 0: the clip is the same file.
        frames: pictures with at least one.
        pictures: pictures in the clip, over all cameras.
        encoded: pictures that were encoded again.
        blurred_ratio: share of all pixels that was blurred.
        detector: who looked, e.g. "tracks@1+plates@1"; "none" for nobody.
    """

    SCHEMA = "scrub/1"
    regions: int = 0
    frames: int = 0
    pictures: int = 0
    encoded: int = 0
    blurred_ratio: float = 0.0
    detector: str = "none"


def scrub(path: Path, out: Path, detectors: Sequence[Detector]) -> ScrubReport:
    """Write `path` to `out` with what the detectors find blurred; `path` is only read.

    Args:
        path: a clip or route file.
        out: another path; it has its name only once it is whole.
        detectors: all of them look at every picture; without any it is the same file, unread.
    Returns:
        counts; `out` holds the same ticks, pictures of the same sizes at the same frames. Where
        nothing was to hide it is the same file, byte for byte.
    Raises:
        RouteCorruptError: the clip is damaged; nothing is left at `out`.
        ScrubError: a picture cannot be looked at; nothing is left at `out`.
    """
    if not detectors:
        _copy(path, out)
        return ScrubReport()
    reader = RouteReader(path)
    pass_ = _Pass(reader, believed(list(reader.records())), detectors)
    try:
        with RouteWriter(
            out, reader.rig, rate_hz=reader.rate_hz, metadata=reader.metadata
        ) as writer:
            pass_.run(writer)
            if not pass_.changed:
                writer.abort()
    except (VideoError, DecodeError, cv2.error) as error:
        raise ScrubError(
            f"{path} cannot be looked at whole ({type(error).__name__}: {error}); it must not be "
            "shown: record it again"
        ) from error
    if not pass_.changed:
        _copy(path, out)
    return pass_.report(name_of(detectors))


def blur(planes: np.ndarray, shape: tuple[int, int], regions: Sequence[Region]) -> int:
    """Blur the regions of a coded picture in place; return how many pixels that were.

    Args:
        planes: I420, uint8 [h * 3 / 2, w], as `VideoDecoder.planes` gives it.
        shape: height and width of the picture in it; the rest is padding.
        regions: what to blur.
    """
    high, wide = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[high:].reshape(2, high // 2, wide // 2)
    for rows, columns in _parts(shape, regions):
        _flatten(planes[:high][rows, columns])
        half = (
            slice(rows.start // 2, -(-rows.stop // 2)),
            slice(columns.start // 2, -(-columns.stop // 2)),
        )
        for plane in chroma:
            _flatten(plane[half])
    return int(mask_of(shape, regions).sum()) if regions else 0


def _flatten(part: np.ndarray) -> None:
    """Leave of a plane's rectangle, in place, the means of its quarters and what lies between."""
    cells = np.zeros((CELLS, CELLS), np.uint8)
    for i, band in enumerate(np.array_split(part, CELLS, axis=0)):
        for j, cell in enumerate(np.array_split(band, CELLS, axis=1)):
            if cell.size:
                mean = int(cell.sum(dtype=np.int64)) // cell.size
                cells[i, j] = min((mean + STEP // 2) // STEP * STEP, 255)
    size = part.shape[1], part.shape[0]
    part[:] = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR_EXACT)


def mask_of(shape: tuple[int, int], regions: Sequence[Region]) -> np.ndarray:
    """Return bool [H, W]: which pixels `blur` changes."""
    mask = np.zeros(shape, bool)
    for rows, columns in _parts(shape, regions):
        mask[rows, columns] = True
    return mask


def _parts(shape: tuple[int, int], regions: Sequence[Region]) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of regions, cut to the picture, edges moved out to even pixels:
    no colour sample of the video spans an edge."""
    for region in regions:
        top, left = max(region.top_px & ~1, 0), max(region.left_px & ~1, 0)
        bottom = min(region.bottom_px + (region.bottom_px & 1), shape[0])
        right = min(region.right_px + (region.right_px & 1), shape[1])
        if right > left and bottom > top:
            yield slice(top, bottom), slice(left, right)


@dataclass(slots=True)
class _Tally:
    regions: int = 0
    frames: int = 0
    pictures: int = 0
    encoded: int = 0
    blurred_px: int = 0
    all_px: int = 0


class _Pass:
    """One clip on its way from a reader to a writer."""

    def __init__(
        self, reader: RouteReader, tracks: list[np.ndarray], detectors: Sequence[Detector]
    ) -> None:
        self._path, self._tracks, self._tally = reader.path, tracks, _Tally()
        rig = reader.rig.cameras if reader.rig else ()
        self._cameras = {c.name: _Camera(c, detectors, reader.rate_hz, self._tally) for c in rig}
        self.changed = False
        """Whether anything at all is another than in the file."""

    def run(self, writer: RouteWriter) -> None:
        """Carry every message of the file over, videos as their cameras say."""
        tick = 0
        with open_mcap(self._path) as file:
            for item in McapRecords(file):
                if not isinstance(item, tuple):
                    continue
                topic, message = item
                if topic.startswith(CAMERA_TOPIC):
                    tracks = self._tracks[tick] if tick < len(self._tracks) else _NOBODY
                    message = self._scrubbed(topic.removeprefix(CAMERA_TOPIC), message, tracks)
                tick += topic == "/frame"
                # a topic that routes do not have is left out: nobody can say what it shows
                if not writer.carry(topic, message):
                    self._tally.regions += 1
                    self.changed = True

    def _scrubbed(self, name: str, message: Message, tracks: np.ndarray) -> Message:
        if name not in self._cameras:
            raise ScrubError(f"{self._path}: camera {name!r} has video but no calibration")
        video = CompressedVideo.FromString(message.data)
        if video.format not in get_args(Codec):
            raise ScrubError(f"{self._path}: camera {name!r} has video of format {video.format!r}")
        kept = self._cameras[name].unit(video.data, cast(Codec, video.format), tracks)
        if kept == video.data:
            return message
        self.changed = True
        video.data = kept
        return replace(message, data=video.SerializeToString())

    def report(self, detector: str) -> ScrubReport:
        """Return what was done."""
        tally = self._tally
        return ScrubReport(
            regions=tally.regions,
            frames=tally.frames,
            pictures=tally.pictures,
            encoded=tally.encoded,
            blurred_ratio=tally.blurred_px / max(tally.all_px, 1),
            detector=detector,
        )


class _Camera:
    """One camera's video on its way through: copied until a hit, then encoded until a keyframe."""

    def __init__(
        self, model: CameraModel, detectors: Sequence[Detector], rate_hz: float, tally: _Tally
    ) -> None:
        self._model, self._rate_hz, self._tally = model, rate_hz, tally
        self._blind = [d for d in detectors if not d.needs_pixels]
        self._seeing = [d for d in detectors if d.needs_pixels]
        self._waiting: list[tuple[bytes, Codec]] = []
        """Units since the keyframe that nobody needed to decode so far."""
        self._decoder = VideoDecoder(model.width_px, model.height_px)
        self._encoder: VideoEncoder | None = None
        self._begun = False

    def unit(self, data: bytes, codec: Codec, tracks: np.ndarray) -> bytes:
        """Return the access unit to keep in place of `data`."""
        self._tally.pictures += 1
        self._tally.all_px += self._model.width_px * self._model.height_px
        if is_keyframe(data, codec):
            self._waiting, self._encoder, self._begun = [], None, True
        elif not self._begun:  # nobody can look at what comes before the first keyframe
            self._tally.regions += 1
            return b""
        look = Look(camera=self._model, tracks=tracks)
        regions = [r for d in self._blind for r in d.regions(look)]
        self._waiting.append((data, codec))
        if not (regions or self._seeing or self._encoder):
            return data
        planes = self._decoded()
        if self._seeing:
            look = replace(look, image=self._decoder.image(planes))
            regions += [r for d in self._seeing for r in d.regions(look)]
        blurred_px = blur(planes, (self._model.height_px, self._model.width_px), regions)
        if not (blurred_px or self._encoder):
            return data
        self._tally.blurred_px += blurred_px
        self._tally.regions += len(regions)
        self._tally.frames += blurred_px > 0
        self._tally.encoded += 1
        if self._encoder is None:
            size = (self._model.width_px, self._model.height_px)
            self._encoder = VideoEncoder(*size, self._rate_hz, codec)
        return self._encoder.encode_planes(planes)

    def _decoded(self) -> np.ndarray:
        """Return the coded picture of the last unit, after all that it builds upon."""
        planes: np.ndarray | None = None
        for data, codec in self._waiting:
            planes = self._decoder.planes(data, codec)
        self._waiting = []
        if planes is None:
            raise ScrubError(f"camera {self._model.name!r}: a picture does not decode")
        return planes


def _copy(path: Path, out: Path) -> None:
    """Copy a file so that it has its name only once it is whole."""
    part = out.with_name(out.name + ".part")
    try:
        shutil.copyfile(path, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(out.parent)
