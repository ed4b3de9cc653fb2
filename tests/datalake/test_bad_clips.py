"""Clips as an accident or an attacker makes them: each is named, none disturbs another."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import zstandard
from lake_parts import RATE_HZ, land, observation, rows, tick

from datalake.bounds import OversizedClipError, require_bounded
from datalake.ingest import IngestReport, ingest
from datalake.landed import MAX_MANIFEST_BYTES
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.mcap_records import McapRecords, RouteCorruptError
from vehicle.route import RouteWriter

MAGIC = b"\x89MCAP0\r\n"


def chunk(unpacked: int, packing: bytes, data: bytes) -> bytes:
    head = struct.pack("<QQQII", 0, 0, unpacked, 0, len(packing)) + packing
    body = head + struct.pack("<Q", len(data)) + data
    return struct.pack("<BQ", 6, len(body)) + body


def landed_as(home: Home, clip_id: str, data: bytes) -> str:
    """Give a landed clip other bytes, with a manifest that names them rightly."""
    folder, name = home.landing / clip_id, wire.digest(data)
    plain = json.loads((folder / "manifest.json").read_bytes())
    plain["files"][0] |= {"sha256": name, "size_bytes": len(data)}
    (folder / "manifest.json").write_bytes(wire.canonical({**plain, "clip_id": name}))
    (folder / "clip.mcap").write_bytes(data)
    folder.rename(home.landing / name)
    return name


def one_bad_of_two(home: Home, bad: str) -> str:
    """Ingest; return the name of the error that the bad clip met, and see that the other is in."""
    report: IngestReport = ingest(home)
    assert report.ingested == 1
    [quarantined] = report.quarantined
    assert (quarantined.clip_id, report.clip_ids) == (bad, [land_twin(home)])
    note = json.loads((home.root / quarantined.folder / "reason.json").read_bytes())
    assert (note["error"], note["reason"]) == (quarantined.error, quarantined.reason)
    assert len(rows(home, "FROM clips")) == 1
    return f"{quarantined.error}: {quarantined.reason}"


def land_twin(home: Home) -> str:
    return str(rows(home, "SELECT clip_id FROM clips")[0]["clip_id"])


def test_a_chunk_that_unpacks_to_gigabytes_is_refused_before_it_does(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    squeezed = zstandard.ZstdCompressor(level=1).compress(bytes(200 << 20))
    assert len(squeezed) < 1 << 20
    bomb = MAGIC + chunk(1000, b"zstd", squeezed)
    named = one_bad_of_two(home, landed_as(home, bad, bomb))
    assert named.startswith("OversizedClipError: the chunk at byte 8 claims 209715200 bytes")


def test_many_small_chunks_that_add_up_are_refused(tmp_path: Path) -> None:
    squeezed = zstandard.ZstdCompressor(level=1).compress(bytes(30 << 20))
    path = tmp_path / "bomb.mcap"
    path.write_bytes(MAGIC + 40 * chunk(30 << 20, b"zstd", squeezed))
    with pytest.raises(OversizedClipError, match="unpack to more than"):
        require_bounded(path)


def test_a_packing_without_a_stated_length_is_refused(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    named = one_bad_of_two(home, landed_as(home, bad, MAGIC + chunk(9, b"lz4", b"123456789")))
    assert named.startswith("ForeignPackingError: the chunk at byte 8 is packed as b'lz4'")


def test_the_reader_itself_unpacks_nothing_that_it_cannot_bound(tmp_path: Path) -> None:
    path = tmp_path / "lz4.mcap"
    path.write_bytes(MAGIC + chunk(9, b"lz4", b"123456789"))
    with path.open("rb") as file, pytest.raises(RouteCorruptError, match="packed as 'lz4'"):
        list(McapRecords(file))


def test_a_record_of_exabytes_is_refused(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    named = one_bad_of_two(home, landed_as(home, bad, MAGIC + struct.pack("<BQ", 9, 1 << 60)))
    assert "OversizedClipError" in named


def test_a_whole_clip_is_within_bounds(home: Home) -> None:
    require_bounded(home.landing / land(home) / "clip.mcap")


def test_a_manifest_without_end_is_refused(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    (home.landing / bad / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert one_bad_of_two(home, bad).startswith("OversizedManifestError")


@pytest.mark.parametrize("name", ["clip.mcap", "manifest.json"])
def test_a_link_out_of_the_landing_zone_is_not_followed(home: Home, name: str) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    path = home.landing / bad / name
    outside = home.root / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    assert one_bad_of_two(home, bad).startswith(f"MissingFileError: {name} is missing")


@pytest.mark.parametrize("name", ["../../escape", "a/b", ".hidden", "", "x\\y"])
def test_a_hostile_file_name_is_refused(home: Home, name: str) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    path = home.landing / bad / "manifest.json"
    plain = json.loads(path.read_bytes())
    plain["files"][0]["name"] = name
    path.write_bytes(wire.canonical(plain))
    assert one_bad_of_two(home, bad).startswith("ContradictoryManifestError: manifest.json")


def test_a_hostile_folder_name_is_set_aside_as_it_is(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    hostile = "x'; DROP TABLE clips; --\n"
    (home.landing / bad).rename(home.landing / hostile)
    assert one_bad_of_two(home, hostile).startswith("MisnamedClipError")


def test_a_clip_under_another_clips_name_is_refused(home: Home) -> None:
    bad, _ = land(home, seed=1), land(home, seed=2)
    shutil.copytree(home.landing / bad, home.landing / ("0" * 64))
    report = ingest(home)
    assert report.ingested == 2
    assert [q.error for q in report.quarantined] == ["MisnamedClipError"]


def write_clip(home: Home, seed: int, times_ns: list[int]) -> str:
    """Land a clip whose ticks carry these times; the writer itself refuses most of them."""
    clip_id = land(home, seed=seed, rig=None, driven=False)
    path = home.landing / "odd.mcap"
    with RouteWriter(path, None, rate_hz=RATE_HZ, metadata={}) as writer:
        for frame_id, mono_ns in enumerate(times_ns):
            obs = observation(frame_id, seed, 100, None)
            object.__setattr__(obs.frame, "mono_ns", mono_ns)
            writer._last = (-1, -1)
            writer.write(obs, tick(obs))
    data = path.read_bytes()
    os.unlink(path)
    return landed_as(home, clip_id, data)


@pytest.mark.parametrize("step_s", [-3.0, 0.0, 3_600.0])
def test_a_clock_that_jumps_is_named(home: Home, step_s: float) -> None:
    begin = 10_000_000_000
    times = [begin, begin + 100_000_000, begin + 100_000_000 + round(step_s * 1e9)]
    times += [times[-1] + (i + 1) * 100_000_000 for i in range(9)]
    bad, _ = write_clip(home, 1, times), land(home, seed=2)
    named = one_bad_of_two(home, bad)
    assert named.startswith(f"ClockJumpError: from frame 1 to 2 the clock goes {step_s:+.3f} s")


def test_a_summary_that_is_none_is_set_aside_and_the_others_are_taken(home: Home) -> None:
    clip_id = land(home)
    manifest = json.loads((home.landing / clip_id / "manifest.json").read_bytes())
    whole = {"schema": "summary/1", "manifest": manifest, "value": 2.5, "facts": {"min_ttc_s": 1.0}}
    folder = home.fleet / "summaries" / "car-1"
    folder.mkdir(parents=True)
    (folder / f"{clip_id}.json").write_bytes(wire.canonical(whole))
    (folder / f"{'1' * 64}.json").write_bytes(wire.canonical(whole))
    (folder / f"{'2' * 64}.json").write_bytes(b"{")
    (folder / f"{'3' * 64}.json").write_bytes(b" " * (200 << 10))
    report = ingest(home)
    assert report.summaries == 1
    assert [q.error for q in report.quarantined] == ["BadSummaryError"] * 3
    [row] = rows(home, "FROM summaries")
    assert (row["clip_id"], row["value"], row["triggers"]) == (clip_id, 2.5, "ttc")
    assert json.loads(str(row["facts"])) == {"min_ttc_s": 1.0}
    assert ingest(home).summaries == 0
