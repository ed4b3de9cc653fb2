"""Who this car is, to home: a key that never leaves it and a certificate that home signed.

What is not here is here on purpose: no password, no token. Home is known by its own certificate
authority, which was written beside the car's certificate at enrolment; the machine's list of public
authorities plays no part.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from vehicle.contracts.uplink import CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE
from vehicle.contracts.wire import RefusedError


class NotEnrolledError(RefusedError):
    """The car has no identity; says how it gets one."""


class IdentityCorruptError(RefusedError):
    """A file of the identity cannot be used; says which, and how to make it anew."""


class ForeignIdentityError(RefusedError):
    """The certificate names another car."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of one car, read and checked.

    Args:
        folder: holds car.key, car.crt, home.crt and campaign.pub.
        car_id: the certificate's common name.
        context: for the connection home: shows the car's certificate, believes home's authority
            alone, TLS 1.3 or newer.
    """

    folder: Path
    car_id: str
    context: ssl.SSLContext

    @classmethod
    def at(cls, folder: Path, car_id: str | None = None) -> Self:
        """Read the identity that enrolment put into `folder`.

        Args:
            folder: cars/CAR/identity.
            car_id: the car it must be of; None takes any.
        Raises:
            NotEnrolledError: a file is missing.
            IdentityCorruptError: a file is no key or certificate, or they do not belong together.
            ForeignIdentityError: it is another car's.
        """
        paths = [folder / name for name in (CAR_KEY, CAR_CERTIFICATE, HOME_CERTIFICATE)]
        name = car_id or folder.absolute().parent.name
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise NotEnrolledError(
                f"{folder} has no {', '.join(missing)}; enrol the car where home is: "
                f"roadloop fleet enrol {name} --out {folder}"
            )
        try:
            found = _common_name((folder / CAR_CERTIFICATE).read_bytes())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(folder / HOME_CERTIFICATE)
            context.load_cert_chain(folder / CAR_CERTIFICATE, folder / CAR_KEY)
        except (ValueError, OSError) as error:  # ssl.SSLError is an OSError
            raise IdentityCorruptError(
                f"{folder} cannot be used ({type(error).__name__}: {error}); make it anew: "
                f"roadloop fleet enrol {name} --renew --out {folder}"
            ) from error
        if car_id is not None and found != car_id:
            raise ForeignIdentityError(
                f"{folder / CAR_CERTIFICATE} is of car {found!r}, expected {car_id!r}; put "
                "that car's own folder in place"
            )
        return cls(folder=folder, car_id=found, context=context)


def _common_name(pem: bytes) -> str:
    """Return the common name of a certificate; raise ValueError when it has none."""
    names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ValueError(f"the certificate has {len(names)} common names, expected one")
    return str(names[0].value)
