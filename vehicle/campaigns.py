"""The campaigns a car holds: signed by home, checked here, kept on disk, driven with from there.

A campaign comes as a DSSE envelope (Dead Simple Signing Envelope). It is believed because of who
signed it, not because of the link it came over: the same checks are made when it is fetched and
each time a drive begins. What is refused is named and changes nothing of what is held.

Source: DSSE v1.0.2 (secure-systems-lab/dsse), by securesystemslib.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, SSlibKey

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.uplink import CAMPAIGN_KEYS, CAMPAIGN_PAYLOAD_TYPE, IDENTITY
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.identity import NotEnrolledError

FOLDER: Final = "campaigns"
FLOOR: Final = ".newest.json"
MAX_BYTES: Final = 1 << 20
"""Most an envelope may have; 256 reference embeddings fit."""

PEM_END: Final = b"-----END PUBLIC KEY-----"


class CampaignRefusedError(RefusedError):
    """A campaign is not driven with; the kinds below say why."""


class CampaignCorruptError(CampaignRefusedError):
    """It is no envelope, or what was signed is no campaign."""


class UnknownSignerError(CampaignRefusedError):
    """No key of this fleet signed these bytes."""


class ExpiredCampaignError(CampaignRefusedError):
    """Its time is over."""


class CampaignRollbackError(CampaignRefusedError):
    """An older version than one this car has held."""


class ForeignCampaignError(CampaignRefusedError):
    """It is for other cars."""


class JurisdictionError(CampaignRefusedError):
    """It may not be driven with here; it stays, for the car may cross the border."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A campaign that was not taken, or that is not driven with, and why."""

    campaign_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a visit to the inbox changed."""

    new: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newest:
    """The newest version this car has held of each campaign; withdrawing one does not lower it."""

    SCHEMA: ClassVar[str] = "newestcampaigns/1"
    versions: dict[str, int] = field(default_factory=dict)


class HeldCampaigns:
    """One car's campaigns: `campaigns/<id>.json` in its folder, each an envelope as it came.

    Args:
        car_folder: cars/CAR; the keys to believe stand in its identity/campaign.pub.
        car_id: campaigns that do not name it (or every car) are refused.
        clock: its UTC decides on expiry.
    """

    def __init__(self, car_folder: Path, car_id: str, clock: Clock) -> None:
        self._folder, self._car, self._clock = car_folder / FOLDER, car_id, clock
        self._keys_file = car_folder / IDENTITY / CAMPAIGN_KEYS

    def take(self, offered: Sequence[Mapping[str, Any]]) -> Taken:
        """Keep what home offers and this car may believe; drop what home offers no longer.

        A campaign whose new version is refused stays as it was. Every file is replaced as a whole.

        Args:
            offered: all envelopes of the inbox.
        Raises:
            NotEnrolledError: there is no key to check them with.
        """
        keys, newest = (self._keys() if offered else []), self._newest()
        new, refused, listed = [], [], set()
        for number, plain in enumerate(offered):
            try:
                campaign, data = self._checked(plain, keys, newest)
                path = self._path(campaign.campaign_id)
            except CampaignRefusedError as error:
                name = _claimed_id(plain) or f"number {number + 1} of the inbox"
                listed.add(name)
                refused.append(Refused(campaign_id=name, reason=_words(error)))
                continue
            listed.add(campaign.campaign_id)
            if not path.is_file() or path.read_bytes() != data:
                newest |= {campaign.campaign_id: campaign.version}
                wire.atomic_write(self._folder / FLOOR, wire.to_bytes(_Newest(versions=newest)))
                wire.atomic_write(path, data)
                new.append(campaign.campaign_id)
        gone = [path for path in self._files() if path.stem not in listed]
        for path in gone:
            path.unlink(missing_ok=True)
        return Taken(
            new=tuple(new), withdrawn=tuple(path.stem for path in gone), refused=tuple(refused)
        )

    def held(self, jurisdiction: str | None = None) -> tuple[list[Campaign], list[Refused]]:
        """Return the campaigns on disk that hold now, by falling priority, and why others do not.

        Args:
            jurisdiction: ISO 3166 code of where the car drives; None: wherever.
        """
        campaigns: list[Campaign] = []
        refused: list[Refused] = []
        files = self._files()
        try:
            keys, newest = (self._keys() if files else []), self._newest()
        except NotEnrolledError as error:
            return [], [Refused(campaign_id=path.stem, reason=_words(error)) for path in files]
        for path in files:
            try:
                campaign, _ = self._checked(_read(path), keys, newest)
                if campaign.campaign_id != path.stem:
                    raise CampaignCorruptError(f"{path} holds {campaign.campaign_id!r}")
                _check_jurisdiction(campaign, jurisdiction)
                campaigns.append(campaign)
            except CampaignRefusedError as error:
                refused.append(Refused(campaign_id=path.stem, reason=_words(error)))
        campaigns.sort(key=lambda c: (-c.priority, c.campaign_id))
        return campaigns, refused

    def to_drive_with(self, jurisdiction: str) -> tuple[Campaign, ...]:
        """Return the campaigns of a drive; the default one where none holds."""
        return tuple(self.held(jurisdiction)[0]) or (DEFAULT_CAMPAIGN,)

    def _checked(
        self, plain: Mapping[str, Any], keys: list[Key], newest: Mapping[str, int]
    ) -> tuple[Campaign, bytes]:
        """Return the campaign of an envelope and the envelope's bytes; raise what is wrong."""
        try:
            data = wire.canonical(plain)
        except ValueError as error:
            raise CampaignCorruptError(f"no canonical form: {error}") from error
        if len(data) > MAX_BYTES:
            raise CampaignCorruptError(f"{len(data)} bytes, at most {MAX_BYTES} are read")
        payload = _verified(json.loads(data), keys)
        try:
            campaign = wire.from_bytes(Campaign, payload)
        except ValueError as error:  # ContractError among them
            raise CampaignCorruptError(f"signed, but no campaign: {_words(error)}") from error
        expires, now = campaign.expires_utc_ns, self._clock.utc_ns()
        if expires is not None and expires <= now:
            raise ExpiredCampaignError(
                f"it ended {(now - expires) / 3.6e12:.1f} h ago; sign a new version to go on"
            )
        if not {"*", self._car} & set(campaign.cars):
            raise ForeignCampaignError(
                f"it is for {', '.join(campaign.cars)[:200] or 'no car'}, this is {self._car}"
            )
        floor = newest.get(campaign.campaign_id, 0)
        if campaign.version < floor:
            raise CampaignRollbackError(
                f"version {campaign.version}, this car has held version {floor}; "
                f"sign it as version {floor + 1} or later"
            )
        return campaign, data

    def _keys(self) -> list[Key]:
        try:
            pems = self._keys_file.read_bytes().split(PEM_END)[:-1]
            public = [load_pem_public_key(pem.strip() + b"\n" + PEM_END + b"\n") for pem in pems]
            keys: list[Key] = [SSlibKey.from_crypto(key) for key in public]
        except (OSError, ValueError) as error:
            raise NotEnrolledError(
                f"{self._keys_file} cannot be used ({error}); it says who may sign campaigns. Make "
                f"it anew: roadloop fleet enrol {self._car} --renew"
            ) from error
        if not keys:
            raise NotEnrolledError(f"{self._keys_file} holds no public key")
        return keys

    def _newest(self) -> dict[str, int]:
        """Return the newest version held of each; a file that is none is no reason to drive
        without campaigns: the versions on disk are then the floor again."""
        try:
            data = (self._folder / FLOOR).read_bytes()
            return dict(wire.from_bytes(_Newest, data, strict=False).versions)
        except (OSError, ContractError):
            return {}

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[!.]*.json"))

    def _path(self, campaign_id: str) -> Path:
        plain = campaign_id and "/" not in campaign_id and not campaign_id.startswith(".")
        if not plain or len(campaign_id) > 64:
            raise CampaignCorruptError(f"its name {campaign_id[:80]!r} is not plain")
        return self._folder / f"{campaign_id}.json"


