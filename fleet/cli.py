"""The verbs of `roadloop fleet`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.campaign_verbs import campaign_app
from fleet.inference import router_verbs
from fleet.inference.batch_verbs import batch_app
from fleet.inference.explain_verbs import explain_app
from fleet.inference.hyperscale_verbs import hyperscale_app
from fleet.inference.load_verb import load
from fleet.inference.verbs import infer_app
from fleet.orbit.verbs import orbit_app

if TYPE_CHECKING:
    from fleet.release import MustRise
    from vehicle.contracts.home import Home

app = typer.Typer(
    no_args_is_help=True,
    help="The door at home: take clips in, sign releases, hand them out.",
)

app.add_typer(campaign_app, name="campaign")
infer_app.add_typer(explain_app, name="explain")
infer_app.add_typer(hyperscale_app, name="hyperscale")
infer_app.add_typer(batch_app)
infer_app.command()(load)
router_verbs.add(infer_app)
app.add_typer(infer_app, name="infer")
app.add_typer(orbit_app, name="orbit")

STORE_HELP = (
    "Where clips land: s3://BUCKET/PREFIX (AWS_* gives keys and endpoint); default: this home."
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8787,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name or address that cars know this host by; may be repeated."),
    ] = None,
    store: Annotated[str, typer.Option(help=STORE_HELP)] = "",
    url_file: Annotated[
        Path | None, typer.Option(help="Write the address here once the door is open.")
    ] = None,
) -> None:
    """Open the door: cars send clips here and fetch campaigns and releases. Ctrl-C closes it.

    HTTPS; every car shows the certificate it was enrolled with. Clips land in
    ROADLOOP_HOME/fleet/landing or in the store, where `roadloop datalake ingest` finds them.
    """
    from fleet import serving
    from vehicle.contracts.home import Home

    serving.serve(Home.here(), host, port, url_file, names=name or [], store_url=store)


@app.command()
def enrol(
    car: Annotated[str, typer.Argument(help="Name of the car, e.g. car-1.")],
    rig: Annotated[
        str, typer.Option(help="Its cameras: a rig or bundle JSON file, or a rig digest.")
    ] = "",
    csr: Annotated[
        Path | None,
        typer.Option(help="Certificate request (PEM) of a key that stays in the car."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the identity; default ROADLOOP_HOME/cars/CAR/identity."),
    ] = None,
    renew: Annotated[
        bool, typer.Option(help="A new certificate for a known car; the old one stops at once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a car into the fleet: give it a certificate, home's own, and the campaign key.

    Without --rig the car has the cameras that the shipped base network was made for.
    """
    from datetime import UTC, datetime

    from fleet import identity
    from vehicle.contracts.home import Home
    from vehicle.contracts.uplink import IDENTITY
    from vehicle.contracts.wire import ContractError

    home, rig_digest = Home.here(), _rig_digest(rig)
    folder = out or home.car(car) / IDENTITY
    try:
        request = csr.read_bytes() if csr else None
    except OSError as error:
        raise ContractError(f"--csr {csr}: {error.strerror}") from error
    enrolled = identity.enrol(home, car, rig_digest, folder, request=request, renew=renew)
    until = datetime.fromtimestamp(enrolled.expires_utc_ns / 1e9, UTC)
    if as_json:
        facts = {"car": car, "rig_digest": rig_digest, "identity": str(folder)}
        print(json.dumps(facts | {"expires": until.isoformat()}))
    else:
        print(f"{car} is enrolled until {until:%Y-%m-%d}; its identity is in {folder}")


@app.command()
def revoke(
    car: Annotated[str, typer.Argument(help="Name of the car.")], as_json: JsonOption = False
) -> None:
    """Shut a car out at once; what it has sent stays. `enrol --renew` lets it in again."""
    from fleet.registry import Registry
    from vehicle.contracts.home import Home

    gone = Registry(Home.here()).revoke(car)
    if as_json:
        print(json.dumps({"revoked": gone.car_id}))
    else:
        print(f"{car} is shut out")


@app.command()
def request(
    clips: Annotated[list[str], typer.Argument(help="Clip ids; '-' reads them from stdin.")],
    car: Annotated[
        str, typer.Option(help="Car that has them; default: the one that told of each.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Ask cars for whole clips that they have told of, sent with the next visit.

    With '-', ids stand one a line, as `roadloop datalake sql --format csv` prints a column.
    """
    import sys

    from fleet.inbox import Summaries, Wanted
    from vehicle.contracts.home import Home

    home = Home.here()
    words = [w for c in clips for w in (sys.stdin.read().split() if c == "-" else [c])]
    ids = [w.strip('",') for w in words if w.strip('",') not in ("", "clip_id")]
    cars = {clip_id: car or Summaries(home).car_of(clip_id) for clip_id in ids}
    for clip_id, asked in cars.items():
        Wanted(home).ask(asked, clip_id)
    if as_json:
        print(json.dumps({"requested": cars}))
    else:
        print(f"asked for {len(cars)} clips of {len(set(cars.values()))} cars")


@app.command()
def status(
    store: Annotated[str, typer.Option(help=STORE_HELP)] = "", as_json: JsonOption = False
) -> None:
    """Show the cars of the fleet, and what each has sent and told of."""
    from vehicle.contracts.home import Home

    home = Home.here()
    rows = _status(home, store)
    if as_json:
        print(json.dumps({"home": str(home.root), "cars": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("clips", "events", "bytes", "pending_bytes", "summaries_waiting", "requested")
    table = Table("car", "clips", "events", "bytes", "still coming in", title=str(home.root))
    for heading in ("summaries waiting", "asked for", "certificate"):
        table.add_column(heading)
    for car, row in sorted(rows.items()):
        table.add_row(car, *(f"{row[k]:,}" for k in columns), row["certificate"])
    Console().print(table)


def _status(home: "Home", store_url: str) -> dict[str, dict[str, Any]]:
    """Return what is known of each car, by name."""
    from datetime import UTC, datetime

    from fleet.inbox import Summaries, Wanted
    from fleet.registry import Registry
    from fleet.store import open_store

    store, summaries, wanted = open_store(home, store_url), Summaries(home), Wanted(home)
    enrolled, landed = Registry(home).cars(), list(store.clips())
    ids = {clip.clip_id for clip in landed}
    rows: dict[str, dict[str, Any]] = {}
    for car in {*enrolled, *(clip.car_id for clip in landed)}:
        mine, known = [clip for clip in landed if clip.car_id == car], enrolled.get(car)
        until = datetime.fromtimestamp((known.expires_utc_ns if known else 0) / 1e9, UTC)
        rows[car] = {
            "clips": len(mine),
            "events": sum(len(clip.events) for clip in mine),
            "bytes": sum(entry.size_bytes for clip in mine for entry in clip.files),
            "pending_bytes": sum(store.pending(car).values()),
            "summaries_waiting": len(set(summaries.of(car)) - ids),
            "requested": len(wanted.of(car)),
            "certificate": "none"
            if known is None
            else "revoked"
            if known.revoked
            else f"until {until:%Y-%m-%d}",
        }
    return rows


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
