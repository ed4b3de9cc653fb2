"""Places that may be asked, and the ways to them, as a file: what the router decides over.

Times and gains in it are what is believed at first; a router at work learns each link from what it
sends (`fleet/inference/routed.py`).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from fleet.inference.arrival import LinkModel, Sample
from fleet.inference.carbon import CarbonAware, UnknownLocationError, grams
from fleet.inference.energy import joules
from fleet.inference.policy import Site
from fleet.inference.router import NS, Offer
from vehicle.contracts.wire import ContractError

EXAMPLE: Final = "sites.toml"
ANSWER_BYTES: Final = 1_024
"""Of an answer before any has come: a piece of advice."""

_SAMPLES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One place that may be asked.

    Args:
        site: as policy sees it.
        link: name of the way there, of `Field.links`.
        network, processor: of `fleet/inference/energy.py`, for joules.
        compute_s: until it has answered, once it has the request.
        quality_gain: see Offer.
        address: HOST:PORT of its door; "" in a field that is only thought about.
    """

    site: Site
    link: str
    network: str
    processor: str
    compute_s: float
    quality_gain: float
    address: str = ""

    def offer(
        self, send_bytes: int, receive_bytes: int, utc_ns: int, carbon: CarbonAware | None
    ) -> Offer:
        """Return what asking here takes and gives now; joules are modelled.

        Raises:
            NoPowerModelError: its processor or network has no model.
        """
        cost = joules(
            self.processor, self.network, self.compute_s, send_bytes + receive_bytes
        ).total
        return Offer(
            site=self.site,
            link=self.link,
            quality_gain=self.quality_gain,
            send_bytes=send_bytes,
            receive_bytes=receive_bytes,
            compute_s=self.compute_s,
            joules=cost,
            carbon_g=grams(cost, self._rating(utc_ns, carbon)),
        )

    def _rating(self, utc_ns: int, carbon: CarbonAware | None) -> float:
        """Return grams a kWh where it stands; 0, which weighs nothing, where nobody knows."""
        if carbon is None:
            return 0.0
        now = datetime.fromtimestamp(utc_ns / NS, UTC)
        try:
            return carbon.get_average_carbon_intensity(
                self.site.jurisdiction[:2], now, now + timedelta(hours=1)
            )
        except UnknownLocationError:
            return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Places and links, by name."""

    spots: dict[str, Spot]
    links: dict[str, LinkModel]


def read_field(path: Path | None) -> Field:
    """Return the field of a file; None: the example that ships.

    Raises:
        ContractError: it cannot be read, or is no field; names the row.
        NoPowerModelError: a row's processor or network has no model.
    """
    try:
        if path is None:
            text = (resources.files("fleet.inference") / "tables" / EXAMPLE).read_text()
        else:
            text = path.read_text()
        plain = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: {error}") from error
    sites, links = plain.get("site"), plain.get("link")
    if not (isinstance(sites, dict) and isinstance(links, dict)):
        raise ContractError(f"{path} needs tables [site.NAME] and [link.NAME]")
    return Field(
        spots={name: _spot(name, row, links) for name, row in sites.items()},
        links={name: _link(name, row) for name, row in links.items()},
    )


def _spot(name: str, row: Mapping[str, Any], links: Mapping[str, Any]) -> Spot:
    try:
        site = Site(
            name=name,
            context=row["context"],
            jurisdiction=row["jurisdiction"],
            landings=tuple(row.get("landings", ())),
            tenants=tuple(row.get("tenants", ())),
        )
        spot = Spot(
            site=site,
            link=row["link"],
            network=links[row["link"]]["network"],
            processor=row["processor"],
            compute_s=row["compute_ms"] / 1e3,
            quality_gain=float(row["quality_gain"]),
            address=str(row.get("address", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"site {name}: {error!r} is missing or of another type") from error
    spot.offer(0, 0, 0, None)
    return spot


def _link(name: str, row: Mapping[str, Any]) -> LinkModel:
    """Return a model that has seen answers with the quantiles of a link's row."""
    try:
        points = [(0.0, row["quantiles_ms"][0][1] * 0.8), *map(tuple, row["quantiles_ms"])]
        model = LinkModel(period_s=float(row.get("period_s", 0.0)))
        for i in range(_SAMPLES):
            share = (i * 37 % _SAMPLES + 0.5) / _SAMPLES
            took_s = _between(points, share) / 1e3
            model.observe(Sample(at_s=10.0 * i, size_bytes=row["size_bytes"], took_s=took_s))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ContractError(f"link {name}: {error!r} is missing or of another type") from error
    return model


def _between(points: list[Any], share: float) -> float:
    """Return the time at a share, straight between the points that are given."""
    for (low, a), (high, b) in pairwise(points):
        if share <= high:
            return float(a + (b - a) * (share - low) / (high - low))
    return float(points[-1][1])
