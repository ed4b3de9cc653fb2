"""What one node of the relay is: a file for each.

Source: own work.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError, require


class NodeConfigError(RefusedError):
    """The file that says what a node is cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node.

    Args:
        name: of the node in the plan.
        plan, store: files; the second is made.
        listen: HOST:PORT for other nodes.
        door: path of a unix socket, or HOST:PORT, for applications.
        peers: name of a node -> its HOST:PORT.
        keys: file of shared secrets, "" for none (see `fleet.orbit.keyring`).
        tls: folder of the node's identity, "" for none: inside one machine only.
        course: file of mission time, "" for the machine's clock.
        clock_offset_s: how wrong its clock is made, s; for trials.
        tolerance_s: how far clocks may be apart, s of mission time.
        quota_bytes, max_bundle_bytes: of the store, and of one bundle.
    """

    SCHEMA: ClassVar[str] = "orbitnode/1"
    name: str
    plan: str
    store: str
    listen: str
    door: str
    peers: dict[str, str] = field(default_factory=dict)
    keys: str = ""
    tls: str = ""
    course: str = ""
    clock_offset_s: float = 0.0
    tolerance_s: float = 30.0
    quota_bytes: int = 256 << 20
    max_bundle_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        require(0.0 <= self.tolerance_s <= 3_600.0, f"tolerance_s is {self.tolerance_s}")
        require(0 < self.max_bundle_bytes <= self.quota_bytes, "a bundle larger than the store")

    @classmethod
    def read(cls, path: Path) -> "NodeConfig":
        """Return the node of a file.

        Raises:
            NodeConfigError: there is none, or it is something else.
        """
        try:
            return wire.from_bytes(cls, path.read_bytes())
        except (OSError, wire.ContractError) as error:
            raise NodeConfigError(f"{path}: {error}") from error
