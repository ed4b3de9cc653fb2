"""Bundle folders: read and verify, write, test on this machine, pack for travel and unpack.

A folder is a bundle when it has `bundle.json`, which is written last and names every other file by
its digest. Nothing else in the folder is ever read.
"""

import io
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.wire import RefusedError
from vehicle.engine import Engine
from vehicle.hard_images import WORST_IMAGE_RATIO, Inputs, hard_images, worst_image

MANIFEST: Final = "bundle.json"
MODEL: Final = "model.onnx"
WEIGHTS: Final = "weights.npz"
GOLDEN: Final = "golden.npz"
HALF: Final = "half.onnx"
FILES: Final = (MODEL, WEIGHTS, GOLDEN, HALF)
"""Every file a bundle may hold beside its manifest; the network and golden vectors are needed."""

MAX_ARCHIVE_BYTES: Final = 128_000_000
"""No bundle is larger: the shipped one is under 5 MB."""


class BundleMissingError(RefusedError):
    """The folder has no manifest, so it is no bundle."""


class BundleFormatError(RefusedError):
    """A bundle lacks a file it needs, or names one that no bundle holds."""


class TamperedBundleError(RefusedError):
    """A file of a bundle is not the one its manifest names."""


class SelfTestError(RefusedError):
    """On this machine the network does not give the answers it gave when it was exported."""


class SlowImageError(SelfTestError):
    """On this machine the network takes much longer on some pictures than on others."""


class UnsafeArchiveError(RefusedError):
    """An archive holds something else than the plain files of one bundle."""


def base_folder() -> Path:
    """Return the folder of the bundle that ships with the package."""
    return Path(__file__).parent / "base"


def digest_of(folder: Path) -> str:
    """Return the bundle digest: sha256 of the manifest's bytes.

    Raises:
        BundleMissingError: there is no manifest.
    """
    return wire.digest(_manifest_bytes(folder))


def load(folder: Path) -> ModelBundle:
    """Return the manifest of a bundle after checking every file it names.

    Raises:
        BundleMissingError: there is no manifest.
        ContractError: the manifest is not one, or names a file outside the folder.
        BundleFormatError: a needed file is not named, or an unknown one is.
        TamperedBundleError: a file is missing, a link, or has another digest.
    """
    bundle = wire.from_bytes(ModelBundle, _manifest_bytes(folder))
    names = [entry.name for entry in bundle.files]
    unknown = sorted(set(names) - set(FILES))
    lacking = sorted({MODEL, GOLDEN} - set(names))
    if unknown or lacking or len(set(names)) != len(names):
        raise BundleFormatError(
            f"{folder}: the manifest names {names}; unknown: {unknown}, lacking: {lacking}, "
            f"expected each of {list(FILES)} once ({WEIGHTS} and {HALF} may be left out)"
        )
    for entry in bundle.files:
        _verify(folder, entry)
    return bundle


