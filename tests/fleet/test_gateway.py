import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import warnings

import httpx
import pytest
from fakes_clip import GatewayProcess, manifest_of
from fakes_gateway import client, enrol_car, gateway

from fleet.campaign import Campaigns
from fleet.gateway import Limits, make_app
from fleet.inbox import Summaries, Wanted
from fleet.landing import Landing
from fleet.registry import Registry
from fleet.serving import GatewayRunningError, PortTakenError, listen, make_server, serve
from fleet.store import LocalStore
from fleet.tls import PeerProtocol
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import (
    CAR_CERTIFICATE,
    HOME_CERTIFICATE,
    PART_DIGEST_HEADER,
    Inbox,
    PartDigest,
    Upload,
    UploadAsk,
    UploadParts,
    cut,
    part_checksum,
)

CONTENT = b"clip" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
UPLOAD = f"/v1/cars/car-1/uploads/{SHA}"
CLIP = f"/v1/cars/car-1/clips/{SHA}"
SUMMARY = f"/v1/cars/car-1/summaries/{SHA}"
LIMITS = Limits(
    content=10_000, pending=12_000, manifest=5_000, summary=4_000, summaries=2, body_s=0.5
)
PART = 1500


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(LocalStore, "part_bytes", PART)


def shown_by(app, identity):
    """Return `app` as the server hands it requests over a connection of this car."""
    pem = (identity / CAR_CERTIFICATE).read_text() if identity else ""
    tls = {"client_cert_chain": [pem] if pem else []}

    async def told(scope, receive, send):
        await app({**scope, "extensions": {"tls": tls}}, receive, send)

    return told


def door_of(home, identity, limits=LIMITS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for httpx2, which the car does not need
        from starlette.testclient import TestClient
    app = shown_by(make_app(home, limits), identity)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def door(home):
    """A client with car-1's certificate."""
    return door_of(home, enrol_car(home))


def ask_of(content):
    parts = tuple(wire.digest(content[at : at + n]) for _, at, n in cut(len(content), PART))
    return UploadAsk(size_bytes=len(content), part_bytes=PART, parts=parts)


def ask(door, content=CONTENT, car="car-1"):
    url = f"/v1/cars/{car}/uploads/{wire.digest(content)}"
    answer = door.post(url, content=wire.to_bytes(ask_of(content)))
    assert answer.status_code == 200, answer.text
    return wire.from_bytes(Upload, answer.content)


def put(door, part, content=CONTENT, data=None):
    piece = content[part.offset : part.offset + part.size_bytes] if data is None else data
    return door.put(part.url, content=piece, headers={PART_DIGEST_HEADER: part_checksum(piece)})


def complete(door, content=CONTENT, car="car-1"):
    parts = tuple(
        PartDigest(number=n, sha256=digest) for n, digest in enumerate(ask_of(content).parts, 1)
    )
    url = f"/v1/cars/{car}/uploads/{wire.digest(content)}/complete"
    return door.post(url, content=wire.to_bytes(UploadParts(parts=parts)))


def send(door, content=CONTENT, car="car-1"):
    for part in ask(door, content, car).parts:
        if not part.have:
            assert put(door, part, content).status_code == 200
    assert complete(door, content, car).status_code == 200


def summary_of(content=CONTENT, car="car-1", **more):
    return wire.to_bytes(ClipSummary(manifest=manifest_of(content, car), value=1.0, **more))


def test_clip_goes_in_part_by_part_and_lands_with_its_manifest(door, home):
    first = ask(door)
    assert [p.have for p in first.parts] == [False] * 3
    assert put(door, first.parts[1]).headers["ETag"]
    assert complete(door).status_code == 409
    again = ask(door)
    assert [(p.have, bool(p.url)) for p in again.parts] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    send(door)
    assert ask(door) == Upload(complete=True, part_bytes=PART)
    assert door.head(CLIP).status_code == 404
    assert door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT))).status_code == 201
    assert door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT))).status_code == 200
    assert door.head(CLIP).status_code == 200
    assert len(list(Landing(home).clips())) == 1


def test_parts_of_another_size_are_told_the_right_one(door):
    plain = UploadAsk(size_bytes=4000, part_bytes=4000, parts=(SHA,))
    answer = door.post(UPLOAD, content=wire.to_bytes(plain))
    upload = wire.from_bytes(Upload, answer.content)
    assert upload == Upload(complete=False, part_bytes=PART)


