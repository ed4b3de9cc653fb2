"""Nodes over real sockets and files: what they take they bring, the rest they name."""

import asyncio
import os
import random
import time

import pytest
from orbit_parts import Relay, S, open_plan, take

from fleet.orbit.agent import SentRefusedError
from fleet.orbit.blocks import REPORTS, Timestamp
from fleet.orbit.bundle import create, dtn_ms, encode
from fleet.orbit.convergence import Tcpcl
from fleet.orbit.eid import Eid
from fleet.orbit.status import Event, StatusReport
from fleet.orbit.transfers import TransferRefusedError
from vehicle.clock import SystemClock

CHAIN = (("car", "sat"), ("sat", "home"))
KINDS = {"car": ("vehicle", "US"), "home": ("ground", "US"), "abroad": ("ground", "NZ")}
PAIR = [("car", "home")]


def test_bundle_goes_over_a_satellite_signed_and_unread(tmp_path):
    with Relay(tmp_path, open_plan(*CHAIN, kinds=KINDS), keyed=PAIR) as relay:
        inbox = relay.agent("home", subscribe=True)
        secret = os.urandom(50_000)
        name = relay.agent("car").send(relay.eid("home"), secret)
        [got] = take(inbox, 1)
        assert (got.payload, got.proven, got.hops) == (secret, True, 2)
        assert got.id == name
        assert secret[:100] not in (tmp_path / "sat.db-wal").read_bytes()
        assert relay.counted("sat", "forwarded")


def test_large_bundle_is_cut_to_what_contacts_carry_and_comes_whole(tmp_path):
    ways = [("car", "sat", 0.8 + n, 1.6 + n) for n in range(9)]
    plan = open_plan(*ways, ("sat", "home"), kinds=KINDS, rate_bps=800_000)
    changes = {n: {"tolerance_s": 0.5} for n in ("car", "sat", "home")}
    with Relay(tmp_path, plan, keyed=PAIR, changes=changes) as relay:
        inbox = relay.agent("home", subscribe=True)
        payload = os.urandom(200_000)
        relay.agent("car").send(relay.eid("home"), payload)
        [got] = take(inbox, 1, timeout_s=20.0)
        assert got.payload == payload
        assert got.proven
        assert any(e.event == "cut" for e in relay.log("car"))
        assert any(e.event == "joined" for e in relay.log("home"))


def test_source_hears_what_became_of_its_bundle(tmp_path):
    with Relay(tmp_path, open_plan(*CHAIN, kinds=KINDS), keyed=PAIR) as relay:
        inbox, reports = (relay.agent(n, s, subscribe=True) for n, s in (("home", 1), ("car", 9)))
        relay.agent("car").send(
            relay.eid("home"), b"x", report_to=relay.eid("car", 9), reports=int(REPORTS)
        )
        take(inbox, 1)
        told = take(reports, 5)
        events = [e for r in told for e in StatusReport.from_bytes(r.payload).events]
        assert sorted(events) == [*[Event.RECEIVED] * 2, *[Event.FORWARDED] * 2, Event.DELIVERED]
        assert all(r.is_report for r in told)


def test_bundle_that_may_not_land_abroad_is_refused_or_waits(tmp_path):
    plan = open_plan(*CHAIN, ("sat", "abroad"), kinds=KINDS)
    with Relay(tmp_path, plan) as relay:
        car = relay.agent("car")
        with pytest.raises(SentRefusedError, match="ResidencyError"):
            car.send(relay.eid("abroad"), b"faces", lands_in=("US",))
        with pytest.raises(SentRefusedError, match="StrangerError"):
            car.send("ipn:99.1", b"faces")
        assert relay.counts("car")["refused/ResidencyError"] == 1
        assert relay.counts("car")["refused/StrangerError"] == 1


def test_expired_bundle_is_let_go_of_and_counted(tmp_path):
    with Relay(
        tmp_path, open_plan(("car", "sat"), ("sat", "home", 900, 999), kinds=KINDS)
    ) as relay:
        relay.agent("car").send(relay.eid("home"), b"x", lifetime_s=0.5)
        assert relay.counted("car", "expired")


def test_full_store_leaves_the_bundle_where_it_is(tmp_path):
    small = {"sat": {"quota_bytes": 3_000, "max_bundle_bytes": 3_000}}
    plan = open_plan(("car", "sat"), ("sat", "home", 2.0, 60.0), kinds=KINDS)
    with Relay(tmp_path, plan, changes=small) as relay:
        car = relay.agent("car")
        for _ in range(4):
            car.send(relay.eid("home"), bytes(1_000))
        assert relay.counted("sat", "refused/StoreFullError")
        inbox = relay.agent("home", subscribe=True)
        assert len(take(inbox, 4, timeout_s=25.0)) == 4


def forged(source, target, payload=b"forged", n=1, ago_s=0.0, lifetime_s=60.0):
    created = Timestamp(dtn_ms(SystemClock().utc_ns() - int(ago_s * S)), n)
    return create(
        Eid.parse(source),
        Eid.parse(target),
        payload,
        created=created,
        lifetime_ms=int(lifetime_s * 1e3),
    )


