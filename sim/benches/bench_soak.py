"""The long drive: does anything grow, die or come late when the car drives for half an hour?"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from fleet.identity import enrol
from sim.benches.bench_loop import rendered
from sim.loop.children import gateway
from vehicle import bundles
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench, Must
from vehicle.contracts.campaign import Campaign, TriggerSpec, UploadBudget
from vehicle.contracts.frame import Observation
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import IDENTITY
from vehicle.drive_verb import DriveRequest, run
from vehicle.route import RouteWriter

RATE_HZ: Final = 36.0
FRAMES: Final = round(RATE_HZ * 60 * 30)
"""Half an hour."""

DISTINCT_FRAMES: Final = 120
CAR: Final = "soak"
WARM_UP_RATIO: Final = 0.2
"""Of the samples: caches fill, the first clips are cut."""

GROWTH_LIMIT_MB: Final = 1.0
"""Per ten minutes and process, by the straight line through each minute's least after warm-up."""

LEAST_MINUTES: Final = 4

CAMPAIGN: Final = Campaign(
    campaign_id="soak",
    triggers=(
        TriggerSpec(
            name="steady", kind="uncertainty", threshold=0.0, pre_s=2.0, post_s=3.0,
            min_interval_s=30.0,
        ),
    ),
    budget=UploadBudget(max_clips=1_000_000, max_bytes=1 << 50),
)  # fmt: skip
"""Five seconds of every thirty become a clip and go home: every part works all the time."""


def soak_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Drive a recorded town for `frames` at 36 Hz with recorder, shadow, uplink and a home.

    All are processes under the supervisor, as `roadloop vehicle drive` runs them; their own memory
    (without what they share) is read once a second.

    Raises:
        All errors of `drive_verb.run`; GatewayStartError.
    """
    bench, folder = Bench(name="soak"), bundle or bundles.base_folder()
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        home = Home(root / "home")
        route = _route(root / "route.mcap")
        (root / "campaign.json").write_bytes(wire.to_bytes(CAMPAIGN))
        enrol(home, CAR, RIG_R.digest, home.car(CAR) / IDENTITY)
        with gateway(home) as url:
            request = DriveRequest(
                source=str(route),
                folder=str(home.car(CAR)),
                car_id=CAR,
                bundle=str(folder.absolute()),
                shadow=str(folder.absolute()),
                gateway=url,
                campaign=str(root / "campaign.json"),
                rate_hz=RATE_HZ,
                seconds=frames / RATE_HZ,
                report=str(root / "report.json"),
                parent=os.getpid(),
            )
            memory = Memory()

            def show(parts: Mapping[str, Any]) -> None:
                memory.sample(parts)
                progress(_ticks(parts) / frames)

            report = run(request, show)
    _rows(bench, report, memory)
    return bench


class Memory:
    """Own memory of processes over time.

    Own: anonymous pages, so that the ring, which all of them map, is nobody's.
    """

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.series: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def sample(self, parts: Mapping[str, Any]) -> None:
        """Read the memory of every process that the parts' health names."""
        now_s = self._clock.mono_ns() * 1e-9
        for name, part in parts.items():
            pid = int(part.get("counters", {}).get("pid", 0))
            found = own_mb(pid) if pid else None
            if found is not None:
                self.series.setdefault((name, pid), []).append((now_s, found))

    def growth(self) -> dict[str, dict[str, float | int]]:
        """Return per part: samples, first, last and most MB after warm-up, MB per ten minutes.

        Of a part that was started again, its longest life.
        """
        longest: dict[str, list[tuple[float, float]]] = {}
        for (name, _), taken in self.series.items():
            if len(taken) > len(longest.get(name, [])):
                longest[name] = taken
        return {name: _line(taken) for name, taken in longest.items()}


