"""`roadloop bench clip`: what recording costs and keeps, on rendered pictures of all eight cameras.

The recorder is measured as it runs in the car: a process of its own, fed at 36 Hz on schedule.
Processor time, not wall time, for the machine is shared.
"""

import os
import random
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import av
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from mcap.reader import make_reader

from sim.benches.bench_codecs import CODECS, codec_row
from sim.run.episode import Episode
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R, RecordingConfig
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.frame import Observation
from vehicle.contracts.telemetry import Health
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive
from vehicle.recorder import Recorder
from vehicle.video import Codec, VideoDecoder

Told = Callable[[float], None]
Driven = tuple[Observation, Tick]

RATE_HZ: Final = 36.0
FRAMES: Final = 720
"""Ticks recorded with each codec: twenty seconds, in real time."""

DISTINCT: Final = 144
"""Rendered ticks; recording plays them to and fro."""

MOST_CORES: Final = 0.5
SEEKS: Final = 100
WHOLE: Final = Campaign(
    campaign_id="bench",
    triggers=(TriggerSpec(name="all", kind="random", threshold=1.0, pre_s=0.0, post_s=30.0),),
)
"""Its one event keeps all that follows, up to the 30 s a trigger may ask for."""

_DECODER: Final = {"h264": "h264", "av1": "libdav1d"}


def clip_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the recorder with each codec, who opens what it wrote, and codecs side by side.

    Args:
        frames: ticks recorded with each codec, at most 1,000.
        progress: told the share that is done, 0..1.
        bundle: what drives, for its telemetry; None: the base.
    """
    bench, frames = Bench(name="clip"), min(frames, 1_000)
    seen = _driven(bundle or bundles.base_folder(), lambda share: progress(0.2 * share))
    codecs: tuple[Codec, ...] = ("h264", "av1")
    with TemporaryDirectory() as scratch:
        for number, codec in enumerate(codecs):
            made = _record(seen, frames, codec, Path(scratch) / codec)
            _recording_rows(bench, made, codec, frames)
            _seek_row(bench, made.clip, codec)
            _opening_rows(bench, made.clip, codec, frames)
            progress(0.5 + 0.3 * number)
    for number, name in enumerate(CODECS):
        bench.rows.append(codec_row(name, [obs for obs, _ in seen], RATE_HZ))
        progress(0.8 + 0.2 * (number + 1) / len(CODECS))
    return bench


def _driven(bundle: Path, progress: Told) -> list[Driven]:
    """Return ticks of a town drive: what the cameras see, and the car's own telemetry."""
    episode, out = Episode(town=101, seed=7, rate_hz=RATE_HZ), []
    drive = Drive(
        car_id="bench", route_id="bench", rig=RIG_R, bundle=bundle, campaigns=(WHOLE,),
        budget=Budget(enforce=False, clock=SystemClock()), rate_hz=RATE_HZ,
    )  # fmt: skip
    for i in range(DISTINCT):
        obs = episode.observe()
        tick = drive.tick(obs)
        out.append((obs, tick))
        episode.step(tick.command)
        progress(i / DISTINCT)
    drive.close()
    return out


def _again(seen: Sequence[Driven], number: int, mono_ns: int) -> Driven:
    """Return tick `number` of an endless drive made of these, to and fro."""
    there = number % (2 * len(seen) - 2)
    obs, tick = seen[min(there, 2 * len(seen) - 2 - there)]
    fired = TriggerEvent(
        trigger="all", campaign_id="bench", frame_id=number, mono_ns=mono_ns, value=0.0,
        threshold=1.0,
    )  # fmt: skip
    frame = replace(obs.frame, frame_id=number, mono_ns=mono_ns)
    events = (fired,) if number == 0 else ()
    return replace(obs, frame=frame), replace(tick, frame_id=number, events=events)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """A drive that was recorded whole."""

    clip: Path
    cpu_s: float
    publish_us: list[float]
    health: Health


def _record(seen: Sequence[Driven], frames: int, codec: Codec, outbox: Path) -> _Recorded:
    """Feed a recorder process on schedule; count its processor time from the first frame to its
    end, finishing the clip included, starting up not."""
    clock, published_us = SystemClock(), []
    before_s = _children_cpu_s()
    recorder = Recorder(
        outbox=outbox, rig=RIG_R, rate_hz=RATE_HZ, car_id="bench", route_id="bench", model="bench",
        campaigns=(WHOLE,), config=RecordingConfig(codec=codec, least_free_ratio=0.0),
    )  # fmt: skip
    started_s = _cpu_s_of(recorder.pid)
    start_ns = clock.mono_ns() + 100_000_000
    for i in range(frames):
        release_ns = start_ns + round(i * 1e9 / RATE_HZ)
        obs, tick = _again(seen, i, release_ns)
        clock.sleep_until(release_ns)
        begin_ns = clock.mono_ns()
        recorder.publish(obs, tick)
        published_us.append((clock.mono_ns() - begin_ns) * 1e-3)
    health = recorder.close()
    [clip] = outbox.glob("[0-9a-f]*/clip.mcap")
    cpu_s = _children_cpu_s() - before_s - started_s
    return _Recorded(clip=clip, cpu_s=cpu_s, publish_us=published_us, health=health)


