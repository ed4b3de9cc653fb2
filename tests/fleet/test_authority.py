from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.identity import Authority, AuthorityError, RequestError, enrol
from fleet.registry import AlreadyEnrolledError, Registry
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import CAMPAIGN_KEYS, CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE
from vehicle.identity import Identity


def request_of(key, name="somebody"):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def certificate(folder):
    return x509.load_pem_x509_certificate((folder / CAR_CERTIFICATE).read_bytes())


def name_of(found):
    return found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


def test_enrolment_gives_a_car_what_it_needs_and_no_more(tmp_path):
    home, folder = Home(tmp_path), tmp_path / "identity"
    enrol(home, "car-1", "", folder)
    names = {p.name for p in folder.iterdir()}
    assert names == {CAR_KEY, CAR_CERTIFICATE, HOME_CERTIFICATE, CAMPAIGN_KEYS}
    assert (folder / CAR_KEY).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "fleet" / "keys" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert name_of(certificate(folder)) == "car-1"
    digest = certificate(folder).fingerprint(hashes.SHA256()).hex()
    assert Registry(home).why_not("car-1", digest) == ""
    assert Identity.at(folder).car_id == "car-1"


def test_key_of_a_request_never_leaves_the_car_and_home_says_the_name(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    enrol(Home(tmp_path), "car-1", "", tmp_path / "out", request=request_of(key))
    assert not (tmp_path / "out" / CAR_KEY).exists()
    made = certificate(tmp_path / "out")
    assert made.public_key() == key.public_key()
    assert name_of(made) == "car-1"


def test_request_that_is_none_or_weak_is_refused_and_nobody_is_enrolled(tmp_path):
    home = Home(tmp_path)
    weak = request_of(rsa.generate_private_key(65537, 1024))
    small = request_of(ec.generate_private_key(ec.SECP192R1()))
    good = request_of(ec.generate_private_key(ec.SECP256R1()))
    pem = x509.load_pem_x509_csr(good).public_bytes(Encoding.DER)
    forged = x509.load_der_x509_csr(pem[:-1] + bytes([pem[-1] ^ 1])).public_bytes(Encoding.PEM)
    for bad, words in ((weak, "1024"), (small, "P-256"), (forged, "own key"), (b"x", "openssl")):
        with pytest.raises(RequestError, match=words):
            enrol(home, "car-1", "", tmp_path / "out", request=bad)
    assert Registry(home).cars() == {}
    assert not (tmp_path / "out").exists()


def test_car_that_is_enrolled_keeps_its_identity_unless_renewed(tmp_path):
    home, folder = Home(tmp_path), tmp_path / "identity"
    enrol(home, "car-1", "", folder)
    before = (folder / CAR_CERTIFICATE).read_bytes()
    with pytest.raises(AlreadyEnrolledError):
        enrol(home, "car-1", "", folder)
    assert (folder / CAR_CERTIFICATE).read_bytes() == before
    enrol(home, "car-1", "", folder, renew=True)
    assert (folder / CAR_CERTIFICATE).read_bytes() != before
    assert Identity.at(folder).car_id == "car-1"


def test_certificates_are_of_one_authority_and_each_good_for_its_one_purpose(tmp_path):
    home = Home(tmp_path)
    enrol(home, "car-1", "", tmp_path / "identity")
    authority = Authority(home)
    root = x509.load_pem_x509_certificate(authority.certificate_path.read_bytes())
    server, _ = authority.gateway_files()
    for path, purpose in (
        (tmp_path / "identity" / CAR_CERTIFICATE, x509.ExtendedKeyUsageOID.CLIENT_AUTH),
        (server, x509.ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        made = x509.load_pem_x509_certificate(path.read_bytes())
        made.verify_directly_issued_by(root)
        usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [purpose]
        basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert not basic.ca


def test_gateways_certificate_is_kept_until_it_ends_soon_or_lacks_a_name(tmp_path):
    home = Home(tmp_path)
    first = Authority(home).gateway_files()[0].read_bytes()
    assert Authority(home).gateway_files(("127.0.0.1", "0.0.0.0"))[0].read_bytes() == first
    second = Authority(home).gateway_files(("depot.example",))[0].read_bytes()
    assert second != first
    assert Authority(home).gateway_files()[0].read_bytes() == second

    def late() -> datetime:
        return datetime.now(UTC) + timedelta(days=340)

    third = Authority(home, now=late).gateway_files()[0].read_bytes()
    names = x509.load_pem_x509_certificate(third).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert third != second
    assert "depot.example" in names.value.get_values_for_type(x509.DNSName)


def test_authority_whose_key_was_carried_away_says_so(tmp_path):
    home = Home(tmp_path)
    enrol(home, "car-1", "", tmp_path / "a")
    (tmp_path / "fleet" / "keys" / "ca.key").unlink()
    with pytest.raises(AuthorityError, match=r"bring ca\.key"):
        enrol(home, "car-2", "", tmp_path / "b")
