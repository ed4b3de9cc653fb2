"""What the car might do next, as a table: beside the lane's centre, how fast, where to stop."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.proposals import BRAKE, NOWHERE_M, OFFSET, RATE, STOP, TARGET

SPEED_PERCENT: Final = (20, 40, 60, 80, 90, 100)
BRAKES: Final = {"stop/soft": 1.5, "stop/comfort": 3.0, "stop/firm": 3.9}
EMERGENCY: Final = "emergency/stop"
COLUMNS: Final = 5

_ASIDE_MPS: Final = 0.8
_CHANGE_MPS: Final = 1.1
_CREEP_MPS: Final = 1.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Proposals to roll out.

    Args:
        table: [P, COLUMNS] float64, see `vehicle.proposals`; the last row is the emergency brake.
        names: one each; what stands before the "/" says where across the road it leads.
    """

    table: np.ndarray
    names: tuple[str, ...]

    @property
    def offsets(self) -> np.ndarray:
        """Return [P] metres left of the path."""
        return np.asarray(self.table[:, OFFSET])

    def __len__(self) -> int:
        return len(self.names)

    def plus(self, other: "Candidates") -> "Candidates":
        """Return these with others before them, so that the emergency brake stays last."""
        table = np.concatenate([other.table, self.table])
        return Candidates(table=table, names=(*other.names, *self.names))


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
        self._width, self._emergency = width_m, emergency_mps2

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
        names: list[str] = []
        rows: list[np.ndarray] = []

        def add(name: str, made: np.ndarray) -> None:
            names.append(name)
            rows.append(made)

        free = max(0.2, 0.5 * (lane_m - self._width))
        sides = {
            "mid": 0.0,
            "left": 0.4,
            "right": -0.4,
            "far-left": free + 0.2,
            "far-right": 0.1 - free,
        }
        for place, side in sides.items():
            for percent in SPEED_PERCENT:
                target = percent / 100.0 * limit_mps
                add(f"{place}/speed{percent}", row(offset_m=side, target_mps=target, stop_m=line))
        for i, side in enumerate(aside_m):
            for percent in (30, 60, 100):
                made = row(offset_m=side, target_mps=percent / 100.0 * limit_mps, stop_m=line)
                add(f"nudge{i}/speed{percent}", made)
        for side in lanes_m:
            for percent in (60, 80, 100):
                add(
                    f"lane-{'left' if side > 0 else 'right'}/speed{percent}",
                    row(offset_m=side, target_mps=percent / 100.0 * limit_mps, stop_m=line,
                        rate_mps=_CHANGE_MPS),
                )  # fmt: skip
        waits = line if yield_m is None else min(line, yield_m)
        for percent in (50, 100):
            add(f"yield/speed{percent}", row(target_mps=percent / 100.0 * limit_mps, stop_m=waits))
        add("creep/speed", row(target_mps=min(_CREEP_MPS, limit_mps), stop_m=line))
        for distance in (6.0, 10.0, 15.0, 22.0, 30.0, 40.0):
            made = row(target_mps=limit_mps, stop_m=min(line, distance))
            add(f"stop/in{distance:.0f}", made)
        for name, brake in BRAKES.items():
            add(name, row(brake_mps2=brake))
        add(EMERGENCY, row(brake_mps2=self._emergency))
        return Candidates(table=np.array(rows), names=tuple(names))


def passes(
    users: np.ndarray, along: np.ndarray, still: np.ndarray, room: tuple[float, float],
    width_m: float, reach_m: float,
) -> tuple[float, ...]:  # fmt: skip
    """Return up to two offsets that pass what stands in the lane ahead, nearest to its centre.

    Args:
        users: [N, 7]; along: [N, 4] s, offset, half length, half width along the path.
        still: bool [N], stands.
        room: how far left and right of the path the middle of the body may be.
        width_m: of the body. reach_m: how far ahead to look.
    """
    half = 0.5 * width_m + 0.35
    ahead = still & (along[:, 0] > 2.0) & (along[:, 0] < reach_m)
    inside = ahead & (np.abs(along[:, 1]) < along[:, 3] + half)
    if not inside.any():
        return ()
    out = []
    for offset in (
        float((along[inside, 1] + along[inside, 3]).max()) + half,
        float((along[inside, 1] - along[inside, 3]).min()) - half,
    ):
        fits = -room[1] <= offset <= room[0]
        if fits and not math.isclose(offset, 0.0, abs_tol=0.05):
            out.append(offset)
    return tuple(sorted(out, key=abs))