def own_mb(pid: int) -> float | None:
    """Return a process's anonymous resident memory, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    line = next((x for x in text.splitlines() if x.startswith("RssAnon:")), None)
    return None if line is None else int(line.split()[1]) / 1024


def _line(taken: list[tuple[float, float]]) -> dict[str, float | int]:
    kept = np.array(taken[round(len(taken) * WARM_UP_RATIO) :])
    if len(kept) < 2:
        return {"n": len(kept)}
    low = _troughs(kept)
    per_s = float(np.polyfit(low[:, 0], low[:, 1], 1)[0])
    return {
        "n": len(kept),
        "first_mb": round(float(kept[0, 1]), 2),
        "last_mb": round(float(kept[-1, 1]), 2),
        "peak_mb": round(float(kept[:, 1].max()), 2),
        "mb_per_10_min": round(per_s * 600.0, 3),
    }


def _troughs(taken: np.ndarray) -> np.ndarray:
    """Return the least of every minute: what a process holds when it has nothing in its hands.

    A recorder swells by tens of MB while it encodes a clip; the line through all samples would say
    where in that swing the run began and ended. A run of few minutes is taken as it is.
    """
    seconds = taken[:, 0] - taken[0, 0]
    minutes = (seconds // 60.0).astype(int)
    if minutes[-1] < LEAST_MINUTES:
        return np.column_stack([seconds, taken[:, 1]])
    rows = [np.flatnonzero(minutes == m) for m in np.unique(minutes)]
    least = [r[np.argmin(taken[r, 1])] for r in rows]
    return np.column_stack([seconds[least], taken[least, 1]])


def _ticks(parts: Mapping[str, Any]) -> int:
    return int(parts.get("drive", {}).get("counters", {}).get("ticks", 0))


def _route(path: Path) -> Path:
    """Write a drive forth and back, so that it can go on for ever without a jump."""
    seen = rendered(DISTINCT_FRAMES)
    about = {"car_id": CAR, "route_id": "soak", "source": "simulator"}
    with RouteWriter(path, RIG_R, rate_hz=RATE_HZ, metadata=about) as writer:
        for i, observation in enumerate([*seen, *seen[-2:0:-1]]):
            writer.write(_renumbered(observation, i))
    return path


def _renumbered(observation: Observation, number: int) -> Observation:
    mono_ns = round(number * 1e9 / RATE_HZ)
    frame = replace(observation.frame, frame_id=number, mono_ns=mono_ns)
    ego = replace(observation.ego, mono_ns=mono_ns) if observation.ego else None
    return replace(observation, frame=frame, ego=ego)


def _rows(bench: Bench, report: Mapping[str, Any], memory: Memory) -> None:
    bench.rows.append({"row": "tick, release to command", "ms": report["tick_ms"]})
    bench.rows += [{"row": "worst tick", **row} for row in report["worst"]]
    bench.rows.append({"row": "rungs", **report["rungs"]})
    counted = ("ticks", "missed", "missed_stolen", "cancelled", "unanswered", "frames_lost")
    counts = {k: report[k] for k in (*counted, "stolen_ms")}
    bench.rows.append({"row": "counts", **counts})
    bench.rows.append({"row": "punctuality", "words": report["punctuality"]})
    bench.rows.append({"row": "engine", "words": report["engine"]})
    for name, part in report["parts"].items():
        shown = {k: n for k, n in part["counters"].items() if k not in ("pid", "alive", "frame_id")}
        bench.rows.append({"row": f"part {name}", "ok": part["ok"], **shown})
    growth = memory.growth()
    for name, facts in growth.items():
        bench.rows.append({"row": f"own memory of {name}", **facts})
    n = int(report["ticks"])
    for figure, key, unit in (
        ("missed frames", "missed", "frames"),
        ("ticks without a command", "unanswered", "ticks"),
        ("frames lost by the source", "frames_lost", "frames"),
    ):
        value = float(report[key])
        bench.must.append(Must(figure=figure, value=value, op="==", limit=0, unit=unit, n=n))
    restarts = float(sum(p["counters"].get("restarts", 0) for p in report["parts"].values()))
    bench.must.append(
        Must(figure="parts that died", value=restarts, op="==", limit=0, unit="parts", n=1)
    )
    for name, facts in growth.items():
        bench.must.append(
            Must(
                figure=f"growth of {name}",
                value=facts.get("mb_per_10_min"),
                op="<=",
                limit=GROWTH_LIMIT_MB,
                unit="MB per 10 min",
                n=int(facts["n"]),
            )
        )
