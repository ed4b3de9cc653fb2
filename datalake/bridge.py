"""From a question to a trigger: what a car can watch for, and by name what it cannot.

Three things are taken: a named question that has a trigger's form, an expression, and SQL of the
form SELECT ... FROM ticks WHERE ..., whose condition is read from DuckDB's own parse tree. SQL's
unknown is not an expression's: there NOT (x > 1) leaves rows without x out, here `not x > 1` is
true of them. So NOT is pushed down to the comparisons, after which both mean the same.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import duckdb

from datalake.queries import all_queries
from vehicle.contracts import expression as language
from vehicle.contracts.expression import Expr
from vehicle.contracts.wire import ContractError, RefusedError


class NotATriggerError(RefusedError):
    """The question has no form that a car could watch for; the message names what has not."""


_COMPARISONS: Final = {
    "COMPARE_EQUAL": ("==", "!="),
    "COMPARE_NOTEQUAL": ("!=", "=="),
    "COMPARE_LESSTHAN": ("<", ">="),
    "COMPARE_GREATERTHAN": (">", "<="),
    "COMPARE_LESSTHANOREQUALTO": ("<=", ">"),
    "COMPARE_GREATERTHANOREQUALTO": (">=", "<"),
}
"""DuckDB's name -> the operator, and the one of its negation."""

_WORDS: Final = {
    "group_expressions": "GROUP BY",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "sample": "USING SAMPLE",
}


def expression_of(source: str, **numbers: float) -> str:
    """Return a question as the expression that a car can watch for, in its one canonical form.

    Args:
        source: name of a question, an expression, or SELECT ... FROM ticks WHERE condition.
        numbers: of the named question.
    Raises:
        NotATriggerError: it has none.
    """
    known = all_queries()
    if source in known:
        text = known[source].expression(**numbers)
        if not text:
            raise NotATriggerError(
                f"{source} reads {', '.join(known[source].needs)} in a way no car can; those that "
                f"it can watch for: {', '.join(n for n, q in known.items() if q.when)}"
            )
    elif source.lstrip().lower().startswith(("select", "from", "with")):
        text = _of_sql(source)
    else:
        text = source
    try:
        return language.format(language.parse(text))
    except ContractError as error:
        raise NotATriggerError(f"{text[:200]!r}: {error}") from error


def _of_sql(sql: str) -> str:
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    parsed = json.loads(row[0]) if row else {}
    if parsed.get("error", True):
        raise NotATriggerError(f"the SQL does not parse: {parsed.get('error_message', sql)}")
    statements = parsed["statements"]
    if len(statements) != 1:
        raise NotATriggerError(f"found {len(statements)} statements, expected one SELECT")
    node = statements[0]["node"]
    _require_plain(node)
    table = node["from_table"]
    names = {"ticks", table["alias"].lower()} - {""}
    return language.format(language.Pattern(_Reader(names).condition(node["where_clause"], False)))


def _require_plain(node: dict[str, Any]) -> None:
    """Raise NotATriggerError unless the query is one condition over the ticks."""
    if node["type"] != "SELECT_NODE":
        kind = node["type"].removesuffix("_NODE").replace("_", " ")
        raise NotATriggerError(f"a car cannot run a {kind}; expected SELECT FROM ticks WHERE")
    table = node["from_table"]
    if table["type"] != "BASE_TABLE" or table["table_name"].lower() != "ticks":
        found = table.get("table_name") or table["type"].replace("_", " ")
        raise NotATriggerError(
            f"a car has no {found}; expected FROM ticks alone (road users: tracks(...) in an "
            "expression)"
        )
    for key, word in _WORDS.items():
        if node.get(key):
            raise NotATriggerError(f"a car cannot {word}: it sees one tick after the other")
    if node["cte_map"]["map"]:
        raise NotATriggerError("a car cannot run WITH: expected SELECT FROM ticks WHERE")
    for modifier in node["modifiers"]:
        if modifier["type"] != "ORDER_MODIFIER":
            word = modifier["type"].removesuffix("_MODIFIER")
            raise NotATriggerError(
                f"a car cannot {word}; say how often by the trigger's own fields"
            )
    if node["where_clause"] is None:
        raise NotATriggerError("there is no WHERE: that would be every tick")