def test_empty_content_lands_like_any_other(door, home):
    send(door, b"")
    manifest = manifest_of(b"")
    path = f"/v1/cars/car-1/clips/{manifest.clip_id}"
    assert door.put(path, content=wire.to_bytes(manifest)).status_code == 201


def test_manifest_before_its_files_is_refused_with_reasons(door):
    answer = door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT)))
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "IncompleteClipError",
        "reasons": ["clip.mcap: 0 of 4000 bytes are here"],
    }


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"schema":"clip/1"}', b"\xff\xfe", b"[" * 4000]
)
def test_what_is_no_document_is_refused_everywhere(door, raw):
    assert door.put(CLIP, content=raw).status_code == 422
    assert door.put(SUMMARY, content=raw).status_code == 422
    assert door.post(UPLOAD, content=raw).status_code == 422
    assert door.post(f"{UPLOAD}/complete", content=raw).status_code == 422


def test_manifest_with_an_unknown_field_or_under_another_name_is_refused(door):
    plain = wire.to_plain(manifest_of(CONTENT))
    answer = door.put(CLIP, content=json.dumps({**plain, "extra": 1}))
    assert answer.json()["error"] == "UnknownFieldError"
    other = CLIP[:-64] + "0" * 64
    assert door.put(other, content=json.dumps(plain)).status_code == 422


def test_part_takes_no_other_bytes_than_it_was_granted_for(door):
    part = ask(door).parts[0]
    piece = CONTENT[:PART]
    other = b"x" + piece[1:]
    assert put(door, part, data=other).json()["error"] == "PartDigestError"
    header = {PART_DIGEST_HEADER: part_checksum(piece)}
    for body in (other, piece[:-1]):
        assert door.put(part.url, content=body, headers=header).status_code == 400
    assert door.put(part.url, content=piece).status_code == 400
    assert door.put(part.url, content=piece + b"x", headers=header).status_code == 413
    assert [p.have for p in ask(door).parts] == [False] * 3


def test_whole_of_another_content_is_discarded(door):
    name = "0" * 64
    door_ask = wire.to_bytes(ask_of(CONTENT))
    upload = wire.from_bytes(
        Upload, door.post(f"/v1/cars/car-1/uploads/{name}", content=door_ask).content
    )
    for part in upload.parts:
        put(door, part)
    parts = tuple(PartDigest(number=n, sha256=d) for n, d in enumerate(ask_of(CONTENT).parts, 1))
    body = wire.to_bytes(UploadParts(parts=parts))
    answer = door.post(f"/v1/cars/car-1/uploads/{name}/complete", content=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "DigestMismatchError")
    assert put(door, upload.parts[0]).status_code == 409


def test_address_of_a_part_is_refused_when_old_changed_or_another_cars(door, home, monkeypatch):
    part = ask(door).parts[0]
    word, _, mac = part.url.rpartition("/")[2].partition(".")
    plain = json.loads(base64.urlsafe_b64decode(word + "=="))
    forged = base64.urlsafe_b64encode(wire.canonical(plain | {"offset": 0, "number": 2})).decode()
    other = door_of(home, enrol_car(home, "car-2"))
    refusals = {
        "forged": door.put(f"/v1/cars/car-1/parts/{forged.rstrip('=')}.{mac}", content=b"x"),
        "nonsense": door.put("/v1/cars/car-1/parts/nonsense", content=b"x"),
        "no mac": door.put(f"/v1/cars/car-1/parts/{word}", content=b"x"),
        "not base64": door.put(f"/v1/cars/car-1/parts/{word}.%C3%A9", content=b"x"),
        "another car": other.put(part.url, content=b"x"),
        "given to another": other.put(part.url.replace("car-1", "car-2"), content=b"x"),
    }
    assert {name: r.status_code for name, r in refusals.items()} == dict.fromkeys(refusals, 403)
    later = LocalStore(home)._now().timestamp() + 3601
    opened = "fleet.store.Grants.open"
    real = LocalStore(home)._grants.open
    monkeypatch.setattr(opened, lambda self, word, car, now_s: real(word, car, later))
    answer = put(door, part)
    assert (answer.status_code, answer.json()["error"]) == (403, "GrantExpiredError")


def test_grants_key_is_in_no_address_and_readable_by_its_owner_alone(door, home):
    url = ask(door).parts[0].url
    key = home.fleet / "keys" / "grants.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes().hex() not in url
    assert len(key.read_bytes()) == 32


