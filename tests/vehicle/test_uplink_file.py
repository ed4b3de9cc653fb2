"""One outbox against a home in memory that does what real ones do now and then."""

import hashlib
import os
import shutil

import pytest
from fakes_clip import put_in_outbox
from fakes_home import PART, URL, FakeHome, identity

from vehicle.clock import FakeClock
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.uplink import Inbox
from vehicle.outbox import Outbox, UplinkBusyError
from vehicle.uplink import Left, Uplink, UplinkReport
from vehicle.uplink_policy import Link

CONTENT = hashlib.shake_256(b"clip").digest(5 * PART + 77)
SHA = hashlib.sha256(CONTENT).hexdigest()
DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def car(tmp_path):
    folder = tmp_path / "cars" / "car-1"
    put_in_outbox(folder / "outbox", CONTENT)
    return folder


@pytest.fixture
def home():
    return FakeHome()


def send(car, home, **more) -> UplinkReport:
    facts = {"clock": FakeClock(), "identity": identity(car / "identity"), "gateway_url": URL}
    with Uplink(car_folder=car, transport=home, **facts | more) as link:
        return link.send_all()


def parts_put(home) -> list[int]:
    return [int(path.rsplit("/", 1)[1]) for verb, path in home.asked if "/parts/" in path]


def test_summary_goes_first_then_the_parts_then_the_manifest(car, home):
    report = send(car, home)
    assert report == UplinkReport(sent=(SHA,), sent_bytes=len(CONTENT), left=(), told=(SHA,))
    assert home.whole == {SHA: CONTENT}
    kinds = [path.removeprefix("/v1/cars/car-1").split("/")[1] for _, path in home.asked]
    parts = ["parts"] * 6
    assert kinds == ["inbox", "summaries", "clips", "uploads", *parts, "uploads", "clips"]
    assert list((car / "outbox").iterdir()) == []


def test_only_missing_parts_go_after_a_kill(car, home):
    home.answers = {("PUT", r"/parts/.*/4"): [0] * 6}
    first = send(car, home)
    assert first.error.startswith("GatewayDownError: https://home: ReadError")
    assert (car / "outbox" / SHA / ".begun").is_file()
    home.asked.clear()
    second = send(car, home)
    assert (second.sent, second.sent_bytes) == ((SHA,), len(CONTENT) - 3 * PART)
    assert parts_put(home) == [4, 5, 6]
    assert "/v1/cars/car-1/summaries" not in {path.rpartition("/")[0] for _, path in home.asked}


