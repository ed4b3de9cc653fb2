"""Small changes to a source, one at a time: what mutation tests try their checks on."""

import ast
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITE = {
    **{ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
SWAPPED = {"min": "max", "max": "min", "sin": "cos", "cos": "sin"}
COMPARISONS = ("boundary", "opposite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A changed module.

    Args:
        kind: boundary (< to <=), opposite (< to >=), and/or, arithmetic (+ to -, * to /), sign,
            swap (min to max, sin to cos), constant (grown).
        name: function, its line, what is changed how; the n-th of equal ones ends in #n.
        module: the names of the changed source, run as plain Python.
    """

    kind: str
    name: str
    module: Any


def mutants(path: Path, *, without: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """Yield every mutant of a source file; compiled functions become plain ones.

    Args:
        without: functions left alone.
    """
    source = path.read_text()
    names: dict[str, int] = {}
    lines = source.splitlines()
    for n, (kind, where, node, _) in enumerate(list(_changes(ast.parse(source), without))):
        name = f"{where}: {lines[node.lineno - 1].strip()}: {ast.unparse(node)} ({kind})"
        names[name] = names.get(name, 0) + 1
        tree = ast.parse(source)
        list(_changes(tree, without))[n][3]()
        number = f" #{names[name]}" if names[name] > 1 else ""
        yield Mutant(kind=kind, name=name + number, module=module_of(tree, path))


def module_of(tree: ast.Module, path: Path) -> types.SimpleNamespace:
    """Return the names a tree defines, its compiled functions as plain Python."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if "njit" not in ast.unparse(d)]
    space: dict[str, Any] = {"__name__": f"mutant_{path.stem}"}
    exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), space)
    return types.SimpleNamespace(**space)


def _changes(
    tree: ast.Module, without: tuple[str, ...]
) -> Iterator[tuple[str, str, ast.expr, Callable[[], None]]]:
    for part in tree.body:
        inner = part.body if isinstance(part, ast.ClassDef) else [part]
        for piece in inner:
            where = getattr(piece, "name", "module")
            if where in without:
                continue
            body = [*piece.body] if isinstance(piece, ast.FunctionDef) else [piece]
            for node in (n for statement in body for n in ast.walk(statement)):
                for kind, change in _of(node):
                    yield kind, where, node, change


def _of(node: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield kind and change for one node; only expressions have any."""
    if isinstance(node, ast.Compare):
        for kind, table in (("boundary", BOUNDARY), ("opposite", OPPOSITE)):
            for i, op in enumerate(node.ops):
                if type(op) in table:
                    yield kind, _put(node.ops, i, table[type(op)]())
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _set(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield "arithmetic", _set(node, "op", ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", _set(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "sign", _set(node, "operand", ast.UnaryOp(op=ast.Not(), operand=node.operand))
    elif isinstance(node, ast.Call):
        called = node.func
        field = "attr" if isinstance(called, ast.Attribute) else "id"
        if getattr(called, field, "") in SWAPPED:
            yield "swap", _set(called, field, SWAPPED[getattr(called, field)])
    elif isinstance(node, ast.Constant) and type(node.value) is float:
        yield "constant", _set(node, "value", node.value * 1.25 + 0.25)


def _set(node: ast.AST, field: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, field, value)


def _put(items: list[Any], i: int, value: object) -> Callable[[], None]:
    return lambda: items.__setitem__(i, value)
