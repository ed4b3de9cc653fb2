"""Training the explainer: goes on where it stood, and refuses what is not its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from explain_parts import records, tiny_explainer, write

from training.explain import (
    RECIPES,
    ExplainConfig,
    OtherRunError,
    RecordsError,
    batch_of,
    lesson_of,
    loss_of,
    mirrored,
    read_run,
    train,
)
from training.explain_export import export, graph_of
from training.explain_net import Decoder, DecoderConfig
from vehicle.contracts import wire
from vehicle.contracts.decision import Decision, Factor
from vehicle.contracts.explainer import MANIFEST, Explainer
from vehicle.contracts.explanation import TOKENS

SHORT = replace(
    RECIPES["tiny"], steps=4, checkpoint_every=2, net=DecoderConfig(width=32, heads=2, layers=1)
)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    data = [write(tmp_path / "why.jsonl", records(40))]
    whole = train(SHORT, data, tmp_path / "whole")

    def stop(done: int, total: int, parts: dict[str, float]) -> None:
        raise KeyboardInterrupt

    halves = replace(SHORT, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(replace(halves, steps=4), data, tmp_path / "halves", progress=stop)
    again = train(halves, data, tmp_path / "halves")
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_of_another_run_is_refused_and_an_unfinished_one_not_exported(
    tmp_path: Path,
) -> None:
    data = write(tmp_path / "why.jsonl", records(20))
    train(SHORT, [data], tmp_path / "run")
    with pytest.raises(OtherRunError, match="another recipe"):
        train(replace(SHORT, seed=1), [data], tmp_path / "run")
    with pytest.raises(RecordsError, match="no explainer in training"):
        export(tmp_path / "nowhere", tmp_path / "out")


def test_a_line_that_is_no_tested_record_is_named(tmp_path: Path) -> None:
    good = wire.to_bytes(records(1)[0])
    (tmp_path / "bad.jsonl").write_bytes(good + b"\n{}\n")
    with pytest.raises(RecordsError, match=r"bad\.jsonl:2"):
        train(SHORT, [tmp_path / "bad.jsonl"], tmp_path / "run")
    with pytest.raises(RecordsError, match="is not there"):
        train(SHORT, [tmp_path / "none.jsonl"], tmp_path / "run")


def test_a_mirrored_moment_mirrored_is_the_moment_and_its_causes_change_sides() -> None:
    one = replace(
        records(1)[0],
        bend_1pm=0.03,
        left_lane_m=50.0,
        decision=Decision(longitudinal="stop", lateral="move left", demand_mps2=-1.0),
        causes=(Factor(kind="no lane right"), Factor(kind="limit")),
    )
    other = mirrored(one)
    assert mirrored(other) == one
    assert other.decision.lateral == "move right"
    assert [f.kind for f in other.causes or ()] == ["no lane left", "limit"]
    assert (other.right_lane_m, other.bend_1pm) == (50.0, -0.03)
    assert [a.aside_m for a in other.actors] == [-a.aside_m for a in one.actors]


def test_what_is_padded_changes_nothing() -> None:
    lessons = [lesson_of(r) for r in records(30)]
    torch.manual_seed(0)
    net = Decoder(DecoderConfig(width=32, heads=2, layers=1)).eval()
    random = np.random.default_rng(0)
    shortest, longest = (f(lessons, key=lambda x: len(x.words)) for f in (min, max))
    alone = float(loss_of(net, batch_of([shortest], random, 0.0)).detach())
    batch = batch_of([shortest, longest], random, 0.0)
    batch.target[1] = -1
    assert float(loss_of(net, batch).detach()) == pytest.approx(alone, abs=1e-5)


def test_the_manifest_tells_what_it_was_trained_on() -> None:
    manifest = wire.from_bytes(Explainer, (tiny_explainer() / MANIFEST).read_bytes())
    assert (manifest.tag, manifest.records, manifest.steps) == (
        "tiny@1", 400, RECIPES["tiny"].steps,
    )  # fmt: skip
    assert manifest.vocabulary == len(TOKENS)


def test_the_served_size_is_between_two_and_five_million_numbers() -> None:
    config: ExplainConfig = RECIPES["base"]
    net = Decoder(config.net)
    assert 2_000_000 <= net.parameters_count <= 5_000_000
    assert len(graph_of(net)) < 10_000_000


def test_an_unfinished_run_cannot_be_read(tmp_path: Path) -> None:
    data = write(tmp_path / "why.jsonl", records(20))
    train(SHORT, [data], tmp_path / "run")
    run = (tmp_path / "run" / "run.json").read_bytes().replace(b'"steps":4', b'"steps":400')
    (tmp_path / "run" / "run.json").write_bytes(run)
    with pytest.raises(RecordsError, match="step 4 of 400"):
        read_run(tmp_path / "run")
