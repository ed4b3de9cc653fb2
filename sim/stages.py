"""The stages of one turn of the loop. Each takes the run's context and returns plain facts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from vehicle.clock import Clock, SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bench import percentiles
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

if TYPE_CHECKING:
    from sim.loop import DemoOptions

FLEET_TOWNS = (16, 17, 18, 19)
"""Towns the demo's cars drive in; base was trained on 0..15, examinations use 100 and up."""

TEST_TOWNS = (100, 104)
LIGHT = "night"
CAR_TIMEOUT_S = 1_800


class ChildFailedError(RefusedError):
    """A process of the demo ended badly; its last words are in the message."""


class GatewayStartError(RefusedError):
    """The gateway did not come up."""


@dataclass(slots=True, kw_only=True)
class Context:
    """What stages share: the folder, the options, what earlier stages found, the open door."""

    home: Home
    options: "DemoOptions"
    console: Console
    url: str
    clock: Clock = field(default_factory=SystemClock)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, home: Home, options: "DemoOptions", console: Console) -> "Iterator[Context]":
        """Start the gateway as its own process, and end it whatever happens."""
        with gateway(home) as url:
            yield cls(home=home, options=options, console=console, url=url)

    @property
    def cars(self) -> list[str]:
        """Return the names of the cars."""
        return [f"car-{i + 1}" for i in range(self.options.cars)]