def write(folder: Path, files: Mapping[str, bytes | Path], **fields: Any) -> ModelBundle:
    """Write a bundle folder, its manifest last, and return the manifest.

    Args:
        folder: made when absent; a bundle already there stops being one until this is done.
        files: name -> content, or the file it is copied from (which may be in place already).
        fields: every field of ModelBundle except `files`.
    Raises:
        BundleFormatError: a name that no bundle holds.
        ContractError: the fields make no valid manifest.
    """
    unknown = sorted(set(files) - set(FILES))
    if unknown:
        raise BundleFormatError(f"a bundle holds {list(FILES)}, not {unknown}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    entries = []
    for name in sorted(files):
        content, path = files[name], folder / name
        if isinstance(content, Path):
            content = content.read_bytes()
        wire.atomic_write(path, content)
        entries.append(FileEntry(name=name, sha256=wire.digest(content), size_bytes=len(content)))
    bundle = ModelBundle(**fields, files=tuple(entries))
    wire.atomic_write(folder / MANIFEST, wire.to_bytes(bundle))
    return bundle


def self_test(folder: Path) -> None:
    """Run the golden inputs through the engine of this machine and compare the outputs.

    Then black, white, saturated and noisy pictures: none may give NaN, and none may take much
    longer than the others.

    Raises:
        SelfTestError: an output is missing, not finite or too far from the golden one; it names
            the output, the largest difference and what is allowed.
        SlowImageError: the slowest picture takes over 1.3 times the median one's time.
        ModelFileError: the network cannot be opened; and all errors of `load`.
    """
    bundle = load(folder)
    golden = _golden(bundle, folder / GOLDEN)
    with Engine(folder / MODEL) as engine:
        for what, found, wanted in (
            ("inputs", engine.inputs, bundle.inputs),
            ("outputs", engine.outputs, bundle.outputs),
        ):
            if {s.name: s for s in found} != {s.name: s for s in wanted}:
                raise SelfTestError(
                    f"bundle {bundle.tag}: the network's {what} are {found}, its manifest says "
                    f"{wanted}; export it again"
                )
        names = [s.name for s in bundle.inputs]
        lacking = [n for n in names if f"in_{n}" not in golden]
        if lacking:
            raise SelfTestError(f"bundle {bundle.tag}: {GOLDEN} has no input {lacking[0]!r}")
        answer = engine.run({n: np.ascontiguousarray(golden[f"in_{n}"]) for n in names})
        for spec in bundle.outputs:
            _compare(bundle, spec.name, answer[spec.name], golden.get(f"out_{spec.name}"))
        _try_hard_images(bundle, engine, hard_images(bundle.inputs, golden))
    if any(entry.name == HALF for entry in bundle.files):
        with Engine(folder / HALF) as half:
            _try_hard_images(bundle, half, hard_images(half.inputs, {}))


def pack(folder: Path) -> bytes:
    """Return a bundle as one uncompressed tar, the same bytes on every machine.

    Only the manifest and the files it names go in, sorted, the manifest last, with owner, time and
    mode fixed.

    Raises:
        All errors of `load`: what does not verify does not travel.
    """
    names = [*sorted(entry.name for entry in load(folder).files), MANIFEST]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            data = (folder / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, 0
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpack(archive: Path, into: Path) -> ModelBundle:
    """Unpack a tar of `pack` into a new or empty folder, verify it, and return its manifest.

    Only plain files with the names of a bundle come out; no path of the archive is ever followed.
    On any error nothing of it is left.

    Raises:
        UnsafeArchiveError: too large, cut, not a tar, or holding a link, a device, a folder, a
            path, a name twice or a name that no bundle has; it names the member.
        All errors of `load`.
    """
    made = not into.exists()
    if not made and any(into.iterdir()):
        raise UnsafeArchiveError(f"{into} is not empty: unpack into a new folder")
    contents = _read_members(archive)
    into.mkdir(parents=True, exist_ok=True)
    try:
        for name in sorted(contents, key=lambda n: (n == MANIFEST, n)):
            wire.atomic_write(into / name, contents[name])
        return load(into)
    except BaseException:
        for name in contents:
            (into / name).unlink(missing_ok=True)
        if made:
            shutil.rmtree(into, ignore_errors=True)
        raise


def _read_members(archive: Path) -> dict[str, bytes]:
    size = archive.stat().st_size if archive.is_file() else -1
    if not 0 <= size <= MAX_ARCHIVE_BYTES:
        found = "no such file" if size < 0 else f"{size} bytes"
        raise UnsafeArchiveError(f"{archive}: {found}, expected at most {MAX_ARCHIVE_BYTES} bytes")
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                name = _safe_name(archive, member, contents)
                contents[name] = _read(tar, member, size)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise UnsafeArchiveError(f"{archive} is not a whole tar of a bundle: {error}") from error
    if MANIFEST not in contents:
        raise UnsafeArchiveError(f"{archive} holds {sorted(contents)}, expected {MANIFEST} too")
    return contents


def _safe_name(archive: Path, member: tarfile.TarInfo, seen: Mapping[str, bytes]) -> str:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise UnsafeArchiveError(
            f"{archive}: member {member.name!r} has type {member.type!r}, expected a plain file"
        )
    if member.name not in (*FILES, MANIFEST) or member.name in seen:
        raise UnsafeArchiveError(
            f"{archive}: member {member.name!r} is refused, expected each of "
            f"{[*FILES, MANIFEST]} at most once"
        )
    return member.name


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, archive_bytes: int) -> bytes:
    if not 0 <= member.size <= archive_bytes:
        raise UnsafeArchiveError(
            f"member {member.name!r} claims {member.size} bytes in an archive of {archive_bytes}"
        )
    file = tar.extractfile(member)
    data = file.read(member.size) if file else b""
    if len(data) != member.size:
        raise UnsafeArchiveError(
            f"member {member.name!r} is cut: {len(data)} of {member.size} bytes"
        )
    return data


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise BundleMissingError(f"{folder} is not a bundle: it has no file {MANIFEST}")
    return path.read_bytes()


def _verify(folder: Path, entry: FileEntry) -> None:
    path = folder / entry.name
    if path.is_symlink() or not path.is_file():
        raise TamperedBundleError(
            f"{folder}: {entry.name} is missing or no plain file, expected sha256 {entry.sha256}"
        )
    found = wire.digest_file(path)
    if found != entry.sha256 or path.stat().st_size != entry.size_bytes:
        raise TamperedBundleError(
            f"{folder}: {entry.name} has sha256 {found}, the manifest says {entry.sha256}; "
            "fetch the bundle again"
        )


def _golden(bundle: ModelBundle, path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise SelfTestError(f"bundle {bundle.tag}: {GOLDEN} holds no arrays: {error}") from error


def _try_hard_images(bundle: ModelBundle, engine: Engine, images: dict[str, Inputs]) -> None:
    for image, inputs in images.items():
        for name, array in engine.run(inputs).items():
            if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
                raise SelfTestError(
                    f"bundle {bundle.tag}: output {name!r} is not finite on a {image} picture"
                )
    slowest, ratio, took_ms = worst_image(images, engine.run)
    if ratio > WORST_IMAGE_RATIO:
        figures = ", ".join(f"{n} {ms:.2f} ms" for n, ms in took_ms.items())
        raise SlowImageError(
            f"bundle {bundle.tag}: a {slowest} picture takes {ratio:.2f} times the median one's "
            f"time ({figures}), allowed {WORST_IMAGE_RATIO}: quantise it, or find the subnormal "
            "numbers"
        )


def _compare(bundle: ModelBundle, name: str, found: np.ndarray, wanted: np.ndarray | None) -> None:
    allowed = bundle.golden.get(name)
    if wanted is None or allowed is None or wanted.shape != found.shape:
        raise SelfTestError(
            f"bundle {bundle.tag}: output {name!r} has no golden answer of shape "
            f"{list(found.shape)} with an allowed difference; export it again"
        )
    worst = float(np.max(np.abs(found.astype(np.float64) - wanted)))
    if not (worst <= allowed and bool(np.isfinite(found).all())):
        raise SelfTestError(
            f"bundle {bundle.tag}: output {name!r} differs by {worst:.3g} from its golden answer, "
            f"allowed {allowed:.3g}: it must not drive on this machine"
        )
