"""The campaigns of the fleet: which car looks out for what, and how much it may send."""

from collections.abc import Iterator
from pathlib import Path

from fleet.registry import PLAIN_NAME
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError


class CampaignNameError(RefusedError):
    """A campaign's name could be mistaken for a path."""


class CampaignCorruptError(RefusedError):
    """A campaign file cannot be read; no car is handed a guess instead."""


class Campaigns:
    """Campaign files in fleet/campaigns, one canonical JSON each."""

    def __init__(self, home: Home) -> None:
        self._folder = home.fleet / "campaigns"

    def put(self, campaign: Campaign) -> Path:
        """Keep `campaign`, replacing one of the same name.

        Raises:
            CampaignNameError: the name is not plain.
        """
        if not PLAIN_NAME.fullmatch(campaign.campaign_id):
            raise CampaignNameError(
                f"campaign name {campaign.campaign_id[:80]!r} is refused: expected 1 to 64 "
                "letters, digits, '.', '_' or '-'"
            )
        path = self._folder / f"{campaign.campaign_id}.json"
        wire.atomic_write(path, wire.to_bytes(campaign))
        return path

    def all(self) -> Iterator[Campaign]:
        """Yield every campaign kept, by name.

        Raises:
            CampaignCorruptError: a file is not a campaign.
        """
        for path in sorted(self._folder.glob("[!.]*.json")):
            try:
                yield wire.from_bytes(Campaign, path.read_bytes())
            except wire.ContractError as error:
                raise CampaignCorruptError(f"{path}: {error}; mend or remove the file") from error

    def for_car(self, car_id: str, utc_ns: int | None = None) -> Campaign:
        """Return the campaign `car_id` drives with.

        A campaign that names the car goes before one for all ("*"); of several, the last by name.
        Without any, the default campaign.

        Args:
            car_id: an enrolled car.
            utc_ns: now, to leave out campaigns that have expired; None keeps them.
        """
        best = DEFAULT_CAMPAIGN
        named = False
        for campaign in self.all():
            expires = campaign.expires_utc_ns
            if expires is not None and utc_ns is not None and expires <= utc_ns:
                continue
            if car_id in campaign.cars:
                best, named = campaign, True
            elif "*" in campaign.cars and not named:
                best = campaign
        return best
