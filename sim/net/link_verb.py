"""The verb `roadloop sim link`: a link to try things over."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sim.net.links import Link


def link(
    to: Annotated[
        str, typer.Option(help="HOST:PORT of the far end; without it the profiles are listed.")
    ] = "",
    profile: Annotated[
        str, typer.Option(help="cabinet, 5g-sa, lte, wifi-depot, leo-dense or leo-sparse.")
    ] = "lte",
    port: Annotated[int, typer.Option(help="Port of the near end; 0 takes a free one.")] = 0,
    udp: Annotated[
        bool, typer.Option("--udp", help="Datagrams, which are lost, in place of TCP.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same bursts and jitter.")] = 0,
    age: Annotated[
        float, typer.Option(help="Age of the link when it opens, s: where in outages and epochs.")
    ] = 0.0,
    cut_after: Annotated[float, typer.Option(help="Cut it after so many seconds; 0: never.")] = 0.0,
    cut_for: Annotated[float, typer.Option(help="Mend it so many seconds later.")] = 5.0,
    seconds: Annotated[float, typer.Option(help="Close it after; 0: Ctrl-C does.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put a car's link in front of any server: slow, shaky, lossy, out, satellite or depot.

    Connect to the near end instead of the server. Real sockets, no root. For example
    `roadloop sim link --profile lte --to 127.0.0.1:8802 --port 9000`. At the end it says what it
    carried and lost.
    """
    import json

    from sim.net.link_profiles import PROFILES
    from sim.net.links import Link
    from vehicle.contracts import wire

    if not to:
        if as_json:
            print(json.dumps(wire.to_plain(PROFILES)))
        else:
            _list()
        return
    host, _, far = to.rpartition(":")
    if not host or not far.isdigit():
        raise typer.BadParameter(f"{to!r} is not HOST:PORT", param_hint="--to")
    kind = "udp" if udp else "tcp"
    opened = Link(profile, (host, int(far)), kind=kind, seed=seed, port=port, start_s=age)
    with opened as made:
        if not as_json:
            print(f"{profile} to {to}: connect to {made.address} (ctrl-C closes it)", flush=True)
        _wait(made, seconds, cut_after, cut_for, quiet=as_json)
        stats = made.stats()
    _tell(stats, made.scheduling, as_json=as_json)


def _wait(made: "Link", seconds: float, cut_after: float, cut_for: float, *, quiet: bool) -> None:
    """Let the link live, cutting and mending it on the way."""
    import time
    from contextlib import suppress

    acts = [(cut_after, made.cut, "cut"), (cut_after + cut_for, made.mend, "mended")]
    acts = [act for act in acts if cut_after and not 0 < seconds < act[0]]
    begin_s = time.monotonic()
    with suppress(KeyboardInterrupt):
        for at_s, act, word in acts:
            time.sleep(max(begin_s + at_s - time.monotonic(), 0.0))
            act()
            if not quiet:
                print(f"{at_s:g} s: {word}", flush=True)
        while not seconds or time.monotonic() < begin_s + seconds:
            time.sleep(min(0.2, max(begin_s + seconds - time.monotonic(), 0.0)) or 0.2)


def _tell(stats: dict[str, Any], scheduling: str, *, as_json: bool) -> None:
    import json

    from vehicle.contracts.bench import percentiles

    late = percentiles([1e3 * s for s in stats.pop("late_s")])
    if as_json:
        print(json.dumps({**stats, "late_ms": late, "class": scheduling}))
        return
    for way in ("up", "down"):
        facts = stats[way]
        lost = facts["lost_burst"] + facts["lost_queue"] + facts["lost_out"]
        print(f"{way}: {facts['packets']:,} packets, {facts['size_bytes']:,} bytes, {lost} lost")
    print(f"sent again by TCP: {stats['repaired']}; releases late by {late} ms ({scheduling})")


def _list() -> None:
    """Print every profile with its figures and where they are from."""
    from rich.console import Console
    from rich.table import Table

    from sim.net.link_profiles import PROFILES, Way

    def words(way: Way) -> str:
        rate = f"{way.rate_bps * 1e-6:g} Mbit/s" if way.rate_bps else "no limit"
        lost = f", {way.loss.ratio:.1%} lost" if way.loss else ""
        return f"{way.delay_s * 1e3:g} ± {way.jitter_s * 1e3:g} ms\n{rate}{lost}"

    table = Table("link", "up", "down", "from", show_lines=True)
    for name, profile in PROFILES.items():
        note = f"assumed: {profile.source}" if profile.assumed else profile.source
        table.add_row(name, words(profile.up), words(profile.down), note)
    Console().print(table)
