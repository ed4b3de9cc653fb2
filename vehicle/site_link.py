"""One question to a site and its advice: the Open Inference Protocol v2 over HTTP, binary tensors.

So it can ask any server of that protocol. What comes back is bounded in length and in time, checked
whole, and refused by name where it is not an answer to what was asked.

A front on this computer is asked at a socket that only this user may use: it shows the car's
certificate to the places it asks, and takes no other's.

Source: KServe, Open Inference Protocol V2; Triton Inference Server, "Binary Tensor Data Extension".
"""

import json
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from vehicle.asking import UNIX, split
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.advice import ANSWER, MAX_ADVICE_BYTES, Advice
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest
from vehicle.contracts.wire import ContractError, RefusedError, require
from vehicle.identity import Identity

JSON_SIZE: Final = "inference-header-content-length"
MAX_HEAD_BYTES: Final = 16 << 10
CONNECT_S: Final = 2.0

_DATATYPES: Final = {"float32": "FP32", "float64": "FP64"}


class LateAnswerError(RefusedError):
    """The answer came after its deadline, or not at all."""


class OversizedAdviceError(RefusedError):
    """The answer is longer than advice may be; it was not read whole."""


class MalformedAdviceError(RefusedError):
    """The answer is no answer of the protocol, or its advice breaks the contract."""


class ForgedAdviceError(RefusedError):
    """The answer is not to the question, or not from whom it says."""


class SiteRefusedError(RefusedError):
    """The site said no; the reason is its own."""


class SiteAwayError(RefusedError):
    """Nobody answers there."""


COUNTED: Final = {
    LateAnswerError: "late",
    OversizedAdviceError: "oversized",
    MalformedAdviceError: "malformed",
    ForgedAdviceError: "forged",
    SiteRefusedError: "refused",
    SiteAwayError: "away",
}


class SiteLink:
    """One connection to one site.

    Args:
        address: see OffboardSettings.
        identity: of the car; None where the site is asked without TLS, or at a socket.
        clock: by whose UTC deadlines are kept.
    Raises:
        ContractError: the address is no address.
    """

    def __init__(
        self,
        address: str,
        identity: Identity | None,
        clock: Clock,
    ) -> None:
        self.base, self.model = split(address)
        self._socket = Path(self.base.removeprefix(UNIX)) if self.base.startswith(UNIX) else None
        secure = self.base.startswith("https://") and identity is not None
        self.proven = secure or self._socket is not None
        self._clock = clock
        self._client = httpx.Client(
            base_url="http://front" if self._socket else self.base,
            transport=httpx.HTTPTransport(uds=str(self._socket)) if self._socket else None,
            verify=identity.context if identity is not None else True,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )
        self.is_open = False

    def open(self) -> None:
        """Connect, with more patience than a question has.

        Raises:
            SiteAwayError: nobody is there, or it is not who it should be.
        """
        if self._socket is not None and not _is_ours(self._socket):
            raise SiteAwayError(f"{self.base}: no socket that this user alone may use")
        try:
            self._client.get("/v2/health/live", timeout=CONNECT_S)
        except httpx.HTTPError as error:
            raise SiteAwayError(f"{self.base}: {type(error).__name__}: {error}") from error
        self.is_open = True

    def ask(
        self, request: InferenceRequest, inputs: Mapping[str, np.ndarray]
    ) -> tuple[Advice, InferenceReply]:
        """Return the site's advice.

        Raises:
            LateAnswerError, OversizedAdviceError, MalformedAdviceError, ForgedAdviceError,
            SiteRefusedError, SiteAwayError: as named.
        """
        self.is_open = False  # until an answer came whole
        try:
            status, size, body = self._post(request, inputs)
        except httpx.TimeoutException as error:
            raise LateAnswerError(f"no answer from {self.base} by the deadline") from error
        except httpx.HTTPError as error:
            raise SiteAwayError(f"{self.base}: {type(error).__name__}: {error}") from error
        self.is_open = True
        if status != 200:
            raise SiteRefusedError(f"{status}: {_reason(body)}")
        advice, reply = read_answer(body, size)
        if advice.request_id != request.request_id or reply.request_id != request.request_id:
            raise ForgedAdviceError(f"advice answers {advice.request_id}, nobody asked that")
        if (advice.context, advice.site) != (reply.context, reply.site):
            raise ForgedAdviceError(f"advice of {advice.site!r} came from {reply.site!r}")
        return advice, reply

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _post(
        self, request: InferenceRequest, inputs: Mapping[str, np.ndarray]
    ) -> tuple[int, int, bytes]:
        """Return status, bytes of JSON and the body, never more of it than is taken."""
        head, body = write_question(request, inputs)
        limit = MAX_HEAD_BYTES + MAX_ADVICE_BYTES
        with self._client.stream(
            "POST",
            f"/v2/models/{self.model}/infer",
            content=body,
            headers={JSON_SIZE: str(head), "Content-Type": "application/octet-stream"},
            timeout=self._left_s(request),
        ) as answer:
            came = bytearray()
            for piece in answer.iter_raw(16 << 10):
                came += piece
                if len(came) > limit:
                    raise OversizedAdviceError(f"over {limit} bytes came, advice has fewer")
                self._left_s(request)
            text = answer.headers.get(JSON_SIZE, str(len(came)))
            size = int(text) if text.isdigit() and len(text) < 9 else -1
            return answer.status_code, size, bytes(came)

    def _left_s(self, request: InferenceRequest) -> float:
        left_s = (request.deadline_utc_ns - self._clock.utc_ns()) * 1e-9
        if left_s <= 0.0:
            raise LateAnswerError(f"the deadline passed {-left_s:.3f} s ago")
        return left_s


