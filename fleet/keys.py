"""The private keys of a home, `fleet/keys`: readable by their owner alone, and never anywhere else.

One file a key, so that the ones that must sign rarely can be carried away and kept elsewhere.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from vehicle.contracts import wire
from vehicle.contracts.home import Home


class KeyFolder:
    """Keys by file name; `<role>-<key id>.pem` are those that sign documents."""

    def __init__(self, home: Home) -> None:
        self.folder = home.fleet / "keys"

    def write(self, name: str, data: bytes) -> Path:
        """Keep a secret that is new, mode 0600 from its first byte on; return where.

        Raises:
            FileExistsError: there is one of this name.
        """
        self._make()
        path = self.folder / name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        wire.sync_folder(self.folder)
        return path

    def secret(self, name: str) -> bytes:
        """Return the 32 random bytes kept under `name`; they are drawn at the first call."""
        path = self.folder / name
        with self.locked():
            if not path.is_file():
                self.write(name, secrets.token_bytes(32))
            return path.read_bytes()

    def new_signer(self, role: str) -> CryptoSigner:
        """Draw an ed25519 key for a role and keep it."""
        signer = CryptoSigner.generate_ed25519()
        self.write(f"{role}-{signer.public_key.keyid[:12]}.pem", signer.private_bytes)
        return signer

    def signers(self, role: str = "*") -> Iterator[tuple[Path, CryptoSigner]]:
        """Yield the signing keys that are here, of one role or of all, by file name."""
        for path in sorted(self.folder.glob(f"{role}-*.pem")):
            yield path, CryptoSigner(load_pem_private_key(path.read_bytes(), password=None))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from making keys; not to be taken twice by one."""
        self._make()
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
