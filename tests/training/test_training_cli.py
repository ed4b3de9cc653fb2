import json

import pytest
from training_parts import make_dataset
from typer.testing import CliRunner

from training.cli import app
from training.recipes import UnknownRecipeError

RUNNER = CliRunner()


@pytest.mark.slow
def test_train_export_and_evaluate_follow_each_other(tmp_path):
    data = str(make_dataset(tmp_path / "data", frames=2))
    run, bundle, report = (str(tmp_path / n) for n in ("run", "bundle", "report.json"))
    for words in (
        ["train", "--dataset", data, "--recipe", "tiny", "--out", run],
        ["export", "--run", run, "--out", bundle, "--odd", "light=day", "--version", "2"],
        ["evaluate", "--bundle", bundle, "--dataset", data, "-o", report],
    ):
        result = RUNNER.invoke(app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        last = json.loads(result.stdout.strip().splitlines()[-1])
        assert last
    assert json.loads((tmp_path / "report.json").read_text())["subject"] == "base@2"


def test_an_unknown_recipe_is_refused_before_anything_is_read(tmp_path):
    words = ["train", "--dataset", str(tmp_path), "--recipe", "x", "--out", str(tmp_path / "o")]
    result = RUNNER.invoke(app, words)
    assert isinstance(result.exception, UnknownRecipeError)
    assert not (tmp_path / "o").exists()


def test_a_malformed_odd_is_a_usage_error(tmp_path):
    words = ["export", "--run", str(tmp_path), "--out", str(tmp_path / "b"), "--odd", "light"]
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.output
