"""The five tiers at a glance: a table for the terminal and a ladder as SVG, on a scale of decades.

Drawn from a report of `roadloop bench tiers`, so that a kept report can be drawn again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from rich.table import Table
from rich.text import Text

from vehicle.contracts.inference import TIER_BAND_MS

LOW_MS, HIGH_MS = 1.0, 2_000.0
CELLS: Final = 30
_WIDTH, _LEFT, _TOP, _STEP = 960, 250, 56, 64
_INK, _FAINT, _BAND, _GOOD, _BAD = "#1d2b36", "#7d8b96", "#e3eaef", "#1f7a6d", "#b3392f"
_FONT: Final = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One measured row of a tier; ms; None where there were too few samples or answers."""

    tier: str
    what: str
    link: str
    n: int
    band: tuple[float, float]
    p50: float | None
    p95: float | None

    @property
    def holds(self) -> bool:
        """Return whether the 95th percentile is below the band's end."""
        return self.p95 is not None and self.p95 <= self.band[1]


def rungs_of(report: Mapping[str, Any]) -> list[Rung]:
    """Return the rows of a report that stand in a band, in its order."""
    rungs = []
    for row in report["rows"]:
        tier, _, what = row["row"].partition(": ")
        if tier in TIER_BAND_MS and "band_ms" in row:
            ms = row["ms"]
            rungs.append(
                Rung(
                    tier=tier,
                    what=what,
                    link=row.get("link", ""),
                    n=int(ms["n"]),
                    band=TIER_BAND_MS[tier],  # type: ignore[index]
                    p50=ms.get("p50"),
                    p95=ms.get("p95"),
                )
            )
    return rungs


def table(report: Mapping[str, Any]) -> Table:
    """Return the tiers as a table that fits a hundred columns."""
    caption = (
        "ms from the scheduled release; █ p50 to p95, · the band; * figures of the link assumed"
    )
    shown = Table(title="five latency tiers", caption=caption, title_justify="left")
    for heading in ("tier", "what", "link"):
        shown.add_column(heading, no_wrap=heading != "what")
    for heading in ("p50", "p95", "n"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column(_scale(), no_wrap=True)
    for rung in rungs_of(report):
        colour = "green" if rung.holds else "red"
        shown.add_row(
            rung.tier,
            _short(rung.what),
            rung.link.replace(" (assumed)", "*"),
            _number(rung.p50),
            Text(_number(rung.p95), style=colour),
            f"{rung.n:,}",
            _bar(rung, colour),
        )
    return shown


def svg(report: Mapping[str, Any]) -> str:
    """Return the ladder: a lane per measured row, its band shaded, p50 a dot, p95 the bar's end."""
    rungs = rungs_of(report)
    height = _TOP + _STEP * len(rungs) + 58
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' {_FONT} "
        f"font-size='13' fill='{_INK}'>",
        f"<rect width='{_WIDTH}' height='{height}' fill='white'/>",
        "<text x='20' y='30' font-size='17' font-weight='600'>"
        "Where inference runs: five latency tiers</text>",
    ]
    bottom = _TOP + _STEP * len(rungs)
    for ms in (1, 10, 50, 200, 1_000):
        x = _x(ms)
        parts.append(
            f"<line x1='{x}' y1='{_TOP - 8}' x2='{x}' y2='{bottom}' stroke='{_BAND}'/>"
            f"<text x='{x}' y='{bottom + 18}' text-anchor='middle' fill='{_FAINT}'>{ms:,} ms</text>"
        )
    for i, rung in enumerate(rungs):
        parts += _lane(rung, _TOP + i * _STEP)
    machine = report["machine"]
    words = (
        f"{report['command']} at {report['commit']}; {machine['cores']} cores, load "
        f"{machine['load_1min']} before, {machine['load_1min_after']} after; links emulated"
    )
    parts.append(
        f"<text x='20' y='{height - 14}' fill='{_FAINT}' font-size='11'>{escape(words)}</text>"
        "</svg>"
    )
    return "\n".join(parts)


def _short(what: str) -> str:
    """Return the clause that tells rows of a tier apart: the last where it names a time."""
    first, *rest = what.split(", ")
    return rest[-1] if rest and rest[-1].split()[0] in ("before", "during", "after") else first


def _lane(rung: Rung, y: int) -> Sequence[str]:
    colour = _GOOD if rung.holds else _BAD
    low, high = _x(max(rung.band[0], LOW_MS)), _x(rung.band[1])
    middle = y + 20
    lane = [
        f"<text x='20' y='{y + 16}' font-weight='600'>{rung.tier}</text>",
        f"<text x='20' y='{y + 33}' fill='{_FAINT}' font-size='11'>{escape(rung.link)}</text>",
        f"<rect x='{low}' y='{y}' width='{high - low}' height='40' fill='{_BAND}' rx='3'/>",
        f"<text x='{_LEFT}' y='{y + 53}' fill='{_FAINT}' font-size='11'>"
        f"{escape(rung.what)}, n = {rung.n:,}</text>",
    ]
    if rung.p50 is None or rung.p95 is None:
        lane.append(f"<text x='{low + 8}' y='{middle + 4}' fill='{_BAD}'>too few answers</text>")
        return lane
    a, b = _x(rung.p50), _x(rung.p95)
    lane += [
        f"<line x1='{a}' y1='{middle}' x2='{b}' y2='{middle}' stroke='{colour}' stroke-width='6' "
        "stroke-linecap='round'/>",
        f"<circle cx='{a}' cy='{middle}' r='6' fill='{colour}'/>",
        f"<text x='{b + 12}' y='{middle + 4}'>p50 {_number(rung.p50)}, p95 "
        f"{_number(rung.p95)}</text>",
    ]
    return lane


def _share(ms: float) -> float:
    """Return where a duration lies on the scale, 0..1."""
    clipped = min(max(ms, LOW_MS), HIGH_MS)
    return math.log(clipped / LOW_MS) / math.log(HIGH_MS / LOW_MS)


def _x(ms: float) -> int:
    return round(_LEFT + (_WIDTH - _LEFT - 150) * _share(ms))


def _cell(ms: float) -> int:
    return min(round(CELLS * _share(ms)), CELLS - 1)


def _bar(rung: Rung, colour: str) -> Text:
    cells = [" "] * CELLS
    for i in range(_cell(max(rung.band[0], LOW_MS)), _cell(rung.band[1]) + 1):
        cells[i] = "·"
    if rung.p50 is None or rung.p95 is None:
        return Text("".join(cells), style="dim")
    first, last = _cell(rung.p50), _cell(rung.p95)
    text = Text("".join(cells[:first]), style="dim")
    text.append("█" * (last - first + 1), style=colour)
    text.append("".join(cells[last + 1 :]), style="dim")
    return text


def _scale() -> str:
    """Return the heading of the bars: their decades."""
    cells = [" "] * CELLS
    for ms in (1, 10, 100, 1_000):
        word = f"{ms:g}"
        at = min(_cell(ms), CELLS - len(word))
        cells[at : at + len(word)] = list(word)
    return "".join(cells)


def _number(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.1f}"