async def offer(relay, as_node, to, *bundles):
    """Offer bundles to a node as another; return the refusals."""

    async def nothing(data, peer):
        return None

    node = Eid.parse(relay.plan.node(as_node).eid) if as_node else Eid.parse("ipn:77.0")
    host, _, port = relay.configs[to].listen.rpartition(":")
    refused = []
    async with Tcpcl(node, nothing).connect(host, int(port)) as session:
        for data in bundles:
            try:
                await session.send(data)
            except TransferRefusedError as error:
                refused.append(error.reason)
    return refused


def test_forged_replayed_expired_oversized_and_early_bundles_are_counted_by_name(tmp_path):
    small = {"home": {"max_bundle_bytes": 100_000}}
    with Relay(tmp_path, open_plan(*CHAIN, kinds=KINDS), keyed=PAIR, changes=small) as relay:
        inbox = relay.agent("home", subscribe=True)
        relay.agent("car").send(relay.eid("home"), b"genuine")
        assert take(inbox, 1)[0].payload == b"genuine"
        car, home = relay.eid("car"), relay.eid("home")
        good = encode(forged(car, home))
        offered = [
            good,
            encode(forged(car, home, ago_s=120.0, n=2)),
            encode(forged(car, home, ago_s=-90.0, n=3)),
            good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
            encode(forged(car, home, bytes(200_000), n=4)),
        ]
        refused = asyncio.run(offer(relay, "sat", "home", *offered))
        assert len(refused) == 4
        assert len(asyncio.run(offer(relay, "", "home", good))) == 1
        counts = relay.counts("home")
        named = ("NoSecurityError", "ExpiredError", "FutureBundleError", "CrcMismatchError")
        assert {n: counts.get(f"refused/{n}") for n in named} == dict.fromkeys(named, 1)
        assert counts["refused/StrangerError"] == 1
        assert inbox.receive(timeout_s=0.3) is None


def test_replayed_bundle_is_delivered_once(tmp_path):
    with Relay(tmp_path, open_plan(*CHAIN, kinds=KINDS)) as relay:
        inbox = relay.agent("home", subscribe=True)
        one = encode(forged(relay.eid("car"), relay.eid("home")))
        assert asyncio.run(offer(relay, "sat", "home", one, one, one)) == []
        assert len(take(inbox, 2, timeout_s=1.0)) == 1
        assert asyncio.run(offer(relay, "sat", "home", one)) == []
        assert take(inbox, 1, timeout_s=0.5) == []
        assert relay.counts("home")["duplicate"] == 3


@pytest.mark.parametrize("off_s", [60.0, -60.0])
def test_node_whose_clock_is_off_by_a_minute_is_refused_and_loses_nothing(tmp_path, off_s):
    plan = open_plan(("car", "sat", -200.0, 600.0), ("sat", "home", -200.0, 600.0), kinds=KINDS)
    strict = {n: {"tolerance_s": 10.0} for n in ("car", "sat", "home")}
    wrong = strict | {"car": {"tolerance_s": 10.0, "clock_offset_s": off_s}}
    with Relay(tmp_path, plan, changes=wrong) as relay:
        relay.agent("car").send(relay.eid("home"), b"late but here", lifetime_s=30.0)
        if off_s > 0:
            assert relay.counted("sat", "refused/FutureBundleError")
            assert relay.counts("car")["refused-by-peer"] >= 1
        else:
            assert relay.counted("sat", "refused/ExpiredError")
        assert relay.held("car", "forward") == 1


def test_application_that_dies_before_it_has_said_so_gets_the_bundle_again(tmp_path):
    with Relay(tmp_path, open_plan(*CHAIN, kinds=KINDS)) as relay:
        relay.agent("car").send(relay.eid("home"), b"once")
        first = relay.agent("home", subscribe=True)
        got = first.receive(timeout_s=15.0)
        first.close()
        second = relay.agent("home", subscribe=True)
        assert take(second, 1)[0].id == got.id
        assert relay.counted("home", "delivered")


@pytest.mark.slow
def test_every_node_is_killed_again_and_again_and_nothing_is_lost_or_comes_twice(tmp_path):
    ways = (("car", "sat-a"), ("sat-a", "home"), ("car", "sat-b"), ("sat-b", "home"))
    plan, rng = open_plan(*ways, kinds=KINDS, rate_bps=8_000_000), random.Random(6)
    with Relay(tmp_path, plan, keyed=PAIR, apart=True) as relay:
        sent, got = [], []
        for victim in (n.name for n in plan.nodes):
            with relay.agent("car") as car:
                sent += [car.send(relay.eid("home"), os.urandom(60_000)) for _ in range(8)]
            time.sleep(rng.uniform(0.0, 0.4))
            relay.kill(victim)
            relay.start(victim)
            with relay.agent("home", subscribe=True) as inbox:
                got += take(inbox, 2, timeout_s=0.5)
        inbox = relay.agent("home", subscribe=True)
        while len({g.id for g in got}) < len(sent):
            more = take(inbox, 1, timeout_s=20.0)
            assert more, f"{len(sent) - len({g.id for g in got})} of {len(sent)} are missing"
            got += more
        assert take(inbox, 1, timeout_s=1.0) == []
        assert sorted(g.id for g in got) == sorted(sent)
