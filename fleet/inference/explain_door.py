"""The door of a site of explanations: the chat protocol over HTTP, word by word, for any client.

It honours the house's own contract where a request brings one along (extra field "roadloop"):
deadline, freshness, tenant, policy, receipt.
"""

import asyncio
import contextlib
import json
import ssl
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from fleet.inference.call import check_times
from fleet.inference.explain_chat import (
    DONE,
    MAX_BODY_BYTES,
    ChatCall,
    Words,
    error_body,
    event,
    models_body,
    read_call,
    usage_of,
)
from fleet.inference.explain_engine import NEVER, Engine, Said
from fleet.inference.policy import ALLOWED, Policy, Site
from fleet.inference.receipts import Receipts
from fleet.inference.refusals import (
    ForgedRequestError,
    ModelFailedError,
    OversizedRequestError,
    PolicyRefusedError,
    SlowRequestError,
    UnknownModelError,
    UnknownPathError,
    status_of,
    words_of,
)
from fleet.inference.stats import Stats
from fleet.inference.tenants import Caller, Tenants
from vehicle.clock import Clock
from vehicle.contracts.inference import InferenceReply
from vehicle.contracts.wire import RefusedError

BODY_S: Final = 10.0
GONE: Final = "gone"
_JSON: Final = [(b"content-type", b"application/json")]
_EVENTS: Final = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class ChatDoor:
    """The app: /v1/models, /v1/chat/completions, /metrics.

    Args:
        policy: None: none but the certificate's.
        receipts: None: none are kept.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        site: Site,
        tenants: Tenants,
        clock: Clock,
        policy: Policy | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self._engine, self._site, self._tenants, self._clock = engine, site, tenants, clock
        self._policy, self._receipts, self.stats = policy, receipts, Stats()
        self._opened_s = clock.utc_ns() // 1_000_000_000
        self._numbers = iter(range(1, 1 << 62))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a refusal before the first word has a status, one after it ends the
        stream with an `error` in place of [DONE]."""
        caller: Caller | None = None
        answer = _Answer(send)
        try:
            caller = self._tenants.caller(_certificate(scope))
            self._tenants.take(caller)
            await self._route(caller, scope, receive, answer)
        except _GoneError:
            self.stats.gone += 1
        except Exception as error:
            refusal = error if isinstance(error, RefusedError) else ModelFailedError(repr(error))
            self.stats.refuse(type(refusal).__name__, caller.tenant if caller else "")
            with contextlib.suppress(OSError):
                await answer.refuse(refusal)

    async def _route(
        self, caller: Caller, scope: Scope, receive: Receive, answer: "_Answer"
    ) -> None:
        match scope["method"], scope["path"].rstrip("/"):
            case "POST", "/v1/chat/completions":
                with self._tenants.reading(caller):
                    body = await _body(receive)
                call = read_call(body)
                work = asyncio.ensure_future(self._answer(caller, call, answer))
                watch = asyncio.ensure_future(_hung_up(receive))
                try:
                    await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
                    if not work.done():
                        raise _GoneError
                    work.result()
                finally:
                    watch.cancel()
                    work.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await work
            case "GET", "/v1/models":
                tag = self._engine.model.tag
                await answer.whole(json.dumps(models_body(tag, self._opened_s)).encode())
            case "GET", path if path == f"/v1/models/{self._engine.model.tag}":
                [model] = models_body(self._engine.model.tag, self._opened_s)["data"]
                await answer.whole(json.dumps(model).encode())
            case "GET", "/metrics":
                reader = caller.tenant if caller.known else ""
                text = self.stats.text(self._engine.waiting, reader)
                await answer.whole(text.encode(), [(b"content-type", b"text/plain; version=0.0.4")])
            case method, path:
                raise UnknownPathError(f"{method} {path[:100]!r} leads nowhere")

    async def _answer(self, caller: Caller, call: ChatCall, answer: "_Answer") -> None:
        began_ns = self._clock.mono_ns()
        tenant, deadline_ns = self._check(caller, call)
        policy = await self._ask_policy(caller, call)
        model = self._engine.model
        number = next(self._numbers)
        words = Words(
            id=f"chatcmpl-{call.request.request_id if call.request else number}",
            model=model.tag,
            created_s=self._clock.utc_ns() // 1_000_000_000,
        )
        heard, finish, first_ns, count = "", "stop", 0, 0
        try:
            said = self._engine.explain(
                call.record, tenant=tenant, deadline_ns=deadline_ns, most=call.most
            )
            async with contextlib.aclosing(said):
                async for word in said:
                    count += 1
                    finish = word.finish or finish
                    if word.text and not heard:
                        first_ns = self._clock.mono_ns() - began_ns
                    heard += word.text
                    if call.stream:
                        await self._stream(answer, words, word)
        except (Exception, asyncio.CancelledError) as error:
            await self._write(caller, call, policy, _decision(error))
            raise
        timings_us = {
            "first_word": first_ns // 1_000,
            "all": (self._clock.mono_ns() - began_ns) // 1_000,
        }
        receipt = await self._write(caller, call, policy, ALLOWED, len(heard))
        self.stats.answer(model.tag, caller.tenant, timings_us, call.size_bytes + len(heard))
        reply = self._reply(call, timings_us, receipt)
        usage = usage_of(len(call.record.actors) + 3, count)
        if not call.stream:
            await answer.whole(words.whole(heard, finish, usage, reply))
            return
        if call.usage or reply is not None:
            await answer.piece(words.last(usage, reply))
        await answer.piece(DONE, last=True)

    async def _stream(self, answer: "_Answer", words: Words, word: Said) -> None:
        if word.text or word.finish:
            first = not answer.began
            await answer.piece(words.chunk(word.text, first=first))
        if word.finish:
            await answer.piece(words.chunk("", word.finish))

    def _check(self, caller: Caller, call: ChatCall) -> tuple[str, float]:
        """Return the tenant and the monotonic deadline of a request."""
        model = self._engine.model
        if call.model not in (model.tag, model.manifest.name):
            raise UnknownModelError(f"no model {call.model[:64]!r} here; there is {model.tag}")
        request = call.request
        if request is None:
            return caller.tenant, NEVER
        named = (request.tenant, request.car_id)
        if caller.known and named != (caller.tenant, caller.car_id):
            raise ForgedRequestError(
                f"the request says it is of car {request.car_id!r} of {request.tenant!r}, its "
                f"certificate is of {caller.car_id!r} of {caller.tenant!r}"
            )
        check_times(request, self._clock.utc_ns())
        self._tenants.remember(caller, request.request_id, request.deadline_utc_ns)
        left_ns = request.deadline_utc_ns - self._clock.utc_ns()
        return request.tenant, self._clock.mono_ns() + left_ns

    async def _ask_policy(self, caller: Caller, call: ChatCall) -> str:
        if self._policy is None:
            return ""
        decision = self._policy.decide(call.request, self._site, caller.tenant)
        if not decision.allowed:
            await self._write(caller, call, decision.digest, decision.name)
            raise PolicyRefusedError(f"{decision.name}: {'; '.join(decision.reasons)}")
        return decision.digest

    async def _write(
        self, caller: Caller, call: ChatCall, policy: str, decision: str, said_bytes: int = 0
    ) -> str:
        if self._receipts is None:
            return ""
        return await asyncio.shield(
            self._receipts.appended(
                call.request,
                tenant=caller.tenant,
                policy=policy,
                decision=decision,
                size_bytes=call.size_bytes + said_bytes,
            )
        )

    def _reply(
        self, call: ChatCall, timings_us: dict[str, int], receipt: str
    ) -> InferenceReply | None:
        request, model = call.request, self._engine.model
        if request is None:
            return None
        fresh_until_ns = request.input_utc_ns + int(request.freshness_s * 1e9)
        return InferenceReply(
            request_id=request.request_id,
            context=self._site.context,
            site=self._site.name,
            model_set=model.tag,
            model_digest=model.digest,
            finished_utc_ns=self._clock.utc_ns(),
            valid_until_utc_ns=max(request.deadline_utc_ns, fresh_until_ns),
            timings_us=timings_us,
            receipt=receipt,
        )


