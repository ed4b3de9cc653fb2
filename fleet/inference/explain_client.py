"""Asks a site why the car decided so, and hears the answer word by word.

Any client of OpenAI's chat protocol can do the same; this one needs none.
"""

import json
import ssl
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import httpx

from fleet.inference.client import ClientTls, SiteRefusedError, UnreachableSiteError
from vehicle.contracts import wire
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest

DEFAULT_MODEL: Final = "explainer"
TIMEOUT_S: Final = 10.0


class ExplainClient:
    """One connection to a site of explanations; an async context manager.

    Args:
        url: http(s)://HOST:PORT of it.
        model: asked for by name.
        tls: what to show and whom to believe; None without certificates.
    """

    def __init__(
        self, url: str, *, model: str = DEFAULT_MODEL, tls: ClientTls | None = None
    ) -> None:
        verify = True if tls is None else context_of(tls)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.AsyncClient(
            base_url=url, verify=verify, timeout=TIMEOUT_S, limits=limits, trust_env=False
        )
        self._model = model
        self.reply: InferenceReply | None = None
        """What the site said of its last answer, where a request went along."""

    async def __aenter__(self) -> "ExplainClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def models(self) -> list[str]:
        """Return the names of the models there are.

        Raises:
            UnreachableSiteError: nobody is there.
        """
        try:
            answer = await self._http.get("/v1/models")
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        _check(answer.status_code, answer.content)
        return [model["id"] for model in answer.json()["data"]]

    async def explain(
        self, record: DecisionRecord, request: InferenceRequest | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield an answer piece by piece, as it comes.

        Raises:
            SiteRefusedError: the site says no, before the first word or after it.
            UnreachableSiteError: nobody is there, or the answer broke off.
        """
        self.reply, ended = None, False
        body: dict[str, Any] = {
            "model": self._model,
            "stream": True,
            "messages": [{"role": "user", "content": wire.to_bytes(record).decode()}],
        }
        if request is not None:
            body[PARAMETER] = wire.to_plain(request)
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    _check(answer.status_code, await answer.aread())
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    if line == "data: [DONE]":
                        ended = True
                        continue
                    plain = json.loads(line[6:])
                    if "error" in plain:
                        _check(500, line[6:].encode())
                    if PARAMETER in plain:
                        self.reply = wire.from_plain(InferenceReply, plain[PARAMETER], strict=False)
                    for choice in plain["choices"]:
                        if choice["delta"].get("content"):
                            yield choice["delta"]["content"]
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        if not ended:
            raise UnreachableSiteError("UNAVAILABLE", "", "the answer broke off")


def _check(status: int, body: bytes) -> None:
    """Raise what the site said instead of an answer."""
    if status == 200:
        return
    try:
        error = json.loads(body)["error"]
        name, words = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        name, words = "", f"HTTP {status}"
    raise SiteRefusedError(str(status), name, words.removeprefix(f"{name}: "))


def _unreachable(error: Exception) -> UnreachableSiteError:
    return UnreachableSiteError("UNAVAILABLE", "", f"{type(error).__name__}: {error}")


def context_of(tls: ClientTls) -> ssl.SSLContext:
    """Return what shows a car's certificate over HTTPS."""
    context = ssl.create_default_context(cadata=tls.authority.decode())
    with tempfile.TemporaryDirectory() as folder:  # ssl reads keys from files only
        path = Path(folder) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(tls.certificate + b"\n" + tls.key)
        context.load_cert_chain(path)
    return context
