"""Requests of the chat protocol, broken in every way: refused by name, never by accident."""

import contextlib
import json

import numpy as np
import pytest
from explain_parts import records

from fleet.inference.explain_chat import read_call
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError


def body(number: int = 0) -> bytes:
    message = {"role": "user", "content": wire.to_bytes(records(20)[number]).decode()}
    return json.dumps({"model": "tiny", "stream": True, "messages": [message]}).encode()


@pytest.mark.parametrize("seed", range(300))
def test_bytes_that_were_hit_are_read_or_refused_by_name(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(body(seed % 20))
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data)))
        if random.random() < 0.3:
            del data[at : at + int(random.integers(1, 40))]
        else:
            data[at] = int(random.integers(256))
    try:
        call = read_call(bytes(data))
    except RefusedError:
        return
    assert call.record.decision.longitudinal
    assert call.most >= 1


@pytest.mark.parametrize(
    "value", [None, 0, -1, 1.5, True, "x", [], {}, [1], {"a": 1}, 1 << 70, "\ud800", float("nan")]
)
@pytest.mark.parametrize(
    "key", ["model", "messages", "stream", "stream_options", "max_tokens", "n", "roadloop"]
)
def test_any_value_of_any_field_is_read_or_refused_by_name(key: str, value: object) -> None:
    plain = json.loads(body()) | {key: value}
    with contextlib.suppress(RefusedError):
        assert read_call(json.dumps(plain).encode()).most >= 1


def test_an_answer_of_how_many_words_is_never_longer_than_the_language_has() -> None:
    plain = json.loads(body())
    assert read_call(json.dumps(plain | {"max_tokens": 10_000}).encode()).most < 100
    assert read_call(json.dumps(plain | {"max_completion_tokens": 2}).encode()).most == 2
