"""How well and how fast decisions are explained: roadloop bench explain.

Quality is measured on families that no explainer was trained on, against causes found by test;
beside it stands the obvious explainer: whoever is next ahead. Speed is measured at a site of its
own process, over a socket, with so many asking at once.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference.explain_client import ExplainClient
from fleet.inference.explain_engine import Engine
from fleet.inference.explain_model import ExplainModel
from sim.why.decisions import HELD_OUT, TRAINED, write_records
from sim.why.explain_check import check
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.decision import DecisionRecord, Factor, read_records
from vehicle.contracts.explainer import MANIFEST
from vehicle.contracts.explanation import (
    TOKENS,
    Speaker,
    causes_told,
    read,
    said_factors,
    slot_of,
)
from vehicle.contracts.home import Home

EPISODES: Final = 30
TEST_TOWNS: Final = range(100, 116)
CONCURRENCY: Final = (1, 8, 32)
ANSWERS: Final = 700
"""Of each concurrency: enough for a 99th percentile."""

FREELY: Final = 200
QUICK_EPISODES: Final = 32
P95_SAMPLES: Final = 200
TTFT_MS: Final = 1_000.0
ITL_MS: Final = 100.0
AT: Final = 8
"""Concurrency that the limits are for."""

_REACH_M: Final = 40.0
_LANE_M: Final = 2.0

Told = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A record, what was said of it, and the tokens of that."""

    record: DecisionRecord
    text: str
    tokens: list[int]

    @property
    def explained(self) -> bool:
        """Return whether an explanation was given."""
        return self.text.startswith("because")

    @property
    def agrees(self) -> bool:
        """Return whether the decision that was seen coming is the one that was actuated."""
        d = self.record.decision
        return [TOKENS[t] for t in self.tokens[:2]] == [d.longitudinal, d.lateral]


