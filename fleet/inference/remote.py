"""A model that runs elsewhere: asked by the Open Inference Protocol over HTTP, as the car asks.

So a site with certificates, policy, tenants and receipts can stand before a cluster that has none
of them, and is reached by nobody else.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import httpx
import numpy as np

from fleet.inference import refusals
from fleet.inference.oip_http import JSON_SIZE
from fleet.inference.oip_model import Pace
from fleet.inference.oip_tensors import DTYPES, datatype_of, from_raw, to_raw
from fleet.inference.refusals import ModelFailedError, SiteRefusalError
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import PARAMETER, InferenceRequest

FIRST_US: Final = 20_000
"""Believed of an answer until one was measured."""

TIMEOUT_S: Final = 30.0


class ClusterDownError(SiteRefusalError):
    """What should answer behind this site does not."""

    GRPC: ClassVar[str] = "UNAVAILABLE"
    HTTP: ClassVar[int] = 503


class RemoteModel:
    """One model of another site; use `discover`.

    Args:
        http: speaks to it, one connection kept for each request on the way.
        plain: what it says of itself, as `GET /v2/models/NAME` tells.
        digest: sha256 of what it is.
    """

    def __init__(
        self, http: httpx.AsyncClient, plain: Mapping[str, Any], digest: str, clock: Clock
    ) -> None:
        self.name, self.version = str(plain["name"]), str(plain["versions"][-1])
        self.digest = digest
        self.inputs, self.outputs = _specs(plain["inputs"]), _specs(plain["outputs"])
        self._http, self._clock, self._pace = http, clock, Pace(FIRST_US)
        self._path = f"/v2/models/{self.name}/infer"

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> dict[str, np.ndarray]:
        """Return the other site's outputs.

        Raises:
            SiteRefusalError: under the other site's own name of it.
            ClusterDownError: it is not there.
        """
        head, body = encode(inputs, request)
        headers = {JSON_SIZE.decode(): str(head)}
        began_ns = self._clock.mono_ns()
        try:
            answer = await self._http.post(self._path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise ClusterDownError(f"{self.name}: {type(error).__name__} {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise refusal_of(answer.status_code, answer.content)
        self._pace.took((self._clock.mono_ns() - began_ns) / 1_000)
        return decode(answer.content, int(answer.headers.get(JSON_SIZE.decode(), 0)))

    def expected_us(self) -> int:
        """Return how long the next answer will take, us."""
        return self._pace.expected_us()


async def discover(
    http: httpx.AsyncClient, names: Mapping[str, str], clock: Clock
) -> list[RemoteModel]:
    """Return the models of another site.

    Args:
        names: name -> digest.
    Raises:
        ClusterDownError: it does not tell of one of them.
    """
    found = []
    for name, digest in names.items():
        try:
            answer = await http.get(f"/v2/models/{name}")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ClusterDownError(f"{name}: {type(error).__name__} {error}") from error
        found.append(RemoteModel(http, answer.json(), digest, clock))
    return found


def client(url: str) -> httpx.AsyncClient:
    """Return what speaks to a site; close it."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


def encode(inputs: Mapping[str, np.ndarray], request: InferenceRequest | None) -> tuple[int, bytes]:
    """Return the bytes of JSON, and the body: all tensors in binary, both ways."""
    entries, raws = [], []
    for name, array in inputs.items():
        raws.append(to_raw(array))
        entries.append(
            {
                "name": name,
                "datatype": datatype_of(array),
                "shape": array.shape,
                "parameters": {"binary_data_size": len(raws[-1])},
            }
        )
    parameters: dict[str, Any] = {"binary_data_output": True}
    if request is not None:
        parameters[PARAMETER] = wire.to_bytes(request).decode()
    text = json.dumps({"inputs": entries, "parameters": parameters}).encode()
    return len(text), b"".join([text, *raws])


def decode(body: bytes, head: int) -> dict[str, np.ndarray]:
    """Return the outputs in an answer whose tensors are binary.

    Raises:
        ModelFailedError: it is no such answer.
    """
    try:
        plain, at, found = json.loads(body[:head]), head, {}
        for entry in plain["outputs"]:
            end = at + entry["parameters"]["binary_data_size"]
            raw = memoryview(body)[at:end]
            found[entry["name"]] = from_raw(entry["name"], entry["datatype"], entry["shape"], raw)
            at = end
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFailedError(f"the answer does not read: {error}") from error
    return found


def refusal_of(status: int, body: bytes) -> SiteRefusalError:
    """Return another site's refusal as our own of the same name."""
    try:
        name, _, reason = str(json.loads(body)["error"]).partition(": ")
    except (ValueError, KeyError, TypeError):
        name, reason = "", body[:100].decode(errors="replace")
    kind = getattr(refusals, name, None)
    if isinstance(kind, type) and issubclass(kind, SiteRefusalError):
        return kind(reason)
    if status in (502, 503, 504):
        return ClusterDownError(f"{status}: {name or reason}")
    return ModelFailedError(f"{status} {name}: {reason}")


def _specs(plain: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=s["name"], shape=tuple(s["shape"]), dtype=DTYPES[s["datatype"]])
        for s in plain
    )