class _GoneError(Exception):
    """Whoever asked has hung up."""


class _Answer:
    """What goes back on one request: whole, or in pieces."""

    def __init__(self, send: Send) -> None:
        self._send, self.began = send, False

    async def whole(self, body: bytes, headers: Any = _JSON, status: int = 200) -> None:
        """Send all of it."""
        self.began = True
        size = (b"content-length", b"%d" % len(body))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, size]}
        )
        await self._send({"type": "http.response.body", "body": body})

    async def piece(self, data: bytes, *, last: bool = False) -> None:
        """Send an event of a stream."""
        if not self.began:
            self.began = True
            start = {"type": "http.response.start", "status": 200, "headers": list(_EVENTS)}
            await self._send(start)
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def refuse(self, error: RefusedError) -> None:
        """Say no: with a status while nothing was sent, else as the stream's last event."""
        _, status = status_of(error)
        body = error_body(words_of(error), status)
        if self.began:
            await self.piece(event(body), last=True)
        else:
            headers = [*_JSON, (b"connection", b"close")]
            await self.whole(json.dumps(body).encode(), headers, status)


async def _body(receive: Receive) -> bytes:
    """Return the whole body of a request, unless it is too large or too slow."""
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                found += message.get("body", b"")
                if len(found) > MAX_BODY_BYTES:
                    raise OversizedRequestError(f"over {MAX_BODY_BYTES} bytes; none was looked at")
                if not message.get("more_body", False):
                    return bytes(found)
    except TimeoutError:
        raise SlowRequestError(f"it did not come whole in {BODY_S:.0f} s") from None


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _certificate(scope: Scope) -> bytes | None:
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    return ssl.PEM_cert_to_DER_cert(str(chain[0])) if chain else None


def _decision(error: BaseException) -> str:
    """Return the name under which a receipt says that there was no answer."""
    if isinstance(error, asyncio.CancelledError):
        return GONE
    return type(error if isinstance(error, RefusedError) else ModelFailedError()).__name__
