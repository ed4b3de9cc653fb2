"""Bulk labelled frames: towns driven through, every so often a frame with its truth."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sim.look.render import make_light
from sim.look.weather import kind_of
from sim.run.episode import Episode
from sim.story.families import FAMILIES
from sim.story.scenarios import check_split
from sim.story.script import NoPlaceError
from sim.town.world import LAYOUT_STEP
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    LABEL_MIN_PIXELS,
    DatasetManifest,
    Sample,
    motion_between,
    write_shard,
)
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError

SHARD_FRAMES = 100
_FRAMES_PER_EPISODE = 24
_GAP_S = 0.6

DEFAULT_FAMILIES: Final = ("town_drive", "jaywalker", "sudden_brake", "town_drive")
"""One episode after the other is of the next of these."""

ALL_FAMILIES: Final = tuple(name for name, family in FAMILIES.items() if not family.reserved)
"""Every family but those that only tests may meet."""


class BadRequestError(RefusedError, ValueError):
    """A dataset was asked for that cannot be: no frames, no towns, a folder already full."""


Choices = str | tuple[str, ...]
"""One name, or several to draw from between episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What to make; see `generate`."""

    towns: tuple[int, ...]
    frames: int
    lights: tuple[str, ...]
    weathers: tuple[str, ...]
    families: tuple[str, ...]
    seed: int
    sequence: int
    sequence_step_s: float
    signals_ratio: float


def generate(
    out: Path,
    *,
    towns: Iterable[int],
    frames: int,
    light: Choices = "day",
    seed: int = 0,
    tags: dict[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
    weather: Choices = "clear",
    families: tuple[str, ...] = DEFAULT_FAMILIES,
    sequence: int = 1,
    sequence_step_s: float = 0.1,
    signals_ratio: float = 0.4,
) -> DatasetManifest:
    """Write a dataset folder of labelled simulator frames.

    Frames are spread evenly over towns. Each town is driven in short episodes from new places,
    with a run of frames every 0.6 s; between episodes light, weather, traffic and place are drawn
    anew. Half of the runs are seen from a pose beside the lane centre, so that a car that strays
    knows it.

    Args:
        out: folder to make; it must not hold a dataset yet.
        towns: town numbers; a family drives in that number of its own layout.
        frames: how many in total.
        light: of sim.look.weather.LIGHTS.
        seed: two calls with the same arguments write the same bytes.
        progress: called with the number of frames written so far.
        weather: of sim.look.weather.WEATHERS.
        families: of the episodes, in turn.
        sequence: frames in a run; those after the first know the ego's motion since the last.
        sequence_step_s: between the frames of a run.
        signals_ratio: share of episodes whose junctions have traffic lights, whatever the family.
    Raises:
        BadRequestError: nothing to do, or `out` already holds a dataset.
        UnknownLightError, UnknownWeatherError, UnknownFamilyError: no such light, weather, family.
        ReservedFamilyError: a family that is kept for tests, and a town that is not.
    """
    plan = _Plan(
        towns=tuple(towns),
        frames=frames,
        lights=(light,) if isinstance(light, str) else tuple(light),
        weathers=(weather,) if isinstance(weather, str) else tuple(weather),
        families=tuple(families),
        seed=seed,
        sequence=sequence,
        sequence_step_s=sequence_step_s,
        signals_ratio=signals_ratio,
    )
    _check(plan)
    if (out / "dataset.json").exists():
        raise BadRequestError(f"{out} already holds a dataset: name another folder or remove it")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        manifest = _write(part, out.name, plan, tags or {}, progress)
        wire.atomic_write(part / "dataset.json", wire.to_bytes(manifest))
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _check(plan: _Plan) -> None:
    if plan.frames < 1:
        raise BadRequestError(f"frames is {plan.frames}: ask for at least 1")
    if not plan.towns:
        raise BadRequestError(
            "no town was named: give at least one, e.g. --town-from 0 --town-to 3"
        )
    if not plan.families:
        raise BadRequestError("no family was named: give at least one, see `roadloop sim families`")
    if not 1 <= plan.sequence <= SHARD_FRAMES:
        raise BadRequestError(f"sequence is {plan.sequence}: ask for 1..{SHARD_FRAMES} frames")
    if not 0.01 <= plan.sequence_step_s <= 1.0:
        raise BadRequestError(f"sequence_step_s is {plan.sequence_step_s}: possible is 0.01..1")
    if not 0.0 <= plan.signals_ratio <= 1.0:
        raise BadRequestError(f"signals_ratio is {plan.signals_ratio}: possible is 0..1")
    check_split(plan.families, list(plan.towns))
    for weather in plan.weathers:
        air = kind_of(weather).draw(np.random.default_rng(0))
        for light in plan.lights:
            make_light(light, np.random.default_rng(0), air)


def _write(
    folder: Path,
    name: str,
    plan: _Plan,
    tags: dict[str, str],
    progress: Callable[[int], None] | None,
) -> DatasetManifest:
    entries: list[FileEntry] = []
    batch: list[Sample] = []
    boxes, done, rig = np.zeros(len(KINDS), int), 0, None

    def flush() -> None:
        entries.append(write_shard(folder / f"shard-{len(entries):05d}.npz", batch))
        batch.clear()

    for run, episode in _runs(plan):
        rig = episode.rig
        if len(batch) + len(run) > SHARD_FRAMES:
            flush()
        for sample in run:
            seen = sample.boxes[:, BOX_COLUMNS.index("visible_px")] >= LABEL_MIN_PIXELS
            boxes += np.bincount(sample.boxes[seen, 0].astype(int), minlength=len(KINDS))
            batch.append(replace(sample, frame_id=done))
            done += 1
            if progress:
                progress(done)
    flush()
    assert rig is not None
    what = _tags(plan)
    asked = " ".join(f"{k}={v}" for k, v in what.items() if k != "light")
    return DatasetManifest(
        name=name,
        snapshot=0,
        query=f"sim generate towns={plan.towns[0]}..{plan.towns[-1]} frames={plan.frames}"
        f" light={what['light']} seed={plan.seed} signals_ratio={plan.signals_ratio:g}"
        + (f" {asked}" if asked else ""),
        rig=rig,
        frames=done,
        boxes={kind: int(n) for kind, n in zip(KINDS, boxes, strict=True) if n},
        sources=tuple(f"sim:town={town},seed={plan.seed}" for town in plan.towns),
        files=tuple(entries),
        tags={**what, **tags},
    )


def _tags(plan: _Plan) -> dict[str, str]:
    """Return what a dataset is of: its light, and what differs from everyday frames."""
    tags = {"light": ",".join(plan.lights)}
    if plan.weathers != ("clear",):
        tags["weather"] = ",".join(plan.weathers)
    if plan.families != DEFAULT_FAMILIES:
        tags["families"] = "all" if plan.families == ALL_FAMILIES else ",".join(plan.families)
    if plan.sequence > 1:
        tags["sequence"] = f"{plan.sequence}x{plan.sequence_step_s:g}s"
    return tags


def _runs(plan: _Plan) -> Iterator[tuple[list[Sample], Episode]]:
    """Yield runs of consecutive labelled frames, town by town."""
    turn = 0
    for index, town in enumerate(plan.towns):
        count, whole = len(plan.towns), plan.frames
        left = whole * (index + 1) // count - whole * index // count
        visit = 0
        while left > 0:
            episode = _visit(plan, town, plan.seed * 100_000 + visit, turn)
            visit, turn = visit + 1, turn + 1
            for run in _drive(episode, plan, min(_FRAMES_PER_EPISODE, left)):
                left -= len(run)
                yield run, episode


def _visit(plan: _Plan, town: int, number: int, turn: int) -> Episode:
    """Return the next episode: of the next family that finds a place in the town."""
    rng = np.random.default_rng((15, number, town))
    light, weather = str(rng.choice(plan.lights)), str(rng.choice(plan.weathers))
    with_lights = rng.random() < plan.signals_ratio
    for k in range(len(plan.families)):
        family = plan.families[(turn + k) % len(plan.families)]
        try:
            return Episode(
                town=town,
                layout=FAMILIES[family].layout,
                seed=number,
                light=light,
                weather=weather,
                family=family,
                parameters={"signals": 1.0} if with_lights else {},
                rate_hz=_rate_hz(plan.sequence_step_s),
            )
        except NoPlaceError as error:
            refused = error
    raise refused


def _rate_hz(step_s: float) -> float:
    """Return 10 ticks a second, or as many as a step of another length needs."""
    return 10.0 if abs(step_s * 10.0 - round(step_s * 10.0)) < 1e-6 else 1.0 / step_s


def _drive(episode: Episode, plan: _Plan, count: int) -> Iterator[list[Sample]]:
    """Yield runs of an episode, `count` frames in all."""
    number = episode.scenario.seed
    rng = np.random.default_rng((4, number, episode.scenario.town % LAYOUT_STEP))
    rate_hz = episode.rate_hz
    gap, step = round(_GAP_S * rate_hz), max(round(plan.sequence_step_s * rate_hz), 1)
    made = turn = 0
    while made < count:
        _advance(episode, gap)
        stuck = turn % 4 == 3 and episode.motion.speed_mps < 0.2
        if rng.random() < 0.03 or stuck:
            episode.relocate(rng)
        aside_m, turned_rad = 0.0, 0.0
        if rng.random() < 0.5:
            aside_m, turned_rad = rng.normal(0.0, 0.45), rng.normal(0.0, 0.06)
        run: list[Sample] = []
        before: np.ndarray | None = None
        for _ in range(min(plan.sequence, count - made)):
            if run:
                _advance(episode, step)
            sample, before = _sample(episode, aside_m, turned_rad, before, step / rate_hz)
            run.append(sample)
        made, turn = made + len(run), turn + 1
        yield run


def _advance(episode: Episode, ticks: int) -> None:
    for _ in range(ticks):
        episode.step(None)


def _sample(
    episode: Episode, aside_m: float, turned_rad: float, before: np.ndarray | None, dt_s: float
) -> tuple[Sample, np.ndarray]:
    """Return the labelled frame, seen from a pose beside the ego's, and that pose.

    Args:
        before: x, y, yaw the frame before it in its run was seen from.
        dt_s: between the two.
    """
    kept = episode.motion
    if aside_m or turned_rad:
        episode.look_from(
            replace(
                kept,
                x_m=kept.x_m - math.sin(kept.yaw_rad) * aside_m,
                y_m=kept.y_m + math.cos(kept.yaw_rad) * aside_m,
                yaw_rad=kept.yaw_rad + turned_rad,
            )
        )
    boxes, bev = episode.truth()
    light, lanes = episode.road_truth()
    images, pose = dict(episode.shot().images), episode.pose
    episode.look_from(kept)
    moved = np.zeros(4, np.float32) if before is None else motion_between(before, pose, dt_s)
    sample = Sample(
        frame_id=0, images=images, boxes=boxes, bev=bev, motion=moved, light=light, lanes=lanes
    )
    return sample, pose
