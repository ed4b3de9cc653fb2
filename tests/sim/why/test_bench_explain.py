"""The bench of explanations, small: every row is there, and nothing is said that is not so."""

import asyncio
import shutil
from pathlib import Path

import pytest
from explain_parts import records, tiny_explainer, write

from sim.why import bench_explain
from sim.why.bench_explain import Answered, explain_bench, listen, site
from vehicle.contracts.explanation import answer_of


def answered(number: int, text: str = "because ...") -> Answered:
    record = records(30)[number]
    return Answered(record, text, list(answer_of(record)))


def test_answers_that_name_every_cause_score_one_and_silence_scores_recall() -> None:
    answers = [answered(i) for i in range(30)]
    assert bench_explain._f1(answers, bench_explain._named)["f1"] == 1.0
    silent = [answered(i, "no explanation") for i in range(30)]
    scored = bench_explain._f1(silent, bench_explain._named)
    assert (scored["recall"], scored["said"]) == (0.0, 0)


def test_whoever_is_next_ahead_is_a_peer_that_can_be_right() -> None:
    scored = bench_explain._f1([answered(i) for i in range(30)], bench_explain._next_ahead)
    assert 0.2 < scored["f1"] < 1.0


def test_a_site_is_measured_over_its_socket() -> None:
    with site(tiny_explainer(), slots=2) as url:
        row = asyncio.run(listen(url, tiny_explainer(), records(20), at_once=2, answers=40))
    assert row["answers"] == 40
    assert row["failed"] == 0
    assert row["itl_ms"]["n"] > 40


@pytest.mark.slow
def test_the_bench_has_its_rows_and_nothing_ungrounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADLOOP_HOME", str(tmp_path))
    monkeypatch.setattr(bench_explain, "ANSWERS", 40)
    for name in ("held-out", "known"):
        (tmp_path / "datasets" / "decisions").mkdir(parents=True, exist_ok=True)
        write(tmp_path / "datasets" / "decisions" / f"{name}-1.jsonl", records(60, seed=7))
    folder = tmp_path / "explainer"
    shutil.copytree(tiny_explainer(), folder)
    bench = explain_bench(frames=1, progress=lambda _: None, bundle=folder)
    must = {m.figure: m for m in bench.must}
    assert must["ungrounded mentions"].holds
    assert must["decision agreement, held-out families"].holds
    assert {"batched, 8 at once", "one by one, 8 at once"} <= {r["row"] for r in bench.rows}
