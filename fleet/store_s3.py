"""Clips on an S3-compatible store: cars put parts there by pre-signed addresses, home never carries
them.

    parts/CAR/SHA256-SIZE      a content coming in, as a multipart upload and then as an object
    checked/CAR/SHA256-SIZE    empty: home has read that object and it is that content
    objects/SHA256             contents of landed clips
    clips/CLIP_ID/manifest.json   put if absent, last

Home keeps nothing about uploads itself: which parts are here is the store's own list. What a car
puts is read once by home before it counts, because a store checks parts, not wholes.

Source: Amazon S3 API reference: UploadPart, ListParts, "Checking object integrity", conditional
writes.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet.landing import (
    MANIFEST,
    DigestMismatchError,
    ForeignClipError,
    IncompleteClipError,
    PartsMissingError,
)
from fleet.store import GRANT_LIFE, STALE, StoreDownError
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.uplink import Part, Upload, UploadAsk, UploadParts, checksum_of, cut

LEAST_PART_BYTES: Final = 5 << 20
"""S3 takes no smaller part but the last."""

READ_BYTES: Final = 1 << 20
ABSENT: Final = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}


class S3Store:
    """A bucket, or a folder in one; credentials, region and endpoint come from AWS_* as usual.

    Args:
        bucket: must exist.
        prefix: put before every key, without slashes at its ends.
    """

    part_bytes = LEAST_PART_BYTES

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        own = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
        self._s3 = boto3.client(
            "s3",
            config=Config(
                signature_version="s3v4",  # older signatures do not bind what is not in the path
                s3={"addressing_style": "path" if own else "auto"},
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 3},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def pending(self, car_id: str) -> dict[str, int]:
        """See Store: the size stands in the key, so one listing tells."""
        with self._named():
            names = {u["Key"] for u in self._uploads(f"parts/{car_id}/")}
            names |= {o["Key"] for o in self._objects(f"parts/{car_id}/")}
        pairs = (key.rpartition("/")[2].split("-") for key in names)
        return {sha256: int(size) for sha256, size in pairs}

    def grant(self, car_id: str, sha256: str, ask: UploadAsk) -> Upload:
        """See Store; addresses are absolute, signed for one part's bytes, and end after an hour."""
        name = f"{car_id}/{sha256}-{ask.size_bytes}"
        with self._named():
            if self._whole(name, sha256):
                return Upload(complete=True, part_bytes=self.part_bytes)
            if ask.part_bytes != self.part_bytes:
                return Upload(complete=False, part_bytes=self.part_bytes)
            upload_id = self._begun(name) or self._begin(name)
            have = self._have(name, upload_id)
            parts = []
            for number, offset, length in cut(ask.size_bytes, ask.part_bytes):
                here = _is(have.get(number), length, ask.parts[number - 1])
                url = ""
                if not here:
                    url = self._sign(name, upload_id, number, length, ask.parts[number - 1])
                parts.append(
                    Part(number=number, offset=offset, size_bytes=length, have=here, url=url)
                )
        return Upload(complete=False, part_bytes=self.part_bytes, parts=tuple(parts))

    def complete(self, car_id: str, sha256: str, parts: UploadParts) -> None:
        """See Store."""
        with self._named():
            name = self._name(car_id, sha256)
            if name and self._whole(name, sha256):
                return
            upload_id = self._begun(name) if name else None
            if not name or not upload_id:
                raise PartsMissingError(f"{sha256[:12]} is not begun here; ask for it again")
            have = self._have(name, upload_id)
            missing = [p.number for p in parts.parts if p.number not in have]
            if missing:
                raise PartsMissingError(
                    f"{sha256[:12]}: {len(missing)} of {len(parts.parts)} parts are not here, the "
                    f"first is {missing[0]}; ask which and send them"
                )
            done = [
                {
                    "PartNumber": part.number,
                    "ETag": have[part.number]["ETag"],
                    "ChecksumSHA256": checksum_of(part.sha256),
                }
                for part in parts.parts
            ]
            self._s3.complete_multipart_upload(
                **self._at(f"parts/{name}"), UploadId=upload_id, MultipartUpload={"Parts": done}
            )
            if not self._whole(name, sha256):
                raise PartsMissingError(f"{sha256[:12]} is not begun here; ask for it again")

    def manifest(self, clip_id: str) -> ClipManifest | None:
        """See Store."""
        with self._named():
            try:
                answer = self._s3.get_object(**self._at(f"clips/{clip_id}/{MANIFEST}"))
            except ClientError as error:
                if _code(error) in ABSENT:
                    return None
                raise
            return wire.from_bytes(ClipManifest, answer["Body"].read(), strict=False)

    def commit(self, car_id: str, manifest: ClipManifest) -> bool:
        """See Store; of two at once the store itself lets one win."""
        if manifest.car_id != car_id:
            raise ForeignClipError(f"manifest is of car {manifest.car_id!r}, sent by {car_id!r}")
        if self._landed(car_id, manifest):
            return False
        names = {f.sha256: f"{car_id}/{f.sha256}-{f.size_bytes}" for f in manifest.files}
        with self._named():
            reasons = [
                f"{f.name}: its {f.size_bytes} bytes are not here"
                for f in manifest.files
                if self._size(f"checked/{names[f.sha256]}") is None
            ]
            taken = [f.name for f in manifest.files]
            reasons += [f"{name}: the name is taken" for name in _twice([MANIFEST, *taken])]
            if reasons:
                raise IncompleteClipError(reasons)
            for entry in manifest.files:
                self._keep(names[entry.sha256], entry.sha256, entry.size_bytes)
            new = self._put_if_absent(manifest)
            if new or self._landed(car_id, manifest):
                for name in names.values():
                    self._forget(name)
            return new

    def clips(self) -> Iterator[ClipManifest]:
        """See Store."""
        with self._named():
            keys = [o["Key"] for o in self._objects("clips/") if o["Key"].endswith(f"/{MANIFEST}")]
        for key in keys:
            found = self.manifest(key.removeprefix(f"{self._prefix}clips/").partition("/")[0])
            if found is not None:
                yield found

    def sweep(self) -> int:
        """See Store."""
        before, removed = datetime.now(UTC) - STALE, 0
        with self._named():
            for upload in self._uploads("parts/"):
                if upload["Initiated"] < before:
                    self._abort(upload["Key"], upload["UploadId"])
                    removed += 1
            for prefix in ("checked/", "parts/"):
                for found in self._objects(prefix):
                    if found["LastModified"] < before:
                        self._s3.delete_object(Bucket=self._bucket, Key=found["Key"])
                        removed += 1
        return removed

    def _landed(self, car_id: str, manifest: ClipManifest) -> bool:
        landed = self.manifest(manifest.clip_id)
        if landed is not None and landed.car_id != car_id:
            raise ForeignClipError(f"clip {manifest.clip_id[:12]} landed from another car")
        return landed is not None

    def _whole(self, name: str, sha256: str) -> bool:
        """Return whether all of a content is here; what was not read before is read now.

        Raises:
            DigestMismatchError: it is another content; it is discarded.
        """
        if self._size(f"checked/{name}") is not None:
            return True
        if self._size(f"parts/{name}") is None:
            return False
        body = self._s3.get_object(**self._at(f"parts/{name}"))["Body"]
        digest = hashlib.sha256()
        for chunk in body.iter_chunks(READ_BYTES):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            self._s3.delete_object(**self._at(f"parts/{name}"))
            raise DigestMismatchError(
                f"content is {digest.hexdigest()}, expected {sha256}; what was received is "
                "discarded, send it again"
            )
        self._s3.put_object(**self._at(f"checked/{name}"), Body=b"")
        return True

    def _name(self, car_id: str, sha256: str) -> str:
        """Return CAR/SHA256-SIZE of a content that the car began; "" when it did not."""
        start = f"{self._prefix}parts/{car_id}/{sha256}-"
        keys = [u["Key"] for u in self._uploads(f"parts/{car_id}/{sha256}-")]
        keys += [o["Key"] for o in self._objects(f"parts/{car_id}/{sha256}-")]
        found = sorted(key for key in keys if key.startswith(start))
        return found[0].removeprefix(f"{self._prefix}parts/") if found else ""

    def _begin(self, name: str) -> str:
        made = self._s3.create_multipart_upload(
            **self._at(f"parts/{name}"), ChecksumAlgorithm="SHA256"
        )
        return str(made["UploadId"])

    def _begun(self, name: str) -> str | None:
        """Return the oldest upload of a content; two that began at once are one from then on."""
        key = f"{self._prefix}parts/{name}"
        mine = [u for u in self._uploads(f"parts/{name}") if u["Key"] == key]
        mine.sort(key=lambda u: (u["Initiated"], u["UploadId"]))
        return str(mine[0]["UploadId"]) if mine else None

    def _have(self, name: str, upload_id: str) -> dict[int, dict[str, Any]]:
        pages = self._s3.get_paginator("list_parts").paginate(
            **self._at(f"parts/{name}"), UploadId=upload_id
        )
        return {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}

    def _sign(self, name: str, upload_id: str, number: int, length: int, sha256: str) -> str:
        """Return an address for these bytes of this part: length and checksum are signed too."""
        return str(
            self._s3.generate_presigned_url(
                "upload_part",
                Params={
                    **self._at(f"parts/{name}"),
                    "UploadId": upload_id,
                    "PartNumber": number,
                    "ContentLength": length,
                    "ChecksumSHA256": checksum_of(sha256),
                },
                ExpiresIn=int(GRANT_LIFE.total_seconds()),
            )
        )

    def _keep(self, name: str, sha256: str, size_bytes: int) -> None:
        """Give a checked content its place among the objects, inside the store."""
        if self._size(f"objects/{sha256}") != size_bytes:
            source = {"Bucket": self._bucket, "Key": f"{self._prefix}parts/{name}"}
            self._s3.copy_object(**self._at(f"objects/{sha256}"), CopySource=source)

    def _put_if_absent(self, manifest: ClipManifest) -> bool:
        data = wire.to_bytes(manifest)
        try:
            self._s3.put_object(
                **self._at(f"clips/{manifest.clip_id}/{MANIFEST}"), Body=data, IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return False
            raise
        return True

    def _forget(self, name: str) -> None:
        for place in ("checked", "parts"):
            self._s3.delete_object(**self._at(f"{place}/{name}"))

    def _abort(self, key: str, upload_id: str) -> None:
        self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def _size(self, name: str) -> int | None:
        try:
            return int(self._s3.head_object(**self._at(name))["ContentLength"])
        except ClientError as error:
            if _code(error) in ABSENT:
                return None
            raise

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}"
        )
        return (found for page in pages for found in page.get("Contents", []))

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}"
        )
        return (found for page in pages for found in page.get("Uploads", []))

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in our words that the store failed: the car keeps its clip and tries again."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise StoreDownError(
                f"s3://{self._bucket}/{self._prefix}: {type(error).__name__}: {error}"
            ) from error


def _is(part: dict[str, Any] | None, length: int, sha256: str) -> bool:
    """Return whether a listed part is this one; not every store lists checksums."""
    if part is None or part["Size"] != length:
        return False
    return bool(part.get("ChecksumSHA256", checksum_of(sha256)) == checksum_of(sha256))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
