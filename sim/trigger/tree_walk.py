"""The plain reading of an expression: walk the tree anew on each tick, over all ticks so far.

Slow and obvious, written from docs/reference/triggers.md alone: what the car's compiled triggers
must agree with, and what they are timed against.
"""

import math
from dataclasses import dataclass
from typing import Any

from vehicle.contracts import expression_tree as tree
from vehicle.contracts.scene import KINDS, Scene

NAN = math.nan


@dataclass(frozen=True, slots=True)
class Past:
    """One tick: its time, its signals, and its tracks as dicts (None: no scene)."""

    now_ns: int
    values: dict[str, Any]
    tracks: list[dict[str, Any]] | None


def past_of(values: dict[str, Any], scene: Scene | None, now_ns: int) -> Past:
    """Return one tick as the plain reading takes it."""
    if scene is None:
        return Past(now_ns, values, None)
    tracks = []
    for row in scene.tracks:
        track = {name: row[name].item() for name in row.dtype.names or ()}
        track["range_m"] = math.hypot(track["x_m"], track["y_m"])
        track["speed_mps"] = math.hypot(track["vx_mps"], track["vy_mps"])
        tracks.append(track)
    return Past(now_ns, values, tracks)


def matches(pattern: tree.Pattern, ticks: list[Past]) -> list[bool]:
    """Return on which ticks a pattern holds."""
    held = [value(pattern.first, ticks[: i + 1]) for i in range(len(ticks))]
    for step in pattern.then:
        span_ns = round(step.within_s * 1e9)
        held = [
            value(step.expr, ticks[: i + 1])
            and any(
                held[k] and ticks[i].now_ns - ticks[k].now_ns <= span_ns for k in range(i)
            )
            for i in range(len(ticks))
        ]  # fmt: skip
    return held


def value(node: tree.Expr, ticks: list[Past]) -> Any:
    """Return what a node gives on the last of these ticks."""
    now = ticks[-1]
    match node:
        case tree.Name(name):
            return now.values.get(name)
        case tree.Window(name, of, seconds):
            span_ns = round(seconds * 1e9)
            inside = [i for i, t in enumerate(ticks) if t.now_ns >= now.now_ns - span_ns]
            return window(name, [value(of, ticks[: i + 1]) for i in inside])
        case tree.Call("rises", of):
            return value(of, ticks) and len(ticks) > 1 and not value(of, ticks[:-1])
        case tree.TrackCall(name, of):
            return over_tracks(name, of, ticks)
    return plain(node, lambda n: value(n, ticks))


def window(name: str, values: list[Any]) -> Any:
    """Return a window's answer from all values in it."""
    if name in ("held", "seen", "times"):
        return {"held": all(values), "seen": any(values), "times": float(sum(values))}[name]
    if name == "change":
        first, last = values[0], values[-1]
        return NAN if unknown(first) or unknown(last) else last - first
    known = [v for v in values if not unknown(v) and math.isfinite(v)]
    if not known:
        return NAN
    return {"lowest": min, "highest": max, "average": lambda v: sum(v) / len(v)}[name](known)


def over_tracks(name: str, of: tree.Expr, ticks: list[Past]) -> float:
    """Return a call over the tracks of the last tick."""
    tracks = ticks[-1].tracks
    if tracks is None:
        return NAN
    chosen = [t for t in tracks if about(of, t)]
    if name == "tracks":
        return float(len(chosen))
    if name == "nearest":
        return min((t["range_m"] for t in chosen), default=NAN)
    before = ticks[-2].tracks if len(ticks) > 1 else None
    if before is None:
        return NAN
    earlier = {t["track_id"] for t in before if about(of, t)}
    return float(len({t["track_id"] for t in chosen} - earlier - {0}))


def about(node: tree.Expr, track: dict[str, Any]) -> Any:
    """Return what a node gives for one track."""
    match node:
        case tree.Name("kind"):
            return KINDS[track["kind"]]
        case tree.Name(name):
            return track[name]
    return plain(node, lambda n: about(n, track))


def plain(node: tree.Expr, of: Any) -> Any:
    """Return arithmetic, comparisons and logic over what `of` gives for the parts."""
    match node:
        case tree.Number(value) | tree.Text(value):
            return value
        case tree.Negate(part):
            x = of(part)
            return NAN if unknown(x) else -x
        case tree.Call("abs", part):
            x = of(part)
            return NAN if unknown(x) else abs(x)
        case tree.Not(part):
            return not of(part)
        case tree.And(parts):
            return all(of(p) for p in parts)
        case tree.Or(parts):
            return any(of(p) for p in parts)
        case tree.Arithmetic(op, left, right):
            a, b = of(left), of(right)
            if unknown(a) or unknown(b) or (op == "/" and b == 0):
                return NAN
            return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[
                op
            ]()
        case tree.Compare(op, left, right):
            a, b = of(left), of(right)
            if unknown(a) or unknown(b):
                return False
            return {
                "<=": lambda: a <= b, ">=": lambda: a >= b, "<": lambda: a < b,
                ">": lambda: a > b, "==": lambda: a == b, "!=": lambda: a != b,
            }[op]()  # fmt: skip
    raise AssertionError(node)


def unknown(x: Any) -> bool:
    """Return whether a value is not known."""
    return x is None or (isinstance(x, float) and math.isnan(x))
