"""The car's verbs: `roadloop replay`, `roadloop import`, `roadloop vehicle ...`."""

from pathlib import Path
from typing import Annotated

import typer

from vehicle.bookmark_verb import bookmark
from vehicle.clip_verb import clip
from vehicle.drive_options import (
    BundleOption,
    GatewayOption,
    OffboardOption,
    RealTimeOption,
    ShadowOption,
)
from vehicle.uplink_verb import campaigns, uplink
from vehicle.wrap_verb import wrap

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """What runs in the car: drive, install, send."""


def replay(
    route: Annotated[Path, typer.Argument(help="A route file or clip, *.mcap.")],
    speed: Annotated[
        str, typer.Option(help="max, or a factor of real time: 1.0 drives as the car would.")
    ] = "max",
    bundle: Annotated[
        Path | None,
        typer.Option(help="Network to see with; default: what --car drives with, else the base."),
    ] = None,
    car: Annotated[
        str, typer.Option(help="Whose drive this is; default: what the route says.")
    ] = "",
    adapt: Annotated[
        bool, typer.Option("--adapt/--strict", help="See through other cameras, or refuse them.")
    ] = True,
    campaign: Annotated[
        Path | None,
        typer.Option(help="What to look out for: TOML or JSON; default: as --car holds."),
    ] = None,
    record_clips: Annotated[
        bool, typer.Option("--record-clips", help="Events become clips in the car's outbox.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write what was seen and planned at --frame, *.png.")
    ] = None,
    frame: Annotated[int, typer.Option(help="Which frame --picture shows, from 0.")] = 0,
    against: Annotated[
        Path | None,
        typer.Option(help="Drive with this older network as well, and say what differs."),
    ] = None,
    strip: Annotated[
        Path | None, typer.Option(help="With --against: the worst ticks side by side, *.png.")
    ] = None,
    worst: Annotated[int, typer.Option(help="With --against: how many of the worst ticks.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a route file through the same loop as the car's.

    At speed max nothing waits and nothing is cut off: the same route gives the same plan digest on
    every run. At a factor like 1.0 frames come on schedule and late inference is cancelled, as on
    the road. A route without cameras, guidance or ego motion drives the parts it can and says
    which. With --against two networks see every frame and are compared tick by tick.
    """
    import json

    from rich.progress import Progress

    from vehicle import replay_diff
    from vehicle.contracts import wire
    from vehicle.replay_verb import ReplayRequest, lines, run, run_against

    request = ReplayRequest(
        route=route,
        speed=speed,
        bundle=bundle,
        car=car,
        adapt=adapt,
        campaign=campaign,
        record_clips=record_clips,
        picture=picture,
        picture_frame=frame,
        against=against,
        strip=strip,
        worst=worst,
    )
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task(f"replay {route.name}", total=None)

        def told(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        if against is not None:
            diff = run_against(request, told).diff
        else:
            report, health = run(request, told)
    if against is not None:
        print(json.dumps(wire.to_plain(diff)) if as_json else "\n".join(replay_diff.lines(diff)))
    elif as_json:
        recorder = None if health is None else wire.to_plain(health)
        print(json.dumps({**wire.to_plain(report), "recorder": recorder}))
    else:
        print("\n".join(lines(report, health)))


def import_(
    kind: Annotated[
        str, typer.Argument(help="comma2k19, boreas, kitti, nuscenes or video; see below.")
    ],
    path: Annotated[Path, typer.Argument(help="The log: a folder, or a file for video.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The route file to write, *.mcap.")],
    hfov_deg: Annotated[
        float | None,
        typer.Option(help="Horizontal field of view of a plain video, degrees; video needs it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn somebody else's drive log into a route file that replays through the car's own loop.

    \b
    KIND and what PATH holds:
      comma2k19  a segment folder: processed_log/CAN/speed/{t,value} and
                 global_pose/{frame_times,frame_positions,frame_orientations};
                 processed_log/{IMU,GNSS} and video.hevc where present
      boreas     a folder with camera_poses.csv or lidar_poses.csv
      kitti      an odometry sequence: image_l/ and image_r/ (or image_2/ and
                 image_3/, or image_0/ and image_1/), calib.txt;
                 poses.txt and times.txt where known
      nuscenes   a scene folder: tracks.parquet, map.parquet, meta.json
      video      one file that FFmpeg reads, with --hfov-deg

    Where the path the driver took is known it becomes the route's guidance. Nothing is written
    unless the whole log reads. docs/how-to/get-real-logs.md says where such logs come from.
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from vehicle.contracts import wire
    from vehicle.importers.kinds import import_log

    console = Console(stderr=True)
    quiet = as_json or not console.is_terminal
    with Progress(console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(f"import {kind}", total=None)
        report = import_log(
            kind,
            path,
            out,
            hfov_deg=hfov_deg,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(wire.to_plain(report)))
    else:
        cameras = ", ".join(report.cameras) or "none"
        print(
            f"{report.route}: {report.ticks:,} ticks, {report.seconds:.1f} s at "
            f"{report.rate_hz:g} Hz, cameras: {cameras}, {report.size_bytes:,} bytes"
        )


@app.command()
def install(
    car: Annotated[str, typer.Argument(help="Name of the car, as enrolled.")],
    gateway: Annotated[
        str, typer.Option(help="Address of `roadloop fleet serve`.")
    ] = "https://127.0.0.1:8787",
    parcel: Annotated[
        Path | None,
        typer.Option(
            help="Install from this tar instead; `roadloop fleet orbit parcel` makes it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Root the car shall trust, from `roadloop fleet keys --root-out`; once.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    rig: Annotated[
        str, typer.Option(help="Rig digest of the car; default: the shipped network's cameras.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Install the newest signed release into a car, or say why not (exit code 1).

    Signatures, freshness, release counter, cameras, every file's digest and the golden vectors are
    checked before one atomic write makes the new network the one that drives. Whatever fails, the
    network that drives now stays.
    """
    import json

    from vehicle.config import RIG_R
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home
    from vehicle.installer import Installer, pin_root, pinned_root
    from vehicle.parcel_link import PARCEL_URL, ParcelLink

    folder = Home.here().car(car)
    if root is not None:
        pin_root(folder, root.read_bytes())
    installer = Installer(
        car_folder=folder,
        rig_digest=rig or RIG_R.digest,
        trusted_root=pinned_root(folder),
        link=ParcelLink.of(parcel.read_bytes()) if parcel else None,
    )
    result = installer.update(PARCEL_URL if parcel else gateway)
    if as_json:
        print(json.dumps({**wire.to_plain(result), "folder": str(result.folder)}))
    elif result.release is None:
        print(f"{car}: nothing is released; it drives {result.folder}")
    else:
        tag, counter = result.release.bundle, result.release.release_counter
        done = "installed" if result.status == "installed" else "has the newest already:"
        print(f"{car} {done} {tag} (release {counter}), {result.folder}")


@app.command()
def drive(
    route: Annotated[Path, typer.Argument(help="A route file, *.mcap, to drive on as if live.")],
    car: Annotated[
        str, typer.Option(help="Whose drive this is; its folder is ROADLOOP_HOME.")
    ] = "car-1",
    bundle: BundleOption = None,
    shadow: ShadowOption = None,
    gateway: GatewayOption = "",
    offboard: OffboardOption = "",
    campaign: Annotated[
        Path | None,
        typer.Option(help="What to look out for, TOML or JSON; default: as home signed."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Frames per second; default: the route's own.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long, beginning again at the end; default: once.")
    ] = None,
    real_time: RealTimeOption = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the whole car on a route's frames, on schedule: loop, recorder, shadow, uplink, advice.

    Each is a process; a supervisor starts the dead ones again while the loop drives on. Once a
    second the health of all is shown, and kept in health.json of the car's folder. Clips go into
    its outbox, what the shadow finds into shadow.jsonl. Ctrl-C ends the drive in order.
    docs/how-to/run-the-car.md
    """
    from vehicle import drive_verb

    request = drive_verb.request_for(
        source=str(route.absolute()),
        car=car,
        bundle=bundle,
        shadow=shadow,
        gateway=gateway,
        offboard=offboard,
        campaign=campaign,
        rate_hz=rate,
        seconds=seconds,
        real_time=real_time,
        adapt=True,
    )
    drive_verb.run_and_print(request, as_json=as_json)


@app.command()
def status(
    car: Annotated[str, typer.Argument(help="Name of the car.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which network a car drives with, what its installer did last, how its parts are.

    The parts' health is that of the drive that runs now, or of the last one.
    """
    import json

    from vehicle import bundles
    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home
    from vehicle.drive_verb import health_line, last_health
    from vehicle.slots import InstallLog, Slots

    folder = Home.here().car(car)
    parts = last_health(folder)
    active = Slots(folder / "slots", bundles.base_folder()).active()
    last = list(InstallLog(folder / "install.jsonl", SystemClock()).lines())[-5:]
    if as_json:
        shown = {**wire.to_plain(active), "folder": str(active.folder), "log": last}
        print(json.dumps({**shown, "parts": parts}))
        return
    release = active.release
    tag = f"{release.bundle} (release {release.release_counter})" if release else "the base bundle"
    print(f"{car} drives {tag}: {active.folder}")
    if active.reason:
        print(f"not what was committed: {active.reason}")
    for line in last:
        facts = ", ".join(f"{k} {v}" for k, v in line.items() if k not in ("utc_ns", "event"))
        print(f"  {line['event']}: {facts}")
    if parts:
        print(f"parts: {health_line(parts)}")


app.command()(bookmark)
app.command()(wrap)
app.command()(uplink)
app.command()(campaigns)
app.command()(clip)
