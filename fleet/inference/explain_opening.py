"""A site of explanations as a process of its own; and explaining a whole file of decisions."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fleet.inference.egress import seal
from fleet.inference.explain import Explaining, serve_explain
from fleet.inference.explain_engine import Engine
from fleet.inference.explain_model import ExplainModel
from fleet.inference.opening import OnPremError, Opening, trust
from fleet.inference.policy import Policy
from fleet.inference.receipts import Receipts
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.caption import Caption
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.explanation import said_factors
from vehicle.contracts.home import Home

AT_ONCE: Final = 8


def open_explain(opening: Opening, folder: Path, home: Home, slots: int) -> dict[str, Any]:
    """Serve until told to stop; return what was answered and refused.

    Args:
        opening: of the site; its bundles and gRPC port mean nothing here.
        folder: of the explainer.
        slots: answers under way at once.
    Raises:
        OnPremError: context on-prem, without certificates or receipts.
        RefusedError: as named by the explainer, policies, tenants, receipts, ports.
    """
    if opening.site.context == "on-prem":
        if opening.plain or opening.receipts is None:
            lacking = "certificates (without --plain)" if opening.plain else "--receipts FILE"
            raise OnPremError(f"a site on premises needs {lacking}")
        seal()
    return asyncio.run(_live(opening, folder, home, slots))


async def _live(opening: Opening, folder: Path, home: Home, slots: int) -> dict[str, Any]:
    clock, ended = SystemClock(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    policy = Policy.from_folder(opening.policies) if opening.policies else Policy.default()
    tls, tenants = (None, ()) if opening.plain else trust(opening, home)
    with contextlib.ExitStack() as stack:
        receipts = None
        if opening.receipts is not None:
            made = Receipts(opening.receipts, site=opening.site.name, clock=clock)
            receipts = stack.enter_context(made)
        async with serve_explain(
            ExplainModel(folder, opening.threads),
            site=opening.site,
            policy=policy,
            tenants=tenants,
            receipts=receipts,
            tls=tls,
            host=opening.host,
            port=opening.http_port,
            slots=slots,
            clock=clock,
        ) as served:
            _tell(opening, served)
            await ended.wait()
            if opening.url_file is not None:
                opening.url_file.unlink(missing_ok=True)
        return served.door.stats.plain()


def _tell(opening: Opening, served: Explaining) -> None:
    host = f"[{opening.host}]" if ":" in opening.host else opening.host
    url = f"{'http' if opening.plain else 'https'}://{host}:{served.port}"
    if opening.url_file is not None:
        addresses = {"http": url, "site": opening.site.name}
        wire.atomic_write(opening.url_file, wire.canonical(addresses) + b"\n")
    tag = served.engine.model.tag
    print(f"site {opening.site.name} explains with {tag}: {url}/v1 (ctrl-C stops it)", flush=True)


def write_captions(
    folder: Path, records: list[DecisionRecord], out: Path, progress: Callable[[int], None]
) -> list[Caption]:
    """Explain every record, in this process, and write the captions as lines of JSON.

    Args:
        folder: of the explainer.
        records: their `source` is the clip.
        progress: called with the records done.
    """
    captions = asyncio.run(_captions(ExplainModel(folder), records, progress))
    wire.atomic_write(out, b"".join(wire.to_bytes(c) + b"\n" for c in captions))
    return captions


async def _captions(
    model: ExplainModel, records: list[DecisionRecord], progress: Callable[[int], None]
) -> list[Caption]:
    limit, done = asyncio.Semaphore(4 * AT_ONCE), 0
    async with Engine(model, SystemClock(), slots=AT_ONCE) as engine:

        async def one(record: DecisionRecord) -> Caption:
            nonlocal done
            async with limit:
                said = [word async for word in engine.explain(record)]
            done += 1
            progress(done)
            return caption_of(model.tag, record, [w.token for w in said], [w.text for w in said])

        return list(await asyncio.gather(*(one(record) for record in records)))


def caption_of(tag: str, record: DecisionRecord, tokens: list[int], heard: list[str]) -> Caption:
    """Return an answer as a caption."""
    text = "".join(heard)
    explained = text.startswith("because")
    kinds = {a.actor_id: a.kind for a in record.actors}
    named = said_factors(tokens, record) if explained else ()
    words = {"actor": "{kind}", "hides": "hides {kind}"}
    factors = {words.get(f.kind, f.kind).format(kind=kinds.get(f.actor_id)) for f in named}
    return Caption(
        clip_id=record.source,
        frame_id=record.frame_id,
        model=tag,
        text=text,
        explained=explained,
        longitudinal=record.decision.longitudinal,
        lateral=record.decision.lateral,
        factors=tuple(sorted(factors)),
    )
