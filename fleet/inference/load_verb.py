"""The verb `roadloop fleet infer load`: many questions on schedule, and what became of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from fleet.inference.client import ClientTls
    from fleet.inference.loadgen import Call, Load

GENERATORS = ("constant", "poisson", "SingleStream", "Server", "Offline")


def load(
    address: Annotated[str, typer.Argument(help="HOST:PORT of a site's gRPC door.")],
    model: Annotated[str, typer.Argument(help="Model to ask, as the site calls it.")],
    rate: Annotated[float, typer.Option(help="Questions per second.")] = 10.0,
    count: Annotated[int, typer.Option(help="Questions counted; p95 takes 133, p99 664.")] = 200,
    warm_up: Annotated[int, typer.Option(help="Questions before them, not counted.")] = 10,
    generator: Annotated[
        str,
        typer.Option(
            help="When they are asked: constant or poisson; or MLPerf's SingleStream, Server or "
            "Offline."
        ),
    ] = "constant",
    seed: Annotated[int, typer.Option(help="Of poisson gaps.")] = 0,
    inputs: Annotated[
        Path | None,
        typer.Option(help="npz file, an array per input; default: zeros of the right shapes."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="A car's identity folder; default: no certificate.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose fleet asks.")] = "fleet",
    car: Annotated[str, typer.Option(help="Which car, where no certificate says.")] = "car-1",
    deadline_ms: Annotated[int, typer.Option(help="Of each question, from its release, ms.")] = 500,
    data_class: Annotated[
        str, typer.Option(help="What it is: features, anonymised, pixels, personal.")
    ] = "features",
    jurisdiction: Annotated[str, typer.Option(help="Whose law it stands under.")] = "DE",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a site on schedule, and say how long answers took from their scheduled release.

    Questions do not wait for answers, so a site that stalls is seen to stall. What was not answered
    counts as slower than everything; a percentile stands only on samples enough. Put `roadloop sim
    link` in between to ask over a car's link. MLPerf's scenarios are for comparison: results are
    "LoadGen, unofficial". Exit code 1: nothing was answered.
    """
    import asyncio

    from rich.progress import Progress

    from fleet.inference.client import ClientTls
    from fleet.inference.loadgen import Load

    if generator not in GENERATORS:
        raise typer.BadParameter(f"{generator!r}, expected one of {', '.join(GENERATORS)}")
    poisson = generator == "poisson"
    asked = Load(
        rate_hz=rate,
        count=count,
        warm_up=warm_up,
        arrivals="poisson" if poisson else "constant",
        seed=seed,
        timeout_s=deadline_ms / 1e3 + 1.0,
    )
    tls = ClientTls.of_identity(identity) if identity else None
    request = {
        "tenant": tenant,
        "car_id": tls.common_name if tls else car,
        "lasts_ms": deadline_ms,
        "data_class": data_class,
        "jurisdiction": jurisdiction,
    }
    with Progress(disable=as_json, transient=True) as bar:
        task = bar.add_task(f"{model} at {address}", total=1.0)
        facts = asyncio.run(
            _measure(
                address,
                tls,
                model,
                inputs,
                request,
                asked,
                generator,
                lambda share: bar.update(task, completed=share),
            )
        )
    print(json.dumps(facts) if as_json else _words(facts))
    if not facts["answered"]:
        raise typer.Exit(1)


async def _measure(
    address: str,
    tls: "ClientTls | None",
    model: str,
    inputs: Path | None,
    request: dict[str, Any],
    asked: "Load",
    generator: str,
    told: Any,
) -> dict[str, Any]:
    from fleet.inference import loadgen, loadgen_mlperf
    from fleet.inference.asking import make_request
    from fleet.inference.client import AsyncClient, Client
    from fleet.inference.verbs import arrays_for
    from vehicle.clock import SystemClock

    clock = SystemClock()
    with Client(address, tls) as client:
        arrays = arrays_for(client, model, inputs)
    async with AsyncClient(address, tls) as asking:

        async def call(number: int) -> Any:
            question = make_request(clock, workload="load", **request)
            return await asking.infer(model, arrays, question, asked.timeout_s)

        facts: dict[str, Any] = {"address": address, "model": model, "generator": generator}
        if generator in ("constant", "poisson"):
            outcome = await loadgen.run(call, asked, clock, told)
            ms = loadgen.summary(outcome.latencies_ms())
            return facts | {
                "rate_hz": asked.rate_hz,
                "ms": ms,
                "answered": int(ms["n"]) - int(ms["unanswered"]),
                "answered_per_s": round(outcome.answered_per_s(), 2),
                "refused": outcome.refusals(),
                "generator_late_ms": loadgen.summary(outcome.late_ms()),
            }
        await _warm(call, asked.warm_up)
        found = await loadgen_mlperf.run(
            call,
            cast(Literal["SingleStream", "Server", "Offline"], generator),
            rate_hz=asked.rate_hz,
            count=asked.count,
            target_ms=float(request["lasts_ms"]),
        )
        return facts | {
            "rate_hz": asked.rate_hz,
            "label": found.label,
            "verdict": found.verdict,
            "ms": {"n": found.n, **{f"p{k}": v for k, v in found.latency_ms.items()}},
            "answered": found.n - found.failed,
            "answered_per_s": round(found.per_s, 2),
            "refused": {"failed": found.failed} if found.failed else {},
        }


async def _warm(call: "Call", times: int) -> None:
    from contextlib import suppress

    from fleet.inference.client import SiteError

    for number in range(times):
        with suppress(SiteError):
            await call(number)


def _words(facts: dict[str, Any]) -> str:
    """Return the result as a person reads it."""
    label = facts.get("label", f"{facts['generator']}, {facts['rate_hz']:g} Hz")
    took = ", ".join(f"{k} {v:.2f}" for k, v in facts["ms"].items() if k[0] in "pm")
    lines = [
        f"{facts['model']} at {facts['address']} ({label}): {facts['answered']} of "
        f"{facts['ms']['n']} answered, {facts['answered_per_s']:g} per second",
        f"  ms: {took}" if took else "  too few answers for a percentile",
    ]
    lines += [f"  refused {name}: {times}" for name, times in facts["refused"].items()]
    return "\n".join(lines)
