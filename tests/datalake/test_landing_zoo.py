"""A landing zone with one of every kind of bad clip, and good ones between."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import zstandard
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from lake_parts import FRAMES, RATE_HZ, RIG, land, rows

from datalake.ingest import ingest
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.mcap_records import McapRecords, open_mcap
from vehicle.route import RouteReader, RouteWriter

Spoil = Callable[[bytes], bytes]
MAGIC = b"\x89MCAP0\r\n"


def bomb(_: bytes) -> bytes:
    squeezed = zstandard.ZstdCompressor(level=1).compress(bytes(100 << 20))
    head = struct.pack("<QQQII", 0, 0, 100 << 20, 0, 4) + b"zstd"
    body = head + struct.pack("<Q", len(squeezed)) + squeezed
    return MAGIC + struct.pack("<BQ", 6, len(body)) + body


def flipped(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def edited(data: bytes, folder: Path, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """Write a clip again with messages changed, or left out where `change` says None."""
    whole, out = folder / "whole.mcap", folder / "edited.mcap"
    whole.write_bytes(data)
    reader = RouteReader(whole)
    with (
        open_mcap(whole) as file,
        RouteWriter(out, RIG, rate_hz=RATE_HZ, metadata=reader.metadata) as writer,
    ):
        for item in McapRecords(file):
            if isinstance(item, tuple):
                topic, message = item
                kept = change(topic, message.data)
                if kept is not None:
                    message.data = kept
                    writer.carry(topic, message)
    return out.read_bytes()


def unwatchable(folder: Path) -> Spoil:
    """Pictures that no decoder takes, though every checksum is right."""

    def change(topic: str, data: bytes) -> bytes:
        if topic != "/camera/front":
            return data
        video = CompressedVideo.FromString(data)
        video.data = b"\0\0\0\1\x67" + bytes(range(40))
        return video.SerializeToString()

    return lambda data: edited(data, folder, change)


def foreign_video(folder: Path) -> Spoil:
    """Pictures in a format that clips do not have."""

    def change(topic: str, data: bytes) -> bytes:
        if topic.startswith("/camera/"):
            video = CompressedVideo.FromString(data)
            video.format = "vp9"
            return video.SerializeToString()
        return data

    return lambda data: edited(data, folder, change)


def replaced(home: Home, clip_id: str, data: bytes) -> str:
    """Give a landed clip other bytes and a manifest that is right about them."""
    folder, name = home.landing / clip_id, wire.digest(data)
    plain = json.loads((folder / "manifest.json").read_bytes())
    plain["files"][0] |= {"sha256": name, "size_bytes": len(data)}
    (folder / "manifest.json").write_bytes(wire.canonical({**plain, "clip_id": name}))
    (folder / "clip.mcap").write_bytes(data)
    folder.rename(home.landing / name)
    return name


def lying(home: Home, clip_id: str, **changes: object) -> str:
    """Change what a landed clip's manifest says."""
    path = home.landing / clip_id / "manifest.json"
    path.write_bytes(wire.canonical({**json.loads(path.read_bytes()), **changes}))
    return clip_id


def test_the_good_are_in_and_each_bad_one_waits_with_its_reason(home: Home, tmp_path: Path) -> None:
    expected: dict[str, str] = {}
    good = [land(home, seed=0)]
    spoils: dict[str, tuple[Spoil, str]] = {
        "empty": (lambda data: b"", "UnreadableClipError"),
        "no mcap": (lambda data: b"PK\3\4" + data, "UnreadableClipError"),
        "cut": (lambda data: data[: len(data) * 2 // 3], "UnreadableClipError"),
        "flipped": (flipped, "UnreadableClipError"),
        "bomb": (bomb, "OversizedClipError"),
        "unwatchable": (unwatchable(tmp_path), "UnreadableClipError"),
        "foreign video": (foreign_video(tmp_path), "UnreadableClipError"),
    }
    for seed, (spoil, error) in enumerate(spoils.values(), start=1):
        clip_id = land(home, seed=seed)
        data = (home.landing / clip_id / "clip.mcap").read_bytes()
        expected[replaced(home, clip_id, spoil(data))] = error
        if seed % 2:
            good.append(land(home, seed=100 + seed))
    truncated, damaged = land(home, seed=20), land(home, seed=21)
    for clip_id, error in ((truncated, "TruncatedClipError"), (damaged, "DamagedClipError")):
        path = home.landing / clip_id / "clip.mcap"
        data = path.read_bytes()
        path.write_bytes(data[:-9] if clip_id == truncated else flipped(data))
        expected[clip_id] = error
    for seed, changes in enumerate(
        (
            {"schema": "clip/9"},
            {"frames": [0, FRAMES + 3]},
            {"frames": [5]},
            {"rig_digest": "0" * 64},
            {"car_id": "../car"},
            {"start_mono_ns": 10**30},
        ),
        start=30,
    ):
        expected[lying(home, land(home, seed=seed), **changes)] = "ContradictoryManifestError"
    good.append(land(home, seed=99))
    report = ingest(home)
    assert sorted(report.clip_ids) == sorted(good)
    assert {q.clip_id: q.error for q in report.quarantined} == expected
    for bad in report.quarantined:
        assert (home.root / bad.folder / "reason.json").is_file()
        assert bad.reason
        assert not (home.landing / bad.clip_id).exists()
    found = rows(home, "SELECT clip_id, count(*) AS n FROM ticks GROUP BY ALL")
    assert {str(row["clip_id"]) for row in found} == set(good)
    assert {row["n"] for row in found} == {FRAMES}
    again = ingest(home)
    assert (again.ingested, again.already, again.quarantined) == (0, len(good), [])
