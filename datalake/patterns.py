"""The language of triggers as window SQL: what a car would have noticed, found in the lake.

One tree (vehicle/contracts/expression.py) has two compilers, the car's (vehicle/trigger.py) and
this one; a test draws random expressions and histories and holds them to the same ticks. Here an
expression becomes a chain of CTEs: numbers of road users per tick, the signals, then one layer of
window functions for each level of nesting, since SQL has no windows inside windows.

A clip is all the history there is: a window reaches back to its first tick and no further.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from datalake.duck import quoted
from datalake.tables import INT, TICKS, TRACKS
from vehicle.contracts import expression as language
from vehicle.contracts.expression import Expr, Pattern, TrackCall
from vehicle.contracts.plan import RUNGS
from vehicle.contracts.wire import ContractError, RefusedError


class PatternError(RefusedError):
    """The text is no expression; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression as SQL.

    Args:
        pattern: its tree.
        matches: SELECT of every tick's clip_id, frame_id, mono_ns, what was compared, and
            `matched`; without an order.
        shows: columns of `matches` that say what was compared.
    """

    pattern: Pattern
    matches: str
    shows: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Return the question of frames: clip_id, frame_id and what was compared, in order."""
        shown = "".join(f", {_quote(name)}" for name in self.shows)
        return (
            f"SELECT clip_id, frame_id{shown} FROM (\n{self.matches}\n) "
            "WHERE matched ORDER BY clip_id, frame_id"
        )


@lru_cache(maxsize=256)
def compiled(text: str) -> Compiled:
    """Return an expression as SQL over `ticks` and `tracks`.

    Args:
        text: of vehicle/contracts/expression.py; docs/reference/triggers.md.
    Raises:
        PatternError: it is not one.
    """
    try:
        pattern = language.parse(text)
    except ContractError as error:
        raise PatternError(f"{text[:200]!r}: {error}") from error
    return _Compiler(pattern).compiled()


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_ORDER: Final = "PARTITION BY clip_id ORDER BY mono_ns"

_READ: Final = {
    "uncertainty_ratio": "CASE WHEN t.fresh = 1 THEN nullif(t.uncertainty_ratio, 'nan') END",
    "total_us": "CASE WHEN t.missed IS NOT NULL THEN CAST(t.total_us AS DOUBLE) END",
    "rung_index": f"list_position([{', '.join(map(quoted, RUNGS))}], t.rung) - 1",
}
"""Signals that the lake keeps in another form than the car's language asks for: uncertainty is
unknown where the network did not run, and time where nobody waited for the tick (a replay)."""

_WHOLE: Final = {c.name for t in (TICKS, TRACKS) for c in t.columns if c.kind == INT}
"""Columns that are reckoned with as DOUBLE, so that no product overflows."""

_TRACK_READ: Final = {"speed_mps": "sqrt(vx_mps * vx_mps + vy_mps * vy_mps)"}

_WINDOWS: Final = {
    "lowest": "min({x}) OVER {w}",
    "highest": "max({x}) OVER {w}",
    "average": "avg(CASE WHEN isfinite({x}) THEN {x} END) OVER {w}",
    "change": "{x} - first_value({x}) OVER {w}",
    "held": "bool_and({x}) OVER {w}",
    "seen": "bool_or({x}) OVER {w}",
    "times": "count(*) FILTER (WHERE {x}) OVER {w}",
}


