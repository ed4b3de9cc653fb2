"""CBOR as bundles use it: no tags, no maps, little depth, one byte form.

The library decodes; what it would take beyond that (tags that build big numbers, indefinite
lengths, long forms of short numbers) is refused here, the last two by writing the value again.

Source: RFC 8949 section 4.2.1 (deterministic encoding); RFC 9171 section 4.1.
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import cbor2

from fleet.orbit.errors import MalformedBundleError, NotCanonicalError, TrailingBytesError

MAX_DEPTH: Final = 6
MAX_UINT: Final = (1 << 64) - 1


class _NoTags(dict[int, Any]):
    """Refuses every tag before its value is built: some would take all memory."""

    def __missing__(self, tag: int) -> Any:
        raise MalformedBundleError(f"CBOR tag {tag}, expected none")


def dumps(value: Any) -> bytes:
    """Return the one byte form of nested lists, numbers, texts and bytes."""
    return bytes(cbor2.dumps(value))


def loads(data: bytes, what: str) -> Any:
    """Return the one value that `data` is, nested lists of plain values.

    Raises:
        MalformedBundleError: not CBOR, too deep, tagged.
        TrailingBytesError, NotCanonicalError: as named.
    """
    found = loads_any(data, what)
    require_form(data, dumps(found), what)
    return found


def loads_any(data: bytes, what: str) -> Any:
    """Return the first value in `data`, whatever its byte form; compare it with `require_form`."""
    try:
        return cbor2.loads(data, max_depth=MAX_DEPTH, semantic_decoders=_NoTags())
    except (cbor2.CBORError, ValueError, RecursionError, MemoryError) as error:
        raise MalformedBundleError(f"{what}: not CBOR as bundles have it ({error})") from error


def loads_sequence(data: bytes, what: str) -> list[Any]:
    """Return the values that `data` holds one after the other (RFC 8742)."""
    stream, found = io.BytesIO(data), []
    decoder = cbor2.CBORDecoder(
        stream, max_depth=MAX_DEPTH, allow_indefinite=False, semantic_decoders=_NoTags()
    )
    written = 0
    try:
        while written < len(data):
            found.append(decoder.decode())
            written += len(dumps(found[-1]))
    except (cbor2.CBORError, ValueError, RecursionError, MemoryError) as error:
        raise MalformedBundleError(f"{what}: not a sequence of CBOR ({error})") from error
    require_form(data, b"".join(map(dumps, found)), what)
    return found


def require_form(data: bytes, again: bytes, what: str) -> None:
    """Refuse `data` unless it is what its value is written as."""
    if data == again:
        return
    if data.startswith(again):
        raise TrailingBytesError(f"{what}: {len(data) - len(again)} bytes follow its end")
    raise NotCanonicalError(
        f"{what}: not in deterministic form (shortest numbers, definite lengths), as RFC 9171 "
        "section 4.1 asks"
    )


def uint(item: Any, name: str, most: int = MAX_UINT) -> int:
    """Return an unsigned number."""
    if type(item) is not int or not 0 <= item <= most:
        raise MalformedBundleError(f"{name} is {_shown(item)}, expected a number of 0..{most}")
    return item


def items(item: Any, name: str, *lengths: int) -> Sequence[Any]:
    """Return the entries of an array; `lengths` are the ones it may have, none: any."""
    if not isinstance(item, list) or (lengths and len(item) not in lengths):
        entries = f" of {' or '.join(map(str, lengths))}" if lengths else ""
        raise MalformedBundleError(f"{name} is {_shown(item)}, expected an array{entries}")
    return item


def octets(item: Any, name: str) -> bytes:
    """Return a byte string."""
    if not isinstance(item, bytes):
        raise MalformedBundleError(f"{name} is {_shown(item)}, expected a byte string")
    return item


def flag(item: Any, name: str) -> bool:
    """Return a boolean."""
    if not isinstance(item, bool):
        raise MalformedBundleError(f"{name} is {_shown(item)}, expected true or false")
    return item


def _shown(item: Any) -> str:
    if isinstance(item, list):
        return f"an array of {len(item)}"
    if isinstance(item, bytes | str):
        return f"{type(item).__name__} of {len(item)}"
    return f"{item!r:.40}"
