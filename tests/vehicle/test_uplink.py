import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import pytest
from fakes_clip import GatewayProcess, put_in_outbox
from hypothesis import given
from hypothesis import strategies as st

from fleet.landing import Landing, Uploads
from fleet.registry import Registry
from vehicle.clock import FakeClock
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, UploadBudget
from vehicle.contracts.home import Home
from vehicle.uplink import PIECE_BYTES, Uplink, UplinkReport
from vehicle.uplink_policy import Spent, Verdict, Waiting, judge, plan_sending, wait_s

CONTENT = hashlib.shake_256(b"clip").digest(3 * PIECE_BYTES + 77)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def outbox(home):
    return home.car("car-1") / "outbox"


@pytest.fixture
def token(home):
    return Registry(home).enrol("car-1", "")


def send(outbox, url, token, **more) -> UplinkReport:
    facts = {"outbox": outbox, "gateway_url": url, "car_id": "car-1", "token": token}
    with Uplink(**facts, clock=more.pop("clock", FakeClock()), **more) as link:
        return link.send_all()


def landed(home) -> list[str]:
    clips = list(Landing(home).clips())
    for folder, clip in clips:
        found = hashlib.sha256((folder / "clip.mcap").read_bytes()).hexdigest()
        assert found == clip.clip_id
    return [clip.clip_id for _, clip in clips]


class Cut(httpx.BaseTransport):
    """A link that breaks before or after the n-th request reached the other side."""

    def __init__(self, at: int, *, after: bool, times: int = 1) -> None:
        self._link = httpx.HTTPTransport()
        self._breaks = set(range(at, at + times))
        self._after, self._count = after, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._count += 1
        if self._count not in self._breaks:
            return self._link.handle_request(request)
        if self._after:
            self._link.handle_request(request).close()
        raise httpx.ReadError("the link broke", request=request)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4), st.booleans()), max_size=12),
    st.integers(0, 8),
    st.integers(0, 200),
)
def test_every_clip_is_sent_or_held_and_the_budget_is_kept(clips, max_clips, max_bytes):
    waiting = [
        Waiting(clip_id=str(i), size_bytes=size, events=events, created_utc_ns=i, begun=begun)
        for i, (size, events, begun) in enumerate(clips)
    ]
    budget = UploadBudget(max_clips=max_clips, max_bytes=max_bytes)
    plan = plan_sending(waiting, Spent(clips=1, bytes=10), budget)
    assert sorted([*plan.send, *(c for c, _ in plan.hold)]) == sorted(c.clip_id for c in waiting)
    assert not plan.send or 1 + len(plan.send) <= max_clips
    sent_bytes = sum(waiting[int(c)].size_bytes for c in plan.send)
    assert not plan.send or 10 + sent_bytes <= max_bytes


def test_begun_clips_go_first_then_those_with_more_events_then_older_ones():
    def clip(name: str, events: int, utc_ns: int, begun: bool = False) -> Waiting:
        return Waiting(
            clip_id=name, size_bytes=1, events=events, created_utc_ns=utc_ns, begun=begun
        )

    waiting = [clip("old", 1, 1), clip("new", 1, 2), clip("rich", 3, 9), clip("cut", 1, 5, True)]
    assert plan_sending(waiting, Spent(), UploadBudget()).send == ("cut", "rich", "old", "new")


@given(st.integers(1, 60), st.floats(0.0, 1.0))
def test_waits_grow_and_are_bounded(attempt, jitter):
    assert 0.1 <= wait_s(attempt, jitter) <= 20.0


def test_refusals_are_never_taken_for_done():
    verdicts = {s: judge(s) for s in (200, 201, 204, 401, 403, 404, 409, 412, 413, 422, 429, 507)}
    assert [s for s, v in verdicts.items() if v is Verdict.DONE] == [200, 201, 204]
    assert verdicts[401] is verdicts[403] is Verdict.UNAUTHORISED
    assert verdicts[429] is verdicts[507] is Verdict.RETRY


