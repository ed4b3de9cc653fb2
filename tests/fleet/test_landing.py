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
    UploadOffsetError,
    Uploads,
    UploadTooLargeError,
)
from fleet.registry import CarNameError
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.home import Home

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


def upload(home: Home, content: bytes = CONTENT, car: str = "car-1") -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    Uploads(home, car).append(sha256, 0, len(content), content)


def test_pieces_become_a_checked_whole(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    assert uploads.offset(SHA) == 0
    for start in range(0, len(CONTENT), 4096):
        assert uploads.whole(SHA) is None
        uploads.append(SHA, start, len(CONTENT), CONTENT[start : start + 4096])
    assert uploads.whole(SHA).read_bytes() == CONTENT
    assert uploads.append(SHA, 0, len(CONTENT), b"again") == len(CONTENT)


def test_piece_at_the_wrong_place_is_refused_with_the_right_one(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    uploads.append(SHA, 0, len(CONTENT), CONTENT[:100])
    with pytest.raises(UploadOffsetError) as refusal:
        uploads.append(SHA, 200, len(CONTENT), CONTENT[200:300])
    assert refusal.value.offset == 100


def test_content_that_is_not_what_its_name_says_is_discarded(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    with pytest.raises(DigestMismatchError):
        uploads.append(SHA, 0, len(CONTENT), CONTENT[:-1] + b"\x01")
    assert uploads.offset(SHA) == 0
    assert uploads.pending_bytes() == 0


def test_more_than_announced_is_refused(tmp_path):
    uploads = Uploads(Home(tmp_path), "car-1")
    with pytest.raises(UploadTooLargeError):
        uploads.append(SHA, 0, 10, CONTENT)


@pytest.mark.parametrize("name", ["", "..", "x" * 64, SHA.upper(), SHA + "0", "../" + SHA[3:]])
def test_hostile_content_names_are_refused(tmp_path, name):
    home = Home(tmp_path)
    with pytest.raises(ContentNameError):
        Uploads(home, "car-1").offset(name)
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
    assert Uploads(home, "car-1").pending_bytes() == 0


def test_manifest_without_its_files_names_all_that_is_missing(tmp_path):
    home = Home(tmp_path)
    Uploads(home, "car-1").append(SHA, 0, len(CONTENT), CONTENT[:100])
    other = FileEntry(name="truth.npz", sha256="0" * 64, size_bytes=5)
    clip = manifest_of(CONTENT)
    with pytest.raises(IncompleteClipError) as refusal:
        Landing(home).commit("car-1", manifest_of(CONTENT, files=(*clip.files, other)))
    assert refusal.value.reasons == [
        "clip.mcap: 100 of 10240 bytes are here",
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
    upload(home)
    piece = Uploads(home, "car-1").whole(SHA)
    keep = tmp_path / "keep"
    os.link(piece, keep)
    Landing(home).commit("car-1", manifest_of(CONTENT))
    os.link(keep, piece)
    assert Landing(home).sweep() == 1
    assert not piece.exists()


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")