@dataclass
class _Compiler:
    """Builds the layers of one pattern, bottom up."""

    pattern: Pattern
    signals: dict[str, str] = field(default_factory=dict)  # name -> SQL over ticks t
    per_tick: dict[TrackCall, tuple[str, str]] = field(default_factory=dict)  # -> column, aggregate
    appears: dict[TrackCall, str] = field(default_factory=dict)  # -> column
    layers: list[dict[str, str]] = field(default_factory=list)  # column -> window SQL
    known: dict[Expr, tuple[str, int]] = field(default_factory=dict)  # node -> column, layer

    def compiled(self) -> Compiled:
        """Return the whole chain."""
        matched = self._steps()
        shows = {name: name for name in self.signals}
        shows |= {language.format_expr(call): c for call, (c, _) in self.per_tick.items()}
        shows |= {language.format_expr(call): c for call, c in self.appears.items()}
        columns = ["clip_id", "car_id", "route_id", "frame_id", "mono_ns"]
        columns += [f"{column} AS {_quote(name)}" for name, column in shows.items()]
        ctes = ",\n".join([*self._track_ctes(), self._base(), *self._layer_ctes()])
        text = (
            f"WITH {ctes}\nSELECT {', '.join(columns)},\n  {matched} AS matched\n"
            f"FROM layer_{len(self.layers)}"
        )
        return Compiled(self.pattern, text, tuple(shows))

    def _steps(self) -> str:
        """Return the condition of the last step's tick; each step needs the last tick before on
        which the step before it held, which is a window of its own."""
        matched, layer = self._sql(self.pattern.first)
        for number, step in enumerate(self.pattern.then, start=1):
            column = f"step_{number}_ns"
            layer = self._put(
                layer,
                column,
                f"max(CASE WHEN {matched} THEN mono_ns END) OVER "
                f"({_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)",
            )
            holds, own = self._sql(step.expr)
            recent = f"coalesce(mono_ns - {column} <= {_nanoseconds(step.within_s)}, false)"
            matched, layer = f"({holds} AND {recent})", max(layer, own)
        return matched

    def _put(self, layer: int, column: str, sql: str) -> int:
        """Put a window over columns of `layer` into the next one; return that."""
        while len(self.layers) <= layer:
            self.layers.append({})
        self.layers[layer][column] = sql
        return layer + 1

    def _window(self, node: Expr, name: str, layer: int, sql: str) -> tuple[str, int]:
        column = f"{name}_{sum(map(len, self.layers))}"
        layer = self._put(layer, column, sql)
        self.known[node] = column, layer
        return column, layer

    def _sql(self, node: Expr) -> tuple[str, int]:
        """Return SQL for a node and the first layer on which its columns stand."""
        if node in self.known:
            return self.known[node]
        if isinstance(node, language.Name):
            self.signals[node.name] = _reading(node.name)
            return _quote(node.name), 0
        if isinstance(node, TrackCall):
            return self._track_call(node)
        if isinstance(node, language.Window):
            inner, layer = self._sql(node.of)
            frame = (
                f"({_ORDER} RANGE BETWEEN {_nanoseconds(node.seconds)} PRECEDING AND CURRENT ROW)"
            )
            return self._window(
                node, node.name, layer, _WINDOWS[node.name].format(x=inner, w=frame)
            )
        if isinstance(node, language.Call) and node.name == "rises":
            inner, layer = self._sql(node.of)
            before = f"lag({inner}, 1, true) OVER ({_ORDER})"  # the first tick is no rise
            return self._window(node, "rises", layer, f"{inner} AND NOT {before}")
        parts = [self._sql(child) for child in language.children(node)]
        return _plain(node, [sql for sql, _ in parts]), max((n for _, n in parts), default=0)

    def _track_call(self, node: TrackCall) -> tuple[str, int]:
        of = _track_sql(node.of)
        if node.name == "appears":
            self.appears.setdefault(node, f"appears_{len(self.appears)}")
            return self.appears[node], 0
        what = "count(*)" if node.name == "tracks" else "min(range_m)"
        column = f"{node.name}_{len(self.per_tick)}"
        self.per_tick.setdefault(node, (column, f"{what} FILTER (WHERE {of})"))
        return self.per_tick[node][0], 0

    def _track_ctes(self) -> list[str]:
        ctes = []
        if self.per_tick:
            columns = ", ".join(f"{sql} AS {column}" for column, sql in self.per_tick.values())
            ctes.append(
                f"counted AS (SELECT clip_id, frame_id, {columns} FROM tracks GROUP BY ALL)"
            )
        if self.appears:
            holds = ", ".join(
                f"bool_or({_track_sql(call.of)}) AS {column}"
                for call, column in self.appears.items()
            )
            ctes.append(
                "numbered AS (SELECT clip_id, frame_id, row_number() OVER "
                "(PARTITION BY clip_id ORDER BY mono_ns) AS tick FROM ticks)"
            )
            ctes.append(
                f"one AS (SELECT clip_id, frame_id, track_id, tick, {holds} FROM tracks "
                "JOIN numbered USING (clip_id, frame_id) WHERE track_id != 0 GROUP BY ALL)"
            )
            before = "PARTITION BY clip_id, track_id ORDER BY tick"
            news = ", ".join(
                f"{c} AND NOT coalesce(lag({c}) OVER w AND lag(tick) OVER w = tick - 1, false) "
                f"AS {c}"
                for c in self.appears.values()
            )
            ctes.append(
                f"risen AS (SELECT clip_id, frame_id, {news} FROM one WINDOW w AS ({before}))"
            )
            counts = ", ".join(f"count(*) FILTER (WHERE {c}) AS {c}" for c in self.appears.values())
            ctes.append(f"appeared AS (SELECT clip_id, frame_id, {counts} FROM risen GROUP BY ALL)")
        return ctes

    def _base(self) -> str:
        columns = [f"{sql} AS {_quote(name)}" for name, sql in self.signals.items()]
        joins = ""
        if self.per_tick:
            joins += " LEFT JOIN counted USING (clip_id, frame_id)"
        if self.appears:
            joins += " LEFT JOIN appeared USING (clip_id, frame_id)"
        for call, (column, _) in self.per_tick.items():
            counts = f"CASE WHEN t.n_tracks IS NOT NULL THEN coalesce({column}, 0) END AS {column}"
            columns.append(counts if call.name == "tracks" else column)
        looked = f"t.n_tracks IS NOT NULL AND lag(t.n_tracks) OVER ({_ORDER}) IS NOT NULL"
        columns += [
            f"CASE WHEN {looked} THEN coalesce({c}, 0) END AS {c}" for c in self.appears.values()
        ]
        listed = "".join(f",\n  {column}" for column in columns)
        return (
            f"layer_0 AS (SELECT clip_id, t.car_id, t.route_id, frame_id, t.mono_ns{listed}\n"
            f"  FROM ticks t{joins})"
        )

    def _layer_ctes(self) -> list[str]:
        return [
            f"layer_{number} AS (SELECT *"
            + "".join(f",\n  {sql} AS {column}" for column, sql in layer.items())
            + f"\n  FROM layer_{number - 1})"
            for number, layer in enumerate(self.layers, start=1)
        ]


