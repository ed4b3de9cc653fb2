"""The nodes of an expression's tree, their kinds, their limits and how they are written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from vehicle.contracts.vocabulary import SIGNALS, Word
from vehicle.contracts.wire import ContractError

MAX_CHARACTERS: Final = 2_000
MAX_NODES: Final = 200
MAX_DEPTH: Final = 20
MAX_WINDOW_S: Final = 30.0
MAX_NUMBER: Final = 1e12

WINDOWS: Final = ("lowest", "highest", "average", "change", "held", "seen", "times")
"""Calls that look back over the last seconds."""

CONDITION_WINDOWS: Final = ("held", "seen", "times")
"""Those of them that take a condition; the others take a number."""

TRACK_CALLS: Final = ("tracks", "nearest", "appears")
"""Calls over the road users of a tick."""

COMPARISONS: Final = ("<=", ">=", "==", "!=", "<", ">")


class ExpressionError(ContractError):
    """A text is not an expression.

    Args:
        position: index of the character where it goes wrong, from 0.
        found, expected: in words.
    """

    def __init__(self, position: int, found: str, expected: str) -> None:
        super().__init__(f"at character {position}: found {found}, expected {expected}")
        self.position, self.found, self.expected = position, found, expected


@dataclass(frozen=True, slots=True)
class Number:
    """A literal; negative ones are one too."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A literal 'text'."""

    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """A signal, or inside TrackCall a column of the track."""

    name: str


@dataclass(frozen=True, slots=True)
class Negate:
    """- of."""

    of: "Expr"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """left op right; a division by zero is unknown."""

    op: Literal["+", "-", "*", "/"]
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class Compare:
    """left op right of two numbers, or == and != of two texts; false when either is unknown."""

    op: Literal["<=", ">=", "==", "!=", "<", ">"]
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class Not:
    """Not a condition: an unknown comparison is false, so this makes it true."""

    of: "Expr"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more conditions; an And is never directly inside an And."""

    of: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more conditions; an Or is never directly inside an Or."""

    of: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Call:
    """abs(number) or rises(condition)."""

    name: Literal["abs", "rises"]
    of: "Expr"


@dataclass(frozen=True, slots=True)
class Window:
    """A call of WINDOWS over the ticks of the last `seconds`, this one included."""

    name: Literal["lowest", "highest", "average", "change", "held", "seen", "times"]
    of: "Expr"
    seconds: float


@dataclass(frozen=True, slots=True)
class TrackCall:
    """A call of TRACK_CALLS; names in `of` are columns of one track."""

    name: Literal["tracks", "nearest", "appears"]
    of: "Expr"


Expr = (
    Number | Text | Name | Negate | Arithmetic | Compare
    | Not | And | Or | Call | Window | TrackCall
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Then:
    """A further step: `expr` holds on a later tick, at most `within_s` after the step before."""

    expr: Expr
    within_s: float


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a text says: a condition, and what must follow it. It holds on the last step's tick."""

    first: Expr
    then: tuple[Then, ...] = ()

    @property
    def steps(self) -> tuple[Expr, ...]:
        """Return the conditions in order."""
        return (self.first, *(step.expr for step in self.then))

    @property
    def nodes(self) -> int:
        """Return the size of the tree."""
        return sum(1 for step in self.steps for _ in walk(step))


def children(node: Expr) -> tuple[Expr, ...]:
    """Return the nodes directly below."""
    if isinstance(node, And | Or):
        return node.of
    if isinstance(node, Arithmetic | Compare):
        return (node.left, node.right)
    if isinstance(node, Number | Text | Name):
        return ()
    return (node.of,)


def walk(node: Expr) -> Iterator[Expr]:
    """Yield a node and all below it, leftmost first."""
    yield node
    for child in children(node):
        yield from walk(child)


def kind_of(node: Expr, words: dict[str, Word] = SIGNALS) -> Literal["number", "text", "condition"]:
    """Return what a node gives; `words` are TRACK_WORDS inside a TrackCall."""
    if isinstance(node, Compare | Not | And | Or):
        return "condition"
    if isinstance(node, Text):
        return "text"
    if isinstance(node, Name):
        return words[node.name].kind
    if isinstance(node, Call) and node.name == "rises":
        return "condition"
    if isinstance(node, Window) and node.name in ("held", "seen"):
        return "condition"
    return "number"


def number_text(value: float) -> str:
    """Return the one way to write a number: shortest digits that read back the same."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _MINUS, _PRIMARY = range(8)
"""How tightly an operator binds, loosest first."""


def format_expr(node: Expr) -> str:
    """Return the canonical text of a part of a tree, for messages and reports."""
    return _text(node, _OR)


def _text(node: Expr, least: int) -> str:
    """Return a node's text, in parentheses where it binds less tightly than `least`."""
    binds, text = _plain_text(node)
    return text if binds >= least else f"({text})"


def _plain_text(node: Expr) -> tuple[int, str]:
    if isinstance(node, Number):
        return (_MINUS if node.value < 0 else _PRIMARY), number_text(node.value)
    if isinstance(node, Text):
        return _PRIMARY, f"'{node.value}'"
    if isinstance(node, Name):
        return _PRIMARY, node.name
    if isinstance(node, Or):
        return _OR, " or ".join(_text(n, _AND) for n in node.of)
    if isinstance(node, And):
        return _AND, " and ".join(_text(n, _NOT) for n in node.of)
    if isinstance(node, Not):
        return _NOT, f"not {_text(node.of, _NOT)}"
    if isinstance(node, Negate):
        return _MINUS, f"-{_text(node.of, _MINUS)}"
    if isinstance(node, Compare):
        return _COMPARE, f"{_text(node.left, _SUM)} {node.op} {_text(node.right, _SUM)}"
    if isinstance(node, Arithmetic):
        binds = _SUM if node.op in "+-" else _PRODUCT
        return binds, f"{_text(node.left, binds)} {node.op} {_text(node.right, binds + 1)}"
    if isinstance(node, Window):
        return _PRIMARY, f"{node.name}({_text(node.of, _OR)}, {number_text(node.seconds)})"
    return _PRIMARY, f"{node.name}({_text(node.of, _OR)})"
