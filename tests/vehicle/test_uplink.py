"""The uplink against the real gateway: real certificates, real processes, real kills."""

import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fakes_clip import GatewayProcess, put_in_outbox

from fleet.campaign import Campaigns
from fleet.identity import Authority, enrol
from fleet.landing import Landing, Uploads
from fleet.registry import Registry
from vehicle.campaigns import HeldCampaigns
from vehicle.clock import FakeClock, SystemClock
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, UploadBudget
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import PART_BYTES
from vehicle.gateway_link import GatewayLink
from vehicle.identity import Identity
from vehicle.uplink import Uplink, UplinkReport
from vehicle.uplink_policy import Link

CONTENT = hashlib.shake_256(b"clip").digest(PART_BYTES + 77)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    enrol(home, "car-1", "", home.car("car-1") / "identity")
    return home


@pytest.fixture
def outbox(home):
    return home.car("car-1") / "outbox"


def send(home, url, car="car-1", **more) -> UplinkReport:
    facts = {"car_folder": home.car(car), "gateway_url": url, "clock": FakeClock()}
    with Uplink(**facts | more) as link:
        return link.send_all()


def landed(home) -> list[str]:
    clips = list(Landing(home).clips())
    for folder, clip in clips:
        found = hashlib.sha256((folder / "clip.mcap").read_bytes()).hexdigest()
        assert found == clip.clip_id
    return [clip.clip_id for _, clip in clips]


class Cut(httpx.BaseTransport):
    """A link that breaks before or after the n-th request reached the other side."""

    def __init__(self, home, at: int, *, after: bool) -> None:
        identity = Identity.at(home.car("car-1") / "identity")
        self._link = httpx.HTTPTransport(verify=identity.context)
        self._at, self._after, self._count = at, after, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._count += 1
        if self._count != self._at:
            return self._link.handle_request(request)
        if self._after:
            self._link.handle_request(request).close()
        raise httpx.ReadError("the link broke", request=request)


def test_clip_goes_home_once_and_a_receipt_stays(home, outbox):
    put_in_outbox(outbox, CONTENT)
    with GatewayProcess(home.root) as gateway:
        first = send(home, gateway.url)
        second = send(home, gateway.url)
    assert first == UplinkReport(sent=(SHA,), sent_bytes=len(CONTENT), left=(), told=(SHA,))
    assert second == UplinkReport(sent=(), sent_bytes=0, left=())
    assert landed(home) == [SHA]
    assert list(outbox.iterdir()) == []
    assert (outbox.parent / "sent" / f"{SHA}.json").is_file()


@pytest.mark.parametrize("after", [False, True])
def test_link_cut_at_any_request_delays_and_loses_nothing(home, outbox, after):
    with GatewayProcess(home.root) as gateway:
        for at in range(1, 9):
            put_in_outbox(outbox, CONTENT + bytes([at]))
            report = send(home, gateway.url, transport=Cut(home, at, after=after))
            assert (len(report.sent), report.left) == (1, ())
    assert len(landed(home)) == 8
    assert Uploads(home, "car-1").pending() == {}


def test_gateway_down_is_reported_and_the_clip_stays(home, outbox):
    put_in_outbox(outbox, CONTENT)
    clock = FakeClock()
    report = send(home, "https://127.0.0.1:9", clock=clock)
    assert report.error.startswith("GatewayDownError: https://127.0.0.1:9: ConnectError")
    assert [c.clip_id for c in report.left] == [SHA]
    assert (outbox / SHA / "clip.mcap").read_bytes() == CONTENT
    assert 0.5e9 <= clock.mono_ns() <= 120e9


def test_certificate_that_home_does_not_take_is_named_and_the_clip_stays(home, outbox, tmp_path):
    put_in_outbox(outbox, CONTENT)
    stranger = Home(tmp_path / "stranger")
    mine, theirs = (h.car("car-1") / "identity" for h in (home, stranger))
    enrol(stranger, "car-1", "", theirs)
    (theirs / "home.crt").write_bytes((mine / "home.crt").read_bytes())
    before = Identity.at(mine)
    enrol(home, "car-1", "", mine, renew=True)
    with GatewayProcess(home.root) as gateway:
        wrong = {
            "was given a newer certificate": before,
            "does not know who signed this car's certificate": Identity.at(theirs),
        }
        for why, identity in wrong.items():
            report = send(home, gateway.url, identity=identity)
            assert why in report.error
            assert report.left[0].clip_id == SHA
        Registry(home).revoke("car-1")
        assert "was revoked" in send(home, gateway.url).error
    assert (outbox / SHA / "manifest.json").is_file()
    assert landed(home) == []


def test_car_tells_its_clips_to_nobody_but_its_home(home, outbox, tmp_path):
    put_in_outbox(outbox, CONTENT)
    impostor = Home(tmp_path / "impostor")
    with GatewayProcess(impostor.root) as gateway:
        report = send(home, gateway.url)
    assert report.error.startswith(f"UnknownHomeError: {gateway.url} is not the home of car")
    assert report.left[0].clip_id == SHA


def test_damaged_clip_stays_with_its_reason_and_the_others_go(home, outbox):
    put_in_outbox(outbox, CONTENT)
    cut, flipped = (put_in_outbox(outbox, data).clip_id for data in (b"cut clip", b"flipped clip"))
    (outbox / cut / "clip.mcap").write_bytes(b"cut cl")
    (outbox / flipped / "clip.mcap").write_bytes(b"flipped clap")
    foreign = put_in_outbox(outbox, b"not ours", "car-2").clip_id
    with GatewayProcess(home.root) as gateway:
        report = send(home, gateway.url)
    assert report.sent == (SHA,)
    reasons = {c.clip_id: c.reason for c in report.left}
    assert reasons[cut].startswith("ClipDamagedError")
    assert "its content is not" in reasons[flipped]
    assert "clip is of car 'car-2'" in reasons[foreign]
    assert landed(home) == [SHA]


