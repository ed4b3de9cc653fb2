"""Clips as objects of the lake: files named by their own sha256, read through the route reader."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datalake.rows import luma_of
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Record
from vehicle.contracts.wire import RefusedError
from vehicle.route import RouteReader


class MissingClipError(RefusedError):
    """The lake has no object for a clip."""


class MissingPictureError(RefusedError):
    """A frame was asked for that has no picture, or not of every camera."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """A clip that was read to its end.

    Args:
        records: its ticks, in order, without pictures.
        luma: frame_id -> mean luminance of the first camera, at each of its keyframes.
    """

    rig: Rig | None
    rate_hz: float
    records: list[Record]
    luma: dict[int, float]

    @property
    def rig_digest(self) -> str:
        """Return the digest of the cameras, "" for a log without."""
        return self.rig.digest if self.rig else ""


def clip_object(home: Home, clip_id: str) -> Path:
    """Return where the lake keeps the file of a clip."""
    return home.lake / "clips" / clip_id[:2] / f"{clip_id}.mcap"


def read_clip(path: Path) -> Clip:
    """Read every tick of a clip, and how bright its pictures are.

    Raises:
        RouteCorruptError: cut off or damaged.
        MissingCalibrationError: pictures of a camera that the rig does not have.
    """
    reader = RouteReader(path)
    records = list(reader.records())
    luma: dict[int, float] = {}
    if reader.rig and any(record.cameras for record in records):
        camera = reader.rig.cameras[0].name
        luma = {frame_id: luma_of(image) for frame_id, image in reader.keyframes(camera)}
    return Clip(rig=reader.rig, rate_hz=reader.rate_hz, records=records, luma=luma)


def rig_of(home: Home, clip_id: str) -> Rig:
    """Return the cameras of a clip in the lake.

    Raises:
        MissingClipError: its file is not there.
        MissingPictureError: the clip has no cameras.
    """
    rig = RouteReader(_existing(home, clip_id)).rig
    if rig is None or not rig.cameras:
        raise MissingPictureError(f"clip {clip_id[:12]} was recorded without cameras")
    return rig


def pictures(
    home: Home, clip_id: str, wanted: Collection[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield frame_id and the picture of every camera, for the wanted frames in order.

    Raises:
        MissingClipError: the clip's file is not there.
        MissingPictureError: a wanted frame is not in the clip, or lacks a camera.
    """
    reader = RouteReader(_existing(home, clip_id))
    names = [c.name for c in reader.rig.cameras] if reader.rig else []
    left = set(wanted)
    for observation in reader.observations():
        frame = observation.frame
        if frame.frame_id in left:
            missing = [n for n in names if n not in frame.images]
            if missing or not names:
                raise MissingPictureError(
                    f"clip {clip_id[:12]}, frame {frame.frame_id}: no picture of "
                    f"{', '.join(missing) or 'any camera'}; leave the frame out of the query"
                )
            left.discard(frame.frame_id)
            yield frame.frame_id, {n: frame.images[n] for n in names}
        if not left:
            return
    raise MissingPictureError(
        f"clip {clip_id[:12]} has no frame {min(left)}; the query must yield frame_ids of `ticks`"
    )


def _existing(home: Home, clip_id: str) -> Path:
    path = clip_object(home, clip_id)
    if not path.is_file():
        raise MissingClipError(
            f"clip {clip_id[:12]} has no file at {path}; put it back from the landing zone"
        )
    return path
