"""What one turn of the loop came to: the table at the end, and the page that keeps it."""

from typing import Any

from rich.table import Table

from vehicle.contracts import wire
from vehicle.contracts.home import Home

Row = tuple[str, str, str]


def rows(facts: dict[str, Any]) -> list[Row]:
    """Return what the turn came to: figure, value, what it rests on."""
    scores, drive, mined = facts["judge"]["scores"], facts["drive"], facts["mine"]
    out = [
        _change(scores, "fog", "ap/car", "average precision of cars in fog, held-out towns"),
        _change(scores, "fog", "recall/car", "recall of cars in fog"),
        _change(scores, "fog", "recall/pedestrian", "recall of pedestrians in fog"),
        _change(scores, "clear", "ap/car", "average precision of cars in clear air"),
        _change(
            scores, "clear", "precision/car", "precision of cars in clear air, as the car decides"
        ),
    ]
    tick = drive["tick_ms"]
    n = f"n = {tick['n']} ticks, {len(drive['drives'])} cars"
    out += [
        ("clips sent home", str(drive["clips"]), _counts(drive["events"])),
        ("bytes sent home", f"{drive['bytes'] / 1e6:.1f} MB", f"{mined['clips']} clips mined"),
        ("labels bought", str(mined["labels_bought"]), f"for {mined['frames']} frames trained on"),
        ("loop p50 / p99", f"{_ms(tick, 'p50')} / {_ms(tick, 'p99')}", n),
        ("loop p99.9 / max", f"{_ms(tick, 'p99.9')} / {_ms(tick, 'max')}", n),
        ("missed frames (over 10 ms)", str(drive["missed"]), "not cancelled in simulated time"),
        ("a tampered bundle", facts["publish"]["tampered"], "served to the last car, then mended"),
        ("driving now", ", ".join(sorted(set(facts["publish"]["installed"].values()))), ""),
    ]
    for route in facts["logs"]["routes"]:
        out.append((f"real log {route['kind']}", f"{route['ticks']} ticks", route["drives"]))
    took_s = sum(f["wall_s"] for f in facts.values())
    out.append(("turn, first frame to new weights", f"{took_s / 60:.1f} min", "all stages above"))
    return out


def _change(scores: dict[str, Any], exam: str, metric: str, text: str) -> Row:
    before, after = (scores[f"{w}-{exam}"][metric] for w in ("before", "after"))
    value = f"{before['value']:.3f} -> {after['value']:.3f}"
    spans = " -> ".join(f"[{m['low']:.3f}, {m['high']:.3f}]" for m in (before, after))
    return (text, value, f"n = {after['n']} boxes; 95 % {spans}")


def _ms(percentiles: dict[str, float], name: str) -> str:
    return f"{percentiles[name]:.2f} ms" if name in percentiles else "too few samples"


def _counts(events: dict[str, int]) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(events.items())) or "no trigger fired"


def table(facts: dict[str, Any]) -> Table:
    """Return the closing table."""
    out = Table(title="one turn of the loop", title_justify="left")
    for column, style in (("figure", "bold"), ("value", "cyan"), ("rests on", "dim")):
        out.add_column(column, style=style)
    for row in rows(facts):
        out.add_row(*row)
    return out


def write_page(home: Home, facts: dict[str, Any]) -> None:
    """Keep the table as reports/turn.md and the facts as reports/turn.json."""
    lines = ["# One turn of the loop", "", "| figure | value | rests on |", "|---|---|---|"]
    lines += [f"| {a} | {b} | {c} |" for a, b, c in rows(facts)]
    wire.atomic_write(home.reports / "turn.md", ("\n".join(lines) + "\n").encode())
    wire.atomic_write(home.reports / "turn.json", wire.canonical(facts))