def test_clip_without_a_manifest_does_not_exist(home, outbox):
    (outbox / "half").mkdir(parents=True)
    (outbox / ".tmp").mkdir()
    with GatewayProcess(home.root) as gateway:
        assert send(home, gateway.url).left == ()


def test_campaign_of_the_fleet_reaches_the_car_and_its_budget_counts(home, outbox):
    budget = UploadBudget(max_clips=2)
    Campaigns(home).put(replace(DEFAULT_CAMPAIGN, budget=budget))
    for text in (b"one", b"two", b"three"):
        put_in_outbox(outbox, text)
    with GatewayProcess(home.root) as gateway:
        first = send(home, gateway.url, clock=SystemClock())
        second = send(home, gateway.url, clock=SystemClock())
    assert first.campaigns.new == ("default",)
    assert (len(first.sent), len(first.told), len(second.sent)) == (2, 3, 0)
    assert second.left[0].reason == "budget of 'default': 2 of 2 clips in 24 h"
    assert not second.refused
    held, refused = HeldCampaigns(home.car("car-1"), "car-1", SystemClock()).held("ZZ")
    assert ([c.budget for c in held], refused) == ([budget], [])


def test_home_sees_a_summary_over_cellular_asks_and_gets_the_clip_with_the_next_visit(home, outbox):
    put_in_outbox(outbox, CONTENT)
    cellular = Link(kind="cellular")
    with GatewayProcess(home.root) as gateway:
        first = send(home, gateway.url, link=cellular)
        request = [sys.executable, "-m", "roadloop", "fleet", "request", SHA]
        subprocess.run(request, check=True, env={**os.environ, "ROADLOOP_HOME": str(home.root)})
        second = send(home, gateway.url, link=cellular)
    assert (first.told, first.sent, second.told, second.sent) == ((SHA,), (), (), (SHA,))
    assert landed(home) == [SHA]


def test_store_is_not_shown_who_the_car_is(home, monkeypatch):
    seen: list[dict | None] = []

    class Store(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            seen.append(self.connection.getpeercert())
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    certificate, key = Authority(home).gateway_files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(Authority(home).certificate_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("SSL_CERT_FILE", str(Authority(home).certificate_path))
        identity = Identity.at(home.car("car-1") / "identity")
        for gateway in (url, "https://elsewhere:1"):
            link = GatewayLink(gateway, identity, FakeClock())
            assert link.put(f"{url}/part", b"data", hashlib.sha256(b"data").hexdigest()) == ""
            link.close()
        server.shutdown()
    own, foreign = seen
    assert own["subject"] == ((("commonName", "car-1"),),)
    assert not foreign


BIG = hashlib.shake_256(b"big").digest(30 * PART_BYTES)


def uplink_process(home, url, *more) -> subprocess.Popen:
    command = [sys.executable, "-m", "roadloop", "vehicle", "uplink", "car-1", "--gateway", url]
    return subprocess.Popen(
        [*command, *more],
        env={**os.environ, "ROADLOOP_HOME": str(home.root)},
        stdout=subprocess.PIPE,
    )


def wait_for_bytes(home, sha256, at_least) -> None:
    uploads, give_up = Uploads(home, "car-1"), time.monotonic() + 30.0
    while uploads.received(sha256) < at_least and not Landing(home).has(sha256):
        assert time.monotonic() < give_up
        time.sleep(0.0005)


def test_killed_uplink_goes_on_where_it_was_and_the_clip_lands_once(home, outbox):
    clip_id = put_in_outbox(outbox, BIG).clip_id
    with GatewayProcess(home.root) as gateway:
        for parts in (2, 8, 16):
            process = uplink_process(home, gateway.url)
            wait_for_bytes(home, clip_id, parts * PART_BYTES)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = Uploads(home, "car-1").received(clip_id)
        report = send(home, gateway.url)
    assert landed(home) == [clip_id]
    assert not before or report.sent_bytes == len(BIG) - before
    assert list(outbox.iterdir()) == []


def test_gateway_killed_while_receiving_and_started_again_gets_the_rest(home, outbox):
    clip_id = put_in_outbox(outbox, BIG).clip_id
    with GatewayProcess(home.root) as gateway:
        process = uplink_process(home, gateway.url, "--json")
        wait_for_bytes(home, clip_id, 5 * PART_BYTES)
        gateway.stop(signal.SIGKILL)
    with GatewayProcess(home.root, gateway.port):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert json.loads(out)["sent"] == [clip_id]
    assert landed(home) == [clip_id]
    assert list(outbox.iterdir()) == []


def test_clip_that_landed_just_before_the_uplink_was_killed_is_not_sent_again(home, outbox):
    put_in_outbox(outbox, CONTENT)
    with GatewayProcess(home.root) as gateway:
        send(home, gateway.url)
        (outbox.parent / "sent" / f"{SHA}.json").unlink()
        put_in_outbox(outbox, CONTENT)
        report = send(home, gateway.url)
        assert (report.sent, report.sent_bytes) == ((SHA,), 0)
        put_in_outbox(outbox, CONTENT)
        assert send(home, gateway.url).sent == ()
    assert list(outbox.iterdir()) == []
    assert landed(home) == [SHA]
