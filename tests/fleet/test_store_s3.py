"""Against a real S3 server: what cars put there lands whole, once, and nobody reaches further."""

import json
import threading
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from fakes_clip import GatewayProcess, manifest_of, put_in_outbox
from fakes_gateway import client, enrol_car, gateway
from fakes_s3 import BUCKET, S3Server, s3_server  # noqa: F401
from lake_parts import land
from typer.testing import CliRunner

from datalake.ingest import ingest
from fleet.cli import app
from fleet.gateway import Limits
from fleet.landing import (
    DigestMismatchError,
    ForeignClipError,
    IncompleteClipError,
    Landing,
    PartsMissingError,
)
from fleet.store import StoreAddressError, StoreDownError, open_store
from fleet.store_s3 import LEAST_PART_BYTES, S3Store
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import (
    PART_DIGEST_HEADER,
    PartDigest,
    Upload,
    UploadAsk,
    UploadParts,
    cut,
    part_checksum,
)
from vehicle.uplink import Uplink

pytestmark = pytest.mark.xdist_group("s3")
BIG = b"clip" * (LEAST_PART_BYTES // 4) + b"tail"
SHA = wire.digest(BIG)


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, request) -> S3Store:  # noqa: F811
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return S3Store(BUCKET, request.node.name)


def ask_of(content: bytes) -> UploadAsk:
    part_bytes = LEAST_PART_BYTES
    parts = [content[at : at + n] for _, at, n in cut(len(content), part_bytes)]
    digests = tuple(wire.digest(part) for part in parts)
    return UploadAsk(size_bytes=len(content), part_bytes=part_bytes, parts=digests)


def named(content: bytes) -> UploadParts:
    digests = enumerate(ask_of(content).parts, 1)
    return UploadParts(parts=tuple(PartDigest(number=n, sha256=d) for n, d in digests))


def put(part, content: bytes = BIG, url: str = "", **headers: str) -> int:
    piece = content[part.offset : part.offset + part.size_bytes]
    shown = {PART_DIGEST_HEADER: part_checksum(piece), **headers}
    return httpx.put(url or part.url, content=piece, headers=shown, timeout=30).status_code


def send(store: S3Store, content: bytes, car: str = "car-1") -> str:
    sha256 = wire.digest(content)
    for part in store.grant(car, sha256, ask_of(content)).parts:
        if not part.have:
            assert put(part, content) == 200
    store.complete(car, sha256, named(content))
    return sha256


def keys(server: S3Server, store: S3Store) -> set[str]:
    found = server.client().list_objects_v2(Bucket=BUCKET, Prefix=store._prefix)
    return {o["Key"].removeprefix(store._prefix) for o in found.get("Contents", [])}


def test_clip_lands_whole_with_its_manifest_last_and_leaves_nothing_else(store, s3_server):  # noqa: F811
    assert store.manifest(SHA) is None
    send(store, BIG)
    assert store.pending("car-1") == {SHA: len(BIG)}
    assert store.grant("car-1", SHA, ask_of(BIG)) == Upload(
        complete=True, part_bytes=LEAST_PART_BYTES
    )
    assert store.commit("car-1", manifest_of(BIG))
    assert not store.commit("car-1", manifest_of(BIG))
    assert keys(s3_server, store) == {f"objects/{SHA}", f"clips/{SHA}/manifest.json"}
    assert list(store.clips()) == [manifest_of(BIG)]
    assert store.pending("car-1") == {}


def test_empty_content_and_a_small_one_land(store):
    for content in (b"", b"x"):
        send(store, content)
        assert store.commit("car-1", manifest_of(content))


