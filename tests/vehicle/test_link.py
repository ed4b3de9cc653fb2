"""The installer over real HTTP: the gateway itself, and servers that misbehave."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes_fleet import Fleet, FolderLink
from fakes_gateway import gateway
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError

from fleet.identity import enrol
from vehicle import bundles
from vehicle.clock import SystemClock
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import IDENTITY
from vehicle.identity import NotEnrolledError
from vehicle.installer import GatewayDownError, SlowGatewayError, TamperedReleaseError
from vehicle.link import HttpLink, download

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def server(answer: Handler) -> Iterator[str]:
    """Run a server that answers every GET by `answer`."""

    class Rude(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rude) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}"
        finally:
            made.shutdown()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.publish(1)
    enrol(Home(tmp_path / "home"), "car-1", "", fleet.car_folder / IDENTITY)
    return fleet


def test_release_travels_through_the_gateway_into_the_car(fleet: Fleet) -> None:
    with gateway(Home(fleet.root / "home")) as url:
        result = fleet.installer(link=None).update(url)
    assert result.status == "installed"
    assert fleet.installer().active() == result.folder
    bundles.self_test(result.folder)


def test_gateway_goes_on_where_a_download_was_cut(fleet: Fleet) -> None:
    fleet.link.cut_at = 1000
    with pytest.raises(GatewayDownError):
        fleet.installer().update("http://home")
    size = fleet.repository.releases()[0].archive.size_bytes
    with gateway(Home(fleet.root / "home")) as url:
        assert fleet.installer(link=None).update(url).received_bytes == size - 1000


def test_archive_changed_on_the_gateway_is_refused(fleet: Fleet) -> None:
    (archive,) = fleet.repository.targets_folder.rglob("*.tar")
    data = bytearray(archive.read_bytes())
    data[700] ^= 1
    archive.write_bytes(bytes(data))
    with (
        gateway(Home(fleet.root / "home")) as url,
        pytest.raises(TamperedReleaseError, match=r"1\.tar: found sha256"),
    ):
        fleet.installer(link=None).update(url)
    assert fleet.installer().active() == fleet.base


def test_car_without_an_identity_is_told_how_to_get_one(fleet: Fleet) -> None:
    (fleet.car_folder / IDENTITY / "car.crt").unlink()
    with pytest.raises(NotEnrolledError, match="roadloop fleet enrol"):
        fleet.installer(link=None).update("https://127.0.0.1:9")


def test_closed_door_is_named(fleet: Fleet) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    with pytest.raises(GatewayDownError):
        fleet.installer(link=None).update(f"https://127.0.0.1:{port}")


def test_address_that_is_none_is_named(fleet: Fleet) -> None:
    with pytest.raises(GatewayDownError):
        fleet.installer(link=None).update("not an address")


def test_server_that_goes_silent_is_given_up(fleet: Fleet) -> None:
    with server(lambda request: time.sleep(0.5)) as url:
        link = HttpLink(SystemClock(), gap_s=0.1)
        with pytest.raises(SlowGatewayError):
            fleet.installer(link=link).update(url)


def test_server_that_drips_meets_the_total_deadline() -> None:
    def drip(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(20):
            request.wfile.write(b"x")
            time.sleep(0.05)

    with server(drip) as url, pytest.raises(SlowRetrievalError, match=r"not done in 0\.2 s"):
        list(HttpLink(SystemClock(), gap_s=5.0, total_s=0.2).read(url))


def test_server_without_ranges_is_read_from_the_offset() -> None:
    def whole(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"0123456789")

    with server(whole) as url:
        assert b"".join(HttpLink(SystemClock()).read(url, 4)) == b"456789"


def test_redirect_is_not_followed() -> None:
    def elsewhere(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", "http://127.0.0.1:1/")
        request.end_headers()

    with server(elsewhere) as url, pytest.raises(DownloadHTTPError, match="302"):
        list(HttpLink(SystemClock()).read(url))


def test_answer_cut_short_keeps_what_came(tmp_path: Path) -> None:
    def cut(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"01234")

    path = tmp_path / "x.part"
    with server(cut) as url, pytest.raises(DownloadError):
        download(HttpLink(SystemClock()), url, path, 10)
    assert path.read_bytes() == b"01234"


def test_part_longer_than_signed_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "f").write_bytes(b"abc")
    path = tmp_path / "f.part"
    path.write_bytes(b"too long")
    assert download(FolderLink(tmp_path), "http://home/tuf/metadata/f", path, 3) == 3
    assert path.read_bytes() == b"abc"
