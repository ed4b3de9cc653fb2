"""What a node has taken is still there after kill -9, once."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from fleet.orbit.blocks import BlockType, BundleFlags, Timestamp
from fleet.orbit.bundle import create, decode, forwarded
from fleet.orbit.carriage import BULK, URGENT, Carriage
from fleet.orbit.eid import Eid
from fleet.orbit.errors import MalformedBundleError
from fleet.orbit.fragment import fragment, reassemble
from fleet.orbit.store import REMEMBER_NS, Store, StoreFullError, StoreUnusableError

NOW = 1_767_225_600 * 10**9
CAR, HOME = Eid.parse("ipn:1.1"), Eid.parse("ipn:3.1")


def bundle(n=0, payload=b"clip", lifetime_s=60, priority=1, now_ns=NOW):
    made = create(
        CAR,
        HOME,
        payload,
        created=Timestamp((now_ns - 946_684_800 * 10**9) // 10**6, n),
        lifetime_ms=lifetime_s * 1_000,
    )
    return Carriage(priority=priority).onto(made)


def test_urgent_goes_first_then_what_expires_first(tmp_path):
    store = Store(tmp_path / "node.db")
    store.put(bundle(1, priority=BULK, lifetime_s=10), "forward", NOW)
    store.put(bundle(2, lifetime_s=90), "forward", NOW)
    store.put(bundle(3, lifetime_s=30), "forward", NOW)
    store.put(bundle(4, priority=URGENT), "forward", NOW)
    assert [h.id[-1] for h in store.held("forward")] == ["4", "3", "2", "1"]


def test_copy_is_known_also_after_the_bundle_has_gone_on(tmp_path):
    store = Store(tmp_path / "node.db")
    assert store.put(bundle(), "forward", NOW, "sat-0-0")
    assert not store.put(bundle(), "forward", NOW, "sat-0-1")
    store.done(bundle().id, "forwarded", NOW)
    assert not store.put(bundle(), "forward", NOW, "sat-0-0")
    assert store.counts() == {"duplicate": 2, "forwarded": 1}


def test_bundle_that_comes_round_is_ours_again_but_is_delivered_once(tmp_path):
    store = Store(tmp_path / "node.db")
    round_trip = forwarded(bundle(), Eid.parse("ipn:9.0"), 0)
    assert store.put(bundle(), "forward", NOW)
    store.done(bundle().id, "forwarded", NOW)
    assert store.put(round_trip, "forward", NOW, "sat-0-0")
    end = Store(tmp_path / "end.db")
    assert end.put(bundle(), "deliver", NOW, "sat-0-0")
    end.done(bundle().id, "delivered", NOW)
    assert not end.put(round_trip, "deliver", NOW, "sat-0-1")


def test_full_store_refuses_by_name_and_keeps_what_it_has(tmp_path):
    store = Store(tmp_path / "node.db", quota_bytes=2_500)
    store.put(bundle(1, b"x" * 1_000), "forward", NOW)
    store.put(bundle(2, b"x" * 1_000), "forward", NOW)
    with pytest.raises(StoreFullError, match="offer it again"):
        store.put(bundle(3, b"x" * 1_000), "forward", NOW)
    assert len(store.held("forward")) == 2
    store.done(bundle(1).id, "forwarded", NOW)
    assert store.put(bundle(3, b"x" * 1_000), "forward", NOW)


def test_expired_goes_and_its_name_a_while_later(tmp_path):
    store = Store(tmp_path / "node.db")
    store.put(bundle(lifetime_s=60), "forward", NOW)
    assert store.expire(NOW + 59 * 10**9) == []
    [(held, data)] = store.expire(NOW + 60 * 10**9)
    assert decode(data).id == held.id
    assert not store.put(bundle(), "forward", NOW)
    store.expire(NOW + 60 * 10**9 + REMEMBER_NS)
    assert store.put(bundle(), "forward", NOW)


def test_fragments_take_the_place_of_a_bundle_and_the_bundle_theirs(tmp_path):
    store = Store(tmp_path / "node.db", quota_bytes=3_000)
    whole = bundle(payload=os.urandom(2_500))
    store.put(whole, "forward", NOW)
    pieces = fragment(whole, 1_000)
    store.cut(store.held("forward")[0], pieces, NOW)
    assert [h.whole for h in store.held("forward")] == [whole.id] * len(pieces)
    end = Store(tmp_path / "end.db")
    for piece in pieces:
        end.put(piece, "gather", NOW, "sat-0-0")
        assert not end.put(piece, "gather", NOW, "sat-0-1")
    back = reassemble([decode(end.data(h.id)) for h in end.held("gather", whole.id)])
    assert back.payload == whole.payload
    assert back.block(BlockType.HOP_COUNT)
    assert end.join(back, NOW, "sat-0-0")
    assert [h.id for h in end.held("deliver")] == [whole.id]
    assert not end.put(pieces[0], "gather", NOW, "sat-0-1")


def test_timestamps_are_never_given_twice_also_when_the_clock_goes_back(tmp_path):
    store = Store(tmp_path / "node.db")
    given = [store.stamp(NOW), store.stamp(NOW), store.stamp(NOW - 60 * 10**9)]
    store.close()
    given.append(Store(tmp_path / "node.db").stamp(NOW - 60 * 10**9))
    assert len(set(given)) == 4
    assert given == sorted(given)


def test_file_that_is_no_store_is_refused_by_name(tmp_path):
    (tmp_path / "node.db").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(StoreUnusableError, match="move it away"):
        Store(tmp_path / "node.db")


def test_carriage_that_says_strange_things_is_refused(tmp_path):
    good = bundle(priority=URGENT)
    assert Carriage.of(good).priority == URGENT
    block = good.block(192)
    for data in (b"\x82\x03\x80", b"\x82\x01\x81\x62us", b"\x01", b"\x82\x01\x81\x01"):
        with pytest.raises(MalformedBundleError):
            Carriage.of(good.put(replace(block, data=data)))
    assert not good.primary.flags & BundleFlags.FRAGMENT


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_orbit_store import NOW, bundle
from fleet.orbit.store import Store
store = Store(Path(sys.argv[1]))
for n in range(int(store.counts().get("last", 0)), 100_000):
    store.put(bundle(n), "forward", NOW)
    print(n, flush=True)
"""


def test_what_was_said_to_be_kept_is_there_after_kill_9(tmp_path):
    told = []
    here = os.path.dirname(__file__)
    root = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "node.db"), root, here],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(20):
            told.append(int(process.stdout.readline()))
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
    ids = [h.id for h in Store(tmp_path / "node.db").held("forward")]
    assert len(ids) == len(set(ids))
    assert {bundle(n).id for n in told} <= set(ids)
    assert len(ids) <= len(set(told)) + 2
