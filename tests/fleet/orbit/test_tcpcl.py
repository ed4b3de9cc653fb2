"""Messages of TCPCLv4 are read back as they were written, and transfers put together as cut."""

import asyncio

import pytest
from bundle_parts import RELAY
from hypothesis import given
from hypothesis import strategies as st

from fleet.orbit.tcpcl import (
    END,
    START,
    Ack,
    Item,
    Keepalive,
    Message,
    ProtocolError,
    Refusal,
    Refuse,
    Reject,
    Segment,
    SessInit,
    Terminate,
    read_message,
)
from fleet.orbit.transfers import Receiver, segments

BYTE, LONG = st.integers(0, 255), st.integers(0, 2**64 - 1)
ITEMS = st.lists(st.builds(Item, st.integers(0, 65535), st.binary(max_size=20), BYTE), max_size=4)
MESSAGES = st.one_of(
    st.builds(
        *(SessInit, st.integers(0, 65535), LONG, LONG, st.text(max_size=40)), ITEMS.map(tuple)
    ),
    st.builds(Segment, st.sampled_from((START, START | END)), LONG, st.binary(), ITEMS.map(tuple)),
    st.builds(Segment, st.sampled_from((0, END)), LONG, st.binary()),
    st.builds(Ack, BYTE, LONG, LONG),
    st.builds(Refuse, BYTE, LONG),
    st.builds(Terminate, BYTE, BYTE),
    st.builds(Reject, BYTE, BYTE),
    st.just(Keepalive()),
)


def read(data: bytes, most_bytes: int = 1 << 20) -> Message:
    async def scene() -> Message:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_message(reader.readexactly, most_bytes)

    return asyncio.run(scene())


@given(MESSAGES)
def test_a_message_is_read_back(message: Message) -> None:
    assert read(message.to_bytes()) == message


@given(MESSAGES, st.data())
def test_a_message_that_is_cut_is_never_read_as_another(
    message: Message, data: st.DataObject
) -> None:
    whole = message.to_bytes()
    with pytest.raises((asyncio.IncompleteReadError, ProtocolError)):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=5_000), st.integers(1, 700))
def test_a_bundle_in_segments_is_the_same_bundle(data: bytes, size_bytes: int) -> None:
    receiver, cut = Receiver(RELAY, 5_000), list(segments(7, data, size_bytes))
    assert [bool(s.flags & START) for s in cut] == [True] + [False] * (len(cut) - 1)
    *acks, whole = [receiver.take(segment, ending=False) for segment in cut]
    assert whole == data
    told = [Item(1, len(data).to_bytes(8))] if len(cut) > 1 else []
    assert [item for segment in cut for item in segment.items] == told
    assert [a.length_bytes for a in acks] == [size_bytes * (n + 1) for n in range(len(acks))]
    assert receiver.is_busy  # until it is kept
    assert receiver.kept(cut[-1], data) == Ack(cut[-1].flags, 7, len(data))
    assert not receiver.is_busy


def test_no_transfer_begins_once_the_end_is_said() -> None:
    receiver = Receiver(RELAY, 100)
    assert receiver.take(Segment(START, 1, b"x"), ending=False) == Ack(START, 1, 1)
    assert receiver.take(Segment(END, 1, b"y"), ending=True) == b"xy"
    receiver.kept(Segment(END, 1, b"y"), b"xy")
    refused = receiver.take(Segment(START, 2, b"z"), ending=True)
    assert refused == Refuse(Refusal.SESSION_TERMINATING, 2)


def test_what_was_under_way_of_a_refused_transfer_passes_up_to_its_end() -> None:
    receiver, many = Receiver(RELAY, 100), next(segments(1, bytes(101), 50))
    assert receiver.take(many, ending=False) == Refuse(Refusal.NO_RESOURCES, 1)
    for flags in (0, 0, END):
        assert receiver.take(Segment(flags, 1, bytes(50)), ending=False) is None
    with pytest.raises(ProtocolError, match="no transfer"):
        receiver.take(Segment(0, 1, b"more"), ending=False)


def test_as_much_as_is_taken_is_taken() -> None:
    receiver = Receiver(RELAY, 100)
    first, last = segments(1, bytes(100), 50)
    assert receiver.take(first, ending=False) == Ack(START, 1, 50)
    assert receiver.take(last, ending=False) == bytes(100)