def test_upload_goes_on_after_the_store_was_killed_in_the_middle(store, s3_server, tmp_path):  # noqa: F811
    home = Home(tmp_path)
    folder = enrol_car(home)
    with gateway(home, store=store) as url, client(folder, url) as car:

        def ask() -> httpx.Response:
            path = f"/v1/cars/car-1/uploads/{SHA}"
            return car.post(path, content=wire.to_bytes(ask_of(BIG)))

        first = wire.from_bytes(Upload, ask().content)
        assert put(first.parts[0]) == 200
        s3_server.kill()
        away = ask()
        assert (away.status_code, away.json()["error"]) == (503, "StoreDownError")
        s3_server.start()
        again = wire.from_bytes(Upload, ask().content)
        assert [part.have for part in again.parts] == [True, False]
        assert put(again.parts[1]) == 200
        complete = f"/v1/cars/car-1/uploads/{SHA}/complete"
        assert car.post(complete, content=wire.to_bytes(named(BIG))).status_code == 200
        path = f"/v1/cars/car-1/clips/{SHA}"
        assert car.put(path, content=wire.to_bytes(manifest_of(BIG))).status_code == 201
        assert car.head(path).status_code == 200
        assert car.put("/v1/cars/car-1/parts/x", content=b"x").status_code == 403


def test_address_is_good_for_its_own_bytes_alone(store):
    one, two = store.grant("car-1", SHA, ask_of(BIG)).parts
    other = wire.digest(b"other")
    path = urlsplit(two.url).path
    bad = {
        "another key": put(two, url=two.url.replace(SHA, other)),
        "another place": put(two, url=two.url.replace(path, f"/{BUCKET}/objects/{SHA}")),
        "another part": put(two, url=two.url.replace("partNumber=2", "partNumber=1")),
        "other bytes": put(two, BIG[: one.size_bytes] + b"evil"),
        "other bytes, honest header": put(
            two,
            BIG[: one.size_bytes] + b"evil",
            **{PART_DIGEST_HEADER: part_checksum(b"tail")},
        ),
        "longer": httpx.put(
            two.url, content=b"tail!", headers={PART_DIGEST_HEADER: part_checksum(b"tail!")}
        ).status_code,
        "no header": httpx.put(two.url, content=b"tail").status_code,
        "reading": httpx.get(two.url).status_code,
        "removing": httpx.delete(two.url).status_code,
    }
    assert all(status in (400, 403) for status in bad.values()), bad
    assert [p.have for p in store.grant("car-1", SHA, ask_of(BIG)).parts] == [False, False]
    assert put(two) == 200


def test_address_ends(store, monkeypatch):
    monkeypatch.setattr("fleet.store_s3.GRANT_LIFE", timedelta(seconds=1))
    part = store.grant("car-1", wire.digest(b"x"), ask_of(b"x")).parts[0]
    threading.Event().wait(2.1)
    assert put(part, b"x") == 403


def test_whole_that_is_another_content_is_discarded(store, s3_server):  # noqa: F811
    name = "0" * 64
    for part in store.grant("car-1", name, ask_of(b"lie")).parts:
        put(part, b"lie")
    with pytest.raises(DigestMismatchError, match="discarded"):
        store.complete("car-1", name, named(b"lie"))
    assert keys(s3_server, store) == set()
    assert store.pending("car-1") == {}
    with pytest.raises(PartsMissingError):
        store.complete("car-1", name, named(b"lie"))


def test_complete_without_all_parts_and_manifest_without_its_files_are_refused(store):
    one, _ = store.grant("car-1", SHA, ask_of(BIG)).parts
    put(one)
    with pytest.raises(PartsMissingError, match="1 of 2 parts are not here, the first is 2"):
        store.complete("car-1", SHA, named(BIG))
    with pytest.raises(IncompleteClipError, match=r"clip\.mcap"):
        store.commit("car-1", manifest_of(BIG))
    with pytest.raises(ForeignClipError):
        store.commit("car-2", manifest_of(BIG))


def test_home_killed_before_it_checked_the_whole_checks_it_when_asked_again(store, s3_server):  # noqa: F811
    for content, name in ((b"true", wire.digest(b"true")), (b"lie", "0" * 64)):
        part = store.grant("car-1", name, ask_of(content)).parts[0]
        put(part, content)
        s3, at = s3_server.client(), {"Bucket": BUCKET}
        at["Key"] = f"{store._prefix}parts/car-1/{name}-{len(content)}"
        upload_id = store._begun(f"car-1/{name}-{len(content)}")
        tag = store._have(f"car-1/{name}-{len(content)}", upload_id)[1]["ETag"]
        checksum = part_checksum(content)
        done = {"Parts": [{"PartNumber": 1, "ETag": tag, "ChecksumSHA256": checksum}]}
        s3.complete_multipart_upload(**at, UploadId=upload_id, MultipartUpload=done)
    assert store.grant("car-1", wire.digest(b"true"), ask_of(b"true")).complete
    store.complete("car-1", wire.digest(b"true"), named(b"true"))
    with pytest.raises(DigestMismatchError):
        store.grant("car-1", "0" * 64, ask_of(b"lie"))


