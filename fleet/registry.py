"""Which cars belong to the fleet, and how each proves that it is the one it says."""

import fcntl
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final

from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a car may be called: it becomes a folder and a part of an address."""


class CarNameError(RefusedError):
    """A car's name could be mistaken for a path or an option."""


class AlreadyEnrolledError(RefusedError):
    """The car has a key already; a second one would silently lock the first out."""


class RegistryCorruptError(RefusedError):
    """registry.json cannot be read."""


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
    """What home knows of a car; of its token only the hash is kept."""

    SCHEMA: ClassVar[str] = "enrolledcar/1"
    car_id: str
    rig_digest: str
    token_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFile:
    """The form of registry.json."""

    SCHEMA: ClassVar[str] = "registry/1"
    cars: dict[str, EnrolledCar] = field(default_factory=dict)


class Registry:
    """The cars of one fleet, in one file that is replaced as a whole."""

    def __init__(self, home: Home) -> None:
        self._path = home.fleet / "registry.json"
        self._seen: tuple[int, int, int] | None = None
        self._file = RegistryFile()

    def enrol(self, car_id: str, rig_digest: str, *, renew: bool = False) -> str:
        """Take a car in and return its token, which is shown this once and never stored.

        Args:
            car_id: plain name, unique in the fleet.
            rig_digest: sha256 of the car's cameras; releases for other rigs are not for it.
            renew: replace the token of a car that is enrolled already.
        Raises:
            CarNameError: the name is not plain.
            AlreadyEnrolledError: the car is known and `renew` is False.
        """
        check_car_id(car_id)
        token = secrets.token_urlsafe(32)
        with self._locked():
            cars = dict(self._load().cars)
            if car_id in cars and not renew:
                raise AlreadyEnrolledError(
                    f"car {car_id!r} is enrolled already; give it a new token with --renew "
                    "(the old one stops working at once)"
                )
            cars[car_id] = EnrolledCar(
                car_id=car_id, rig_digest=rig_digest, token_sha256=_hash(token)
            )
            wire.atomic_write(self._path, wire.to_bytes(RegistryFile(cars=cars)))
        return token

    def cars(self) -> dict[str, EnrolledCar]:
        """Return every enrolled car by name."""
        return dict(self._load().cars)

    def verify(self, car_id: str, token: str) -> bool:
        """Return whether `token` is the one of `car_id`, in time that tells nothing."""
        car = self._load().cars.get(car_id)
        wanted = car.token_sha256 if car else "0" * 64
        return hmac.compare_digest(wanted, _hash(token)) and car is not None

    def car_of(self, token: str) -> str | None:
        """Return the car whose token this is, or None; every car is compared."""
        found = None
        hashed = _hash(token)
        for car in self._load().cars.values():
            if hmac.compare_digest(car.token_sha256, hashed):
                found = car.car_id
        return found

    def _load(self) -> RegistryFile:
        """Return the file's content; read again only when the file changed."""
        try:
            stat = self._path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if mark != self._seen:
                self._file = wire.from_bytes(RegistryFile, self._path.read_bytes())
                self._seen = mark
        except FileNotFoundError:
            return RegistryFile()
        except wire.ContractError as error:
            raise RegistryCorruptError(
                f"{self._path}: {error}; put the last good copy back, or enrol the cars again"
            ) from error
        return self._file

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(".registry.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _hash(token: str) -> str:
    """Return what is kept of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
