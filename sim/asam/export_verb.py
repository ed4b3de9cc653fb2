"""The verb that hands towns and scenarios to other simulators."""

import json
from pathlib import Path
from typing import Annotated

import typer


def export(
    town: Annotated[int, typer.Argument(help="Town number.")],
    out: Annotated[Path, typer.Argument(help="OpenDRIVE file to write, e.g. town.xodr.")],
    layout: Annotated[str, typer.Option(help="lattice, roundabout or motorway_merge.")] = "lattice",
    scenario: Annotated[
        Path | None, typer.Option(help="Write the start of an episode too, e.g. town.xosc.")
    ] = None,
    family: Annotated[str, typer.Option(help="Scenario family of that episode.")] = "town_drive",
    seed: Annotated[int, typer.Option(help="Seed of that episode.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Write a town as OpenDRIVE 1.5, and a scenario as OpenSCENARIO 1.2, for other simulators.

    `sim.run.episode.Episode(map=Path("town.xodr"))` drives in such a file again, or in anybody's.
    """
    from sim.asam.opendrive_export import export_town
    from sim.asam.openscenario import export_scenario
    from sim.town.world import build_town, town_number
    from vehicle.contracts.scenario import Scenario

    number = town_number(town, layout)
    facts: dict[str, object] = {"town": number, "map": str(out)}
    if scenario is None:
        export_town(build_town(number), out)
    else:
        facts["scenario"] = str(scenario)
        facts["actors"] = export_scenario(
            Scenario(town=number, seed=seed, family=family), out, scenario
        )
    facts["bytes"] = out.stat().st_size
    print(json.dumps(facts) if json_ else ", ".join(f"{k} {v}" for k, v in facts.items()))