def test_of_two_at_once_one_lands_and_of_two_cars_one_is_refused(store):
    content = b"contested"
    for car in ("car-1", "car-2"):
        send(store, content, car)
    found: list[object] = []

    def commit(car: str) -> None:
        try:
            found.append(store.commit(car, manifest_of(content, car)))
        except ForeignClipError as error:
            found.append(type(error))

    threads = [threading.Thread(target=commit, args=(car,)) for car in ("car-1", "car-2") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(True) == 1
    assert len(list(store.clips())) == 1


def test_content_that_another_car_sent_is_not_this_cars(store):
    send(store, b"secret")
    store.commit("car-1", manifest_of(b"secret"))
    assert not store.grant("car-2", wire.digest(b"secret"), ask_of(b"secret")).complete
    with pytest.raises(ForeignClipError):
        store.commit("car-2", manifest_of(b"secret", "car-2"))


def test_what_was_begun_long_ago_and_left_is_swept(store, s3_server, monkeypatch):  # noqa: F811
    store.grant("car-1", SHA, ask_of(BIG))
    send(store, b"left")
    assert store.sweep() == 0
    monkeypatch.setattr("fleet.store_s3.STALE", timedelta(days=-1))
    assert store.sweep() == 3
    assert store.pending("car-1") == {}
    assert keys(s3_server, store) == set()


def test_car_sends_to_the_store_by_the_same_way_as_to_a_folder(store, tmp_path):
    home = Home(tmp_path)
    enrol_car(home)
    manifest = put_in_outbox(home.car("car-1") / "outbox", BIG)
    with (
        gateway(home, Limits(), store) as url,
        Uplink(car_folder=home.car("car-1"), gateway_url=url, clock=SystemClock()) as uplink,
    ):
        report = uplink.send_all()
    assert report.sent == (manifest.clip_id,), report
    assert list(store.clips()) == [manifest]


def test_gateway_and_status_take_the_store_by_its_address(store, tmp_path, monkeypatch):
    home, address = Home(tmp_path), f"s3://{BUCKET}/{store._prefix}"
    folder = enrol_car(home)
    with (
        GatewayProcess(tmp_path, 0, "--store", address) as process,
        client(folder, process.url) as car,
    ):
        path = f"/v1/cars/car-1/uploads/{wire.digest(b'x')}"
        answer = car.post(path, content=wire.to_bytes(ask_of(b"x")))
        put(wire.from_bytes(Upload, answer.content).parts[0], b"x")
    monkeypatch.setenv("ROADLOOP_HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["status", "--store", address, "--json"])
    assert json.loads(told.output)["cars"]["car-1"]["pending_bytes"] == 1


def test_lake_takes_what_landed_on_the_store_and_home_still_knows_it(store, tmp_path):
    elsewhere, home, address = (
        Home(tmp_path / "a"),
        Home(tmp_path),
        f"s3://{BUCKET}/{store._prefix}",
    )
    land(elsewhere)
    [(folder, manifest)] = Landing(elsewhere).clips()
    for entry in manifest.files:
        send(store, (folder / entry.name).read_bytes(), manifest.car_id)
    assert store.commit(manifest.car_id, manifest)
    report = ingest(home, store=address)
    assert (report.ingested, report.quarantined) == (1, []), report
    assert ingest(home, store=address).ingested == 0
    assert store.manifest(manifest.clip_id) == manifest
    assert not store.commit(manifest.car_id, manifest)
    assert list(store.clips()) == [manifest]


def test_store_that_is_none_or_away_is_named(tmp_path, monkeypatch):
    for url in ("s3://", "http://x", "landing"):
        with pytest.raises(StoreAddressError, match="s3://BUCKET"):
            open_store(Home(tmp_path), url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(StoreDownError, match="s3://bucket/here"):
        open_store(Home(tmp_path), "s3://bucket/here").sweep()
