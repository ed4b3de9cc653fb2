import hashlib
import os

import pytest
from fakes_clip import manifest_of

from fleet.landing import (
    ContentNameError,
    DigestMismatchError,
    ForeignClipError,
    IncompleteClipError,
    Landing,
    PartsMissingError,
    Uploads,
)
from fleet.registry import CarNameError
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import PartDigest, cut

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
PART = 4096


def digests(content: bytes = CONTENT) -> list[PartDigest]:
    return [
        PartDigest(number=n, sha256=wire.digest(content[at : at + size]))
        for n, at, size in cut(len(content), PART)
    ]


def put(uploads: Uploads, number: int, offset: int, data: bytes, sha256: str = SHA) -> None:
    uploads.put(sha256, PartDigest(number=number, sha256=wire.digest(data)), offset, data)


def upload(home: Home, content: bytes = CONTENT, car: str = "car-1", name: str = "") -> Uploads:
    uploads, sha256 = Uploads(home, car), name or wire.digest(content)
    uploads.begin(sha256, len(content))
    for number, offset, size in cut(len(content), PART):
        put(uploads, number, offset, content[offset : offset + size], sha256)
    uploads.complete(sha256, digests(content))
    return uploads


def test_parts_in_any_order_become_a_checked_whole(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    assert uploads.begin(SHA, len(CONTENT)) == {}
    for number, offset, size in reversed(list(cut(len(CONTENT), PART))):
        assert uploads.whole(SHA) is None
        put(uploads, number, offset, CONTENT[offset : offset + size])
    assert uploads.begin(SHA, len(CONTENT)) == {p.number: p.sha256 for p in digests()}
    assert uploads.received(SHA) == len(CONTENT)
    uploads.complete(SHA, digests())
    assert uploads.whole(SHA).read_bytes() == CONTENT
    uploads.complete(SHA, digests())
    assert [p.name for p in uploads.whole(SHA).parent.iterdir()] == [SHA]


def test_complete_without_all_parts_says_which(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    with pytest.raises(PartsMissingError, match="ask"):
        uploads.complete(SHA, digests())
    uploads.begin(SHA, len(CONTENT))
    put(uploads, 1, 0, CONTENT[:PART])
    with pytest.raises(PartsMissingError, match="2 of 3 parts are not here, the first is 2"):
        uploads.complete(SHA, digests())
    with pytest.raises(PartsMissingError, match="not begun"):
        put(Uploads(Home(tmp_path), "car-2"), 1, 0, b"x")


def test_line_cut_by_a_crash_is_a_part_that_is_not_here(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    uploads.begin(SHA, len(CONTENT))
    put(uploads, 1, 0, CONTENT[:PART])
    [lines] = (tmp_path / "fleet" / "uploads" / "car-1").glob("*.have")
    with lines.open("a") as file:
        file.write("2 4096 abc")
    assert list(uploads.begin(SHA, len(CONTENT))) == [1]


def test_content_that_is_not_what_its_name_says_is_discarded(tmp_path):
    home = Home(tmp_path)
    with pytest.raises(DigestMismatchError):
        upload(home, CONTENT[:-1] + b"\x01", name=SHA)
    assert Uploads(home, "car-1").received(SHA) == 0
    assert Uploads(home, "car-1").pending() == {}


def test_part_that_a_power_loss_took_is_found_missing_when_the_whole_is_checked(tmp_path):
    home = Home(tmp_path)
    uploads = Uploads(home, "car-1")
    uploads.begin(SHA, len(CONTENT))
    for number, offset, size in cut(len(CONTENT), PART):
        put(uploads, number, offset, CONTENT[offset : offset + size])
    [part] = (tmp_path / "fleet" / "uploads" / "car-1").glob("*.part")
    with part.open("r+b") as file:
        file.write(bytes(PART))
    with pytest.raises(DigestMismatchError):
        uploads.complete(SHA, digests())
    upload(home)


def test_what_is_promised_counts_as_pending(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    uploads.begin(SHA, 10_000)
    assert uploads.pending() == {SHA: 10_000}


@pytest.mark.parametrize("name", ["", "..", "x" * 64, SHA.upper(), SHA + "0", "../" + SHA[3:]])
def test_hostile_content_names_are_refused(tmp_path, name):
    home = Home(tmp_path)
    with pytest.raises(ContentNameError):
        Uploads(home, "car-1").begin(name, 1)
    with pytest.raises(ContentNameError):
        Landing(home).has(name)
    with pytest.raises(CarNameError):
        Uploads(home, "../car-1")


def test_clip_lands_whole_and_twice_is_once(tmp_path):
    home = Home(tmp_path)
    landing = Landing(home)
    upload(home)
    assert landing.commit("car-1", manifest_of(CONTENT))
    assert not landing.commit("car-1", manifest_of(CONTENT))
    [(folder, clip)] = landing.clips()
    assert (folder / "clip.mcap").read_bytes() == CONTENT
    assert clip == manifest_of(CONTENT)
    assert Uploads(home, "car-1").pending() == {}


def test_manifest_without_its_files_names_all_that_is_missing(tmp_path):
    home = Home(tmp_path)
    uploads = Uploads(home, "car-1")
    uploads.begin(SHA, len(CONTENT))
    put(uploads, 1, 0, CONTENT[:PART])
    other = FileEntry(name="truth.npz", sha256="0" * 64, size_bytes=5)
    clip = manifest_of(CONTENT)
    with pytest.raises(IncompleteClipError) as refusal:
        Landing(home).commit("car-1", manifest_of(CONTENT, files=(*clip.files, other)))
    assert refusal.value.reasons == [
        "clip.mcap: 4096 of 10240 bytes are here",
        "truth.npz: 0 of 5 bytes are here",
    ]
    assert list(Landing(home).clips()) == []


def test_manifest_that_takes_the_manifests_name_is_refused(tmp_path):
    home = Home(tmp_path)
    upload(home)
    bad = FileEntry(name="manifest.json", sha256=SHA, size_bytes=len(CONTENT))
    with pytest.raises(IncompleteClipError, match="taken"):
        Landing(home).commit("car-1", manifest_of(CONTENT, files=(bad,)))


def test_clip_of_another_car_is_refused(tmp_path):
    home = Home(tmp_path)
    upload(home)
    upload(home, car="car-2")
    with pytest.raises(ForeignClipError):
        Landing(home).commit("car-2", manifest_of(CONTENT))
    Landing(home).commit("car-1", manifest_of(CONTENT))
    with pytest.raises(ForeignClipError):
        Landing(home).commit("car-2", manifest_of(CONTENT, "car-2"))


def test_cut_commit_is_swept_and_can_be_done_again(tmp_path, monkeypatch):
    home = Home(tmp_path)
    upload(home)
    with monkeypatch.context() as patch:
        patch.setattr(wire, "atomic_write", _no_space)
        with pytest.raises(OSError, match="No space"):
            Landing(home).commit("car-1", manifest_of(CONTENT))
    assert list(home.landing.iterdir()) == []
    (home.landing / ".tmp-killed").mkdir()
    assert Landing(home).sweep() == 1
    assert Landing(home).commit("car-1", manifest_of(CONTENT))


def test_content_of_a_landed_clip_is_swept_from_the_uploads(tmp_path):
    home = Home(tmp_path)
    piece = upload(home).whole(SHA)
    keep = tmp_path / "keep"
    os.link(piece, keep)
    Landing(home).commit("car-1", manifest_of(CONTENT))
    os.link(keep, piece)
    assert Landing(home).sweep() == 1
    assert not piece.exists()


def test_content_of_a_clip_that_ingest_has_settled_is_swept_from_the_uploads(tmp_path):
    home = Home(tmp_path)
    piece = upload(home).whole(SHA)
    Landing(home).commit("car-1", manifest_of(CONTENT))
    piece.write_bytes(CONTENT)  # the gateway was killed before it let go of it
    (home.landing / SHA / "clip.mcap").unlink()
    assert Landing(home).sweep() == 1
    assert not piece.exists()


def test_list_of_parts_that_a_kill_left_beside_the_whole_goes_with_it(tmp_path):
    home = Home(tmp_path)
    uploads = upload(home)
    parts = tmp_path / "fleet" / "uploads" / "car-1" / f"{SHA}.have"
    parts.write_text("1 4096 x\n")
    Landing(home).commit("car-1", manifest_of(CONTENT))
    assert (parts.exists(), uploads.pending()) == (False, {})


def test_what_was_begun_long_ago_and_left_is_swept(tmp_path):
    home = Home(tmp_path)
    Uploads(home, "car-1").begin(SHA, 10)
    Uploads(home, "car-1").begin("0" * 64, 10)
    os.utime(tmp_path / "fleet" / "uploads" / "car-1" / f"{SHA}.part", (1e9, 1e9))
    assert Landing(home).sweep(stale_before_s=1.1e9) == 1
    assert Uploads(home, "car-1").pending() == {"0" * 64: 10}


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")
