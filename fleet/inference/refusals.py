"""How a site says no: one name per rule, and what the two wires call it.

What goes over the wire is "NameOfTheError: reason", so that whoever asked can tell what to do.
"""

from typing import ClassVar, Final

from vehicle.contracts.wire import ContractError, RefusedError

LONGEST_REASON: Final = 1_000
"""Letters of a reason that travel: it rides in a header of gRPC."""


class SiteRefusalError(RefusedError):
    """Root of what a site refuses; `GRPC` and `HTTP` are the status of each.

    Attributes:
        tenant: whose request it was, where that is not known otherwise.
    """

    GRPC: ClassVar[str] = "FAILED_PRECONDITION"
    HTTP: ClassVar[int] = 412
    tenant: str = ""


class MalformedRequestError(SiteRefusalError):
    """The request is not one of the protocol, or its tensors are not what the model takes."""

    GRPC, HTTP = "INVALID_ARGUMENT", 400


class OversizedRequestError(SiteRefusalError):
    """More bytes than a site takes; they were not read."""

    GRPC, HTTP = "INVALID_ARGUMENT", 413


class SlowRequestError(SiteRefusalError):
    """The request came too slowly."""

    GRPC, HTTP = "INVALID_ARGUMENT", 408


class UnknownPathError(SiteRefusalError):
    """Nothing is at this address."""

    GRPC, HTTP = "NOT_FOUND", 404


class UnsupportedError(SiteRefusalError):
    """A part of the protocol that this site does not have."""

    GRPC, HTTP = "UNIMPLEMENTED", 415


class UnknownModelError(SiteRefusalError):
    """No model of this name and version is served."""

    GRPC, HTTP = "NOT_FOUND", 404


class UnknownCallerError(SiteRefusalError):
    """The certificate is no car's of any tenant of this site, or not any more."""

    GRPC, HTTP = "UNAUTHENTICATED", 401


class ForgedRequestError(SiteRefusalError):
    """The request names another tenant or car than the certificate it came with."""

    GRPC, HTTP = "PERMISSION_DENIED", 403


class PolicyRefusedError(SiteRefusalError):
    """The site's policy does not let it answer; the reason begins with the policy's own name."""

    GRPC, HTTP = "PERMISSION_DENIED", 403


class TooManyRequestsError(SiteRefusalError):
    """The tenant has used up what it may ask."""

    GRPC, HTTP = "RESOURCE_EXHAUSTED", 429


class QueueFullError(SiteRefusalError):
    """Nobody else can wait here, or nobody else of this tenant."""

    GRPC, HTTP = "RESOURCE_EXHAUSTED", 429


class OverBudgetError(SiteRefusalError):
    """An answer takes more bytes or joules than whoever asks wants to pay for."""


class ReplayedRequestError(SiteRefusalError):
    """A request of this id was taken before."""

    GRPC, HTTP = "ALREADY_EXISTS", 409


class ClockError(SiteRefusalError):
    """By this site's clock the input has not been taken yet, or the deadline is far off."""


class StaleInputError(SiteRefusalError):
    """The input is older than whoever asks wants it to be."""


class LateRequestError(SiteRefusalError):
    """The deadline had passed when the request came."""

    GRPC, HTTP = "DEADLINE_EXCEEDED", 504


class WontFinishError(SiteRefusalError):
    """With the work that is here already, an answer would come too late for it or for another."""

    GRPC, HTTP = "DEADLINE_EXCEEDED", 504


class DroppedError(SiteRefusalError):
    """While the request waited, its deadline came too near."""

    GRPC, HTTP = "DEADLINE_EXCEEDED", 504


class LateAnswerError(SiteRefusalError):
    """The answer was not ready at its deadline; nobody wants it any more."""

    GRPC, HTTP = "DEADLINE_EXCEEDED", 504


class StoppingError(SiteRefusalError):
    """The site is closing."""

    GRPC, HTTP = "UNAVAILABLE", 503


class ModelFailedError(SiteRefusalError):
    """The model broke; it is the site's fault."""

    GRPC, HTTP = "INTERNAL", 500


def status_of(error: RefusedError) -> tuple[str, int]:
    """Return the status of a refusal: gRPC's name of it, and HTTP's number."""
    if isinstance(error, SiteRefusalError):
        return error.GRPC, error.HTTP
    if isinstance(error, ContractError):
        return MalformedRequestError.GRPC, MalformedRequestError.HTTP
    return SiteRefusalError.GRPC, SiteRefusalError.HTTP


def words_of(error: RefusedError) -> str:
    """Return a refusal as it travels."""
    return f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}"
