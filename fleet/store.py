"""Where clips land: one seam over a folder of this machine and an S3-compatible store.

The car has one code path for both: home grants it an address for each part, it puts the parts
there, home puts them together and checks the whole, and the manifest comes last.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from fleet.grants import Grant, Grants
from fleet.landing import Landing, Uploads
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import (
    PART_BYTES,
    Part,
    PartDigest,
    Upload,
    UploadAsk,
    UploadParts,
    address,
    checksum_of,
    cut,
)
from vehicle.contracts.wire import RefusedError

GRANT_LIFE: Final = timedelta(hours=1)
STALE: Final = timedelta(days=14)
"""How long a content that nobody goes on with is kept."""


class PartDigestError(RefusedError):
    """The bytes of a part are not the ones its address is good for."""


class StoreAddressError(RefusedError):
    """The address of a store cannot be used."""


class StoreDownError(RefusedError):
    """The store does not answer, or refuses home."""


class Store(Protocol):
    """What the door needs of the place where clips land."""

    part_bytes: int
    """Size of the parts it takes."""

    def pending(self, car_id: str) -> dict[str, int]:
        """Return the promised size of each of a car's contents that no manifest has claimed."""

    def grant(self, car_id: str, sha256: str, ask: UploadAsk) -> Upload:
        """Return which parts of a content are here, and where the others are to be put."""

    def complete(self, car_id: str, sha256: str, parts: UploadParts) -> None:
        """Put the parts together and check the whole.

        Raises:
            PartsMissingError: not all parts are here.
            DigestMismatchError: the whole is another content; it is discarded.
        """

    def manifest(self, clip_id: str) -> ClipManifest | None:
        """Return the manifest of a clip that has landed."""

    def commit(self, car_id: str, manifest: ClipManifest) -> bool:
        """Make a clip exist; return False when it did before.

        Raises:
            ForeignClipError: the manifest, or the clip already here, is another car's.
            IncompleteClipError: files are missing or of another size; all are named.
        """

    def clips(self) -> Iterator[ClipManifest]:
        """Yield the manifest of every landed clip."""

    def sweep(self) -> int:
        """Remove what was begun long ago and left; return how many things."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LocalStore:
    """Contents in fleet/uploads, clips in fleet/landing; parts come through the gateway itself.

    Args:
        home: the run's folder.
        now: gives the time that grants end by.
    """

    part_bytes = PART_BYTES

    def __init__(self, home: Home, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._home, self._now = home, now
        self._landing, self._grants = Landing(home), Grants(home)

    def pending(self, car_id: str) -> dict[str, int]:
        """See Store."""
        return Uploads(self._home, car_id).pending()

    def grant(self, car_id: str, sha256: str, ask: UploadAsk) -> Upload:
        """See Store; addresses are relative to the gateway and end after an hour."""
        uploads = Uploads(self._home, car_id)
        if uploads.whole(sha256):
            return Upload(complete=True, part_bytes=self.part_bytes)
        if ask.part_bytes != self.part_bytes:
            return Upload(complete=False, part_bytes=self.part_bytes)
        have = uploads.begin(sha256, ask.size_bytes)
        until_s = int((self._now() + GRANT_LIFE).timestamp())
        parts = []
        for number, offset, length in cut(ask.size_bytes, ask.part_bytes):
            digest = ask.parts[number - 1]
            here = have.get(number) == digest
            url = ""
            if not here:
                grant = Grant(
                    car_id=car_id,
                    sha256=sha256,
                    size_bytes=ask.size_bytes,
                    number=number,
                    offset=offset,
                    length=length,
                    part_sha256=digest,
                    until_s=until_s,
                )
                url = f"{address(car_id)}/parts/{self._grants.seal(grant)}"
            parts.append(Part(number=number, offset=offset, size_bytes=length, have=here, url=url))
        return Upload(complete=False, part_bytes=self.part_bytes, parts=tuple(parts))

    def open(self, car_id: str, word: str) -> Grant:
        """Return the grant in a part's address; raise GrantError or GrantExpiredError."""
        return self._grants.open(word, car_id, self._now().timestamp())

    def put(self, grant: Grant, data: bytes, checksum: str) -> None:
        """Take one part.

        Raises:
            PartDigestError: these are not the bytes that were granted.
            PartsMissingError: the content was discarded since.
        """
        found = checksum_of(wire.digest(data))
        if not found == checksum == checksum_of(grant.part_sha256) or len(data) != grant.length:
            raise PartDigestError(
                f"part {grant.number}: {len(data)} bytes of sha256 {found}, said to be "
                f"{checksum[:80]!r}; expected {grant.length} of {checksum_of(grant.part_sha256)}"
            )
        part = PartDigest(number=grant.number, sha256=grant.part_sha256)
        Uploads(self._home, grant.car_id).put(grant.sha256, part, grant.offset, data)

    def complete(self, car_id: str, sha256: str, parts: UploadParts) -> None:
        """See Store."""
        Uploads(self._home, car_id).complete(sha256, parts.parts)

    def manifest(self, clip_id: str) -> ClipManifest | None:
        """See Store."""
        return self._landing.manifest(clip_id) if self._landing.has(clip_id) else None

    def commit(self, car_id: str, manifest: ClipManifest) -> bool:
        """See Store."""
        return self._landing.commit(car_id, manifest)

    def clips(self) -> Iterator[ClipManifest]:
        """See Store."""
        return (manifest for _, manifest in self._landing.clips())

    def sweep(self) -> int:
        """See Store."""
        return self._landing.sweep((self._now() - STALE).timestamp())


def open_store(home: Home, url: str = "") -> Store:
    """Return the store at `url`: "" is this home's own folder, else s3://BUCKET/PREFIX.

    Raises:
        StoreAddressError: it is neither.
    """
    if not url:
        return LocalStore(home)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise StoreAddressError(f"store {url!r}: expected s3://BUCKET or s3://BUCKET/PREFIX")
    from fleet.store_s3 import S3Store  # boto3 takes its time, and a local home needs none

    return S3Store(bucket, prefix.strip("/"))