@pytest.mark.parametrize("good_for", [1, 2, 4])
def test_address_that_grew_old_is_asked_for_anew_and_nothing_goes_twice(car, home, good_for):
    home.good_for = good_for
    assert send(car, home).sent_bytes == len(CONTENT)
    assert home.grants == -(-6 // good_for)


def test_store_elsewhere_gets_the_parts_and_the_gateway_all_else(car):
    home = FakeHome(store="https://store.example/parts")
    assert send(car, home).sent == (SHA,)
    assert home.hosts["store.example"] == 6


def test_part_spoilt_on_the_way_goes_again(car, home):
    class Spoil(FakeHome):
        spoilt = 0

        def handle_request(self, request):
            if "/parts/" in request.url.path and not self.spoilt:
                self.spoilt = 1
                return super()._parts(request.method, "", spoil(request))
            return super().handle_request(request)

    def spoil(request):
        request._content = b"\0" * len(request.content)
        return request

    home = Spoil()
    assert send(car, home).sent == (SHA,)
    assert (home.spoilt, home.whole) == (1, {SHA: CONTENT})


def test_home_that_lost_a_part_is_given_it_again(car, home):
    class Forgets(FakeHome):
        forgot = False

        def _complete(self, sha256, body):
            if not self.forgot:
                self.forgot = bool(self.parts[sha256].pop(3))
            return super()._complete(sha256, body)

    home = Forgets()
    report = send(car, home)
    assert (report.sent, report.sent_bytes) == ((SHA,), len(CONTENT) + PART)


def test_home_that_never_takes_a_clip_is_named_and_the_next_clip_goes(car, home):
    other = put_in_outbox(car / "outbox", b"small").clip_id
    home.answers = {("POST", f"{SHA}/complete"): [422] * 99}
    report = send(car, home)
    assert (report.sent, report.error) == ((other,), "")
    assert report.left == (
        Left(
            clip_id=SHA,
            reason="ClipRefusedError: clip.mcap does not get there: home does not find the whole "
            "in its parts",
        ),
    )
    assert (car / "outbox" / SHA / "clip.mcap").read_bytes() == CONTENT


def test_home_may_change_the_size_of_its_parts(car, home):
    class Larger(FakeHome):
        def _inbox(self, method, rest, request):
            answer = super()._inbox(method, rest, request)
            self.inbox = Inbox(part_bytes=3000)
            return answer

    home = Larger()
    assert send(car, home).sent == (SHA,)
    assert parts_put(home) == [1, 2]


def test_clip_evicted_between_listing_and_sending_is_no_error(car, home):
    class Evicts(FakeHome):
        def _summaries(self, method, clip_id, request):
            shutil.rmtree(car / "outbox" / SHA)
            return super()._summaries(method, clip_id, request)

    report = send(car, Evicts())
    assert (report.sent, report.left, report.error) == ((), (), "")
    put_in_outbox(car / "outbox", CONTENT)

    class EvictsLater(FakeHome):
        def _uploads(self, method, rest, request):
            shutil.rmtree(car / "outbox" / SHA, ignore_errors=True)
            return super()._uploads(method, rest, request)

    assert send(car, EvictsLater()).sent == (SHA,)  # held open: it gets home all the same


def test_metered_link_carries_summaries_and_home_may_ask_for_the_clip_later(car, home):
    report = send(car, home, link=Link(kind="cellular"))
    assert (report.told, report.sent) == ((SHA,), ())
    (left,) = report.left
    assert (left.waits, report.refused) == (True, False)
    assert left.reason.startswith("waits for wifi: priority 0")
    home.inbox = Inbox(part_bytes=PART, wanted=(SHA,))
    assert send(car, home, link=Link(kind="cellular", metered=True)).sent == ()
    assert send(car, home, link=Link(kind="cellular")).sent == (SHA,)


def test_home_may_want_a_clip_as_soon_as_it_has_the_summary(car, home):
    home.wants_now = {SHA}
    assert send(car, home, link=Link(kind="cellular")).sent == (SHA,)


def test_recorders_summary_is_what_home_is_told(car, home):
    folder = car / "outbox" / SHA
    manifest = Outbox(car, "car-1").clips()[0][SHA].manifest
    summary = ClipSummary(manifest=manifest, value=3.5, facts={"min_ttc_s": 0.7})
    (folder / "summary.json").write_bytes(wire.to_bytes(summary))
    send(car, home)
    assert home.summaries[SHA] == summary
    put_in_outbox(car / "outbox", b"other")
    (car / "outbox" / hashlib.sha256(b"other").hexdigest() / "summary.json").write_bytes(b"{")
    assert len(send(car, home).told) == 1


def test_budget_of_a_link_is_kept_across_runs_and_comes_back_after_a_day(car, home):
    sizes = [len(CONTENT), 4000, 3000]
    for size in sizes[1:]:
        put_in_outbox(car / "outbox", os.urandom(size))
    clock, link = FakeClock(), Link(day_bytes=sum(sizes) - 1)
    sent = [len(send(car, home, clock=clock, link=link).sent) for _ in range(2)]
    assert sent == [2, 0]
    clock.advance_ns(DAY_NS)
    assert len(send(car, home, clock=clock, link=link).sent) == 1


def test_clip_that_was_begun_is_paid_for_and_may_be_finished(car, home):
    link = Link(day_bytes=len(CONTENT))
    home.answers = {("PUT", r"/parts/.*/4"): [0] * 6}
    assert send(car, home, link=link).error
    assert send(car, home, link=link).sent == (SHA,)
    put_in_outbox(car / "outbox", b"x")
    assert send(car, home, link=link).left[0].reason.startswith("waits for tomorrow")


def test_jump_of_the_utc_clock_breaks_neither_waits_nor_budgets(car, home):
    class Jumps(FakeClock):
        def sleep_until(self, mono_ns):
            super().sleep_until(mono_ns)
            self._utc_offset_ns -= 400 * DAY_NS

    home.answers = {("PUT", r"/parts/.*/2"): [503] * 5}
    clock = Jumps()
    report = send(car, home, clock=clock)
    assert report.sent == (SHA,)
    assert clock.mono_ns() < 120e9
    put_in_outbox(car / "outbox", b"next")
    assert len(send(car, home, clock=FakeClock(), link=Link(day_bytes=6000)).sent) == 1


def test_receipt_without_room_waits_for_nothing_but_the_clip(car, home, monkeypatch):
    written = wire.atomic_write

    def full(path, data):
        if (car / "outbox" / SHA / "clip.mcap").exists():
            raise OSError(28, "No space left on device")
        written(path, data)

    monkeypatch.setattr(wire, "atomic_write", full)
    assert send(car, home).sent == (SHA,)
    assert (car / "sent" / f"{SHA}.json").is_file()


def test_what_a_killed_uplink_left_is_tidied_away(car, home):
    send(car, home)
    half = car / "sent" / ".spent.jsonl.77.part"
    half.write_bytes(b"{")
    rest = car / "outbox" / SHA
    rest.mkdir()
    (rest / "clip.mcap").write_bytes(CONTENT)  # the receipt is there, the manifest is gone
    assert send(car, home) == UplinkReport(sent=(), sent_bytes=0, left=())
    assert not half.exists()
    assert not rest.exists()


def test_second_uplink_of_a_car_is_refused(car, home):
    with (
        Uplink(
            car_folder=car,
            transport=home,
            clock=FakeClock(),
            gateway_url=URL,
            identity=identity(car / "identity"),
        ),
        pytest.raises(UplinkBusyError, match="another uplink sends for"),
    ):
        send(car, home)


def test_gateway_address_without_https_is_refused(car, home):
    with pytest.raises(wire.ContractError, match="expected https://HOST:PORT"):
        send(car, home, gateway_url="http://127.0.0.1:8787")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_certificate_is_named_and_the_clips_stay(car, home, status):
    home.answers = {("GET", "inbox"): [status]}
    report = send(car, home)
    assert report.error.startswith("UnauthorisedError: https://home refused the certificate of")
    assert (report.left[0].clip_id, report.left[0].waits) == (SHA, False)
    assert report.refused


def test_summary_that_home_refuses_holds_no_clip_back(car, home):
    home.answers = {("PUT", "summaries"): [413]}
    report = send(car, home)
    assert (report.sent, report.told) == ((SHA,), ())


def test_notes_of_what_was_spent_survive_half_a_line_and_do_not_grow_for_ever(car, home):
    send(car, home)
    ledger = car / "sent" / "spent.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole * 3_000 + b'\n{"schema":"cha')
    put_in_outbox(car / "outbox", b"next")
    clock = FakeClock()
    clock.advance_ns(2 * DAY_NS)
    assert len(send(car, home, clock=clock).sent) == 1
    Outbox(car, "car-1").close()
    lines = [line for line in ledger.read_bytes().splitlines() if line]
    assert len(lines) == 2
    outbox = Outbox(car, "car-1")
    assert outbox.spent("wifi", clock.utc_ns()).clip_bytes == 4
    outbox.close()
