"""Clips as others see them: the verb, an independent MCAP reader, FFmpeg, Rerun."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from av.video.frame import PictureType
from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from mcap_protobuf.decoder import DecoderFactory
from route_parts import RIG, obs_of, tick_of
from typer.testing import CliRunner

from vehicle.clip_check import RepairRefusedError, look_over, repair
from vehicle.clip_verb import clip as clip_verb
from vehicle.mcap_records import CHUNK_BYTES
from vehicle.route import RouteReader, RouteWriter
from vehicle.video import Codec

TICKS = 45
ABOUT = {"car_id": "car-1", "route_id": "r", "model": "base@1", "source": "simulator"}


def written(path: Path, codec: Codec) -> Path:
    with RouteWriter(path, RIG, rate_hz=10.0, metadata=ABOUT, codec=codec) as writer:
        for i in range(TICKS):
            writer.write(obs_of(i), tick_of(i))
    return path


@pytest.fixture(scope="module", params=["h264", "av1"])
def clip(request, tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("clip") / f"{request.param}.mcap", request.param)


def codec_of(clip: Path) -> str:
    return clip.stem


@pytest.fixture
def damaged(tmp_path) -> Path:
    path = written(tmp_path / "h264.mcap", "h264")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


# by the rules of MCAP and of Foxglove


def test_an_independent_reader_finds_every_message_with_its_schema(clip):
    with clip.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        counts = Counter()
        for schema, channel, _, decoded in reader.iter_decoded_messages():
            counts[channel.topic] += 1
            assert (schema.encoding, channel.message_encoding) == ("protobuf", "protobuf")
            if channel.topic == "/plan":
                assert len(decoded.x_m) == 41
            if channel.topic == "/scene":
                assert len(decoded.tracks.track_id) == 30
    assert summary.statistics.message_count == sum(counts.values())
    assert len(summary.chunk_indexes) == summary.statistics.chunk_count > 1
    for topic in ("/camera/wide", "/camera/odd", "/scene", "/plan", "/command", "/timing"):
        assert counts[topic] == TICKS
    assert counts["/event"] == 2 * 15


def test_chunks_are_zstd_of_half_a_mebibyte(clip):
    with clip.open("rb") as file:
        chunks = [r for r in StreamReader(file, emit_chunks=True).records if isinstance(r, Chunk)]
    assert all(c.compression == "zstd" and c.uncompressed_crc for c in chunks)
    for chunk in chunks[:-1]:
        assert CHUNK_BYTES <= chunk.uncompressed_size < CHUNK_BYTES + 100_000


def test_any_chunk_can_be_found_by_time(clip):
    with clip.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        found = list(
            reader.iter_decoded_messages(
                ["/frame"], start_time=2_000_000_000, end_time=2_300_000_000
            )
        )
    assert [message.frame_id for _, _, _, message in found] == [20, 21, 22]


def test_video_follows_foxgloves_rules_and_ffmpeg_decodes_it(clip):
    units = []
    with clip.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, _, message, video in reader.iter_decoded_messages(["/camera/wide"]):
            assert (video.format, video.frame_id) == (codec_of(clip), "wide")
            assert video.timestamp.ToNanoseconds() == message.log_time
            units.append(video.data)
    check_stream = check_annex_b if codec_of(clip) == "h264" else check_low_overhead
    for i, unit in enumerate(units):
        check_stream(unit, keyframe=i % 10 == 0)
    decoder = av.CodecContext.create("h264" if codec_of(clip) == "h264" else "libdav1d", "r")
    pictures = [p for unit in [*units, None] for p in decoder.decode(unit and av.Packet(unit))]
    assert len(pictures) == TICKS
    assert all(p.pict_type != PictureType.B for p in pictures)
    seen = pictures[7].to_ndarray(format="rgb24").astype(int)
    assert np.abs(seen - obs_of(7).frame.images["wide"]).mean() < 8.0


def check_annex_b(unit: bytes, *, keyframe: bool) -> None:
    assert unit.startswith((b"\0\0\0\1", b"\0\0\1"))
    kinds = [unit[i + 3] & 31 for i in range(len(unit) - 3) if unit[i : i + 3] == b"\0\0\1"]
    assert ({5, 7, 8} <= set(kinds)) == keyframe
    assert len([k for k in kinds if k in (1, 5)]) == 1  # one slice: one picture


def check_low_overhead(unit: bytes, *, keyframe: bool) -> None:
    assert unit[0] == 0b0001_0010  # a temporal delimiter with a size, as section 5.2 has it
    assert unit[1] == 0
    assert (unit[2] >> 3 & 15 == 1) == keyframe  # a sequence header


# by Rerun

RERUN = Path(sys.executable).with_name("rerun")
needs_rerun = pytest.mark.skipif(
    not RERUN.exists(), reason="rerun-sdk is not installed (extra [rerun])"
)


@needs_rerun
def test_rerun_finds_no_fault_and_makes_video_streams_and_columns(clip, tmp_path):
    check = subprocess.run([RERUN, "mcap", "check", clip], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    out = tmp_path / "clip.rrd"
    made = subprocess.run(
        [RERUN, "mcap", "convert", clip, "-o", out], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    shown = subprocess.run([RERUN, "rrd", "print", "-v", out], capture_output=True, text=True)
    for name in ("wide", "odd"):
        assert rows(shown.stdout, f"/camera/{name}@VideoStream:sample") == TICKS
    for topic, message in (("plan", "Plan"), ("scene", "Scene"), ("timing", "Timing")):
        assert rows(shown.stdout, f"/{topic}@roadloop.{message}:message") == TICKS
    assert rows(shown.stdout, "/event@roadloop.Event:message") == 2 * 15


def rows(printed: str, column: str) -> int:
    """Return the rows that hold a column, of what `rerun rrd print -v` shows."""
    chunks = [line for line in printed.splitlines() if column in line]
    return sum(int(re.search(r"with (\d+) rows", line)[1]) for line in chunks)


# by the verb


def run(*args: object):
    app = typer.Typer()
    app.command()(clip_verb)
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_verb_says_what_is_in_a_clip(clip):
    done = run(clip)
    assert done.exit_code == 0, done.output
    assert f"{TICKS} ticks, frames 0 to 44, 4.4 s at 10 Hz" in done.output
    assert f"camera wide: 96x64 {codec_of(clip)}, 45 pictures, 5 keyframes" in done.output
    assert "event c/ttc at frame 42: 1 against 2, priority 0" in done.output
    assert "whole; opens in Foxglove and in Rerun" in done.output


def test_the_verb_compares_with_the_manifest_beside_it(clip, tmp_path):
    copy = shutil.copy(clip, tmp_path / "clip.mcap")
    (tmp_path / "manifest.json").write_text("{}")
    assert look_over(Path(copy)).manifest == "differs"
    assert run(copy).exit_code == 1


def test_a_damaged_clip_is_told_with_what_is_missing_and_exit_code_1(damaged):
    done = run(damaged, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert not report["whole"]
    assert report["ticks"] < TICKS
    assert report["damage"]["missing"][0]["reason"].startswith("damaged at byte")
    assert report["damage"]["lost"]["/frame"] > 0


def test_a_repaired_clip_is_whole_and_says_what_it_lacks(damaged, tmp_path):
    out = tmp_path / "repaired.mcap"
    done = run(damaged, "--repair", out)
    assert done.exit_code == 0, done.output
    before, after = look_over(damaged), look_over(out)
    assert (after.whole, after.ticks) == (True, before.ticks)
    assert after.metadata["repaired"] == str(before.damage)
    kept = [r.observation.frame.frame_id for r in RouteReader(damaged, recover=True).records()]
    seen = list(RouteReader(out).ticks())
    assert [o.frame.frame_id for o, _ in seen] == kept
    with out.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count > 0


def test_a_whole_clip_is_not_repaired_and_nothing_is_written_over(clip, damaged, tmp_path):
    with pytest.raises(RepairRefusedError, match="nothing to repair"):
        repair(look_over(clip), tmp_path / "x.mcap")
    with pytest.raises(RepairRefusedError, match="there already"):
        repair(look_over(damaged), damaged)
