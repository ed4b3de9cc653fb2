"""What the car might do next, as a table: beside the lane's centre, how fast, where to stop."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.proposals import BRAKE, NOWHERE_M, OFFSET, RATE, STOP, TARGET

SPEED_PERCENT: Final = (20, 40, 60, 80, 90, 100)
PLACES: Final = ("mid", "left", "right", "far-left", "far-right")
YIELD_PERCENT: Final = (40, 70, 100)
BESIDE_PERCENT: Final = (30, 60, 100)
STOPS_M: Final = (6.0, 8.0, 11.0, 15.0, 20.0, 26.0, 34.0)
BRAKES: Final = {"stop/soft": 1.5, "stop/comfort": 3.0, "stop/firm": 3.9}
EMERGENCY: Final = "emergency/stop"
COLUMNS: Final = 5

_ASIDE_MPS: Final = 0.8
_CHANGE_MPS: Final = 1.1
_CREEP_MPS: Final = 1.2
_CLEAR_M: Final = 0.4
_PASS_M: Final = 40.0
_TOGETHER_M: Final = 12.0
"""Things that stand this near behind one another are passed as one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Proposals to roll out.

    Args:
        table: [P, COLUMNS] float64, see `vehicle.proposals`; the last row is the emergency brake.
        names: one each; what stands before the "/" says where across the road it leads.
        holds: bool [P], stops or yields by itself, where nobody may ask for it.
    """

    table: np.ndarray
    names: tuple[str, ...]
    holds: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Return [P] metres left of the path."""
        return np.asarray(self.table[:, OFFSET])

    def __len__(self) -> int:
        return len(self.names)

    def plus(self, other: "Candidates") -> "Candidates":
        """Return these with others before them, so that the emergency brake stays last."""
        table = np.concatenate([other.table, self.table])
        holds = np.concatenate([other.holds, self.holds])
        return Candidates(table=table, names=(*other.names, *self.names), holds=holds)


def row(
    *,
    offset_m: float = 0.0,
    target_mps: float = 0.0,
    brake_mps2: float = 0.0,
    stop_m: float = NOWHERE_M,
    rate_mps: float = _ASIDE_MPS,
) -> np.ndarray:
    """Return one row of a table.

    Args:
        offset_m: left of the path. target_mps: speed to reach.
        brake_mps2: over 0: brake by that much, whatever is ahead.
        stop_m: along the path, where the front has to stand.
        rate_mps: of moving sideways.
    """
    out = np.empty(COLUMNS)
    out[OFFSET], out[TARGET], out[BRAKE] = offset_m, target_mps, brake_mps2
    out[STOP], out[RATE] = stop_m, rate_mps
    return out


class Menu:
    """Builds the table of a tick; the same road gives the same names, so that choices can last.

    Args:
        width_m: of the body.
        emergency_mps2: of the last row.
    """

    def __init__(self, width_m: float, emergency_mps2: float) -> None:
        self._width = width_m
        names = [f"{place}/speed{percent}" for place in PLACES for percent in SPEED_PERCENT]
        names += [f"yield/speed{percent}" for percent in YIELD_PERCENT]
        names += ["creep/speed", *(f"stop/in{far:.0f}" for far in STOPS_M), *BRAKES, EMERGENCY]
        self._names = tuple(names)
        self._holds = np.array([name.startswith(("stop/", "yield/")) for name in names])
        table = np.zeros((len(names), COLUMNS))
        table[:, STOP], table[:, RATE] = NOWHERE_M, _ASIDE_MPS
        sides, each = len(PLACES), len(SPEED_PERCENT)
        self._driving = sides * each
        self._yields = slice(self._driving, self._driving + len(YIELD_PERCENT))
        self._creep = self._driving + len(YIELD_PERCENT)
        self._stops = slice(self._creep + 1, self._creep + 1 + len(STOPS_M))
        self._shares = np.zeros(len(names))
        self._shares[: self._driving] = np.tile(SPEED_PERCENT, sides) / 100.0
        self._shares[self._yields] = np.array(YIELD_PERCENT) / 100.0
        self._shares[self._stops] = 1.0
        table[self._stops, STOP] = STOPS_M
        table[self._stops.stop :, BRAKE] = [*BRAKES.values(), emergency_mps2]
        self._table, self._each = table, each

    def of(
        self,
        *,
        limit_mps: float,
        lane_m: float,
        stop_m: float | None,
        yield_m: float | None,
        aside_m: tuple[float, ...] = (),
        lanes_m: tuple[float, ...] = (),
    ) -> Candidates:
        """Return at least 45 proposals.

        Args:
            limit_mps: 100 percent.
            lane_m: width of the lane.
            stop_m: where every proposal has to stop (a red light); None nowhere.
            yield_m: where one proposal stops by itself; None nowhere.
            aside_m: offsets that pass what stands in the way.
            lanes_m: offsets of lanes that may be changed to.
        """
        line = NOWHERE_M if stop_m is None else stop_m
        free = max(0.2, 0.5 * (lane_m - self._width))
        table = self._table.copy()
        sides = np.array([0.0, 0.35, -0.35, free + 0.2, 0.1 - free])
        table[: self._driving, OFFSET] = np.repeat(sides, self._each)
        table[:, TARGET] = self._shares * limit_mps
        table[self._creep, TARGET] = min(_CREEP_MPS, limit_mps)
        if yield_m is not None:
            table[self._yields, STOP] = yield_m
        np.minimum(table[:, STOP], line, out=table[:, STOP])
        out = Candidates(table=table, names=self._names, holds=self._holds)
        more = [(f"nudge{i}", side, _ASIDE_MPS) for i, side in enumerate(aside_m)]
        more += [("lane-left" if m > 0 else "lane-right", m, _CHANGE_MPS) for m in lanes_m]
        if not more:
            return out
        rows = [
            row(offset_m=side, target_mps=p / 100.0 * limit_mps, stop_m=line, rate_mps=rate)
            for _, side, rate in more
            for p in BESIDE_PERCENT
        ]
        names = tuple(f"{place}/speed{p}" for place, _, _ in more for p in BESIDE_PERCENT)
        beside = Candidates(table=np.array(rows), names=names, holds=np.zeros(len(rows), np.bool_))
        return out.plus(beside)


def passes(
    along: np.ndarray, slow: np.ndarray, left_m: float, right_m: float, width_m: float
) -> tuple[float, ...]:
    """Return up to two offsets that pass what stands in the lane ahead, nearest to its middle.

    Args:
        along: [N, 4] along the path: s, offset, half length, half width of each road user.
        slow: bool [N], stands.
        left_m, right_m: how far from the path the middle of the body may be.
        width_m: of the body.
    """
    half = 0.5 * width_m + _CLEAR_M
    inside = slow & (along[:, 0] > 2.0) & (along[:, 0] < _PASS_M)
    inside &= np.abs(along[:, 1]) < along[:, 3] + half
    if not inside.any():
        return ()
    first = inside & (along[:, 0] < along[inside, 0].min() + _TOGETHER_M)
    left = float((along[first, 1] + along[first, 3]).max()) + half
    right = float((along[first, 1] - along[first, 3]).min()) - half
    found = [left] * (0.05 < left <= left_m) + [right] * (-right_m <= right < -0.05)
    return tuple(sorted(found, key=abs))