def _is_ours(path: Path) -> bool:
    """Return whether a path is a socket of this user that nobody else may use."""
    try:
        found = path.lstat()
    except OSError:
        return False
    private = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) == 0
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and private


def write_question(
    request: InferenceRequest, inputs: Mapping[str, np.ndarray]
) -> tuple[int, bytes]:
    """Return the bytes of JSON, and the body of a question."""
    raws = {name: np.ascontiguousarray(array).tobytes() for name, array in inputs.items()}
    head = {
        "id": request.request_id,
        "inputs": [
            {
                "name": name,
                "datatype": _DATATYPES[array.dtype.name],
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(raws[name])},
            }
            for name, array in inputs.items()
        ],
        "outputs": [{"name": ANSWER, "parameters": {"binary_data": True}}],
        "parameters": {PARAMETER: wire.to_bytes(request).decode()},
    }
    text = json.dumps(head).encode()
    return len(text), b"".join([text, *raws.values()])


def read_answer(body: bytes, head_bytes: int) -> tuple[Advice, InferenceReply]:
    """Return the advice and the reply in the body of an answer.

    Raises:
        MalformedAdviceError: it is none.
        OversizedAdviceError: the advice is longer than advice may be.
    """
    try:
        require(0 < head_bytes <= len(body), f"{head_bytes} bytes of JSON in {len(body)}")
        head = json.loads(body[:head_bytes])
        reply = wire.from_bytes(InferenceReply, head["parameters"][PARAMETER].encode())
        text = _answer(head, body, head_bytes)
        if len(text) > MAX_ADVICE_BYTES:
            raise OversizedAdviceError(f"{len(text)} bytes, advice has {MAX_ADVICE_BYTES} at most")
        return wire.from_bytes(Advice, text), reply
    except OversizedAdviceError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedAdviceError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _answer(head: Mapping[str, Any], body: bytes, at: int) -> bytes:
    """Return the one element of the output ANSWER."""
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if output["name"] == ANSWER:
            if size is None:
                return str(output["data"][0]).encode()
            require(type(size) is int and 4 <= size <= len(body) - at, f"size is {size!r}")
            (length,) = struct.unpack_from("<I", body, at)
            require(length == size - 4, f"{length} bytes announced, {size - 4} came")
            return body[at + 4 : at + size]
        at += size or 0
    raise ContractError(f"no output {ANSWER!r}")


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return repr(body[:80])
