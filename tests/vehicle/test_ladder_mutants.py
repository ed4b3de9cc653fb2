"""Every comparison of the ladder and of the tick's clock matters: change one, and it shows."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ladder_checks import BUDGET, LADDER
from mutation import Mutant, mutants

from vehicle import budget, fallback

EQUIVALENT = {
    "now >= before (boundary)": "an equal cost is the same cost either way",
}
"""How the names end of mutants that cannot be told from the original, and why."""


@pytest.mark.parametrize("check", LADDER, ids=lambda c: c.__name__)
def test_the_ladder_answers_exactly(check: Callable[[Any], None]) -> None:
    check(fallback)


@pytest.mark.parametrize("check", BUDGET, ids=lambda c: c.__name__)
def test_the_clock_answers_exactly(check: Callable[[Any], None]) -> None:
    check(budget)


@pytest.mark.parametrize(
    ("module", "checks", "least"), [(fallback, LADDER, 60), (budget, BUDGET, 10)]
)
def test_every_mutant_is_caught(
    module: Any, checks: tuple[Callable[[Any], None], ...], least: int
) -> None:
    def survives(mutant: Mutant) -> bool:
        for check in checks:
            try:
                check(mutant.module)
            except Exception:
                return False
        return True

    tried = list(mutants(Path(module.__file__)))
    alive = [m.name for m in tried if survives(m)]
    assert [name for name in alive if not name.endswith(tuple(EQUIVALENT))] == []
    assert len(tried) >= least, Counter(m.kind for m in tried)
