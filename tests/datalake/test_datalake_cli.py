import json
from pathlib import Path

import pytest
from lake_parts import FRAMES, land, write_truth
from typer.testing import CliRunner, Result

from datalake.cli import app
from datalake.lake import QueryError, ReadOnlyQueryError
from datalake.quarantine import NotInQuarantineError
from datalake.tables import SQL_TYPES, TABLES
from vehicle.contracts.home import Home

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lake-tables.md"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_landing_zone_to_pinned_dataset_by_command(home: Home) -> None:
    land(home)
    write_truth(home)
    assert "1 clips ingested" in done("ingest")
    assert json.loads(done("ingest", "--json"))["already"] == 1
    assert json.loads(done("sql", "SELECT count(*) AS n FROM ticks", "--json")) == [{"n": FRAMES}]
    assert done("sql", "SELECT frame_id FROM ticks ORDER BY 1 LIMIT 2", "--csv").split() == [
        "frame_id",
        "0",
        "1",
    ]
    assert "ttc_s" in done("mine", "low_ttc", "--set", "ttc_s=1.0")
    assert "12 boxes" not in done("label", "low_ttc")
    assert json.loads(done("label", "SELECT clip_id FROM clips", "--json"))["already"] == FRAMES
    made = json.loads(done("dataset", "create", "close", "--sql", "low_ttc", "--json"))
    shown = json.loads(done("dataset", "show", "close", "--json"))
    assert (made["frames"], shown["digest"], shown["pinned"]) == (FRAMES, made["digest"], True)
    assert shown["cars"] == ["car-1"]
    assert done("dataset", "show").split() == ["close"]


def test_the_lake_is_looked_after_by_command(home: Home) -> None:
    clip_id = land(home)
    done("ingest")
    assert "all well: 1 clips" in done("check")
    assert json.loads(done("compact", "--keep", "1", "--json"))["pinned"] == 0
    [file] = json.loads(done("files", "ticks", "--json"))
    assert (file["rows"], Path(file["path"]).suffix) == (FRAMES, ".parquet")
    assert "clips" in done("files")
    assert isinstance(run("files", "nothing").exception, QueryError)
    (home.lake / "clips" / clip_id[:2] / f"{clip_id}.mcap").unlink()
    result = run("check")
    assert (result.exit_code, f"missing: {clip_id}" in result.stdout) == (1, True)
    assert isinstance(run("salvage", "0" * 64).exception, NotInQuarantineError)


def test_tables_and_questions_are_explained(home: Home) -> None:
    listed = json.loads(done("tables", "--json"))
    assert {row["table"]: row["rows"] for row in listed} == dict.fromkeys(TABLES, 0)
    assert "uncertainty_ratio" in done("tables", "ticks")
    assert "night_uncertain" in done("queries")


def test_an_empty_lake_says_what_to_do(home: Home) -> None:
    result = run("sql", "SELECT * FROM clips")
    assert result.exit_code == 0
    assert "roadloop datalake ingest" in result.stderr
    assert "nothing has landed" in done("ingest")
    assert done("dataset", "show").strip() == "there is no dataset yet"
    assert not home.root.exists()


def test_a_long_answer_says_that_it_is_cut(home: Home) -> None:
    assert "3 of 50 rows" in done("sql", "SELECT range FROM range(50)", "--limit", "3")


def test_odd_values_are_shown(home: Home) -> None:
    out = done("sql", "SELECT NULL AS a, [1, 2, 3, 4, 5] AS b, '[red]x' AS c, 1 AS d, 2 AS d")
    assert "[red]x" in out


@pytest.mark.parametrize(
    ("query", "error"), [("SELEC", QueryError), ("DROP TABLE clips", ReadOnlyQueryError)]
)
def test_a_refused_question_is_a_named_error(
    home: Home, query: str, error: type[Exception]
) -> None:
    assert isinstance(run("sql", query).exception, error)


def test_a_setting_that_is_no_number_is_a_usage_error(home: Home) -> None:
    assert run("mine", "night", "--set", "luma=dark").exit_code == 2
    assert run("mine", "night", "--set", "luma").exit_code == 2


def test_page_of_tables_is_up_to_date(request: pytest.FixtureRequest) -> None:
    lines = [
        "# Lake tables",
        "",
        "Written from `datalake/tables.py` by `pytest tests/datalake --update-refs`; the same in",
        "the terminal: `roadloop datalake tables ticks`. A value that was not recorded is NULL.",
    ]
    for table in TABLES.values():
        lines += ["", f"## {table.name}", "", f"A row is {table.row}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {SQL_TYPES[c.kind]} | {c.about} |" for c in table.columns]
    page = "\n".join(lines) + "\n"
    if request.config.getoption("--update-refs"):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "run pytest tests/datalake --update-refs and look"
