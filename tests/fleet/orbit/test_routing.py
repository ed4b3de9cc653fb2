"""Contact-graph routing against brute force over every way there is."""

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.orbit.plan import Contact, ContactPlan, PlanNode, PlanUnreadableError, UnknownNodeError
from fleet.orbit.routing import Booked, Router, Wish, consumption
from vehicle.contracts import wire

S = 10**9
NAMES = "abcde"


def contact(source, target, start_s, end_s, rate_bps=8_000, light_us=0):
    return Contact(
        source=source,
        target=target,
        start_utc_ns=start_s * S,
        end_utc_ns=end_s * S,
        rate_bps=rate_bps,
        light_us=light_us,
    )


def plan_of(*contacts, countries=None):
    countries = countries or {}
    nodes = tuple(
        PlanNode(
            name=n,
            number=i + 1,
            kind="ground" if n in countries else "satellite",
            country=countries.get(n, ""),
        )
        for i, n in enumerate(NAMES)
    )
    ordered = tuple(sorted(contacts, key=lambda c: c.start_utc_ns))
    return ContactPlan(
        name="test", start_utc_ns=0, end_utc_ns=10_000 * S, nodes=nodes, contacts=ordered
    )


def wish(size_bytes=900, **changes):
    facts = {"source": "a", "target": "e", "ready_utc_ns": 0, "expires_utc_ns": 9_999 * S}
    return Wish(**(facts | {"size_bytes": size_bytes} | changes))


def brute(plan, asked, booked):
    """Return the earliest arrival over every sequence of nodes and every choice of contacts."""
    best = None
    middle = [n for n in NAMES if n not in (asked.source, asked.target)]
    for length in range(len(middle) + 1):
        for between in permutations(middle, length):
            way = [asked.source, *between, asked.target]
            times = {asked.ready_utc_ns}
            for here, there in pairwise(way):
                after = set()
                for c in plan.contacts:
                    if (c.source, c.target) != (here, there):
                        continue
                    for ready in times:
                        begin = max(ready, c.start_utc_ns, booked.until_utc_ns.get(c, 0))
                        bits = consumption(asked.size_bytes) * 8
                        end = begin + -(-bits * S // c.rate_bps)
                        if end <= c.end_utc_ns:
                            after.add(end + c.light_us * 1_000)
                times = after
            arrived = [t for t in times if t < asked.expires_utc_ns]
            best = min([*arrived, *([] if best is None else [best])], default=None)
    return best


contacts = st.builds(
    lambda pair, start, length, rate, light: contact(
        *pair, start, start + length, rate_bps=rate, light_us=light
    ),
    st.sampled_from(list(permutations(NAMES, 2))),
    st.integers(0, 40),
    st.integers(1, 30),
    st.sampled_from([800, 4_000, 8_000, 80_000]),
    st.sampled_from([0, 5_000, 250_000]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(contacts, max_size=10, unique=True),
    st.integers(1, 3_000),
    st.integers(0, 20),
    st.integers(10, 80),
    st.lists(st.integers(0, 60), max_size=10),
)
def test_first_arrival_is_that_of_brute_force(found, size, ready_s, expires_s, busy):
    plan, booked = plan_of(*found), Booked()
    for c, until_s in zip(plan.contacts, busy, strict=False):
        booked.until_utc_ns[c] = until_s * S
    asked = wish(size, ready_utc_ns=ready_s * S, expires_utc_ns=expires_s * S)
    route = Router(plan).route(asked, booked)
    assert (route.arrive_utc_ns if route else None) == brute(plan, asked, booked)


@settings(max_examples=100, deadline=None)
@given(st.lists(contacts, min_size=1, max_size=10, unique=True), st.integers(1, 2_000))
def test_what_is_promised_never_exceeds_what_a_contact_carries(found, size):
    plan, booked = plan_of(*found), Booked()
    router, used = Router(plan), {}
    for _ in range(30):
        route = router.route(wish(size), booked)
        if route is None:
            break
        booked.add(route)
        for leg in route.legs:
            used[leg.contact] = used.get(leg.contact, 0) + consumption(size)
    assert all(total <= c.size_bytes for c, total in used.items())


def test_waiting_for_a_later_direct_contact_loses_to_two_hops():
    plan = plan_of(contact("a", "e", 100, 110), contact("a", "b", 0, 10), contact("b", "e", 20, 30))
    route = Router(plan).route(wish())
    assert route.hops == ("b", "e")
    assert route.arrive_utc_ns == 21 * S


def test_second_bundle_waits_behind_the_first_and_the_third_takes_another_way():
    plan = plan_of(contact("a", "e", 0, 2, 8_000), contact("a", "e", 50, 60))
    router, booked = Router(plan), Booked()
    arrivals = []
    for _ in range(3):
        route = router.route(wish(), booked)
        booked.add(route)
        arrivals.append(route.arrive_utc_ns // S)
    assert arrivals == [1, 2, 51]


def test_bundle_that_may_not_land_abroad_waits_for_a_station_at_home():
    plan = plan_of(
        contact("a", "b", 0, 10),
        contact("b", "e", 20, 30),
        contact("a", "c", 100, 110),
        contact("c", "e", 200, 210),
        countries={"b": "NZ", "c": "US"},
    )
    assert Router(plan).route(wish()).hops == ("b", "e")
    assert Router(plan).route(wish(lands_in={"US"})).hops == ("c", "e")
    assert Router(plan).route(wish(lands_in={"DE"})) is None
    assert Router(plan).route(wish(without={"b"})).hops == ("c", "e")


def test_bundle_larger_than_every_contact_is_cut_to_what_the_first_route_takes():
    plan = plan_of(contact("a", "b", 0, 10), contact("b", "e", 20, 25), contact("a", "e", 90, 99))
    router, booked, left, sizes = Router(plan), Booked(), 13_000, []
    while left:
        found = router.fitting(wish(left), booked)
        if found is None:
            break
        route, size = found
        booked.add(route)
        sizes.append(size)
        left -= size
    assert sum(sizes) == 13_000
    assert sizes[0] == max(n for n in range(6_000) if consumption(n) <= 5_000)


def test_unknown_node_and_unreadable_plan_are_refused_by_name(tmp_path):
    plan = plan_of()
    with pytest.raises(UnknownNodeError):
        Router(plan).route(wish(target="z"))
    path = tmp_path / "plan.json"
    with pytest.raises(PlanUnreadableError, match="roadloop fleet orbit plan"):
        ContactPlan.read(path)
    wire.atomic_write(path, wire.to_bytes(plan))
    assert ContactPlan.read(path) == plan
    path.write_bytes(wire.to_bytes(plan).replace(b'"number":2', b'"number":1'))
    with pytest.raises(PlanUnreadableError, match="one number"):
        ContactPlan.read(path)
