"""Decision records -> a decoder that explains them, and its graph for serving without torch."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from training.explain_net import Decoder, DecoderConfig
from vehicle.contracts import wire
from vehicle.contracts.decision import DecisionRecord, FactorKind, Lateral
from vehicle.contracts.explanation import (
    NUMBERS,
    VOCABULARY,
    Speaker,
    answer_of,
    read,
    slot_of,
)
from vehicle.contracts.wire import RefusedError, require

RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.pt"
_LENGTHS: Final = 4


class RecordsError(RefusedError):
    """There is nothing to learn from, or a line is no record."""


class OtherRunError(RefusedError):
    """The folder holds a run of another recipe or of other records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainConfig:
    """Everything that decides the weights, beside the records.

    Args:
        recipe: its name. steps, batch: of the optimiser.
        learning_rate: at its peak; warm-up, then a cosine to a hundredth.
        jitter: largest relative change of the scene's numbers, so that none is learned by heart.
        checkpoint_every: steps.
    """

    SCHEMA: ClassVar[str] = "explaintrain/1"
    recipe: str
    steps: int
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 60
    weight_decay: float = 0.05
    jitter: float = 0.03
    checkpoint_every: int = 50
    seed: int = 0
    net: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        require(self.steps > 0 and self.batch > 0, f"recipe {self.recipe!r}: nothing to do")


RECIPES: Final = {
    "base": ExplainConfig(recipe="base", steps=3_000, warmup=150),
    "quick": ExplainConfig(recipe="quick", steps=400, batch=32, warmup=20),
    "tiny": ExplainConfig(
        recipe="tiny", steps=100, batch=16, warmup=10, learning_rate=4e-3,
        net=DecoderConfig(width=32, heads=2, layers=1, dropout=0.0),
    ),
}  # fmt: skip
"""base: what is served. quick: the same size in a minute or two, to look at. tiny: for tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder was made from."""

    SCHEMA: ClassVar[str] = "explainrun/1"
    config: ExplainConfig
    records: int
    records_digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One record as arrays: the whole row of tokens, and what was allowed where it counts."""

    words: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray
    begin: int
    answer: np.ndarray
    allowed: np.ndarray


def lesson_of(record: DecisionRecord) -> Lesson:
    """Return what a decoder learns from one tested record."""
    scene, answer = read(record), answer_of(record)
    speaker, allowed = Speaker(record), []
    for token in answer:
        allowed.append(speaker.allowed())
        speaker.say(token)
    said = np.array(answer[:-1], np.int64)
    return Lesson(
        words=np.concatenate([scene.words, said]),
        slots=np.concatenate([scene.slots, [slot_of(int(t)) for t in said]]).astype(np.int64),
        numbers=scene.numbers,
        begin=len(scene.words) - 1,
        answer=np.array(answer, np.int64),
        allowed=np.stack(allowed),
    )


def mirrored(record: DecisionRecord) -> DecisionRecord:
    """Return the same moment with left and right exchanged: the planner knows no favourite side."""
    decision = replace(record.decision, lateral=cast(Lateral, _other_side(record.decision.lateral)))
    causes = None
    if record.causes is not None:
        causes = tuple(
            replace(f, kind=cast(FactorKind, _other_side(f.kind))) for f in record.causes
        )
    return replace(
        record,
        aside_m=-record.aside_m,
        bend_1pm=-record.bend_1pm,
        left_lane_m=record.right_lane_m,
        right_lane_m=record.left_lane_m,
        actors=tuple(
            replace(a, aside_m=-a.aside_m, across_mps=-a.across_mps) for a in record.actors
        ),
        decision=decision,
        causes=causes,
    )


def _other_side(words: str) -> str:
    sides = {"left": "right", "right": "left"}
    return " ".join(sides.get(word, word) for word in words.split())


def read_lessons(paths: Sequence[Path]) -> tuple[list[Lesson], str]:
    """Return two lessons of each record of files, one of them mirrored, and a digest of the files.

    Raises:
        RecordsError: a file is missing, empty, or a line is no tested record; it is named.
    """
    lessons, digests = [], []
    for path in paths:
        if not path.is_file():
            raise RecordsError(f"{path} is not there; `roadloop sim decisions` writes records")
        data = path.read_bytes()
        digests.append(wire.digest(data))
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                record = wire.from_bytes(DecisionRecord, line)
                lessons += [lesson_of(record), lesson_of(mirrored(record))]
            except wire.ContractError as error:
                raise RecordsError(f"{path}:{number}: {error}") from error
    if not lessons:
        raise RecordsError(f"{', '.join(map(str, paths)) or 'nothing'} holds no record")
    return lessons, wire.digest("\n".join(digests).encode())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Lessons side by side, padded at their ends."""

    words: Tensor
    slots: Tensor
    places: Tensor
    numbers: Tensor
    target: Tensor
    allowed: Tensor


