"""A small world of decisions with known causes, and an explainer that learned it in seconds."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.decision import Actor, Decision, DecisionRecord, Factor


def record_at(random: np.random.Generator, number: int) -> DecisionRecord:
    """Return a scene in which a red light near, or else a car that stands near, is why."""
    light = str(random.choice(["none", "red", "green"]))
    light_m = None if light == "none" else round(float(random.uniform(3.0, 50.0)), 1)
    actors = tuple(
        Actor(
            actor_id=int(ids),
            kind=str(random.choice(["car", "pedestrian", "truck"])),
            ahead_m=round(float(random.uniform(2.0, 55.0)), 1),
            aside_m=round(float(random.choice([0.0, 6.0])), 1),
            along_mps=0.0,
            across_mps=0.0,
            length_m=4.5,
            width_m=1.8,
            height_m=1.0,
        )
        for ids in random.choice(np.arange(1, 200), size=random.integers(0, 5), replace=False)
    )
    near = [a for a in actors if a.aside_m < 1.0 and a.ahead_m < 25.0]
    stops = light == "red" and light_m is not None and light_m < 25.0
    causes = [Factor(kind="light")] if stops else []
    causes += [Factor(kind="actor", actor_id=a.actor_id) for a in near[:1] if not stops]
    what = "stop" if stops else "slow down" if near else "speed up"
    return DecisionRecord(
        source=f"small/{number}",
        frame_id=number,
        speed_mps=8.0,
        accel_mps2=0.0,
        aside_m=0.0,
        limit_mps=13.9,
        lane_width_m=3.5,
        light=light,
        light_m=light_m,
        yield_m=None,
        bend_m=0.0,
        bend_1pm=0.0,
        left_lane_m=0.0,
        right_lane_m=0.0,
        rung="full",
        actors=tuple(sorted(actors, key=lambda a: a.ahead_m)),
        decision=Decision(longitudinal=what, lateral="keep the lane", demand_mps2=0.0),  # type: ignore[arg-type]
        causes=tuple(causes),
    )


def records(count: int, seed: int = 0) -> list[DecisionRecord]:
    """Return scenes, the same for a seed."""
    random = np.random.default_rng(seed)
    return [record_at(random, number) for number in range(count)]


def write(path: Path, found: list[DecisionRecord]) -> Path:
    """Write records as a file of lines."""
    path.write_bytes(b"".join(wire.to_bytes(r) + b"\n" for r in found))
    return path


@cache
def tiny_explainer() -> Path:
    """Return the folder of an explainer of the small world, trained once per test process."""
    from training.explain import RECIPES, train
    from training.explain_export import export

    folder = Path(tempfile.mkdtemp(prefix="explainer-"))
    train(RECIPES["tiny"], [write(folder / "why.jsonl", records(400))], folder / "run")
    export(folder / "run", folder / "explainer", name="tiny")
    return folder / "explainer"