def _verified(plain: Any, keys: list[Key]) -> bytes:
    """Return the payload of an envelope that a key of this fleet signed."""
    try:
        envelope = Envelope.from_dict(plain)
    except Exception as error:  # whatever a strange envelope makes the library do
        raise CampaignCorruptError(f"no DSSE envelope ({type(error).__name__}: {error})") from error
    if envelope.payload_type != CAMPAIGN_PAYLOAD_TYPE:
        raise CampaignCorruptError(
            f"payload type is {envelope.payload_type!r}, expected {CAMPAIGN_PAYLOAD_TYPE!r}"
        )
    try:
        envelope.verify(keys, threshold=1)
    except VerificationError as error:
        found = ", ".join(keyid[:12] for keyid in envelope.signatures) or "nobody"
        known = ", ".join(key.keyid[:12] for key in keys)
        raise UnknownSignerError(
            f"signed by {found}, this car believes {known}; if home has a new campaign key, enrol "
            "the car again (--renew)"
        ) from error
    return bytes(envelope.payload)


def _check_jurisdiction(campaign: Campaign, jurisdiction: str | None) -> None:
    allowed = campaign.jurisdictions
    if jurisdiction is not None and not {"*", jurisdiction} & set(allowed):
        raise JurisdictionError(f"it holds in {', '.join(allowed)}, the car is in {jurisdiction}")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 2 * MAX_BYTES:
            raise CampaignCorruptError(f"{path} has {path.stat().st_size} bytes")
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CampaignCorruptError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise CampaignCorruptError(f"{path} holds no envelope")
    return plain


def _claimed_id(plain: Mapping[str, Any]) -> str:
    """Return the name an envelope gives itself, believed only so far as to keep what is held."""
    try:
        payload = Envelope.from_dict(json.loads(wire.canonical(plain))).payload
        return str(json.loads(payload)["campaign_id"])[:64]
    except Exception:
        return ""


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
