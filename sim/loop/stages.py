"""The stages of one turn of the loop. Each takes the run's context and returns plain facts."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from sim.loop.children import command, environment, gateway, watch
from vehicle.bundles import base_folder, digest_of
from vehicle.clock import Clock, SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bench import percentiles
from vehicle.contracts.home import Home
from vehicle.contracts.release import Release
from vehicle.contracts.report import EvalReport
from vehicle.contracts.uplink import IDENTITY

if TYPE_CHECKING:
    from sim.loop.loop import DemoOptions
    from vehicle.installer import InstallResult

FLEET_TOWNS = (16, 17, 18, 19)
"""Towns the demo's cars drive in; base was trained on 0..15, examinations use 100 and up."""

TEST_TOWNS = (100, 104)
EDGE = "fog"
"""What the base network was never shown (docs/how-to/train-base.md), and this turn is for."""

EXAMS = {EDGE: {"light": "day", "weather": EDGE}, "clear": {"light": "day", "weather": "clear"}}
"""Conditions of the examination: the one that must get better, and one that must not fall."""

MINED = "ap/car"
"""The figure that must rise: cars in fog, found and not imagined."""

FIRST_RELEASE = 1
PICTURE_TICK = 40


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


def enrol(context: Context) -> dict[str, Any]:
    """Make keys, sign the base bundle as release 1, enrol the cars, install it in each."""
    from fleet.release import gate
    from fleet.sign import Repository
    from vehicle.installer import pin_root

    repository, base = Repository(context.home), base_folder()
    if not repository.exists:
        repository.create()
    if not repository.releases():
        reports = reports_of(context, base, "before")
        repository.publish(base, gate(base, reports, (), release_counter=FIRST_RELEASE))
    for car in context.cars:
        give_identity(context, car, RIG_R.digest)
        pin_root(context.home.car(car), repository.root_bytes())
    installed = [install(context, car).bundle for car in context.cars]
    return {"installed": installed, "note": f"{installed[0]} signed, running in {len(installed)}"}


def give_identity(context: Context, car: str, rig_digest: str) -> None:
    """Enrol a car: its key and certificate, home's own, and the campaign key go into its folder."""
    from fleet.identity import enrol as enrol_car

    folder = context.home.car(car) / IDENTITY
    enrol_car(context.home, car, rig_digest, folder, renew=True)


def install(context: Context, car: str) -> "InstallResult":
    """Let a car look for a release and install it; return what it says."""
    from vehicle.installer import Installer, pinned_root

    folder = context.home.car(car)
    installer = Installer(
        car_folder=folder, rig_digest=RIG_R.digest, trusted_root=pinned_root(folder)
    )
    return installer.update(context.url)


def drive(context: Context) -> dict[str, Any]:
    """Let every car drive in fog with what it has installed, and send what it noticed."""
    return _drive(context, ticks=context.options.ticks, seed=1, towns=FLEET_TOWNS)


def drive_again(context: Context) -> dict[str, Any]:
    """Let every car drive with the new weights."""
    return _drive(context, ticks=context.options.ticks_after, seed=900, towns=FLEET_TOWNS[::-1])


def _drive(context: Context, *, ticks: int, seed: int, towns: tuple[int, ...]) -> dict[str, Any]:
    children: dict[str, subprocess.Popen[bytes]] = {}
    notes = context.home.root / "demo"
    for number, car in enumerate(context.cars):
        words = ["sim", "car", car, "--town", towns[number % len(towns)], *_words(EXAMS[EDGE])]
        words += ["--seed", seed + 20 * number, "--ticks", ticks]
        words += ["--progress-file", notes / f"{car}.progress"]
        words += ["--out", notes / f"{car}-{seed}.json"]
        with (notes / f"{car}.log").open("ab") as log:
            children[car] = subprocess.Popen(
                command(*words), env=environment(context.home), stdout=log, stderr=log
            )
    try:
        watch(context.console, notes, children, ticks)
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


