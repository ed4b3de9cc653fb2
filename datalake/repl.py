"""Asking the lake line by line: on a terminal with history and completion, or from a script.

Nothing here knows where lines come from: `Session.feed` takes one at a time, and tests feed it too.
"""

import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from datalake.answers import FORMS, Form, OutputError, give, save
from datalake.ask import ask
from datalake.lake import Lake
from datalake.patterns import compiled
from datalake.queries import all_queries, described, named
from datalake.tables import SQL_TYPES, TABLES
from vehicle.contracts.wire import RefusedError

PROMPT: Final = "lake> "
MORE: Final = "  ...> "


class Quit(Exception):
    """Whoever asks has had enough."""


class UnknownCommandError(RefusedError):
    """There is no such dot command."""


def complete(text: str) -> tuple[list[str], str]:
    """Split text into the statements that a ';' ends, and the rest that none does yet.

    A ';' within quotes or a comment ends nothing.
    """
    found: list[str] = []
    start = at = 0
    while at < len(text):
        two = text[at : at + 2]
        if text[at] in "'\"":
            at = _after(text, text[at], at + 1)
        elif two == "--":
            at = _after(text, "\n", at + 2)
        elif two == "/*":
            at = _after(text, "*/", at + 2)
        elif text[at] == ";":
            found.append(text[start:at])
            start = at = at + 1
        else:
            at += 1
    return [s.strip() for s in found if s.strip()], text[start:].lstrip()


def _after(text: str, end: str, at: int) -> int:
    """Return the place behind the next `end`; the text's end when there is none."""
    found = text.find(end, at)
    return len(text) if found < 0 else found + len(end)


