"""The proof that the car needs nobody: all its links cut, and its loop is as it was.

One car drives on the clock with everything beside it: recorder, shadow, an uplink that sends clips
home, and a process that asks a site for advice, each over an emulated link with TLS. In turns the
links carry and lose every packet. What the loop takes is compared pair by pair, and what it plans
frame by frame. It passes a parked truck, where it asks all the time: a car that does not ask would
lose nothing.
"""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from sim.advice.occluded import FAMILY
from sim.benches.bench_load import CAR, bench_car, running_home, served
from sim.benches.bench_loop import FRAME_RATE_HZ, LOAD, observation_of, rendered
from sim.net.links import Link
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import FakeClock, SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.advice import Advice
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.telemetry import Health
from vehicle.contracts.uplink import IDENTITY
from vehicle.drive import Drive
from vehicle.engine_choice import choose_for
from vehicle.offboard import Mailbox, Offboard
from vehicle.processes import Car
from vehicle.realtime import in_words, ordinary, prepare

BLOCK: Final = 36
"""Frames with the links there, and as many with them cut: a second each. On a shared machine one
second of the loop differs from the next by a tenth whatever the links, and from one a while later
by a quarter: so pairs are short and many."""

WARM_UP: Final = 108
DISTINCT: Final = 55
"""Frames, played forth and back: a block is once, so all blocks see the same."""

LINK: Final = "5g-sa"
"""Of both: quick enough that a clip goes home between two cuts."""


@dataclass(slots=True)
class Block:
    """Some seconds with the links as they were: what each tick took, and how often a site answered.

    Args:
        there: the links carry.
        ms: release to command of each tick.
    """

    there: bool
    ms: list[float] = field(default_factory=list)
    answers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCut:
    """What a drive with links that come and go left.

    Args:
        linked_ms, cut_ms: release to command of each tick, with the links there and cut.
        ratios: p50 cut by p50 linked, of each pair of blocks.
        missed: ticks over the deadline, linked and cut.
        answers: of the site in each block, linked and cut.
        plans: digest of all plans and commands of the same frames: without a mailbox, with an empty
            one, and with one full of advice that is refused.
        heed_us: what a look into the mailbox takes: nothing there, and a word about eight people.
        punctuality: in words.
        health: of the parts, and of the loop.
    """

    linked_ms: tuple[float, ...]
    cut_ms: tuple[float, ...]
    ratios: tuple[float, ...]
    missed: tuple[int, int]
    answers: tuple[tuple[int, ...], tuple[int, ...]]
    plans: dict[str, str]
    heed_us: dict[str, tuple[float, ...]]
    punctuality: str
    health: tuple[Health, ...]

    @property
    def ratio(self) -> float:
        """Return the median of the ratios of the pairs."""
        return float(np.median(self.ratios))


def link_cut(
    frames: int,
    progress: Callable[[float], None] = lambda share: None,
    bundle: Path | None = None,
    *,
    fifo: bool = True,
) -> LinkCut:
    """Drive with links that come and go.

    Args:
        frames: ticks counted with the links there; as many are with them cut.
        progress: told the share that is done.
        bundle: what drives; None: the base.
        fifo: ask for the real-time class.
    Raises:
        HomeStartError, LinkDownError, CarStartError: something did not come up.
    """
    folder, seen = bundle or bundles.base_folder(), rendered(DISTINCT, family=FAMILY)
    pairs = max(2, round(frames / BLOCK))
    with TemporaryDirectory() as scratch, _connected(Path(scratch), folder) as (car, links):
        drive = Drive(
            car_id=CAR,
            route_id="bench",
            rig=RIG_R,
            bundle=folder,
            campaigns=(LOAD,),
            budget=Budget(enforce=True, clock=SystemClock()),
            sinks=(car,),
            rate_hz=FRAME_RATE_HZ,
            engine=choose_for(folder),
            shadow=car.disagreement,
            offboard=car.advice(),
        )
        granted = prepare(fifo=fifo)
        try:
            blocks = _run(drive, seen, car, links, pairs, lambda share: progress(0.9 * share))
            heed_us = heed_times()
        finally:
            ordinary()
            gc.enable()
            gc.unfreeze()
        health = (drive.pilot.joined(drive.sight.health), *car.health().values())
        drive.close()
    linked, cut = (np.array([b.ms for b in blocks if b.there is way]) for way in (True, False))
    answers = [tuple(b.answers for b in blocks if b.there is way) for way in (True, False)]
    limit_ms = 10.0
    return LinkCut(
        linked_ms=tuple(linked.ravel().tolist()),
        cut_ms=tuple(cut.ravel().tolist()),
        ratios=tuple((np.median(cut, axis=1) / np.median(linked, axis=1)).tolist()),
        missed=(int((linked > limit_ms).sum()), int((cut > limit_ms).sum())),
        answers=(answers[0], answers[1]),
        plans=plans_of(folder, seen),
        heed_us=heed_us,
        punctuality=in_words(granted),
        health=health,
    )


