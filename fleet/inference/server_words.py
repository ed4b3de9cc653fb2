"""What a site says of itself by either wire."""

from functools import cache
from importlib import metadata
from typing import Final

NAME: Final = "roadloop"
PLATFORM: Final = "roadloop"
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration")

BODY_S: Final = 10.0
"""Longest that a request may take to come in."""


@cache
def version() -> str:
    """Return the version of what serves."""
    return metadata.version("roadloop")
