"""The verbs that ask: forms of an answer, patterns, and the way to a trigger and back."""

import io
import json
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lake_parts import FRAMES, land
from typer.testing import CliRunner, Result

from datalake.answers import OutputError
from datalake.ask import QueryTooSlowError
from datalake.bridge import NotATriggerError
from datalake.cli import app
from datalake.ingest import ingest
from datalake.queries import NotFramesError, UnknownQueryError
from vehicle.contracts.home import Home


def run(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


def done(*words: str, given: str | None = None) -> str:
    result = run(*words, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One lake of one clip for all tests of this file: they only ask."""
    home = Home(tmp_path_factory.mktemp("lake") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADLOOP_HOME", str(home.root))
        land(home)
        ingest(home)
        yield home


@pytest.fixture
def lake(home: Home) -> str:
    return next(home.landing.iterdir()).name


def test_one_answer_in_every_form(lake: str, tmp_path: Path) -> None:
    query = "SELECT frame_id, frame_id AS frame_id FROM ticks ORDER BY 1 LIMIT 2"
    assert done("sql", query, "--csv") == "frame_id,frame_id\n0,0\n1,1\n"
    raw = run("sql", query, "--parquet").stdout_bytes
    assert pq.read_table(io.BytesIO(raw)).column_names == ["frame_id", "frame_id_2"]
    for form in ("csv", "json", "parquet"):
        assert "2 rows" in done("sql", query, "--out", str(tmp_path / f"a.{form}"))
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2
    assert json.loads((tmp_path / "a.json").read_text())[1]["frame_id"] == 1
    assert (tmp_path / "a.csv").read_text() == done("sql", query, "--csv")


def test_an_answer_that_can_not_be_given_is_refused_before_it_is_asked(
    lake: str, tmp_path: Path
) -> None:
    assert isinstance(run("sql", "SELEC", "--out", "a.txt").exception, OutputError)
    nowhere = str(tmp_path / "no" / "a.csv")
    assert isinstance(run("sql", "SELECT 1", "--out", nowhere).exception, OutputError)
    assert run("sql", "SELECT 1", "--csv", "--json").exit_code == 2
    assert run("sql", "--parquet").exit_code == 2
    assert run("sql", "SELECT 1", "--time-limit", "0").exit_code == 2


def test_a_script_on_the_input_stream_is_answered(lake: str) -> None:
    assert done("sql", "--csv", given="SELECT 1 AS a;\nSELECT 2 AS b;") == "a\n1\nb\n2\n"


def test_a_time_limit_is_kept(lake: str) -> None:
    endless = "SELECT count(*) FROM range(10000000000) WHERE range % 7 = 1"
    result = run("sql", endless, "--time-limit", "0.2")
    assert isinstance(result.exception, QueryTooSlowError)


def test_questions_are_explained_one_by_one(home: Home) -> None:
    told = json.loads(done("queries", "late_vrus", "--json"))[0]
    assert (told["yields"], "stepped out" in told["why"]) == ("frames", True)
    assert "range_m < 15" in told["trigger"]
    assert "SELECT" in done("queries", "late_vrus")
    assert len(json.loads(done("queries", "--json"))) >= 20
    assert isinstance(run("queries", "late_vru").exception, UnknownQueryError)


def test_patterns_are_found_and_shown_as_sql(lake: str) -> None:
    found = json.loads(done("find", "accel_mps2 <= -5 and tracks(kind == 'car') >= 1", "--json"))
    assert [(row["clip_id"], row["frame_id"]) for row in found] == [(lake, 10), (lake, 11)]
    sql = done("find", "accel_mps2 <= -5", "--sql")
    assert len(json.loads(done("sql", sql, "--json"))) == 2
    assert done("mine", "hard_brakes", "--sql").startswith("SELECT clip_id, frame_id")


def test_a_question_that_counts_labels_nothing(lake: str) -> None:
    assert isinstance(run("label", "coverage").exception, NotFramesError)
    created = run("dataset", "create", "x", "--sql", "never_labelled")
    assert isinstance(created.exception, NotFramesError)


def test_from_question_to_trigger_and_back(lake: str, tmp_path: Path) -> None:
    path = tmp_path / "close.toml"
    words = ("to-trigger", "hard_brakes", "--set", "brake_mps2=5", "--campaign", str(path))
    told = json.loads(done(*words, "--json"))
    assert told["forecast"]["every"]["events"] == 1
    assert told["forecast"]["frames"] == [[lake, 10]]
    where = "SELECT * FROM ticks WHERE speed_mps > 5 AND NOT accel_mps2 > -2"
    said = done("to-trigger", where, "--name", "both", "--campaign", str(path))
    assert "speed_mps > 5 and accel_mps2 <= -2" in said
    assert "MB per car-hour; triggers chose them" in said
    written = tomllib.loads(path.read_text())
    assert [t["when"] for t in written["triggers"]] == [
        "accel_mps2 <= -5",
        "speed_mps > 5 and accel_mps2 <= -2",
    ]
    sql = done("from-trigger", str(path), "both")
    assert len(json.loads(done("sql", sql, "--json"))) == FRAMES - 4
    assert "1 events, 1 clips" in done("from-trigger", str(path), "both", "--run")


def test_what_no_car_can_watch_for_leaves_no_file(lake: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    refused = run("to-trigger", "night_uncertain", "--campaign", str(path))
    assert isinstance(refused.exception, NotATriggerError)
    assert not path.exists()


def test_what_the_page_says_can_be_typed(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleet.cli import app as fleet

    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "ask-the-lake.md"
    fenced = "\n".join(page.read_text().split("```")[1::2])
    typed = [shlex.split(line, comments=True) for line in fenced.splitlines() if "roadloop" in line]
    left_out = [words for words in typed if words[2] in ("label", "dataset") or "<" in words]
    for words in typed:
        if words not in left_out:
            command = {"datalake": app, "fleet": fleet}[words[1]]
            result = CliRunner().invoke(command, words[2:])
            assert result.exit_code == 0, (words, result.output, result.exception)
    assert (len(typed), len(left_out)) == (20, 4)
