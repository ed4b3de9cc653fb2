"""The words between a car and its home: what is asked at the door, and what the door answers.

HTTPS, both sides with certificates; everything of a car stands under `address(car_id)`:

    GET  inbox                        -> Inbox
    PUT  summaries/CLIP_ID            ClipSummary -> SummaryAnswer
    POST uploads/SHA256               UploadAsk -> Upload: what home has, where the rest goes
    PUT  <Part.url>                   the part's bytes, PART_DIGEST_HEADER: part_checksum(bytes)
    POST uploads/SHA256/complete      UploadParts -> 200
    HEAD clips/CLIP_ID                200 when it has landed, else 404
    PUT  clips/CLIP_ID                ClipManifest -> 201, 200 when it had landed before

A part's address is relative to the gateway, or absolute: then it is an S3-compatible store's, which
is spoken to without the car's certificate. It is good for these bytes alone, and not for long.
401 and 403 at the gateway: not this car's. 403 from a part's address: it is too old, ask again.
400 there: other bytes came than were named. 409: ask again with `part_bytes` of the Inbox or of
the answer. 422: home will not take it, the reasons say why. 408, 429, 5xx: later.
Every refusal of the gateway is `{"error": NAME, "reasons": [...]}`.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from vehicle.contracts.wire import require

IDENTITY: Final = "identity"
"""Folder in a car's own: who it is, and whom it believes."""

CAR_KEY: Final = "car.key"
"""PEM, PKCS 8, mode 0600. It need never leave the car: home signs a request (CSR) as well."""

CAR_CERTIFICATE: Final = "car.crt"
"""PEM; its common name is the car's name."""

HOME_CERTIFICATE: Final = "home.crt"
"""PEM; the authority that signed the gateway's certificate, and the only one believed."""

CAMPAIGN_KEYS: Final = "campaign.pub"
"""PEM, one or several public keys; any of them may have signed a campaign."""

CAMPAIGN_PAYLOAD_TYPE: Final = "application/vnd.roadloop.campaign+json"
"""Type of a signed campaign's DSSE envelope; the payload is the campaign's canonical bytes."""

PART_DIGEST_HEADER: Final = "x-amz-checksum-sha256"
PART_BYTES: Final = 1 << 20
"""Size of a part where home has said no other, bytes. S3 takes none below 5 MiB but the last."""

MAX_PARTS: Final = 10_000
"""Most parts of one content, as on S3."""

MAX_SUMMARY_BYTES: Final = 128 << 10

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """What home has for a car.

    Args:
        campaigns: signed (DSSE envelopes as JSON); one that is not here any more is withdrawn.
        wanted: clips that home has the summary of and asks the whole of.
        part_bytes: size of the parts that home takes a content in.
    """

    SCHEMA: ClassVar[str] = "inbox/1"
    campaigns: tuple[dict[str, Any], ...] = ()
    wanted: tuple[str, ...] = ()
    part_bytes: int = PART_BYTES

    def __post_init__(self) -> None:
        require(self.part_bytes >= 1, f"part_bytes is {self.part_bytes}, expected 1 or more")
        for clip_id in self.wanted:
            _require_sha256("wanted clip", clip_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryAnswer:
    """Whether home wants the whole clip now."""

    SCHEMA: ClassVar[str] = "summaryanswer/1"
    want: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAsk:
    """A car's wish to send a content.

    Args:
        size_bytes: of the whole.
        part_bytes: size of every part but the last.
        parts: sha256 of each part in order; their addresses are good for these bytes alone.
    """

    SCHEMA: ClassVar[str] = "uploadask/1"
    size_bytes: int
    part_bytes: int
    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.size_bytes >= 0, f"size_bytes is {self.size_bytes}, expected 0 or more")
        require(self.part_bytes >= 1, f"part_bytes is {self.part_bytes}, expected 1 or more")
        wanted = part_count(self.size_bytes, self.part_bytes)
        require(wanted <= MAX_PARTS, f"{wanted} parts, expected at most {MAX_PARTS}")
        require(len(self.parts) == wanted, f"{len(self.parts)} digests for {wanted} parts")
        for sha256 in self.parts:
            _require_sha256("part", sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a content.

    Args:
        number: from 1.
        have: home has these bytes; `url` is "" then.
        url: where they are to be put.
    """

    number: int
    offset: int
    size_bytes: int
    have: bool
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """How far a content has come.

    Args:
        complete: all of it is here and checked; nothing else is to be sent.
        part_bytes: size of the parts that home takes; with other ones than were asked for, `parts`
            is empty: ask again with these.
        parts: all of them in order, unless complete.
    """

    SCHEMA: ClassVar[str] = "upload/1"
    complete: bool
    part_bytes: int
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDigest:
    """What one part is, by content."""

    number: int
    sha256: str

    def __post_init__(self) -> None:
        require(1 <= self.number <= MAX_PARTS, f"part number is {self.number}")
        _require_sha256(f"part {self.number}", self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadParts:
    """All parts of a content, in order: home puts them together and checks the whole."""

    SCHEMA: ClassVar[str] = "uploadparts/1"
    parts: tuple[PartDigest, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        numbers = [part.number for part in self.parts]
        expected = list(range(1, len(numbers) + 1))
        require(bool(numbers) and numbers == expected, "parts are not numbered 1, 2, 3, ...")


def address(car_id: str) -> str:
    """Return where everything of a car stands at the gateway."""
    return f"/v1/cars/{car_id}"


def part_count(size_bytes: int, part_bytes: int) -> int:
    """Return how many parts a content has; an empty one has one, which is empty."""
    return max(1, -(-size_bytes // part_bytes))


def cut(size_bytes: int, part_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield number (from 1), offset and size of every part of a content, bytes."""
    for index in range(part_count(size_bytes, part_bytes)):
        offset = index * part_bytes
        yield index + 1, offset, min(part_bytes, size_bytes - offset)


def part_checksum(data: bytes) -> str:
    """Return the value of PART_DIGEST_HEADER: base64 of the sha256, as on S3."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def checksum_of(sha256: str) -> str:
    """Return the value of PART_DIGEST_HEADER for a sha256 in hex."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _require_sha256(what: str, text: str) -> None:
    found = text if len(text) <= 80 else f"{text[:80]}..."
    require(_SHA256.fullmatch(text) is not None, f"{what}: {found!r} is not a sha256")
