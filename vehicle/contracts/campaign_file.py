"""A campaign as somebody writes it down: TOML with comments, read strictly."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec, UploadBudget
from vehicle.contracts.wire import RefusedError

EXPIRES: Final = "expires"


class CampaignFileError(RefusedError):
    """A file is not a campaign; says which line or key, and what is expected there."""


def read(path: Path) -> Campaign:
    """Return the campaign in a TOML or JSON file.

    Raises:
        CampaignFileError: unreadable, an unknown key, a wrong type or a value out of range.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".json":
            plain = json.loads(raw)
        else:
            plain = tomllib.loads(raw.decode())
        return parse(plain)
    except (OSError, ValueError, RecursionError) as error:
        raise CampaignFileError(
            f"{path}: {error}. `roadloop fleet campaign add --example` prints one to begin with"
        ) from error


def parse(plain: Any) -> Campaign:
    """Return the campaign that plain data of a file says; raise ContractError or ValueError."""
    if not isinstance(plain, dict):
        raise wire.ContractError(f"found {type(plain).__name__}, expected keys and values")
    data = dict(plain)
    _check_keys("a campaign", data, Campaign, EXPIRES)
    if EXPIRES in data:
        data["expires_utc_ns"] = _utc_ns(data.pop(EXPIRES))
    triggers = data.get("triggers", [])
    if not isinstance(triggers, list) or not triggers:
        raise wire.ContractError("no triggers: expected one [[triggers]] or more")
    for trigger in triggers:
        _check_keys("a trigger", trigger, TriggerSpec)
    data["triggers"] = [{"schema": TriggerSpec.SCHEMA, **trigger} for trigger in triggers]
    if "budget" in data:
        _check_keys("[budget]", data["budget"], UploadBudget)
        data["budget"] = {"schema": UploadBudget.SCHEMA, **data["budget"]}
    return wire.from_plain(Campaign, {"schema": Campaign.SCHEMA, **data})


def _check_keys(what: str, plain: Any, contract: type, *more: str) -> None:
    if not isinstance(plain, Mapping):
        raise wire.ContractError(f"{what}: found {plain!r}, expected keys and values")
    known = [f.name for f in fields(contract)] + list(more)
    unknown = [key for key in plain if key not in (*known, "schema")]
    if unknown:
        raise wire.ContractError(
            f"{what} has no key {unknown[0]!r}; it may have {', '.join(known)}"
        )


def _utc_ns(value: Any) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise wire.ContractError(
            f"expires is {value!s:.40}, expected a time with its zone, e.g. 2031-01-01T00:00:00Z"
        )
    return int(value.timestamp()) * 10**9