@contextmanager
def _connected(scratch: Path, bundle: Path) -> Iterator[tuple[Car, Sequence[Link]]]:
    """Run a car that sends home and asks a site, both over links that can be cut."""
    root, identity = scratch / "home", scratch / CAR / IDENTITY
    site = ("infer", "serve", "--site", "edge-1", "--grpc-port", "0", "--http-port", "0")
    with running_home(root, identity) as home, served(root, *site) as told:
        door = json.loads(told)["http"]
        with (
            Link(LINK, _address(home), seed=1) as to_home,
            Link(LINK, _address(door), seed=2) as to_site,
        ):
            setup = replace(
                bench_car(scratch, bundle, FRAME_RATE_HZ, LOAD),
                gateway=f"https://127.0.0.1:{to_home.port}",
                offboard=f"https://127.0.0.1:{to_site.port}",
            )
            with Car(setup) as car:
                yield car, (to_home, to_site)


def _address(url: str) -> tuple[str, int]:
    host, port = url.rsplit("/", 1)[-1].rsplit(":", 1)
    return host, int(port)


def _run(
    drive: Drive,
    seen: list[Observation],
    car: Car,
    links: Sequence[Link],
    pairs: int,
    progress: Callable[[float], None],
) -> list[Block]:
    """Return what came of each block: links there, cut, cut, there, there, ..."""
    clock, blocks = SystemClock(), list[Block]()
    period_ns = round(1e9 / FRAME_RATE_HZ)
    start_ns, total = clock.mono_ns() + period_ns, 2 * pairs * BLOCK
    for number in range(-WARM_UP, total):
        if number >= 0 and number % BLOCK == 0:
            _end(blocks, car)
            blocks.append(Block(there=len(blocks) % 4 in (0, 3), answers=-_answers(car)))
            for link in links:
                link.mend() if blocks[-1].there else link.cut()
            start_ns = clock.mono_ns() + period_ns - (number + WARM_UP) * period_ns
        release_ns = start_ns + (number + WARM_UP) * period_ns
        observation = observation_of(seen, number + WARM_UP, release_ns)
        clock.sleep_until(release_ns)
        tick = drive.tick(observation, release_mono_ns=release_ns)
        if number >= 0:
            blocks[-1].ms.append(tick.timing.total_us * 1e-3)
        if tick.timing.rung == "mrm" and tick.scene is not None and tick.scene.fresh:
            drive.sight.restart()  # the person that UN R157 asks for
            drive.pilot.restart()
        if number % 36 == 0:
            progress(max(number, 0) / total)
    _end(blocks, car)
    return blocks


def _end(blocks: list[Block], car: Car) -> None:
    """Count what the site answered in the block that ends."""
    if blocks:
        blocks[-1].answers += _answers(car)


def _answers(car: Car) -> int:
    """Return how many questions the site has answered so far."""
    return int(car.health()["offboard"].counters.get("answered", 0))


def heed_times(count: int = 2_000) -> dict[str, tuple[float, ...]]:
    """Return what each look into the mailbox took, us: with nothing there, and with advice."""
    clock, real = FakeClock(), SystemClock()
    ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=9.0)
    ask = ControlCommand(frame_id=0, mono_ns=0, accel_mps2=1.0, curvature_1pm=0.0)
    course = np.column_stack([np.linspace(0.0, 70.0, 71), np.zeros((71, 2))])
    obs = Observation(frame=FrameSet(frame_id=0, mono_ns=0), ego=ego)
    out = {}
    with Mailbox() as box:
        offboard = Offboard(box, clock)
        for words, people in (("nothing there", 0), ("eight people", 8)):
            if people:
                told = _ghost(obs, 0, clock)
                box.put(replace(told, tracks=told.tracks * people), proven=True, fresh_s=1.0)
            took = []
            for _ in range(count):
                began_ns = real.mono_ns()
                offboard.heed(ask, None, ego, course)
                took.append((real.mono_ns() - began_ns) * 1e-3)
            out[words] = tuple(took)
    return out


