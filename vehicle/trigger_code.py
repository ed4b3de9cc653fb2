"""Trees of expressions to one Python function for all triggers of a car.

The function is written out from the trees, whose names and operators are known words, and compiled
once; the text of a campaign never is. What triggers share (a window, a count of tracks) is computed
once per tick. Windows and counts stand before the conditions, so that each takes every tick in.

With a tree `ttc_s < 2 and held(tracks(range_m < 9) >= 1, 1)` the function reads

    def tick(get, rows, now, state, fired):
        v0 = get('ttc_s', nan)
        c1 = nan if rows is None else float(sum([1 for r in rows if (r[1] < 9.0)]))
        w2 = push0(now, (c1 >= 1.0))
        if ((v0 < 2.0) and w2): fired.append((0, v0, 2.0))
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from vehicle.contracts import expression_tree as tree
from vehicle.contracts.scene import KINDS, Scene
from vehicle.contracts.vocabulary import SIGNALS, TRACK_WORDS
from vehicle.windows import MADE

Rows = list[tuple[Any, ...]] | None
"""One tuple per road user, in the order of the columns that are asked for."""

Fired = list[tuple[int, float, float]]
"""Number of the trigger, what was measured, and against what."""

_LONG_AGO: Final = -(1 << 62)


class Compiled:
    """All triggers of a car as one function, with their state.

    Args:
        patterns: one per trigger, from `expression.parse`.
    """

    def __init__(self, patterns: Sequence[tree.Pattern]) -> None:
        writer = _Writer()
        for number, pattern in enumerate(patterns):
            writer.add(number, pattern)
        self.source = writer.source
        self._columns, self._windows, self._marks = writer.columns, writer.windows, writer.marks
        self._space: dict[str, Any] = {"nan": math.nan, "div": _divide, "float": float, "abs": abs}
        self._space |= {"sum": sum, "min": min, "__builtins__": {}}
        exec(compile(self.source, "<triggers>", "exec"), self._space)
        self._tick: Callable[..., None] = self._space["tick"]
        self.forget()

    def forget(self) -> None:
        """Begin anew: no tick has been before."""
        self._state: list[int] = [_LONG_AGO] * self._marks
        for i, (name, span_ns) in enumerate(self._windows):
            self._space[f"push{i}"] = MADE[name](span_ns).push

    def of(self, values: dict[str, Any], scene: Scene | None, now_ns: int) -> Fired:
        """Return the triggers whose conditions hold on this tick.

        Args:
            values: signal -> number or text; absent or NaN is unknown.
            scene: for those that look at single road users.
            now_ns: of this tick; ticks come in order.
        """
        fired: Fired = []
        rows = rows_of(scene, self._columns) if self._columns else None
        self._tick(values.get, rows, now_ns, self._state, fired)
        return fired


def rows_of(scene: Scene | None, columns: Sequence[str]) -> Rows:
    """Return the road users of a scene as tuples; `kind` as its index, None without a scene."""
    if scene is None:
        return None
    tracks = scene.tracks
    lists = [_column(tracks, name) for name in columns]
    return list(zip(*lists, strict=True))


def _column(tracks: np.ndarray, name: str) -> list[Any]:
    if name == "range_m":
        return [math.hypot(x, y) for x, y in zip(*_pair(tracks, "x_m", "y_m"), strict=True)]
    if name == "speed_mps":
        return [math.hypot(x, y) for x, y in zip(*_pair(tracks, "vx_mps", "vy_mps"), strict=True)]
    column: list[Any] = tracks[name].tolist()
    return column


def _pair(tracks: np.ndarray, first: str, second: str) -> tuple[list[float], list[float]]:
    return tracks[first].tolist(), tracks[second].tolist()


def _divide(a: float, b: float) -> float:
    return a / b if b else math.nan


class _Writer:
    """Writes the function's lines, each distinct window and count once."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._tests: list[str] = []
        self._names: dict[Any, str] = {}
        self._temporaries = 0
        self.columns: tuple[str, ...] = ()
        self.windows: list[tuple[str, int]] = []
        self.marks = 0

    @property
    def source(self) -> str:
        body = [*self._lines, *self._tests] or ["pass"]
        return "def tick(get, rows, now, state, fired):\n" + "".join(f"    {x}\n" for x in body)

    def add(self, number: int, pattern: tree.Pattern) -> None:
        """Write one trigger: its steps, last one first, so that a step follows on a later tick."""
        conditions = [self._code(step) for step in pattern.steps]
        holds = [self._hoist(f"h{number}_{i}", code) for i, code in enumerate(conditions[:-1])]
        first_mark, self.marks = self.marks, self.marks + len(pattern.then)
        last = conditions[-1]
        if pattern.then:
            since = self._since(self.marks - 1, pattern.then[-1])
            last = f"({last}) and {since}"
        value, limit = self._measured(pattern.steps[-1])
        self._tests.append(f"if {last}: fired.append(({number}, {value}, {limit}))")
        for i in reversed(range(len(holds))):
            test = holds[i]
            if i > 0:
                test = f"{test} and {self._since(first_mark + i - 1, pattern.then[i - 1])}"
            self._tests.append(f"if {test}: state[{first_mark + i}] = now")

    def _since(self, mark: int, step: tree.Then) -> str:
        return f"now - state[{mark}] <= {_nanoseconds(step.within_s)}"

    def _hoist(self, name: str, code: str) -> str:
        self._lines.append(f"{name} = {code}")
        return name

    def _measured(self, node: tree.Expr) -> tuple[str, str]:
        """Return code of what the first comparison of numbers compares, and against what."""
        for part in _outside_tracks(node):
            if isinstance(part, tree.Compare) and tree.kind_of(part.left) == "number":
                return self._code(part.left), self._code(part.right)
        return "1.0", "1.0"

    def _code(self, node: tree.Expr) -> str:
        """Return an expression of Python; parentheses round everything that has parts."""
        match node:
            case tree.Name(name):
                return self._signal(name)
            case tree.Call("rises", of):
                return self._window(node, "rises", 0, self._code(of))
            case tree.Window(name, of, seconds):
                return self._window(node, name, _nanoseconds(seconds), self._code(of))
            case tree.TrackCall():
                return self._tracks(node)
        return self._plain(node, self._code, SIGNALS)

    def _plain(self, node: tree.Expr, code: Callable[[tree.Expr], str], words: Any) -> str:
        match node:
            case tree.Number(value):
                return repr(float(value)) if value >= 0 else f"({float(value)!r})"
            case tree.Text(value):
                return repr(value)
            case tree.Negate(of):
                return f"(-{code(of)})"
            case tree.Not(of):
                return f"(not {code(of)})"
            case tree.And(of) | tree.Or(of):
                word = " and " if isinstance(node, tree.And) else " or "
                return f"({word.join(map(code, of))})"
            case tree.Arithmetic("/", left, right):
                return f"div({code(left)}, {code(right)})"
            case tree.Arithmetic(op, left, right):
                return f"({code(left)} {op} {code(right)})"
            case tree.Call("abs", of):
                return f"abs({code(of)})"
            case tree.Compare(op, left, right):
                text = tree.kind_of(left, words) == "text"
                return self._comparison(op, code(left), code(right), text)
        raise TypeError(f"{type(node).__name__} is no node of an expression")

    def _comparison(self, op: str, left: str, right: str, text: bool) -> str:
        """Return code that is false where either side is unknown: NaN, or None for texts."""
        if text:
            a, b = self._temporary(), self._temporary()
            known = f"({a} := {left}) is not None and ({b} := {right}) is not None"
            return f"({known} and {a} {op} {b})"
        if op == "!=":
            a, b = self._temporary(), self._temporary()
            return f"(({a} := {left}) < ({b} := {right}) or {a} > {b})"
        return f"({left} {op} {right})"

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _signal(self, name: str) -> str:
        if name not in self._names:
            unknown = "None" if SIGNALS[name].kind == "text" else "nan"
            self._names[name] = self._hoist(f"v{len(self._names)}", f"get({name!r}, {unknown})")
        return self._names[name]

    def _window(self, node: tree.Expr, name: str, span_ns: int, of: str) -> str:
        if node not in self._names:
            push = f"push{len(self.windows)}(now, {of})"
            self.windows.append((name, span_ns))
            self._names[node] = self._hoist(f"w{len(self._names)}", push)
        return self._names[node]

    def _tracks(self, node: tree.TrackCall) -> str:
        if node in self._names:
            return self._names[node]
        self._track_column("track_id")  # at least one, so that road users are looked at at all
        condition = self._about_track(node.of)
        each = f"for r in rows if {condition}"
        name = f"c{len(self._names)}"
        if node.name == "tracks":
            code = f"nan if rows is None else float(sum([1 {each}]))"
        elif node.name == "nearest":
            ranges = f"[{self._track_column('range_m')} {each}]"
            code = f"nan if rows is None else min({ranges}, default=nan)"
        else:
            number = self._track_column("track_id")
            ids = f"None if rows is None else {{{number} {each} and {number}}}"
            code = f"push{len(self.windows)}(now, {ids})"
            self.windows.append(("appears", 0))
        self._names[node] = self._hoist(name, code)
        return name

    def _about_track(self, node: tree.Expr) -> str:
        match node:
            case tree.Name(name):
                return self._track_column(name)
            case tree.Compare(op, left, right) if tree.kind_of(left, TRACK_WORDS) == "text":
                return f"({self._kind(left)} {op} {self._kind(right)})"
        return self._plain(node, self._about_track, TRACK_WORDS)

    def _track_column(self, name: str) -> str:
        if name not in TRACK_WORDS:
            raise KeyError(name)
        if name not in self.columns:
            self.columns = (*self.columns, name)
        return f"r[{self.columns.index(name)}]"

    def _kind(self, node: tree.Expr) -> str:
        if isinstance(node, tree.Text):
            return str(KINDS.index(node.value))
        return self._track_column("kind")


def _outside_tracks(node: tree.Expr) -> list[tree.Expr]:
    """Return a node and all below it but what stands inside a call over tracks."""
    found = [node]
    if not isinstance(node, tree.TrackCall):
        for child in tree.children(node):
            found += _outside_tracks(child)
    return found


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
