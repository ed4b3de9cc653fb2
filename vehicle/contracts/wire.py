"""Canonical bytes, digests and atomic writes: how every contract becomes a file and back.

One byte form per value: JSON with sorted keys, no spaces, UTF-8, finite numbers only.
"""

import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class RefusedError(Exception):
    """Root of every named refusal: the command prints its name and reason and exits with 1."""


class ContractError(RefusedError, ValueError):
    """A value breaks its contract; the message names the field, what was found and expected."""


class UnknownFieldError(ContractError):
    """A signed document carries a field its schema does not name."""


class SchemaError(ContractError):
    """The bytes are of another schema, or of none."""


def require(holds: bool, message: str) -> None:
    """Raise ContractError with `message` unless `holds`."""
    if not holds:
        raise ContractError(message)


def require_finite(owner: str, **values: float) -> None:
    """Raise ContractError naming the first value that is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ContractError(f"{owner}.{name} is {value}, expected a finite number")


def canonical(value: Any) -> bytes:
    """Return the one canonical JSON form of plain data.

    Raises:
        ContractError: a number is NaN or infinite, or a type has no JSON form.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (ValueError, TypeError) as error:
        raise ContractError(f"no canonical form: {error}") from error


def digest(data: bytes) -> str:
    """Return the lower-case sha256 hex of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 hex of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_plain(value: Any) -> Any:
    """Return a contract as plain dicts, lists and scalars, its schema under "schema"."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        schema = getattr(value, "SCHEMA", None)
        return {"schema": schema, **plain} if schema else plain
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value


def to_bytes(value: Any) -> bytes:
    """Return the canonical bytes of a contract."""
    return canonical(to_plain(value))


def from_bytes(cls: type[T], data: bytes, *, strict: bool = True) -> T:
    """Return the contract `cls` read from `data`.

    Args:
        cls: a contract dataclass with a SCHEMA.
        data: canonical or any other JSON bytes.
        strict: refuse unknown fields (signed documents); False drops them (logs).
    Raises:
        SchemaError: not JSON, or another schema.
        UnknownFieldError: strict, and a field is not in the contract.
        ContractError: a field is missing, mistyped or out of range.
    """
    try:
        plain = json.loads(data)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{cls.__name__}: not JSON ({error})") from error
    return from_plain(cls, plain, strict=strict)


def from_plain(cls: type[T], plain: Any, *, strict: bool = True) -> T:
    """Return the contract `cls` from plain data; see `from_bytes`."""
    if not isinstance(plain, dict):
        raise SchemaError(f"{cls.__name__}: found {type(plain).__name__}, expected an object")
    schema = getattr(cls, "SCHEMA", None)
    if schema and plain.get("schema") != schema:
        raise SchemaError(f"{cls.__name__}: schema is {plain.get('schema')!r}, expected {schema!r}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(plain) - set(known) - {"schema"})
    if unknown and strict:
        raise UnknownFieldError(f"{cls.__name__}: unknown field {unknown[0]!r}")
    hints = typing.get_type_hints(cls)
    values = {
        name: _convert(hints[name], plain[name], f"{cls.__name__}.{name}", strict)
        for name in known
        if name in plain
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ContractError(f"{cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, where: str, strict: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        canonical(value)  # what cannot be written again is not read
        return value
    if origin is typing.Literal:
        require(value in args, f"{where} is {value!r}, expected one of {args}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where, strict)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, strict=strict)
    if origin is tuple:
        require(isinstance(value, list), f"{where} is {value!r}, expected a list")
        kinds: Iterable[Any] = [args[0]] * len(value) if args[-1] is Ellipsis else args
        many = args[-1] is Ellipsis or len(value) == len(args)
        require(many, f"{where} has {len(value)} entries, expected {len(args)}")
        return tuple(
            _convert(k, v, f"{where}[{i}]", strict)
            for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin in (dict, Mapping):
        require(isinstance(value, dict), f"{where} is {value!r}, expected an object")
        return {
            _convert(str, k, f"a key of {where}", strict): _convert(
                args[1], v, f"{where}.{k}", strict
            )
            for k, v in value.items()
        }
    if isinstance(value, int) and hint in (int, float) and not isinstance(value, bool):
        require(abs(value) < 1 << 63, f"{where} is a number of {value.bit_length()} bits, over 63")
        return hint(value)
    if isinstance(value, bool) and hint is not bool:
        raise ContractError(f"{where} is {value!r}, expected {hint.__name__}")
    require(isinstance(value, hint), f"{where} is {value!r}, expected {hint.__name__}")
    if hint is str and not value.isascii():
        whole = not any("\ud800" <= letter <= "\udfff" for letter in value)
        require(whole, f"{where} holds half a character: {value!a:.80}")
    return value


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` so that after a crash `path` holds all of it or what was there before.

    Temp file in the same folder, fsync, rename, fsync of the folder. Nothing is left on failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` last through a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
