"""The process of the frame loop: opens what it was told to drive on, drives, leaves a report."""

import sys
from collections.abc import Mapping
from pathlib import Path

from vehicle.campaigns import HeldCampaigns
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.campaign_file import read
from vehicle.contracts.wire import RefusedError
from vehicle.drive_verb import DriveRequest
from vehicle.onroad import RoadOptions, RoadReport, drive_on_road
from vehicle.processes import CarSetup
from vehicle.sources import RouteSource, Source


def drive_as_asked(request: DriveRequest, source: Source) -> RoadReport:
    """Drive a source as the command asks, and leave the report where it says.

    Raises:
        All errors of `drive_on_road`.
    """
    about = source.metadata
    jurisdiction = about.get("jurisdiction", "ZZ")
    tags = {k.removeprefix("tag."): v for k, v in about.items() if k.startswith("tag.")}
    setup = CarSetup(
        folder=Path(request.folder),
        rig=source.rig,
        rate_hz=source.rate_hz,
        car_id=request.car_id,
        route_id=about.get("route_id", ""),
        model="",
        jurisdiction=jurisdiction,
        tags={"source": about.get("source", ""), **tags},
        campaigns=_campaigns(request, jurisdiction),
        shadow=Path(request.shadow) if request.shadow else None,
        gateway=request.gateway or None,
        offboard=request.offboard or None,
        origin_m=_origin(about),
    )
    options = RoadOptions(
        rate_hz=request.rate_hz or None,
        seconds=request.seconds or None,
        real_time=request.real_time,
        adapt=request.adapt,
        parent=request.parent,
    )
    report = drive_on_road(source, setup, Path(request.bundle), options, told=_say)
    wire.atomic_write(Path(request.report), wire.to_bytes(report))
    return report


def _origin(about: Mapping[str, str]) -> tuple[float, float]:
    """Return where a source says that its local frame begins, in the frame of sites."""
    east, north = (float(word) for word in about.get("origin_m", "0 0").split())
    return east, north


def _campaigns(request: DriveRequest, jurisdiction: str) -> tuple[Campaign, ...]:
    """Return what the command names, else what the car holds, else the default campaign."""
    if request.campaign:
        return (read(Path(request.campaign)),)
    held = HeldCampaigns(Path(request.folder), request.car_id, SystemClock())
    for each in held.held(jurisdiction)[1]:
        _say(f"not driven with: campaign {each.campaign_id}: {each.reason}")
    return held.to_drive_with(jurisdiction)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Be the process: settings on stdin, refusals in words on stderr."""
    request = wire.from_bytes(DriveRequest, sys.stdin.buffer.read())
    try:
        drive_as_asked(request, RouteSource(Path(request.source)))
    except RefusedError as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
