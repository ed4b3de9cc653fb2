"""What comes from outside, and who reads it: each target takes any bytes, raises only on a fault.

A refusal by name is an answer. Any other exception, a file left behind, or a text that does not
survive being written and read again, is a finding. `make fuzz` looks for findings by coverage;
tests/fuzz/test_fuzz.py holds every target over damaged examples.
"""

import contextlib
import functools
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_advice
import fuzz_oip
import fuzz_orbit
from lake_parts import RATE_HZ, RIG, observation, tick
from mcap.records import Message, Metadata
from mcap.writer import Writer

from datalake.bounds import require_bounded
from datalake.detect_tracks import TrackDetector
from datalake.patterns import compiled
from datalake.scrub import scrub
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.clip import ClipManifest, ClipSummary
from vehicle.contracts.expression import format as written
from vehicle.contracts.expression import parse
from vehicle.contracts.uplink import Inbox, Upload, UploadAsk, UploadParts
from vehicle.contracts.wire import RefusedError
from vehicle.mcap_records import McapRecords, open_mcap
from vehicle.route import RouteReader, RouteWriter
from vehicle.video import VideoDecoder, VideoEncoder

GOLDEN = Path(__file__).parent / "contracts" / "golden"
TEXTS = (
    "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within 2 s",
    "not (rung == 'full') and highest(abs(jerk_mps3), 2) > 1e1 or ttc_s < 1.5",
    "nearest(kind == 'pedestrian') < 8 - speed_mps * 0.5 / 2",
    "times(seen(takeover > 0, 3), 30) >= 2 then held(mrm > 0, 0.5) within 30 s",
    "appears(kind == 'cyclist' and width_m + -1 != 0) > 0",
)


def clip(data: bytes) -> None:
    """Read a clip as ingest does, and again as far as it is whole."""
    with _file(data) as path:
        whole = -1
        with contextlib.suppress(RefusedError):
            require_bounded(path)
            reader = RouteReader(path)
            whole = sum(1 for _ in reader.records())
            for _ in reader.observations():
                pass
        with contextlib.suppress(RefusedError):
            require_bounded(path)
            saved = sum(1 for _ in RouteReader(path, recover=True).records())
            assert saved >= whole, f"recovering found {saved} ticks, plain reading {whole}"


def payload(data: bytes) -> None:
    """Read and scrub a sound file one of whose messages holds other bytes: the first byte says
    which, the rest are those."""
    clip(packed(data))
    scrubbing(packed(data))


def packed(data: bytes) -> bytes:
    """Return a whole clip with one message's bytes exchanged."""
    whole, sound = _messages(), io.BytesIO()
    which = (data[0] if data else 0) % len(whole)
    writer = Writer(sound)
    writer.start(library="roadloop")
    for name, about in _about().items():
        writer.add_metadata(name, about)
    schema = writer.register_schema("any", "protobuf", b"")
    channels: dict[str, int] = {}
    for number, (topic, message) in enumerate(whole):
        if topic not in channels:
            channels[topic] = writer.register_channel(topic, "protobuf", schema)
        writer.add_message(
            channels[topic], message.log_time,
            data[1:] if number == which else message.data,
            message.log_time, message.sequence,
        )  # fmt: skip
    writer.finish()
    return sound.getvalue()


def scrubbing(data: bytes) -> None:
    """Scrub a clip: it is refused and nothing is left, or it reads from end to end."""
    with _file(data) as path:
        out = path.with_name("out.mcap")
        try:
            require_bounded(path)
            scrub(path, out, (TrackDetector(min_face_px=0.0, min_plate_px=0.0),))
        except RefusedError:
            assert list(path.parent.iterdir()) == [path], "a refused clip left a file"
        else:
            before, after = (list(RouteReader(p).records()) for p in (path, out))
            assert len(before) == len(after)


def manifest(data: bytes) -> None:
    """Read a clip's manifest and summary, as logs and as signed documents."""
    for kind in (ClipManifest, ClipSummary):
        for strict in (False, True):
            _contract(kind, data, strict)


