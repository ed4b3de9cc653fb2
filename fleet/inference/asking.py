"""Requests as a car would make them, for whoever asks a site by hand or by test."""

import secrets
from typing import Any

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.inference import InferenceRequest


def make_request(clock: Clock, *, lasts_ms: float = 1_000.0, **fields: Any) -> InferenceRequest:
    """Return a request about an input of this instant.

    Args:
        lasts_ms: until its deadline, ms.
        fields: of InferenceRequest, in place of the usual.
    Raises:
        ContractError: a field is not what its contract says.
    """
    now_ns = clock.utc_ns()
    usual: dict[str, Any] = {
        "schema": InferenceRequest.SCHEMA,
        "request_id": secrets.token_hex(16),
        "tenant": "fleet",
        "car_id": "car-1",
        "workload": "ask",
        "tier": "low" if lasts_ms <= 50.0 else "interactive",
        "input_utc_ns": now_ns,
        "freshness_s": max(1.0, lasts_ms / 1e3),
        "deadline_utc_ns": now_ns + int(lasts_ms * 1e6),
        "data_class": "features",
        "jurisdiction": "DE",
    }
    return wire.from_plain(InferenceRequest, usual | fields)
