"""What `roadloop replay` does: choose the network, attach the recorder, show what happened."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vehicle import bundles
from vehicle.campaigns import HeldCampaigns
from vehicle.clock import SystemClock
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.campaign_file import read
from vehicle.contracts.frame import Observation
from vehicle.contracts.home import Home
from vehicle.contracts.telemetry import Health
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.recorder import Recorder
from vehicle.replay import ReplayReport, ReplaySpeedError, Speed, replay
from vehicle.replay_against import Comparison, compare
from vehicle.replay_against import save as save_strip
from vehicle.slots import Slots
from vehicle.sources import RouteSource

STAGES: Final = ("preprocess", "inference", "track", "plan", "control", "trigger", "publish")


class NoCarError(RefusedError):
    """Clips were asked for, and nobody says whose they are."""


class OptionsClashError(RefusedError):
    """Options of the command were given that cannot be had together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """The options of the command, as typed."""

    route: Path
    speed: str = "max"
    bundle: Path | None = None
    car: str = ""
    adapt: bool = True
    campaign: Path | None = None
    record_clips: bool = False
    picture: Path | None = None
    picture_frame: int = 0
    against: Path | None = None
    strip: Path | None = None
    worst: int = 6


def parse_speed(text: str) -> Speed:
    """Return "max" or the factor.

    Raises:
        ReplaySpeedError: neither.
    """
    if text == "max":
        return "max"
    try:
        return float(text)
    except ValueError:
        raise ReplaySpeedError(f"speed is {text!r}, expected max or a factor like 1.0") from None


def run(
    request: ReplayRequest, progress: Callable[[int, int | None], None]
) -> tuple[ReplayReport, Health | None]:
    """Replay as asked; return the report and, where clips were recorded, the recorder's health.

    Args:
        request: the options.
        progress: told ticks done and, where the route says so, of how many.
    Raises:
        NoCarError, PictureFrameError, OptionsClashError, and all errors of `replay` and Recorder.
    """
    if request.strip is not None:
        raise OptionsClashError("--strip shows two bundles side by side: name the other, --against")
    speed = parse_speed(request.speed)
    source = RouteSource(request.route)
    car = request.car or source.metadata.get("car_id", "")
    bundle = request.bundle or _network_of(request.car)
    campaigns = _campaigns_of(request, source.metadata)
    with ExitStack() as stack:
        recorder = None
        if request.record_clips:
            recorder = stack.enter_context(
                _recorder(source, car, bundle, campaigns, lossless=speed == "max")
            )
        total = _ticks(source.metadata)
        artist = _Artist(request, source)

        def told(obs: Observation, tick: Tick) -> None:
            progress(tick.frame_id + 1, total)
            artist.see(obs, tick)

        report = replay(
            request.route,
            bundle=bundle,
            speed=speed,
            campaigns=campaigns,
            sinks=() if recorder is None else (recorder,),
            adapt=request.adapt,
            on_tick=told,
        )
        health = None if recorder is None else recorder.close()
    artist.finish()
    return report, health


def run_against(request: ReplayRequest, progress: Callable[[int, int | None], None]) -> Comparison:
    """Drive with two bundles and compare; draw the worst ticks where asked to.

    Raises:
        OptionsClashError: an option that belongs to a single drive; and all errors of `compare`.
    """
    assert request.against is not None
    for given, name in (
        (parse_speed(request.speed) != "max", "--speed"),
        (request.record_clips, "--record-clips"),
        (request.picture is not None, "--picture"),
    ):
        if given:
            raise OptionsClashError(f"{name} goes with one bundle, --against with two: leave one")
    comparison = compare(
        request.route,
        bundle=request.bundle or _network_of(request.car),
        against=request.against,
        campaigns=_campaigns_of(request, RouteSource(request.route).metadata),
        adapt=request.adapt,
        keep=max(0, request.worst),
        progress=progress,
    )
    if request.strip is not None:
        save_strip(request.strip, comparison)
    return comparison


