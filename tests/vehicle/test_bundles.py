"""Bundles verify, test themselves, travel as one archive, and nothing else comes out of one."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from vehicle import bundles
from vehicle.bundles import (
    BundleFormatError,
    BundleMissingError,
    SelfTestError,
    TamperedBundleError,
    UnsafeArchiveError,
)
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry

WRITTEN = (bundles.MODEL, bundles.WEIGHTS, bundles.GOLDEN)
"""The files of a tiny bundle."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    tiny_bundle.make(made)
    return made


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def test_written_bundle_is_read_back_and_passes_its_own_test(folder: Path) -> None:
    bundle = bundles.load(folder)
    assert bundle.tag == "tiny@1"
    assert [e.name for e in bundle.files] == sorted(WRITTEN)
    assert bundles.digest_of(folder) == wire.digest((folder / "bundle.json").read_bytes())
    bundles.self_test(folder)


def test_two_writes_give_the_same_digest(folder: Path, tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path / "again")
    assert bundles.digest_of(tmp_path / "again") == bundles.digest_of(folder)


def test_folder_without_manifest_is_no_bundle(folder: Path) -> None:
    (folder / "bundle.json").unlink()
    for act in (bundles.load, bundles.digest_of, bundles.self_test, bundles.pack):
        with pytest.raises(BundleMissingError, match=r"bundle\.json"):
            act(folder)


@pytest.mark.parametrize("name", WRITTEN)
def test_changed_file_is_named_with_both_digests(folder: Path, name: str) -> None:
    expected = wire.digest_file(folder / name)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(TamperedBundleError) as caught:
        bundles.load(folder)
    assert name in str(caught.value)
    assert expected in str(caught.value)
    assert wire.digest(bytes(data)) in str(caught.value)


