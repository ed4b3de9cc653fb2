"""Which law keeps which data where: a table (policies/laws.toml), and the law of one jurisdiction.

A careful reading to start from, not legal advice; a fleet ships its own table beside its policies.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from vehicle.contracts.inference import DATA_CLASSES, DataClass
from vehicle.contracts.wire import RefusedError

LAWS_FILE: Final = "laws.toml"
DEFAULT: Final = "default"


class PolicyFileError(RefusedError):
    """The policies or the laws cannot be read, or say what their schema does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Where one law keeps data.

    Args:
        zone: ISO 3166 of where the data may be; empty: the country of the data.
        keeps: classes that stay inside the zone.
        grounds: classes that never go through orbit.
    """

    zone: tuple[str, ...]
    keeps: tuple[DataClass, ...]
    grounds: tuple[DataClass, ...]


def law_of(jurisdiction: str, laws: Mapping[str, Law]) -> Law:
    """Return the law that data of `jurisdiction` stands under."""
    country = jurisdiction[:2]
    for name, law in laws.items():
        if name != DEFAULT and (jurisdiction in law.zone or country in law.zone):
            return law
    default = laws[DEFAULT]
    return Law(zone=(country,), keeps=default.keeps, grounds=default.grounds)


def read_laws(text: str) -> dict[str, Law]:
    """Return the laws of a table, by name; "default" is always among them.

    Raises:
        PolicyFileError: not TOML, a key or class that is unknown, or no [default].
    """
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyFileError(f"{LAWS_FILE}: {error}") from error
    if DEFAULT not in plain:
        raise PolicyFileError(f"{LAWS_FILE} has no [{DEFAULT}] for countries that it does not name")
    return {name: _law(name, law) for name, law in plain.items()}


def _law(name: str, plain: Any) -> Law:
    keys = {"keeps", "grounds"} if name == DEFAULT else {"zone", "keeps", "grounds"}
    if not isinstance(plain, dict) or set(plain) != keys:
        raise PolicyFileError(f"{LAWS_FILE}: [{name}] is {plain!r}, expected {sorted(keys)}")
    for key, values in plain.items():
        known = isinstance(values, list) and all(isinstance(v, str) for v in values)
        if not known or (key != "zone" and not set(values) <= set(DATA_CLASSES)):
            raise PolicyFileError(
                f"{LAWS_FILE}: {name}.{key} is {values!r}, expected a list"
                + ("" if key == "zone" else f" out of {get_args(DataClass)}")
            )
    zone = tuple(plain.get("zone", ()))
    return Law(zone=zone, keeps=tuple(plain["keeps"]), grounds=tuple(plain["grounds"]))
