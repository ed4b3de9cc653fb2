"""The door: who may send as whom, what is refused, and µD3TN's own tools."""

import socket
from pathlib import Path

import pytest
from interop_parts import interop
from orbit_parts import Relay, open_plan, take

from fleet.orbit import aap2
from fleet.orbit.aap2 import AAPMessage, AAPResponse, DoorError
from fleet.orbit.agent import Agent, NoDoorError, SentRefusedError

KINDS = {"car": ("vehicle", "US"), "home": ("ground", "US")}
PEER = Path(__file__).parent / "ud3tn_peer.py"


@pytest.fixture
def relay(tmp_path):
    small = {"car": {"max_bundle_bytes": 100_000}}
    with Relay(tmp_path, open_plan(("car", "home"), kinds=KINDS), changes=small) as relay:
        yield relay


def test_service_has_one_subscriber_and_others_need_its_secret(relay):
    with relay.agent("home", subscribe=True, secret="mine"):
        with pytest.raises(SentRefusedError):
            relay.agent("home", secret="guess")
        with pytest.raises(SentRefusedError, match="has a subscriber"):
            relay.agent("home", subscribe=True, secret="mine")
        relay.agent("home", secret="mine").close()


def test_nobody_sends_as_another_node_or_too_much(relay):
    with relay.agent("car") as car, pytest.raises((NoDoorError, SentRefusedError)):
        car.send(relay.eid("home"), bytes(200_000))
    with pytest.raises(SentRefusedError):
        Agent(relay.configs["car"].door, 0)
    assert relay.counted("car", "refused/DoorError", 2)


def talk(relay, *said):
    """Say something at the car's door; return what it answered after its welcome."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5.0)
        line.connect(relay.configs["car"].door)
        for data in said:
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        heard = bytearray()
        while piece := line.recv(65_536):
            heard += piece
    return bytes(heard)


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\x80\x80\x10",
        b"\x05nonsense",
        aap2.framed(AAPMessage(keepalive={})),
        aap2.framed(AAPMessage(config={"endpoint_id": "ipn:99.1"})),
        aap2.framed(AAPMessage(config={"endpoint_id": "ipn:x"})),
    ],
)
def test_what_is_no_aap_is_answered_with_a_refusal_and_counted(relay, said):
    heard = talk(relay, said)
    assert heard[:1] == aap2.MAGIC
    assert aap2.framed(AAPResponse(response_status=aap2.INVALID_REQUEST))[1:3] in heard
    assert any(name.startswith("refused/") for name in relay.counts("car"))


def test_lengths_are_read_as_they_are_written():
    for size in (0, 1, 127, 128, 300, 65_536):
        message = AAPResponse(reason="x" * size)
        data, length, reading, at = aap2.framed(message), None, aap2.Length(), 0
        if len(data) > aap2.MAX_MESSAGE:
            continue
        while length is None:
            length, at = reading.take(data[at]), at + 1
        assert aap2.parsed(AAPResponse, data[at : at + length]) == message
    with pytest.raises(DoorError):
        aap2.parsed(AAPResponse, b"\xff\xff")


def test_tools_of_ud3tn_send_and_receive_at_our_door(relay):
    doors = {name: config.door for name, config in relay.configs.items()}
    with relay.agent("home", 42, subscribe=True) as inbox:
        interop(PEER, "aap2_send", "--socket", doors["car"], "-a", "7", "ipn:2.42", "from afar")
        [got] = take(inbox, 1)
    assert (got.payload, got.source) == (b"from afar", "ipn:1.7")
    with relay.agent("car") as car:
        car.send("ipn:2.43", b"and back")
    assert relay.counted("car", "forwarded", 2)
    told = interop(PEER, "aap2_receive", "--socket", doors["home"], "-a", "43", "-c", "1")
    assert "and back" in told
