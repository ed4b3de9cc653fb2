"""What a car does with a release it is offered: values in, a decision or a named refusal out.

Nothing here touches the disk or the network, so that every attack can be put to it as values.
"""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile

from vehicle.contracts import wire
from vehicle.contracts.release import RELEASE_FIELD, Release
from vehicle.contracts.wire import RefusedError


class InstallError(RefusedError):
    """Root of every reason for which a car does not install; what drives now stays."""


class UnknownSignerError(InstallError):
    """Metadata is not signed by enough of the keys this car trusts."""


class TamperedReleaseError(InstallError):
    """Bytes are not the ones that were signed."""


class EndlessDataError(TamperedReleaseError):
    """The gateway sends more bytes than were signed."""


class RollbackError(InstallError):
    """The gateway offers something older than this car has seen."""


class ReusedCounterError(InstallError):
    """Two different bundles carry one release counter."""


class FreezeError(InstallError):
    """What the gateway calls newest has expired: the car may be kept from newer releases."""


class WrongRigError(InstallError):
    """The release is for other cameras than this car has."""


class SelfTestFailedError(InstallError):
    """On this car the network does not give its golden answers."""


class GatewayDownError(InstallError):
    """The gateway cannot be reached or has no repository."""


class SlowGatewayError(GatewayDownError):
    """The gateway sends too slowly to ever finish."""


class TrustRootError(InstallError):
    """The pinned root is missing or unreadable, or another one is already pinned."""


class UnreadableReleaseError(InstallError):
    """A release is signed but written in words this car does not know."""


class NoRoomError(InstallError):
    """The car's disk has no room for the release beside what drives."""


class DiskError(InstallError):
    """The car's disk cannot be read or written."""


class InstallerBusyError(InstallError):
    """Another installer works on this car."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a car knows of itself before it looks at what is offered.

    Args:
        rig_digest: of its cameras.
        floor_counter: newest release ever committed here.
        installed: the release that drives, None when none does or its slot is broken.
        blocked: bundle digest -> why it failed here.
    """

    rig_digest: str
    floor_counter: int = 0
    installed: Release | None = None
    blocked: Mapping[str, str] = field(default_factory=dict)


def choose(offered: Iterable[Release], car: Standing) -> Release | None:
    """Return the release this car must install, or None when it has it.

    Raises:
        WrongRigError, RollbackError, ReusedCounterError.
        SelfTestFailedError: the newest release failed here before.
    """
    offered = list(offered)
    fitting = [r for r in offered if r.rig_digest == car.rig_digest]
    if offered and not fitting:
        raise WrongRigError(
            f"{offered[-1].bundle} is for rig {offered[-1].rig_digest[:12]}, this car has "
            f"{car.rig_digest[:12]}; nothing offered fits"
        )
    newest = max(fitting, key=lambda r: r.release_counter, default=None)
    if newest is None or newest.release_counter < car.floor_counter:
        if car.floor_counter == 0:
            return None
        found = "no release" if newest is None else f"release {newest.release_counter}"
        raise RollbackError(
            f"the gateway offers {found} as the newest, this car has had {car.floor_counter}; "
            "to go back, publish the old bundle under a new counter"
        )
    if car.installed is not None and newest.release_counter == car.installed.release_counter:
        if newest.bundle_digest != car.installed.bundle_digest:
            raise ReusedCounterError(
                f"release {newest.release_counter} is {newest.bundle_digest}, this car runs "
                f"{car.installed.bundle_digest} under the same counter"
            )
        return None
    if newest.bundle_digest in car.blocked:
        raise SelfTestFailedError(
            f"{newest.bundle} failed on this car before: {car.blocked[newest.bundle_digest]}"
        )
    return newest


def refusal(error: Exception, where: str) -> Exception:
    """Return the named refusal for an error of the TUF client or the disk; others come back."""
    named: tuple[tuple[type[Exception], type[RefusedError], str], ...] = (
        (tuf_errors.UnsignedMetadataError, UnknownSignerError, "this car trusts other keys"),
        (
            tuf_errors.ExpiredMetadataError,
            FreezeError,
            "have the home sign again (`roadloop fleet keys --renew`)",
        ),
        (tuf_errors.BadVersionNumberError, RollbackError, "versions only grow"),
        (tuf_errors.LengthOrHashMismatchError, TamperedReleaseError, "expected the signed digest"),
        (tuf_errors.RepositoryError, TamperedReleaseError, "expected readable signed metadata"),
        (tuf_errors.DownloadLengthMismatchError, EndlessDataError, "expected the signed length"),
        (tuf_errors.SlowRetrievalError, SlowGatewayError, "try again on a better link"),
        (tuf_errors.DownloadError, GatewayDownError, "try again when the gateway is up"),
    )
    for kind, refused, advice in named:
        if isinstance(error, kind):
            return refused(f"{where}: {error}; {advice}")
    if isinstance(error, OSError):
        place = error.filename or where
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoRoomError(f"{place}: {error.strerror}; free some space")
        return DiskError(f"{place}: {error.strerror or error}; the car's disk must be writable")
    return error


def release_of(target: TargetFile) -> Release:
    """Return the release a signed target carries, checked against the target itself."""
    custom = target.custom
    text = custom.get(RELEASE_FIELD) if isinstance(custom, dict) else None
    if not isinstance(text, str):
        raise TamperedReleaseError(f"{target.path} carries no release")
    try:
        release = wire.from_bytes(Release, text.encode())
    except wire.ContractError as error:
        raise UnreadableReleaseError(f"{target.path}: {error}; the car needs newer code") from error
    signed = (target.path, target.hashes.get("sha256"), target.length)
    said = (release.target_path, release.archive.sha256, release.archive.size_bytes)
    if signed != said:
        raise TamperedReleaseError(f"{target.path} is signed as {signed}, its release says {said}")
    return release
