"""What home is told of a clip before it asks for it: a picture, the worst of it, its worth."""

import base64
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo

from vehicle.contracts.clip import THUMBNAIL_BYTES, ClipManifest, ClipSummary
from vehicle.contracts.frame import CameraModel, Rig
from vehicle.mcap_records import open_mcap
from vehicle.telemetry_pb import CLASSES
from vehicle.video import VideoDecoder, VideoError, is_keyframe
from vehicle.whole_ticks import CAMERA_TOPIC, WholeTicks
from vehicle.worth import value_of

THUMBNAIL_WIDTH_PX: Final = 480
QUALITIES: Final = (85, 70, 50, 30)
"""Of JPEG: the first with which the picture is small enough."""

Worse = Callable[[float, float], float]

WORST: Final[dict[str, tuple[str, Worse]]] = {
    "ttc_s": ("min_ttc_s", min),
    "rss_margin_m": ("min_rss_margin_m", min),
    "shadow_disagreement": ("max_shadow_disagreement", max),
    "human_gap_m": ("max_human_gap_m", max),
    "flicker_ratio": ("max_flicker_ratio", max),
    "novelty": ("max_novelty", max),
}
"""Signal -> the fact made of it, and what is the worst."""


class Summariser:
    """Looks on while a clip is written, and says at its end what home is told first.

    Facts: duration_s, events, size_bytes, mean_speed_mps, max_speed_mps, min_accel_mps2,
    max_tracks, max_uncertainty_ratio, max_total_us, and those of WORST; what no tick says is
    absent. The picture is that of the camera ahead at the first event.

    Args:
        rig: of the clip, None without cameras.
    """

    def __init__(self, rig: Rig | None) -> None:
        self._camera = ahead(rig) if rig else None
        self._facts: dict[str, float] = {}
        self._speed_sum, self._speeds = 0.0, 0
        self._image: np.ndarray | None = None

    def tick(self, record: Any, images: Mapping[str, np.ndarray]) -> None:
        """Take one tick: its TickRecord and its pictures."""
        for field in ("ego", "scene", "timing", "signals"):
            if record.HasField(field):
                self._take(field, getattr(record, field))
        if record.events and self._image is None and self._camera:
            self._image = images.get(self._camera.name)

    def read(self, path: Path) -> None:
        """Take every whole tick of a file, as `tick` would have; damage is passed over.

        Raises:
            RouteCorruptError: it is no route file.
        """
        units: list[CompressedVideo] = []
        with open_mcap(path) as file:
            for tick in WholeTicks(file, recover=True):
                for topic, message in tick:
                    if self._camera and topic == CAMERA_TOPIC + self._camera.name:
                        video = CompressedVideo.FromString(message.data)
                        begins = is_keyframe(video.data, video.format)
                        units = [video] if begins else [*units, video]
                    elif topic in _READ:
                        parsed = CLASSES[_READ[topic]].FromString(message.data)
                        self._take(topic.removeprefix("/"), parsed)
                if self._image is None and any(topic == "/event" for topic, _ in tick):
                    self._image = self._decode(units)

    def summary(self, manifest: ClipManifest, kept_before: Mapping[str, int]) -> ClipSummary:
        """Return the summary of the clip with this manifest.

        Args:
            kept_before: see `worth.value_of`.
        """
        facts = self._facts | {
            "duration_s": (manifest.end_mono_ns - manifest.start_mono_ns) * 1e-9,
            "events": float(len(manifest.events)),
            "size_bytes": float(sum(entry.size_bytes for entry in manifest.files)),
        }
        if self._speeds:
            facts["mean_speed_mps"] = self._speed_sum / self._speeds
        return ClipSummary(
            manifest=manifest,
            thumbnail_jpeg=thumbnail(self._image),
            facts={name: round(value, 6) for name, value in sorted(facts.items())},
            value=value_of(manifest.events, kept_before),
        )

    def _take(self, field: str, message: Any) -> None:
        if field == "ego":
            self._speed_sum, self._speeds = self._speed_sum + message.speed_mps, self._speeds + 1
            self._worst("max_speed_mps", message.speed_mps, max)
            self._worst("min_accel_mps2", message.accel_mps2, min)
        elif field == "scene":
            self._worst("max_tracks", len(message.tracks.track_id), max)
            if message.fresh:
                self._worst("max_uncertainty_ratio", message.uncertainty_ratio, max)
        elif field == "timing":
            self._worst("max_total_us", message.total_us, max)
        else:
            for signal, value in message.ListFields():
                if signal.name in WORST:
                    name, worse = WORST[signal.name]
                    self._worst(name, value, worse)

    def _worst(self, name: str, value: float, worse: Worse) -> None:
        if math.isfinite(value):
            self._facts[name] = worse(self._facts.get(name, float(value)), float(value))

    def _decode(self, units: list[CompressedVideo]) -> np.ndarray | None:
        image = None
        if self._camera is not None:
            decoder = VideoDecoder(self._camera.width_px, self._camera.height_px)
            for video in units:
                try:
                    image = decoder.decode(video.data, video.format)
                except VideoError:
                    break  # a picture a little earlier is better than none
        return image


_READ: Final = {"/ego": "Ego", "/scene": "Scene", "/timing": "Timing", "/signals": "Signals"}


def ahead(rig: Rig) -> CameraModel | None:
    """Return the camera that looks ahead, the widest of several; None without cameras."""
    if not rig.cameras:
        return None
    # the camera's z axis, seen along ego x; a degree or two of aim does not decide
    return max(rig.cameras, key=lambda c: (round(float(c.matrix[0, 2]), 2), c.width_px / c.fx_px))


def thumbnail(image: np.ndarray | None) -> str:
    """Return a small JPEG of a picture as base64, "" without one.

    Args:
        image: uint8 [H, W, 3], RGB.
    """
    if image is None:
        return ""
    width = min(THUMBNAIL_WIDTH_PX, image.shape[1])
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    for quality in QUALITIES:
        _, jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        text = base64.b64encode(jpeg.tobytes()).decode()
        if len(text) <= THUMBNAIL_BYTES:
            return text
    return ""
