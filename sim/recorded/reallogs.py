"""Real drive logs found in a folder, driven through the car's own loop, their events recorded."""

from pathlib import Path
from typing import Any, Final

from vehicle import bundles
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.home import Home
from vehicle.importers.kinds import find_logs, import_log
from vehicle.recorder import Recorder
from vehicle.replay import replay
from vehicle.sources import RouteSource

KNOWN: Final = ("comma2k19", "kitti")
"""Kinds of log the demo looks for; docs/how-to/get-real-logs.md says how their folders look."""

_AROUND: Final = {"pre_s": 30.0, "post_s": 30.0, "min_interval_s": 20.0}

SURVEY: Final = Campaign(
    campaign_id="survey",
    triggers=(
        TriggerSpec(name="firm_brake", kind="hard_brake", threshold=1.0, **_AROUND),
        TriggerSpec(name="ttc", kind="ttc", threshold=3.0, **_AROUND),
        TriggerSpec(name="uncertainty", kind="uncertainty", threshold=0.6, **_AROUND),
    ),
)
"""Calm drives have no emergency: firmer than usual is enough, and a minute around it is kept."""


def replay_known(home: Home, data: Path) -> list[dict[str, Any]]:
    """Import and replay every known log; its clips go to the outbox of the car it names.

    Returns:
        per log: kind, route, car_id, rig_digest, ticks, plan_digest, events, drives (parts).
    Raises:
        LogLayoutError, LogDamagedError: a folder is named like a log and is none.
    """
    found = [log for log in find_logs(data) if log[0] in KNOWN]
    return [_replay_one(home, kind, folder) for kind, folder in found]


def _replay_one(home: Home, kind: str, folder: Path) -> dict[str, Any]:
    path = home.root / "routes" / f"{folder.name}.mcap"
    path.parent.mkdir(parents=True, exist_ok=True)
    import_log(kind, folder, path)
    source = RouteSource(path)
    about, base = source.metadata, bundles.base_folder()
    eyes = bool(source.rig and source.rig.cameras)
    with Recorder(
        outbox=home.car(about["car_id"]) / "outbox",
        rig=source.rig,
        rate_hz=source.rate_hz,
        car_id=about["car_id"],
        route_id=about["route_id"],
        model=bundles.load(base).tag if eyes else "none",
        jurisdiction=about.get("jurisdiction", "ZZ"),
        tags={"source": kind},
        lossless=True,
        campaigns=(SURVEY,),
    ) as recorder:
        report = replay(path, bundle=base, campaigns=(SURVEY,), sinks=(recorder,), adapt=True)
    return {
        "kind": kind,
        "route": str(path),
        "car_id": about["car_id"],
        "rig_digest": source.rig.digest if source.rig else "0" * 64,
        "ticks": report.ticks,
        "plan_digest": report.plan_digest,
        "events": report.triggers,
        "parts": report.parts,
        "drives": ", ".join(p for p, state in report.parts.items() if state == "drives"),
    }
