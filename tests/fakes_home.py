"""A home without a network: the other side of the uplink's protocol in memory, with faults."""

import base64
import hashlib
import json
import re
import ssl
from collections import Counter
from pathlib import Path

import httpx

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, ClipSummary
from vehicle.contracts.uplink import (
    PART_DIGEST_HEADER,
    Inbox,
    Part,
    SummaryAnswer,
    Upload,
    UploadAsk,
    UploadParts,
    cut,
)
from vehicle.identity import Identity

URL = "https://home"
PART = 1000


def identity(folder: Path, car_id: str = "car-1") -> Identity:
    """Return an identity for links that show none."""
    return Identity(folder=folder, car_id=car_id, context=ssl.create_default_context())


class FakeHome(httpx.BaseTransport):
    """Takes contents in parts, like the gateway.

    Args:
        store: where parts go: relative to the gateway, or a store elsewhere.
    """

    def __init__(self, store: str = "/parts") -> None:
        self.store = store
        self.inbox = Inbox(part_bytes=PART)
        self.wants_now: set[str] = set()
        self.parts: dict[str, dict[int, bytes]] = {}
        self.whole: dict[str, bytes] = {}
        self.summaries: dict[str, ClipSummary] = {}
        self.landed: dict[str, ClipManifest] = {}
        self.asked: list[tuple[str, str]] = []
        self.hosts: Counter[str] = Counter()
        self.grants = 0
        self.good_for = 10_000
        """How many parts an address is good for before it is too old."""
        self.answers: dict[tuple[str, str], list[int]] = {}
        """What requests (method, pattern of the path) are answered with before they are heard."""
        self._asks: dict[str, UploadAsk] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        self.hosts[request.url.host] += 1
        self.asked.append((method, path))
        for (verb, pattern), statuses in self.answers.items():
            if verb == method and re.search(pattern, path) and statuses:
                status = statuses.pop(0)
                if status == 0:
                    raise httpx.ReadError("the link broke", request=request)
                if status != 200:
                    return refusal(status)
        what, _, rest = path.removeprefix("/v1/cars/car-1").strip("/").partition("/")
        return getattr(self, f"_{what}")(method, rest, request)

    def _inbox(self, method: str, rest: str, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=wire.to_bytes(self.inbox))

    def _summaries(self, method: str, clip_id: str, request: httpx.Request) -> httpx.Response:
        self.summaries[clip_id] = wire.from_bytes(ClipSummary, request.content)
        answer = SummaryAnswer(want=clip_id in self.wants_now)
        return httpx.Response(200, content=wire.to_bytes(answer))

    def _uploads(self, method: str, rest: str, request: httpx.Request) -> httpx.Response:
        sha256, _, complete = rest.partition("/")
        if complete:
            return self._complete(sha256, request.content)
        ask = wire.from_bytes(UploadAsk, request.content)
        if sha256 in self.whole:
            upload = Upload(complete=True, part_bytes=self.inbox.part_bytes)
        elif ask.part_bytes != self.inbox.part_bytes:
            upload = Upload(complete=False, part_bytes=self.inbox.part_bytes)
        else:
            self._asks[sha256] = ask
            self.grants, self._used = self.grants + 1, 0
            here = self.parts.setdefault(sha256, {})
            parts = tuple(
                Part(
                    number=number,
                    offset=offset,
                    size_bytes=size,
                    have=number in here,
                    url="" if number in here else f"{self.store}/{sha256}/{number}",
                )
                for number, offset, size in cut(ask.size_bytes, ask.part_bytes)
            )
            upload = Upload(complete=False, part_bytes=ask.part_bytes, parts=parts)
        return httpx.Response(200, content=wire.to_bytes(upload))

    def _parts(self, method: str, rest: str, request: httpx.Request) -> httpx.Response:
        sha256, number = request.url.path.rsplit("/", 2)[1:]
        digest = hashlib.sha256(request.content)
        named = base64.b64encode(digest.digest()).decode() == request.headers[PART_DIGEST_HEADER]
        if not named or digest.hexdigest() != self._asks[sha256].parts[int(number) - 1]:
            return refusal(400)
        self._used += 1
        if self._used > self.good_for:
            return refusal(403)
        self.parts[sha256][int(number)] = request.content
        return httpx.Response(200)

    def _complete(self, sha256: str, body: bytes) -> httpx.Response:
        named = wire.from_bytes(UploadParts, body).parts
        here = self.parts.get(sha256, {})
        if {part.number for part in named} - set(here):
            return refusal(409)
        data = b"".join(here[part.number] for part in named)
        del self.parts[sha256]
        if hashlib.sha256(data).hexdigest() != sha256:
            return refusal(422)
        self.whole[sha256] = data
        return httpx.Response(200)

    def _clips(self, method: str, clip_id: str, request: httpx.Request) -> httpx.Response:
        if method == "HEAD":
            return httpx.Response(200 if clip_id in self.landed else 404)
        manifest = wire.from_bytes(ClipManifest, request.content)
        if any(entry.sha256 not in self.whole for entry in manifest.files):
            return refusal(422)
        self.landed[clip_id] = manifest
        return httpx.Response(201)


def refusal(status: int) -> httpx.Response:
    body = {"error": "FakeError", "reasons": [f"fake {status}"]}
    return httpx.Response(status, content=json.dumps(body).encode())
