"""A node says what became of a bundle when it is asked to, and never about a report."""

import pytest
from bundle_parts import CAR, EIDS, RELAY, UINTS, clip
from hypothesis import given
from hypothesis import strategies as st

from fleet.orbit import cbor, errors
from fleet.orbit.blocks import BundleFlags, Timestamp
from fleet.orbit.bundle import decode, encode
from fleet.orbit.eid import Eid
from fleet.orbit.fragment import fragment
from fleet.orbit.status import Event, Reason, StatusReport, report_on

LATER = Timestamp(847_000_060_000, 1)
REPORTS = st.builds(
    StatusReport,
    events=st.dictionaries(st.sampled_from(Event), st.none() | UINTS),
    source=EIDS,
    created=st.builds(Timestamp, UINTS, UINTS),
    reason=st.integers(0, 300),
    place_bytes=st.none() | st.tuples(UINTS, UINTS),
)


@given(REPORTS)
def test_a_report_is_read_back(report: StatusReport) -> None:
    assert StatusReport.from_bytes(report.to_bytes()) == report


def test_a_delivery_is_reported_to_whom_the_bundle_names() -> None:
    asking = BundleFlags.REPORT_DELIVERY | BundleFlags.REPORT_TIME
    bundle = clip(flags=asking)
    report = report_on(bundle, Event.DELIVERED, RELAY, created=LATER)
    assert report is not None
    assert decode(encode(report)) == report
    assert report.primary.destination == CAR
    said = StatusReport.from_bytes(report.payload)
    assert said.events == {Event.DELIVERED: LATER.dtn_ms}
    assert (said.source, said.created) == (bundle.primary.source, bundle.primary.created)
    assert report_on(bundle, Event.FORWARDED, RELAY, created=LATER) is None


def test_no_time_is_told_where_none_is_asked_for_and_fragments_say_which() -> None:
    part = fragment(clip(bytes(900), flags=BundleFlags.REPORT_DELETION), 500)[1]
    report = report_on(part, Event.DELETED, RELAY, created=LATER, reason=Reason.LIFETIME_EXPIRED)
    assert report is not None
    said = StatusReport.from_bytes(report.payload)
    assert said.events == {Event.DELETED: None}
    assert said.reason is Reason.LIFETIME_EXPIRED or said.reason == 1
    assert part.primary.place is not None
    assert said.place_bytes == (part.primary.place.offset_bytes, len(part.payload))


def test_nobody_hears_of_a_report_or_when_nobody_is_named() -> None:
    record = clip(flags=BundleFlags.ADMINISTRATIVE)
    silent = clip(flags=BundleFlags.REPORT_DELIVERY, report_to=Eid.NONE)
    assert report_on(record, Event.DELETED, RELAY, created=LATER, unasked=True) is None
    assert report_on(silent, Event.DELIVERED, RELAY, created=LATER) is None


@pytest.mark.parametrize(
    "item",
    [
        [2, []],
        [1, [[[True]] * 3, 0, [1, 0], [0, 0]]],
        [1, [[[False, 5], [True], [False], [False]], 0, [1, 0], [0, 0]]],
        [1, [[[1], [True], [False], [False]], 0, [1, 0], [0, 0]]],
        [1, [[[True]] * 4, 0, [1, 0], [0, 0], 5]],
        7,
    ],
)
def test_what_is_no_report_is_refused(item: object) -> None:
    with pytest.raises(errors.MalformedBundleError):
        StatusReport.from_bytes(cbor.dumps(item))
