"""What a car says to home by hand: `roadloop vehicle uplink`, `roadloop vehicle campaigns`."""

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """Kinds of link; each has a policy of its own (docs/reference/sending-home.md)."""

    wifi = "wifi"
    cellular = "cellular"
    orbital = "orbital"


def uplink(
    car: Annotated[str, typer.Argument(help="Name of the car, as enrolled.")],
    gateway: Annotated[
        str, typer.Option(help="Address of `roadloop fleet serve`.")
    ] = "https://127.0.0.1:8787",
    link: Annotated[
        Kind,
        typer.Option(
            help="wifi carries everything; cellular summaries, clips of priority 5 or more and "
            "what home asked for; orbital summaries and clips of a few kilobytes."
        ),
    ] = Kind.wifi,
    metered: Annotated[
        bool, typer.Option(help="Every byte is paid for: summaries only, whatever the link.")
    ] = False,
    parked: Annotated[
        bool, typer.Option("--parked/--moving", help="A long clip waits until the car is parked.")
    ] = True,
    day_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Bytes of clips in 24 hours on this link; default: its policy's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send what a car recorded home, from where the last run was cut off.

    First a summary of every clip, a few kilobytes, so that home can ask for the clip; then the
    clips that link, campaign and budgets allow. A clip leaves the car only after home confirmed
    it. What stays says what it waits for; exit code 1 when something is wrong with it. The inbox
    is fetched on the way: campaigns for this car are checked and kept (`roadloop vehicle
    campaigns CAR`). The car's folder is ROADLOOP_HOME/cars/CAR.
    """
    import json

    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home
    from vehicle.uplink import Uplink
    from vehicle.uplink_policy import Link

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    quiet = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("uplink", total=None)

        def told(clip_id: str, done: int, total: int) -> None:
            bar.update(task, description=clip_id[:12], completed=done, total=total)

        with Uplink(
            car_folder=Home.here().car(car),
            gateway_url=gateway,
            clock=SystemClock(),
            link=Link(kind=link.value, metered=metered, parked=parked, day_bytes=day_bytes),
            told=told,
        ) as home:
            report = home.send_all()
    if as_json:
        print(json.dumps(wire.to_plain(report)))
    else:
        print(
            f"{len(report.sent)} clips sent, {report.sent_bytes:,} bytes, "
            f"{len(report.told)} summaries"
        )
        for name in report.campaigns.new:
            print(f"new campaign: {name}")
        for name in report.campaigns.withdrawn:
            print(f"withdrawn campaign: {name}")
        for campaign in report.campaigns.refused:
            print(f"refused campaign: {campaign.campaign_id}: {campaign.reason}")
        for clip in report.left:
            print(f"left: {clip.clip_id[:12]}: {clip.reason}")
        if report.error:
            print(f"ended early: {report.error}")
    if report.refused:
        raise typer.Exit(1)


def campaigns(
    car: Annotated[str, typer.Argument(help="Name of the car.")],
    jurisdiction: Annotated[
        str, typer.Option(help="Where it drives, ISO 3166, ZZ in simulation; default: anywhere.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the campaigns a car drives with, and why others that it holds are refused.

    They are checked as at the start of a drive: signed by a key of the fleet, not expired, for
    this car, no older than one it has held. Without any the car drives with the default one.
    """
    import json

    from vehicle.campaigns import HeldCampaigns
    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
    from vehicle.contracts.home import Home

    held = HeldCampaigns(Home.here().car(car), car, SystemClock())
    found, refused = held.held(jurisdiction or None)
    drives = found or [DEFAULT_CAMPAIGN]
    if as_json:
        shown = {"drives_with": wire.to_plain(drives), "refused": wire.to_plain(refused)}
        print(json.dumps({"car": car, **shown}))
        return
    for campaign in drives:
        triggers = ", ".join(t.name for t in campaign.triggers)
        print(
            f"{campaign.campaign_id} version {campaign.version}, priority {campaign.priority}, "
            f"full clips {campaign.full.replace('_', ' ')}: {triggers}"
        )
    for each in refused:
        print(f"refused: {each.campaign_id}: {each.reason}")
