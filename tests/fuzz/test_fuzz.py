"""Damaged, cut, spliced and invented input is refused by name, whoever reads it."""

import copy
import json
import math
import struct

import fuzz_targets
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest

KEPT = {name: fuzz_targets.seeds(name) for name in fuzz_targets.TARGETS}
LENGTHS = (0, 1, 255, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A whole example after one to four accidents."""
    data = bytearray(draw(st.sampled_from(KEPT[name])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "cut", "drop", "double", "length", "noise")))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 512))]
        elif kind == "length":
            data[at : at + 8] = struct.pack("<Q", draw(st.sampled_from(LENGTHS)))
        else:
            data[at : at + 8] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


JSON = ("manifest", "campaign", "words")
HOSTILE = (
    *(None, True, -1, 0, 2**63, 10**400, -(10**400), 1e308, 1e-320, math.nan, math.inf, "", "."),
    *("../../etc/passwd", "a/b", "\0", "\ud800", "x" * 10_000, "\N{PILE OF POO}", "tracks(" * 50),
    *([], [[]], [None], {}, {"": ""}, {"schema": "clip/1"}, [1, 2, 3, 4, 5]),
)


@st.composite
def twisted(draw: st.DrawFn, name: str) -> bytes:
    """A whole JSON example with one to three values, or keys, of another kind."""
    plain = json.loads(draw(st.sampled_from(KEPT[name])))
    for _ in range(draw(st.integers(1, 3))):
        inside = plain
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(inside[key], dict | list) or not draw(st.booleans()):
                inside[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
                break
            inside = inside[key]
    return json.dumps(plain).encode()


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=200)
def test_values_of_another_kind_are_refused_by_name(name: str, data: st.DataObject) -> None:
    fuzz_targets.TARGETS[name](data.draw(twisted(name)))


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_damage_is_refused_by_name(name: str, data: st.DataObject) -> None:
    fuzz_targets.TARGETS[name](data.draw(damaged(name)))


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"[" * 100_000)
@example(data=b'{"schema":"clip/1","tags":' + b'{"a":' * 5_000)
@example(data=b"(" * 5_000)
@example(data=b"9" * 5_000)
@example(data=b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, 2**63))
@example(data=b"\x89MCAP0\r\n" + struct.pack("<BQQQQIIQ", 6, 40, 0, 0, 9, 0, 0, 2**64 - 1))
def test_anything_at_all_is_refused_by_name(name: str, data: bytes) -> None:
    fuzz_targets.TARGETS[name](data)


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_whole_examples_are_taken(name: str) -> None:
    for seed in KEPT[name]:
        fuzz_targets.TARGETS[name](seed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", [1]),  # fewer than the contract names
        ("frames", [1, 2, 3]),
        ("start_mono_ns", 10**400),  # no 64 bits hold it
        ("created_utc_ns", 1 << 63),
        ("route_id", "\ud800"),  # half a character: no bytes hold it
        ("tags", {"\ud800": "x"}),
        ("car_id", "\0"),  # no path holds it
        ("car_id", "car\x1b[2J"),  # a terminal would obey it
    ],
)
def test_what_was_found_once_is_refused(field: str, value: object) -> None:
    [whole] = [k for k in KEPT["manifest"] if json.loads(k)["schema"] == "clip/1"]
    with pytest.raises(wire.ContractError):
        wire.from_bytes(ClipManifest, json.dumps({**json.loads(whole), field: value}).encode())
