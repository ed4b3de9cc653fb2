"""The documents move with the code: every command, figure command and link is held here."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from typer.core import TyperArgument, TyperGroup

import roadloop

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "reference" / "commands.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def walk(command: Any, path: list[str]) -> list[tuple[list[str], Any]]:
    if isinstance(command, TyperGroup):
        ctx = typer.Context(command, info_name=path[-1])
        names = command.list_commands(ctx)
        return [x for n in names for x in walk(command.get_command(ctx, n), [*path, n])]
    return [(path, command)]


def every_command() -> list[tuple[list[str], Any]]:
    names = [*roadloop.VERBS, *roadloop.PACKAGES]
    return [x for n in names for x in walk(roadloop.load(n), ["roadloop", n])]


def written(commands: list[tuple[list[str], Any]]) -> str:
    """Return the reference page of all commands, from their own help."""
    lines = [
        "# Commands",
        "",
        "Written from the commands' own help by `pytest tests/test_docs.py --update-refs`.",
        "Exit codes: 0 done, 1 refused (with reasons), 2 usage.",
    ]
    for path, command in commands:
        help_lines = " ".join((command.help or "").split("\n\n")[0].split())
        lines += ["", f"## {' '.join(path)}", "", help_lines, ""]
        for p in command.params:
            if p.name == "help":
                continue
            names = p.name.upper() if isinstance(p, TyperArgument) else ", ".join(p.opts)
            text = " ".join((getattr(p, "help", None) or "").split())
            lines.append(f"- `{names}` {text}".rstrip())
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def test_command_reference_is_up_to_date(request: pytest.FixtureRequest) -> None:
    page = written(every_command())
    if request.config.getoption("--update-refs"):
        COMMANDS.write_text(page)
    assert COMMANDS.read_text() == page, "run pytest tests/test_docs.py --update-refs and look"


def test_the_help_of_every_command_can_be_shown() -> None:
    """Words in square brackets are markup: some of them cannot be drawn."""
    for path, command in every_command():
        with typer.Context(command, info_name=path[-1]) as ctx, contextlib.redirect_stdout(None):
            command.get_help(ctx)


def test_every_command_and_option_says_what_it_does() -> None:
    silent = []
    for path, command in every_command():
        if not (command.help or "").strip():
            silent.append(" ".join(path))
        silent += [
            f"{' '.join(path)} {p.name}" for p in command.params if not getattr(p, "help", "")
        ]
    assert silent == []


def test_commands_named_in_the_documents_exist() -> None:
    known = {" ".join(path) for path, _ in every_command()}
    groups = {k.rsplit(" ", 1)[0] for k in known}
    unknown = []
    for page in PAGES:
        fenced = "\n".join(page.read_text().split("```")[1::2])
        for words in re.findall(r"^\s*(roadloop(?: [a-z][a-z-]*)+)", fenced, re.M):
            parts = words.split()
            prefixes = {" ".join(parts[:n]) for n in range(2, len(parts) + 1)}
            if not prefixes & (known | groups - {"roadloop"}):
                unknown.append(f"{page.name}: {words}")
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
    local = [t for t in targets if not t.startswith(("http://", "https://"))]
    assert [t for t in local if not (page.parent / t).exists()] == []


def test_help_lists_every_package_without_importing_any() -> None:
    code = "import sys, roadloop; roadloop.main()"
    words = [sys.executable, "-X", "importtime", "-c", code, "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"numpy", "vehicle.cli", "sim.cli", "torch", "duckdb"})
    for name in [*roadloop.PACKAGES, *roadloop.VERBS]:
        assert name in done.stdout


def test_glossary_has_the_words_of_the_house() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    words = "ego actor track tick scene plan route clip lake dataset bundle report release rollout"
    assert [w for w in words.split() if w not in text] == []


def test_every_file_of_the_simulator_has_its_place_on_the_map() -> None:
    page = (ROOT / "docs" / "reference" / "simulator.md").read_text()
    rows = re.findall(r"^\|.*\| \[`(\w+)/`\]\(.*?\) \| (.*) \|$", page, re.MULTILINE)
    named = [f"{folder}/{name}" for folder, names in rows for name in re.findall(r"\w+", names)]
    paths = [p for p in (ROOT / "sim").glob("*/*.py") if p.stem != "__init__"]
    files = [f"{p.parent.name}/{p.stem}" for p in paths]
    assert sorted(named) == sorted(files)
