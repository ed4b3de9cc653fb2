"""Which node of the relay is there: certificates of the home's authority that name it.

Source: RFC 9174 section 4.4 (node IDs in subjectAltName, mutual TLS).
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from fleet.identity import BUNDLE_EID, BUNDLE_SECURITY, Authority, write_key
from fleet.orbit.eid import Eid
from fleet.orbit.tcpcl import SessionError
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import HOME_CERTIFICATE

NODE_CERTIFICATE: Final = "node.crt"
NODE_KEY: Final = "node.key"


class NodeIdentityError(SessionError):
    """The certificate is not of the node that is expected, or there is none."""


@dataclass(frozen=True, slots=True)
class NodeTls:
    """Both sides of a node's connections: it shows its certificate, and asks for the other's."""

    node: Eid
    client: ssl.SSLContext
    server: ssl.SSLContext

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Read the identity that `issue` put into `folder`.

        Raises:
            NodeIdentityError: a file is missing, no key or certificate, or names no node.
        """
        certificate, key = folder / NODE_CERTIFICATE, folder / NODE_KEY
        try:
            node = node_of(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
            sides = []
            for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
                context = ssl.SSLContext(protocol)
                context.check_hostname = False  # nodes are known by their IDs, see node_of
                context.verify_mode = ssl.CERT_REQUIRED
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.load_verify_locations(folder / HOME_CERTIFICATE)
                context.load_cert_chain(certificate, key)
                sides.append(context)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise NodeIdentityError(
                f"{folder} cannot be used ({type(error).__name__}: {error}); issue it anew"
            ) from error
        return cls(node, *sides)


def issue(home: Home, node: Eid, folder: Path) -> None:
    """Write a node's key, its certificate and the authority's into `folder`."""
    authority = Authority(home)
    identity = authority.issue_node(str(node.node))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_key(folder / NODE_KEY, identity.key)
    wire.atomic_write(folder / HOME_CERTIFICATE, authority.certificate_path.read_bytes())
    wire.atomic_write(folder / NODE_CERTIFICATE, identity.certificate)


def node_of(der: bytes) -> Eid:
    """Return which node a certificate names.

    Raises:
        NodeIdentityError: it names none or several, or is not for bundles.
    """
    certificate = x509.load_der_x509_certificate(der)
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise NodeIdentityError(f"the certificate is of no node of the relay: {error}") from error
    if BUNDLE_SECURITY not in usage:
        raise NodeIdentityError("the certificate is not for bundles (id-kp-bundleSecurity)")
    found = [n.value for n in names.get_values_for_type(x509.OtherName) if n.type_id == BUNDLE_EID]
    if len(found) != 1 or found[0][:1] != b"\x16" or found[0][1] != len(found[0]) - 2:
        raise NodeIdentityError(f"the certificate names {len(found)} nodes, expected one")
    return Eid.parse(found[0][2:].decode("ascii", errors="replace"))