def test_clip_goes_home_once_and_a_receipt_stays(home, outbox, token):
    put_in_outbox(outbox, CONTENT)
    with GatewayProcess(home.root) as gateway:
        first = send(outbox, gateway.url, token)
        second = send(outbox, gateway.url, token)
    assert first == UplinkReport(sent=(SHA,), sent_bytes=len(CONTENT), left=())
    assert second == UplinkReport(sent=(), sent_bytes=0, left=())
    assert landed(home) == [SHA]
    assert list(outbox.iterdir()) == []
    assert (outbox.parent / "sent" / f"{SHA}.json").is_file()


@pytest.mark.parametrize("after", [False, True])
def test_link_cut_at_any_request_delays_and_loses_nothing(home, outbox, token, after):
    with GatewayProcess(home.root) as gateway:
        for at in range(1, 9):
            content = CONTENT + bytes([at])
            put_in_outbox(outbox, content)
            report = send(outbox, gateway.url, token, transport=Cut(at, after=after))
            assert (len(report.sent), report.left) == (1, ())
    assert len(landed(home)) == 8
    assert Uploads(home, "car-1").pending_bytes() == 0


def test_gateway_down_is_reported_and_the_clip_stays(home, outbox, token):
    put_in_outbox(outbox, CONTENT)
    clock = FakeClock()
    report = send(outbox, "http://127.0.0.1:9", token, clock=clock)
    assert report.error.startswith("GatewayDownError: http://127.0.0.1:9: ConnectError")
    assert [c.clip_id for c in report.left] == [SHA]
    assert (outbox / SHA / "clip.mcap").read_bytes() == CONTENT
    assert 0.5e9 <= clock.mono_ns() <= 120e9


def test_wrong_token_is_reported_by_name_and_the_clip_stays(home, outbox, token):
    put_in_outbox(outbox, CONTENT)
    other = Registry(home).enrol("car-2", "")
    with GatewayProcess(home.root) as gateway:
        for wrong in ("nonsense", other):
            report = send(outbox, gateway.url, wrong)
            assert report.error.startswith("UnauthorisedError: ")
            assert report.left[0].clip_id == SHA
    assert (outbox / SHA / "manifest.json").is_file()
    assert landed(home) == []


def test_damaged_clip_stays_with_its_reason_and_the_others_go(home, outbox, token):
    put_in_outbox(outbox, CONTENT)
    cut = put_in_outbox(outbox, b"another clip")
    (outbox / cut.clip_id / "clip.mcap").write_bytes(b"another cl")
    foreign = put_in_outbox(outbox, b"not ours", "car-2")
    with GatewayProcess(home.root) as gateway:
        report = send(outbox, gateway.url, token)
    assert report.sent == (SHA,)
    reasons = {c.clip_id: c.reason for c in report.left}
    assert reasons[cut.clip_id].startswith("ClipDamagedError")
    assert "clip is of car 'car-2'" in reasons[foreign.clip_id]
    assert landed(home) == [SHA]


def test_clip_without_a_manifest_does_not_exist(home, outbox, token):
    (outbox / "half").mkdir(parents=True)
    (outbox / ".tmp").mkdir()
    with GatewayProcess(home.root) as gateway:
        assert send(outbox, gateway.url, token).left == ()


def test_budget_holds_clips_back_across_runs(home, outbox, token):
    budget = replace(DEFAULT_CAMPAIGN, budget=UploadBudget(max_clips=2))
    for text in (b"one", b"two", b"three"):
        put_in_outbox(outbox, text)
    with GatewayProcess(home.root) as gateway:
        first = send(outbox, gateway.url, token, campaign=budget)
        second = send(outbox, gateway.url, token, campaign=budget)
    assert (len(first.sent), len(second.sent)) == (2, 0)
    assert second.left[0].reason == "budget: 2 of 2 clips are sent"


