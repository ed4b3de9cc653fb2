"""One subject on one start: driven to its end, scored, told as plain data."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from sim.rivals.cases import NO_CAMERAS, Case
from sim.rivals.peers import Act, Driver, NoRecordedDriveError
from sim.rivals.subjects import bundle_for, digest_of, subject_of
from sim.run.latency import Actuation
from sim.score import metrics
from sim.score.trace import Trace, World
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation
from vehicle.contracts.wire import RefusedError

Latency = float | Literal["measured"]
"""Seconds charged to every command, or "measured": what each took, where something is measured."""

REFERENCE: Final = "pdm-truth"
"""Whose progress is the mark in towns; in a recorded scene it is the recorded driver's."""

ROLLING_MPS2: Final = -1.0
"""What a car without a command does."""


class BadLatencyError(RefusedError, ValueError):
    """A latency is neither "measured" nor "none" nor milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One subject on one start.

    Args:
        bundle: network of the car; None where nothing sees.
        latency: see `Latency`.
        code: digest of the code that drives.
        digest: of everything that decides the result; an older file with another is not used.
    """

    subject: str
    case: Case
    bundle: str | None
    latency: Latency
    code: str
    digest: str

    def path(self, out: Path) -> Path:
        """Return where the result is kept."""
        return out / "runs" / self.subject / f"{self.case.name}.json"


def parse_latency(text: str) -> Latency:
    """Return the latency that an option names.

    Raises:
        BadLatencyError: none of the three.
    """
    if text == "measured":
        return "measured"
    try:
        late_s = 0.0 if text == "none" else float(text) * 1e-3
    except ValueError:
        late_s = -1.0
    if not 0.0 <= late_s <= 10.0:
        raise BadLatencyError(f"latency {text!r}: expected measured, none, or 0..10000 (ms)")
    return late_s


def driven(
    world: World,
    driver: Driver,
    latency: Latency,
    seconds: float = math.inf,
    replayed_s: Sequence[float] = (),
) -> Iterator[tuple[Observation, Act, float]]:
    """Drive until the world is done; yield what was seen, what was done, and the latency charged.

    The world moves on when the next item is asked for.

    Args:
        seconds: the most to drive.
        replayed_s: latencies of an earlier drive, to drive it again.
    """
    actuation: Actuation | None = None
    count = 0
    while not world.done and count < seconds * world.rate_hz - 1e-6:
        obs = world.observe(truth=driver.truth)
        act = driver.act(world, obs)
        late_s = act.late_s if latency == "measured" else latency
        if count < len(replayed_s):
            late_s = replayed_s[count]
        yield obs, act, late_s
        if actuation is None:
            actuation = Actuation(tick_s=1.0 / world.rate_hz, held=_rolling(obs, 0.0))
        command = act.command or _rolling(obs, ROLLING_MPS2)
        world.step(actuation.drive(command, count, late_s))
        count += 1


def _rolling(obs: Observation, accel_mps2: float) -> ControlCommand:
    return ControlCommand(
        frame_id=obs.frame.frame_id,
        mono_ns=obs.frame.mono_ns,
        accel_mps2=accel_mps2,
        curvature_1pm=obs.ego.curvature_1pm if obs.ego is not None else 0.0,
    )


def open_job(job: Job) -> tuple[World, Driver]:
    """Return the world and the driver of a job."""
    subject = subject_of(job.subject)
    world = job.case.open(RIG_R if subject.sees else NO_CAMERAS)
    bundle = Path(job.bundle) if job.bundle else None
    return world, subject.open(bundle, world.rate_hz)