def batch_of(lessons: Sequence[Lesson], rng: np.random.Generator, jitter: float) -> Batch:
    """Return lessons as one batch; `target` is -1 where nothing is asked."""
    longest = max(len(lesson.words) for lesson in lessons)
    shape = (len(lessons), longest)
    words, slots, places = (np.zeros(shape, np.int64) for _ in range(3))
    numbers = np.zeros((*shape, NUMBERS), np.float32)
    target, allowed = np.full(shape, -1, np.int64), np.ones((*shape, VOCABULARY), bool)
    for i, lesson in enumerate(lessons):
        count, begin = len(lesson.words), lesson.begin
        words[i, :count], slots[i, :count] = lesson.words, lesson.slots
        places[i, begin + 1 : count] = np.arange(1, count - begin)
        noise = 1.0 + jitter * rng.uniform(-1.0, 1.0, lesson.numbers.shape)
        numbers[i, : begin + 1] = lesson.numbers * noise
        target[i, begin:count] = lesson.answer
        allowed[i, begin:count] = lesson.allowed
    return Batch(*(torch.from_numpy(a) for a in (words, slots, places, numbers, target, allowed)))


def batches(
    lessons: Sequence[Lesson], config: ExplainConfig, first: int
) -> Iterator[tuple[int, Batch]]:
    """Yield steps with their batches; the same step is given the same lessons in every run.

    Lessons of about one length go together, so that little is padded.
    """
    lengths = np.array([len(lesson.words) for lesson in lessons])
    for step in range(first, config.steps):
        rng = np.random.default_rng((config.seed, step))
        drawn = rng.choice(len(lessons), min(_LENGTHS * config.batch, len(lessons)), replace=False)
        drawn = drawn[np.argsort(lengths[drawn], kind="stable")]
        start = int(rng.integers(max(len(drawn) - config.batch, 0) + 1))
        chosen = [lessons[int(i)] for i in drawn[start : start + config.batch]]
        yield step, batch_of(chosen, rng, config.jitter)


def loss_of(net: Decoder, batch: Batch) -> Tensor:
    """Return the mean cross entropy of what is said, among what may be said."""
    past, kept = net.nothing(len(batch.words))
    logits, _ = net(batch.words, batch.slots, batch.places, batch.numbers, past, kept)
    logits = logits.float().masked_fill(~batch.allowed, -1e4)
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.target.flatten(), ignore_index=-1
    )


def train(
    config: ExplainConfig,
    paths: Sequence[Path],
    out: Path,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Decoder:
    """Train in a run folder; started again, the run goes on from its last checkpoint.

    Raises:
        RecordsError: see `read_lessons`.
        OtherRunError: the folder belongs to other records or another recipe.
    """
    lessons, digest = read_lessons(paths)
    run = Run(config=config, records=len(lessons) // 2, records_digest=digest)
    _claim(out, run)
    torch.manual_seed(config.seed)
    net = Decoder(config.net)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    first = _resume(out / CHECKPOINT, net, optimizer)
    recent: list[float] = []
    net.train()
    for step, batch in batches(lessons, config, first):
        for group in optimizer.param_groups:
            group["lr"] = _rate(config, step)
        torch.manual_seed(config.seed * 1_000_003 + step)  # what is dropped, too, after a resume
        with torch.autocast("cpu", torch.bfloat16):  # a third of the time on this processor
            loss = loss_of(net, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        recent.append(float(loss.detach()))
        done = step + 1
        if done % config.checkpoint_every and done < config.steps:
            continue
        _save(out / CHECKPOINT, net, optimizer, done)
        if progress is not None:
            progress(done, config.steps, {"total": sum(recent) / len(recent)})
        recent = []
    return net.eval()


def read_run(folder: Path) -> tuple[Run, Decoder]:
    """Return a finished run and its network.

    Raises:
        RecordsError: it is no run folder, or its training has not ended.
    """
    path = folder / RUN
    if not path.is_file() or not (folder / CHECKPOINT).is_file():
        raise RecordsError(f"{folder} holds no explainer in training")
    run = wire.from_bytes(Run, path.read_bytes())
    net = Decoder(run.config.net)
    done = _resume(folder / CHECKPOINT, net, None)
    if done < run.config.steps:
        raise RecordsError(f"{folder} is at step {done} of {run.config.steps}: let it go on")
    return run, net.eval()


def _claim(out: Path, run: Run) -> None:
    path = out / RUN
    if path.is_file() and wire.from_bytes(Run, path.read_bytes()) != run:
        raise OtherRunError(
            f"{out} holds a run of another recipe or of other records; give another --out"
        )
    wire.atomic_write(path, wire.to_bytes(run))


def _rate(config: ExplainConfig, step: int) -> float:
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def _save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    buffer = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, buffer)
    wire.atomic_write(path, buffer.getvalue())


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer | None) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["net"])
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
