"""Kills at random moments: is what a drive noticed in the lake, once, whatever died on the way?"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from sim.benches.uplink_chain import CAR, EVERY_S, RATE_HZ, VICTIMS, Chain
from sim.benches.uplink_count import count
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench, Must
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.home import Home
from vehicle.uplink import Uplink

KILLS: Final = 200
SEED: Final = 5
DRIVES: Final = 4
"""Each with recorder and uplink of its own; the home stays."""

GAP_S: Final = (0.1, 1.1)
"""Between two kills; drawn anew each time."""

LATE_S: Final = 2.5
"""A victim is killed up to so long after it is there: while it starts, while it works."""

AT_WORK: Final = 0.8
"""Share of the recorder's deaths that come after it has begun to read, not while it starts."""

FILES, FILE_BYTES, ROUNDS = 4, 32 << 20, 3
"""What throughput is measured with."""


def uplink_bench(
    *,
    frames: int,
    progress: Callable[[float], None],
    bundle: Path | None = None,
    drives: int = DRIVES,
    file_bytes: int = FILE_BYTES,
) -> Bench:
    """Drive, notice, record, send, land and ingest while processes are killed; then count.

    Recorder and uplink are started again by the car's supervisor, gateway and ingest by this bench.
    Afterwards everything runs once more and nobody is killed. The drive is synthetic: what is asked
    is what becomes of events, not whether they were events.

    Args:
        frames: how many kills (SIGKILL), spread over recorder, uplink, gateway and ingest.
        bundle: plays no part.
        drives: how often the car sets off anew.
        file_bytes: size of each of the files that throughput is measured with.
    """
    bench, clock = Bench(name="uplink"), SystemClock()
    begun_ns = clock.mono_ns()
    with TemporaryDirectory() as scratch:
        chain = Chain(Path(scratch), SEED)
        with chain:
            killed = _kill(chain, frames, drives, lambda share: progress(0.85 * share))
            before = count(chain)
            chain.finish()
            after = count(chain)
            progress(0.9)
            seconds = (clock.mono_ns() - begun_ns) * 1e-9
            _rows(bench, chain, killed, before, after, seconds)
            _throughput(bench, chain, Path(scratch), file_bytes)
    progress(1.0)
    return bench


def _kill(chain: Chain, kills: int, drives: int, progress: Callable[[float], None]) -> Counter[str]:
    """Drive until all victims are dead as often as wanted; return who was killed how often."""
    draw = random.Random(SEED)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(kills)]
    draw.shuffle(victims)
    killed: Counter[str] = Counter()
    for drive in range(drives):
        mine = victims[drive * kills // drives : (drive + 1) * kills // drives]
        with chain.drive(f"drive-{drive}"):
            for victim in mine:
                chain.run_s(draw.uniform(*GAP_S))
                chain.wait_for(victim, at_work=draw.random() < AT_WORK)
                chain.run_s(draw.uniform(0.0, LATE_S) if victim in ("gateway", "ingest") else 0.0)
                killed[victim] += chain.kill(victim)
                progress(killed.total() / max(1, kills))
            chain.run_s(EVERY_S[0])
    return killed


def _rows(
    bench: Bench,
    chain: Chain,
    killed: Counter[str],
    before: dict[str, Any],
    after: dict[str, Any],
    seconds: float,
) -> None:
    n = killed.total()
    bench.rows.append({"row": "kills (SIGKILL)", "n": n, **dict(sorted(killed.items()))})
    bench.rows.append(
        {
            "row": "drive",
            "ticks": chain.ticks,
            "rate_hz": RATE_HZ,
            "events": len(chain.fired),
            "stood still for want of a recorder, s": round(chain.stood_s, 1),
            "frames that no recorder could read": chain.lost_frames,
            "seconds": round(seconds, 1),
        }
    )
    bench.rows.append({"row": "when the last one was killed", **before})
    bench.rows.append({"row": "after everything ran once more", **after})
    musts = (
        ("events lost", "events_lost", len(chain.fired), "events"),
        ("events or rows twice", "twice", after["ticks"], "rows"),
        ("orphans", "orphans", after["clips"], "files"),
        ("clips with a hole", "holes", after["clips"], "clips"),
        ("clips set aside", "quarantined", after["clips"], "clips"),
    )
    for figure, key, of, unit in musts:
        value = float(after[key])
        bench.must.append(Must(figure=figure, value=value, op="==", limit=0, unit=unit, n=of))
    bench.must.append(Must(figure="kills", value=float(n), op=">=", limit=KILLS, unit="kills", n=n))


def _throughput(bench: Bench, chain: Chain, scratch: Path, file_bytes: int) -> None:
    """Measure files through gateway to landed against copy + fsync + sha256 of the same bytes."""
    clock = SystemClock()
    ours, peer = [], []
    for turn in range(ROUNDS):
        files = [_clip(chain.home, turn * FILES + i, file_bytes) for i in range(FILES)]
        begun_ns = clock.mono_ns()
        for number, path in enumerate(files):
            copy = scratch / f"copy-{number}"
            shutil.copyfile(path, copy)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            wire.digest_file(copy)
            copy.unlink()
        peer.append(_mb_per_s(len(files) * file_bytes, clock.mono_ns() - begun_ns))
        begun_ns = clock.mono_ns()
        with Uplink(car_folder=chain.home.car(CAR), gateway_url=chain.url, clock=clock) as link:
            report = link.send_all()
        ours.append(_mb_per_s(report.sent_bytes, clock.mono_ns() - begun_ns))
        wire.require(len(report.sent) == FILES, f"sent {len(report.sent)}: {report.error}")
    bench.rows.append(
        {
            "row": "throughput, uplink through gateway to landed",
            "bytes": FILES * file_bytes,
            "rounds": ROUNDS,
            "mb_per_s": round(median(ours), 1),
            "copy_and_sha256_mb_per_s": round(median(peer), 1),
            "ratio": round(median(ours) / median(peer), 3),
        }
    )


def _clip(home: Home, number: int, size: int) -> Path:
    """Put a clip of random bytes into the outbox; return its file."""
    temp = home.car(CAR) / "outbox" / ".tmp" / f"random-{number}"
    temp.mkdir(parents=True)
    (temp / "clip.mcap").write_bytes(random.Random(number).randbytes(size))
    sha256 = wire.digest_file(temp / "clip.mcap")
    manifest = ClipManifest(
        clip_id=sha256,
        car_id=CAR,
        route_id="throughput",
        events=(),
        frames=(0, 1),
        start_mono_ns=0,
        end_mono_ns=1,
        created_utc_ns=number,
        jurisdiction="ZZ",
        model="",
        rig_digest="",
        files=(FileEntry(name="clip.mcap", sha256=sha256, size_bytes=size),),
    )
    wire.atomic_write(temp / "manifest.json", wire.to_bytes(manifest))
    return temp.rename(temp.parent.parent / sha256) / "clip.mcap"


def _mb_per_s(size: int, elapsed_ns: int) -> float:
    return size / 1e6 / (elapsed_ns * 1e-9)
