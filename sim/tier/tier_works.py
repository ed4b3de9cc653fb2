"""What is asked in each tier: what a car would send, from a simulated drive in traffic."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from fleet.inference import collective
from fleet.inference.client import AsyncClient, SiteError
from fleet.inference.pictures import packed
from fleet.inference.variants import PICTURES
from sim.net.links import Link
from sim.run.episode import Episode
from sim.tier.tier_site import ADJUDICATE, COLLECTIVE, RunningSite
from sim.tier.tiers import Workload
from vehicle.config import RIG_R
from vehicle.contracts.advice import (
    ADVISED_COLUMNS,
    ASK_EGO,
    ASK_TRACKS,
)
from vehicle.contracts.inference import Tier
from vehicle.contracts.scene import KINDS
from vehicle.preprocess import Preprocessor

DISTINCT: Final = 24
"""Frames that are drawn; asked in turn."""

PERCEIVED: Final = 24
"""Road users whom a car tells of, and whom a roadside camera does."""

REPORT_HZ: Final = 10.0
"""A collective perception message's fastest pace (ETSI TS 103 324, T_GenCpmMin 0.1 s)."""


def collective_perception() -> Workload:
    """Return the question of the low tier: who is there whom I cannot see."""
    rng = np.random.default_rng(4)
    asked = [
        {ASK_TRACKS: _road_users(rng), ASK_EGO: np.array([0.0, 0.0, 0.0, 9.0, 500.0, 300.0])}
        for _ in range(DISTINCT)
    ]
    return Workload(
        tier="low",
        name="collective-perception",
        what=f"collective perception, {PERCEIVED} tracks a car, a roadside camera beside",
        model=COLLECTIVE,
        inputs=lambda number: asked[number % DISTINCT],
        data_class="features",
        deadline_s=0.2,
    )


@asynccontextmanager
async def roadside_camera(site: RunningSite) -> AsyncIterator[None]:
    """Let a camera on a mast tell the site what it sees, over a link of its own, meanwhile."""
    rng = np.random.default_rng(5)
    told = Workload(
        tier="low",
        name="collective-report",
        what="a roadside camera's report",
        model="collective-report",
        inputs=lambda number: {
            ASK_TRACKS: _road_users(rng),
            collective.COVARIANCE: np.tile(np.array([0.1, 0.0, 0.1], np.float32), (PERCEIVED, 1)),
            collective.DELTA: np.zeros(PERCEIVED, np.float32),
            collective.ORIGIN: np.array([500.0, 300.0]),
        },
        data_class="features",
        deadline_s=0.5,
        car_id="mast-1",
    )
    with Link("cabinet", site.grpc, seed=9) as link:
        async with AsyncClient(link.address) as client:
            report = told.call(client)

            async def tell() -> None:
                while True:
                    with contextlib.suppress(SiteError):  # a report that is lost is followed by one
                        await report(0)
                    await asyncio.sleep(1.0 / REPORT_HZ)

            telling = asyncio.create_task(tell())
            try:
                yield
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)


def _road_users(rng: np.random.Generator) -> np.ndarray:
    """Return rows of ADVISED_COLUMNS scattered over a crossing."""
    rows = np.zeros((PERCEIVED, len(ADVISED_COLUMNS)), np.float32)
    columns = {name: i for i, name in enumerate(ADVISED_COLUMNS)}
    rows[:, columns["kind"]] = rng.choice(
        [KINDS.index("car"), KINDS.index("pedestrian")], PERCEIVED
    )
    rows[:, [columns["x_m"], columns["y_m"]]] = rng.uniform(-60.0, 60.0, (PERCEIVED, 2))
    rows[:, [columns["length_m"], columns["width_m"], columns["height_m"]]] = (4.5, 1.9, 1.6)
    rows[:, [columns["vx_mps"], columns["vy_mps"]]] = rng.normal(0.0, 4.0, (PERCEIVED, 2))
    rows[:, columns["score_prob"]] = rng.uniform(0.5, 1.0, PERCEIVED)
    return rows


def adjudication(tier: Tier = "interactive", deadline_s: float = 0.5) -> Workload:
    """Return the question of the interactive tier: a flagged frame, for a larger network."""
    frames = _frames()
    sizes = [sum(len(f) for name in PICTURES for f in frame[name]) for frame in frames]
    return Workload(
        tier=tier,
        name="adjudication",
        what=f"a flagged frame judged, eight JPEG pictures of {np.mean(sizes) / 1e3:.0f} KB",
        model=ADJUDICATE,
        inputs=lambda number: frames[number % len(frames)],
        data_class="pixels",
        deadline_s=deadline_s,
    )


def _frames() -> list[Mapping[str, np.ndarray]]:
    """Return what a car sends of frames of a drive in traffic."""
    episode, preprocess, out = Episode(town=101, seed=7), Preprocessor(RIG_R, RIG_R), []
    for _ in range(DISTINCT):
        seen = episode.observe()
        images, ego = preprocess(seen.frame), seen.ego
        assert ego is not None
        out.append(
            {
                **{name: packed(images[name]) for name in PICTURES},
                ASK_TRACKS: np.zeros((0, len(ADVISED_COLUMNS)), np.float32),
                ASK_EGO: np.array([ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps, 0.0, 0.0]),
            }
        )
        episode.step(None)
    return out