def explain_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure an explainer's words and its speed.

    Args:
        frames: drives whose decisions are explained, of held-out families and of known ones each.
        bundle: folder of the explainer; None: ROADLOOP_HOME/models/explainer, and where there is
            none, one trained for a few minutes for this bench.
    """
    bench, home = Bench(name="explain"), Home.here()
    folder = bundle or home.models / "explainer"
    if bundle is None and not (folder / MANIFEST).is_file():
        folder = _quick(home, lambda share: progress(0.4 * share))
    model = ExplainModel(folder)
    m = model.manifest
    bench.rows.append(
        {
            "row": "explainer",
            **{"explainer": m.tag, "recipe": m.recipe, "parameters": m.parameters},
            **{"records": m.records, "steps": m.steps, "digest": m.graph_sha256[:12]},
        }
    )
    sets = {}
    for name, families in (("held-out", HELD_OUT), ("known", TRAINED)):
        sets[name] = _records(home, name, families, frames)
        progress(0.4 + 0.1 * len(sets))
    for name, found in sets.items():
        _quality(bench, name, asyncio.run(_all(model, found)))
    bench.rows.append(_freely(model, sets["held-out"][:FREELY]))
    progress(0.7)
    _speed(bench, folder, sets["held-out"], lambda share: progress(0.7 + 0.3 * share))
    return bench


def _records(home: Home, name: str, families: Sequence[str], episodes: int) -> list[DecisionRecord]:
    path = home.datasets / "decisions" / f"{name}-{episodes}.jsonl"
    if not path.is_file():
        write_records(path, families=families, towns=TEST_TOWNS, episodes=episodes, seed=1)
    return read_records(path)


def _quick(home: Home, progress: Told) -> Path:
    """Return an explainer of the served size that was trained for a few minutes."""
    from training.explain import RECIPES, train
    from training.explain_export import export

    folder = home.models / "explainer-quick"
    if not (folder / MANIFEST).is_file():
        data = home.datasets / "decisions" / f"quick-{QUICK_EPISODES}.jsonl"
        if not data.is_file():
            write_records(
                data,
                families=TRAINED,
                towns=range(16),
                episodes=QUICK_EPISODES,
                seed=1_000,
                progress=lambda done: progress(0.5 * done / QUICK_EPISODES),
            )
        run = home.models / "explainer-quick-run"
        train(RECIPES["quick"], [data], run, lambda done, of, _: progress(0.5 + 0.5 * done / of))
        export(run, folder, name="explainer-quick")
    return folder


async def _all(model: ExplainModel, records: Sequence[DecisionRecord]) -> list[Answered]:
    limit = asyncio.Semaphore(32)
    async with Engine(model, SystemClock()) as engine:

        async def one(record: DecisionRecord) -> Answered:
            async with limit:
                said = [word async for word in engine.explain(record)]
            return Answered(record, "".join(w.text for w in said), [w.token for w in said])

        return list(await asyncio.gather(*(one(record) for record in records)))


def _quality(bench: Bench, name: str, answers: Sequence[Answered]) -> None:
    """Add what was said about one set of records, and the limits of the held-out one."""
    count = len(answers)
    explained = [a for a in answers if a.explained]
    findings = [check(a.text, a.record) for a in explained]
    mentions = sum(f.mentions for f in findings)
    ungrounded = [u for f in findings for u in f.ungrounded]
    agreement = _share(sum(a.agrees for a in answers), count)
    usual = _share(Counter(_decided(a) for a in answers).most_common(1)[0][1], count)
    mine, theirs = _f1(explained, _named), _f1(explained, _next_ahead)
    bench.rows.append(
        {
            "row": f"{name} families",
            **{"records": count, "decision_agreement": agreement},
            **{"longitudinal_agreement": _share(sum(_along(a) for a in answers), count)},
            **{"most_usual_decision": usual, "explained": _share(len(explained), count)},
            **{"no_explanation": _share(count - len(explained), count)},
            **{"other_decision_seen": _share(sum(not a.agrees for a in answers), count)},
            **{"mentions": mentions, "ungrounded": len(ungrounded), "first": ungrounded[:3]},
            **{"jointly_caused": _share(sum(a.record.jointly for a in answers), count)},
        }
    )
    bench.rows.append({"row": f"{name} factors, explainer", **mine})
    bench.rows.append({"row": f"{name} factors, next ahead", **theirs})
    for who, says in (("explainer, silence as none", _named), ("next ahead", _next_ahead)):
        bench.rows.append({"row": f"{name} factors of all decisions, {who}", **_f1(answers, says)})
    if name != "held-out":
        return
    bench.must += [
        Must(figure="ungrounded mentions", value=len(ungrounded), op="==", limit=0, unit="",
             n=mentions),
        Must(figure="decision agreement, held-out families", value=agreement, op=">=",
             limit=usual, unit="ratio", n=count, peer="always the most usual decision"),
        Must(figure="factor F1, held-out families", value=mine["f1"], op=">=",
             limit=theirs["f1"], unit="ratio", n=mine["causes"], peer="whoever is next ahead"),
    ]  # fmt: skip


def _decided(answer: Answered) -> tuple[str, str]:
    return answer.record.decision.longitudinal, answer.record.decision.lateral


def _along(answer: Answered) -> bool:
    return TOKENS[answer.tokens[0]] == answer.record.decision.longitudinal


def _named(answer: Answered) -> frozenset[Factor]:
    return said_factors(answer.tokens, answer.record) if answer.explained else frozenset()


def _next_ahead(answer: Answered) -> frozenset[Factor]:
    """Return what the obvious explainer says: who is next ahead, else a light, else the limit."""
    record = answer.record
    ahead = [a for a in record.actors if 0.0 < a.ahead_m < _REACH_M and abs(a.aside_m) < _LANE_M]
    if ahead:
        nearest = min(ahead, key=lambda a: a.ahead_m)
        return frozenset([Factor(kind="actor", actor_id=nearest.actor_id)])
    if record.light in ("red", "yellow"):
        return frozenset([Factor(kind="light")])
    if record.decision.longitudinal in ("speed up", "move off"):
        return frozenset()
    return frozenset([Factor(kind="limit")])


def _f1(
    answers: Sequence[Answered], says: Callable[[Answered], frozenset[Factor]]
) -> dict[str, Any]:
    """Return precision, recall and F1 of factors against tested causes, over all answers."""
    right = said = causes = exact = 0
    for answer in answers:
        found, true = says(answer), causes_told(answer.record)
        right, said, causes = right + len(found & true), said + len(found), causes + len(true)
        exact += found == true
    precision, recall = right / max(said, 1), right / max(causes, 1)
    f1 = 2.0 * precision * recall / max(precision + recall, 1e-9)
    return {
        **{"answers": len(answers), "causes": causes, "said": said},
        **{"precision": round(precision, 3), "recall": round(recall, 3), "f1": round(f1, 3)},
        "exact_sets": _share(exact, len(answers)),
    }


def _freely(model: ExplainModel, records: Sequence[DecisionRecord]) -> dict[str, Any]:
    """Let the decoder say what it likes: how often that is no true sentence of the language."""
    broken = 0
    for record in records:
        speaker, said = Speaker(record), 0
        logits, pasts = model.read([read(record)])
        while not speaker.ended:
            token = int(logits[0].argmax())
            if token not in speaker.following():
                broken += 1
                break
            speaker.say(token)
            said += 1
            logits, pasts = model.go_on([token], [slot_of(token)], [said], pasts)
    return {
        "row": "decoding without constraints",
        **{"answers": len(records), "untrue_or_broken": _share(broken, len(records))},
    }


def _speed(bench: Bench, folder: Path, records: Sequence[DecisionRecord], progress: Told) -> None:
    """Ask a site of its own process: many at once, and beside it one that answers one by one."""
    for step, (slots, name) in enumerate(((8, "batched"), (1, "one by one"))):
        with site(folder, slots) as url:
            for part, at_once in enumerate(CONCURRENCY):
                heard = asyncio.run(listen(url, folder, records, at_once, ANSWERS))
                row = {"row": f"{name}, {at_once} at once", "slots": slots, **heard}
                bench.rows.append(row)
                progress((step * len(CONCURRENCY) + part + 1) / (2 * len(CONCURRENCY)))
    rows = {row["row"]: row for row in bench.rows}
    mine, peer = rows[f"batched, {AT} at once"], rows[f"one by one, {AT} at once"]
    bench.must += [
        Must(figure=f"time to first word, p95, {AT} at once", value=mine["ttft_ms"]["p95"],
             op="<=", limit=TTFT_MS, unit="ms", n=mine["answers"],
             peer=f"one by one: {peer['ttft_ms']['p95']}"),
        Must(figure=f"between words, p95, {AT} at once", value=mine["itl_ms"]["p95"],
             op="<=", limit=ITL_MS, unit="ms", n=mine["itl_ms"]["n"],
             peer=f"one by one: {peer['itl_ms']['p95']}"),
    ]  # fmt: skip


@contextmanager
def site(folder: Path, slots: int) -> Iterator[str]:
    """Keep a site of explanations open in a process of its own; yield its address."""
    urls = folder.parent / f".bench-{os.getpid()}.json"
    words = ("serve", "--plain", "--undeclared", "--port", "0", "--slots", str(slots), "--json")
    files = ("--explainer", str(folder), "--url-file", str(urls))
    process = subprocess.Popen(
        [sys.executable, "-m", "roadloop", "fleet", "infer", "explain", *words, *files],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        for _ in range(1_200):
            if urls.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        yield json.loads(urls.read_text())["http"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def listen(
    url: str, folder: Path, records: Sequence[DecisionRecord], at_once: int, answers: int
) -> dict[str, Any]:
    """Return how soon the first word came and how long the next ones took, at a concurrency.

    Answers without an explanation have one word only and count for the first.
    """
    clock, failed = SystemClock(), 0
    first_ms: list[float] = []
    gaps_ms: list[float] = []
    todo = iter(list(islice(cycle(records), 4 * at_once)))
    name = ExplainModel(folder).manifest.name

    async def caller(client: ExplainClient) -> None:
        nonlocal failed
        for record in todo:
            last_ns, began_ns = 0, clock.mono_ns()
            async for _ in client.explain(record):
                now_ns = clock.mono_ns()
                (gaps_ms if last_ns else first_ms).append((now_ns - (last_ns or began_ns)) / 1e6)
                last_ns = now_ns
            failed += not last_ns

    async with ExplainClient(url, model=name) as client:
        await asyncio.gather(*(caller(client) for _ in range(at_once)))
        began_ns = clock.mono_ns()
        first_ms, gaps_ms, todo = [], [], iter(list(islice(cycle(records), answers)))
        await asyncio.gather(*(caller(client) for _ in range(at_once)))
        took_s = (clock.mono_ns() - began_ns) / 1e9
    words = len(first_ms) + len(gaps_ms)
    return {
        **{"answers": len(first_ms), "failed": failed, "words_per_s": round(words / took_s)},
        **{"ttft_ms": _times(first_ms), "itl_ms": _times(gaps_ms)},
    }


def _times(values: list[float]) -> dict[str, Any]:
    found: dict[str, Any] = dict(percentiles(values))
    found["p95"] = (
        round(float(np.percentile(values, 95)), 3) if len(values) >= P95_SAMPLES else None
    )
    return found


def _share(part: int, of: int) -> float:
    return round(part / max(of, 1), 4)
