"""Asks a site: the Open Inference Protocol v2 over gRPC, with the house's request inside.

`Client` waits, `AsyncClient` is awaited; both keep one connection. For whoever is not the car: the
car asks by HTTP (vehicle/offboard_link.py), which needs no gRPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from cryptography import x509
from cryptography.x509.oid import NameOID

from fleet.inference.oip_messages import CLASSES, SERVICE, InferRequest, InferResponse
from fleet.inference.oip_tensors import DTYPES, datatype_of, from_raw, to_raw
from vehicle.contracts import wire
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest
from vehicle.contracts.uplink import CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE
from vehicle.contracts.wire import RefusedError

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]
_INFER: Final = f"/{SERVICE}/ModelInfer"
_METADATA: Final = f"/{SERVICE}/ModelMetadata"

Outputs = dict[str, np.ndarray]


class SiteError(RefusedError):
    """A site did not answer.

    Args:
        status: gRPC's name of it, e.g. "DEADLINE_EXCEEDED".
        name: of the refusal, e.g. "WontFinishError"; "" when it did not come from the desk.
        reason: in words.
    """

    def __init__(self, status: str, name: str, reason: str) -> None:
        super().__init__(f"{name or status}: {reason}")
        self.status, self.name, self.reason = status, name, reason


class SiteRefusedError(SiteError):
    """The site said no."""


class UnreachableSiteError(SiteError):
    """No site was there, or it went away before it had answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """What a car shows and whom it believes: PEM."""

    certificate: bytes
    key: bytes
    authority: bytes

    @classmethod
    def of_identity(cls, folder: Path) -> "ClientTls":
        """Return what enrolment wrote into a car's identity folder."""
        names = (CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE)
        certificate, key, authority = ((folder / name).read_bytes() for name in names)
        return cls(certificate=certificate, key=key, authority=authority)

    @property
    def common_name(self) -> str:
        """Return whom the certificate names: the car."""
        names = x509.load_pem_x509_certificate(self.certificate).subject
        return str(names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's form of it."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


class Client:
    """One connection to a site.

    Args:
        address: HOST:PORT of its gRPC door.
        tls: None for a site on this machine without certificates.
    """

    def __init__(self, address: str, tls: ClientTls | None = None) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), _OPTIONS)
        self._infer = self._channel.unary_unary(_INFER)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        request: InferenceRequest | None = None,
        timeout_s: float | None = None,
        version: str = "",
    ) -> tuple[Outputs, InferenceReply | None]:
        """Ask a model; return its outputs, and the reply when there was a request.

        Raises:
            SiteRefusedError, UnreachableSiteError: as named.
        """
        message = encode(model, version, inputs, request)
        try:
            return decode(self._infer(message, timeout=timeout_s))
        except grpc.RpcError as error:
            raise error_of(error) from None

    def inputs_of(self, model: str, timeout_s: float = 5.0) -> tuple[TensorSpec, ...]:
        """Return what a model takes.

        Raises:
            SiteRefusedError, UnreachableSiteError: as named.
        """
        asked = CLASSES["ModelMetadataRequest"](name=model).SerializeToString()
        try:
            told = self._channel.unary_unary(_METADATA)(asked, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of(error) from None
        return tuple(
            TensorSpec(name=t.name, shape=tuple(t.shape), dtype=DTYPES[t.datatype])
            for t in CLASSES["ModelMetadataResponse"].FromString(told).inputs
        )

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same, for an event loop; cancelling an `infer` tells the site to stop."""

    def __init__(self, address: str, tls: ClientTls | None = None) -> None:
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), _OPTIONS)
        self._infer = self._channel.unary_unary(_INFER)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        request: InferenceRequest | None = None,
        timeout_s: float | None = None,
        version: str = "",
    ) -> tuple[Outputs, InferenceReply | None]:
        """See `Client.infer`."""
        message = encode(model, version, inputs, request)
        try:
            return decode(await self._infer(message, timeout=timeout_s))
        except grpc.RpcError as error:
            raise error_of(error) from None

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def encode(
    model: str, version: str, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
) -> bytes:
    """Return the ModelInferRequest."""
    message = InferRequest(model_name=model, model_version=version)
    if request is not None:
        message.id = request.request_id
        message.parameters[PARAMETER].string_param = wire.to_bytes(request).decode()
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        message.raw_input_contents.append(to_raw(array))
    return bytes(message.SerializeToString())


def decode(data: bytes) -> tuple[Outputs, InferenceReply | None]:
    """Return what a ModelInferResponse holds."""
    message = InferResponse.FromString(data)
    outputs = {
        tensor.name: from_raw(tensor.name, tensor.datatype, tuple(tensor.shape), raw)
        for tensor, raw in zip(message.outputs, message.raw_output_contents, strict=True)
    }
    if PARAMETER not in message.parameters:
        return outputs, None
    text = message.parameters[PARAMETER].string_param
    return outputs, wire.from_bytes(InferenceReply, text.encode(), strict=False)


def error_of(error: Any) -> SiteError:
    """Return gRPC's error as ours."""
    status, details = error.code().name, error.details() or ""
    name, colon, reason = details.partition(": ")
    if colon and name.isidentifier() and name.endswith("Error"):
        return SiteRefusedError(status, name, reason)
    if status in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN"):
        return UnreachableSiteError(status, "", details)
    return SiteRefusedError(status, "", details)
