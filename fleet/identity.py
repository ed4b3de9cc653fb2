"""Certificates: home's own authority, the gateway's certificate and one for each car.

A car proves itself with a key that only it holds; home keeps the digest of its certificate. P-256
keys, because the secure elements of cars and the terminators of TLS in front of homes know them.

Source: RFC 5280 (certificates and their extensions); RFC 2986 (requests); RFC 9174 (nodes of the
relay).
"""

import ipaddress
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.campaign import CampaignKey
from fleet.keys import KeyFolder
from fleet.registry import EnrolledCar, Registry, check_car_id
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import CAMPAIGN_KEYS, CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE
from vehicle.contracts.wire import RefusedError

CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.crt"
GATEWAY_KEY: Final = "gateway.key"
GATEWAY_CERTIFICATE: Final = "gateway.crt"

CA_LIFE: Final = timedelta(days=3650)
LIFE: Final = timedelta(days=365)
EARLY: Final = timedelta(days=1)
"""How far a car's clock may be behind home's when it is enrolled."""

RENEW_BEFORE: Final = timedelta(days=30)
HERE: Final = ("localhost", "127.0.0.1", "::1")
LEAST_RSA_BITS: Final = 2048

BOTH_SIDES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
BUNDLE_SECURITY: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")
BUNDLE_EID: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")
"""What a node's certificate is for, and how it names the node (RFC 9174 section 4.4.2)."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class RequestError(RefusedError):
    """A certificate request cannot be signed."""


class AuthorityError(RefusedError):
    """Home's authority cannot sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What enrolment gives a car.

    Args:
        certificate: PEM.
        key: PEM; "" when the car made its own and sent a request.
    """

    certificate: bytes
    key: bytes


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The certificate authority of one home: `ca.key` and `ca.crt` in fleet/keys, made when needed.

    Args:
        home: the run's folder.
        now: gives the time that lifetimes count from.
    """

    def __init__(self, home: Home, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._keys = KeyFolder(home)
        self._now = now

    @property
    def certificate_path(self) -> Path:
        """Return the authority's own certificate: what cars believe."""
        self._own()
        return self._keys.folder / CA_CERTIFICATE

    def issue(self, car_id: str, request: bytes | None = None) -> Identity:
        """Sign a certificate for a car.

        Args:
            car_id: becomes the common name, whatever a request says.
            request: CSR in PEM, made with the car's own key; None: a key is made here.
        Raises:
            RequestError: the request is none, not signed by its own key, or of a weak key.
        """
        check_car_id(car_id)
        key = None if request else ec.generate_private_key(ec.SECP256R1())
        public = key.public_key() if key else _requested_key(request or b"")
        certificate = self._sign(car_id, public, [ExtendedKeyUsageOID.CLIENT_AUTH])
        return Identity(
            certificate=certificate.public_bytes(Encoding.PEM),
            key=_private_pem(key) if key else b"",
        )

    def issue_node(self, node_id: str) -> Identity:
        """Sign a certificate for a node of the orbital relay, as client and as server.

        Args:
            node_id: as a URI, e.g. ipn:12.0; what the node calls itself must be the same.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [*BOTH_SIDES, BUNDLE_SECURITY]
        names = [x509.OtherName(BUNDLE_EID, _ia5_string(node_id))]
        certificate = self._sign("relay node", key.public_key(), purposes, names)
        return Identity(certificate=certificate.public_bytes(Encoding.PEM), key=_private_pem(key))

    def gateway_files(self, names: Sequence[str] = ()) -> tuple[Path, Path]:
        """Return certificate and key of the gateway, good for `names` and this machine.

        They are made anew when a name is missing, when they end soon, or when the authority is
        another one; names they had are kept.
        """
        authority, _ = self._own()
        certificate, key = (self._keys.folder / n for n in (GATEWAY_CERTIFICATE, GATEWAY_KEY))
        wanted = {*HERE, *names} - {"0.0.0.0", "::", ""}
        if certificate.is_file() and key.is_file():
            kept = x509.load_pem_x509_certificate(certificate.read_bytes())
            here = _names(kept)
            lasts = kept.not_valid_after_utc - self._now() > RENEW_BEFORE
            if lasts and wanted <= here and kept.issuer == authority.subject:
                return certificate, key
            wanted |= here
        made = ec.generate_private_key(ec.SECP256R1())
        general = [_general(name) for name in sorted(wanted)]
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
        signed = self._sign("gateway", made.public_key(), purposes, general)
        key.unlink(missing_ok=True)
        self._keys.write(GATEWAY_KEY, _private_pem(made))
        wire.atomic_write(certificate, signed.public_bytes(Encoding.PEM))
        return certificate, key

    def _own(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return the authority's certificate and key, made at the first call."""
        folder = self._keys.folder
        with self._keys.locked():
            if not (folder / CA_CERTIFICATE).is_file():
                self._make()
            try:
                certificate = x509.load_pem_x509_certificate((folder / CA_CERTIFICATE).read_bytes())
                key = load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
            except (OSError, ValueError) as error:
                raise AuthorityError(
                    f"{folder} has {CA_CERTIFICATE}, but its key cannot be read ({error}); bring "
                    f"{CA_KEY} from where it is kept"
                ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityError(f"{folder / CA_KEY} is a {type(key).__name__}, expected P-256")
        return certificate, key

    def _make(self) -> None:
        (self._keys.folder / CA_KEY).unlink(missing_ok=True)  # a cut start: nobody believes it
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"roadloop home {secrets.token_hex(4)}")
        builder = self._builder(name, name, key.public_key(), key.public_key(), CA_LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_usage(signs_certificates=True), True)
        self._keys.write(CA_KEY, _private_pem(key))
        certificate = builder.sign(key, hashes.SHA256())
        wire.atomic_write(
            self._keys.folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM)
        )

    def _sign(
        self,
        common_name: str,
        public: PublicKey,
        purposes: Sequence[x509.ObjectIdentifier],
        names: Sequence[x509.GeneralName] = (),
    ) -> x509.Certificate:
        authority, key = self._own()
        builder = self._builder(
            _name(common_name), authority.subject, public, key.public_key(), LIFE
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(signs_certificates=False), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(key, hashes.SHA256())

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        public: PublicKey,
        signer: ec.EllipticCurvePublicKey,
        life: timedelta,
    ) -> x509.CertificateBuilder:
        now = self._now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), False)
        )


