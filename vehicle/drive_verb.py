"""What `roadloop vehicle drive` does: run the loop as a process, show how all parts are, sum up.

The loop's process never writes to a terminal: who shows its health is another process, this one.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from vehicle import bundles
from vehicle.asking import split
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError
from vehicle.slots import Slots
from vehicle.supervisor import HEALTH, spawn

SHOW_NS: Final = 1_000_000_000


class DriveFailedError(RefusedError):
    """The process of the frame loop ended without a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveRequest:
    """The options of the command; all that the loop's process is told.

    Args:
        source: a route file, or what the process of `module` makes of it.
        folder: of the car.
        bundle: what drives.
        shadow: a candidate, "" for none.
        gateway: address of home, "" for none.
        offboard: address of a site that is asked for advice, "" for none.
        rate_hz: 0 as the source says.
        seconds: 0 once through the source.
        campaign: TOML or JSON, "" for those the car holds (`roadloop vehicle campaigns`).
        report: where the loop's process writes its RoadReport.
        parent: process id of who shows the health; the drive ends after it.
    """

    SCHEMA: ClassVar[str] = "driverequest/1"
    source: str
    folder: str
    car_id: str
    bundle: str
    shadow: str = ""
    gateway: str = ""
    offboard: str = ""
    campaign: str = ""
    rate_hz: float = 0.0
    seconds: float = 0.0
    real_time: bool = True
    adapt: bool = True
    report: str = ""
    parent: int | None = None


def request_for(
    *,
    source: str,
    car: str,
    bundle: Path | None,
    shadow: Path | None,
    gateway: str,
    offboard: str = "",
    campaign: Path | None,
    rate_hz: float | None,
    seconds: float | None,
    real_time: bool,
    adapt: bool,
) -> DriveRequest:
    """Return the request of the command line, what is wrong with it refused before anything runs.

    Raises:
        All errors of `bundles.load`, for the driving and for the candidate bundle; ContractError.
    """
    folder = Home.here().car(car)
    driving = bundle or Path(Slots(folder / "slots", bundles.base_folder()).active().folder)
    for each in (driving, shadow):
        if each is not None:
            bundles.load(each)
    if offboard:
        split(offboard)
    for name, value in (("rate", rate_hz), ("seconds", seconds)):
        wire.require(value is None or value > 0.0, f"--{name} is {value}, expected above 0")
    return DriveRequest(
        source=source,
        folder=str(folder.absolute()),
        car_id=car,
        bundle=str(driving.absolute()),
        shadow=str(shadow.absolute()) if shadow else "",
        gateway=gateway,
        offboard=offboard,
        campaign=str(campaign.absolute()) if campaign else "",
        rate_hz=rate_hz or 0.0,
        seconds=seconds or 0.0,
        real_time=real_time,
        adapt=adapt,
        report=str(folder.absolute() / "drive.json"),
        parent=os.getpid(),
    )


def run(
    request: DriveRequest, show: Callable[[Mapping[str, Any]], None], module: str = "vehicle.road"
) -> dict[str, Any]:
    """Run the loop in a process of its own until it ends; return its report as plain facts.

    Ctrl-C ends the drive in order: the clip that is open is completed first.

    Args:
        request: of the loop's process.
        show: told of the parts' health once a second.
        module: what runs the loop; a simulator brings its own.
    Raises:
        DriveFailedError: the process ended without a report; its words are above.
    """
    report, folder = Path(request.report), Path(request.folder)
    for old in (report, folder / HEALTH):
        old.unlink(missing_ok=True)
    clock, asked = SystemClock(), False
    child = spawn(module, wire.to_bytes(request), apart=True)
    shown_ns = clock.mono_ns()
    while child.poll() is None:
        try:
            clock.sleep_until(clock.mono_ns() + 50_000_000)
            if clock.mono_ns() - shown_ns >= SHOW_NS:
                shown_ns = clock.mono_ns()
                show(last_health(folder))
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            child.send_signal(signal.SIGINT)
    if not report.is_file():
        raise DriveFailedError(
            f"the drive ended with code {child.returncode} and no report; its words are above"
        )
    return dict(json.loads(report.read_bytes()))


def last_health(folder: Path) -> dict[str, Any]:
    """Return the parts' health as the supervisor last wrote it for a car, {} when it never did."""
    try:
        return dict(json.loads((folder / HEALTH).read_bytes()).get("parts", {}))
    except (OSError, ValueError):
        return {}


def health_line(parts: Mapping[str, Any]) -> str:
    """Return the health of all parts in one line, as a person reads it."""

    def counted(name: str, *wanted: str) -> str:
        counters = parts.get(name, {}).get("counters", {})
        return ", ".join(f"{counters[w]:,} {w.replace('_', ' ')}" for w in wanted if w in counters)

    shown = [
        ("loop", counted("drive", "ticks", "missed", "frames_lost")),
        ("recorder", counted("recorder", "clips", "lost_frames", "evicted", "backlog_frames")),
        ("shadow", counted("shadow", "frames", "skipped")),
        ("uplink", counted("uplink", "sent", "left")),
        ("offboard", counted("offboard", "asked", "answered", "late")),
    ]
    words = [f"{name} {text}" for name, text in shown if text]
    for name, part in parts.items():
        restarts = part.get("counters", {}).get("restarts", 0)
        if restarts:
            words.append(f"{name} started again {restarts} x")
        if not part.get("ok", True):
            words.append(f"{name}: {part.get('detail', 'not well')}")
    return " | ".join(words) or "starting"


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report as a person reads it."""

    def counts(of: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {n:,}" for name, n in of.items() if n) or "none"

    took = report["tick_ms"]
    cells = ", ".join(f"{k} {took[k]:.2f}" for k in ("p50", "p99", "p99.9", "max") if k in took)
    out = [
        f"{report['car_id']} drove {report['ticks']:,} ticks in {report['seconds']:.1f} s"
        + (", stopped" if report["stopped"] else ""),
        f"punctuality  {report['punctuality']}",
        f"engine       {report['engine']}",
        f"tick, ms     {cells or 'too few ticks'}",
        f"late         {report['missed']} missed, {report['cancelled']} cancelled, "
        f"{report['unanswered']} unanswered, {report['frames_lost']} frames lost by the source",
        f"stolen       {report['stolen_ms']:.0f} ms by the host, {report['missed_stolen']} of the "
        "missed meanwhile",
        f"rungs        {counts(report['rungs'])}",
        f"events       {counts(report['events'])}",
    ]
    for row in report["worst"][:3]:
        went = ", ".join(f"{k} {us / 1e3:.2f}" for k, us in row.items() if k != "frame_id")
        out.append(f"worst, ms     frame {row['frame_id']}: {went}".replace("total_us", "total"))
    for name, part in report["parts"].items():
        shown = {k: n for k, n in part["counters"].items() if k not in ("pid", "alive", "frame_id")}
        state = "" if part["ok"] else f": {part['detail']}"
        out.append(f"{name:12} {counts(shown)}{state}")
    return out


def run_and_print(request: DriveRequest, *, as_json: bool, module: str = "vehicle.road") -> None:
    """Run, with a line of health a second on stderr and the report on stdout.

    Raises:
        DriveFailedError: as `run`.
    """

    def show(parts: Mapping[str, Any]) -> None:
        print(health_line(parts), file=sys.stderr)

    report = run(request, show, module)
    print(json.dumps(report) if as_json else "\n".join(lines(report)))
