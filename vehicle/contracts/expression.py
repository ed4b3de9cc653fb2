"""The one language of triggers and patterns: text to a frozen tree and back.

A text is a trigger in the car and a pattern over the lake; both are made from the tree, nobody
ever evaluates the text. Language and meaning: docs/reference/triggers.md.
"""

from functools import lru_cache

from vehicle.contracts.expression_parser import Parser
from vehicle.contracts.expression_tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    Expr,
    ExpressionError,
    Name,
    Negate,
    Not,
    Number,
    Or,
    Pattern,
    Text,
    Then,
    TrackCall,
    Window,
    children,
    format_expr,
    kind_of,
    number_text,
    walk,
)
from vehicle.contracts.vocabulary import SIGNALS, TRACK_WORDS, Word

__all__ = [
    "SIGNALS", "TRACK_WORDS", "And", "Arithmetic", "Call", "Compare", "Expr", "ExpressionError",
    "Name", "Negate", "Not", "Number", "Or", "Pattern", "Text", "Then", "TrackCall", "Window",
    "Word", "children", "format", "format_expr", "kind_of", "number_text", "parse", "reads_tracks",
    "signals_of", "walk",
]  # fmt: skip


@lru_cache(maxsize=1024)
def parse(text: str) -> Pattern:
    """Return the tree of a text.

    Args:
        text: pattern := expr ("then" expr "within" NUMBER "s")*; see docs/reference/triggers.md.
    Raises:
        ExpressionError: it is not one, or over a limit; names where, what and what was expected.
    """
    return Parser(text).pattern()


def format(pattern: Pattern) -> str:
    """Return the canonical text of a tree: `parse(format(p)) == p`."""
    then = (f" then {format_expr(s.expr)} within {number_text(s.within_s)} s" for s in pattern.then)
    return format_expr(pattern.first) + "".join(then)


def signals_of(pattern: Pattern) -> frozenset[str]:
    """Return the names of the signals a pattern reads; columns of tracks are not among them."""
    found: set[str] = set()
    todo = list(pattern.steps)
    while todo:
        node = todo.pop()
        if isinstance(node, Name):
            found.add(node.name)
        elif not isinstance(node, TrackCall):
            todo.extend(children(node))
    return frozenset(found)


def reads_tracks(pattern: Pattern) -> bool:
    """Return whether a pattern looks at single road users."""
    return any(isinstance(n, TrackCall) for step in pattern.steps for n in walk(step))
