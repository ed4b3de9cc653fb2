"""Asking line by line, from a script and on a real terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lake_parts import FRAMES, land

from datalake.answers import OutputError
from datalake.ask import QueryTooSlowError
from datalake.ingest import ingest
from datalake.lake import Lake, QueryError
from datalake.repl import HELP, Quit, Session, UnknownCommandError, complete, script, talk
from vehicle.contracts.home import Home


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
def session(home: Home) -> Iterator[Session]:
    with Lake(home) as lake:
        yield Session(lake, form="csv")


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1;", ["SELECT 1"], ""),
        ("SELECT 1", [], "SELECT 1"),
        ("SELECT 1; SELECT 2; SEL", ["SELECT 1", "SELECT 2"], "SEL"),
        ("SELECT ';' AS a;", ["SELECT ';' AS a"], ""),
        ("SELECT 'it''s;' ;", ["SELECT 'it''s;'"], ""),
        ('SELECT 1 AS ";";', ['SELECT 1 AS ";"'], ""),
        ("SELECT 1 -- no; end\n;", ["SELECT 1 -- no; end"], ""),
        ("SELECT /* ; */ 1;", ["SELECT /* ; */ 1"], ""),
        ("SELECT 'open;", [], "SELECT 'open;"),
        (";;", [], ""),
    ],
)
def test_a_semicolon_ends_a_statement_unless_it_is_quoted(
    text: str, statements: list[str], rest: str
) -> None:
    assert complete(text) == (statements, rest)


def test_a_statement_may_take_several_lines(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.feed("SELECT count(*) AS n")
    assert session.prompt == "  ...> "
    session.feed("FROM ticks;")
    assert session.prompt == "lake> "
    assert capsys.readouterr().out == f"n\n{FRAMES}\n"


def test_a_script_runs_to_its_first_refusal(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    script(session, ["SELECT 1 AS a;\n", "SELECT 2 AS b\n"])
    assert capsys.readouterr().out == "a\n1\nb\n2\n"
    with pytest.raises(QueryError):
        script(session, ["SELECT 1 AS a;\n", "SELEC;\n", "SELECT 3 AS c;\n"])
    assert capsys.readouterr().out == "a\n1\n"
    script(session, [".quit\n", "SELEC;\n"])


def test_dot_commands_show_what_there_is(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for line in (".tables", ".schema", ".schema ticks", ".queries", ".queries low_ttc", ".help"):
        session.feed(line)
        said[line] = capsys.readouterr().out
    assert f"ticks,{FRAMES}" in said[".tables"]
    assert "events: a row is a trigger that fired" in said[".schema"]
    assert re.search(r"ttc_s +DOUBLE +\S", said[".schema ticks"])
    assert "unprotected_turns" in said[".queries"]
    assert "why  " in said[".queries low_ttc"]
    assert said[".help"].strip() == HELP


def test_named_questions_and_expressions_are_asked_by_dot_commands(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.feed(".mine hard_brakes brake_mps2=5")
    session.feed(".find accel_mps2 <= -5 and rung == 'full'")
    shown = capsys.readouterr().out
    assert re.findall(r",(\d+),", shown) == ["11", "10", "10", "11"]


def test_an_answer_is_saved_and_drawn(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match=r"\.save"):
        session.feed(f".save {tmp_path / 'a.csv'}")
    session.feed("SELECT clip_id, frame_id FROM ticks LIMIT 2;")
    for name in ("a.csv", "a.json", "a.parquet"):
        session.feed(f".save {tmp_path / name}")
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2
    assert (tmp_path / "a.csv").read_text().startswith("clip_id,frame_id\n")
    with pytest.raises(OutputError, match="ending in"):
        session.feed(f".save {tmp_path / 'a.txt'}")
    session.feed(f".sheet {tmp_path / 'a.html'}")
    assert "<img" in (tmp_path / "a.html").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    "line",
    [
        ".nothing",
        ".mode parquet",
        ".limit some",
        ".schema none",
        ".mine",
        ".mine x y=z",
        ".save 'a",
    ],
)
def test_a_wrong_command_is_refused_by_name(session: Session, line: str) -> None:
    with pytest.raises((UnknownCommandError, OutputError)):
        session.feed(line)


def test_settings_stay(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        ".mode table",
        ".limit 2",
        ".timer on",
        "SELECT range FROM range(5);",
        ".timer off",
    ):
        session.feed(line)
    shown = capsys.readouterr()
    assert "2 of 5 rows" in shown.out
    assert re.match(r"5 rows in \d+\.\d{3} s", shown.err)
    assert not session.timer


def test_a_time_limit_holds_for_every_question(home: Home) -> None:
    with Lake(home) as lake, pytest.raises(QueryTooSlowError):
        Session(lake, limit_s=0.2).feed(
            "SELECT count(*) FROM range(10000000000) WHERE range % 7 = 1;"
        )


def typed(*lines: str | type[BaseException]) -> Callable[[str], str]:
    left = list(lines)

    def read(prompt: str) -> str:
        if not left:
            raise EOFError
        line = left.pop(0)
        if isinstance(line, str):
            return line
        raise line

    return read


def test_refusals_end_nothing_at_a_terminal(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(session, typed("SELEC;", ".nothing", "SELECT 1", KeyboardInterrupt, "SELECT 2 AS two;"))
    shown = capsys.readouterr()
    assert "QueryError" in shown.err
    assert "UnknownCommandError" in shown.err
    assert "two\n2\n" in shown.out
    talk(session, typed(".quit", "SELEC;"))
    assert "QueryError" not in capsys.readouterr().err
    with pytest.raises(Quit):
        session.feed(".exit")


class Terminal:
    """roadloop datalake sql on a pseudo-terminal."""

    def __init__(self, home: Home, state: Path) -> None:
        self.master, follower = pty.openpty()
        environment = {**os.environ, "ROADLOOP_HOME": str(home.root), "XDG_STATE_HOME": str(state)}
        words = [sys.executable, "-m", "roadloop", "datalake", "sql"]
        self.process = subprocess.Popen(
            words, stdin=follower, stdout=follower, stderr=follower, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self.said = ""

    def wait_for(self, words: str) -> None:
        until_s = time.monotonic() + 20.0
        while words not in self.said:
            assert time.monotonic() < until_s, self.said
            if select.select([self.master], [], [], 0.1)[0]:
                self.said += os.read(self.master, 65_536).decode(errors="replace")

    def type(self, text: str) -> None:
        self.said = ""
        os.write(self.master, text.encode())


def test_a_real_terminal_keeps_history_and_ctrl_c_stops_only_the_question(
    home: Home, tmp_path: Path
) -> None:
    terminal = Terminal(home, tmp_path)
    try:
        terminal.wait_for("lake> ")
        terminal.type("SELECT 41 + 1 AS n;\n")
        terminal.wait_for("1 rows in")
        assert "42" in terminal.said
        terminal.type("SELECT count(*) FROM range(10000000000) WHERE range % 7 = 1;\n")
        time.sleep(0.3)
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for("QueryStoppedError")
        terminal.type("SELECT 7 * 6 AS n;\n.quit\n")
        terminal.wait_for("42")
        assert terminal.process.wait(10.0) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.master)
    history = tmp_path / "roadloop" / "sql-history"
    assert "SELECT 41 + 1 AS n;" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
