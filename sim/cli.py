"""Verbs of the proving ground: generate labelled frames, drive, render."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sim.asam.export_verb import export
from sim.net.link_verb import link
from sim.problems.commonroad_verb import commonroad
from sim.recorded.logged_verb import logged
from sim.relay.orbit_verb import orbit
from sim.run.live_verb import live
from sim.why.decisions_verb import decisions

app = typer.Typer(no_args_is_help=True, help="The proving ground: drive, render, generate frames.")

_FAULTS = "hang, freeze, black, wrong-size, late, slow-core, disk-full or kill-recorder"
_WEATHER = "clear, rain, fog, glare, wet, dirty_lens, noisy, overexposed or underexposed."


@app.command()
def generate(
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not hold a dataset yet.")],
    town_from: Annotated[int, typer.Option(help="First town, e.g. 0.")] = 0,
    town_to: Annotated[int, typer.Option(help="Last town, included.")] = 3,
    frames: Annotated[int, typer.Option(help="Labelled frames in total.")] = 400,
    light: Annotated[
        str, typer.Option(help="day, dusk or night; several with commas, or all.")
    ] = "day",
    weather: Annotated[
        str, typer.Option(help=f"{_WEATHER[:-1]}; several with commas, or all.")
    ] = "clear",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    families: Annotated[
        str,
        typer.Option(
            help="Scenario families in turn: names with commas; base: everyday ones; all: every "
            "one that is not kept for tests."
        ),
    ] = "base",
    sequence: Annotated[
        int, typer.Option(help="Frames in a run; those after the first know the ego's motion.")
    ] = 1,
    sequence_step_s: Annotated[float, typer.Option(help="Between the frames of a run.")] = 0.1,
    signals_ratio: Annotated[
        float, typer.Option(help="Share of episodes whose junctions have traffic lights.")
    ] = 0.4,
    json_: Annotated[bool, typer.Option("--json", help="Print the manifest's facts.")] = False,
) -> None:
    """Write a dataset of labelled simulator frames.

    A frame has 8 pictures, boxes with velocities, the BEV raster, the lines of the ego's lane and
    of those beside it, and the state of the traffic light that rules the ego's route.

    Training towns are 0..15, demo towns 16..19, test towns from 100.
    """
    from rich.progress import Progress

    from sim.look.weather import LIGHTS, WEATHERS
    from sim.sense.generate import ALL_FAMILIES, DEFAULT_FAMILIES
    from sim.sense.generate import generate as make

    named = {"all": ALL_FAMILIES, "base": DEFAULT_FAMILIES}

    with Progress(disable=json_) as bar:
        task = bar.add_task(f"{light} frames", total=frames)
        manifest = make(
            out,
            towns=range(town_from, town_to + 1),
            frames=frames,
            light=tuple(LIGHTS) if light == "all" else tuple(light.split(",")),
            weather=tuple(WEATHERS) if weather == "all" else tuple(weather.split(",")),
            seed=seed,
            families=named[families] if families in named else tuple(families.split(",")),
            sequence=sequence,
            sequence_step_s=sequence_step_s,
            signals_ratio=signals_ratio,
            progress=lambda done: bar.update(task, completed=done),
        )
    facts = {
        "folder": str(out),
        "digest": manifest.digest,
        "frames": manifest.frames,
        "boxes": manifest.boxes,
        "bytes": sum(f.size_bytes for f in manifest.files),
    }
    print(json.dumps(facts) if json_ else f"{facts['frames']} frames, {facts['boxes']} in {out}")


@app.command()
def drive(
    town: Annotated[int, typer.Option(help="Town number; 16..19 are the demo fleet's.")] = 16,
    seed: Annotated[int, typer.Option(help="Traffic, route and light; same seed, same drive.")] = 0,
    light: Annotated[str, typer.Option(help="day, dusk or night.")] = "day",
    weather: Annotated[str, typer.Option(help=_WEATHER)] = "clear",
    family: Annotated[
        str, typer.Option(help="Scenario family, see `roadloop sim families`.")
    ] = "town_drive",
    ticks: Annotated[int, typer.Option(help="How many frames at 10 Hz.")] = 300,
    record: Annotated[Path | None, typer.Option(help="Write the drive as a route file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder; default: the base.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Drive the real car stack through a town: it sees, plans and steers, the town answers.

    With --record the drive becomes a route file for `roadloop replay`.
    """
    from rich.progress import Progress

    from sim.run.driving import drive_town

    with Progress(disable=json_) as bar:
        task = bar.add_task(f"town {town} by {light}", total=ticks)
        facts = drive_town(
            town=town,
            seed=seed,
            light=light,
            weather=weather,
            family=family,
            ticks=ticks,
            record=record,
            bundle=bundle,
            progress=lambda done: bar.update(task, completed=done),
        )
    if json_:
        print(json.dumps(facts))
        return
    print(f"{facts['distance_m']:.0f} m in {ticks} ticks, {facts['collisions']} collisions")
    print(
        f"tick p50 {facts['p50_ms']:.1f} ms, p99 {facts['p99_ms']:.1f} ms, rungs {facts['rungs']}"
    )
    print(f"events {facts['events'] or 'none'}{f', recorded in {record}' if record else ''}")