def campaign(data: bytes) -> None:
    """Read a campaign; what is taken has expressions that parse."""
    for strict in (False, True):
        found = _contract(Campaign, data, strict)
        for trigger in found.triggers if found is not None else ():
            parse(trigger.expression)


def words(data: bytes) -> None:
    """Read what car and home say to each other."""
    for kind in (Inbox, Upload, UploadAsk, UploadParts):
        _contract(kind, data, True)


def expression(data: bytes) -> None:
    """Parse a trigger; its canonical form means the same, and is SQL or refused as such."""
    try:
        pattern = parse(data.decode(errors="replace"))
    except RefusedError:
        return
    text = written(pattern)
    assert parse(text) == pattern, f"{text!r} reads as another pattern"
    assert written(parse(text)) == text
    with contextlib.suppress(RefusedError):
        compiled(text)


def video(data: bytes) -> None:
    """Decode bytes as one unit and cut in two, of either codec."""
    half = len(data) // 2
    for codec in ("h264", "av1"):
        for units in ((data,), (data[:half], data[half:])):
            decoder = VideoDecoder(32, 32)
            with contextlib.suppress(RefusedError):
                for unit in units:
                    decoder.decode(unit, codec)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "clip": clip,
    "payload": payload,
    "scrub": scrubbing,
    "manifest": manifest,
    "campaign": campaign,
    "words": words,
    "expression": expression,
    "video": video,
    **fuzz_orbit.TARGETS,
    **fuzz_oip.TARGETS,
    **fuzz_advice.TARGETS,
}


def seeds(name: str) -> list[bytes]:
    """Return whole examples of what a target reads."""
    if name in fuzz_orbit.TARGETS:
        return fuzz_orbit.seeds(name)
    if name in fuzz_advice.TARGETS:
        return fuzz_advice.seeds(name)
    if name in fuzz_oip.TARGETS:
        return fuzz_oip.seeds(name)
    if name in ("clip", "scrub"):
        return [_clip_bytes()]
    if name == "payload":
        return [bytes([k]) + message.data for k, (_, message) in enumerate(_messages())]
    if name == "expression":
        return [text.encode() for text in TEXTS]
    if name == "video":
        encoder = VideoEncoder(32, 32, RATE_HZ)
        return [encoder.encode(observation(0, k, 90, RIG).frame.images["rear"]) for k in (0, 1)]
    prefix = {"manifest": ("clip", "summary"), "campaign": ("campaign",)}
    names = prefix.get(name, ("inbox", "upload", "ask", "part"))
    found = [p for p in sorted(GOLDEN.glob("*.json")) if any(word in p.stem for word in names)]
    assert found, f"no golden example for {name}"
    return [path.read_bytes() for path in found]


def _contract(kind: type, data: bytes, strict: bool) -> object | None:
    """Read a contract; what is taken keeps its bytes when written and read again."""
    try:
        found = wire.from_bytes(kind, data, strict=strict)
    except RefusedError:
        return None
    again = wire.to_bytes(found)
    assert wire.to_bytes(wire.from_bytes(kind, again)) == again
    return found


@functools.cache
def _messages() -> list[tuple[str, Message]]:
    with _file(_clip_bytes()) as path, open_mcap(path) as file:
        return [item for item in McapRecords(file) if isinstance(item, tuple)][:40]


@functools.cache
def _about() -> dict[str, dict[str, str]]:
    with _file(_clip_bytes()) as path, open_mcap(path) as file:
        return {i.name: dict(i.metadata) for i in McapRecords(file) if isinstance(i, Metadata)}


@functools.cache
def _clip_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mcap"
        with RouteWriter(path, RIG, rate_hz=RATE_HZ, metadata={"car_id": "car-1"}) as writer:
            for frame_id in range(6):
                obs = observation(frame_id, 0, 100, RIG)
                writer.write(obs, tick(obs))
        return path.read_bytes()


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "clip.mcap"
        path.write_bytes(data)
        yield path
    finally:
        shutil.rmtree(folder)