def test_no_certificate_a_revoked_one_a_replaced_one_and_another_cars_are_refused(home):
    first = enrol_car(home)
    old = (first / CAR_CERTIFICATE).read_text()
    door = door_of(home, first)
    inbox = "/v1/cars/car-1/inbox"
    assert door.get(inbox).status_code == 200
    assert door_of(home, None).get(inbox).status_code == 401
    other = door_of(home, enrol_car(home, "car-2"))
    refusal = other.get(inbox)
    assert (refusal.status_code, refusal.json()["error"]) == (403, "ForeignCarError")
    assert other.get("/v1/cars/car-9/inbox").status_code == 403

    enrol_car(home, renew=True)
    assert "newer certificate" in door_of(home, _kept(home, old)).get(inbox).json()["reasons"][0]
    assert door_of(home, first).get(inbox).status_code == 200
    Registry(home).revoke("car-1")
    answer = door_of(home, first).get(inbox)
    assert (answer.status_code, answer.json()["error"]) == (401, "UnauthorisedError")
    assert "revoked" in answer.json()["reasons"][0]


def _kept(home, pem):
    folder = home.root / "old"
    folder.mkdir()
    (folder / CAR_CERTIFICATE).write_text(pem)
    return folder


def test_car_does_not_see_what_another_car_sent(door, home):
    send(door)
    other = door_of(home, enrol_car(home, "car-2"))
    assert not ask(other, car="car-2").complete
    door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT)))
    assert other.head(CLIP.replace("car-1", "car-2")).status_code == 404
    send(other, car="car-2")
    theirs = wire.to_bytes(manifest_of(CONTENT, "car-2"))
    answer = other.put(CLIP.replace("car-1", "car-2"), content=theirs)
    assert (answer.status_code, answer.json()["error"]) == (403, "ForeignClipError")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/cars/..%2f..%2fetc/clips/" + SHA,
        "/v1/cars/../clips/" + SHA,
        "/v1/cars/.x/clips/" + SHA,
        "/v1/cars/car-1/clips/..%2f..%2fregistry.json",
        "/v1/cars/car-1/clips/registry.json",
        "/v1/cars/car-1/clips/" + "A" * 64,
    ],
)
def test_hostile_names_reach_nothing(door, path):
    assert door.head(path).status_code in (400, 404)
    assert door.put(path, content=b"{}").status_code in (400, 404)
    changed = path.replace("clips", "uploads")
    assert door.post(changed, content=b"{}").status_code in (400, 404)
    assert door.put(path.replace("clips", "summaries"), content=b"{}").status_code in (400, 404)


def test_too_much_is_refused(door):
    def asked(size, name=SHA):
        parts = tuple(SHA for _ in cut(size, PART))
        plain = UploadAsk(size_bytes=size, part_bytes=PART, parts=parts)
        return door.post(f"/v1/cars/car-1/uploads/{name}", content=wire.to_bytes(plain))

    assert asked(10_001).status_code == 413
    assert door.put(CLIP, content=b"x" * 5_001).status_code == 413
    assert door.put(SUMMARY, content=b"x" * 4_001).status_code == 413
    assert asked(7_000, "a" * 64).status_code == 200
    answer = asked(7_000, "b" * 64)
    assert answer.status_code == 413
    assert "no manifest claims" in answer.json()["reasons"][0]
    assert asked(7_000, "a" * 64).status_code == 200


def test_body_without_its_length_is_refused(door):
    answer = door.put(CLIP, content=iter([b"x"]))
    assert (answer.status_code, answer.json()["error"]) == (400, "HeaderError")


def test_inbox_has_the_cars_campaigns_and_what_home_wants(door, home):
    for name, cars in (("night", ("car-1",)), ("others", ("car-2",))):
        Campaigns(home).put(
            Campaign(
                campaign_id=name,
                cars=cars,
                triggers=(TriggerSpec(name="ttc", kind="ttc", threshold=2.0),),
            )
        )
    Wanted(home).ask("car-1", SHA)
    inbox = wire.from_bytes(Inbox, door.get("/v1/cars/car-1/inbox").content)
    assert inbox.wanted == (SHA,)
    assert inbox.part_bytes == PART
    assert [k.envelope for k in Campaigns(home).for_car("car-1", 0)] == list(inbox.campaigns)
    send(door)
    door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT)))
    assert wire.from_bytes(Inbox, door.get("/v1/cars/car-1/inbox").content).wanted == ()