def enrol(
    home: Home,
    car_id: str,
    rig_digest: str,
    folder: Path,
    *,
    request: bytes | None = None,
    renew: bool = False,
    now: Callable[[], datetime] = _utc_now,
) -> EnrolledCar:
    """Take a car into the fleet and write its identity; the registry knows it last.

    Args:
        rig_digest: sha256 of the car's cameras; releases for other rigs are not for it.
        folder: gets car.crt, home.crt, campaign.pub, and car.key unless there is a request.
        request: CSR in PEM of a key that the car keeps to itself.
        renew: give a car that is enrolled a new certificate; the old one stops working at once.
    Raises:
        CarNameError, AlreadyEnrolledError, RequestError: as named; nothing is written then.
    """
    registry, authority = Registry(home), Authority(home, now=now)
    registry.check_new(car_id, renew=renew)
    identity = authority.issue(car_id, request)
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if identity.key:
        write_key(folder / CAR_KEY, identity.key)
    wire.atomic_write(folder / HOME_CERTIFICATE, authority.certificate_path.read_bytes())
    wire.atomic_write(folder / CAMPAIGN_KEYS, CampaignKey(home).public_pem())
    wire.atomic_write(folder / CAR_CERTIFICATE, identity.certificate)
    car = EnrolledCar(
        car_id=car_id,
        rig_digest=rig_digest,
        certificate_sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        expires_utc_ns=int(certificate.not_valid_after_utc.timestamp()) * 10**9,
    )
    registry.enrol(car, renew=renew)
    return car


def write_key(path: Path, pem: bytes) -> None:
    """Write a private key that its owner alone can read, in place of the one before."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _requested_key(pem: bytes) -> PublicKey:
    try:
        request = x509.load_pem_x509_csr(pem)
        key, signed = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestError(
            f"not a certificate request in PEM ({error}); make one in the car: openssl req -new "
            "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=CAR -keyout car.key"
        ) from error
    if not signed:
        raise RequestError("the request is not signed by its own key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise RequestError(f"RSA key of {key.key_size} bits, expected {LEAST_RSA_BITS} or more")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < 256:
        raise RequestError(f"curve {key.curve.name}, expected P-256 or larger")
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise RequestError(f"{type(key).__name__}, expected a P-256, ed25519 or RSA key")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ia5_string(text: str) -> bytes:
    """Return the DER of an ASCII text of at most 127 characters."""
    if not text.isascii() or len(text) > 127:
        raise RequestError(f"{text!r:.80} as a name, expected ASCII of at most 127 characters")
    return bytes([0x16, len(text)]) + text.encode()


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(str(a) for a in addresses)}


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
