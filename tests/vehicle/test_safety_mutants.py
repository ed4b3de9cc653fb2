"""Every comparison of the envelope matters: change one, and some check notices."""

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutation import COMPARISONS, Mutant, module_of, mutants
from safety_checks import CHECKS

from vehicle import safety

SOURCE = Path(safety.__file__)

EQUIVALENT = {
    "_contact: return _NEVER_S, 0.0: 0.0 (constant)": "of a contact that never comes, no speed",
    "_contact: return _NEVER_S, 0.0: 0.0 (constant) #2": "the same",
    "u[TY] * side (arithmetic)": "side is 1 or -1: times it or by it is the same",
    "side * u[TVY] * c (arithmetic)": "the same",
    'max(speed * speed, 0.01), "lateral_accel"),: 0.01 (constant)': "where this floor is felt, "
    "the actuator's own limit is the smaller one",
}
"""How the names end of mutants that cannot be told from the original, and why."""

WARMING = ("__init__",)
"""It only compiles the kernels, with any numbers."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_envelope_answers_exactly(check: Callable[[Any], None]) -> None:
    check(safety)


def test_the_source_run_as_plain_python_answers_the_same() -> None:
    plain = module_of(ast.parse(SOURCE.read_text()), SOURCE)
    for check in CHECKS:
        check(plain)


def survives(mutant: Mutant) -> bool:
    """Return whether no check notices."""
    for check in CHECKS:
        try:
            check(mutant.module)
        except Exception:
            return False
    return True


@pytest.mark.slow
def test_every_mutant_of_the_envelope_is_caught() -> None:
    """Comparisons, and/or, signs, arithmetic, constants, min and max, sine and cosine."""
    kinds, alive = Counter[str](), []
    with np.errstate(all="ignore"):
        for mutant in mutants(SOURCE, without=WARMING):
            kinds[mutant.kind] += 1
            if survives(mutant):
                alive.append(mutant)
    assert [m.name for m in alive if m.kind in COMPARISONS] == []
    assert [m.name for m in alive if not m.name.endswith(tuple(EQUIVALENT))] == []
    assert len(alive) == len(EQUIVALENT), "a mutant listed as equivalent is caught: strike it off"
    assert kinds["boundary"] >= 15, kinds
    assert kinds["opposite"] >= 18, kinds
    assert sum(kinds.values()) >= 240, kinds
