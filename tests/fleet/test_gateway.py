import hashlib
import http.client
import json
import signal
import socket
import threading
import warnings

import httpx
import pytest
from fakes_clip import GatewayProcess, manifest_of

from fleet.campaign import Campaigns
from fleet.gateway import GatewayRunningError, Limits, PortTakenError, make_app, serve
from fleet.landing import Landing
from fleet.registry import Registry
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.home import Home

CONTENT = b"clip" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
UPLOAD = f"/v1/cars/car-1/uploads/{SHA}"
CLIP = f"/v1/cars/car-1/clips/{SHA}"
LIMITS = Limits(piece=8_000, content=10_000, pending=12_000, manifest=5_000)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def door(home):
    """A client with car-1's token."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for httpx2, which the car does not need
        from starlette.testclient import TestClient
    token = Registry(home).enrol("car-1", "")
    client = TestClient(make_app(home, LIMITS), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def send(door, content=CONTENT, offset=0, length=None, url=UPLOAD):
    length = len(content) if length is None else length
    headers = {"Upload-Offset": str(offset), "Upload-Length": str(length)}
    return door.patch(url, content=content, headers=headers)


def test_clip_goes_in_piece_by_piece_and_lands_with_its_manifest(door, home):
    assert door.head(UPLOAD).headers["Upload-Offset"] == "0"
    assert send(door, CONTENT[:3000], 0, 4000).status_code == 204
    assert door.head(UPLOAD).headers["Upload-Offset"] == "3000"
    assert door.head(UPLOAD).headers["Upload-Complete"] == "?0"
    assert send(door, CONTENT[3000:], 3000, 4000).headers["Upload-Complete"] == "?1"
    assert door.head(CLIP).status_code == 404
    assert door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT))).status_code == 201
    assert door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT))).status_code == 200
    assert door.head(CLIP).status_code == 200
    assert len(list(Landing(home).clips())) == 1


def test_manifest_before_its_files_is_refused_with_reasons(door):
    answer = door.put(CLIP, content=wire.to_bytes(manifest_of(CONTENT)))
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "IncompleteClipError",
        "reasons": ["clip.mcap: 0 of 4000 bytes are here"],
    }


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"schema":"clip/1"}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(door, raw):
    assert door.put(CLIP, content=raw).status_code == 422


def test_manifest_with_an_unknown_field_or_under_another_name_is_refused(door):
    plain = wire.to_plain(manifest_of(CONTENT))
    answer = door.put(CLIP, content=json.dumps({**plain, "extra": 1}))
    assert answer.json()["error"] == "UnknownFieldError"
    other = CLIP[:-64] + "0" * 64
    assert door.put(other, content=json.dumps(plain)).status_code == 422


def test_wrong_content_is_refused_before_it_can_land(door):
    answer = send(door, CONTENT[:-1] + b"x")
    assert (answer.status_code, answer.json()["error"]) == (422, "DigestMismatchError")
    assert door.head(UPLOAD).headers["Upload-Offset"] == "0"


def test_wrong_offset_is_told_the_right_one(door):
    send(door, CONTENT[:100], 0, 4000)
    answer = send(door, CONTENT[300:400], 300, 4000)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "100")


def test_no_token_a_wrong_one_and_another_cars_are_refused(door, home):
    other = Registry(home).enrol("car-2", "")
    statuses = []
    for header in ("", "Bearer ", "Bearer nonsense", "Basic x", f"Bearer {other}"):
        answer = door.head(UPLOAD, headers={"Authorization": header})
        statuses.append(answer.status_code)
    assert statuses == [401, 401, 401, 401, 403]
    assert door.get("/v1/cars/car-9/campaign").status_code == 403


def test_car_does_not_see_what_another_car_sent(door, home):
    send(door, CONTENT)
    other = Registry(home).enrol("car-2", "")
    url = UPLOAD.replace("car-1", "car-2")
    answer = door.head(url, headers={"Authorization": f"Bearer {other}"})
    assert answer.headers["Upload-Offset"] == "0"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/cars/..%2f..%2fetc/uploads/" + SHA,
        "/v1/cars/../uploads/" + SHA,
        "/v1/cars/.x/uploads/" + SHA,
        "/v1/cars/car-1/uploads/..%2f..%2fregistry.json",
        "/v1/cars/car-1/uploads/registry.json",
        "/v1/cars/car-1/clips/" + "A" * 64,
    ],
)
def test_hostile_names_reach_nothing(door, path):
    assert door.head(path).status_code in (400, 404)


def test_too_much_is_refused(door):
    assert send(door, b"x" * 8_001, 0, 9_000).status_code == 413
    assert send(door, b"x", 0, 10_001).status_code == 413
    assert door.put(CLIP, content=b"x" * 5_001).status_code == 413
    for name in "ab":
        url = UPLOAD[:-64] + name * 64
        send(door, b"x" * 7_000, 0, 9_000, url)
    answer = send(door, b"x", 0, 9_000)
    assert answer.status_code == 413
    assert "no manifest claims" in answer.json()["reasons"][0]


def test_piece_without_its_headers_is_refused(door):
    for headers in ({}, {"Upload-Offset": "-1", "Upload-Length": "5"}, {"Upload-Offset": "²"}):
        encoded = {k: v.encode() for k, v in headers.items()}
        answer = door.patch(UPLOAD, content=b"x", headers=encoded)
        assert (answer.status_code, answer.json()["error"]) == (400, "HeaderError")


def test_campaign_and_signed_files_are_handed_out_and_nothing_else(door, home):
    campaign = Campaign(
        campaign_id="night", triggers=(TriggerSpec(name="ttc", kind="ttc", threshold=2.0),)
    )
    Campaigns(home).put(campaign)
    raw = door.get("/v1/cars/car-1/campaign").content
    assert wire.from_bytes(Campaign, raw) == campaign
    metadata = home.fleet / "repository" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "1.root.json").write_text("signed")
    (home.fleet / "secret").write_text("secret")
    assert door.get("/tuf/metadata/1.root.json").text == "signed"
    for path in ("metadata/../../secret", "metadata/%2e%2e/%2e%2e/secret", "targets/x"):
        assert door.get(f"/tuf/{path}").status_code == 404


def test_full_disk_at_home_is_said_so_and_not_taken_for_done(door, home, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleet.landing.Uploads.append", full)
    answer = send(door)
    assert answer.status_code == 507
    assert answer.json()["reasons"] == ["No space left on device"]


def test_body_cut_short_on_the_wire_adds_nothing(home):
    token = Registry(home).enrol("car-1", "")
    with GatewayProcess(home.root) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as wire_socket:
            head = (
                f"PATCH {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                "Upload-Offset: 0\r\nUpload-Length: 4000\r\nContent-Length: 4000\r\n\r\n"
            )
            wire_socket.sendall(head.encode() + CONTENT[:1000])
        link = http.client.HTTPConnection("127.0.0.1", gateway.port)
        link.request("HEAD", UPLOAD, headers={"Authorization": f"Bearer {token}"})
        assert link.getresponse().headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_gateway_says_where_it_is_and_ends_cleanly(home, number):
    with GatewayProcess(home.root) as gateway:
        assert httpx.get(f"{gateway.url}/healthz").json() == {"ok": True, "cars": 0}
        assert gateway.stop(number) == 0
    assert not (home.root / "url").exists()


def test_second_gateway_of_one_home_is_refused_and_a_taken_port_named(home, tmp_path_factory):
    with GatewayProcess(home.root) as gateway:
        with pytest.raises(GatewayRunningError):
            serve(home, "127.0.0.1", 0)
        with pytest.raises(PortTakenError, match="--port 0"):
            serve(Home(tmp_path_factory.mktemp("other")), "127.0.0.1", gateway.port)


def test_two_clips_at_once_from_two_cars_both_land(home):
    contents = {f"car-{i}": bytes([i]) * 300_000 for i in (1, 2)}
    tokens = {car: Registry(home).enrol(car, "") for car in contents}

    def deliver(car: str) -> None:
        content = contents[car]
        manifest = manifest_of(content, car)
        base = f"{gateway.url}/v1/cars/{car}"
        with httpx.Client(headers={"Authorization": f"Bearer {tokens[car]}"}) as client:
            for start in range(0, len(content), 50_000):
                headers = {"Upload-Offset": str(start), "Upload-Length": "300000"}
                piece = content[start : start + 50_000]
                client.patch(f"{base}/uploads/{manifest.clip_id}", content=piece, headers=headers)
            client.put(f"{base}/clips/{manifest.clip_id}", content=wire.to_bytes(manifest))

    with GatewayProcess(home.root) as gateway:
        threads = [threading.Thread(target=deliver, args=(car,)) for car in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {clip.car_id for _, clip in Landing(home).clips()} == {"car-1", "car-2"}
