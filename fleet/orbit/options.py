"""Options that several verbs of the relay share."""

from pathlib import Path
from typing import Annotated

import typer

PlanOption = Annotated[Path, typer.Option(help="Contact plan, from `roadloop fleet orbit plan`.")]
DoorOption = Annotated[str, typer.Option(help="Door of a node: path of a socket, or HOST:PORT.")]
