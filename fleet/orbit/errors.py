"""What a bundle, a fragment or a session is refused for, one name each."""

from vehicle.contracts.wire import RefusedError


class BundleError(RefusedError):
    """Root of what is wrong with a bundle."""


class MalformedBundleError(BundleError):
    """The bytes are not CBOR, or not of the shape that the block has."""


class NotCanonicalError(BundleError):
    """The bytes are CBOR, but not in the one form that RFC 9171 section 4.1 asks for."""


class TrailingBytesError(BundleError):
    """Something follows the end of the bundle."""


class OversizeError(BundleError):
    """More bytes or blocks than are taken here."""


class VersionError(BundleError):
    """A bundle of another version than 7."""


class EidError(BundleError):
    """No endpoint ID of the dtn or ipn scheme."""


class CrcMismatchError(BundleError):
    """A block's bytes are not those that its sender summed up."""


class MissingCrcError(BundleError):
    """The primary block has neither a CRC nor an integrity block."""


class BlockNumberError(BundleError):
    """Two blocks of one number, or a number that its type may not have."""


class BlockOrderError(BundleError):
    """The payload block is missing, twice there or not last; or a block stands there twice."""


class FlagConflictError(BundleError):
    """Control flags that exclude each other."""


class MissingAgeError(BundleError):
    """A bundle from a node without a clock that does not say how old it is."""


class HopLimitError(BundleError):
    """The bundle went over as many hops as it may."""


class NotFragmentableError(BundleError):
    """The bundle must stay whole, or does not fit even in pieces."""


class ForeignFragmentError(BundleError):
    """Not a fragment, or one of another bundle."""


class FragmentConflictError(BundleError):
    """Two fragments say different bytes for one place, or reach beyond the end."""


class IncompleteError(BundleError):
    """Fragments are missing."""


class SecurityError(BundleError):
    """Root of what BPSec refuses."""


class SecurityBlockError(SecurityError):
    """A security block is malformed, or of a context or parameter that is not known here."""


class SecurityTargetError(SecurityError):
    """The block may not be protected this way (RFC 9172 section 3.9)."""


class NoSecurityError(SecurityError):
    """The bundle has no such security block."""


class TamperedError(SecurityError):
    """The bytes are not those that the key's holder protected, or the key is another."""
