"""Whatever bytes come, a request is read or refused by name; what is sent comes back as it was."""

import contextlib
import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from site_parts import Echo, ask

from fleet.inference import client, oip_grpc, oip_http
from fleet.inference.call import Answer, read_inputs
from fleet.inference.oip_tensors import DATATYPES, datatype_of, from_raw, to_raw
from vehicle.contracts.wire import RefusedError

DTYPES = [np.dtype(name) for name in DATATYPES if name != "bytes"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
TEXTS = st.lists(st.binary(max_size=9), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "name", "shape", "datatype", "data", "parameters", "id"])
            | st.sampled_from(["outputs", "binary_data_size", "binary_data", "roadloop"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(ARRAYS)
def test_numbers_come_back_as_they_were(array: np.ndarray) -> None:
    raw = to_raw(array)
    back = from_raw("x", datatype_of(array), array.shape, raw)
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()
    assert back.shape == array.shape


@given(TEXTS)
def test_strings_come_back_as_they_were(texts: list[bytes]) -> None:
    array = np.array([*texts, None], dtype=object)[:-1]
    back = from_raw("x", "BYTES", array.shape, to_raw(array))
    assert back.tolist() == texts


@given(st.binary(max_size=60), st.integers(0, 8))
def test_bytes_that_hold_no_strings_are_refused_by_name(raw: bytes, count: int) -> None:
    with contextlib.suppress(RefusedError):
        assert from_raw("x", "BYTES", (count,), raw).size == count


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(max_examples=300)
def test_message_with_broken_bytes_is_read_or_refused_by_name(noise: bytes, at: int) -> None:
    inputs = {"x": np.zeros(3, np.float32), "words": np.array([b"a"], dtype=object)}
    data = client.encode("echo", "", inputs, ask())
    at %= len(data)
    for broken in (noise, data[:at] + noise + data[at + len(noise) :], data[:at]):
        _read(lambda b=broken: oip_grpc.read_call(b))


@given(JSON, st.binary(max_size=20))
@settings(max_examples=300)
def test_body_of_any_shape_is_read_or_refused_by_name(plain: Any, rest: bytes) -> None:
    head = json.dumps(plain).encode()
    headers = {oip_http.JSON_SIZE: b"%d" % len(head)}
    _read(lambda: oip_http.read_call("echo", "", headers, memoryview(head + rest))[0])


def _read(read: Any) -> None:
    """Read a call and its inputs; anything but a named refusal is a fault."""
    try:
        call = read()
        inputs = read_inputs(Echo(), call.tensors)
    except RefusedError:
        return
    oip_grpc.write_answer(call, Answer(model=Echo(), outputs=inputs, reply=None))
