"""The Open Inference Protocol v2 over gRPC: messages in, the desk's answer or refusal out."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from fleet.inference.call import Answer, Call, Tensor
from fleet.inference.desk import Desk
from fleet.inference.oip_messages import (
    CLASSES,
    CONTENTS,
    DATA_TYPES,
    SERVICE,
    InferRequest,
    InferResponse,
)
from fleet.inference.oip_model import Model
from fleet.inference.oip_tensors import DATATYPES, datatype_of, to_raw
from fleet.inference.refusals import (
    MalformedRequestError,
    SlowRequestError,
    UnknownModelError,
    UnsupportedError,
)
from fleet.inference.server_words import BODY_S, EXTENSIONS, NAME, PLATFORM, version
from fleet.inference.tenants import Caller
from vehicle.contracts import wire
from vehicle.contracts.inference import PARAMETER

SHARED_MEMORY: Final = "shared_memory_region"


class Servicer:
    """The methods of the service; each speaks in bytes, and parses them itself."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a grpc.aio server is given."""
        asked: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._desk.ready},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: {
                "name": NAME,
                "version": version(),
                "extensions": EXTENSIONS,
            },
            "ModelMetadata": lambda m: metadata(self._desk.model(m.name, m.version)),
            "ModelConfig": lambda m: {"config": config(self._desk.model(m.name, m.version))},
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(self._about(name, tell))
            for name, tell in asked.items()
        }
        # To whom one message is sent as a stream, it says who calls before it is read.
        methods["ModelInfer"] = grpc.stream_unary_rpc_method_handler(self._infer)
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _model_ready(self, asked: Any) -> dict[str, bool]:
        try:
            self._desk.model(asked.name, asked.version)
        except UnknownModelError:
            return {"ready": False}
        return {"ready": self._desk.ready}

    def _about(
        self, name: str, tell: Callable[[Any], Any]
    ) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
        request, response = CLASSES[f"{name}Request"], CLASSES[f"{name}Response"]

        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            caller = None
            try:
                caller = self._desk.greet(_certificate(context))
                told = tell(_parse(request, data))
                return bytes(response(**told).SerializeToString())
            except Exception as error:
                return await self._refuse(context, error, caller)

        return answer

    async def _infer(
        self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> bytes:
        caller = None
        try:
            caller = self._desk.greet(_certificate(context))
            with self._desk.reading(caller):
                data = await _only(messages)
            call = read_call(data)
            return write_answer(call, await self._desk.answer(caller, call))
        except asyncio.CancelledError:
            self._desk.stats.gone += 1
            raise
        except Exception as error:
            return await self._refuse(context, error, caller)

    async def _refuse(
        self, context: grpc.aio.ServicerContext, error: Exception, caller: Caller | None
    ) -> bytes:
        status, _, words = self._desk.refusal(error, caller)
        await context.abort(grpc.StatusCode[status], words)
        return b""  # abort has raised


def read_call(data: bytes) -> Call:
    """Return the call in a ModelInferRequest.

    Raises:
        MalformedRequestError: it is none.
        UnsupportedError: its tensors lie in shared memory.
    """
    message = _parse(InferRequest, data)
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise MalformedRequestError(
            f"{len(raw)} raw contents for {len(message.inputs)} inputs: all are raw, or none"
        )
    tensors = []
    for i, tensor in enumerate(message.inputs):
        if SHARED_MEMORY in tensor.parameters:
            raise UnsupportedError("tensors in shared memory: this site shares none")
        values = None if raw else getattr(tensor.contents, CONTENTS.get(tensor.datatype, ""), None)
        if values is None and not raw:
            raise MalformedRequestError(
                f"input {tensor.name[:64]!r} of type {tensor.datatype[:16]!r} has no typed "
                "contents; send it raw"
            )
        tensors.append(
            Tensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tuple(tensor.shape),
                raw=raw[i] if raw else None,
                values=None if raw else list(values or ()),
            )
        )
    found = message.parameters
    return Call(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameter=found[PARAMETER].string_param if PARAMETER in found else None,
        tensors=tensors,
        outputs=[o.name for o in message.outputs],
        size_bytes=len(data),
    )


def write_answer(call: Call, answer: Answer) -> bytes:
    """Return the ModelInferResponse of an answer."""
    message = InferResponse(
        model_name=answer.model.name, model_version=answer.model.version, id=call.id
    )
    if answer.reply is not None:
        message.parameters[PARAMETER].string_param = wire.to_bytes(answer.reply).decode()
    for name, array in answer.outputs.items():
        message.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        message.raw_output_contents.append(to_raw(array))
    return bytes(message.SerializeToString())


def metadata(model: Model) -> dict[str, Any]:
    """Return what a ModelMetadataResponse says."""
    inputs, outputs = (
        [{"name": s.name, "datatype": DATATYPES[s.dtype], "shape": list(s.shape)} for s in specs]
        for specs in (model.inputs, model.outputs)
    )
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


def config(model: Model) -> dict[str, Any]:
    """Return what a ModelConfig says: no batching, whole shapes."""
    kinds = {name: f"TYPE_{name}" for name in DATA_TYPES} | {"BYTES": "TYPE_STRING"}
    inputs, outputs = (
        [
            {"name": s.name, "data_type": kinds[DATATYPES[s.dtype]], "dims": list(s.shape)}
            for s in specs
        ]
        for specs in (model.inputs, model.outputs)
    )
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": NAME,
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
    }


async def _only(messages: AsyncIterator[bytes]) -> bytes:
    """Return the one message of a call.

    Raises:
        MalformedRequestError: it sent none: gRPC itself cuts off one that is too large.
        SlowRequestError: it took too long to come.
    """
    try:
        async with asyncio.timeout(BODY_S):
            async for data in messages:
                return data
    except TimeoutError:
        raise SlowRequestError(f"the request had not come whole after {BODY_S:g} s") from None
    raise MalformedRequestError("the call ended without a message")


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise MalformedRequestError(f"{len(data)} bytes are no {name}: {error}") from error


def _certificate(context: grpc.aio.ServicerContext) -> bytes | None:
    """Return the certificate (DER) of the other side, None where none was asked for."""
    chain = context.auth_context().get("x509_pem_cert")
    return ssl.PEM_cert_to_DER_cert(bytes(chain[0]).decode()) if chain else None
