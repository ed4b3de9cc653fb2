"""Named questions: what a fleet engineer asks, written once, documented, and usable everywhere.

A question of frames yields clip_id, frame_id and then the value that it chose by, worst first, so
that the same text works in `sql`, `mine`, `label` and `dataset create`. A question of clips yields
clip_id; a question of facts counts and compares, and chooses nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal, NamedTuple

from vehicle.contracts.wire import RefusedError

Yields = Literal["frames", "clips", "facts"]

DRAWN: Final = """drawn AS (
  SELECT e.clip_id, e.mono_ns,
    e."trigger" LIKE 'random%' OR coalesce(e.value = t.random_prob, false) AS drawn
  FROM events e LEFT JOIN ticks t ON t.clip_id = e.clip_id AND t.frame_id = e.frame_id
)"""
"""Events, and whether chance alone fired them: those measured the tick's draw (kind `random`)."""


class UnknownQueryError(RefusedError):
    """There is no named question of that name, or it has no such number to set."""


class NotFramesError(RefusedError):
    """The question counts; what asks for frames cannot use it."""


class Number(NamedTuple):
    """A number of a question that may be set: what it is without being set, and what it means.

    An int stays one: 2.5 is refused where things are counted.
    """

    default: float
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A named question.

    Args:
        name: what it is called by.
        about: what it finds.
        why: why one would ask it.
        needs: tables of the lake it reads.
        text: SQL with the numbers' names in braces; empty: compiled from `when`.
        when: the same question in the language of triggers, where a car could ask it; every frame
            that one finds, the other finds (held by a test).
        numbers: what may be set.
        yields: frames, clips or facts.
    """

    name: str
    about: str
    why: str
    needs: tuple[str, ...]
    text: str = ""
    when: str = ""
    numbers: Mapping[str, Number] = field(default_factory=dict)
    yields: Yields = "frames"

    def sql(self, **values: float) -> str:
        """Return the SQL with its numbers filled in; only numbers ever enter the text.

        Raises:
            UnknownQueryError: a name that the question does not have, or no number at all.
        """
        if self.text:
            return self._filled(self.text, values)
        from datalake.patterns import compiled

        return compiled(self._filled(self.when, values)).sql

    def expression(self, **values: float) -> str:
        """Return the question as an expression that a car can watch for; empty: it cannot."""
        return self._filled(self.when, values)

    def _filled(self, text: str, values: Mapping[str, float]) -> str:
        for key in values:
            if key not in self.numbers:
                known = ", ".join(self.numbers) or "none"
                raise UnknownQueryError(f"{self.name} has no number {key!r}; it has: {known}")
        given = {k: values.get(k, n.default) for k, n in self.numbers.items()}
        return text.format(**{k: self._literal(k, v) for k, v in given.items()})

    def _literal(self, key: str, value: float) -> str:
        whole = isinstance(self.numbers[key].default, int)
        if not math.isfinite(value) or (whole and value != int(value)):
            expected = "a whole number" if whole else "a finite number"
            raise UnknownQueryError(f"{self.name}: {key} is {value}, expected {expected}")
        text = str(int(value)) if whole else repr(float(value))
        return f"({text})" if value < 0 else text  # "-{x}" must not become a comment: --3.5


def described(query: Query) -> dict[str, str]:
    """Return what a person wants to know of a question, as text."""
    numbers = (f"{k}={n.default:g} ({n.about})" for k, n in query.numbers.items())
    return {
        "name": query.name,
        "finds": query.about,
        "why": query.why,
        "yields": query.yields,
        "needs": ", ".join(query.needs),
        "set": ", ".join(numbers),
        "trigger": query.expression() if query.when else "",
        "sql": query.sql(),
    }


def require_frames(query: Query, *also: Yields) -> Query:
    """Return the question if it chooses frames (or what `also` allows).

    Raises:
        NotFramesError: it does not.
    """
    if query.yields != "frames" and query.yields not in also:
        raise NotFramesError(
            f"{query.name} yields {query.yields}, expected frames: it cannot choose what goes "
            "into a dataset; read it with `roadloop datalake mine`"
        )
    return query


@cache
def all_queries() -> Mapping[str, Query]:
    """Return every named question by name, in the order of the reference page."""
    from datalake import queries_driving, queries_fleet, queries_loop

    found: Iterable[Query] = (
        *queries_driving.QUERIES,
        *queries_loop.QUERIES,
        *queries_fleet.QUERIES,
    )
    return {query.name: query for query in found}


def named(name: str) -> Query:
    """Return the question called `name`.

    Raises:
        UnknownQueryError: there is none.
    """
    from difflib import get_close_matches

    known = all_queries()
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownQueryError(
            f"no question is called {name!r}; {hint}there are: {', '.join(known)}"
        )
    return known[name]
