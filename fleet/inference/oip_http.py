"""The Open Inference Protocol v2 over HTTP, with its binary tensors: an ASGI app over the desk.

Source: KServe, Open Inference Protocol V2, "HTTP/REST"; Triton Inference Server, "Binary Tensor
Data Extension" and "Model Configuration Extension".
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import Message, Receive, Scope, Send

from fleet.inference.call import Answer, Call, Tensor
from fleet.inference.desk import Desk
from fleet.inference.oip_grpc import SHARED_MEMORY, config, metadata
from fleet.inference.oip_tensors import datatype_of, to_raw
from fleet.inference.refusals import (
    MalformedRequestError,
    OversizedRequestError,
    SlowRequestError,
    UnknownCallerError,
    UnknownPathError,
    UnsupportedError,
)
from fleet.inference.server_words import BODY_S, EXTENSIONS, NAME, version
from fleet.inference.tenants import Caller
from vehicle.contracts import wire
from vehicle.contracts.inference import MAX_TENSOR_BYTES, PARAMETER

JSON_SIZE: Final = b"inference-header-content-length"
"""Header: how many bytes of JSON stand before the binary tensors."""

MAX_JSON_BYTES: Final = 1 << 20
"""Most JSON in a request: who has more to send sends it binary, which holds up nobody else."""


class HttpDoor:
    """The app; one method per kind of address."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        caller = None
        try:
            caller = self._desk.greet(_certificate(scope))
            body, headers = await self._answer(caller, scope, receive)
            await _send(send, 200, body, headers)
        except _Gone:
            self._desk.stats.gone += 1
        except Exception as error:
            _, status, words = self._desk.refusal(error, caller)
            headers = [(b"content-type", b"application/json")]
            if isinstance(error, _ENDING):
                headers.append((b"connection", b"close"))
            await _send(send, status, json.dumps({"error": words}).encode(), headers)

    async def _answer(
        self, caller: Caller, scope: Scope, receive: Receive
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        path = [unquote(part) for part in scope["path"].strip("/").split("/")]
        headers = dict(scope["headers"])
        match scope["method"], path:
            case "POST", ["v2", "models", model, "infer"]:
                return await self._infer(caller, model, "", headers, receive)
            case "POST", ["v2", "models", model, "versions", version_, "infer"]:
                return await self._infer(caller, model, version_, headers, receive)
            case "GET", ["metrics"]:
                reader = caller.tenant if caller.known else ""
                text = self._desk.stats.text(self._desk.turns.waiting, reader)
                return text.encode(), [(b"content-type", b"text/plain; version=0.0.4")]
            case "GET", _:
                told = json.dumps(self._about(path)).encode()
                return told, [(b"content-type", b"application/json")]
        raise UnknownPathError(f"{scope['method']} {scope['path'][:100]!r} leads nowhere")

    def _about(self, path: list[str]) -> Any:
        desk = self._desk
        match path:
            case ["v2"]:
                return {"name": NAME, "version": version(), "extensions": EXTENSIONS}
            case ["v2", "health", "live"]:
                return {"live": True}
            case ["v2", "health", "ready"]:
                return {"ready": desk.check_ready()}
            case ["v2", "models", name, *rest]:
                at = ""
                if rest[:1] == ["versions"] and len(rest) > 1:
                    at, rest = rest[1], rest[2:]
                model = desk.model(name, at)
                if rest == []:
                    return metadata(model)
                if rest == ["ready"]:
                    return {"ready": desk.check_ready()}
                if rest == ["config"]:
                    return config(model)
        raise UnknownPathError(f"GET {'/'.join(path)[:100]!r} leads nowhere")

    async def _infer(
        self,
        caller: Caller,
        model: str,
        version_: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        with self._desk.reading(caller):
            body = await _body(headers, receive)
        call, binary = read_call(model, version_, headers, body)
        work = asyncio.ensure_future(self._desk.answer(caller, call))
        watch = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _Gone
            return write_answer(call, work.result(), binary)
        finally:
            watch.cancel()
            work.cancel()


class _Gone(Exception):
    """Whoever asked has hung up."""


_ENDING: Final = (OversizedRequestError, SlowRequestError, UnknownCallerError)
"""After these the rest is not worth reading. Who asks too often may stay: a handshake costs more
than a refusal."""


def read_call(
    model: str, version_: str, headers: Mapping[bytes, bytes], body: memoryview
) -> tuple[Call, "Binary"]:
    """Return the call in a body, and which outputs are wanted in binary.

    Raises:
        MalformedRequestError: it is none.
        OversizedRequestError: too much JSON.
        UnsupportedError: compressed, or in shared memory.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedError("the body is compressed; send it as it is")
    size = _whole(headers.get(JSON_SIZE, b"%d" % len(body)), JSON_SIZE.decode())
    if size > len(body):
        raise MalformedRequestError(f"{size} bytes of JSON announced, {len(body)} came")
    if size > MAX_JSON_BYTES:
        raise OversizedRequestError(
            f"{size} bytes of JSON, {MAX_JSON_BYTES} at most: send tensors in binary"
        )
    plain = _json(bytes(body[:size]))
    tensors, at = [], size
    for entry in _entries(plain, "inputs"):
        tensor, at = _tensor(entry, body, at)
        tensors.append(tensor)
    if at != len(body):
        raise MalformedRequestError(f"{len(body) - at} bytes of the body belong to no input")
    parameters, outputs = _table(plain, "parameters"), _entries(plain, "outputs")
    parameter = parameters.get(PARAMETER)
    if not isinstance(parameter, str | None):
        raise MalformedRequestError(f"parameter {PARAMETER!r} is no text")
    call = Call(
        model=model,
        version=version_,
        id=_text(plain.get("id", "")),
        parameter=parameter,
        tensors=tensors,
        outputs=[_text(o.get("name")) for o in outputs],
        size_bytes=len(body),
    )
    each = {_text(o.get("name")): _table(o, "parameters").get("binary_data") for o in outputs}
    return call, Binary(bool(parameters.get("binary_data_output", False)), each)


class Binary:
    """Which outputs go back in binary."""

    def __init__(self, usual: bool, each: Mapping[str, Any]) -> None:
        self._usual, self._each = usual, each

    def __call__(self, name: str) -> bool:
        """Say whether an output does."""
        wanted = self._each.get(name)
        return self._usual if wanted is None else bool(wanted)


def write_answer(
    call: Call, answer: Answer, binary: Binary
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the body of an answer, and its headers."""
    outputs, raws = [], []
    for name, array in answer.outputs.items():
        entry: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if binary(name):
            raws.append(to_raw(array))
            entry["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            flat = array.ravel().tolist()
            entry["data"] = [v.decode(errors="replace") for v in flat] if _texts(array) else flat
        outputs.append(entry)
    head: dict[str, Any] = {
        "model_name": answer.model.name,
        "model_version": answer.model.version,
        "outputs": outputs,
    }
    if call.id:
        head["id"] = call.id
    if answer.reply is not None:
        head["parameters"] = {PARAMETER: wire.to_bytes(answer.reply).decode()}
    text = json.dumps(head).encode()
    if not raws:
        return text, [(b"content-type", b"application/json")]
    headers = [
        (b"content-type", b"application/octet-stream"),
        (JSON_SIZE, b"%d" % len(text)),
    ]
    return b"".join([text, *raws]), headers


def _texts(array: Any) -> bool:
    return bool(array.dtype == object)


async def _body(headers: Mapping[bytes, bytes], receive: Receive) -> memoryview:
    """Return the body, never more of it than is taken.

    Raises:
        OversizedRequestError, SlowRequestError: as named; the rest is not read.
    """
    announced = _whole(headers.get(b"content-length", b"0"), "content-length")
    _check_size(announced)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            more = True
            while more:
                message: Message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                body += message.get("body", b"")
                _check_size(len(body))
                more = message.get("more_body", False)
    except TimeoutError:
        raise SlowRequestError(f"the body had not come whole after {BODY_S:g} s") from None
    return memoryview(body).toreadonly()


def _check_size(size: int) -> None:
    if size > MAX_TENSOR_BYTES:
        raise OversizedRequestError(f"{size} bytes or more, a site takes {MAX_TENSOR_BYTES}")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    sized = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})


def _tensor(entry: Mapping[str, Any], body: memoryview, at: int) -> tuple[Tensor, int]:
    """Return one input, and where the next one's bytes begin."""
    parameters = _table(entry, "parameters")
    if SHARED_MEMORY in parameters:
        raise UnsupportedError("tensors in shared memory: this site shares none")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise MalformedRequestError(f"shape of input {_text(entry.get('name'))[:64]!r} is none")
    size = parameters.get("binary_data_size")
    raw, end = None, at
    if size is not None:
        if type(size) is not int or size < 0 or at + size > len(body):
            raise MalformedRequestError(f"binary_data_size {size!r:.20}, {len(body) - at} are left")
        end = at + size
        raw = body[at:end]
    elif "data" not in entry:
        raise MalformedRequestError(f"input {_text(entry.get('name'))[:64]!r} has no data")
    tensor = Tensor(
        name=_text(entry.get("name")),
        datatype=_text(entry.get("datatype")),
        shape=tuple(shape),
        raw=raw,
        values=entry.get("data"),
    )
    return tensor, end


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the head of the body is not JSON: {error}") from error
    if not isinstance(plain, dict):
        raise MalformedRequestError(f"the head is a {type(plain).__name__}, expected an object")
    return plain


def _entries(plain: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = plain.get(name, [])
    if not isinstance(found, list) or not all(isinstance(e, dict) for e in found):
        raise MalformedRequestError(f"{name!r} is no list of objects")
    return found


def _table(plain: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = plain.get(name, {})
    if not isinstance(found, dict):
        raise MalformedRequestError(f"{name!r} is no object")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedRequestError(f"found {value!r:.40}, expected text")
    return value


def _whole(value: bytes, header: str) -> int:
    if not value.isdigit() or len(value) > 18:
        raise MalformedRequestError(f"{header} is {value[:32]!r}, expected a number")
    return int(value)


def _certificate(scope: Scope) -> bytes | None:
    """Return the certificate (DER) of the other side, None where none was asked for."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None
