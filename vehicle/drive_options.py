"""Options of every drive on the clock, on a route's frames or in a simulated world."""

from pathlib import Path
from typing import Annotated

import typer

BundleOption = Annotated[
    Path | None, typer.Option(help="Network that drives; default: the car's installed one.")
]
ShadowOption = Annotated[
    Path | None, typer.Option(help="Candidate network that looks on in spare time.")
]
GatewayOption = Annotated[
    str, typer.Option(help="Address of `roadloop fleet serve`; without it nothing is sent.")
]
OffboardOption = Annotated[
    str, typer.Option(help="Who is asked for advice: https://HOST:PORT, .../MODEL, or unix:PATH.")
]
RealTimeOption = Annotated[
    bool, typer.Option("--real-time/--best-effort", help="Ask for the real-time class.")
]
