"""The campaigns of the fleet: signed, versioned, handed to the cars they name.

A car believes the signature, not the gateway: who takes the gateway over can withhold a campaign,
but not make cars look out for something else. Each is a DSSE envelope around canonical bytes.

Source: DSSE v1.0.2 (secure-systems-lab/dsse), by securesystemslib.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.dsse import Envelope

from fleet.keys import KeyFolder
from fleet.registry import PLAIN_NAME
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import CAMPAIGN_PAYLOAD_TYPE
from vehicle.contracts.wire import RefusedError

ROLE: Final = "campaign"
WITHDRAWN: Final = "withdrawn"


class CampaignNameError(RefusedError):
    """A campaign's name could be mistaken for a path."""


class CampaignCorruptError(RefusedError):
    """A campaign file cannot be read; no car is handed a guess instead."""


class UnknownCampaignError(RefusedError):
    """There is no campaign of this name."""


class CampaignKey:
    """The role key "campaign" in fleet/keys; every key of the role that is there signs."""

    def __init__(self, home: Home) -> None:
        self._keys = KeyFolder(home)

    def sign(self, campaign: Campaign) -> dict[str, Any]:
        """Return the campaign as a signed envelope in plain JSON data."""
        self._make()
        envelope = Envelope(wire.to_bytes(campaign), CAMPAIGN_PAYLOAD_TYPE, {})
        for _, signer in self._keys.signers(ROLE):
            envelope.sign(signer)
        return dict(envelope.to_dict())

    def public_pem(self) -> bytes:
        """Return what a car is given to check campaigns with: one PEM block per key."""
        self._make()
        blocks = []
        for path, _ in self._keys.signers(ROLE):
            private = load_pem_private_key(path.read_bytes(), password=None)
            public = private.public_key()
            blocks.append(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return b"".join(blocks)

    def _make(self) -> None:
        with self._keys.locked():
            if not any(self._keys.signers(ROLE)):
                self._keys.new_signer(ROLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A campaign as home keeps it.

    Args:
        envelope: what cars are handed.
        path: the file it is in.
    """

    campaign: Campaign
    envelope: dict[str, Any]
    path: Path


class Campaigns:
    """Envelopes in fleet/campaigns, one file each; withdrawn ones wait in a folder beside them, so
    that their versions are not used again."""

    def __init__(self, home: Home) -> None:
        self._folder = home.fleet / "campaigns"
        self._key = CampaignKey(home)

    def put(self, campaign: Campaign) -> Campaign:
        """Sign `campaign` and keep it, in place of one of the same name.

        Returns:
            It as signed: with the next version when the one it had was used before. The same
            campaign again changes nothing.
        Raises:
            CampaignNameError: the name is not plain.
        """
        name = _check_name(campaign.campaign_id)
        path = self._folder / f"{name}.json"
        before = [_read(p) for p in (path, self._folder / WITHDRAWN / path.name) if p.is_file()]
        newest = max((kept.campaign.version for kept in before), default=0)
        if path.is_file() and replace(campaign, version=newest) == before[0].campaign:
            return before[0].campaign
        signed = replace(campaign, version=max(campaign.version, newest + 1))
        wire.atomic_write(path, wire.canonical(self._key.sign(signed)))
        return signed

    def withdraw(self, campaign_id: str) -> Campaign:
        """Take a campaign back: cars drop it at their next visit.

        Raises:
            UnknownCampaignError: there is none of this name.
        """
        kept = self.get(campaign_id)
        aside = self._folder / WITHDRAWN
        aside.mkdir(exist_ok=True)
        kept.path.replace(aside / kept.path.name)
        wire.sync_folder(aside)
        wire.sync_folder(self._folder)
        return kept.campaign

    def get(self, campaign_id: str) -> Kept:
        """Return one campaign.

        Raises:
            CampaignNameError, UnknownCampaignError, CampaignCorruptError: as named.
        """
        path = self._folder / f"{_check_name(campaign_id)}.json"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in self._folder.glob("[!.]*.json"))) or "none"
            raise UnknownCampaignError(f"no campaign {campaign_id!r}; known: {known}")
        return _read(path)

    def all(self) -> Iterator[Kept]:
        """Yield every campaign that is not withdrawn, by name.

        Raises:
            CampaignCorruptError: a file is not a signed campaign.
        """
        for path in sorted(self._folder.glob("[!.]*.json")):
            yield _read(path)

    def for_car(self, car_id: str, utc_ns: int) -> list[Kept]:
        """Return the campaigns that name `car_id`, or every car, and have not expired."""
        return [
            kept
            for kept in self.all()
            if {"*", car_id} & set(kept.campaign.cars)
            and (kept.campaign.expires_utc_ns is None or kept.campaign.expires_utc_ns > utc_ns)
        ]


def _check_name(campaign_id: str) -> str:
    if not PLAIN_NAME.fullmatch(campaign_id):
        raise CampaignNameError(
            f"campaign name {campaign_id[:80]!r} is refused: expected 1 to 64 letters, digits, "
            "'.', '_' or '-'"
        )
    return campaign_id


def _read(path: Path) -> Kept:
    try:
        raw = path.read_bytes()
        payload = Envelope.from_dict(json.loads(raw)).payload
        campaign = wire.from_bytes(Campaign, payload)
        return Kept(campaign=campaign, envelope=json.loads(raw), path=path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CampaignCorruptError(
            f"{path} is no signed campaign ({type(error).__name__}: {error}); remove the file and "
            "sign the campaign again: roadloop fleet campaign add FILE"
        ) from error
