"""The verbs of `roadloop fleet`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleet.release import MustRise

app = typer.Typer(
    no_args_is_help=True,
    help="The door at home: take clips in, sign releases, hand them out.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8787,
    url_file: Annotated[
        Path | None, typer.Option(help="Write the address here once the door is open.")
    ] = None,
) -> None:
    """Open the door: cars send clips here and fetch campaigns and releases. Ctrl-C closes it.

    Clips land in ROADLOOP_HOME/fleet/landing, where `roadloop datalake ingest` finds them.
    """
    from fleet import gateway
    from vehicle.contracts.home import Home

    gateway.serve(Home.here(), host, port, url_file)


@app.command()
def enrol(
    car: Annotated[str, typer.Argument(help="Name of the car, e.g. car-1.")],
    rig: Annotated[
        str, typer.Option(help="Its cameras: a rig or bundle JSON file, or a rig digest.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="Write the token here, readable by you alone.")
    ] = None,
    renew: Annotated[bool, typer.Option(help="Replace the token of a known car.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a car into the fleet and give it its token, shown this once.

    Without --rig the car has the cameras that the shipped base network was made for.
    """
    import os

    from fleet.registry import Registry
    from vehicle.contracts.home import Home

    rig_digest = _rig_digest(rig)
    token = Registry(Home.here()).enrol(car, rig_digest, renew=renew)
    if token_file is not None:
        token_file.parent.mkdir(parents=True, exist_ok=True)
        token_file.unlink(missing_ok=True)
        handle = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
    if as_json:
        shown = {"token_file": str(token_file)} if token_file else {"token": token}
        print(json.dumps({"car": car, "rig_digest": rig_digest, **shown}))
    elif token_file is not None:
        print(f"{car} is enrolled; its token is in {token_file}")
    else:
        print(f"{car} is enrolled. Its token, shown this once:\n{token}")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show the cars of the fleet, and the clips each has sent."""
    from fleet.landing import Landing, Uploads
    from fleet.registry import Registry
    from vehicle.contracts.home import Home

    home = Home.here()
    rows = {
        car: {"clips": 0, "events": 0, "bytes": 0, "pending_bytes": 0}
        for car in Registry(home).cars()
    }
    for _, clip in Landing(home).clips():
        row = rows.setdefault(clip.car_id, {"clips": 0, "events": 0, "bytes": 0})
        row["clips"] += 1
        row["events"] += len(clip.events)
        row["bytes"] += sum(entry.size_bytes for entry in clip.files)
    for car, row in rows.items():
        row["pending_bytes"] = Uploads(home, car).pending_bytes()
    if as_json:
        print(json.dumps({"home": str(home.root), "cars": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("car", "clips", "events", "bytes", "still coming in", title=str(home.root))
    for car, row in sorted(rows.items()):
        table.add_row(car, *(f"{row[k]:,}" for k in ("clips", "events", "bytes", "pending_bytes")))
    Console().print(table)


@app.command()
def keys(
    rotate: Annotated[
        str, typer.Option(help="Give this role new keys: root, targets, snapshot or timestamp.")
    ] = "",
    renew: Annotated[
        bool, typer.Option(help="Sign everything anew, so that nothing expires soon.")
    ] = False,
    root_out: Annotated[
        Path | None, typer.Option(help="Write the root here: what a car is given to trust.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the signing keys once, then show, rotate or renew them.

    Private keys stay in ROADLOOP_HOME/fleet/keys, readable by you alone. Cars trust the root they
    were given and whatever its keys sign after it. A car refuses to install when the timestamp is
    older than a week: run --renew on an idle fleet.
    """
    from fleet.sign import POLICY, Repository
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    repository = Repository(Home.here())
    if not repository.exists:
        repository.create()
    if rotate:
        repository.rotate(rotate)
    if renew:
        repository.renew()
    if root_out is not None:
        wire.atomic_write(root_out.absolute(), repository.root_bytes())
    ids, ends = repository.key_ids(), repository.expiries()
    rows = {
        role: {
            "threshold": policy.threshold,
            "keys": [keyid[:12] for keyid in ids[role]],
            "expires": ends[role].isoformat(),
        }
        for role, policy in POLICY.items()
    }
    if as_json:
        print(json.dumps({"repository": str(repository.folder), "roles": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("role", "must sign", "keys", "good until", title=str(repository.folder))
    for role, policy in POLICY.items():
        table.add_row(
            role,
            f"{policy.threshold} of {policy.keys}",
            " ".join(keyid[:12] for keyid in ids[role]),
            f"{ends[role]:%Y-%m-%d %H:%M} UTC",
        )
    Console().print(table)


@app.command()
def publish(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, from `roadloop training export`.")],
    report: Annotated[
        list[Path], typer.Option(help="Evaluation report of this bundle; may be repeated.")
    ],
    before: Annotated[
        list[Path] | None,
        typer.Option(help="Report of what the cars run now, on the same data; may be repeated."),
    ] = None,
    must_rise: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric this release must improve; 'recall/car@tag.light=night' looks only at "
            "reports on such data. May be repeated."
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of gate rules; default: no share falls by 0.03.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a bundle before the release gate and, if it passes, sign it for the cars.

    The gate reads reports and the bundle's manifest, runs its golden vectors, and refuses with all
    the reasons at once. Exit code 1: refused.
    """
    from dataclasses import replace

    from fleet.release import GateRules, gate, read_report
    from fleet.sign import Repository
    from vehicle import bundles
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    repository = Repository(Home.here())
    released = repository.releases()
    base = bundles.base_folder()
    running = released[-1].bundle_digest if released else ""
    if not running and (base / bundles.MANIFEST).is_file():
        running = bundles.digest_of(base)
    asked = GateRules.from_toml(rules) if rules else GateRules()
    more = tuple(_must_rise(text) for text in must_rise or [])
    release = gate(
        bundle,
        [read_report(path) for path in report],
        [read_report(path) for path in before or []],
        release_counter=repository.next_counter(),
        rules=replace(asked, rise=asked.rise + more),
        running_digest=running or None,
    )
    archive = repository.publish(bundle, release)
    if as_json:
        print(json.dumps({"release": wire.to_plain(release), "archive": str(archive)}))
    else:
        size = release.archive.size_bytes
        print(f"release {release.release_counter}: {release.bundle}, {size:,} bytes, {archive}")


@app.command()
def releases(as_json: JsonOption = False) -> None:
    """Show what was released, oldest first; cars install the last one that fits their cameras."""
    from fleet.sign import Repository
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    found = Repository(Home.here()).releases()
    if as_json:
        print(json.dumps({"releases": wire.to_plain(found)}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("release", "bundle", "bundle digest", "rig", "bytes", "reports")
    for release in found:
        table.add_row(
            str(release.release_counter),
            release.bundle,
            release.bundle_digest[:12],
            release.rig_digest[:12],
            f"{release.archive.size_bytes:,}",
            str(len(release.report_digests)),
        )
    Console().print(table)


def _must_rise(text: str) -> "MustRise":
    """Return the rule `METRIC` or `METRIC@KEY=VALUE` names."""
    from fleet.release import MustRise

    metric, _, where = text.partition("@")
    key, sign, value = where.partition("=")
    if where and not (sign and key):
        raise typer.BadParameter(f"{where!r} is not KEY=VALUE", param_hint="--must-rise")
    return MustRise(metric=metric, where={key: value} if where else {})


def _rig_digest(rig: str) -> str:
    """Return the digest that `rig` is, or that of the cameras in the file it names."""
    from importlib.resources import files

    from vehicle.contracts import wire
    from vehicle.contracts.bundle import ModelBundle
    from vehicle.contracts.frame import Rig
    from vehicle.contracts.wire import SchemaError

    if len(rig) == 64 and set(rig) <= set("0123456789abcdef"):
        return rig
    source = Path(rig) if rig else files("vehicle") / "base" / "bundle.json"
    if not source.is_file():
        raise typer.BadParameter(f"{source} is no file and no digest", param_hint="--rig")
    raw = source.read_bytes()
    try:
        return wire.from_bytes(ModelBundle, raw).rig.digest
    except SchemaError:
        return wire.from_bytes(Rig, raw).digest
