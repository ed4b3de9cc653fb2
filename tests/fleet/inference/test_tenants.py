"""Whose fleet asks: certificates, buckets, requests seen before."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fakes_gateway import enrol_car
from hypothesis import given
from hypothesis import strategies as st

from fleet.inference import tenants as tenants_module
from fleet.inference.refusals import (
    ReplayedRequestError,
    TooManyRequestsError,
    UnknownCallerError,
)
from fleet.inference.tenants import NOBODY, Bucket, Tenant, Tenants, read_tenants
from vehicle.clock import FakeClock
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError

S = 10**9


def der(identity: Path) -> bytes:
    certificate = x509.load_pem_x509_certificate((identity / "car.crt").read_bytes())
    return certificate.public_bytes(Encoding.DER)


def test_car_is_of_the_tenant_whose_authority_signed_its_certificate(tmp_path: Path) -> None:
    homes = {name: Home(tmp_path / name) for name in ("a", "b", "c")}
    identities = {name: enrol_car(home) for name, home in homes.items()}
    known = [Tenant(name=n, authority=str(identities[n] / "home.crt")) for n in ("a", "b")]
    tenants = Tenants(known, FakeClock())
    assert tenants.caller(der(identities["a"])).tenant == "a"
    assert tenants.caller(der(identities["b"])).tenant == "b"
    assert tenants.caller(der(identities["b"])).car_id == "car-1"
    with pytest.raises(UnknownCallerError):
        tenants.caller(der(identities["c"]))
    assert tenants.caller(None) is NOBODY


def test_older_certificate_of_a_renewed_car_is_shut_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    old = der(enrol_car(home))
    new = der(enrol_car(home, renew=True))
    authority = home.car("car-1") / "identity" / "home.crt"
    tenant = Tenant(name="home", authority=str(authority), home=str(home.root))
    tenants = Tenants([tenant], FakeClock())
    with pytest.raises(UnknownCallerError, match="newer certificate"):
        tenants.caller(old)
    assert tenants.caller(new).car_id == "car-1"


@given(st.lists(st.integers(0, 200), max_size=60))
def test_bucket_gives_no_more_than_its_burst_and_its_rate(waits_ms: list[int]) -> None:
    bucket, now_ns, given_ = Bucket(10.0, 5.0, 0), 0, 0
    for wait_ms in waits_ms:
        now_ns += wait_ms * 10**6
        given_ += bucket.take(now_ns) == 0.0
        assert given_ <= 5.0 + 10.0 * now_ns / S + 1e-6


def test_bucket_says_when_to_come_again() -> None:
    bucket = Bucket(10.0, 1.0, 0)
    assert bucket.take(0) == 0.0
    wait_s = bucket.take(0)
    assert wait_s == pytest.approx(0.1)
    assert bucket.take(int(wait_s * S) + 1) == 0.0


def test_request_is_remembered_until_its_deadline_and_no_longer() -> None:
    clock = FakeClock()
    tenants = Tenants([], clock)
    tenants.remember(NOBODY, "long", clock.utc_ns() + 100 * S)
    tenants.remember(NOBODY, "short", clock.utc_ns() + S)
    for request_id in ("long", "short"):
        with pytest.raises(ReplayedRequestError):
            tenants.remember(NOBODY, request_id, clock.utc_ns() + 100 * S)
    clock.advance_ns(2 * S)
    tenants.remember(NOBODY, "another", clock.utc_ns() + S)
    account = tenants._accounts[NOBODY.tenant]
    assert account.seen == {"long", "another"}


def test_memory_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants_module, "MOST_REMEMBERED", 3)
    clock = FakeClock()
    tenants = Tenants([], clock)
    for request_id in "abc":
        tenants.remember(NOBODY, request_id, clock.utc_ns() + S)
    with pytest.raises(TooManyRequestsError):
        tenants.remember(NOBODY, "d", clock.utc_ns() + S)
    clock.advance_ns(2 * S)
    tenants.remember(NOBODY, "d", clock.utc_ns() + S)


def test_tenants_are_read_from_a_file_next_to_their_authorities(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text('[acme]\nauthority = "acme.crt"\nrate_per_s = 5.0\n[other]\nburst = 3.0\n')
    acme, other = read_tenants(file)
    assert (acme.name, acme.authority, acme.rate_per_s) == ("acme", f"{tmp_path}/acme.crt", 5.0)
    assert (other.name, other.burst) == ("other", 3.0)


@pytest.mark.parametrize(
    "text", ["acme = 3", "[acme]\nspeed = 1", "[acme]\nrate_per_s = 0.0", "[acme"]
)
def test_file_of_tenants_with_a_mistake_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ContractError):
        read_tenants(tmp_path / "t.toml")


def test_authority_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="authority of tenant 'a'"):
        Tenants([Tenant(name="a", authority=str(tmp_path / "nothing.crt"))], FakeClock())