def test_content_spoilt_on_the_way_is_sent_again_and_never_lands_spoilt(home, outbox, token):
    class Spoil(httpx.BaseTransport):
        def __init__(self) -> None:
            self.link, self.spoilt = httpx.HTTPTransport(), 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PATCH" and not self.spoilt:
                self.spoilt = 1
                body = b"\0" * len(request.content)
                request = httpx.Request("PATCH", request.url, headers=request.headers, content=body)
            return self.link.handle_request(request)

    put_in_outbox(outbox, CONTENT)
    with GatewayProcess(home.root) as gateway:
        report = send(outbox, gateway.url, token, transport=Spoil())
    assert report.sent == (SHA,)
    assert report.sent_bytes > len(CONTENT)
    assert landed(home) == [SHA]


BIG = hashlib.shake_256(b"big").digest(60 * PIECE_BYTES)


def uplink_process(home, token, url) -> subprocess.Popen:
    wire.atomic_write(home.car("car-1") / "trust" / "token", token.encode())
    command = [sys.executable, "-m", "roadloop", "vehicle", "uplink", "car-1", "--gateway", url]
    return subprocess.Popen(command, env={**os.environ, "ROADLOOP_HOME": str(home.root)})


def wait_for_bytes(home, sha256, at_least) -> None:
    uploads, give_up = Uploads(home, "car-1"), time.monotonic() + 30.0
    while uploads.offset(sha256) < at_least and not Landing(home).has(sha256):
        assert time.monotonic() < give_up
        time.sleep(0.0005)


def test_killed_uplink_goes_on_where_it_was_and_the_clip_lands_once(home, outbox, token):
    clip_id = put_in_outbox(outbox, BIG).clip_id
    with GatewayProcess(home.root) as gateway:
        for pieces in (3, 20, 40):
            process = uplink_process(home, token, gateway.url)
            wait_for_bytes(home, clip_id, pieces * PIECE_BYTES)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = Uploads(home, "car-1").offset(clip_id)
        report = send(outbox, gateway.url, token)
    assert landed(home) == [clip_id]
    assert not before or report.sent_bytes == len(BIG) - before
    assert list(outbox.iterdir()) == []


def test_gateway_killed_while_receiving_and_started_again_gets_the_rest(home, outbox, token):
    clip_id = put_in_outbox(outbox, BIG).clip_id
    with GatewayProcess(home.root) as gateway:
        process = uplink_process(home, token, gateway.url)
        wait_for_bytes(home, clip_id, 5 * PIECE_BYTES)
        gateway.stop(signal.SIGKILL)
    with GatewayProcess(home.root, gateway.port):
        assert process.wait(60) == 0
    assert landed(home) == [clip_id]
    assert list(outbox.iterdir()) == []


def test_clip_that_landed_just_before_the_uplink_was_killed_is_not_sent_again(home, outbox, token):
    put_in_outbox(outbox, CONTENT)
    with GatewayProcess(home.root) as gateway:
        send(outbox, gateway.url, token)
        (outbox.parent / "sent" / f"{SHA}.json").unlink()
        put_in_outbox(outbox, CONTENT)
        report = send(outbox, gateway.url, token)
        assert (report.sent, report.sent_bytes) == ((SHA,), 0)
        put_in_outbox(outbox, CONTENT)
        assert send(outbox, gateway.url, token).sent == ()
    assert list(outbox.iterdir()) == []
    assert landed(home) == [SHA]


def test_campaign_of_the_fleet_reaches_the_car(home, outbox, token):
    facts = {"outbox": outbox, "car_id": "car-1", "token": token, "clock": FakeClock()}
    with GatewayProcess(home.root) as gateway, Uplink(gateway_url=gateway.url, **facts) as link:
        assert link.fetch_campaign() == DEFAULT_CAMPAIGN
        assert link.send_under_campaign().error == ""
    with Uplink(gateway_url=gateway.url, attempts=1, **facts) as link:
        assert link.send_under_campaign().error.startswith("GatewayDownError")