def run_one(job: Job, out: Path) -> dict[str, Any]:
    """Drive one job to its end and return scores and facts, as plain data.

    A job that fails costs itself only: its result says why, and has no scores.

    Args:
        out: folder of the run; how far the reference came is kept there for all subjects.
    """
    clock = SystemClock()
    begin_ns = clock.mono_ns()
    try:
        world, driver = open_job(job)
        ready_ns = clock.mono_ns()
        try:
            trace, late_us, rungs = record(world, driver, job.latency, job.case.seconds)
        finally:
            driver.close()
        drive_s = (clock.mono_ns() - ready_ns) * 1e-9
        found = metrics.score(
            trace, reference_progress_m=None if trace.expert is not None else reference_m(job, out)
        )
        scores = score(found) | goal_score(world)
    except NoRecordedDriveError as error:
        return {**_about(job), "scores": {}, "skipped": str(error)}
    except Exception as error:  # one bad scenario must not end a night of others
        return {**_about(job), "scores": {}, "error": f"{type(error).__name__}: {error}"}
    seconds = float(trace.t_s[-1] - trace.t_s[0])
    return {
        **_about(job),
        "scores": scores,
        "contacts": [
            {"t_s": round(c.t_s, 3), "kind": c.kind, "type": c.type, "at_fault": c.at_fault}
            for c in found.contacts
        ],
        "late_us": late_us,
        "rungs": rungs,
        "seconds": round(seconds, 3),
        "build_s": round((ready_ns - begin_ns) * 1e-9, 3),
        "drive_s": round(drive_s, 3),
        "real_time_factor": round(seconds / max(drive_s, 1e-9), 2),
    }


def record(
    world: World, driver: Driver, latency: Latency, seconds: float
) -> tuple[Trace, list[int], dict[str, int]]:
    """Drive to the end; return the trace, the latency of each tick in us, and ticks per rung."""
    snapshots, plans, late_us = [], [], []
    rungs: Counter[str] = Counter()
    for _, act, late_s in driven(world, driver, latency, seconds):
        snapshots.append(world.snapshot())
        plans.append(act.plan)
        late_us.append(round(late_s * 1e6))
        if act.tick is not None:
            rungs[act.tick.timing.rung] += 1
    trace = Trace(
        snapshots=(*snapshots, world.snapshot()),
        road=world.road,
        plans=(*plans, None) if any(p is not None for p in plans) else (),
        expert=getattr(world, "expert", None),
    )
    return trace, late_us, dict(rungs)


def reference_m(job: Job, out: Path) -> float:
    """Return how far the reference comes from the same start: the PDM-style planner on the truth.

    It is driven once for all subjects and kept beside their results.
    """
    words = [REFERENCE, job.case.digest, job.code]
    kept = out / "references" / f"{wire.digest(wire.canonical(words))}.json"
    try:
        return float(json.loads(kept.read_bytes())["progress_m"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    world = job.case.open(NO_CAMERAS)
    driver = subject_of(REFERENCE).open(None, world.rate_hz)
    progress_m = metrics.reference_of(record(world, driver, 0.0, job.case.seconds)[0])
    wire.atomic_write(kept, wire.canonical({"case": job.case.name, "progress_m": progress_m}))
    return progress_m


def score(found: metrics.EpisodeScore) -> dict[str, float | None]:
    """Return every figure of an episode; None where one does not apply (nobody came near)."""
    flat = found.flat()
    flat["at_fault_episodes"] = float(flat["at_fault"] > 0)
    flat["mrm_episodes"] = float(flat["mrm"] > 0)
    return {k: float(v) if np.isfinite(v) else None for k, v in flat.items()}


def goal_score(world: World) -> dict[str, float | None]:
    """Return whether the ego came to the goal, in a recorded scene that has one."""
    if getattr(getattr(world, "scene", None), "goal", None) is None:
        return {}
    return {"goal_reached": float(getattr(world, "goal_reached_s", None) is not None)}


def _about(job: Job) -> dict[str, Any]:
    return {
        "subject": job.subject,
        "case": job.case.name,
        "group": job.case.group,
        "digest": job.digest,
    }


def jobs_of(
    subjects: Sequence[str], cases: Sequence[Case], *, bundle: Path | None, latency: Latency
) -> list[Job]:
    """Return the jobs in the order that builds each town once per worker.

    Raises:
        UnknownSubjectError: a subject has no driver.
    """
    code, out = code_digest(), []
    for case in cases:
        for name in subjects:
            if subject_of(name).recorded_only and case.scenario is not None:
                continue
            used = bundle_for(name, bundle)
            words = [name, digest_of(name, bundle), case.digest, str(latency), code]
            out.append(
                Job(
                    subject=name,
                    case=case,
                    bundle=None if used is None else str(used),
                    latency=latency,
                    code=code,
                    digest=wire.digest(wire.canonical(words)),
                )
            )
    return out


def code_digest() -> str:
    """Return the digest of all code that decides how an episode goes."""
    house = Path(__file__).parents[2]
    files = sorted([*house.glob("sim/**/*.py"), *house.glob("vehicle/**/*.py")])
    return wire.digest(b"".join(f.read_bytes() for f in files))
