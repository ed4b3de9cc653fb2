"""What comes to a car from a site: the answer to its question, and whatever is sent for one."""

import contextlib
import json
import struct
from collections.abc import Callable

from offboard_parts import walker

from vehicle.contracts import wire
from vehicle.contracts.advice import Advice, SpeedCap
from vehicle.contracts.inference import PARAMETER, InferenceReply
from vehicle.contracts.wire import RefusedError
from vehicle.site_link import read_answer


def answer(data: bytes) -> None:
    """Read an answer: two bytes say how much of it is JSON."""
    with contextlib.suppress(RefusedError):
        advice, _ = read_answer(data[2:], int.from_bytes(data[:2], "little"))
        again = wire.to_bytes(advice)
        assert wire.from_bytes(Advice, again) == advice


TARGETS: dict[str, Callable[[bytes], None]] = {"advice": answer}


def seeds(name: str) -> list[bytes]:
    """Return whole examples of what a target reads."""
    told = Advice(
        request_id="0f" * 16, context="edge", site="junction-7", model_set="collective@1",
        input_utc_ns=1, valid_until_utc_ns=2, tracks=(walker(),),
        caps=(SpeedCap(speed_mps=4.0, x_m=1.0, y_m=2.0, radius_m=3.0),),
    )  # fmt: skip
    reply = InferenceReply(
        request_id="0f" * 16, context="edge", site="junction-7", model_set="collective@1",
        model_digest="", finished_utc_ns=1, valid_until_utc_ns=2,
    )  # fmt: skip
    text = wire.to_bytes(told)
    size = {"parameters": {"binary_data_size": len(text) + 4}}
    parameters = {PARAMETER: wire.to_bytes(reply).decode()}
    bodies = []
    for output, rest in (
        ({"name": "advice", **size}, struct.pack("<I", len(text)) + text),
        ({"name": "advice", "data": [text.decode()]}, b""),
    ):
        head = json.dumps({"outputs": [output], "parameters": parameters}).encode()
        bodies.append(len(head).to_bytes(2, "little") + head + rest)
    return bodies
