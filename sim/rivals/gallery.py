"""The worst episodes of every subject, to look at: a film each, on one page that needs no network.

Each is driven once more with cameras on, charged the very latencies of the scored drive, so that
the film shows what was scored.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from sim.rivals.compare import cell
from sim.rivals.jobs import Job, driven
from sim.rivals.peers import Act
from sim.rivals.subjects import subject_of
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.report import EvalReport
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.movie import Movie
from vehicle.picture import draw

PAGE: Final = "index.html"
WIDTH_PX: Final = 960
_FRONT: Final = Rig(name="front", cameras=RIG_R.cameras[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One episode on the page: its result and the film beside it."""

    result: dict[str, Any]
    film: str


def worst(results: Sequence[dict[str, Any]], subject: str, count: int) -> list[dict[str, Any]]:
    """Return a subject's worst results, worst first: EPDMS-style, then CLS-style, then margin."""

    def badness(result: dict[str, Any]) -> tuple[float, float, float, str]:
        s = result["scores"]
        margin = s.get("min_distance_m")
        return s["epdms"], s["cls"], 1e9 if margin is None else margin, result["case"]

    mine = [r for r in results if r["subject"] == subject and r["scores"]]
    return sorted(mine, key=badness)[:count]


def film_name(job: Job) -> str:
    """Return the name of a film, from the page's folder."""
    return f"films/{job.subject}-{job.case.name}.mp4"


def film(job: Job, result: dict[str, Any], path: Path) -> None:
    """Drive a scored job again and film it: the front camera and the ground from above."""
    subject = subject_of(job.subject)
    world = job.case.open(RIG_R if subject.sees else _FRONT)
    driver = subject.open(Path(job.bundle) if job.bundle else None, world.rate_hz)
    late_s = [us * 1e-6 for us in result["late_us"]]
    movie: Movie | None = None
    try:
        for obs, act, late in driven(world, driver, job.latency, job.case.seconds, late_s):
            picture = _picture(obs, act, late)
            if movie is None:
                movie = Movie(path, picture.shape[1], picture.shape[0], world.rate_hz)
            movie.add(picture)
    except BaseException:
        if movie is not None:
            movie.abort()
        raise
    finally:
        driver.close()
    if movie is not None:
        movie.close()


def _picture(obs: Observation, act: Act, late_s: float) -> np.ndarray:
    tick = act.tick or Tick(
        frame_id=obs.frame.frame_id,
        scene=None,
        plan=act.plan,
        command=act.command,
        timing=StageTiming(
            frame_id=obs.frame.frame_id,
            release_mono_ns=0,
            stage_us={},
            total_us=round(late_s * 1e6),
            rung="full",
        ),
    )
    whole = draw(obs, tick, _FRONT, VehicleConfig())
    height = 2 * round(whole.shape[0] * WIDTH_PX / whole.shape[1] / 2)
    return cv2.resize(whole, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)


def write(
    out: Path,
    jobs: Sequence[Job],
    results: Sequence[dict[str, Any]],
    reports: Sequence[EvalReport],
    *,
    count: int,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Path:
    """Film the `count` worst episodes of every subject and write the page; return its path."""
    by_digest = {job.digest: job for job in jobs}
    chosen = [r for report in reports for r in worst(results, report.subject, count)]
    shown = []
    for done, result in enumerate(chosen):
        job = by_digest[result["digest"]]
        progress(done, len(chosen), f"{job.subject} {job.case.name}")
        film(job, result, out / film_name(job))
        shown.append(Shown(result=result, film=film_name(job)))
    progress(len(chosen), len(chosen), "")
    path = out / PAGE
    wire.atomic_write(path, page(reports, shown, results).encode())
    return path


def page(
    reports: Sequence[EvalReport], shown: Sequence[Shown], results: Sequence[dict[str, Any]]
) -> str:
    """Return the page: who drove, every figure, what failed, and the worst episodes."""
    failed = [r for r in results if "error" in r]
    parts = [_HEAD, "<h1>Proving ground</h1>", _subjects(reports), _table(reports)]
    if failed:
        rows = "".join(
            f"<li>{_e(r['subject'])} {_e(r['case'])}: {_e(r['error'])}</li>" for r in failed
        )
        parts.append(f"<h2>Not driven: {len(failed)}</h2><ul>{rows}</ul>")
    parts.append("<h2>Worst episodes</h2>")
    for report in reports:
        mine = [s for s in shown if s.result["subject"] == report.subject]
        parts.append(f"<h3>{_e(report.subject)}</h3><div class=films>")
        parts += [_figure(s) for s in mine]
        parts.append("</div>")
    return "\n".join([*parts, "</body></html>\n"])


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def _subjects(reports: Sequence[EvalReport]) -> str:
    rows = "".join(
        f"<tr><th>{_e(r.subject)}</th><td>{_e(r.config['about'])}</td>"
        f"<td>{_e(r.config['scenarios'])} scenarios</td><td>latency {_e(r.config['latency'])}</td>"
        f"<td>{_e(r.subject_digest[:12])}</td></tr>"
        for r in reports
    )
    return f"<table>{rows}</table>"


def _table(reports: Sequence[EvalReport]) -> str:
    names = list(dict.fromkeys(m.name for r in reports for m in r.metrics))
    head = "".join(f"<th>{_e(r.subject)}</th>" for r in reports)
    rows = []
    for name in names:
        found = [next((m for m in r.metrics if m.name == name), None) for r in reports]
        cells = "".join(
            f"<td>{'-' if m is None else _e(cell(m)) + f' <small>n={m.n}</small>'}</td>"
            for m in found
        )
        rows.append(f"<tr><th>{_e(name)}</th>{cells}</tr>")
    note = (
        "<p>Means with 95 % intervals over scenarios. EPDMS-style and CLS-style on our own "
        "scenarios: not comparable with any leaderboard.</p>"
    )
    return f"{note}<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _figure(shown: Shown) -> str:
    s = shown.result["scores"]
    facts = f"epdms {s['epdms']:.3f}, cls {s['cls']:.3f}, at fault {s['at_fault']:.0f}"
    bad = [k.split(".", 1)[1] for k, v in s.items() if k.startswith("epdms.") and v == 0.0]
    words = [f"{shown.result['case']}: {facts}"]
    if bad:
        words.append(f"zero: {', '.join(bad)}")
    hits = shown.result["contacts"]
    words += [f"{c['kind']} at {c['t_s']:.1f} s ({c['type'].replace('_', ' ')})" for c in hits[:3]]
    start = f"#t={max(hits[0]['t_s'] - 3.0, 0.0):.1f}" if hits else ""
    return (
        f'<figure><video src="{_e(shown.film + start)}" controls muted preload="metadata"></video>'
        f"<figcaption>{_e('; '.join(words))}</figcaption></figure>"
    )


_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Proving ground</title><style>
body { background: #14161a; color: #d8dade; font: 14px/1.45 system-ui, sans-serif; margin: 2rem; }
h1, h2, h3 { font-weight: 600; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #2a2e35; text-align: left; }
small, figcaption { color: #8b919b; }
.films { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 640px; } video { width: 100%; background: #000; }
</style></head><body>"""
