"""Campaigns as files: TOML that people write, and the envelopes that home keeps."""

import base64
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.campaign_file import CampaignFileError, parse, read
from vehicle.contracts.home import Home

_KNOWN: Final = re.compile(r"^known = \[\n(?:  \[[^\n]*\n)*\]\n\n?", re.MULTILINE)
"""`known` as `set_known` writes it: a row a line."""


def read_campaign(home: Home, name: str) -> Campaign:
    """Return a campaign from a file, or one that home keeps by its name.

    A campaign that home keeps is taken out of its envelope; nothing is trusted by it here.

    Raises:
        CampaignFileError: there is none, or it is damaged.
    """
    path = Path(name)
    if not path.is_file():
        path = home.fleet / "campaigns" / f"{Path(name).name}.json"
    if not path.is_file():
        kept = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise CampaignFileError(f"no campaign {name}: no such file, and home keeps: {kept}")
    if path.suffix != ".json":
        return read(path)
    try:
        return parse(_plain(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignFileError(f"{path} is no campaign: {error}") from error


def trigger_of(campaign: Campaign, name: str) -> TriggerSpec:
    """Return a campaign's trigger.

    Raises:
        CampaignFileError: it has none of that name.
    """
    for spec in campaign.triggers:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in campaign.triggers) or "none"
    raise CampaignFileError(
        f"campaign {campaign.campaign_id} has no trigger {name!r}; it has: {known}"
    )


def add_trigger(path: Path, spec: TriggerSpec) -> Campaign:
    """Add a trigger to the end of a campaign's file, or begin one; nothing else in it changes.

    Args:
        path: *.toml; a new one is called by its name.
    Returns:
        the campaign as it is now.
    Raises:
        CampaignFileError: the file is no campaign, or has a trigger of that name.
    """
    if path.suffix != ".toml":
        raise CampaignFileError(f"{path}: expected a name ending in .toml")
    try:
        text = path.read_text() if path.exists() else _new(path.stem)
        if any(t.get("name") == spec.name for t in tomllib.loads(text).get("triggers", ())):
            raise CampaignFileError(
                f"{path} has a trigger {spec.name!r}; name this one by --name, or take that out"
            )
        text = f"{text.rstrip()}\n\n{_table(spec)}"
        campaign = parse(tomllib.loads(text))
    except (OSError, ValueError, TypeError) as error:
        raise CampaignFileError(f"{path} is no campaign: {error}") from error
    wire.atomic_write(path, text.encode())
    return campaign


def set_known(path: Path, rows: Iterable[Iterable[float]], new: TriggerSpec) -> Campaign:
    """Put the embeddings that home knows enough of into a campaign's file; nothing else changes.

    Args:
        path: *.toml; a new one is called by its name and gets the trigger `new`.
    Returns:
        the campaign as it is now.
    Raises:
        CampaignFileError: the file is no campaign, or its `known` is not as this writes it.
    """
    listed = ",\n".join(f"  {json.dumps(list(row))}" for row in rows)
    if path.suffix != ".toml":
        raise CampaignFileError(f"{path}: expected a name ending in .toml")
    try:
        text = path.read_text() if path.exists() else f"{_new(path.stem)}\n{_table(new)}"
        text = _KNOWN.sub("", text)
        first = re.search(r"^\[", text, re.MULTILINE)
        at = first.start() if first else len(text)
        text = f"{text[:at]}known = [\n{listed},\n]\n\n{text[at:]}"
        campaign = parse(tomllib.loads(text))
    except (OSError, ValueError, TypeError) as error:
        raise CampaignFileError(f"{path} is no campaign: {error}") from error
    wire.atomic_write(path, text.encode())
    return campaign


def _plain(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    return json.loads(base64.b64decode(found["payload"])) if "payload" in found else found


def _new(name: str) -> str:
    return f'campaign_id = {json.dumps(name)}\ncars = ["*"]\n'


def _table(spec: TriggerSpec) -> str:
    """Return a trigger as TOML; JSON's way to write texts and numbers is TOML's too."""
    names = ("name", "kind", "when", "threshold", "hold_s", "pre_s", "post_s", "min_interval_s")
    lines = [f"{name} = {json.dumps(getattr(spec, name))}" for name in names]
    return "\n".join(["[[triggers]]", *lines]) + "\n"