def test_what_is_broken_at_home_is_not_the_cars_fault(door, home):
    folder = home.fleet / "campaigns"
    folder.mkdir()
    (folder / "x.json").write_text("{}")
    answer = door.get("/v1/cars/car-1/inbox")
    assert (answer.status_code, answer.json()["error"]) == (500, "CampaignCorruptError")
    (home.fleet / "registry.json").write_text('{"cars":{},"schema":"registry/1"}')
    answer = door.head(CLIP)
    assert answer.status_code == 500


def test_summary_is_kept_and_answered_with_whether_home_asks_for_the_clip(door, home):
    data = summary_of(facts={"min_ttc_s": 0.5})
    assert door.put(SUMMARY, content=data).json()["want"] is False
    assert (home.fleet / "summaries" / "car-1" / f"{SHA}.json").read_bytes() == data
    assert Summaries(home).car_of(SHA) == "car-1"
    Wanted(home).ask("car-1", SHA)
    assert door.put(SUMMARY, content=data).json()["want"] is True


def test_summary_of_another_clip_or_car_or_one_too_many_is_refused(door):
    other = SUMMARY[:-64] + "0" * 64
    assert door.put(other, content=summary_of()).status_code == 422
    foreign = door.put(SUMMARY, content=summary_of(car="car-2"))
    assert (foreign.status_code, foreign.json()["error"]) == (403, "ForeignClipError")
    statuses = []
    for content in (b"1", b"2", b"3"):
        url = f"/v1/cars/car-1/summaries/{wire.digest(content)}"
        statuses.append(door.put(url, content=summary_of(content)).status_code)
    assert statuses == [200, 200, 413]
    assert door.put(url.replace(wire.digest(b"3"), wire.digest(b"1")), content=summary_of(b"1"))


def test_summaries_of_landed_clips_make_room(door):
    for content in (CONTENT, b"2"):
        url = f"/v1/cars/car-1/summaries/{wire.digest(content)}"
        door.put(url, content=summary_of(content))
    send(door)
    door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT)))
    url = f"/v1/cars/car-1/summaries/{wire.digest(b'3')}"
    assert door.put(url, content=summary_of(b"3")).status_code == 200


def test_signed_files_are_handed_to_enrolled_cars_and_nothing_else_is(door, home):
    metadata = home.fleet / "repository" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "1.root.json").write_text("signed")
    (home.fleet / "secret").write_text("secret")
    assert door.get("/tuf/metadata/1.root.json").text == "signed"
    for path in ("metadata/../../secret", "metadata/%2e%2e/%2e%2e/secret", "targets/x"):
        assert door.get(f"/tuf/{path}").status_code == 404
    assert door_of(home, None).get("/tuf/metadata/1.root.json").status_code == 401


def test_full_disk_at_home_is_said_so_and_not_taken_for_done(door, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    part = ask(door).parts[0]
    monkeypatch.setattr("fleet.landing.Uploads.put", full)
    answer = put(door, part)
    assert answer.status_code == 507
    assert answer.json()["reasons"] == ["No space left on device"]


def test_who_shows_no_certificate_of_this_home_does_not_get_past_the_handshake(home, tmp_path):
    stranger = enrol_car(Home(tmp_path / "other"))
    mine = enrol_car(home)
    with gateway(home) as url:
        assert client(mine, url).get("/healthz").json() == {"ok": True, "cars": 1}
        for shown in (None, stranger):
            context = ssl.create_default_context(cafile=mine / HOME_CERTIFICATE)
            if shown:
                context.load_cert_chain(shown / CAR_CERTIFICATE, shown / "car.key")
            with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as strange:
                strange.get(f"{url}/healthz")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client(stranger, url).get("/healthz")
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/healthz")


def test_renewed_car_is_shut_out_with_its_old_certificate_on_an_open_connection(home):
    folder = enrol_car(home)
    with gateway(home) as url, client(folder, url) as car:
        assert car.get("/v1/cars/car-1/inbox").status_code == 200
        enrol_car(home, renew=True)
        assert car.get("/v1/cars/car-1/inbox").status_code == 401
        with client(folder, url) as new:
            assert new.get("/v1/cars/car-1/inbox").status_code == 200


def test_nothing_older_than_tls_1_2_is_spoken(home):
    folder = enrol_car(home)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(folder / CAR_CERTIFICATE, folder / "car.key")
    with gateway(home) as url:
        port = int(url.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain)


def test_body_cut_short_or_too_slow_on_the_wire_adds_nothing(home):
    folder = enrol_car(home)
    context = ssl.create_default_context(cafile=folder / HOME_CERTIFICATE)
    context.load_cert_chain(folder / CAR_CERTIFICATE, folder / "car.key")
    with gateway(home, LIMITS) as url, client(folder, url) as car:
        part = ask(car).parts[0]
        checksum = part_checksum(CONTENT[:PART])
        head = (
            f"PUT {part.url} HTTP/1.1\r\nHost: x\r\n{PART_DIGEST_HEADER}: {checksum}\r\n"
            f"Content-Length: {PART}\r\n\r\n"
        )
        port = int(url.rpartition(":")[2])
        for slow in (False, True):
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as link,
            ):
                link.sendall(head.encode() + CONTENT[:1000])
                if slow:
                    assert b" 408 " in link.recv(1000)
        assert [p.have for p in ask(car).parts] == [False] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_gateway_says_where_it_is_and_ends_cleanly(home, number):
    folder = enrol_car(home)
    with GatewayProcess(home.root) as process:
        with client(folder, process.url) as car:
            assert car.get("/healthz").json() == {"ok": True, "cars": 1}
        assert process.stop(number) == 0
    assert not (home.root / "url").exists()


