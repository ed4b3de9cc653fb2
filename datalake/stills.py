"""Single pictures out of clips: only the second of video that leads up to a frame is read.

Objects of the lake are scrubbed before they are stored, so nothing read here shows a face or plate
that the lake's detectors found.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from google.protobuf.message import DecodeError
from mcap.exceptions import McapError
from mcap.reader import make_reader

from datalake.clips import MissingClipError, clip_object
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.mcap_records import RouteCorruptError
from vehicle.route import RouteReader
from vehicle.video import VideoDecoder, VideoError, is_keyframe

GROUP_NS: Final = 1_500_000_000
"""Keyframes come each second (docs/reference/route-file.md); a log may stutter."""


def stills(
    home: Home, clip_id: str, frame_id: int, mono_ns: int, cameras: Collection[str] | None = None
) -> tuple[Rig | None, dict[str, np.ndarray]]:
    """Return a clip's cameras and their pictures of one frame.

    Args:
        mono_ns: of the frame, as `ticks` has it.
        cameras: which ones; None: all of the clip. One that the clip lacks is left out.
    Returns:
        None and nothing for a clip without cameras; pictures are uint8 [H, W, 3] RGB. A camera
        without a picture of that frame is left out.
    Raises:
        MissingClipError: the clip's file is not there.
        RouteCorruptError: it is damaged.
    """
    path = clip_object(home, clip_id)
    if not path.is_file():
        raise MissingClipError(
            f"clip {clip_id[:12]} has no file at {path}; put it back from the landing zone"
        )
    rig = RouteReader(path).rig
    if rig is None:
        return None, {}
    chosen = [c for c in rig.cameras if cameras is None or c.name in cameras]
    decoders = {c.name: VideoDecoder(c.width_px, c.height_px) for c in chosen}
    try:
        return rig, _decoded(path, decoders, frame_id, mono_ns)
    except (McapError, DecodeError, VideoError, ValueError, EOFError) as error:
        raise RouteCorruptError(f"{path} is damaged: {error}; put it back from a copy") from error


def _decoded(
    path: Path, decoders: dict[str, VideoDecoder], frame_id: int, mono_ns: int
) -> dict[str, np.ndarray]:
    units: dict[str, list[tuple[int, bytes, str]]] = {name: [] for name in decoders}
    with path.open("rb") as file:
        messages = make_reader(file).iter_messages(
            topics=[f"/camera/{name}" for name in decoders],
            start_time=max(0, mono_ns - GROUP_NS),
            end_time=mono_ns + 1,
        )
        for _, channel, message in messages:
            video = CompressedVideo.FromString(message.data)
            name = channel.topic.removeprefix("/camera/")
            if is_keyframe(video.data, video.format):
                units[name].clear()
            units[name].append((message.sequence, video.data, video.format))
    pictures = {}
    for name, decoder in decoders.items():
        for sequence, data, codec in units[name]:
            image = decoder.decode(data, codec)
            if sequence == frame_id & 0xFFFFFFFF and image is not None:
                pictures[name] = image
    return pictures
