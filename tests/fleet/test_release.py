"""The release gate: what it lets through, and every way it says no."""

from dataclasses import replace
from pathlib import Path

import pytest
from fakes_bundle import make_bundle, make_report

from fleet.release import (
    AtLeast,
    GateRules,
    MayNotFall,
    MustRise,
    ReleaseRefusedError,
    ReportUnreadableError,
    RulesError,
    gate,
    read_report,
)
from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.report import EvalReport

OLD = "0" * 64
RULES = GateRules(rise=(MustRise(metric="recall/*/night"),))


def reasons_of(folder: Path, *args: object, **kwargs: object) -> tuple[str, ...]:
    with pytest.raises(ReleaseRefusedError) as caught:
        gate(folder, *args, **{"release_counter": 1, "rules": RULES, **kwargs})  # type: ignore[arg-type]
    return caught.value.reasons


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def before() -> EvalReport:
    return make_report(OLD, recall=0.5)


@pytest.fixture
def after(bundle: Path) -> EvalReport:
    return make_report(bundles.digest_of(bundle))


def test_better_bundle_becomes_a_release_that_names_its_bytes(
    bundle: Path, before: EvalReport, after: EvalReport
) -> None:
    release = gate(bundle, [after], [before], release_counter=7, rules=RULES, running_digest=OLD)
    assert release.release_counter == 7
    assert release.bundle == "base@2"
    assert release.bundle_digest == bundles.digest_of(bundle)
    assert release.rig_digest == RIG_R.digest
    assert release.archive.sha256 == wire.digest(bundles.pack(bundle))
    assert release.report_digests == (wire.digest(wire.to_bytes(after)),)
    assert release.target_path == "base/7.tar"


def test_rise_within_its_interval_is_refused(bundle: Path, before: EvalReport) -> None:
    chance = make_report(bundles.digest_of(bundle), recall=0.52, half_width=0.05)
    (reason,) = reasons_of(bundle, [chance], [before])
    assert "recall/car/night" in reason
    assert "0.47..0.57" in reason


def test_rise_by_value_alone_can_be_asked_for(bundle: Path, before: EvalReport) -> None:
    small = make_report(bundles.digest_of(bundle), recall=0.52, half_width=0.05)
    rules = GateRules(rise=(MustRise(metric="recall/*/night", evidence="value"),))
    assert gate(bundle, [small], [before], release_counter=1, rules=rules).release_counter == 1


def test_too_few_samples_prove_nothing(bundle: Path, before: EvalReport) -> None:
    few = make_report(bundles.digest_of(bundle), n=5)
    (reason,) = reasons_of(bundle, [few], [before])
    assert "5 samples, expected 30" in reason


def test_guard_metric_that_falls_is_refused(bundle: Path, before: EvalReport) -> None:
    costly = make_report(bundles.digest_of(bundle), guard=0.8)
    (reason,) = reasons_of(bundle, [costly], [before])
    assert "recall/car/day got worse by 0.1" in reason


def test_report_about_another_bundle_is_refused(bundle: Path, before: EvalReport) -> None:
    (reason,) = reasons_of(bundle, [make_report("a" * 64)], [before])
    assert "not about this bundle" in reason


def test_report_before_must_be_about_what_the_cars_run(
    bundle: Path, before: EvalReport, after: EvalReport
) -> None:
    (reason,) = reasons_of(bundle, [after], [before], running_digest="b" * 64)
    assert "expected bbbbbbbbbbbb" in reason


def test_running_network_without_a_report_is_refused(bundle: Path, after: EvalReport) -> None:
    (reason,) = reasons_of(bundle, [after], [], running_digest=OLD, rules=GateRules())
    assert "no report of what the cars run now" in reason


def test_other_data_before_and_after_is_refused(
    bundle: Path, before: EvalReport, after: EvalReport
) -> None:
    other = make_report(bundles.digest_of(bundle), data="e" * 64)
    reasons = reasons_of(bundle, [other], [before])
    assert any("same data" in r for r in reasons)


def test_no_report_at_all_is_refused(bundle: Path) -> None:
    assert any("no evaluation report" in r for r in reasons_of(bundle, [], []))


def test_metric_that_vanished_is_refused(bundle: Path, before: EvalReport) -> None:
    whole = make_report(bundles.digest_of(bundle))
    less = replace(whole, metrics=whole.metrics[:1])
    (reason,) = reasons_of(bundle, [less], [before])
    assert "no longer measured" in reason


def test_floor_holds_without_an_older_network(bundle: Path, after: EvalReport) -> None:
    rules = GateRules(floor=(AtLeast(metric="recall/car/day", value=0.95),))
    (reason,) = reasons_of(bundle, [after], [], rules=rules)
    assert "expected at least 0.95" in reason


def test_bundle_that_fails_its_golden_vectors_is_refused(
    tmp_path: Path, before: EvalReport
) -> None:
    make_bundle(tmp_path / "bad", golden_gain=0.6)
    report = make_report(bundles.digest_of(tmp_path / "bad"))
    (reason,) = reasons_of(tmp_path / "bad", [report], [before])
    assert reason.startswith("self-test: SelfTestError")


def test_rule_can_be_about_some_data_only(bundle: Path, before: EvalReport) -> None:
    night = replace(before, config={"tag.light": "night"})
    day = replace(before, config={"tag.light": "day"}, data_digest="e" * 64)
    digest = bundles.digest_of(bundle)
    better = replace(make_report(digest), config=night.config)
    same = replace(day, subject_digest=digest)
    everywhere = reasons_of(bundle, [better, same], [night, day])
    assert len(everywhere) == 1
    rules = GateRules(rise=(MustRise(metric="recall/*/night", where={"tag.light": "night"}),))
    assert gate(bundle, [better, same], [night, day], release_counter=1, rules=rules)
    rules = GateRules(rise=(MustRise(metric="recall/*/night", where={"tag.light": "fog"}),))
    (reason,) = reasons_of(bundle, [better, same], [night, day], rules=rules)
    assert "fog" in reason


def test_weak_guard_refuses_only_a_proven_fall(bundle: Path, before: EvalReport) -> None:
    weak = GateRules(guard=(MayNotFall(metric="*", allow=0.0, evidence="interval"),))
    digest = bundles.digest_of(bundle)
    noise = make_report(digest, recall=0.49, half_width=0.05)
    assert gate(bundle, [noise], [before], release_counter=1, rules=weak)
    proven = make_report(digest, recall=0.4, half_width=0.05)
    (reason,) = reasons_of(bundle, [proven], [before], rules=weak)
    assert "got worse by 0.1" in reason


def test_all_reasons_are_given_at_once(bundle: Path, before: EvalReport) -> None:
    bad = make_report("a" * 64, recall=0.4, guard=0.5)
    assert len(reasons_of(bundle, [bad], [before])) == 4


def test_rules_are_read_strictly_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[rise]]\nmetric = "recall/*"\nby = 0.1\n[[guard]]\nmetric = "*"\nallow = 0.0\n'
    )
    rules = GateRules.from_toml(path)
    assert rules.rise == (MustRise(metric="recall/*", by=0.1),)
    assert rules.guard == (MayNotFall(metric="*", allow=0.0),)
    path.write_text("no_such_rule = 1\n")
    with pytest.raises(RulesError, match="no_such_rule"):
        GateRules.from_toml(path)


def test_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(ReportUnreadableError):
        read_report(tmp_path / "r.json")
