"""Arrays and the Open Inference Protocol's tensors: names of types, raw bytes, typed contents.

Numbers travel row by row, little-endian. Strings travel as four bytes of length and the bytes.

Source: KServe, Open Inference Protocol V2, "Tensor Data" and "Raw Tensor Contents"; Triton
Inference Server, "Binary Tensor Data Extension".
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fleet.inference.refusals import MalformedRequestError, OversizedRequestError
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import MAX_TENSOR_BYTES

BYTES: Final = "bytes"
"""`TensorSpec.dtype` of a tensor of byte strings: its arrays are of dtype object."""

ANY_SIZE: Final = -1
"""Stands in `TensorSpec.shape` for an axis of any length."""

DATATYPES: Final = {
    **{f"{k}int{b}": f"{k.upper()}INT{b}" for k in ("", "u") for b in (8, 16, 32, 64)},
    **{"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64", BYTES: "BYTES"},
}
"""numpy's name of a type -> the protocol's."""

DTYPES: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}

MOST_AXES: Final = 8


def datatype_of(array: np.ndarray) -> str:
    """Return the protocol's name of an array's type.

    Raises:
        MalformedRequestError: it has none.
    """
    name = BYTES if array.dtype.kind in "OS" else array.dtype.name
    try:
        return DATATYPES[name]
    except KeyError:
        raise MalformedRequestError(
            f"an array of {array.dtype} cannot travel, expected one of {sorted(DATATYPES)}"
        ) from None


def check_spec(spec: TensorSpec, datatype: str, shape: Sequence[int]) -> None:
    """Raise MalformedRequestError unless a tensor is what a model takes."""
    fits = len(shape) == len(spec.shape) and all(
        found == wanted or (wanted == ANY_SIZE and found >= 0)
        for found, wanted in zip(shape, spec.shape, strict=True)
    )
    if datatype != DATATYPES[spec.dtype] or not fits:
        raise MalformedRequestError(
            f"input {spec.name!r} is {datatype[:16]!r} {list(shape)[:MOST_AXES]}, expected "
            f"{DATATYPES[spec.dtype]!r} {list(spec.shape)}"
        )


def count_of(name: str, shape: Sequence[int]) -> int:
    """Return how many elements a shape has.

    Raises:
        MalformedRequestError: too many axes, or a negative one.
        OversizedRequestError: more elements than bytes are taken.
    """
    if len(shape) > MOST_AXES or any(n < 0 for n in shape):
        raise MalformedRequestError(f"input {name!r} has shape {list(shape)[: MOST_AXES + 1]}")
    count = math.prod(shape)
    if count > MAX_TENSOR_BYTES:
        raise OversizedRequestError(f"input {name!r} has {count} elements")
    return count


def zeros(spec: TensorSpec) -> np.ndarray:
    """Return an array of nothing that fits a spec; an axis of any length has none."""
    shape = tuple(0 if n == ANY_SIZE else n for n in spec.shape)
    return np.full(shape, b"", dtype=object) if spec.dtype == BYTES else np.zeros(shape, spec.dtype)


def to_raw(array: np.ndarray) -> bytes:
    """Return the bytes of an array as they travel."""
    if array.dtype.kind not in "OS":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts = []
    for item in array.ravel().tolist():
        data = item if isinstance(item, bytes) else str(item).encode()
        parts += [struct.pack("<I", len(data)), data]
    return b"".join(parts)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> np.ndarray:
    """Return the array in these bytes; it reads them where they are.

    Raises:
        MalformedRequestError: an unknown type, or not as many bytes as the shape says.
    """
    dtype, count = _dtype(name, datatype), count_of(name, shape)
    if dtype == BYTES:
        return _strings(name, count, bytes(raw)).reshape(tuple(shape))
    kind = np.dtype(dtype).newbyteorder("<")
    if len(raw) != count * kind.itemsize:
        raise MalformedRequestError(
            f"input {name!r} has {len(raw)} bytes, {datatype} {list(shape)} takes "
            f"{count * kind.itemsize}"
        )
    return np.frombuffer(raw, kind).reshape(tuple(shape))


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> np.ndarray:
    """Return the array of values written out one by one, nested or flat.

    Raises:
        MalformedRequestError: an unknown type, a value that is none of it, or not as many.
    """
    dtype, count = _dtype(name, datatype), count_of(name, shape)
    try:
        if dtype == BYTES:
            flat = np.asarray(values, dtype=object).ravel()
            items = [v if isinstance(v, bytes) else v.encode() for v in flat.tolist()]
            array = np.empty(len(items), dtype=object)
            array[:] = items
        else:
            array = np.asarray(values, dtype=np.dtype(dtype)).ravel()
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise MalformedRequestError(f"input {name!r} holds no {datatype}: {error}") from error
    if array.size != count:
        raise MalformedRequestError(
            f"input {name!r} has {array.size} values, shape {list(shape)} takes {count}"
        )
    return array.reshape(tuple(shape))


def _dtype(name: str, datatype: str) -> str:
    try:
        return DTYPES[datatype]
    except KeyError:
        raise MalformedRequestError(
            f"input {name!r} is of type {datatype[:16]!r}, expected one of {sorted(DTYPES)}"
        ) from None


def _strings(name: str, count: int, raw: bytes) -> np.ndarray:
    array, at = np.empty(count, dtype=object), 0
    for i in range(count):
        end = at + 4
        size = struct.unpack_from("<I", raw, at)[0] if end <= len(raw) else len(raw)
        if end + size > len(raw):
            raise MalformedRequestError(f"input {name!r} ends within element {i} of {count}")
        array[i], at = raw[end : end + size], end + size
    if at != len(raw):
        raise MalformedRequestError(f"input {name!r} has {len(raw) - at} bytes too many")
    return array
