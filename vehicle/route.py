"""Writes route files: pictures, motion and all a tick produced, as MCAP that any viewer opens.

A clip is a route file too. Layout: docs/reference/route-file.md.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from mcap.records import Message
from mcap.writer import CompressionType, Writer
from mcap_protobuf.schema import register_schema

from vehicle.contracts import wire
from vehicle.contracts.frame import MissingCalibrationError, Observation, Rig
from vehicle.contracts.tick import Tick
from vehicle.contracts.topics import REPEATED, TOPICS
from vehicle.mcap_records import CHUNK_BYTES, RouteCorruptError, RouteMissingError
from vehicle.route_calibration import CALIBRATION_TOPICS, calibration_messages
from vehicle.route_reader import RESERVED, SCHEMA, RouteReader
from vehicle.telemetry_pb import CLASSES, record_of
from vehicle.video import Codec, VideoEncoder, VideoError
from vehicle.whole_ticks import CAMERA_TOPIC

__all__ = ["RouteCorruptError", "RouteMissingError", "RouteReader", "RouteWriter"]


class RouteWriteError(wire.RefusedError, OSError):
    """A route file could not be written; nothing is left of it."""


class RouteWriter:
    """Writes one route file; it has its name only once it is whole."""

    def __init__(
        self,
        path: Path,
        rig: Rig | None,
        *,
        rate_hz: float,
        metadata: Mapping[str, str],
        codec: Codec = "h264",
    ) -> None:
        """Begin `path` as `path`.part.

        Args:
            path: ends in .mcap; its folder is made if needed.
            rig: None for a log without cameras.
            rate_hz: ticks per second, also the video's.
            metadata: what is known of the drive (docs/reference/route-file.md names the keys).
            codec: of the pictures.
        Raises:
            RouteWriteError: the folder cannot be written.
        """
        wire.require(0.1 <= rate_hz <= 1000.0, f"rate_hz is {rate_hz}, expected 0.1..1000")
        for key in RESERVED:
            wire.require(key not in metadata, f"route metadata key {key!r} is reserved")
        self.path, self.rig, self.rate_hz = Path(path), rig, rate_hz
        self.ticks, self._codec = 0, codec
        self._part = self.path.with_name(self.path.name + ".part")
        self._last = (-1, -1)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._encoders: dict[str, VideoEncoder] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._part.open("wb")
        except OSError as error:
            raise RouteWriteError(f"cannot write {self._part}: {error.strerror}") from error
        self._writer = Writer(
            self._file,
            chunk_size=CHUNK_BYTES,
            compression=CompressionType.ZSTD,
            enable_data_crcs=True,  # what the file says of itself stands outside of chunks
        )
        self._writer.start(library="roadloop")
        rig_text = wire.to_bytes(rig).decode() if rig else ""
        about = {"schema": SCHEMA, "rate_hz": repr(float(rate_hz)), "rig": rig_text}
        self._writer.add_metadata("route", {**about, **metadata})

    def write(self, obs: Observation, tick: Tick | None = None) -> None:
        """Append one tick: pictures as video, the rest as telemetry.

        Raises:
            MissingCalibrationError: a picture of a camera that the rig does not have.
            ContractError: frames run backwards, or a picture is not of its camera's size.
            RouteWriteError: the disk is full or gone; the part file is removed.
        """
        self.write_record(record_of(obs, tick), obs.frame.images)

    publish = write

    def carry(self, topic: str, message: Message) -> bool:
        """Append a message of another route file as it is; "/frame" completes a tick.

        Returns:
            whether it was taken: a topic that routes do not have is left out.
        Raises:
            RouteWriteError: the disk is full or gone; the part file is removed.
        """
        kind = _kind_of(topic)
        if kind is None:
            return False
        try:
            self._emit(topic, kind.FromString(message.data), message.log_time, message.sequence)
        except OSError as error:
            self.abort()
            raise _write_error(self.path, error) from error
        if topic == "/frame":
            self._last = (message.sequence, message.log_time)
            self.ticks += 1
        return True

    def write_record(self, record: Any, images: Mapping[str, np.ndarray]) -> None:
        """Append one tick from its TickRecord, as the ring carries it. Raises as `write`."""
        frame_id, mono_ns = record.frame.frame_id, record.frame.mono_ns
        wire.require(
            frame_id > self._last[0] and mono_ns >= max(0, self._last[1]),
            f"frame {frame_id} at {mono_ns} ns after frame {self._last[0]} at {self._last[1]} ns: "
            "ticks must be written in order",
        )
        video = {name: self._encode(name, image) for name, image in images.items()}
        del record.frame.cameras[:]
        record.frame.cameras.extend(images)
        try:
            if self.ticks == 0 and self.rig:
                for topic, message in calibration_messages(self.rig, mono_ns):
                    self._emit(topic, message, mono_ns, frame_id)
            for name, data in video.items():
                message = CompressedVideo(frame_id=name, data=data, format=self._codec)
                message.timestamp.FromNanoseconds(mono_ns)
                self._emit(CAMERA_TOPIC + name, message, mono_ns, frame_id)
            for name, kind in TOPICS.items():
                for message in _parts(record, kind.field):
                    self._emit(name, message, mono_ns, frame_id)
        except OSError as error:
            self.abort()
            raise _write_error(self.path, error) from error
        self._last = (frame_id, mono_ns)
        self.ticks += 1

    @property
    def encoder_stalls(self) -> int:
        """Return how often a codec stopped answering and another one went on."""
        return sum(encoder.stalls for encoder in self._encoders.values())

    def _encode(self, name: str, image: np.ndarray) -> bytes:
        if name not in self._encoders:
            if self.rig is None:
                raise MissingCalibrationError(
                    f"camera {name!r} has pictures but the route has no rig; give a calibration"
                )
            camera = self.rig.camera(name)
            self._encoders[name] = VideoEncoder(
                camera.width_px, camera.height_px, self.rate_hz, self._codec
            )
        try:
            return self._encoders[name].encode(image)
        except VideoError as error:
            raise wire.ContractError(f"camera {name!r}: {error}") from error

    def _emit(self, topic: str, message: Any, mono_ns: int, frame_id: int) -> None:
        if topic not in self._channels:
            kind = message.DESCRIPTOR.full_name
            if kind not in self._schemas:
                self._schemas[kind] = register_schema(self._writer, type(message))
            self._channels[topic] = self._writer.register_channel(
                topic=topic, message_encoding="protobuf", schema_id=self._schemas[kind]
            )
        self._writer.add_message(
            self._channels[topic],
            log_time=mono_ns,
            publish_time=mono_ns,
            sequence=frame_id & 0xFFFFFFFF,
            data=message.SerializeToString(),
        )

    def close(self) -> None:
        """Finish the file, make it last, and give it its name. A second call does nothing."""
        if self._file.closed:
            return
        try:
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self.path)
            wire.sync_folder(self.path.parent)
        except OSError as error:
            self.abort()
            raise _write_error(self.path, error) from error

    def abort(self) -> None:
        """Give up: remove what was written."""
        with contextlib.suppress(OSError):  # a full disk fails the last flush too
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> "RouteWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _kind_of(topic: str) -> Any:
    """Return the protobuf class of a topic, None for one that no route has."""
    if topic in TOPICS:
        return CLASSES[TOPICS[topic].message]
    kinds = {CAMERA_TOPIC: CompressedVideo, **CALIBRATION_TOPICS}
    return next((kind for start, kind in kinds.items() if topic.startswith(start)), None)


def _write_error(path: Path, error: OSError) -> RouteWriteError:
    advice = "free some space and run it again" if error.errno == errno.ENOSPC else "check the disk"
    return RouteWriteError(f"cannot write {path}: {error.strerror or error}; {advice}")


def _parts(record: Any, field: str) -> Iterator[Any]:
    if field in REPEATED:
        yield from getattr(record, field)
    elif record.HasField(field):
        yield getattr(record, field)
