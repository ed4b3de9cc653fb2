"""Whose fleet asks, and how much it may: certificates, token buckets, requests seen before.

A tenant is a fleet with its own authority; a car is one of the tenant whose authority signed its
certificate. Many tenants share a site, so each has its own bucket and its own memory of requests.
"""

import heapq
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fleet.inference.policy import ANONYMOUS
from fleet.inference.refusals import (
    ReplayedRequestError,
    TooManyRequestsError,
    UnknownCallerError,
)
from fleet.registry import Registry
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError, require, require_finite

MOST_REMEMBERED: Final = 100_000
"""Requests of one tenant whose deadlines have not passed."""

MOST_READING: Final = 32
"""Requests of one tenant that are coming in at one time: what they hold of the memory."""

MOST_CERTIFICATES: Final = 10_000
"""Certificates whose signature is remembered as checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One fleet that a site serves.

    Args:
        name: as its requests say.
        authority: PEM of the authority that signs its cars' certificates; "" for callers without.
        home: its ROADLOOP_HOME, where this machine has it: then revoked cars are shut out at once.
        rate_per_s, burst: of its token bucket, requests; a hundred cars ask ten times a second.
    """

    SCHEMA: ClassVar[str] = "tenant/1"
    name: str
    authority: str = ""
    home: str = ""
    rate_per_s: float = 1_000.0
    burst: float = 2_000.0

    def __post_init__(self) -> None:
        require_finite("Tenant", rate_per_s=self.rate_per_s, burst=self.burst)
        require(self.rate_per_s > 0.0, f"rate_per_s is {self.rate_per_s}, expected over 0")
        require(self.burst >= 1.0, f"burst is {self.burst}, expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is at the other end.

    Args:
        tenant: name; ANONYMOUS without a certificate.
        car_id: common name of the certificate, "" without one.
    """

    tenant: str
    car_id: str = ""

    @property
    def known(self) -> bool:
        """Return whether a certificate says so."""
        return bool(self.car_id)


NOBODY: Final = Caller(tenant=ANONYMOUS)


class Bucket:
    """Tokens that come in at a rate, up to a burst; each request takes one."""

    def __init__(self, rate_per_s: float, burst: float, now_ns: int) -> None:
        self._rate, self._burst = rate_per_s, burst
        self._tokens, self._at_ns = burst, now_ns

    def take(self, now_ns: int) -> float:
        """Take a token; return 0, or after how many seconds there will be one."""
        came = (now_ns - self._at_ns) * 1e-9 * self._rate
        self._tokens, self._at_ns = min(self._burst, self._tokens + came), now_ns
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0


@dataclass(slots=True)
class _Account:
    """What a site remembers of one tenant."""

    bucket: Bucket
    seen: set[str] = field(default_factory=set)
    ends: list[tuple[int, str]] = field(default_factory=list)
    reading: int = 0


class Tenants:
    """All tenants of a site.

    Args:
        tenants: without any, whoever may connect is ANONYMOUS, and its word is taken for its name.
    Raises:
        ContractError: an authority's file is no certificate, or two tenants have one name.
    """

    def __init__(self, tenants: Sequence[Tenant], clock: Clock) -> None:
        self._clock = clock
        self._tenants = {t.name: t for t in tenants}
        require(len(self._tenants) == len(tenants), "two tenants of a site have the same name")
        self._tenants.setdefault(ANONYMOUS, Tenant(name=ANONYMOUS, rate_per_s=1e4, burst=1e4))
        self._authorities = {t.name: _certificate(t) for t in tenants if t.authority}
        self._homes = {t.name: Registry(Home(Path(t.home))) for t in tenants if t.home}
        self._checked: dict[bytes, tuple[Caller, str]] = {}
        now_ns = clock.mono_ns()
        self._accounts = {
            t.name: _Account(Bucket(t.rate_per_s, t.burst, now_ns)) for t in self._tenants.values()
        }

    def caller(self, der: bytes | None) -> Caller:
        """Return whom a certificate speaks for.

        Args:
            der: the one that the handshake took, or None where none was asked for.
        Raises:
            UnknownCallerError: no tenant's authority signed it, or the car was revoked.
        """
        if der is None:
            return NOBODY
        if der not in self._checked:
            if len(self._checked) >= MOST_CERTIFICATES:
                self._checked.clear()
            self._checked[der] = self._check(x509.load_der_x509_certificate(der))
        caller, sha256 = self._checked[der]
        registry = self._homes.get(caller.tenant)
        if registry is not None:
            why = registry.why_not(caller.car_id, sha256)
            if why:
                raise UnknownCallerError(f"{why}; enrol it with its own fleet")
        return caller

    def take(self, caller: Caller) -> None:
        """Take a token of the caller's tenant.

        Raises:
            TooManyRequestsError: there is none; it says when to come again.
        """
        wait_s = self._accounts[caller.tenant].bucket.take(self._clock.mono_ns())
        if wait_s > 0.0:
            raise TooManyRequestsError(
                f"tenant {caller.tenant!r} has asked too often; come again in {wait_s:.2f} s"
            )

    @contextmanager
    def reading(self, caller: Caller) -> Iterator[None]:
        """Count a request while it comes in.

        Raises:
            TooManyRequestsError: too many of the tenant are coming in.
        """
        account = self._accounts[caller.tenant]
        if account.reading >= MOST_READING:
            raise TooManyRequestsError(
                f"{MOST_READING} requests of {caller.tenant!r} are coming in already"
            )
        account.reading += 1
        try:
            yield
        finally:
            account.reading -= 1

    def remember(self, caller: Caller, request_id: str, deadline_utc_ns: int) -> None:
        """Note that a request was taken; after its deadline it would be refused as late anyway.

        Raises:
            ReplayedRequestError: it was taken before.
            TooManyRequestsError: so many are open that no more can be told apart.
        """
        account, now_ns = self._accounts[caller.tenant], self._clock.utc_ns()
        if request_id in account.seen:
            raise ReplayedRequestError(f"request {request_id} was taken before")
        while account.ends and account.ends[0][0] < now_ns:
            account.seen.discard(heapq.heappop(account.ends)[1])
        if len(account.seen) >= MOST_REMEMBERED:
            raise TooManyRequestsError(f"{len(account.seen)} of {caller.tenant!r} are open")
        account.seen.add(request_id)
        heapq.heappush(account.ends, (deadline_utc_ns, request_id))

    def _check(self, certificate: x509.Certificate) -> tuple[Caller, str]:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        car_id = str(names[0].value) if names else ""
        for tenant, authority in self._authorities.items():
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            if car_id:
                sha256 = certificate.fingerprint(hashes.SHA256()).hex()
                return Caller(tenant=tenant, car_id=car_id), sha256
        raise UnknownCallerError(
            f"the certificate of {car_id[:64]!r} was signed by no tenant of this site"
        )


def read_tenants(path: Path) -> tuple[Tenant, ...]:
    """Return the tenants in a TOML file: one table [NAME] each; paths count from the file.

    Raises:
        ContractError: not TOML, an unknown key, or a value out of range.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: {error}") from error
    found = []
    for name, table in tables.items():
        require(isinstance(table, dict), f"{path}: {name} stands outside a table [TENANT]")
        for key in ("authority", "home"):
            if table.get(key):
                table[key] = str(path.parent / str(table[key]))
        plain = {**table, "schema": Tenant.SCHEMA, "name": name}
        found.append(wire.from_plain(Tenant, plain))
    return tuple(found)


def _certificate(tenant: Tenant) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(Path(tenant.authority).read_bytes())
    except (OSError, ValueError) as error:
        raise ContractError(f"authority of tenant {tenant.name!r}: {error}") from error
