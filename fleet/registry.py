"""Which cars belong to the fleet, and how each proves that it is the one it says."""

import fcntl
import hmac
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a car may be called: it becomes a folder and a part of an address."""


class CarNameError(RefusedError):
    """A car's name could be mistaken for a path or an option."""


class AlreadyEnrolledError(RefusedError):
    """The car has a certificate already; a second one would silently shut the first out."""


class UnknownCarError(RefusedError):
    """No car of this name is enrolled."""


class RegistryCorruptError(RefusedError):
    """registry.json cannot be read."""


class RegistryOldError(RefusedError):
    """registry.json is of the days of tokens: it says nothing about certificates."""


def check_car_id(car_id: str) -> str:
    """Return `car_id` when it is a plain name; raise CarNameError otherwise."""
    if not PLAIN_NAME.fullmatch(car_id):
        raise CarNameError(
            f"car name {car_id[:80]!r} is refused: expected 1 to 64 letters, digits, '.', '_' or "
            "'-', beginning with a letter or digit"
        )
    return car_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledCar:
    """What home knows of a car.

    Args:
        rig_digest: sha256 of its cameras; releases for other rigs are not for it.
        certificate_sha256: of the one certificate (DER) that is the car's.
        expires_utc_ns: until when that certificate is good.
        revoked: shut out, until it is enrolled with `renew`.
    """

    SCHEMA: ClassVar[str] = "enrolledcar/2"
    car_id: str
    rig_digest: str
    certificate_sha256: str
    expires_utc_ns: int
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFile:
    """The form of registry.json."""

    SCHEMA: ClassVar[str] = "registry/2"
    cars: dict[str, EnrolledCar] = field(default_factory=dict)


OLD_SCHEMA: Final = "registry/1"


class Registry:
    """The cars of one fleet, in one file that is replaced as a whole."""

    def __init__(self, home: Home) -> None:
        self._path = home.fleet / "registry.json"
        self._seen: tuple[int, int, int] | None = None
        self._file = RegistryFile()

    def enrol(self, car: EnrolledCar, *, renew: bool = False) -> None:
        """Take a car in; see `fleet.identity.enrol`, which also makes its certificate.

        Raises:
            CarNameError: the name is not plain.
            AlreadyEnrolledError: the car is known and `renew` is False.
        """
        with self._locked():
            self.check_new(car.car_id, renew=renew)
            self._put(car)

    def check_new(self, car_id: str, *, renew: bool) -> None:
        """Raise what `enrol` would raise."""
        if check_car_id(car_id) in self._load().cars and not renew:
            raise AlreadyEnrolledError(
                f"car {car_id!r} is enrolled already; give it a new certificate with --renew "
                "(the old one stops working at once)"
            )

    def revoke(self, car_id: str) -> EnrolledCar:
        """Shut a car out at once: from now on its certificate opens nothing.

        Raises:
            UnknownCarError: no such car.
        """
        with self._locked():
            car = self._load().cars.get(car_id)
            if car is None:
                known = ", ".join(sorted(self._load().cars)) or "none"
                raise UnknownCarError(f"car {car_id[:80]!r} is not enrolled; known: {known}")
            car = replace(car, revoked=True)
            self._put(car)
        return car

    def cars(self) -> dict[str, EnrolledCar]:
        """Return every enrolled car by name, revoked ones as well."""
        return dict(self._load().cars)

    def why_not(self, car_id: str, certificate_sha256: str) -> str:
        """Return why a certificate does not open the door for `car_id`; "" when it does."""
        car = self._load().cars.get(car_id)
        if car is None:
            return f"car {car_id!r} is not enrolled"
        if car.revoked:
            return f"car {car_id!r} was revoked"
        if not hmac.compare_digest(car.certificate_sha256, certificate_sha256):
            return f"car {car_id!r} was given a newer certificate; this one is shut out"
        return ""

    def _put(self, car: EnrolledCar) -> None:
        cars = {**self._load().cars, car.car_id: car}
        wire.atomic_write(self._path, wire.to_bytes(RegistryFile(cars=cars)))

    def _load(self) -> RegistryFile:
        """Return the file's content; read again only when the file changed."""
        try:
            stat = self._path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if mark != self._seen:
                self._file = self._read()
                self._seen = mark
        except FileNotFoundError:
            return RegistryFile()
        except wire.ContractError as error:
            raise RegistryCorruptError(
                f"{self._path}: {error}; put the last good copy back, or enrol the cars again"
            ) from error
        return self._file

    def _read(self) -> RegistryFile:
        raw = self._path.read_bytes()
        try:
            return wire.from_bytes(RegistryFile, raw)
        except wire.SchemaError:
            if _schema(raw) == OLD_SCHEMA:
                raise RegistryOldError(
                    f"{self._path} knows its cars by token; cars have certificates now. Move the "
                    "file away and enrol every car again: roadloop fleet enrol CAR"
                ) from None
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(".registry.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _schema(raw: bytes) -> str:
    try:
        plain = json.loads(raw)
    except ValueError:
        return ""
    return str(plain.get("schema")) if isinstance(plain, dict) else ""
