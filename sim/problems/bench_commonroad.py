"""The bench of CommonRoad: problems solved, judged officially, and the time a cycle takes."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from sim.problems.commonroad_judge import OFFICIAL, OWN, Drove, ask, peers_python, solve
from vehicle.contracts.bench import Bench, Must, percentiles

FRAMES: Final = 1_400
"""Cycles timed at least; the problems are driven again until there are as many."""

PEERS: Final = {
    "reactive": "commonroad-reactive-planner 2025.1, replanning every third step",
    "frenetix": "frenetix 0.4.0, its core under our harness, 3 s, 800 trajectories",
}
LEAST_VALID: Final = 0.88
MOST_MS: Final = 1.5


def commonroad_bench(
    *, frames: int, progress: Callable[[float], None], bundle: Path | None
) -> Bench:
    """Measure the share of problems solved and the time a planning cycle takes.

    Without the peers' environment our own checks stand in for the judge, and say so; without the
    scenarios nothing holds.

    Args:
        frames: cycles to time at least. bundle: plays no part.
    """
    bench = Bench(name="commonroad")
    folder = Path(os.environ.get("ROADLOOP_DATA") or "../shared/data") / "commonroad"
    files = sorted(folder.glob("*.xml"))
    if not files:
        bench.rows.append({"row": "CommonRoad", "skipped": f"no scenarios at {folder}"})
        _musts(bench, None, np.zeros(0), 0, "")
        return bench
    with TemporaryDirectory() as scratch:
        ours = Path(scratch) / "ours"
        solve(files[0], ours)  # loads what is compiled
        drove = [solve(path, ours) for path in files]
        verdicts, judge = {d.path.stem: d.verdict for d in drove}, OWN
        peers: dict[str, dict[str, dict[str, Any]]] = {}
        progress(0.1)
        if (python := peers_python()) is not None:
            solved = [d.path for d in drove if not d.verdict.startswith("refused")]
            official = ask(python, "judge", solved, ours, lambda s: progress(0.1 + 0.1 * s))
            verdicts |= {name: row["verdict"] for name, row in official.items()}
            judge = OFFICIAL
            for i, name in enumerate(PEERS):
                begin = 0.2 + 0.35 * i

                def told(share: float, begin: float = begin) -> None:
                    progress(begin + 0.35 * share)

                peers[name] = ask(python, name, files, Path(scratch) / name, told)
        wall, cpu = _timed(drove, frames, ours)
    for d in drove:
        row = {"row": d.path.stem, "ours": verdicts[d.path.stem], "own checks": d.verdict}
        row |= (
            {"cycles": len(d.wall_ms), "first_ms": round(float(d.wall_ms[0]), 3)}
            if len(d.wall_ms)
            else {}
        )
        bench.rows.append(row | {name: peers[name][d.path.stem]["verdict"] for name in peers})
    _cycle_rows(bench, wall, cpu, peers)
    valid = sum(v == "valid" for v in verdicts.values()) / len(files)
    _musts(bench, valid, wall, len(files), judge, peers)
    return bench


def _timed(drove: list[Drove], frames: int, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return wall and CPU ms of at least `frames` cycles: the problems are driven again."""
    wall, cpu = [d.wall_ms for d in drove], [d.cpu_ms for d in drove]
    each = sum(len(d.wall_ms) for d in drove)
    while each and sum(map(len, wall)) < frames:
        again = [solve(d.path, scratch) for d in drove]
        wall += [d.wall_ms for d in again]
        cpu += [d.cpu_ms for d in again]
    return np.concatenate(wall), np.concatenate(cpu)


def _cycle_rows(
    bench: Bench, wall: np.ndarray, cpu: np.ndarray, peers: dict[str, dict[str, dict[str, Any]]]
) -> None:
    bench.rows.append(
        {"row": "ours, a planning cycle", "ms": percentiles(wall), "cpu_ms": percentiles(cpu)}
    )
    for name, rows in peers.items():
        cycles = np.array([ms for row in rows.values() for ms in row["cpu_ms"]])
        few = {f"p{q}": round(float(np.percentile(cycles, q)), 1) for q in (50, 90) if len(cycles)}
        valid = sum(row["verdict"] == "valid" for row in rows.values())
        bench.rows.append(
            {
                "row": f"peer: {PEERS[name]}", "valid": f"{valid} of {len(rows)}",
                "cpu_ms": {**few, **percentiles(cycles)},
            }
        )  # fmt: skip


def _musts(
    bench: Bench,
    valid: float | None,
    wall: np.ndarray,
    n: int,
    judge: str,
    peers: dict[str, dict[str, dict[str, Any]]] | None = None,
) -> None:
    said = ", ".join(
        f"{name} {sum(r['verdict'] == 'valid' for r in rows.values()) / max(n, 1):.0%} here"
        for name, rows in (peers or {}).items()
    )
    bench.must.append(
        Must(
            figure=f"CommonRoad solutions valid ({judge})",
            value=None if valid is None else round(valid, 4),
            op=">=",
            limit=LEAST_VALID,
            unit="ratio",
            n=n,
            peer=said,
        )
    )
    p99 = percentiles(wall).get("p99")
    bench.must.append(
        Must(
            figure="planning cycle p99",
            value=None if p99 is None else float(p99),
            op="<=",
            limit=MOST_MS,
            unit="ms",
            n=len(wall),
        )
    )
