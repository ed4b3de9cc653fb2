"""The one command: mounts each package's verbs; nothing is imported before it is used."""

import errno
import importlib
import sys
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

PACKAGES = {
    "vehicle": "What runs in the car: drive, install, send.",
    "fleet": "The door at home: take clips in, sign releases, hand them out.",
    "datalake": "Facts about every clip: ingest, ask in SQL, pin datasets.",
    "training": "Dataset in, signed-ready bundle out: train, evaluate, export.",
    "sim": "The proving ground: drive, render, generate labelled frames.",
}
VERBS = {
    "demo": ("sim.cli", "demo", "Run the whole loop once: two cars, one lake, one better network."),
    "import": ("vehicle.cli", "import_", "Turn somebody else's drive log into a route file."),
    "replay": ("vehicle.cli", "replay", "Run a route file through the same loop as the car's."),
    "bench": ("sim.cli", "bench", "Measure a figure the project promises."),
}


def load(name: str) -> TyperCommand | TyperGroup:
    """Import and return the verb or package `name`."""
    if name in PACKAGES:
        group = typer.main.get_group(importlib.import_module(f"{name}.cli").app)
        group.name = name
        return group
    module, function, _ = VERBS[name]
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(importlib.import_module(module), function))
    return typer.main.get_command(single)


class LazyGroup(TyperGroup):
    """A group that lists its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """Return verbs first, then packages."""
        return [*VERBS, *PACKAGES]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:
        """Return a line for the help page; nothing is imported."""
        text = PACKAGES.get(cmd_name) or VERBS.get(cmd_name, ("", "", None))[2]
        return TyperCommand(cmd_name, short_help=text) if text else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command that `args` call, imported now."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if found is not None and name else found, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    help="A car drives, notices what it is bad at, sends that home; home sends back a better car.",
)


@app.callback()
def _root() -> None:
    """A car drives, notices what it is bad at, sends that home; home sends back a better car."""


def main() -> None:
    """Run the command line: 0 done, 1 refused with reasons, 2 usage."""
    from vehicle.contracts.wire import RefusedError

    try:
        app()
    except RefusedError as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f" ({error.filename})" if error.filename else ""
        advice = "free some space and run it again; what was finished is kept"
        print(f"refused: DiskFullError: {error.strerror}{where}; {advice}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped by ctrl-C; what was finished is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