def _reading(name: str) -> str:
    """Return how a signal is read from `ticks t`; what is not a number is NULL."""
    column = f"t.{name}"
    if name in _READ:
        return _READ[name]
    if language.SIGNALS[name].kind == "text":
        return column
    return f"CAST({column} AS DOUBLE)" if name in _WHOLE else f"nullif({column}, 'nan')"


def _track_sql(node: Expr) -> str:
    """Return SQL over the columns of `tracks`."""
    if isinstance(node, language.Name):
        own = f"CAST({node.name} AS DOUBLE)" if node.name in _WHOLE else node.name
        return _TRACK_READ.get(node.name, own)
    return _plain(node, [_track_sql(child) for child in language.children(node)])


def _plain(node: Expr, parts: list[str]) -> str:
    """Return SQL for a node that looks at one row, from the SQL of its children."""
    if isinstance(node, language.Number):
        text = language.number_text(node.value)
        return text if "e" in text else f"{text}e0"  # DuckDB's way to write a DOUBLE
    if isinstance(node, language.Text):
        return quoted(node.value)
    if isinstance(node, language.Negate):
        return f"(-{parts[0]})"
    if isinstance(node, language.Arithmetic):
        right = f"nullif({parts[1]}, 0)" if node.op == "/" else parts[1]
        return (
            f"nullif({parts[0]} {node.op} {right}, 'nan'::DOUBLE)"  # what overflows may end unknown
        )
    if isinstance(node, language.Compare):
        op = {"==": "=", "!=": "<>"}.get(node.op, node.op)
        return f"coalesce({parts[0]} {op} {parts[1]}, false)"
    if isinstance(node, language.Not):
        return f"(NOT {parts[0]})"
    if isinstance(node, language.And | language.Or):
        return "(" + f" {type(node).__name__.upper()} ".join(parts) + ")"
    if isinstance(node, language.Call):
        return f"abs({parts[0]})"
    raise TypeError(f"no SQL for a {type(node).__name__}")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
