"""What silicon can do, as published: throughput per watt, bandwidth, precisions, context size.

The table is data (tables/chips.toml); each figure names its source, and what nobody published is
None, printed as unknown. Ratios are of peaks, so they bound what a chip does and do not say it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from vehicle.contracts.inference import CONTEXTS, Context
from vehicle.contracts.wire import ContractError, require

TABLE: Final = "chips.toml"

KV_BYTES_PER_TOKEN: Final = 131_072
WEIGHTS_BYTES: Final = 16_060_000_000
"""Of the model that context sizes are said for: 8.03 G parameters in bf16; keys and values of 32
layers x 8 heads x 128 x 2 x 2 bytes. Source: Llama 3 8B's config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One published figure and where it stands."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One part; None: unknown.

    Args:
        tops: precision -> peak tera-operations/s; "-sparse" counts what is not computed.
        watts: thermal design power.
        bandwidth_gbps: of its memory, GB/s.
        memory_gb: 10^9 bytes.
    """

    name: str
    context: Context
    tops: Mapping[str, Cell]
    watts: Cell | None
    bandwidth_gbps: Cell | None
    memory_gb: Cell | None
    note: str = ""

    @property
    def tops_per_watt(self) -> tuple[str, float] | None:
        """Return the fewest-bit dense precision it has a figure of (else sparse), and TOPS/W."""
        if not self.tops or self.watts is None:
            return None
        precision = min(self.tops, key=lambda p: (p.endswith("-sparse"), _bits(p), p))
        return precision, self.tops[precision].value / self.watts.value

    @property
    def context_tokens(self) -> int | None:
        """Return how many tokens of an 8 G model fit beside its weights; 0: not even those."""
        if self.memory_gb is None:
            return None
        left = self.memory_gb.value * 1e9 - WEIGHTS_BYTES
        return max(int(left / KV_BYTES_PER_TOKEN), 0)


def chips() -> tuple[Chip, ...]:
    """Return the table, nearest context first, in the file's order.

    Raises:
        ContractError: a figure without a source, or one that is none.
    """
    text = (resources.files("fleet.inference") / "tables" / TABLE).read_text()
    plain = tomllib.loads(text)
    found = [_chip(row, plain["sources"]) for row in plain["chip"]]
    return tuple(sorted(found, key=lambda c: CONTEXTS.index(c.context)))


def _chip(row: dict[str, Any], sources: Mapping[str, str]) -> Chip:
    name = row.pop("name")
    require(row["context"] in CONTEXTS, f"{name}: context is {row['context']!r}")

    def cell(pair: Any) -> Cell | None:
        if pair is None:
            return None
        if not (isinstance(pair, list) and len(pair) == 2 and pair[1] in sources):
            raise ContractError(f"{name}: {pair!r} is not [figure, source], sources: {[*sources]}")
        require(pair[0] > 0, f"{name}: {pair[0]} is no figure")
        return Cell(value=float(pair[0]), source=sources[pair[1]])

    return Chip(
        name=name,
        context=row.pop("context"),
        tops={p: c for p, pair in row.pop("tops", {}).items() if (c := cell(pair))},
        watts=cell(row.pop("watts", None)),
        bandwidth_gbps=cell(row.pop("bandwidth_gbps", None)),
        memory_gb=cell(row.pop("memory_gb", None)),
        **row,
    )


def _bits(precision: str) -> int:
    return int("".join(c for c in precision if c.isdigit()))