def plans_of(bundle: Path | None, seen: Sequence[Observation]) -> dict[str, str]:
    """Return the digest of all plans and commands of the same frames, by what the mailbox holds.

    Args:
        bundle: network that sees; None: the frames' own traffic.
    """
    return {words: _digest(bundle, seen, words) for words in ("none", "empty", "refused")}


def _digest(bundle: Path | None, seen: Sequence[Observation], words: str) -> str:
    clock, total = FakeClock(), hashlib.sha256()
    with Mailbox() as box:
        drive = Drive(
            car_id=CAR,
            route_id="bench",
            rig=None if bundle is None else RIG_R,
            bundle=bundle,
            campaigns=(),
            budget=Budget(enforce=False, clock=clock),
            offboard=None if words == "none" else Offboard(box, clock),
        )
        for number, obs in enumerate(seen):
            if words == "refused" and obs.ego is not None:
                box.put(_ghost(obs, number, clock), proven=number % 2 == 0, fresh_s=0.001)
            clock.advance_ns(10_000_000)
            tick = drive.tick(obs)
            assert tick.plan is not None
            assert tick.command is not None
            total.update(f"{tick.plan.digest()}{_felt(tick.command)}".encode())
        drive.close()
    return total.hexdigest()


def _felt(command: ControlCommand) -> str:
    return f"{command.accel_mps2!r} {command.curvature_1pm!r} {command.limited_by!r}"


def _ghost(obs: Observation, number: int, clock: FakeClock) -> Advice:
    """Return advice of somebody right before the car, that is stale or unproven when it is seen."""
    assert obs.ego is not None
    now_ns = clock.utc_ns()
    x_m = obs.ego.x_m + 8.0 * np.cos(obs.ego.yaw_rad)
    y_m = obs.ego.y_m + 8.0 * np.sin(obs.ego.yaw_rad)
    return Advice(
        request_id=f"{number:032x}",
        context="edge",
        site="edge-1",
        model_set="collective@1",
        input_utc_ns=now_ns,
        valid_until_utc_ns=now_ns + 1_000_000_000,
        tracks=((1.0, x_m, y_m, 0.0, 0.5, 0.5, 1.7, 0.0, 0.0, 1.0),),
    )


def cut_rows(bench: Bench, found: LinkCut) -> None:
    """Add the rows and the limits of a proof."""
    n = len(found.ratios)
    over = f"{LINK} home and to a site"
    bench.rows.append({"row": f"loop, links there ({over})", "ms": percentiles(found.linked_ms)})
    bench.rows.append({"row": "loop, all links cut", "ms": percentiles(found.cut_ms)})
    bench.rows.append(
        {
            "row": "links cut: beside the loop",
            "pairs": n,
            "ratio_p50": round(found.ratio, 4),
            "ratios_low_high": [round(min(found.ratios), 3), round(max(found.ratios), 3)],
            "missed_there_and_cut": list(found.missed),
            "answers_there_and_cut": [sum(answers) for answers in found.answers],
            "real-time class": found.punctuality,
        }
    )
    for words, took in found.heed_us.items():
        bench.rows.append({"row": f"a look into the mailbox, {words}", "us": percentiles(took)})
    for health in found.health:
        if health.part in ("perception", "offboard", "uplink"):
            bench.rows.append({"row": f"health of {health.part}", **health.counters})
    peer = "the same car with its links, block by block"
    for op, limit in ((">=", 0.95), ("<=", 1.05)):
        bench.must.append(
            Must(
                figure="loop p50, all links cut by links there", value=round(found.ratio, 4),
                op=op, limit=limit, unit="ratio", n=n, peer=peer,
            )
        )  # fmt: skip
    bench.must.append(
        Must(
            figure="answers to the car's questions a second while its links were there",
            value=round(sum(found.answers[0]) / n, 2), op=">=", limit=1, unit="1/s", n=n,
            peer=f"links cut: {sum(found.answers[1]) / n:.2f}",
        )
    )  # fmt: skip
    bench.must.append(
        Must(
            figure="plans and commands of the same frames that differ without links",
            value=len(set(found.plans.values())) - 1, op="==", limit=0, unit="digests",
            n=DISTINCT, peer="no mailbox; an empty one; one of refused advice",
        )
    )  # fmt: skip