def test_missing_or_linked_file_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (folder / "model.onnx").rename(outside)
    with pytest.raises(TamperedBundleError, match=r"model\.onnx"):
        bundles.load(folder)
    (folder / "model.onnx").symlink_to(outside)
    with pytest.raises(TamperedBundleError, match=r"model\.onnx"):
        bundles.load(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", ".hidden", "a\\b"])
def test_manifest_with_a_path_is_refused(folder: Path, name: str) -> None:
    text = (
        (folder / "bundle.json").read_text().replace('"model.onnx"', wire.canonical(name).decode())
    )
    (folder / "bundle.json").write_text(text)
    with pytest.raises(wire.ContractError, match="not plain"):
        bundles.load(folder)


def test_manifest_with_an_unknown_or_without_a_needed_file_is_refused(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"golden.npz"', '"run.sh"'))
    with pytest.raises(BundleFormatError, match=r"run\.sh"):
        bundles.load(folder)
    with pytest.raises(BundleFormatError, match=r"run\.sh"):
        bundles.write(folder, {"run.sh": b""})


def test_failed_write_leaves_no_manifest(folder: Path) -> None:
    with pytest.raises(TypeError):
        bundles.write(folder, {"model.onnx": b"new"}, name="half")
    with pytest.raises(BundleMissingError):
        bundles.load(folder)


def regolden(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Write the bundle again with other golden vectors."""
    bundle = bundles.load(folder)
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    change(golden)
    fields = {n: getattr(bundle, n) for n in bundle.__slots__ if n != "files"}
    files = {n: folder / n for n in WRITTEN}
    bundles.write(folder, {**files, "golden.npz": tiny_bundle.npz(golden)}, **fields)


def test_self_test_names_the_output_and_the_difference(folder: Path) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        golden["out_embedding"][0, 5] += 0.25

    regolden(folder, change)
    with pytest.raises(SelfTestError, match=r"'embedding' differs by 0\.25 .* allowed 0\.0001"):
        bundles.self_test(folder)


@pytest.mark.parametrize("name", ["out_heat", "in_side"])
def test_self_test_needs_every_golden_vector(folder: Path, name: str) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        del golden[name]

    regolden(folder, change)
    with pytest.raises(SelfTestError, match=name.split("_")[1]):
        bundles.self_test(folder)


@pytest.mark.parametrize("content", [b"", b"PK not a zip", b"\x93NUMPY"])
def test_self_test_refuses_golden_vectors_that_are_no_arrays(folder: Path, content: bytes) -> None:
    bundle = bundles.load(folder)
    fields = {n: getattr(bundle, n) for n in bundle.__slots__ if n != "files"}
    files: dict[str, bytes | Path] = {n: folder / n for n in WRITTEN}
    bundles.write(folder, files | {"golden.npz": content}, **fields)
    with pytest.raises(SelfTestError, match="no arrays"):
        bundles.self_test(folder)


def test_self_test_refuses_nan(folder: Path) -> None:
    bundle = bundles.load(folder)
    fields = {n: getattr(bundle, n) for n in bundle.__slots__ if n != "files"}
    files = {n: folder / n for n in WRITTEN} | {"model.onnx": tiny_bundle.network(nan=True)}
    bundles.write(folder, files, **fields)
    with pytest.raises(SelfTestError, match="heat"):
        bundles.self_test(folder)


def test_packed_bundle_is_the_same_bytes_whoever_packs_it(folder: Path, tmp_path: Path) -> None:
    first = bundles.pack(folder)
    (folder / "model.onnx").touch()
    (folder / "model.onnx").chmod(0o600)
    (folder / "left-over.txt").write_text("does not travel")
    assert bundles.pack(folder) == first
    archive = tmp_path / "bundle.tar"
    archive.write_bytes(first)
    bundle = bundles.unpack(archive, tmp_path / "car")
    assert bundle == bundles.load(folder)
    assert bundles.digest_of(tmp_path / "car") == bundles.digest_of(folder)
    assert sorted(p.name for p in (tmp_path / "car").iterdir()) == sorted(
        [*WRITTEN, bundles.MANIFEST]
    )


@pytest.mark.parametrize(
    "member",
    [
        named("../model.onnx"),
        named("/tmp/model.onnx"),
        named("deep/model.onnx"),
        named("run.sh"),
        named("model.onnx", tarfile.SYMTYPE, "/etc/passwd"),
        named("model.onnx", tarfile.LNKTYPE, "bundle.json"),
        named("model.onnx", tarfile.CHRTYPE),
        named("model.onnx", tarfile.FIFOTYPE),
        named("model.onnx", tarfile.DIRTYPE),
    ],
    ids=lambda m: f"{m.name}-{m.type.decode()}",
)
def test_archive_with_anything_but_plain_bundle_files_is_refused(
    member: tarfile.TarInfo, tmp_path: Path
) -> None:
    archive, into = tmp_path / "bad.tar", tmp_path / "car"
    archive.write_bytes(tar_of([(named("bundle.json"), b"{}"), (member, b"")]))
    with pytest.raises(UnsafeArchiveError, match="member"):
        bundles.unpack(archive, into)
    assert not into.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar"]


def test_archive_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    archive.write_bytes(tar_of([(named("model.onnx"), b"a"), (named("model.onnx"), b"b")]))
    with pytest.raises(UnsafeArchiveError, match="at most once"):
        bundles.unpack(archive, tmp_path / "car")


@pytest.mark.parametrize("cut", [0, 100, 700, 5000])
def test_cut_archive_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path, cut: int) -> None:
    archive, into = tmp_path / "cut.tar", tmp_path / "car"
    archive.write_bytes(bundles.pack(folder)[:cut])
    with pytest.raises(UnsafeArchiveError):
        bundles.unpack(archive, into)
    assert not into.exists()


def test_compressed_or_absent_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    with pytest.raises(UnsafeArchiveError, match="no such file"):
        bundles.unpack(archive, tmp_path / "car")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "model.onnx", "model.onnx")
    with pytest.raises(UnsafeArchiveError, match="not a whole tar"):
        bundles.unpack(archive, tmp_path / "car")


def test_oversize_archive_is_refused_unread(tmp_path: Path) -> None:
    archive = tmp_path / "big.tar"
    with archive.open("wb") as file:
        file.truncate(bundles.MAX_ARCHIVE_BYTES + 1)
    with pytest.raises(UnsafeArchiveError, match="at most"):
        bundles.unpack(archive, tmp_path / "car")


def test_tampered_archive_is_refused_by_the_name_of_the_file(folder: Path, tmp_path: Path) -> None:
    data = bytearray(bundles.pack(folder))
    place = data.index(b"direction")
    data[place] ^= 1
    archive, into = tmp_path / "bad.tar", tmp_path / "car"
    archive.write_bytes(data)
    with pytest.raises(TamperedBundleError, match=r"model\.onnx"):
        bundles.unpack(archive, into)
    assert not into.exists()


def test_unpacking_over_something_is_refused(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar"
    archive.write_bytes(bundles.pack(folder))
    with pytest.raises(UnsafeArchiveError, match="not empty"):
        bundles.unpack(archive, folder)
    assert bundles.load(folder)


def test_file_names_with_paths_are_never_entries() -> None:
    with pytest.raises(wire.ContractError):
        FileEntry(name="../x", sha256="0" * 64, size_bytes=0)


def test_base_bundle_passes_its_own_test_on_this_machine() -> None:
    bundles.self_test(bundles.base_folder())
