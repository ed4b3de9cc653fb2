"""Recursive descent over an expression's text; every refusal says where and what was expected."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, NoReturn

from vehicle.contracts import expression_tree as tree
from vehicle.contracts.expression_tree import Expr, ExpressionError
from vehicle.contracts.vocabulary import SIGNALS, TRACK_WORDS

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<text>'[^'\n]{0,64}')|(?P<sign><=|>=|==|!=|[<>()+\-*/,])|(?P<end>$))"
)
_KEYWORDS: Final = ("and", "or", "not", "then", "within")
_CALLS: Final = ("abs", "rises", *tree.WINDOWS, *tree.TRACK_CALLS)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


class Parser:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        if len(text) > tree.MAX_CHARACTERS:
            raise ExpressionError(
                tree.MAX_CHARACTERS, f"{len(text)} characters", f"at most {tree.MAX_CHARACTERS}"
            )
        self._tokens = _tokens(text)
        self._next = 0
        self._nested = 0
        self._inside = ""  # the call over tracks that is being read
        self._starts: dict[int, int] = {}  # id of a node -> where it begins
        self._levels: dict[int, int] = {}  # id of a node -> how deep it is
        self._kept: list[Expr] = []  # so that no id is given twice

    def pattern(self) -> tree.Pattern:
        """Return the whole text's tree."""
        first = self._condition()
        then = []
        while self._take("then"):
            expr = self._condition()
            self._want("within")
            then.append(tree.Then(expr, self._seconds(unit=True)))
        if self._peek.kind != "end":
            self._refuse("and, or, then, a comparison or the end")
        made = tree.Pattern(first, tuple(then))
        if made.nodes > tree.MAX_NODES:
            raise ExpressionError(0, f"{made.nodes} nodes", f"at most {tree.MAX_NODES}")
        return made

    # what follows goes from the loosest operator to the tightest

    def _condition(self) -> Expr:
        return self._must_be("condition", self._or())

    def _or(self) -> Expr:
        return self._chain("or", self._and, tree.Or)

    def _and(self) -> Expr:
        return self._chain("and", self._not, tree.And)

    def _chain(self, word: str, part: Any, made: Any) -> Expr:
        first: Expr = part()
        if self._peek.text != word:
            return first
        parts = [self._must_be("condition", first)]
        while self._take(word):
            parts.append(self._must_be("condition", part()))
        flat = [n for p in parts for n in (p.of if isinstance(p, made) else (p,))]
        return self._note(made(tuple(flat)), self._starts[id(first)])

    def _not(self) -> Expr:
        at = self._peek.at
        if not self._take("not"):
            return self._comparison()
        with self:
            return self._note(tree.Not(self._must_be("condition", self._not())), at)

    def _comparison(self) -> Expr:
        left = self._sum()
        token = self._peek
        if token.text not in tree.COMPARISONS:
            return left
        self._next += 1
        right = self._sum()
        self._comparable(token, left, right)
        if self._peek.text in tree.COMPARISONS:
            self._refuse("`and` between comparisons: they cannot be chained")
        made = tree.Compare(token.text, left, right)  # type: ignore[arg-type]
        return self._note(made, self._starts[id(left)])

    def _sum(self) -> Expr:
        return self._reckon(("+", "-"), self._product)

    def _product(self) -> Expr:
        return self._reckon(("*", "/"), self._minus)

    def _reckon(self, signs: tuple[str, ...], part: Any) -> Expr:
        left: Expr = part()
        while self._peek.text in signs:
            left_number = self._must_be("number", left)
            op, self._next = self._peek.text, self._next + 1
            right = self._must_be("number", part())
            made = tree.Arithmetic(op, left_number, right)  # type: ignore[arg-type]
            left = self._note(made, self._starts[id(left)])
        return left

    def _minus(self) -> Expr:
        at = self._peek.at
        if not self._take("-"):
            return self._primary()
        with self:
            of = self._must_be("number", self._minus())
        made = tree.Number(-of.value) if isinstance(of, tree.Number) else tree.Negate(of)
        return self._note(made, at)

    def _primary(self) -> Expr:
        token = self._peek
        if token.kind == "number":
            self._next += 1
            return self._note(tree.Number(_number(token)), token.at)
        if token.kind == "text":
            self._next += 1
            return self._note(tree.Text(token.text[1:-1]), token.at)
        if self._take("("):
            with self:
                inner = self._or()
            self._want(")")
            return inner
        if token.kind != "name" or token.text in _KEYWORDS:
            self._refuse("a number, a name, a call or (")
        self._next += 1
        if self._peek.text == "(":
            return self._call(token)
        words = TRACK_WORDS if self._inside else SIGNALS
        if token.text not in words:
            self._next -= 1
            what = f"a column of a track inside {self._inside}()" if self._inside else "a signal"
            self._refuse(_known(token.text, what, words))
        return self._note(tree.Name(token.text), token.at)

    def _call(self, token: _Token) -> Expr:
        name = token.text
        if name not in _CALLS:
            self._next -= 1
            self._refuse(_known(name, "a call", _CALLS))
        if self._inside and name != "abs":
            self._next -= 1
            self._refuse(f"only abs() inside {self._inside}(): it asks about one track of one tick")
        self._want("(")
        with self:
            made = self._called(name)
        self._want(")")
        return self._note(made, token.at)

    def _called(self, name: str) -> Expr:
        if name == "abs":
            return tree.Call("abs", self._must_be("number", self._or()))
        if name == "rises":
            return tree.Call("rises", self._condition())
        if name in tree.TRACK_CALLS:
            self._inside = name
            of = self._condition()
            self._inside = ""
            return tree.TrackCall(name, of)  # type: ignore[arg-type]
        needs = "condition" if name in tree.CONDITION_WINDOWS else "number"
        of = self._must_be(needs, self._or())
        self._want(",")
        return tree.Window(name, of, self._seconds(unit=False))  # type: ignore[arg-type]

    def _seconds(self, *, unit: bool) -> float:
        token = self._peek
        if token.kind != "number":
            self._refuse("a number of seconds")
        value = _number(token)
        if not 0.0 < value <= tree.MAX_WINDOW_S:
            self._refuse(f"more than 0 and at most {tree.MAX_WINDOW_S:g} seconds")
        self._next += 1
        if not self._take("s") and unit:
            self._refuse("s, the unit")
        return value

    # what is known of the place and of the kinds

    def __enter__(self) -> None:
        self._nested += 1
        if self._nested > tree.MAX_DEPTH:
            self._refuse(f"at most {tree.MAX_DEPTH} levels")

    def __exit__(self, *_: object) -> None:
        self._nested -= 1

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, text: str) -> bool:
        if self._peek.text != text or self._peek.kind == "text":
            return False
        self._next += 1
        return True

    def _want(self, text: str) -> None:
        if not self._take(text):
            self._refuse(f"{text!r}")

    def _note(self, node: Expr, at: int) -> Expr:
        levels = 1 + max((self._levels[id(child)] for child in tree.children(node)), default=0)
        if levels > tree.MAX_DEPTH:
            raise ExpressionError(at, f"{levels} levels", f"at most {tree.MAX_DEPTH}")
        self._starts[id(node)], self._levels[id(node)] = at, levels
        self._kept.append(node)
        return node

    def _refuse(self, expected: str) -> NoReturn:
        raise ExpressionError(self._peek.at, str(self._peek), expected)

    def _kind(self, node: Expr) -> str:
        return tree.kind_of(node, TRACK_WORDS if self._inside else SIGNALS)

    def _must_be(self, kind: str, node: Expr) -> Expr:
        found = self._kind(node)
        if found != kind:
            text = tree.format_expr(node)
            advice = f"; write {text} >= 1" if (kind, found) == ("condition", "number") else ""
            raise ExpressionError(
                self._starts[id(node)], f"the {found} {text}", f"a {kind}{advice}"
            )
        return node

    def _comparable(self, sign: _Token, left: Expr, right: Expr) -> None:
        kinds = {self._kind(left), self._kind(right)}
        if kinds == {"number"}:
            return
        if kinds != {"text"} or (isinstance(left, tree.Text) and isinstance(right, tree.Text)):
            raise ExpressionError(
                sign.at, f"{self._kind(left)} {sign.text} {self._kind(right)}",
                "two numbers, or a name and a 'text' to compare",
            )  # fmt: skip
        if sign.text not in ("==", "!="):
            raise ExpressionError(sign.at, repr(sign.text), "== or != between texts")
        words = TRACK_WORDS if self._inside else SIGNALS
        for name, value in ((left, right), (right, left)):
            if isinstance(name, tree.Name) and isinstance(value, tree.Text):
                values = words[name.name].values
                if values and value.value not in values:
                    raise ExpressionError(
                        self._starts[id(value)], repr(value.value),
                        _known(value.value, f"a value of {name.name}", values),
                    )  # fmt: skip


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ExpressionError(
                at, repr(text[at]), "a number, a name, a 'text' of at most 64 characters or a sign"
            )
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        at = found.end()
    return tokens


def _number(token: _Token) -> float:
    value = float(token.text)
    if not math.isfinite(value) or value > tree.MAX_NUMBER:
        raise ExpressionError(token.at, token.text[:40], f"a number up to {tree.MAX_NUMBER:g}")
    return value


def _known(name: str, what: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    guess = f" (did you mean {near[0]}?)" if near else ""
    return f"{what}{guess}; known: {', '.join(names)}"