@app.command()
def render(
    out: Annotated[Path, typer.Argument(help="PNG file to write.")] = Path("sheet.png"),
    town: Annotated[int, typer.Option(help="Town number.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the traffic and the place.")] = 0,
    light: Annotated[str, typer.Option(help="day, dusk, night or both (day and night).")] = "both",
    weather: Annotated[
        str, typer.Option(help=_WEATHER[:-1] + "; all: one camera in every light and weather.")
    ] = "clear",
    family: Annotated[str, typer.Option(help="Scenario family.")] = "town_drive",
    after: Annotated[int, typer.Option(help="Ticks to drive before the picture.")] = 30,
    boxes: Annotated[bool, typer.Option(help="Draw the labelled boxes.")] = True,
) -> None:
    """Draw all eight cameras with their labelled boxes, and the BEV labels from above.

    With --weather all: the front camera of one place in every light and every weather.
    """
    import cv2
    import numpy as np

    from sim.run.episode import Episode
    from sim.sense.sheet import contact_sheet, weather_sheet

    sheets = []
    if weather == "all":
        sheets.append(weather_sheet(town=town, seed=seed, family=family, after=after))
        light = "every light"
    for name in () if sheets else ("day", "night") if light == "both" else (light,):
        episode = Episode(town=town, seed=seed, light=name, weather=weather, family=family)
        for _ in range(after):
            episode.step(None)
        sheets.append(contact_sheet(episode, boxes=boxes))
    done, data = cv2.imencode(".png", cv2.cvtColor(np.vstack(sheets), cv2.COLOR_RGB2BGR))
    from vehicle.contracts import wire

    wire.require(bool(done), f"{out}: the picture could not be encoded")
    wire.atomic_write(out, data.tobytes())
    print(f"{out}: town {town}, seed {seed}, {light}, {weather} weather")