def _cpu_s_of(pid: int) -> float:
    """Return the processor seconds a process has used (proc(5), fields utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children_cpu_s() -> float:
    """Return the processor seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _recording_rows(bench: Bench, made: _Recorded, codec: Codec, frames: int) -> None:
    seconds, counters = frames / RATE_HZ, made.health.counters
    cores = round(made.cpu_s / seconds, 3)
    lost = counters["lost_frames"] + counters["dropped_frames"]
    size = made.clip.stat().st_size
    bench.rows.append(
        {
            "row": f"recorder, {codec}, 8 cameras at {RATE_HZ:g} Hz",
            "cores": cores,
            "bytes_per_s": round(size / seconds),
            "publish_us": percentiles(made.publish_us),
            "health": {n: counters[n] for n in ("clips", "frames", "errors", "lost_frames")},
            "n": frames,
        }
    )
    if codec == "h264":
        bench.must += [
            Must(
                figure="recorder, processor seconds per second of drive", value=cores, op="<=",
                limit=MOST_CORES, unit="cores", n=frames, peer="the house's limit: half a core",
            ),
            Must(
                figure="frames lost or dropped while recording in real time", value=float(lost),
                op="==", limit=0.0, unit="frames", n=frames,
            ),
        ]  # fmt: skip


def _seek_row(bench: Bench, clip: Path, codec: Codec) -> None:
    """Measure a random picture of a random camera: find its group by the index, decode up to it."""
    rng, clock, taken = random.Random(0), SystemClock(), []
    with clip.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        first_ns, last_ns = (
            summary.statistics.message_start_time, summary.statistics.message_end_time,
        )  # fmt: skip
        for _ in range(SEEKS):
            camera, at_ns = rng.choice(RIG_R.cameras), rng.randint(first_ns, last_ns)
            begin_ns = clock.mono_ns()
            decoder, image = VideoDecoder(camera.width_px, camera.height_px), None
            spans = reader.iter_messages(
                [f"/camera/{camera.name}"], start_time=at_ns - 1_000_000_000, end_time=at_ns + 1
            )
            for _, _, message in spans:
                video = CompressedVideo.FromString(message.data)
                image = decoder.decode(video.data, video.format)
            assert image is not None or at_ns < first_ns + 1_000_000_000
            taken.append((clock.mono_ns() - begin_ns) * 1e-6)
    bench.rows.append({"row": f"random picture, {codec}, to RGB", "ms": percentiles(taken)})


def _opening_rows(bench: Bench, clip: Path, codec: Codec, frames: int) -> None:
    """Count what others see in the clip: an independent MCAP reader, FFmpeg, Rerun."""
    messages, units = Counter[str](), dict[str, list[bytes]]()
    with clip.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        for _, channel, message in reader.iter_messages():
            messages[channel.topic] += 1
            if channel.topic.startswith("/camera/"):
                video = CompressedVideo.FromString(message.data)
                units.setdefault(channel.topic, []).append(video.data)
        summary = reader.get_summary()
    assert summary is not None
    assert summary.statistics is not None
    video = sum(len(unit) for each in units.values() for unit in each) * RATE_HZ / frames
    whole = clip.stat().st_size * RATE_HZ / frames
    bench.rows.append(
        {
            "row": f"clip, {codec}",
            "video_bytes_per_s": round(video),
            "telemetry_and_index_bytes_per_s": round(whole - video),
            "n": frames,
        }
    )
    shown = sum(_decoded(each, codec) for each in units.values())
    pictures = frames * len(RIG_R.cameras)
    found = {
        "messages the mcap reader finds of those written": sum(messages.values())
        / summary.statistics.message_count,
        "pictures FFmpeg decodes of those taken": shown / pictures,
    }
    rerun = Path(sys.executable).with_name("rerun")
    if rerun.exists():
        found["pictures in Rerun's video streams of those taken"] = (
            _in_rerun(rerun, clip) / pictures
        )
    else:
        bench.rows.append({"row": "Rerun", "skipped": "rerun-sdk is not installed: extra [rerun]"})
    bench.must += [
        Must(
            figure=f"{figure}, {codec}", value=round(value, 6), op="==", limit=1.0, unit="ratio",
            n=pictures,
        )
        for figure, value in found.items()
    ]  # fmt: skip


def _decoded(units: list[bytes], codec: Codec) -> int:
    context = av.CodecContext.create(_DECODER[codec], "r")
    packets = [*(av.Packet(unit) for unit in units), None]
    return sum(len(context.decode(packet)) for packet in packets)


def _in_rerun(rerun: Path, clip: Path) -> int:
    """Return the pictures in the video streams that `rerun mcap convert` makes of a clip."""
    out = clip.with_suffix(".rrd")
    subprocess.run([rerun, "mcap", "convert", clip, "-o", out], check=True, capture_output=True)
    printed = subprocess.run(
        [rerun, "rrd", "print", "-v", out], check=True, capture_output=True, text=True
    ).stdout
    streams = [line for line in printed.splitlines() if "@VideoStream:sample" in line]
    rows = [re.search(r"with (\d+) rows", line) for line in streams]
    return sum(int(row[1]) for row in rows if row)
