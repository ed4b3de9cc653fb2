"""The page about triggers says what the words mean, from the same table."""

from pathlib import Path

import pytest

from vehicle.contracts.vocabulary import SIGNALS, TRACK_WORDS, Word

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "triggers.md"


def table(words: dict[str, Word]) -> str:
    rows = [
        f"| `{name}`{' *' if word.logged else ''} | {word.unit or word.kind} | {word.meaning} |"
        for name, word in words.items()
    ]
    return "\n".join(["| name | unit | meaning |", "|---|---|---|", *rows]) + "\n"


@pytest.mark.parametrize(("mark", "words"), [("signals", SIGNALS), ("tracks", TRACK_WORDS)])
def test_the_page_lists_every_word(
    mark: str, words: dict[str, Word], request: pytest.FixtureRequest
) -> None:
    page, wanted = PAGE.read_text(), f"<!-- {mark} -->\n\n{table(words)}"
    if request.config.getoption("--update-refs"):
        before, after = page.split(f"<!-- {mark} -->\n", 1)
        after = after.lstrip("\n")
        while after.startswith("|"):
            after = after.split("\n", 1)[1]
        page = before + wanted + (f"\n{after.lstrip(chr(10))}" if after.strip() else "")
        PAGE.write_text(page)
    assert wanted in page