@app.command()
def families(
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw a tile per family, its event seen from the car.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A family for the sheet; may be repeated.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """List the scenario families: share of all drives, light, weather, what happens.

    Common families are the everyday log, rare ones the long tail; two of those are kept for test
    towns. Drive one with `roadloop sim drive --family NAME`.
    """
    from dataclasses import asdict

    from sim.story.scenarios import FAMILIES, named

    chosen = tuple(only or FAMILIES)
    for name in chosen:
        named(name)
    if sheet is not None:
        _draw_families(sheet, chosen, quiet=json_)
    if json_:
        print(json.dumps({name: asdict(FAMILIES[name]) for name in chosen}))
        return
    print(f"{'family':19} {'share':>7}  {'for':8} {'light':15} {'weather':18} about")
    for name in chosen:
        f = FAMILIES[name]
        use = f"{f.reserved} only" if f.reserved else "rare" if f.rare else "common"
        light, weather = "/".join(f.lights), "/".join(f.weathers)
        print(f"{name:19} {f.share_ratio:7.2%}  {use:8.9} {light:15} {weather:18} {f.about}")


def _draw_families(path: Path, names: tuple[str, ...], *, quiet: bool) -> None:
    import cv2
    from rich.progress import Progress

    from sim.sense.family_sheet import sheet
    from vehicle.contracts import wire

    with Progress(disable=quiet) as bar:
        task = bar.add_task("families", total=len(names))
        picture = sheet(names, lambda done: bar.update(task, completed=done))
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    wire.require(bool(done), f"{path}: the picture could not be encoded")
    wire.atomic_write(path, data.tobytes())


@app.command()
def evaluate(
    subjects: Annotated[
        str, typer.Option(help="Who drives, with commas (sim/rivals/subjects.py), or all.")
    ] = "all",
    families: Annotated[
        str, typer.Option(help="all, common, rare, or names with commas; none: no towns.")
    ] = "common",
    logged: Annotated[
        list[Path] | None, typer.Option(help="Recorded scenes: a file, or a folder of them.")
    ] = None,
    reactive: Annotated[
        bool, typer.Option(help="Recorded vehicles give way instead of driving as they did.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Starts of each family, in held-out towns.")] = 4,
    seconds: Annotated[float, typer.Option(help="Length of an episode, at most.")] = 20.0,
    light: Annotated[str, typer.Option(help="day, dusk or night; default: the family's.")] = "",
    weather: Annotated[str, typer.Option(help="Of all towns; default: the family's.")] = "",
    latency: Annotated[
        str, typer.Option(help="Charged to each command: measured, none, or milliseconds.")
    ] = "measured",
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder; default: the base.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; one per core is best.")] = 2,
    over_ray: Annotated[
        bool, typer.Option("--ray", help="Over the Ray cluster of RAY_ADDRESS, or a local one.")
    ] = False,
    worst: Annotated[int, typer.Option(help="Films per subject, of its worst episodes.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where results are kept; default: ROADLOOP_HOME/reports.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:
    """Let drivers compete in the same scenarios: every score with its 95 % interval, and films.

    Results are kept one by one: a run that was stopped goes on where it stood.
    docs/how-to/evaluate.md
    """
    from rich.console import Console

    from sim.rivals.cases import cases_of
    from sim.rivals.contest import contest
    from sim.rivals.jobs import parse_latency
    from vehicle.contracts.home import Home

    spread = None
    if over_ray:
        from sim.rivals import cluster

        spread = cluster.over_ray
    options = {"light": light, "weather": weather, "reactive": reactive}
    verdict = contest(
        subjects,
        cases_of(families, logged or [], seeds=seeds, seconds=seconds, **options),
        out or Home.here().reports / "proving-ground",
        bundle=bundle,
        latency=parse_latency(latency),
        workers=workers,
        spread=spread,
        worst=worst,
        console=Console(stderr=json_),
        quiet=json_,
    )
    if json_:
        print(json.dumps(verdict.plain()))
    if verdict.failed:
        raise typer.Exit(1)


for verb in (logged, commonroad, export, live, decisions, link, orbit):
    app.command()(verb)


@app.command()
def car(
    name: Annotated[str, typer.Argument(help="Name of the car; its folder is in ROADLOOP_HOME.")],
    town: Annotated[int, typer.Option(help="Town of the first route.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the first route.")] = 0,
    light: Annotated[str, typer.Option(help="day, dusk or night.")] = "day",
    weather: Annotated[str, typer.Option(help=_WEATHER)] = "clear",
    ticks: Annotated[
        int, typer.Option(help="How many frames at 10 Hz; a minute to a route.")
    ] = 600,
    out: Annotated[
        Path | None, typer.Option(help="Write the facts here, every tick timed.")
    ] = None,
    progress_file: Annotated[
        Path | None, typer.Option(help="Write the ticks driven so far here, for who watches.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Drive one car of the fleet: its installed network, its recorder, clips into its outbox.

    Send them home with `roadloop vehicle uplink NAME`.
    """
    from sim.loop.car import drive_shift
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    def told(done: int) -> None:
        if progress_file is not None and done % 20 == 0:
            progress_file.write_text(str(done))

    facts = drive_shift(
        Home.here(), name, town=town, seed=seed, light=light, weather=weather, ticks=ticks,
        progress=told,
    )  # fmt: skip
    if out is not None:
        wire.atomic_write(out, wire.canonical(facts))
    shown = {k: v for k, v in facts.items() if k != "tick_us"}
    print(json.dumps(shown) if as_json else "\n".join(f"{k:12} {v}" for k, v in shown.items()))


def demo(
    data: Annotated[
        Path | None,
        typer.Option(envvar="ROADLOOP_DATA", help="Folder of real drive logs to replay as well."),
    ] = None,
    cars: Annotated[int, typer.Option(help="Simulated cars, a process each.")] = 2,
    ticks: Annotated[int, typer.Option(help="Frames per car before learning.")] = 3_400,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn the whole loop once: two cars drive, notice, send home; home learns and sends back.

    All state is in ROADLOOP_HOME (default .roadloop/). A run that was stopped goes on where it
    stood; a finished one is moved to its folder `previous`. docs/how-to/run-the-demo.md
    """
    from rich.console import Console

    from sim.loop import loop, report
    from vehicle.contracts.home import Home

    console, home = Console(stderr=as_json), Home.here()
    options = loop.DemoOptions(cars=cars, ticks=ticks, data=str(data) if data else None)
    facts = loop.run(home, options, console)
    report.write_page(home, facts)
    if as_json:
        print(json.dumps(facts))
    else:
        console.print(report.table(facts))
        console.print(f'kept in {home.reports}; ask the lake: roadloop datalake sql "..."')


def bench(
    name: Annotated[str, typer.Argument(help="Which one, or all; an unknown name lists them.")],
    frames: Annotated[int | None, typer.Option(help="Samples; default: enough for p99.9.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder; default: the base.")] = None,
    page: Annotated[Path | None, typer.Option(help="Page to write; .svg: of tiers.")] = None,
    fault: Annotated[
        str, typer.Option(help=f"loop: what goes wrong over and over: {_FAULTS}.")
    ] = "",
    fifo: Annotated[
        bool, typer.Option("--fifo/--no-fifo", help="loop: ask for the real-time class.")
    ] = True,
    long: Annotated[bool, typer.Option("--long", help="loop: 100,000 frames.")] = False,
    kills: Annotated[
        int | None, typer.Option(min=4, help="uplink: how many processes are killed; default 200.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=100_000, help="lake: rows of ticks; default ten million.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the one shape of all benches.")
    ] = False,
) -> None:
    """Measure a figure the project promises, beside its peer, and say which limits hold.

    Exits 0 when it measured, whatever holds. Timings are noisy on a shared machine: the load
    before and after is printed with them.
    """
    from sim.benches.bench import run

    loop = {"fifo": fifo, "fault": fault, "long": long}
    samples = {"uplink": kills, "lake": rows}.get(name) or frames
    run(name, frames=samples, bundle=bundle, page=page, as_json=as_json, loop=loop)
