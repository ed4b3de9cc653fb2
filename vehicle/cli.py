"""The car's verbs: `roadloop replay`, `roadloop import`, `roadloop vehicle ...`."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """What runs in the car: drive, install, send."""
