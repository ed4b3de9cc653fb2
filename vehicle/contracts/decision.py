"""One decision of the car, the scene it was taken in, and which parts of that scene caused it.

A cause is a factor without which the car, asked again, decides otherwise: found by test, not told
by the planner (vehicle/counterfactual.py). Records travel as lines of canonical JSON.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal, get_args

from vehicle.contracts.plan import RUNGS
from vehicle.contracts.scene import KINDS, SIGNAL_STATES
from vehicle.contracts.wire import ContractError, from_bytes, require, require_finite

Longitudinal = Literal[
    "stay stopped", "move off", "speed up", "keep speed", "slow down", "stop", "brake hard"
]
LONGITUDINAL: Final[tuple[Longitudinal, ...]] = get_args(Longitudinal)
"""What the car does along its way."""

Lateral = Literal[
    "keep the lane", "move left", "move right", "change lane left", "change lane right"
]
LATERAL: Final[tuple[Lateral, ...]] = get_args(Lateral)
"""What it does across; to move is to leave the lane's middle without leaving the lane."""

FactorKind = Literal[
    "actor", "hides", "light", "yield line", "limit", "bend", "no lane left", "no lane right"
]
FACTORS: Final[tuple[FactorKind, ...]] = get_args(FactorKind)
"""What can be a cause: a road user; a road user behind which somebody may be; a red or yellow
light; a line before which others go first; the speed limit; a bend; a lane that does not go on."""

MAX_ACTORS: Final = 16

LARGEST: Final = 1e5
"""No metre and no speed of a record is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A road user as the car believes in it, along the ego's way.

    Args:
        actor_id: of its track.
        kind: one of KINDS.
        ahead_m: along the way from the ego's front bumper to its near side; 0 when beside.
        aside_m: from the way's middle to its centre, positive to the left.
        along_mps, across_mps: velocity along the way, and across it to the left.
        length_m, width_m, height_m: of its box.
    """

    SCHEMA: ClassVar[str] = "actor/1"
    actor_id: int
    kind: str
    ahead_m: float
    aside_m: float
    along_mps: float
    across_mps: float
    length_m: float
    width_m: float
    height_m: float

    def __post_init__(self) -> None:
        require(self.kind in KINDS, f"Actor.kind is {self.kind!r}, expected one of {KINDS}")
        numbers = {n: getattr(self, n) for n in self.__slots__ if n not in ("actor_id", "kind")}
        _require_small("Actor", **numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """Something in the scene that may be taken away; `actor_id` where it is a road user's."""

    SCHEMA: ClassVar[str] = "factor/1"
    kind: FactorKind
    actor_id: int = 0

    def __post_init__(self) -> None:
        require(self.kind in FACTORS, f"Factor.kind is {self.kind!r}, expected {FACTORS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided.

    Args:
        longitudinal, lateral: the classes.
        demand_mps2: mean acceleration over the next two seconds, as planned or, where the safety
            envelope asks for a stronger brake, as commanded.
    """

    SCHEMA: ClassVar[str] = "decision/1"
    longitudinal: Longitudinal
    lateral: Lateral
    demand_mps2: float

    def __post_init__(self) -> None:
        require(self.longitudinal in LONGITUDINAL, f"longitudinal is {self.longitudinal!r}")
        require(self.lateral in LATERAL, f"lateral is {self.lateral!r}")
        require_finite("Decision", demand_mps2=self.demand_mps2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision with all that can be said of it.

    Args:
        source: scenario or clip it is from.
        frame_id: the tick.
        speed_mps, accel_mps2: of the ego.
        aside_m: of the ego from the middle of its way, positive to the left.
        limit_mps, lane_width_m: of the lane.
        light: what the light ahead shows; light_m to its line from the front bumper.
        yield_m: from the front bumper to the line before which others go first; None: none.
        bend_m, bend_1pm: to the tightest bend of the next 60 m, and its curvature.
        left_lane_m, right_lane_m: how far a lane of the same direction goes on beside.
        rung: of the degrade ladder.
        actors: nearest to the ego's way first.
        decision: the one that was actuated.
        limited_by: safety rules that made the command more careful.
        causes: factors without which it would have been another; None: nobody tested.
        jointly: only without all of `causes` together it would have been another.
    """

    SCHEMA: ClassVar[str] = "decisionrecord/1"
    source: str
    frame_id: int
    speed_mps: float
    accel_mps2: float
    aside_m: float
    limit_mps: float
    lane_width_m: float
    light: str
    light_m: float | None
    yield_m: float | None
    bend_m: float
    bend_1pm: float
    left_lane_m: float
    right_lane_m: float
    rung: str
    actors: tuple[Actor, ...]
    decision: Decision
    limited_by: tuple[str, ...] = ()
    causes: tuple[Factor, ...] | None = None
    jointly: bool = False

    def __post_init__(self) -> None:
        require(self.light in SIGNAL_STATES, f"light is {self.light!r}, expected {SIGNAL_STATES}")
        require(self.rung in RUNGS, f"rung is {self.rung!r}, expected one of {RUNGS}")
        require(len(self.actors) <= MAX_ACTORS, f"{len(self.actors)} actors, over {MAX_ACTORS}")
        ids = [a.actor_id for a in self.actors]
        require(len(set(ids)) == len(ids), "two actors have the same id")
        _require_small(
            "DecisionRecord",
            **{n: getattr(self, n) for n in _NUMBERS},
            light_m=self.light_m or 0.0,
            yield_m=self.yield_m or 0.0,
        )
        for factor in self.causes or ():
            of_actor = factor.kind in ("actor", "hides")
            require(not of_actor or factor.actor_id in ids, f"no actor {factor.actor_id} is there")


def _require_small(owner: str, **values: float) -> None:
    """Raise ContractError naming the first number that no road has."""
    require_finite(owner, **values)
    for name, value in values.items():
        require(abs(value) <= LARGEST, f"{owner}.{name} is {value:g}, over {LARGEST:g}")


def read_records(path: Path) -> list[DecisionRecord]:
    """Return the records of a file, one a line.

    Raises:
        ContractError: the file is not there, or a line is no record; it is named.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(from_bytes(DecisionRecord, line))
        except ContractError as error:
            raise ContractError(f"{path}:{number}: {error}") from error
    return found


_NUMBERS: Final = (
    *("speed_mps", "accel_mps2", "aside_m", "limit_mps", "lane_width_m", "bend_m", "bend_1pm"),
    *("left_lane_m", "right_lane_m"),
)