def test_gateway_logs_neither_addresses_of_parts_nor_failed_handshakes(home):
    folder = enrol_car(home)
    url_file = home.root / "url"
    words = ["-m", "roadloop", "fleet", "serve", "--port", "0", "--url-file", url_file]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "ROADLOOP_HOME": str(home.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not url_file.exists():
        assert process.poll() is None
    url = url_file.read_text().strip()
    with client(folder, url) as car:
        content = b"x" * 10
        plain = UploadAsk(size_bytes=10, part_bytes=1 << 20, parts=(wire.digest(content),))
        path = f"/v1/cars/car-1/uploads/{wire.digest(content)}"
        answer = car.post(path, content=wire.to_bytes(plain))
        part = wire.from_bytes(Upload, answer.content).parts[0]
        assert put(car, part, content).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/healthz", verify=False)
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=20)[0].decode()
    assert out.splitlines() == [f"gateway at {url} (ctrl-C stops it)"]


def test_second_gateway_of_one_home_is_refused_and_a_taken_port_named(home, tmp_path_factory):
    with GatewayProcess(home.root) as process:
        with pytest.raises(GatewayRunningError):
            serve(home, "127.0.0.1", 0)
        with pytest.raises(PortTakenError, match="--port 0"):
            serve(Home(tmp_path_factory.mktemp("other")), "127.0.0.1", process.port)


def test_answers_do_not_wait_for_acknowledgements(home):
    seen: list[int] = []

    class Looks(PeerProtocol):
        def connection_made(self, transport) -> None:
            line = transport.get_extra_info("socket")
            seen.append(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    folder, server = enrol_car(home), make_server(home, make_app(home))
    server.config.http = server.config.http_protocol_class = Looks
    with listen("127.0.0.1", 0) as door:
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        with client(folder, f"https://127.0.0.1:{door.getsockname()[1]}") as link:
            assert link.get("/healthz").status_code == 200
        server.should_exit = True
        thread.join(5)
    assert seen == [1]


def test_two_clips_at_once_from_two_cars_both_land(home):
    contents = {f"car-{i}": bytes([i]) * 30_000 for i in (1, 2)}
    folders = {car: enrol_car(home, car) for car in contents}

    def deliver(car: str) -> None:
        manifest = manifest_of(contents[car], car)
        with client(folders[car], url) as link:
            send(link, contents[car], car)
            path = f"/v1/cars/{car}/clips/{manifest.clip_id}"
            link.put(path, content=wire.to_bytes(manifest))

    with gateway(home) as url:
        threads = [threading.Thread(target=deliver, args=(car,)) for car in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {clip.car_id for _, clip in Landing(home).clips()} == {"car-1", "car-2"}


def test_summary_that_a_killed_gateway_left_half_written_goes_at_the_next_start(home):
    half = home.fleet / "summaries" / "car-1" / ".a.json.7.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"{")
    with GatewayProcess(home.root):
        assert not half.exists()
