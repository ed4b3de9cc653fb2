"""What comes to a site from outside, by either wire: requests, tensors, the request inside."""

import asyncio
import contextlib
import json
from collections.abc import Callable

import numpy as np
from site_parts import EDGE, Echo, ask, tensors

from fleet.inference import client, collective, oip_grpc, oip_http
from fleet.inference.call import Call, read_inputs
from fleet.inference.desk import Desk
from fleet.inference.oip_http import JSON_SIZE
from fleet.inference.queue import Turns
from fleet.inference.tenants import NOBODY, Tenants
from vehicle.clock import FakeClock
from vehicle.contracts import wire
from vehicle.contracts.advice import ASK_EGO, ASK_TRACKS
from vehicle.contracts.inference import PARAMETER
from vehicle.contracts.wire import RefusedError

CLOCK = FakeClock()


def _request() -> object:
    now_ns = CLOCK.utc_ns()
    return ask(input_utc_ns=now_ns, deadline_utc_ns=now_ns + 10**9)


def by_grpc(data: bytes) -> None:
    """Take a ModelInferRequest whole, up to the answer."""
    with contextlib.suppress(RefusedError):
        call = oip_grpc.read_call(data)
        assert oip_grpc.write_answer(call, _answered(call))


def by_http(data: bytes) -> None:
    """Take a body: two bytes say how much of it is JSON."""
    size, body = int.from_bytes(data[:2], "little"), memoryview(data[2:])
    with contextlib.suppress(RefusedError):
        call, binary = oip_http.read_call("echo", "", {JSON_SIZE: b"%d" % size}, body)
        body_out, _ = oip_http.write_answer(call, _answered(call), binary)
        assert body_out


def fusion(data: bytes) -> None:
    """Take a report and a question whose numbers are these bytes."""
    numbers = np.frombuffer(data[: len(data) // 4 * 4], np.float32)
    rows = numbers[: len(numbers) // 16 * 16].reshape(-1, 16)
    advising, listening = collective.models(EDGE, CLOCK)
    origin = np.zeros(2) if len(rows) < 2 else rows[1, 14:16].astype(np.float64)
    report = {
        ASK_TRACKS: rows[:, :10],
        collective.COVARIANCE: rows[:, 10:13],
        collective.DELTA: rows[:, 13],
        collective.ORIGIN: origin,
    }
    with contextlib.suppress(RefusedError):
        asyncio.run(listening.infer(report, _request()))  # type: ignore[arg-type]
    with np.errstate(invalid="ignore"):  # numbers that are none: what a request may hold
        ego = np.resize(numbers if len(numbers) else np.zeros(1), 6).astype(np.float64)
    question = {ASK_TRACKS: rows[:4, :10], ASK_EGO: ego}
    with contextlib.suppress(RefusedError):
        answer = asyncio.run(advising.infer(question, _request()))  # type: ignore[arg-type]
        assert {n: answer[n] for n in answer}[collective.OCCUPIED].dtype == np.uint8


def _answered(call: Call) -> object:
    """Return what a desk says to a call; nothing in it may be a surprise."""
    clock = CLOCK
    desk = Desk([Echo()], site=EDGE, tenants=Tenants([], clock), turns=Turns(clock), clock=clock)
    read_inputs(Echo(), call.tensors)
    return asyncio.run(desk.answer(NOBODY, call))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "oip-grpc": by_grpc,
    "oip-http": by_http,
    "fusion": fusion,
}


def seeds(name: str) -> list[bytes]:
    """Return whole examples of what a target reads."""
    if name == "fusion":
        row = [1.0, 18.0, 3.5, 0.1, 0.6, 0.6, 1.8, 0.0, -1.4, 0.8, 0.1, 0.01, 0.1, 0.2, 5.0, 6.0]
        return [np.array([row, [*row[:1], 9.0, *row[2:]]], np.float32).tobytes()]
    request = _request()
    if name == "oip-grpc":
        return [client.encode("echo", "1", tensors(), r) for r in (request, None)]  # type: ignore[arg-type]
    x = np.arange(3, dtype=np.float32).tobytes()
    head = {
        "id": "7",
        "parameters": {PARAMETER: wire.to_bytes(request).decode(), "binary_data_output": True},
        "inputs": [
            {
                "name": "x",
                "shape": [3],
                "datatype": "FP32",
                "parameters": {"binary_data_size": len(x)},
            },
            {"name": "words", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        ],
        "outputs": [{"name": "x", "parameters": {"binary_data": True}}, {"name": "words"}],
    }
    text = json.dumps(head).encode()
    return [len(text).to_bytes(2, "little") + text + x]
