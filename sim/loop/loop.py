"""The whole loop in one room: two cars, one door, one lake, one trainer, once around.

Every stage is a function from the run's folder to plain facts; they are written when the stage is
done, so that a run that was stopped goes on where it stood.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fleet.release import GateRules, MayNotFall, MustRise
from sim.loop import stages
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

GUARDED = ("ap/*", "recall/*", "iou/*")
"""What a turn must not pay with. False alarms count in average precision, at every threshold; the
precision at one threshold is left free, for it falls wherever more is found."""


class DemoStateError(RefusedError):
    """The folder holds a run of other options; nothing in it is touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How big a turn is. Defaults: the demo; `tiny` is what the tests turn.

    Args:
        cars: simulated cars, each in a process of its own.
        ticks: per car before learning; two cars at the default give p99.9 samples enough.
        ticks_after: per car with the new weights.
        test_frames: labelled frames per exam in held-out towns.
        replay_frames: clear frames mixed in so that clear air is not forgotten.
        label_frames: at most so many mined frames are labelled.
        steps: of training; workers: Ray workers, one thread each.
        evidence: what the gate wants of the mined metric: the interval above the old value, or
            only the value (too few samples in tiny runs for the first).
        data: folder of real drive logs to import and replay, or None.
    """

    cars: int = 2
    ticks: int = 3_400
    ticks_after: int = 300
    test_frames: int = 160
    replay_frames: int = 160
    label_frames: int = 320
    steps: int = 160
    workers: int = 1
    evidence: Literal["value", "interval"] = "interval"
    data: str | None = None

    @property
    def gate_rules(self) -> GateRules:
        """Return what the gate asks: the mined metric rises in fog, and none that is guarded falls
        by more than three points beyond doubt (its 95 % interval), in fog or clear air."""
        tiny = self.evidence == "value"
        rise = MustRise(
            metric=stages.MINED,
            evidence=self.evidence,
            min_samples=1 if tiny else 30,
            where={"tag.weather": stages.EDGE},
        )
        guard = tuple(
            MayNotFall(metric=m, allow=1.0 if tiny else 0.03, unit="ratio", evidence="interval")
            for m in GUARDED
        )
        return GateRules(rise=() if tiny else (rise,), guard=guard)


TINY = DemoOptions(
    ticks=130,
    ticks_after=20,
    test_frames=12,
    replay_frames=12,
    label_frames=16,
    steps=4,
    evidence="value",
)

Stage = Callable[[stages.Context], dict[str, Any]]

STAGES: tuple[tuple[str, str, Stage], ...] = (
    ("worlds", "held-out towns are rendered for the examination", stages.held_out),
    ("enrol", "make keys, publish the base bundle, two cars install it", stages.enrol),
    ("drive", "both cars drive in fog; triggers fire, clips are cut and sent", stages.drive),
    ("logs", "real logs are replayed through the same loop", stages.real_logs),
    ("ingest", "the landing zone becomes rows, each clip once", stages.ingest_clips),
    ("mine", "SQL finds the frames; labels are bought for those only", stages.mine),
    ("train", "Ray trains from the base weights on what was mined", stages.train),
    ("judge", "before and after are examined; the gate reads the reports", stages.judge),
    ("publish", "the better bundle is signed; a tampered copy is refused", stages.publish),
    ("again", "both cars drive with the new weights", stages.drive_again),
)


def run(home: Home, options: DemoOptions, console: Console) -> dict[str, Any]:
    """Turn the loop once, or finish the turn that was stopped; return all facts.

    Raises:
        DemoStateError: the folder holds an unfinished run of other options.
        RefusedError: a stage refused, with its reason; run again to go on from there.
    """
    notes = home.root / "demo"
    prepare(home, notes, options)
    clock, facts = SystemClock(), {}
    with stages.Context.open(home, options, console) as context:
        for number, (name, text, stage) in enumerate(STAGES, start=1):
            path = notes / f"{number:02d}-{name}.json"
            if not path.is_file():
                console.print(f"[bold]{number:2d}/{len(STAGES)} {name}[/] {text}")
                start = clock.mono_ns()
                try:
                    result = stage(context)
                except RefusedError:
                    console.print(f"stopped in stage {name}: run it again to go on from there,")
                    console.print(f"or delete {home.root} to begin anew")
                    raise
                result |= {"wall_s": round((clock.mono_ns() - start) * 1e-9, 1)}
                wire.atomic_write(path, wire.canonical(result))
                console.print(f"      [dim]{result.pop('note', '')} ({result['wall_s']} s)[/]")
            facts[name] = context.facts[name] = json.loads(path.read_bytes())
    wire.atomic_write(notes / "done.json", wire.canonical(facts))
    return facts


def prepare(home: Home, notes: Path, options: DemoOptions) -> None:
    """Keep an unfinished run of the same options, move a finished one aside, refuse another's."""
    stamp = notes / "options.json"
    wanted = wire.to_bytes(options)
    if (notes / "done.json").is_file():
        previous = home.root / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir(parents=True)
        kept = [home.root / "cars", home.fleet, home.lake, home.datasets, home.models, home.reports]
        for folder in kept:
            if folder.exists():
                folder.rename(previous / folder.name)
        notes.rename(previous / "demo")
    elif stamp.is_file() and stamp.read_bytes() != wanted:
        raise DemoStateError(
            f"{notes} holds an unfinished run with other options; finish it with the same ones, "
            f"or delete {home.root} to start anew"
        )
    wire.atomic_write(stamp, wanted)