def command(*words: object) -> list[str]:
    """Return the roadloop command line of this installation."""
    return [sys.executable, "-m", "roadloop", *map(str, words)]


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a child: this home, one thread per process."""
    return {**os.environ, "ROADLOOP_HOME": str(home.root), "OMP_NUM_THREADS": "1"}


@contextmanager
def gateway(home: Home) -> Iterator[str]:
    """Run `roadloop fleet serve` and yield its address."""
    clock, note = SystemClock(), home.root / "demo" / "gateway.url"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    with (home.root / "demo" / "gateway.log").open("ab") as log:
        child = subprocess.Popen(
            command("fleet", "serve", "--port", 0, "--url-file", note),
            env=environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            until_ns = clock.mono_ns() + 30_000_000_000
            while not note.is_file():
                if child.poll() is not None or clock.mono_ns() > until_ns:
                    raise GatewayStartError(f"no gateway after 30 s; see {log.name}")
                clock.sleep_until(clock.mono_ns() + 50_000_000)
            yield note.read_text().strip()
        finally:
            child.terminate()
            child.wait(timeout=10)


def enrol(context: Context) -> dict[str, Any]:
    """Make keys, sign the base bundle as release 1, enrol the cars, install it in each."""
    from fleet.registry import Registry
    from fleet.release import gate
    from fleet.sign import Repository
    from vehicle import bundles

    repository, registry = Repository(context.home), Registry(context.home)
    if not repository.exists:
        repository.create()
    base = bundles.base_folder()
    if not repository.releases():
        report = reports_of(context, base, "bootstrap")
        repository.publish(base, gate(base, report, (), release_counter=1))
    for car in context.cars:
        folder = context.home.car(car)
        token = registry.enrol(car, RIG_R.digest, renew=True)
        wire.atomic_write(folder / "trust" / "root.json", repository.root_bytes())
        wire.atomic_write(folder / "trust" / "token", token.encode())
        (folder / "trust" / "token").chmod(0o600)
        install(context, car)
    tag = bundles.load(base).tag
    return {"bundle": tag, "note": f"{tag} signed and running in {len(context.cars)} cars"}


def install(context: Context, car: str) -> Any:
    """Let a car look for a release and install it; return what it says."""
    from vehicle.installer import Installer

    folder = context.home.car(car)
    installer = Installer(
        car_folder=folder,
        rig_digest=RIG_R.digest,
        clock=context.clock,
        trusted_root=(folder / "trust" / "root.json").read_bytes(),
    )
    return installer.update(context.url)


def drive(context: Context) -> dict[str, Any]:
    """Let every car drive by night with what it has installed, and send what it noticed."""
    return _drive(context, ticks=context.options.ticks, seed=1, towns=FLEET_TOWNS)


def drive_again(context: Context) -> dict[str, Any]:
    """Let every car drive with the new weights."""
    return _drive(context, ticks=context.options.ticks_after, seed=900, towns=FLEET_TOWNS[::-1])


def _drive(context: Context, *, ticks: int, seed: int, towns: tuple[int, ...]) -> dict[str, Any]:
    children: dict[str, subprocess.Popen[bytes]] = {}
    notes = context.home.root / "demo"
    for number, car in enumerate(context.cars):
        out = notes / f"{car}-{seed}.json"
        words = ["sim", "drive", "--car", car, "--town", towns[number % len(towns)]]
        words += ["--seed", seed + number, "--light", LIGHT, "--ticks", ticks]
        words += ["--progress-file", notes / f"{car}.progress", "--out", out]
        with (notes / f"{car}.log").open("ab") as log:
            children[car] = subprocess.Popen(
                command(*words), env=environment(context.home), stdout=log, stderr=log
            )
    try:
        _watch(context, children, ticks)
    except BaseException:
        for child in children.values():
            child.terminate()
        raise
    drives = [json.loads((notes / f"{car}-{seed}.json").read_bytes()) for car in context.cars]
    sent = [_send(context, car) for car in context.cars]
    total_ms = np.array([us for d in drives for us in d.pop("tick_us")]) * 1e-3
    events: dict[str, int] = {}
    for d in drives:
        for trigger, count in d["events"].items():
            events[trigger] = events.get(trigger, 0) + count
    clips, sent_bytes = sum(s["clips"] for s in sent), sum(s["bytes"] for s in sent)
    return {
        "drives": drives,
        "ticks": int(total_ms.size),
        "tick_ms": percentiles(total_ms),
        "missed": int((total_ms > 10.0).sum()),
        "events": events,
        "clips": clips,
        "bytes": sent_bytes,
        "note": f"{total_ms.size} ticks, {sum(events.values())} events, {clips} clips home "
        f"({sent_bytes / 1e6:.1f} MB)",
    }


def _watch(context: Context, children: dict[str, "subprocess.Popen[bytes]"], ticks: int) -> None:
    """Show how far every car is, until all are done; a car that fails ends the stage by name."""
    notes, clock = context.home.root / "demo", context.clock
    until_ns = clock.mono_ns() + CAR_TIMEOUT_S * 10**9
    with progress_bar(context.console) as bar:
        rows = {car: bar.add_task(car, total=ticks) for car in children}
        while any(child.poll() is None for child in children.values()):
            for car, row in rows.items():
                bar.update(row, completed=_read_number(notes / f"{car}.progress"))
            if clock.mono_ns() > until_ns:
                raise ChildFailedError(f"the cars did not arrive within {CAR_TIMEOUT_S} s")
            clock.sleep_until(clock.mono_ns() + 200_000_000)
        for car, row in rows.items():
            bar.update(row, completed=ticks)
            if children[car].returncode:
                lines = (notes / f"{car}.log").read_text(errors="replace").splitlines()
                last = lines[-1] if lines else "nothing"
                raise ChildFailedError(f"{car} ended with {children[car].returncode}: {last}")


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def progress_bar(console: Console) -> Progress:
    """Return the progress bar every long stage shows."""
    columns = (TextColumn("      {task.description:<14}"), BarColumn(30))
    counts = TextColumn("{task.completed:>6.0f}/{task.total:.0f}")
    return Progress(*columns, counts, TimeElapsedColumn(), console=console, transient=True)


def _send(context: Context, car: str) -> dict[str, int]:
    from vehicle.uplink import Uplink

    folder = context.home.car(car)
    uplink = Uplink(
        outbox=folder / "outbox",
        gateway_url=context.url,
        car_id=car,
        token=(folder / "trust" / "token").read_text(),
        clock=context.clock,
    )
    report = uplink.send_all()
    return {"clips": len(report.sent), "bytes": report.sent_bytes, "left": len(report.left)}


def real_logs(context: Context) -> dict[str, Any]:
    """Import and replay the real logs in the data folder, and send home what they trigger."""
    if context.options.data is None:
        return {"routes": [], "note": "no data folder given (--data DIR); skipped"}
    from sim.reallogs import replay_known

    routes = replay_known(context.home, Path(context.options.data), context.console)
    if routes:
        from fleet.registry import Registry

        car = "real-logs"
        folder = context.home.car(car)
        token = Registry(context.home).enrol(car, "0" * 64, renew=True)
        wire.atomic_write(folder / "trust" / "token", token.encode())
        sent = _send(context, car)
        return {"routes": routes, **sent, "note": f"{len(routes)} logs, {sent['clips']} clips home"}
    return {"routes": [], "note": f"{context.options.data} holds none of the known logs"}


def ingest_clips(context: Context) -> dict[str, Any]:
    """Bring the landing zone into the lake."""
    from datalake.ingest import ingest

    report = ingest(context.home)
    quarantined = len(report.quarantined)
    return {
        "ingested": report.ingested,
        "quarantined": quarantined,
        "rows": report.rows,
        "note": f"{report.ingested} clips, {report.rows} rows, {quarantined} quarantined",
    }


def mine(context: Context) -> dict[str, Any]:
    """Choose frames the network is unsure of by night, buy their labels, pin the dataset."""
    from datalake import dataset, label
    from datalake.lake import Lake

    clips = (
        "SELECT DISTINCT e.clip_id FROM events e JOIN clips c USING (clip_id) "
        "WHERE e.trigger = 'uncertainty' AND c.luma < 70 AND c.car_id LIKE 'car-%'"
    )
    with Lake(context.home) as lake:
        bought = label.label(
            context.home, lake, [r["clip_id"] for r in lake.sql(clips).to_pylist()]
        )
    frames = (
        f"SELECT clip_id, frame_id FROM (SELECT clip_id, frame_id, row_number() OVER "
        f"(PARTITION BY clip_id ORDER BY frame_id) AS k FROM ticks WHERE clip_id IN ({clips})) "
        f"ORDER BY (k % 5 != 1), hash(clip_id || frame_id) LIMIT {context.options.label_frames}"
    )
    manifest = dataset.create(context.home, "mined", frames)
    return {
        "query": frames,
        "frames": manifest.frames,
        "boxes": manifest.boxes,
        "clips": len(manifest.sources),
        "digest": manifest.digest,
        "labels_bought": bought.boxes,
        "note": f"{manifest.frames} frames of {len(manifest.sources)} clips: {manifest.boxes}",
    }


def held_out(context: Context) -> dict[str, Any]:
    """Render the examination towns by night and by day, and day frames to train beside."""
    from sim.generate import generate

    sets = {
        "test-night": (TEST_TOWNS, LIGHT, context.options.test_frames),
        "test-day": (TEST_TOWNS, "day", context.options.test_frames),
        "replay-day": ((0, 8), "day", context.options.replay_frames),
    }
    made = {}
    for name, (towns, light, frames) in sets.items():
        folder = context.home.datasets / name
        shutil.rmtree(folder, ignore_errors=True)
        manifest = generate(folder, towns=range(*towns), frames=frames, light=light, seed=5)
        made[name] = manifest.digest
    return {"digests": made, "note": ", ".join(f"{n} {s[2]}" for n, s in sets.items())}


def train(context: Context) -> dict[str, Any]:
    """Fine-tune the base network on the mined frames with Ray, and export the bundle."""
    from training import distributed, export, recipes
    from vehicle import bundles

    datasets = [context.home.datasets / "mined", context.home.datasets / "replay-day"]
    config = recipes.finetune(steps=context.options.steps, seed=1)
    out = context.home.models / "night-run"
    result = distributed.train(
        config,
        datasets,
        out,
        parent=bundles.base_folder(),
        workers=context.options.workers,
    )
    bundle = context.home.models / "night"
    shutil.rmtree(bundle, ignore_errors=True)
    parent = bundles.load(bundles.base_folder())
    export.export(out, bundle, name=parent.name, version=parent.version + 1, odd={"light": "any"})
    return {
        "steps": result.steps,
        "loss_first": result.loss_first,
        "loss_last": result.loss_last,
        "note": f"{result.steps} steps, loss {result.loss_first:.2f} -> {result.loss_last:.2f}",
    }


def judge(context: Context) -> dict[str, Any]:
    """Examine before and after on the held-out towns; keep the reports the gate reads."""
    facts = {}
    for when, bundle in (("before", base_folder()), ("after", context.home.models / "night")):
        for light, report in zip(LIGHTS, reports_of(context, bundle, when), strict=True):
            facts[f"{when}-{light}"] = {m.name: wire.to_plain(m) for m in report.metrics}
    before, after = (facts[f"{when}-night"][MINED]["value"] for when in ("before", "after"))
    return {"scores": facts, "note": f"{MINED} by night {before:.3f} -> {after:.3f}"}


def reports_of(context: Context, bundle: Path, when: str) -> list[EvalReport]:
    """Return a bundle's reports on the held-out towns, by night and by day; each is made once."""
    from training.evaluate import evaluate

    out = []
    for light in LIGHTS:
        path = context.home.reports / f"{when}-{light}.json"
        if not path.is_file():
            report = evaluate(bundle, context.home.datasets / f"test-{light}")
            wire.atomic_write(path, wire.to_bytes(report))
        out.append(wire.from_bytes(EvalReport, path.read_bytes()))
    return out


