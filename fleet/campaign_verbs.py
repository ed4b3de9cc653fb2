"""The verbs of `roadloop fleet campaign`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vehicle.contracts.campaign import Campaign

campaign_app = typer.Typer(
    no_args_is_help=True, help="What cars look out for: signed, versioned, handed out."
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NameArgument = Annotated[str, typer.Argument(help="The campaign's name.")]


@campaign_app.command()
def add(
    file: Annotated[
        Path | None, typer.Argument(help="Campaign as TOML or JSON; --example prints one.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a commented campaign with every trigger.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a campaign and hand it to its cars, as the next version where there was one.

    Cars drive with it from the next drive after their next visit on.
    """
    from fleet.campaign import Campaigns
    from fleet.campaign_example import EXAMPLE
    from vehicle.contracts.campaign_file import read
    from vehicle.contracts.home import Home

    if example:
        print(EXAMPLE, end="")
        return
    if file is None:
        raise typer.BadParameter("name a file, or print one with --example", param_hint="FILE")
    signed = Campaigns(Home.here()).put(read(file))
    if as_json:
        print(json.dumps({"campaign": signed.campaign_id, "version": signed.version}))
        return
    cars = "every car" if "*" in signed.cars else ", ".join(signed.cars)
    print(
        f"{signed.campaign_id} version {signed.version}: {len(signed.triggers)} triggers, signed "
        f"for {cars}"
    )


@campaign_app.command("list")
def list_campaigns(as_json: JsonOption = False) -> None:
    """Show the campaigns that cars are handed."""
    from fleet.campaign import Campaigns
    from vehicle.contracts.home import Home

    found = [kept.campaign for kept in Campaigns(Home.here()).all()]
    if as_json:
        print(json.dumps({"campaigns": [_row(c) for c in found]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("campaign", "version", "priority", "cars", "triggers", "until", "sends")
    for campaign in found:
        row = _row(campaign)
        table.add_row(
            campaign.campaign_id,
            str(campaign.version),
            str(campaign.priority),
            ", ".join(campaign.cars),
            str(len(campaign.triggers)),
            row["expires"] or "-",
            campaign.full,
        )
    Console().print(table)


@campaign_app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one campaign: each trigger as the expression that cars evaluate."""
    from fleet.campaign import Campaigns
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    kept = Campaigns(Home.here()).get(name)
    campaign, signers = kept.campaign, [s["keyid"] for s in kept.envelope["signatures"]]
    if as_json:
        print(json.dumps({"campaign": wire.to_plain(campaign), "signed_by": signers}))
        return
    row = _row(campaign)
    print(
        f"{name} version {campaign.version}, priority {campaign.priority}, for "
        f"{', '.join(campaign.cars)}, until {row['expires'] or 'withdrawn'}; at most "
        f"{campaign.max_clips_per_hour:g} clips an hour, {campaign.budget.max_clips} clips and "
        f"{campaign.budget.max_bytes:,} bytes a day; full clips {campaign.full}; signed by "
        f"{', '.join(s[:12] for s in signers)}"
    )
    for trigger in campaign.triggers:
        held = f" for {trigger.hold_s:g} s" if trigger.hold_s else ""
        print(f"  {trigger.name}: {trigger.expression}{held}")


@campaign_app.command()
def withdraw(name: NameArgument, as_json: JsonOption = False) -> None:
    """Take a campaign back: cars drop it at their next visit."""
    from fleet.campaign import Campaigns
    from vehicle.contracts.home import Home

    gone = Campaigns(Home.here()).withdraw(name)
    if as_json:
        print(json.dumps({"withdrawn": gone.campaign_id, "version": gone.version}))
    else:
        print(f"{gone.campaign_id} version {gone.version} is withdrawn")


def _row(campaign: "Campaign") -> dict[str, Any]:
    from datetime import UTC, datetime

    ends = campaign.expires_utc_ns
    return {
        "campaign": campaign.campaign_id,
        "version": campaign.version,
        "priority": campaign.priority,
        "cars": list(campaign.cars),
        "triggers": [t.name for t in campaign.triggers],
        "expires": datetime.fromtimestamp(ends / 1e9, UTC).isoformat() if ends else None,
        "full": campaign.full,
    }
