"""Reads an explanation as a person would, and looks for everything it says in the record.

It knows nothing of the decoder, its tokens or how sentences are made: it takes the finished text
apart by its own rules, so that what the constraints promise is checked by somebody else.
"""

import re
from dataclasses import dataclass
from typing import Final

from vehicle.contracts.decision import Actor, DecisionRecord
from vehicle.contracts.scene import KINDS

_KIND_WORDS: Final = {"emergency vehicle": "emergency", "road user": "other"}
_NAMES: Final = sorted([*_KIND_WORDS, *KINDS], key=len, reverse=True)
_ACTOR: Final = re.compile(rf"\b({'|'.join(_NAMES)}) (-?\d+)\b")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_WHOLE: Final = re.compile(r"because (.+) therefore ([a-z ]+) and ([a-z ]+)\.")
_AHEAD: Final = re.compile(r"(\S+) m ahead")
_BESIDE: Final = re.compile(r"(\S+) m to the (left|right)")
_SPEED: Final = re.compile(r"at (\S+) m/s")
_STILL_MPS: Final = 0.75


@dataclass(frozen=True, slots=True)
class Findings:
    """What was mentioned, and which mentions are nowhere in the record."""

    mentions: int
    ungrounded: tuple[str, ...]


def check(text: str, record: DecisionRecord) -> Findings:
    """Return every mention of an explanation that its record does not bear out."""
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return Findings(1, (f"no sentence: {text[:80]}",))
    bad: list[str] = []
    said, along, across = whole.groups()
    decided = (record.decision.longitudinal, record.decision.lateral)
    if (along, across) != decided:
        bad.append(f"decision {along}, {across}")
    count = 1
    for clause in re.split(r" and (?!lane)|, each of them enough,", said):
        if clause.strip():
            count += 1 + len(_NUMBER.findall(clause))
            bad += _clause(clause.strip(), record)
    return Findings(count, tuple(bad))


def _clause(clause: str, record: DecisionRecord) -> list[str]:
    named = _ACTOR.match(clause)
    if named is None:
        return _of_road(clause, record)
    kind, number = _KIND_WORDS.get(named[1], named[1]), int(named[2])
    actor = next((a for a in record.actors if a.actor_id == number and a.kind == kind), None)
    if actor is None:
        return [f"{named[0]} is not there"]
    rest = clause[named.end() :]
    bad = [] if _does(rest, actor, record) else [f"{named[0]}:{rest}"]
    for pattern, value in (
        (_AHEAD, actor.ahead_m),
        (_SPEED, abs(actor.along_mps)),
        (_BESIDE, abs(actor.aside_m)),
    ):
        for found in pattern.finditer(rest):
            if float(found[1]) != value:
                bad.append(f"{found[0]}, found {value}")
    side = _BESIDE.search(rest)
    if side and (side[2] == "left") != (actor.aside_m > 0.0):
        bad.append(f"{side[0]} is on the other side")
    told = sum(len(p.findall(rest)) for p in (_AHEAD, _SPEED, _BESIDE))
    if told != len(_NUMBER.findall(rest)):
        bad.append(f"a number without meaning in {rest!r}")
    return bad


def _does(rest: str, actor: Actor, record: DecisionRecord) -> bool:
    """Return whether somebody does what is said; with a little room at the borders."""
    along, across = actor.along_mps, actor.across_mps
    still = max(abs(along), abs(across)) <= _STILL_MPS
    if rest.startswith(" hides what is behind it"):
        return still and actor.height_m >= 1.0 and actor.kind not in ("pedestrian", "cyclist")
    if rest.startswith(" is crossing"):
        return abs(across) >= 0.4
    if rest.startswith(" comes towards us"):
        return along < 0.0
    if rest.startswith(" stands"):
        return still
    if rest.startswith(" is slower"):
        return 0.0 < along < record.speed_mps
    if rest.startswith(" goes ahead"):
        return along > 0.0 and actor.ahead_m > 0.0
    if rest.startswith(" comes from behind"):
        return actor.ahead_m < 0.0 and along > record.speed_mps
    return rest.startswith(" is near")


def _of_road(clause: str, record: DecisionRecord) -> list[str]:
    """Check what is said of the road: it is there, and it is as far or as fast as said."""
    numbers = [float(n) for n in _NUMBER.findall(clause)]
    told: dict[str, tuple[bool, float | None]] = {
        f"the light is {record.light}": (record.light in ("red", "yellow"), record.light_m),
        "others go first": (record.yield_m is not None, record.yield_m),
        "the limit is": (True, record.limit_mps),
        "the road bends": (abs(record.bend_1pm) > 0.0, record.bend_m),
        "no lane goes on to the left": (record.left_lane_m < 100.0, None),
        "no lane goes on to the right": (record.right_lane_m < 100.0, None),
        "the way is free": (record.decision.longitudinal not in ("stop", "brake hard"), None),
    }
    for words, (so, value) in told.items():
        if clause.startswith(words):
            good = so and all(n == value for n in numbers)
            return [] if good else [f"{clause}, found {value}"]
    return [f"nothing known: {clause}"]
