"""Addresses that let a car put one part, and nothing else, for a while: what a pre-signed address
is on S3, where contents lie on this disk."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import ClassVar

from fleet.keys import KeyFolder
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError


class GrantError(RefusedError):
    """An address for a part was not given out by this home, or not to this car."""


class GrantExpiredError(GrantError):
    """An address for a part is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Leave to put one part.

    Args:
        sha256, size_bytes: of the whole content.
        number, offset, length: of the part; the last two in bytes.
        part_sha256: of the part: no other bytes are taken.
        until_s: POSIX time it ends.
    """

    SCHEMA: ClassVar[str] = "grant/1"
    car_id: str
    sha256: str
    size_bytes: int
    number: int
    offset: int
    length: int
    part_sha256: str
    until_s: int


class Grants:
    """Makes and checks grants, with a key that never leaves fleet/keys."""

    def __init__(self, home: Home) -> None:
        self._keys = KeyFolder(home)
        self._key = b""

    def seal(self, grant: Grant) -> str:
        """Return the grant as one word of an address."""
        data = wire.to_bytes(grant)
        return f"{_word(data)}.{_word(self._mac(data))}"

    def open(self, word: str, car_id: str, now_s: float) -> Grant:
        """Return the grant in an address.

        Raises:
            GrantError: not ours, or another car's.
            GrantExpiredError: too old.
        """
        payload, _, mac = word.partition(".")
        try:
            data, given = _bytes(payload), _bytes(mac)
        except ValueError:
            data, given = b"", b""
        if not hmac.compare_digest(given, self._mac(data)):
            raise GrantError("the address of this part was not given out here; ask for it again")
        grant = wire.from_bytes(Grant, data)
        if grant.car_id != car_id:
            raise GrantError(f"the address was given to another car, not to {car_id!r}")
        if grant.until_s <= now_s:
            late_s = now_s - grant.until_s
            raise GrantExpiredError(f"the address ended {late_s:.0f} s ago; ask for it again")
        return grant

    def _mac(self, data: bytes) -> bytes:
        self._key = self._key or self._keys.secret("grants.key")
        return hmac.new(self._key, data, hashlib.sha256).digest()


def _word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(word: str) -> bytes:
    return base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
