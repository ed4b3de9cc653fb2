"""Two bundles over one route, side by side, tick by tick: what `roadloop replay --against` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vehicle import bundles, picture
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import RefusedError
from vehicle.drawing import BACKGROUND, QUIET, WORDS, words
from vehicle.drive import Drive
from vehicle.replay_diff import ReplayDiff, Tally, compare_ticks, summary
from vehicle.sources import RouteSource, Source

STRIP_PX: Final = 1040
"""Width of one of the two pictures of a tick in a strip."""

_TITLE_PX: Final = 40


class NothingToCompareError(RefusedError):
    """Two bundles were to be compared on a route that no camera saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A finished comparison: what differs, and the worst ticks with what led to them."""

    diff: ReplayDiff
    tally: Tally
    rig: Rig | None


def compare(
    route: Path | Source,
    *,
    bundle: Path,
    against: Path,
    campaigns: Sequence[Campaign] = (DEFAULT_CAMPAIGN,),
    adapt: bool = True,
    config: VehicleConfig | None = None,
    keep: int = 6,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Comparison:
    """Drive a route with an old and a new bundle and return how they differ.

    Both see every frame and neither is cut off, so the same route and bundles give the same
    answer on every run of one machine. Each drives by its own scenes; what the car did is what
    the route says it did, whatever either would have done.

    Args:
        route: a route file or an opened source; decoded once for both.
        bundle, against: the new one and the old one.
        keep: how many of the worst ticks, at least half a second apart.
        progress: told ticks done and, where the route says so, of how many.
    Raises:
        NothingToCompareError: the route has no cameras.
        All errors of RouteReader and Perception.
    """
    clock = SystemClock()
    source = route if not isinstance(route, Path) else RouteSource(route)
    about, begin_ns = source.metadata, clock.mono_ns()
    if source.rig is None or not source.rig.cameras:
        raise NothingToCompareError(
            f"{route} has no cameras: two bundles would see the same nothing; choose another route"
        )
    tally = Tally(keep=keep)
    total = int(text) if (text := about.get("ticks", "")).isdigit() else None
    drives: list[Drive] = []
    try:
        for folder in (against, bundle):
            drives.append(
                Drive(
                    car_id=about.get("car_id", ""),
                    route_id=about.get("route_id", ""),
                    rig=source.rig,
                    bundle=folder,
                    campaigns=campaigns,
                    budget=Budget(enforce=False, clock=clock),
                    adapt=adapt,
                    config=config,
                    rate_hz=source.rate_hz,
                )
            )
        for obs in source:
            old, new = (drive.tick(obs) for drive in drives)
            tally.take(compare_ticks(obs, old, new), obs, old, new)
            progress(tally.ticks, total)
    finally:
        for drive in drives:
            drive.close()
    diff = tally.report(
        route=str(route) if isinstance(route, Path) else about.get("route_id", ""),
        old=bundles.load(against).tag,
        new=bundles.load(bundle).tag,
        seconds=(clock.mono_ns() - begin_ns) * 1e-9,
    )
    return Comparison(diff=diff, tally=tally, rig=source.rig)


def draw(comparison: Comparison) -> np.ndarray:
    """Return the worst ticks below each other, the old bundle left and the new one right.

    Returns:
        uint8 [H, W, 3] RGB; one line of words where the two drives are the same to the bit.
    """
    diff, wide = comparison.diff, 2 * STRIP_PX
    rows = [_title(f"{diff.route}: {diff.old} left, {diff.new} right", wide, WORDS)]
    if not comparison.tally.worst:
        rows.append(_title("the same to the bit on every tick", wide, QUIET))
    for tick_diff, obs, old, new in comparison.tally.worst:
        rows.append(_title(summary(tick_diff), wide, WORDS))
        rows.append(
            np.concatenate([_small(picture.draw(obs, t, comparison.rig)) for t in (old, new)], 1)
        )
    return np.concatenate(rows)


def save(path: Path, comparison: Comparison) -> None:
    """Write the strip of the worst ticks as PNG, whole or not at all."""
    done, data = cv2.imencode(".png", cv2.cvtColor(draw(comparison), cv2.COLOR_RGB2BGR))
    wire.require(done, f"cannot encode a picture for {path}")
    wire.atomic_write(path, data.tobytes())


def _small(image: np.ndarray) -> np.ndarray:
    height = round(image.shape[0] * STRIP_PX / image.shape[1])
    return cv2.resize(image, (STRIP_PX, height), interpolation=cv2.INTER_AREA)


def _title(text: str, wide: int, colour: tuple[int, int, int]) -> np.ndarray:
    row = np.full((_TITLE_PX, wide, 3), BACKGROUND, np.uint8)
    words(row, text, (14, 27), size=18, colour=colour)
    return row