def _words(sky: dict[str, str]) -> list[str]:
    return [word for name, value in sky.items() for word in (f"--{name}", value)]


def _send(context: Context, car: str) -> dict[str, int]:
    from vehicle.uplink import Uplink

    folder = context.home.car(car)
    with Uplink(car_folder=folder, gateway_url=context.url, clock=context.clock) as uplink:
        report = uplink.send_all()
    return {"clips": len(report.sent), "bytes": report.sent_bytes, "left": len(report.left)}


def real_logs(context: Context) -> dict[str, Any]:
    """Import and replay the real logs in the data folder, and send home what they trigger."""
    if context.options.data is None:
        return {"routes": [], "note": "no data folder given (--data DIR); skipped"}
    from sim.recorded.reallogs import replay_known

    routes = []
    for route in replay_known(context.home, Path(context.options.data)):
        car = route["car_id"]
        give_identity(context, car, route["rig_digest"])
        routes.append(route | _send(context, car))
    text = ", ".join(f"{r['kind']} {r['ticks']} ticks" for r in routes)
    return {
        "routes": routes,
        "note": text or f"{context.options.data} holds none of the known logs",
    }


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
    """Choose frames the network is unsure of, buy their labels, pin the dataset."""
    from datalake import dataset, label
    from datalake.lake import Lake

    query = (
        "SELECT clip_id, frame_id FROM ticks WHERE frame_id % 5 = 0 AND clip_id IN ("
        "SELECT e.clip_id FROM events e JOIN clips c USING (clip_id) "
        "WHERE e.trigger = 'uncertainty' AND c.car_id LIKE 'car-%') "
        f"ORDER BY md5(clip_id || frame_id) LIMIT {context.options.label_frames}"
    )
    wanted: dict[str, list[int]] = {}
    with Lake(context.home) as lake:
        for row in lake.sql(query).to_pylist():
            wanted.setdefault(row["clip_id"], []).append(row["frame_id"])
        bought = label.label(context.home, lake, wanted, frames=wanted)
    manifest = dataset.create(context.home, "mined", query, replace=True)
    return {
        "query": query,
        "frames": manifest.frames,
        "boxes": manifest.boxes,
        "clips": len(manifest.sources),
        "digest": manifest.digest,
        "labels_bought": bought.boxes,
        "note": f"{manifest.frames} frames of {len(manifest.sources)} clips: {manifest.boxes}",
    }


def held_out(context: Context) -> dict[str, Any]:
    """Render the examination towns in fog and clear air, and clear frames to train beside."""
    from sim.sense.generate import generate

    sets = {
        **{f"test-{e}": (TEST_TOWNS, sky, context.options.test_frames) for e, sky in EXAMS.items()},
        "replay": ((0, 8), EXAMS["clear"], context.options.replay_frames),
    }
    made = {}
    for name, (towns, sky, frames) in sets.items():
        folder = context.home.datasets / name
        shutil.rmtree(folder, ignore_errors=True)
        manifest = generate(folder, towns=range(*towns), frames=frames, seed=5, **sky)
        made[name] = manifest.digest
    return {"digests": made, "note": ", ".join(f"{n} {s[2]}" for n, s in sets.items())}


def train(context: Context) -> dict[str, Any]:
    """Fine-tune the base network on the mined frames with Ray, and export the bundle."""
    from training import distributed, export, recipes
    from vehicle import bundles

    datasets = [context.home.datasets / "mined", context.home.datasets / "replay"]
    run, bundle = context.home.models / "mined-run", context.home.models / "mined"
    result = distributed.train(
        recipes.finetune(steps=context.options.steps, seed=1),
        datasets,
        run,
        workers=context.options.workers,
        parent=base_folder(),
    )
    shutil.rmtree(bundle, ignore_errors=True)
    parent = bundles.load(base_folder())
    made = export.export(
        run,
        bundle,
        name=parent.name,
        version=parent.version + 1,
        odd={**parent.odd, "learned": EDGE},
    )
    return {
        "steps": result.steps,
        "bundle": made.tag,
        "note": f"{result.steps} steps, loss {result.loss_first:.2f} -> {result.loss_last:.2f}",
    }


