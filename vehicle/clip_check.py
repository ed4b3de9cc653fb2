"""Looks a route file or clip over: what is in it, what is missing; saves what is whole."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, TriggerEvent
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.mcap_records import open_mcap
from vehicle.route import RouteReader, RouteWriter
from vehicle.salvage import carry_over
from vehicle.telemetry_pb import CLASSES
from vehicle.telemetry_schema import MESSAGES
from vehicle.video import is_keyframe
from vehicle.whole_ticks import CAMERA_TOPIC, Damage, Told, WholeTicks


class RepairRefusedError(RefusedError):
    """Nothing is to be repaired, or not into this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFacts:
    """One camera's video."""

    SCHEMA: ClassVar[str] = "camerafacts/1"
    name: str
    width_px: int
    height_px: int
    codec: str
    pictures: int
    keyframes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipReport:
    """What a route file or clip holds, as far as it is whole.

    Args:
        frames: first and last whole tick, None without any.
        messages: topic -> messages in whole ticks.
        damage: None for a whole file.
        manifest: "agrees" or "differs" with the manifest.json beside it, "none" without one.
        metadata: of the route.
    """

    SCHEMA: ClassVar[str] = "clipreport/1"
    path: str
    size_bytes: int
    rate_hz: float
    duration_s: float
    ticks: int
    frames: tuple[int, int] | None
    cameras: tuple[CameraFacts, ...]
    events: tuple[TriggerEvent, ...]
    messages: dict[str, int]
    damage: Damage | None
    manifest: str
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Return whether nothing is missing and the manifest, where there is one, says the same."""
        return self.damage is None and self.manifest != "differs"


def look_over(path: Path) -> ClipReport:
    """Return what is in a route file or clip; nothing is decoded.

    Raises:
        RouteMissingError, RouteCorruptError: it is no route file, or nothing says what it holds.
    """
    reader = RouteReader(path, recover=True)
    notes = _Notes()
    with open_mcap(path) as file:
        ticks = WholeTicks(file, recover=True)
        for tick in ticks:
            notes.take(tick)
    first, last = notes.ends
    cameras = reader.rig.cameras if reader.rig else ()
    return ClipReport(
        path=str(path),
        size_bytes=path.stat().st_size,
        rate_hz=reader.rate_hz,
        duration_s=(last[1] - first[1]) * 1e-9 if ticks.ticks else 0.0,
        ticks=ticks.ticks,
        frames=(first[0], last[0]) if ticks.ticks else None,
        cameras=tuple(
            CameraFacts(
                name=c.name,
                width_px=c.width_px,
                height_px=c.height_px,
                codec=notes.codecs.get(c.name, ""),
                pictures=notes.messages[CAMERA_TOPIC + c.name],
                keyframes=notes.keyframes[c.name],
                size_bytes=notes.bytes[c.name],
            )
            for c in cameras
        ),
        events=tuple(notes.events),
        messages=dict(sorted(notes.messages.items())),
        damage=ticks.damage,
        manifest=_manifest_beside(path),
        metadata=reader.metadata,
    )


def repair(report: ClipReport, out: Path) -> int:
    """Write what is whole of a damaged file as a new, whole one; return its ticks.

    Pictures are carried over as they were encoded. What is missing is said in the new file's
    metadata, under `repaired`. It is another clip: its sha256 is its own.

    Raises:
        RepairRefusedError: the file is whole, or `out` is there already.
    """
    path = Path(report.path)
    if report.damage is None:
        raise RepairRefusedError(f"{path} is whole; there is nothing to repair")
    if out.exists():
        raise RepairRefusedError(f"{out} is there already; name a file that is not")
    reader = RouteReader(path, recover=True)
    about = reader.metadata | {"repaired": str(report.damage)}
    with RouteWriter(out, reader.rig, rate_hz=reader.rate_hz, metadata=about) as writer:
        carry_over(path, writer)
        return writer.ticks


def lines(report: ClipReport) -> list[str]:
    """Return a report as a person reads it."""
    span = f"frames {report.frames[0]} to {report.frames[1]}, " if report.frames else ""
    out = [
        f"{report.path}: {report.ticks} ticks, {span}{report.duration_s:.1f} s at "
        f"{report.rate_hz:g} Hz, {report.size_bytes:,} bytes"
    ]
    named = ("car_id", "route_id", "model", "source", "jurisdiction", "repaired")
    about = [f"{k} {report.metadata[k]}" for k in named if report.metadata.get(k)]
    out += [", ".join(about)] if about else []
    for c in report.cameras:
        out.append(
            f"  camera {c.name}: {c.width_px}x{c.height_px} {c.codec or 'no video'}, "
            f"{c.pictures} pictures, {c.keyframes} keyframes, {c.size_bytes:,} bytes"
        )
    topics = {t: n for t, n in report.messages.items() if not t.startswith(CAMERA_TOPIC)}
    out += ["  " + ", ".join(f"{t} {n}" for t, n in topics.items())] if topics else []
    for e in report.events:
        out.append(
            f"  event {e.campaign_id}/{e.trigger} at frame {e.frame_id}: {e.value:g} against "
            f"{e.threshold:g}, priority {e.priority}"
        )
    if report.manifest != "none":
        out.append(f"manifest.json beside it {report.manifest}")
    if report.damage is not None:
        out.append(f"damaged: {report.damage}")
    else:
        out.append(f"whole; opens in Foxglove and in Rerun (rerun mcap convert {report.path})")
    return out


class _Notes:
    """What one pass over the whole ticks finds."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.keyframes: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.codecs: dict[str, str] = {}
        self.events: list[TriggerEvent] = []
        self.ends = ((0, 0), (0, 0))

    def take(self, tick: list[Told]) -> None:
        for topic, message in tick:
            self.messages[topic] += 1
            if topic.startswith(CAMERA_TOPIC):
                name, video = topic.removeprefix(CAMERA_TOPIC), CompressedVideo()
                video.ParseFromString(message.data)
                self.codecs[name] = video.format
                self.bytes[name] += len(video.data)
                self.keyframes[name] += is_keyframe(video.data, video.format)
            elif topic == "/event":
                event = CLASSES["Event"].FromString(message.data)
                self.events.append(
                    TriggerEvent(**{f: getattr(event, f) for f in MESSAGES["Event"]})
                )
        frame = CLASSES["Frame"].FromString(tick[-1][1].data)
        last = (frame.frame_id, frame.mono_ns)
        self.ends = (last if self.messages["/frame"] == 1 else self.ends[0], last)


def _manifest_beside(path: Path) -> str:
    try:
        data = (path.parent / "manifest.json").read_bytes()
        manifest = wire.from_bytes(ClipManifest, data, strict=False)
    except OSError:
        return "none"
    except ContractError:
        return "differs"
    return "agrees" if wire.digest_file(path) == manifest.clip_id else "differs"