class _Reader:
    """Turns DuckDB's tree of a condition into the language's.

    Args:
        tables: what may stand before a column's name.
    """

    def __init__(self, tables: set[str]) -> None:
        self._tables = tables

    def condition(self, node: dict[str, Any], negated: bool) -> Expr:
        """Return a condition, or its negation."""
        kind, parts = node["type"], node.get("children", [])
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            both = (kind == "CONJUNCTION_AND") != negated
            return _joined([self.condition(part, negated) for part in parts], both)
        if kind == "OPERATOR_NOT":
            return self.condition(parts[0], not negated)
        if kind in _COMPARISONS:
            op = _COMPARISONS[kind][negated]
            return language.Compare(op, self.value(node["left"]), self.value(node["right"]))  # type: ignore[arg-type]
        if kind == "COMPARE_BETWEEN":
            value = self.value(node["input"])
            ops: tuple[Any, Any] = ("<", ">") if negated else (">=", "<=")
            ends = (self.value(node["lower"]), self.value(node["upper"]))
            return _joined(
                [language.Compare(op, value, e) for op, e in zip(ops, ends, strict=True)],
                not negated,
            )
        if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
            among = (kind == "COMPARE_IN") != negated
            value, *choices = (self.value(part) for part in parts)
            op = "==" if among else "!="
            return _joined([language.Compare(op, value, c) for c in choices], not among)  # type: ignore[arg-type]
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            value = self.value(parts[0])
            known = language.Compare("==", value, value)
            return known if (kind == "OPERATOR_IS_NOT_NULL") != negated else language.Not(known)
        if kind == "COLUMN_REF":
            return language.Compare(
                "==" if negated else "!=", self.value(node), language.Number(0.0)
            )
        raise _cannot(node)

    def value(self, node: dict[str, Any]) -> Expr:
        """Return a number or a text."""
        if node["type"] == "COLUMN_REF":
            return self._column(node["column_names"])
        if node["type"] == "VALUE_CONSTANT":
            return _constant(node)
        if node["type"] == "FUNCTION":
            return self._function(node)
        if node["type"] == "OPERATOR_CAST" and node["cast_type"]["id"] in ("DOUBLE", "FLOAT"):
            return self.value(node["child"])
        raise _cannot(node)

    def _column(self, names: list[str]) -> Expr:
        *tables, column = (name.lower() for name in names)
        if column not in language.SIGNALS or not set(tables) <= self._tables | {"lake"}:
            raise NotATriggerError(
                f"no car knows {'.'.join(names)} while it drives; it knows: "
                f"{', '.join(language.SIGNALS)}"
            )
        return language.Name(column)

    def _function(self, node: dict[str, Any]) -> Expr:
        name = node["function_name"]
        parts = [self.value(part) for part in node["children"]]
        if name == "abs" and len(parts) == 1:
            return language.Call("abs", parts[0])
        if name in ("+", "-", "*", "/") and len(parts) == 2:
            return language.Arithmetic(name, parts[0], parts[1])
        if name == "-" and len(parts) == 1:
            only = parts[0]
            is_number = isinstance(only, language.Number)
            return language.Number(-only.value) if is_number else language.Negate(only)
        raise _cannot(node)


def _constant(node: dict[str, Any]) -> Expr:
    value, kind = node["value"], node["value"]["type"]
    if value["is_null"]:
        raise NotATriggerError("a comparison with NULL is never true; write IS NULL")
    if kind["id"] == "VARCHAR":
        return language.Text(value["value"])
    scale = (kind["type_info"] or {}).get("scale", 0) if kind["id"] == "DECIMAL" else 0
    return language.Number(float(value["value"]) / 10**scale)


def _joined(parts: list[Expr], both: bool) -> Expr:
    """Return all of some conditions, or any; what is joined the same way inside becomes flat."""
    made: Callable[[tuple[Expr, ...]], Any] = language.And if both else language.Or
    same = language.And if both else language.Or
    flat = [n for p in parts for n in (p.of if isinstance(p, same) else (p,))]
    return flat[0] if len(flat) == 1 else made(tuple(flat))


def _cannot(node: dict[str, Any]) -> NotATriggerError:
    name = node.get("function_name")
    what = (
        "LIKE" if name in ("~~", "!~~") else f"{name}()" if name else node["type"].replace("_", " ")
    )
    return NotATriggerError(
        f"a car cannot run {what}; it can: AND OR NOT = <> < > BETWEEN IN IS NULL + - * / abs(); "
        "seconds and road users: write an expression (docs/how-to/ask-the-lake.md)"
    )