class PictureFrameError(RefusedError):
    """The route has no such frame to draw, or no camera to draw it from."""


class _Artist:
    """Draws one frame when it comes by."""

    def __init__(self, request: ReplayRequest, source: RouteSource) -> None:
        self._out, self._frame, self._rig = request.picture, request.picture_frame, source.rig
        self._done = self._out is None

    def see(self, obs: Observation, tick: Tick) -> None:
        if self._out is None or self._done or tick.frame_id != self._frame:
            return
        from vehicle import picture

        picture.save(self._out, obs, tick, self._rig)
        self._done = True

    def finish(self) -> None:
        if not self._done:
            raise PictureFrameError(f"no frame {self._frame} in the route: --frame counts from 0")


def _network_of(car: str) -> Path:
    """Return the network a named car drives with, the shipped one for nobody's."""
    base = bundles.base_folder()
    if not car:
        return base
    return Path(Slots(Home.here().car(car) / "slots", base).active().folder)


def _campaigns_of(request: ReplayRequest, about: Mapping[str, str]) -> tuple[Campaign, ...]:
    """Return the campaign of a file, else those that a named car drives with, else the default."""
    if request.campaign is not None:
        return (read(request.campaign),)
    if not request.car:
        return (DEFAULT_CAMPAIGN,)
    held = HeldCampaigns(Home.here().car(request.car), request.car, SystemClock())
    return held.to_drive_with(about.get("jurisdiction", "ZZ"))


def _recorder(
    source: RouteSource, car: str, bundle: Path, campaigns: tuple[Campaign, ...], *, lossless: bool
) -> Recorder:
    about = source.metadata
    if not car:
        raise NoCarError("the route does not say which car it is of: name one with --car")
    has_eyes = source.rig is not None and bool(source.rig.cameras)
    tags = {k.removeprefix("tag."): v for k, v in about.items() if k.startswith("tag.")}
    return Recorder(
        outbox=Home.here().car(car) / "outbox",
        rig=source.rig,
        rate_hz=source.rate_hz,
        car_id=car,
        route_id=about.get("route_id", ""),
        model=bundles.load(bundle).tag if has_eyes else "none",
        jurisdiction=about.get("jurisdiction", "ZZ"),
        tags={"source": about.get("source", ""), **tags},
        lossless=lossless,
        campaigns=campaigns,
    )


def _ticks(about: Mapping[str, str]) -> int | None:
    text = about.get("ticks", "")
    return int(text) if text.isdigit() else None


def lines(report: ReplayReport, health: Health | None) -> list[str]:
    """Return the report as a person reads it."""

    def counts(of: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {n:,}" for name, n in of.items() if n) or "none"

    out = [
        f"{report.route}: {report.ticks:,} ticks, {report.planned:,} planned, "
        f"{report.seconds:.1f} s ({report.real_time_ratio:.1f} x real time)",
        f"plan digest   {report.plan_digest or 'no plan was made'}",
        f"rungs         {counts(report.rungs)}",
        f"events        {counts(report.triggers)}",
        f"limited by    {counts(report.limited_by)}",
    ]
    for part, state in report.parts.items():
        out.append(f"{part:13} {state}")
    if report.fault:
        out.append(f"perception    {counts(report.health)}; last fault: {report.fault}")
    out.append(f"{'stage, us':13} {'p50':>8} {'p99':>8} {'max':>8}")
    for stage in (*STAGES, "tick"):
        took = report.timing_us.get(stage)
        if took:
            cells = (f"{took[p]:8.0f}" if p in took else f"{'-':>8}" for p in ("p50", "p99", "max"))
            out.append(f"{stage:13} {' '.join(cells)}")
    if report.speed != "max":
        out.append(f"late          {report.missed} ticks missed, {report.cancelled} cancelled")
    if health is not None:
        out.append(f"recorder      {counts(health.counters)} {health.detail}".rstrip())
    return out
