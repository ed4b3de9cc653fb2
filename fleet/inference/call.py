"""One request as a site sees it, whichever wire it came by, and whether it can be taken at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fleet.inference.oip_model import Model
from fleet.inference.oip_tensors import check_spec, from_raw, from_values
from fleet.inference.refusals import (
    ClockError,
    LateRequestError,
    MalformedRequestError,
    StaleInputError,
)
from vehicle.contracts.inference import InferenceReply, InferenceRequest

SKEW_S: Final = 2.0
"""How far a car's clock may be ahead of the site's; both are set by GNSS or NTP."""

FARTHEST_S: Final = 7 * 86_400.0
"""No deadline lies further away."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input as it came: `raw` bytes, or `values` written out one by one."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None
    values: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as it came by either wire.

    Args:
        model, version: asked for; version "" is the newest.
        id: given back as it came.
        parameter: text of the InferenceRequest; None when the open protocol is spoken alone.
        outputs: wanted by name; all when empty.
        size_bytes: of the whole request.
    """

    model: str
    version: str
    id: str
    parameter: str | None
    tensors: Sequence[Tensor]
    outputs: Sequence[str] = ()
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back; `reply` None when the open protocol is spoken alone."""

    model: Model
    outputs: Mapping[str, np.ndarray]
    reply: InferenceReply | None


def check_times(request: InferenceRequest, now_ns: int) -> None:
    """Refuse what is late, stale, or from another time.

    Raises:
        ClockError, StaleInputError, LateRequestError: as named.
    """
    age_s = (now_ns - request.input_utc_ns) * 1e-9
    if age_s < -SKEW_S:
        raise ClockError(
            f"the input was taken {-age_s:.1f} s in the future; set the clock of {request.car_id!r}"
        )
    if age_s > request.freshness_s:
        raise StaleInputError(
            f"the input is {age_s:.2f} s old, fresh is {request.freshness_s:.2f} s; or the clock "
            f"of {request.car_id!r} is behind"
        )
    left_s = (request.deadline_utc_ns - now_ns) * 1e-9
    if left_s <= 0.0:
        raise LateRequestError(f"the deadline passed {-left_s:.3f} s ago")
    if left_s > FARTHEST_S:
        raise ClockError(f"the deadline is {left_s / 86_400:.1f} days away, 7 at most are waited")


def read_inputs(model: Model, tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Return the inputs of a model.

    Raises:
        MalformedRequestError: one is missing, unknown, named twice, or not what the model takes.
        OversizedRequestError: too many elements.
    """
    specs = {s.name: s for s in model.inputs}
    names = [t.name[:64] for t in tensors]
    if sorted(names) != sorted(specs):
        raise MalformedRequestError(f"found inputs {names[:32]}, expected {sorted(specs)}")
    found = {}
    for tensor in tensors:
        check_spec(specs[tensor.name], tensor.datatype, tensor.shape)
        named = tensor.name, tensor.datatype, tensor.shape
        if tensor.raw is not None:
            found[tensor.name] = from_raw(*named, tensor.raw)
        else:
            found[tensor.name] = from_values(*named, tensor.values)
    return found


def wanted_outputs(model: Model, outputs: Sequence[str]) -> list[str]:
    """Return which outputs go back, by name.

    Raises:
        MalformedRequestError: the model has no such output.
    """
    names = [s.name for s in model.outputs]
    unknown = sorted(set(outputs) - set(names))
    if unknown:
        raise MalformedRequestError(f"no output {unknown[0][:64]!r}, expected some of {names}")
    return list(outputs) or names
