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

EXAMPLE: Final = """# A campaign: what some cars look out for, and how much of it they send home.
# Sign it and hand it to the cars: roadloop fleet campaign add THIS_FILE

campaign_id = "example"          # a plain name; adding it again makes the next version
cars = ["*"]                     # names, or "*" for every car
expires = 2031-01-01T00:00:00Z   # leave out: never
priority = 3                     # 0..9; what higher ones noticed is kept and sent first
max_clips_per_hour = 20          # in each car; beyond it the triggers pass
full = "always"                  # "on_request": summaries only, until `roadloop fleet request`
jurisdictions = ["*"]            # ISO 3166 codes, "ZZ" in simulation

[budget]                         # of each car, in 24 hours
max_clips = 100
max_bytes = 1_000_000_000

# Each trigger: a kind and a threshold in the unit of its signal; how long it must hold, what to
# keep before and after, and how long it is quiet then. Signals: docs/reference/triggers.md.

[[triggers]]                     # deceleration, m/s2
name = "hard brake"
kind = "hard_brake"
threshold = 3.5
hold_s = 0.1
pre_s = 5.0
post_s = 3.0
min_interval_s = 10.0

[[triggers]]                     # lateral acceleration, m/s2
name = "harsh steer"
kind = "harsh_steer"
threshold = 3.0

[[triggers]]                     # time to collision, s
name = "close call"
kind = "ttc"
threshold = 1.5

[[triggers]]                     # gap beyond the RSS safe distance, m (negative: inside it)
name = "too close"
kind = "rss"
threshold = -1.0
hold_s = 0.5

[[triggers]]                     # from the plan to where the human driver went, m
name = "human knew better"
kind = "human_disagreement"
threshold = 2.0

[[triggers]]                     # of the candidate network with the one that drives, 0..1
name = "shadow differs"
kind = "shadow_disagreement"
threshold = 0.5
hold_s = 0.3

[[triggers]]                     # share of near tracks that came and went, 0..1
name = "flicker"
kind = "flicker"
threshold = 0.4

[[triggers]]                     # the network's own doubt, 0..1
name = "unsure"
kind = "uncertainty"
threshold = 0.6
hold_s = 0.3

[[triggers]]                     # distance from the known embeddings, 0..2
name = "never seen"
kind = "novelty"
threshold = 0.5
hold_s = 0.3

[[triggers]]                     # ticks in a row that were late
name = "late"
kind = "deadline_miss"
threshold = 1

[[triggers]]                     # rung of the degrade ladder: 0 full ... 4 minimal risk manoeuvre
name = "degraded"
kind = "rung"
threshold = 2

[[triggers]]
name = "minimal risk manoeuvre"
kind = "mrm"

[[triggers]]
name = "driver took over"
kind = "takeover"

[[triggers]]
name = "bookmark"
kind = "bookmark"
pre_s = 15.0

[[triggers]]                     # a fair share of ticks: what mined clips are compared with
name = "control group"
kind = "random"
threshold = 0.00001

[[triggers]]                     # a condition of one's own
name = "braked for somebody near"
kind = "expression"
when = "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within 2 s"
"""
"""A commented campaign with every kind of trigger."""


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
