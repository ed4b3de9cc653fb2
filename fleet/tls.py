"""TLS of the gateway: both sides show certificates, and the app learns who is there.

Who shows no certificate of this home does not get past the handshake. What the certificate says
reaches the app as the `tls` extension of ASGI.

Source: ASGI TLS extension 0.2 (asgi.readthedocs.io/en/latest/specs/tls.html).
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from vehicle.contracts.wire import RefusedError

VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class UnauthorisedError(RefusedError):
    """No certificate, or one that no car of this fleet has."""


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that tells the app the certificate of the other side."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the peer's certificate into the scope of every request of this connection."""
        super().connection_made(transport)
        tls, app = tls_extension(transport.get_extra_info("ssl_object")), self.app

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = {**scope.get("extensions", {}), "tls": tls}
            await app({**scope, "extensions": extensions}, receive, send)

        self.app = told


def tls_extension(tls: ssl.SSLObject | None) -> dict[str, Any]:
    """Return what the `tls` extension says of a connection."""
    der = tls.getpeercert(binary_form=True) if tls else None
    chain = [ssl.DER_cert_to_PEM_cert(der)] if der else []
    version = VERSIONS.get(tls.version() or "") if tls else None
    return {"client_cert_chain": chain, "client_cert_error": None, "tls_version": version}


def peer(scope: Scope) -> tuple[str, str]:
    """Return the common name and the sha256 (DER) of the certificate a request came with.

    Raises:
        UnauthorisedError: it came with none.
    """
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    if not chain:
        raise UnauthorisedError("no certificate was shown; enrol the car: roadloop fleet enrol CAR")
    certificate = x509.load_pem_x509_certificate(chain[0].encode())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    return name, certificate.fingerprint(hashes.SHA256()).hex()


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return the gateway's side: shows its certificate, wants one that `authority` signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
