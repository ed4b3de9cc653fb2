"""Keys that two nodes share: every bundle between them is signed, and nobody on its way reads it.

Relays need no key: they carry what they cannot read or change. Two keys of one purpose each come
out of one shared secret.

Source: RFC 9172 and 9173 (BPSec); RFC 5869 (HKDF).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet.orbit.blocks import PAYLOAD_NUMBER, BlockType, BundleFlags
from fleet.orbit.bundle import Bundle
from fleet.orbit.carriage import CARRIAGE
from fleet.orbit.eid import Eid
from fleet.orbit.errors import NoSecurityError
from fleet.orbit.security import add_bib, decrypt_bcb, encrypt_bcb, verify_bib
from vehicle.contracts.wire import RefusedError

LEAST_BYTES: Final = 32


class KeyringError(RefusedError):
    """The file of shared secrets cannot be used."""


class Keyring:
    """What one node shares with others.

    Args:
        secrets: by number of the other node.
    """

    def __init__(self, secrets: Mapping[int, bytes] | None = None) -> None:
        self._keys = {
            number: (_derived(secret, b"bib"), _derived(secret, b"bcb"))
            for number, secret in (secrets or {}).items()
        }

    @classmethod
    def read(cls, path: Path | None) -> "Keyring":
        """Return the keyring in a file: a JSON object of node number to secret in hex.

        Raises:
            KeyringError: it is none, or a secret is short.
        """
        if path is None:
            return cls()
        try:
            plain = json.loads(path.read_bytes())
            secrets = {int(number): bytes.fromhex(text) for number, text in plain.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise KeyringError(f'{path}: {error}; expected {{"NODE": "hex"}}') from error
        for number, secret in secrets.items():
            if len(secret) < LEAST_BYTES:
                raise KeyringError(
                    f"{path}: {len(secret)} bytes for node {number}, expected {LEAST_BYTES}"
                )
        return cls(secrets)

    def protect(self, bundle: Bundle) -> Bundle:
        """Return a new bundle signed and encrypted for its destination, or as it is where no key
        is shared."""
        keys = self._of(bundle.primary.destination)
        if keys is None:
            return bundle
        signing, hiding = keys
        source = bundle.primary.source
        bundle = add_bib(bundle, signing, source=source, targets=(PAYLOAD_NUMBER,))
        if (carriage := bundle.block(CARRIAGE)) is not None:
            bundle = add_bib(bundle, signing, source=source, targets=(carriage.number,))
        return encrypt_bcb(bundle, hiding, source=source, targets=(PAYLOAD_NUMBER,))

    def opened(self, bundle: Bundle) -> tuple[Bundle, bool]:
        """Return a bundle that came whole, in the clear, and whether its source is proven.

        Raises:
            NoSecurityError: nothing proves its source. Reports alone need no proof: they prove
                nothing either.
            TamperedError, SecurityBlockError: as named.
        """
        source, primary = bundle.primary.source, bundle.primary
        keys = self._of(source)
        if keys is None or bundle.block(BlockType.INTEGRITY) is None:
            if primary.flags & BundleFlags.ADMINISTRATIVE or not self._keys:
                return bundle, False
            raise NoSecurityError(
                f"{bundle.id}: nothing proves that {source} sent it; "
                f"{'it shares no key with us' if keys is None else 'it is not signed'}"
            )
        signing, hiding = keys
        if bundle.block(BlockType.CONFIDENTIALITY) is not None:
            bundle = decrypt_bcb(bundle, hiding, source=source)
        held = verify_bib(bundle, signing, source=source)
        carriage = bundle.block(CARRIAGE)
        if PAYLOAD_NUMBER not in held or (carriage and carriage.number not in held):
            raise NoSecurityError(f"{bundle.id}: its integrity blocks leave a part uncovered")
        return bundle, True

    def _of(self, eid: Eid) -> tuple[bytes, bytes] | None:
        return self._keys.get(eid.ssp[0]) if isinstance(eid.ssp, tuple) else None


def _derived(secret: bytes, purpose: bytes) -> bytes:
    kdf = HKDF(hashes.SHA256(), length=32, salt=None, info=b"roadloop orbit " + purpose)
    return kdf.derive(secret)
