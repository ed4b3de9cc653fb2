"""Bulk labelled frames: towns driven through, every so often a frame with its truth."""

import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sim.episode import Episode
from sim.render import make_light
from sim.scenarios import check_split
from sim.weather import kind_of
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    LABEL_MIN_PIXELS,
    DatasetManifest,
    Sample,
    write_shard,
)
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError

SHARD_FRAMES = 100
_FRAMES_PER_EPISODE = 24
_STEPS_BETWEEN = 6

DEFAULT_FAMILIES: Final = ("town_drive", "jaywalker", "sudden_brake", "town_drive")
"""One episode after the other is of the next of these."""


class BadRequestError(RefusedError, ValueError):
    """A dataset was asked for that cannot be: no frames, no towns, a folder already full."""


def generate(
    out: Path,
    *,
    towns: Iterable[int],
    frames: int,
    light: str = "day",
    seed: int = 0,
    tags: dict[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
    weather: str = "clear",
    families: tuple[str, ...] = DEFAULT_FAMILIES,
) -> DatasetManifest:
    """Write a dataset folder of labelled simulator frames.

    Frames are spread evenly over towns. Each town is driven in short episodes from new places,
    with a frame every 0.6 s; between episodes light, traffic and place are drawn anew. Half of
    the frames are seen from a pose beside the lane centre, so that a car that strays knows it.

    Args:
        out: folder to make; it must not hold a dataset yet.
        towns: town numbers.
        frames: how many in total.
        light: one of sim.weather.LIGHTS.
        seed: two calls with the same arguments write the same bytes.
        progress: called with the number of frames written so far.
        weather: one of sim.weather.WEATHERS, drawn anew between episodes.
        families: of the episodes, in turn.
    Raises:
        BadRequestError: nothing to do, or `out` already holds a dataset.
        UnknownLightError, UnknownWeatherError, UnknownFamilyError: no such light, weather, family.
        ReservedFamilyError: a family that is kept for tests, and a town that is not.
    """
    towns = list(towns)
    if frames < 1:
        raise BadRequestError(f"frames is {frames}: ask for at least 1")
    if not towns:
        raise BadRequestError(
            "no town was named: give at least one, e.g. --town-from 0 --town-to 3"
        )
    if (out / "dataset.json").exists():
        raise BadRequestError(f"{out} already holds a dataset: name another folder or remove it")
    if not families:
        raise BadRequestError("no family was named: give at least one, see `roadloop sim families`")
    check_split(families, towns)
    make_light(light, np.random.default_rng(0), kind_of(weather).draw(np.random.default_rng(0)))
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        manifest = _write(
            part, out.name, towns, frames, light, seed, tags or {}, progress, weather, families
        )
        wire.atomic_write(part / "dataset.json", wire.to_bytes(manifest))
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _write(
    folder: Path,
    name: str,
    towns: list[int],
    frames: int,
    light: str,
    seed: int,
    tags: dict[str, str],
    progress: Callable[[int], None] | None,
    weather: str,
    families: tuple[str, ...],
) -> DatasetManifest:
    entries: list[FileEntry] = []
    batch: list[Sample] = []
    boxes, done, rig = np.zeros(len(KINDS), int), 0, None
    for index, town in enumerate(towns):
        share = frames * (index + 1) // len(towns) - frames * index // len(towns)
        for sample, episode in _town_samples(town, share, light, seed, weather, families):
            rig = episode.rig
            seen = sample.boxes[:, BOX_COLUMNS.index("visible_px")] >= LABEL_MIN_PIXELS
            boxes += np.bincount(sample.boxes[seen, 0].astype(int), minlength=len(KINDS))
            batch.append(replace(sample, frame_id=done))
            done += 1
            if len(batch) == SHARD_FRAMES or done == frames:
                entries.append(write_shard(folder / f"shard-{len(entries):05d}.npz", batch))
                batch = []
            if progress:
                progress(done)
    assert rig is not None
    skies = {} if weather == "clear" else {"weather": weather}
    if families != DEFAULT_FAMILIES:
        skies["families"] = ",".join(families)
    return DatasetManifest(
        name=name,
        snapshot=0,
        query=f"sim generate towns={towns[0]}..{towns[-1]} frames={frames} light={light}"
        f" seed={seed}" + "".join(f" {k}={v}" for k, v in skies.items()),
        rig=rig,
        frames=done,
        boxes={kind: int(n) for kind, n in zip(KINDS, boxes, strict=True) if n},
        sources=tuple(f"sim:town={town},seed={seed}" for town in towns),
        files=tuple(entries),
        tags={"light": light, **skies, **tags},
    )


def _town_samples(
    town: int, count: int, light: str, seed: int, weather: str, families: tuple[str, ...]
) -> Iterable[tuple[Sample, Episode]]:
    made = 0
    for visit in range(math.ceil(count / _FRAMES_PER_EPISODE)):
        number = seed * 100_000 + visit
        episode = Episode(
            town=town,
            seed=number,
            light=light,
            weather=weather,
            family=families[visit % len(families)],
        )
        rng = np.random.default_rng((4, number, town))
        for _ in range(min(_FRAMES_PER_EPISODE, count - made)):
            for _ in range(_STEPS_BETWEEN):
                episode.step(None)
            if rng.random() < 0.03 or _stuck(episode):
                episode.relocate(rng)
            yield _sample(episode, rng), episode
            made += 1


def _stuck(episode: Episode) -> bool:
    return episode.motion.speed_mps < 0.2 and episode.frame_id % (4 * _STEPS_BETWEEN) == 0


def _sample(episode: Episode, rng: np.random.Generator) -> Sample:
    """Return the labelled frame, seen from a shifted pose half of the time."""
    kept = episode.motion
    if rng.random() < 0.5:
        side, turn = rng.normal(0.0, 0.45), rng.normal(0.0, 0.06)
        episode.look_from(
            replace(
                kept,
                x_m=kept.x_m - math.sin(kept.yaw_rad) * side,
                y_m=kept.y_m + math.cos(kept.yaw_rad) * side,
                yaw_rad=kept.yaw_rad + turn,
            )
        )
    boxes, bev = episode.truth()
    images = dict(episode.shot().images)
    episode.look_from(kept)
    return Sample(frame_id=0, images=images, boxes=boxes, bev=bev)
