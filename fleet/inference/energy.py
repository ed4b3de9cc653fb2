"""What an answer costs in joules: declared models of power, and a meter where a machine has one.

Each figure says whether it is modelled or metered. Models charge what is busy and what is sent, not
what would run anyway: idle machines, a terminal that is on, a satellite that flies. Joules of a
link are averages that networks publish of all their traffic: right for a fleet's budget, and not
for one packet.
"""

import ctypes
from dataclasses import dataclass
from typing import Final, Literal

from vehicle.contracts.wire import RefusedError, require

JOULES_PER_KWH: Final = 3.6e6
BYTES_PER_GB: Final = 1e9

Source = Literal["modelled", "metered"]


class NoPowerModelError(RefusedError):
    """There is no model of that name."""


class NoMeterError(RefusedError):
    """This machine has no meter of its energy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What works out an answer.

    Args:
        active_w, idle_w: of one core or one card, W.
        overhead: what the building draws for each watt of it (PUE); 1 in a car.
        source: where the figures stand; "assumed" where nowhere.
    """

    active_w: float
    idle_w: float
    overhead: float
    source: str

    def joules(self, busy_s: float) -> float:
        """Return what `busy_s` seconds of it cost: of CPU time for a core, of use for a card."""
        require(busy_s >= 0.0, f"busy_s is {busy_s}, expected 0 or more")
        return self.active_w * busy_s * self.overhead


PROCESSORS: Final[dict[str, Processor]] = {
    "car-core": Processor(
        active_w=4.0,
        idle_w=0.5,
        overhead=1.0,
        source="assumed: an automotive processor of some 36 W over 8 to 12 cores",
    ),
    "server-core": Processor(
        active_w=4.4,
        idle_w=0.9,
        overhead=1.5,
        source="assumed: 280 W over 64 cores; overhead of a small site",
    ),
    "region-core": Processor(
        active_w=4.4,
        idle_w=0.9,
        overhead=1.2,
        source="assumed: 280 W over 64 cores; overhead of a large data centre",
    ),
    "orbit-core": Processor(
        active_w=4.4,
        idle_w=0.9,
        overhead=1.0,
        source="assumed: the same core; what its radiators and panels weigh is not counted",
    ),
}

ICT_2020: Final = (
    "EU ICT impact study (2020), 0.03 kWh/GB fixed and 0.14 mobile, in methodology.scope3.com"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What moving bytes costs.

    Args:
        kwh_per_gb: of the network, between the car and the site.
        terminal_j_per_mb: more that the car's own terminal draws while it sends.
        source: where the figures stand.
    """

    kwh_per_gb: float
    source: str
    terminal_j_per_mb: float = 0.0

    def joules(self, size_bytes: int) -> float:
        """Return what `size_bytes`, both ways together, cost."""
        require(size_bytes >= 0, f"size_bytes is {size_bytes}, expected 0 or more")
        per_byte = self.kwh_per_gb * JOULES_PER_KWH / BYTES_PER_GB
        return size_bytes * (per_byte + self.terminal_j_per_mb * 1e-6)


NETWORKS: Final[dict[str, Network]] = {
    "cabinet": Network(kwh_per_gb=0.03, source=ICT_2020),
    "5g-sa": Network(
        kwh_per_gb=0.06,
        source="bottom-up: 5G 3 to 4 times better than 4G's 0.23 kWh/GB, in methodology.scope3.com",
    ),
    "lte": Network(kwh_per_gb=0.14, source=ICT_2020),
    "wifi-depot": Network(kwh_per_gb=0.03, source=ICT_2020),
    "leo-dense": Network(
        kwh_per_gb=0.03,
        terminal_j_per_mb=8.0,
        source=f"ground side: {ICT_2020}; terminal: 15 W more when busy (10 to 20 W, "
        "starlinkrefer.com, 2026) at 15 Mbit/s",
    ),
    "leo-sparse": Network(
        kwh_per_gb=0.03,
        terminal_j_per_mb=120.0,
        source=f"ground side: {ICT_2020}; terminal: 15 W more when busy, at 1 Mbit/s: assumed",
    ),
}
"""By the names of sim/net/link_profiles.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joules:
    """Energy of one answer, and how it is known."""

    compute: float
    link: float
    source: Source = "modelled"

    @property
    def total(self) -> float:
        """Return all of it, J."""
        return self.compute + self.link


def joules(processor: str, network: str, busy_s: float, size_bytes: int) -> Joules:
    """Return what an answer costs, modelled.

    Args:
        processor, network: of PROCESSORS and NETWORKS.
        busy_s: how long it computes.
        size_bytes: sent and received.
    Raises:
        NoPowerModelError: names the ones there are.
    """
    for name, table in ((processor, PROCESSORS), (network, NETWORKS)):
        if name not in table:
            raise NoPowerModelError(f"no power model {name!r}; there are {', '.join(table)}")
    return Joules(
        compute=PROCESSORS[processor].joules(busy_s), link=NETWORKS[network].joules(size_bytes)
    )


class NvidiaMeter:
    """The energy counter of an NVIDIA card (Volta and later), metered.

    Args:
        index: of the card.
    Raises:
        NoMeterError: no driver, no card, or one without a counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NoMeterError(f"no NVIDIA driver here ({error})") from error
        self._card = ctypes.c_void_p()
        self._check(self._nvml.nvmlInit_v2(), "nvmlInit")
        found = self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._card))
        self._check(found, f"card {index}")
        self.joules()

    def joules(self) -> float:
        """Return the counter, J since the driver was loaded; its steps are of some 100 ms."""
        counted = ctypes.c_ulonglong()
        read = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card, ctypes.byref(counted))
        self._check(read, "total energy")
        return counted.value / 1_000.0

    def _check(self, code: int, what: str) -> None:
        if code:
            raise NoMeterError(f"{what}: NVML answers {code}")
