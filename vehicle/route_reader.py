"""Reads route files and clips, whole ones strictly and damaged ones on request."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from google.protobuf.message import DecodeError
from mcap.records import Metadata

from vehicle.contracts import wire
from vehicle.contracts.frame import MissingCalibrationError, Observation, Rig
from vehicle.contracts.tick import Record, Tick
from vehicle.contracts.topics import REPEATED, TOPICS
from vehicle.mcap_records import McapRecords, RouteCorruptError, open_mcap
from vehicle.telemetry_pb import TickRecord, record_from
from vehicle.video import VideoDecoder, VideoError, is_keyframe
from vehicle.whole_ticks import CAMERA_TOPIC, Damage, Told, WholeTicks

SCHEMA: Final = "route/1"
RESERVED: Final = ("schema", "rate_hz", "rig")
"""Metadata keys that the writer fills in itself."""

_UNREADABLE: Final = (DecodeError, ValueError, TypeError)
"""What bytes raise that are not what they should be; VideoError and ContractError are values'."""


class RouteReader:
    """Reads a route file or clip from the front, holding one chunk and one tick in memory."""

    def __init__(self, path: Path, *, recover: bool = False) -> None:
        """Open `path` and read what it says about itself.

        Args:
            path: a route file or clip.
            recover: read what is whole of a cut or damaged file; once a pass over it is through,
                `damage` says by name and count what is missing, and from where.
        Raises:
            RouteMissingError: no such file.
            RouteCorruptError: empty, not a route, or its metadata is damaged.
        """
        self.path, self._recover = Path(path), recover
        self.damage: Damage | None = None
        about = self._about()
        try:
            wire.require(about["schema"] == SCHEMA, f"schema is {about['schema']!r}")
            self.rate_hz = float(about["rate_hz"])
            text = about["rig"]
            self.rig = wire.from_bytes(Rig, text.encode(), strict=False) if text else None
        except (KeyError, ValueError) as error:
            raise RouteCorruptError(
                f"{self.path}: its route metadata does not read ({error}); expected {SCHEMA}"
            ) from error
        self.metadata = {k: v for k, v in about.items() if k not in RESERVED}

    def _about(self) -> dict[str, str]:
        with open_mcap(self.path) as file:
            records = McapRecords(file, recover=True)
            for item in records:
                if isinstance(item, Metadata) and item.name == "route":
                    return dict(item.metadata)
                if isinstance(item, tuple):
                    break
        raise RouteCorruptError(
            f"{self.path} has no route metadata"
            + (f" ({records.gaps[0].reason})" if records.gaps else ": it is MCAP of another kind")
            + "; make it with `roadloop import` or record it again"
        )

    def observations(self) -> Iterator[Observation]:
        """Yield what each tick was given, pictures decoded.

        Raises:
            RouteCorruptError: damage; what was whole has been handed out by then.
            MissingCalibrationError: video of a camera that the rig does not have.
        """
        for observation, _ in self.ticks():
            yield observation

    def records(self) -> Iterator[Record]:
        """Yield every tick without pictures: fast, no video is decoded. Raises as above."""
        for record, _ in self._walk(decode=False):
            yield record

    def ticks(self) -> Iterator[tuple[Observation, Tick | None]]:
        """Yield each tick's observation with pictures, and what the loop made of it."""
        for record, images in self._walk(decode=True):
            obs = record.observation
            yield replace(obs, frame=replace(obs.frame, images=images)), record.tick

    def keyframes(self, camera: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield frame_id and picture of one camera's keyframes: a second apart, nothing between
        them is decoded.

        Raises:
            RouteCorruptError: damage; what was whole has been handed out by then.
            MissingCalibrationError: the rig has no such camera.
        """
        if self.rig is None:
            raise MissingCalibrationError(f"{self.path} carries no calibration of {camera!r}")
        model = self.rig.camera(camera)
        decoder = VideoDecoder(model.width_px, model.height_px)
        with open_mcap(self.path) as file:
            try:
                for item in McapRecords(file, recover=self._recover):
                    if isinstance(item, tuple) and item[0] == CAMERA_TOPIC + camera:
                        video = CompressedVideo.FromString(item[1].data)
                        if not is_keyframe(video.data, video.format):
                            continue
                        image = decoder.decode(video.data, video.format)
                        if image is not None:
                            yield item[1].sequence, image
            except (RouteCorruptError, DecodeError, VideoError) as error:
                raise RouteCorruptError(f"{self.path} is {error}; {self._advice}") from error

    @property
    def _advice(self) -> str:
        return (
            "read what is whole with RouteReader(path, recover=True), or repair it: "
            f"roadloop vehicle clip {self.path} --repair OUT.mcap"
        )

    def _walk(self, *, decode: bool) -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
        with open_mcap(self.path) as file:
            ticks = WholeTicks(file, recover=self._recover)
            assembly = _Assembly(self.rig, decode)
            try:
                for tick in ticks:
                    try:
                        made = assembly.put_together(tick)
                    except MissingCalibrationError:
                        raise  # the file is whole, it lacks what video needs
                    except _UNREADABLE as error:
                        ticks.reject(tick[-1][1].sequence, error)
                    else:
                        yield made
            except (RouteCorruptError, DecodeError) as error:
                raise RouteCorruptError(
                    f"{self.path} is {error}; {ticks.records.messages} whole messages, "
                    f"{ticks.ticks} whole ticks come before it; {self._advice}"
                ) from error
            self.damage = ticks.damage


class _Assembly:
    """Puts a tick together from its messages; keeps the decoders from tick to tick."""

    def __init__(self, rig: Rig | None, decode: bool) -> None:
        self._rig, self._decode = rig, decode
        self._decoders: dict[str, VideoDecoder] = {}

    def put_together(self, tick: list[Told]) -> tuple[Record, dict[str, np.ndarray]]:
        """Return one whole tick and its pictures."""
        record, images = TickRecord(), dict[str, np.ndarray]()
        for topic, message in tick:
            if topic.startswith(CAMERA_TOPIC):
                name = topic.removeprefix(CAMERA_TOPIC)
                image = self._picture(name, message.data)
                if image is not None:
                    images[name] = image
            elif topic in TOPICS:
                field = TOPICS[topic].field
                part = getattr(record, field)
                part = part.add() if field in REPEATED else part
                part.SetInParent()
                part.MergeFromString(message.data)
        return record_from(record), images

    def _picture(self, name: str, data: bytes) -> np.ndarray | None:
        if self._rig is None:
            raise MissingCalibrationError(
                f"camera {name!r} has video but the route carries no calibration; import it again "
                "with one"
            )
        camera = self._rig.camera(name)
        if not self._decode:
            return None
        if name not in self._decoders:
            self._decoders[name] = VideoDecoder(camera.width_px, camera.height_px)
        video = CompressedVideo.FromString(data)
        return self._decoders[name].decode(video.data, video.format or "h264")