def publish(context: Context) -> dict[str, Any]:
    """Pass the gate, sign, let the cars install; serve a tampered copy and see it refused."""
    from fleet.release import GateRules, MustRise, gate
    from fleet.sign import Repository
    from vehicle.installer import InstallError

    repository, bundle = Repository(context.home), context.home.models / "night"
    archive = None
    if repository.next_counter() == FIRST_RELEASE + 1:
        release = gate(
            bundle,
            reports_of(context, bundle, "after"),
            reports_of(context, base_folder(), "before"),
            release_counter=FIRST_RELEASE + 1,
            rules=GateRules(rise=(MustRise(metric=MINED),)),
        )
        archive = repository.publish(bundle, release)
    clean = archive.read_bytes()
    wire.atomic_write(archive, clean[:-2_000] + bytes([clean[-2_000] ^ 1]) + clean[-1_999:])
    try:
        install(context, context.cars[-1])
        refused = "NOT REFUSED"
    except InstallError as error:
        refused = type(error).__name__
    finally:
        wire.atomic_write(archive, clean)
    installed = {car: install(context, car).bundle for car in context.cars}
    return {
        "release": release.release_counter,
        "tampered": refused,
        "installed": installed,
        "note": f"tampered copy: {refused}; running {', '.join(sorted(set(installed.values())))}",
    }
