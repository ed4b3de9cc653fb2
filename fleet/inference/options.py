"""Options that the verbs of a site share: one name, one meaning."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JurisdictionOption = Annotated[
    str, typer.Option("--jurisdiction", help="ISO 3166 of the ground it stands on.")
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option("--name", help="Name or address that cars know this host by; may be repeated."),
]
TenantsOption = Annotated[
    Path | None,
    typer.Option(
        "--tenants", help="TOML, a table a tenant; default: this home's cars are tenant 'fleet'."
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="Folder of *.cedar and laws.toml; default: those shipped."),
]
ReceiptsOption = Annotated[
    Path | None,
    typer.Option("--receipts", help="File of the chain of receipts; needed on premises."),
]
UndeclaredOption = Annotated[
    bool,
    typer.Option(
        "--undeclared/--no-undeclared",
        help="Answer who does not say what its data is: plain clients.",
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option(
        "--plain/--no-plain", help="Without certificates; only on an address of this machine."
    ),
]
UrlFileOption = Annotated[
    Path | None,
    typer.Option("--url-file", help="Write the addresses here, as JSON, once it is open."),
]