def judge(context: Context) -> dict[str, Any]:
    """Examine before and after on the held-out towns; keep the reports the gate reads."""
    facts = {}
    for when, bundle in (("before", base_folder()), ("after", context.home.models / "mined")):
        for exam, report in zip(EXAMS, reports_of(context, bundle, when), strict=True):
            facts[f"{when}-{exam}"] = {m.name: wire.to_plain(m) for m in report.metrics}
        _picture(bundle, context.home.reports / f"{when}.png")
    before, after = (facts[f"{when}-{EDGE}"][MINED]["value"] for when in ("before", "after"))
    return {"scores": facts, "note": f"{MINED} in {EDGE} {before:.3f} -> {after:.3f}"}


def _picture(bundle: Path, out: Path) -> None:
    """Draw what a network sees on one held-out drive in fog, the same frame for every network."""
    from sim.run.episode import Episode
    from vehicle import picture
    from vehicle.budget import Budget
    from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
    from vehicle.drive import Drive

    episode = Episode(town=TEST_TOWNS[0], seed=3, **EXAMS[EDGE])
    car = Drive(
        car_id="picture",
        route_id="picture",
        rig=episode.rig,
        bundle=bundle,
        campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=False, clock=SystemClock()),
    )
    for _ in range(PICTURE_TICK):
        observation = episode.observe()
        tick = car.tick(observation)
        episode.step(None)
    car.close()
    picture.save(out, observation, tick, episode.rig)


def reports_of(context: Context, bundle: Path, when: str) -> list[EvalReport]:
    """Return a bundle's reports on the held-out towns, one per exam; each is made once."""
    from training.evaluate import evaluate

    out = []
    for exam in EXAMS:
        path = context.home.reports / f"{when}-{exam}.json"
        report = wire.from_bytes(EvalReport, path.read_bytes()) if path.is_file() else None
        if report is None or report.subject_digest != digest_of(bundle):
            report = evaluate(bundle, context.home.datasets / f"test-{exam}")
            wire.atomic_write(path, wire.to_bytes(report))
        out.append(report)
    return out


def publish(context: Context) -> dict[str, Any]:
    """Pass the gate, sign, let the cars install; serve a tampered copy and see it refused."""
    from fleet.release import gate
    from fleet.sign import Repository

    repository, bundle = Repository(context.home), context.home.models / "mined"
    if repository.next_counter() == FIRST_RELEASE + 1:
        release = gate(
            bundle,
            reports_of(context, bundle, "after"),
            reports_of(context, base_folder(), "before"),
            release_counter=FIRST_RELEASE + 1,
            rules=context.options.gate_rules,
            running_digest=digest_of(base_folder()),
        )
        repository.publish(bundle, release)
    release = repository.releases()[-1]
    refused = _serve_tampered(context, repository.targets_folder, release)
    installed = {car: install(context, car).bundle for car in context.cars}
    return {
        "release": release.release_counter,
        "tampered": refused,
        "installed": installed,
        "note": f"tampered copy: {refused}; running {', '.join(sorted(set(installed.values())))}",
    }


def _serve_tampered(context: Context, targets: Path, release: Release) -> str:
    """Flip one bit of the served archive, let a car try to install it, mend it; return its word."""
    from vehicle.releases import InstallError

    folder, _, name = release.target_path.rpartition("/")
    archive = targets / folder / f"{release.archive.sha256}.{name}"
    clean = archive.read_bytes()
    middle = len(clean) // 2
    wire.atomic_write(archive, clean[:middle] + bytes([clean[middle] ^ 1]) + clean[middle + 1 :])
    try:
        install(context, context.cars[-1])
    except InstallError as error:
        return type(error).__name__
    finally:
        wire.atomic_write(archive, clean)
    return "NOT REFUSED"