class Session:
    """What is asked on one lake, and how it is answered.

    Args:
        lake: asked.
        form: of the answers.
        limit: rows of a table.
        limit_s: seconds a question may take.
        timer: say how long each took.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        form: Form = "table",
        limit: int = 40,
        limit_s: float | None = None,
        timer: bool = False,
    ) -> None:
        self.lake = lake
        self.answer: pa.Table | None = None
        self.form, self.limit, self.limit_s, self.timer = form, limit, limit_s, timer
        self._waiting = ""
        self._asked = ""

    @property
    def prompt(self) -> str:
        """Return what to print before the next line."""
        return MORE if self._waiting else PROMPT

    def forget(self) -> None:
        """Drop a statement that was begun."""
        self._waiting = ""

    def feed(self, line: str) -> None:
        """Take one line: a dot command, or a piece of SQL that runs at its ';'.

        Raises:
            RefusedError: by name; the session goes on.
            Quit: it does not.
        """
        if not self._waiting and line.strip().startswith("."):
            self._command(line.strip())
            return
        statements, self._waiting = complete(f"{self._waiting}{line}\n")
        for statement in statements:
            self.ask(statement)

    def end(self) -> None:
        """Ask what is left without a ';'."""
        rest, self._waiting = self._waiting.strip(), ""
        if rest:
            self.ask(rest)

    def ask(self, sql: str) -> None:
        """Ask one question and answer it."""
        began_s = time.perf_counter()
        self.answer = ask(self.lake, sql, self.limit_s)
        took_s = time.perf_counter() - began_s
        self._asked = sql
        give(self.answer, self.form, self.limit)
        if self.timer:
            print(f"{self.answer.num_rows} rows in {took_s:.3f} s", file=sys.stderr)

    def _command(self, line: str) -> None:
        name, *words = _words(line)
        commands: dict[str, Callable[[list[str]], None]] = {
            ".help": self._help,
            ".tables": self._tables,
            ".schema": self._schema,
            ".queries": self._queries,
            ".mine": self._mine,
            ".find": self._find,
            ".mode": self._mode,
            ".limit": self._limit,
            ".timer": self._timer,
            ".save": self._save,
            ".sheet": self._sheet,
            ".quit": self._quit,
            ".exit": self._quit,
        }
        if name not in commands:
            raise UnknownCommandError(f"no command {name}; there are: {' '.join(commands)}")
        commands[name](words)

    def _help(self, words: list[str]) -> None:
        print(HELP)

    def _tables(self, words: list[str]) -> None:
        counts = " UNION ALL ".join(
            f'SELECT \'{name}\' AS "table", count(*) AS "rows" FROM {name}' for name in TABLES
        )
        self._show(ask(self.lake, counts, self.limit_s))

    def _schema(self, words: list[str]) -> None:
        for name in words or TABLES:
            if name not in TABLES:
                raise UnknownCommandError(f"no table is called {name}; {' '.join(TABLES)}")
            print(f"{name}: a row is {TABLES[name].row}")
            for column in TABLES[name].columns if words else ():
                print(f"  {column.name:<22} {SQL_TYPES[column.kind]:<8} {column.about}")

    def _queries(self, words: list[str]) -> None:
        for name in words:
            print("\n".join(f"{k:>8}  {v}" for k, v in described(named(name)).items()))
        if not words:
            self._show(
                pa.Table.from_pylist(
                    [{"name": q.name, "finds": q.about} for q in all_queries().values()]
                ),
                whole=True,
            )

    def _mine(self, words: list[str]) -> None:
        if not words:
            raise UnknownCommandError("expected .mine NAME [number=value ...]")
        pairs = dict(word.partition("=")[::2] for word in words[1:])
        try:
            values = {key: float(value) for key, value in pairs.items()}
        except ValueError:
            raise UnknownCommandError(f"expected number=value, found {words[1:]}") from None
        self.ask(named(words[0]).sql(**values))

    def _find(self, words: list[str]) -> None:
        self.ask(compiled(" ".join(words)).sql)

    def _mode(self, words: list[str]) -> None:
        if words not in (["table"], ["csv"], ["json"]):
            raise UnknownCommandError(f"expected .mode {' | '.join(FORMS[:3])}")
        self.form = words[0]  # type: ignore[assignment]

    def _limit(self, words: list[str]) -> None:
        if len(words) != 1 or not words[0].isdigit():
            raise UnknownCommandError("expected .limit ROWS")
        self.limit = int(words[0])

    def _timer(self, words: list[str]) -> None:
        self.timer = words != ["off"]

    def _save(self, words: list[str]) -> None:
        if self.answer is None or len(words) != 1:
            raise OutputError("expected an answer and then .save FILE.csv|json|parquet")
        save(self.answer, Path(words[0]))
        print(f"{words[0]}: {self.answer.num_rows} rows")

    def _sheet(self, words: list[str]) -> None:
        from datalake.sheet import sheet

        if not self._asked or len(words) > 1:
            raise OutputError("expected a question of clips or frames and then .sheet [FILE]")
        report = sheet(self.lake, self._asked, Path(words[0] if words else "sheet.html"))
        print(f"{report.out}: {report.tiles} of {report.chosen} frames")

    def _quit(self, words: list[str]) -> None:
        raise Quit

    def _show(self, table: pa.Table, *, whole: bool = False) -> None:
        give(table, self.form, table.num_rows if whole else max(self.limit, len(TABLES)))


def _words(line: str) -> list[str]:
    if line.startswith(".find "):
        return [".find", line.removeprefix(".find ")]  # an expression has quotes of its own
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UnknownCommandError(f"{line}: {error}") from error


HELP: Final = """SQL ends with ;  Ctrl-C stops a question, Ctrl-D leaves.
.tables            tables and their rows        .schema [TABLE]     columns and what they mean
.queries [NAME]    named questions              .mine NAME [k=v]    ask one
.find EXPRESSION   ticks a trigger would fire on
.mode table|csv|json   .limit ROWS   .timer on|off
.save FILE         the last answer as .csv, .json or .parquet
.sheet [FILE]      a contact sheet (.html, .png) of the last answer
.quit"""


def script(session: Session, lines: Iterable[str]) -> None:
    """Run lines that nobody is typing; the first refusal ends it."""
    try:
        for line in lines:
            session.feed(line.rstrip("\n"))
        session.end()
    except Quit:
        return


def talk(session: Session, read: Callable[[str], str] = input) -> None:
    """Ask somebody at a terminal line after line; refusals are shown and end nothing."""
    print(f"the lake at snapshot {session.lake.snapshot()}; .help says what can be asked")
    while True:
        try:
            session.feed(read(session.prompt))
        except RefusedError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            session.forget()
            print()
        except EOFError:
            print()
            return
        except Quit:
            return


def with_history(path: Path) -> Callable[[], None]:
    """Let the terminal keep what was typed and complete names; return what saves it."""
    import readline

    words = sorted(
        {*TABLES, *all_queries(), *(c.name for t in TABLES.values() for c in t.columns)}
        | {line.split()[0] for line in HELP.splitlines() if line.startswith(".")}
    )
    readline.set_completer(lambda text, n: _completion(words, text, n))
    readline.set_completer_delims(" \t\n,()=<>+-*/;")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(2_000)
    if path.is_file():
        readline.read_history_file(path)

    def save_history() -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        readline.write_history_file(path)
        path.chmod(0o600)

    return save_history


def _completion(words: list[str], text: str, n: int) -> Any:
    found = [word for word in words if word.startswith(text)]
    return found[n] if n < len(found) else None
