"""The language in which decisions are explained: what a decoder reads, may say, and how it sounds.

A scene becomes positions with numbers on them; an answer is a row of tokens. Tokens that name a
road user or a number only point into the scene, so whatever is said is copied from it. Training
and serving share this module, so that both mean the same by every number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.decision import (
    LATERAL,
    LONGITUDINAL,
    MAX_ACTORS,
    Actor,
    DecisionRecord,
    Factor,
)
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import ContractError

LANGUAGE: Final = "explanation/1"
"""Name of this language; a decoder says which one it was trained in."""

HIDING_KINDS: Final = ("car", "truck", "bus", "trailer", "emergency")
TALL_M: Final = 1.1
STILL_MPS: Final = 0.7
"""A person may stand behind one of these kinds, so tall and standing (vehicle/caution.py)."""

LANE_ENDS_M: Final = 100.0
"""A lane that goes on for less than this counts as one that ends."""

NEAR_M: Final = 60.0
BESIDE_M: Final = 12.0
_BEND_1PM: Final = 0.004
_STANDS_MPS: Final = 0.3
_MOVES_MPS: Final = 0.5


class MisspokenError(ContractError):
    """A token was said where the language does not allow it."""


# what a road user may be said to do, the most telling first; each is true or not in the record
_Does = Callable[[Actor, DecisionRecord], bool]
DOES: Final[dict[str, _Does]] = {
    "is crossing": lambda a, r: (
        abs(a.across_mps) >= _MOVES_MPS and abs(a.across_mps) > 0.5 * abs(a.along_mps)
    ),
    "comes towards us": lambda a, r: a.along_mps < -_MOVES_MPS,
    "stands": lambda a, r: max(abs(a.along_mps), abs(a.across_mps)) < _MOVES_MPS,
    "is slower": lambda a, r: a.along_mps >= _MOVES_MPS and a.along_mps < r.speed_mps - _MOVES_MPS,
    "goes ahead": lambda a, r: a.along_mps >= _MOVES_MPS and a.ahead_m > 0.0,
    "comes from behind": lambda a, r: a.ahead_m < 0.0 and a.along_mps > r.speed_mps,
    "is near": lambda a, r: True,
}

_SAID_KINDS: Final = {"emergency": "emergency vehicle", "other": "road user"}
_THINGS: Final = {
    "light": " the light is {light}",
    "yield line": " others go first",
    "limit": " the limit is",
    "bend": " the road bends",
    "no lane left": " no lane goes on to the left",
    "no lane right": " no lane goes on to the right",
}

TOKENS: Final = (
    *("pad", "ego", "road", "begin"),
    *(f"kind {kind}" for kind in KINDS),
    *LONGITUDINAL,
    *LATERAL,
    *(f"actor {k}" for k in range(MAX_ACTORS)),
    *(f"hides {k}" for k in range(MAX_ACTORS)),
    *(f"does {word}" for word in DOES),
    *_THINGS,
    *("free", "unexplained"),
    *("number ahead", "number aside", "number speed"),
    *("each", "therefore"),
)
ID: Final = {token: i for i, token in enumerate(TOKENS)}
VOCABULARY: Final = len(TOKENS)
NUMBERS: Final = 16
"""Numbers on each position of a scene."""

MAX_FACTORS: Final = 4
MAX_SCENE: Final = 3 + MAX_ACTORS
MAX_ANSWER: Final = 2 + 3 * MAX_FACTORS + 2
NO_EXPLANATION: Final = "no explanation"

_ACTOR0, _HIDES0 = ID["actor 0"], ID["hides 0"]
_CAREFREE: Final = ("move off", "speed up", "keep speed")


def candidates(record: DecisionRecord) -> tuple[Factor, ...]:
    """Return the factors of a scene that can be taken away, the likeliest causes first."""
    found: list[Factor] = []
    if record.light in ("red", "yellow"):
        found.append(Factor(kind="light"))
    near = [a for a in record.actors if abs(a.aside_m) < BESIDE_M and a.ahead_m < NEAR_M]
    found += [Factor(kind="actor", actor_id=a.actor_id) for a in near]
    if record.yield_m is not None:
        found.append(Factor(kind="yield line"))
    found += [
        Factor(kind="hides", actor_id=a.actor_id) for a in near if hides(a) and a.ahead_m > -4.0
    ]
    if abs(record.bend_1pm) > _BEND_1PM:
        found.append(Factor(kind="bend"))
    found.append(Factor(kind="limit"))
    if record.speed_mps > _STANDS_MPS:
        if record.left_lane_m < LANE_ENDS_M:
            found.append(Factor(kind="no lane left"))
        if record.right_lane_m < LANE_ENDS_M:
            found.append(Factor(kind="no lane right"))
    return tuple(found)


def hides(actor: Actor) -> bool:
    """Return whether somebody may stand behind a road user, unseen."""
    still = abs(actor.along_mps) < STILL_MPS and abs(actor.across_mps) < STILL_MPS
    return still and actor.height_m >= TALL_M and actor.kind in HIDING_KINDS


def slot_of(token: int) -> int:
    """Return which actor a token points at, counted from 1; 0: none."""
    for first in (_ACTOR0, _HIDES0):
        if first <= token < first + MAX_ACTORS:
            return token - first + 1
    return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Positions:
    """What a decoder reads: [T] words and slots (int64), [T, NUMBERS] numbers (float32)."""

    words: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray


def read(record: DecisionRecord) -> Positions:
    """Return a scene as positions: the ego, the road, each actor, and where the answer begins.

    The decision is not among them: a decoder has to see it coming from the scene alone.
    """
    count = len(record.actors)
    words = np.zeros(count + 3, np.int64)
    slots = np.zeros(count + 3, np.int64)
    numbers = np.zeros((count + 3, NUMBERS), np.float32)
    words[0], words[1], words[-1] = ID["ego"], ID["road"], ID["begin"]
    r = record
    numbers[0, :5] = r.speed_mps / 10, r.accel_mps2 / 3, r.aside_m, r.limit_mps / 10, count / 16
    numbers[0, 5] = (r.limit_mps - r.speed_mps) / 3
    numbers[1, :4] = [r.light == c for c in ("none", "red", "yellow", "green")]
    numbers[1, 4:8] = _way(r.light_m) + _way(r.yield_m)
    numbers[1, 8:12] = r.bend_m / 30, 20 * r.bend_1pm, 20 * abs(r.bend_1pm), r.lane_width_m / 4
    numbers[1, 12] = r.speed_mps**2 * abs(r.bend_1pm) / 3
    numbers[1, 13:15] = r.left_lane_m > 40, r.right_lane_m > 40
    for k, a in enumerate(r.actors):
        words[2 + k], slots[2 + k] = ID[f"kind {a.kind}"], k + 1
        closing = r.speed_mps - a.along_mps
        contact_s = min(max(a.ahead_m, 0.0) / max(closing, 0.3), 10.0)
        beside = abs(a.aside_m) - 0.5 * a.width_m - 0.95
        across_s = np.clip(-a.aside_m / (a.across_mps or 1e-3), -8.0, 8.0)
        numbers[2 + k] = (
            *(a.ahead_m / 20, np.exp(-max(a.ahead_m, 0.0) / 10), a.aside_m / 3, beside / 2),
            *(a.along_mps / 10, a.across_mps / 2, closing / 5, contact_s / 4),
            *(across_s / 4, a.length_m / 5, a.width_m / 2, a.height_m / 2),
            *(float(hides(a)), np.exp(-max(beside, 0.0)), r.speed_mps / 10, float(a.ahead_m <= 0)),
        )
    return Positions(words=words, slots=slots, numbers=np.clip(numbers, -8.0, 8.0))


def _way(metres: float | None) -> list[float]:
    return [0.0, 0.0] if metres is None else [1.0, metres / 20]


class Speaker:
    """Says one answer about one scene, token by token, and nothing that is not so.

    Args:
        record: the scene and what was decided in it.
    """

    def __init__(self, record: DecisionRecord) -> None:
        self._record = record
        self._free = {f: self._token(f) for f in candidates(record)}
        self._used: set[int] = set()
        self._factors = 0
        self._last = ID["begin"]
        self._about: Actor | None = None
        self.ended = False
        self.explained = True
        """False once the decoder saw another decision coming, or no cause."""

    def _token(self, factor: Factor) -> int:
        if factor.kind in ("actor", "hides"):
            ids = [a.actor_id for a in self._record.actors]
            return ID[f"{factor.kind} {ids.index(factor.actor_id)}"]
        return ID[factor.kind]

    def allowed(self) -> np.ndarray:
        """Return bool [VOCABULARY]: what may be said next."""
        mask = np.zeros(VOCABULARY, bool)
        mask[self.following()] = not self.ended
        return mask

    def offers(self) -> list[tuple[Factor, int]]:
        """Return the factors that may be named, with the tokens that name them."""
        return list(self._free.items())

    def following(self) -> list[int]:
        """Return the tokens that may be said next, the likeliest of their sort first."""
        last = TOKENS[self._last]
        if last == "begin":
            return [ID[word] for word in LONGITUDINAL]
        if last in LONGITUDINAL:
            return [ID[word] for word in LATERAL]
        if last in LATERAL:
            return [*self._more(), ID["free"], ID["unexplained"]]
        if last in ("free", "each"):
            return [ID["therefore"]]
        if self._about is not None and not last.startswith(("does ", "number ")):
            if last.startswith("hides "):
                return self._number()
            about = self._about
            return [ID[f"does {w}"] for w, so in DOES.items() if so(about, self._record)]
        if last.startswith("does ") or (last in _THINGS and self._number()):
            return self._number()
        each = [ID["each"]] if self._factors > 1 else []
        return [*self._more(), *each, ID["therefore"]]

    def _more(self) -> list[int]:
        if self._factors == MAX_FACTORS:
            return []
        return [token for token in self._free.values() if token not in self._used]

    def _number(self) -> list[int]:
        last, r, a = TOKENS[self._last], self._record, self._about
        if a is not None:
            found = [ID["number ahead"]] if a.ahead_m > 0.0 else [ID["number aside"]]
            moves = abs(a.along_mps) >= _MOVES_MPS and not last.startswith("hides ")
            return [*found, ID["number speed"]] if moves else found
        if last == "limit":
            return [ID["number speed"]]
        metres = {"light": r.light_m, "yield line": r.yield_m, "bend": r.bend_m}.get(last)
        return [ID["number ahead"]] if metres is not None and metres > 0.0 else []

    def say(self, token: int) -> str:
        """Take the next token and return what is heard of it.

        The first two are the decision as the decoder sees it coming; they are heard at the end, and
        only when they are what was actuated.

        Raises:
            MisspokenError: the language does not allow it here.
        """
        if self.ended or token not in self.following():
            raise MisspokenError(f"{TOKENS[token]!r} after {TOKENS[self._last]!r}")
        before, word = self._last, TOKENS[token]
        decided = self._record.decision
        if word in LONGITUDINAL and word != decided.longitudinal:
            return self._give_up()
        if (word in LATERAL and word != decided.lateral) or word == "unexplained":
            return self._give_up()
        if word == "free" and decided.longitudinal not in _CAREFREE:
            return self._give_up()
        heard = self._heard(word, TOKENS[before])
        self._last = token
        return heard

    def _give_up(self) -> str:
        self.ended, self.explained = True, False
        return NO_EXPLANATION

    def _heard(self, word: str, before: str) -> str:
        if word in LONGITUDINAL or word in LATERAL:
            return ""
        if word == "therefore":
            self.ended = True
            d = self._record.decision
            return f" therefore {d.longitudinal} and {d.lateral}."
        if word == "each":
            return ", each of them enough,"
        if word.startswith("does "):
            return f" {word[5:]}"
        if word.startswith("number "):
            return self._copied(word, before)
        joined = "because" if self._factors == 0 else " and"
        self._factors += 1
        self._used.add(ID[word])
        slot = slot_of(ID[word])
        self._about = self._record.actors[slot - 1] if slot else None
        if word == "free":
            return f"{joined} the way is free"
        if self._about is None:
            return joined + _THINGS[word].format(light=self._record.light)
        name = _SAID_KINDS.get(self._about.kind, self._about.kind)
        hidden = " hides what is behind it" if word.startswith("hides ") else ""
        return f"{joined} {name} {self._about.actor_id}{hidden}"

    def _copied(self, word: str, before: str) -> str:
        r, a = self._record, self._about
        if word == "number speed":
            return f" {r.limit_mps:g} m/s" if a is None else f" at {abs(a.along_mps):g} m/s"
        if a is None:
            metres = {"light": r.light_m, "yield line": r.yield_m, "bend": r.bend_m}[before]
            return f" {metres:g} m ahead"
        if word == "number aside":
            return f" {abs(a.aside_m):g} m to the {'left' if a.aside_m > 0 else 'right'}"
        return f" {a.ahead_m:g} m ahead"


def answer_of(record: DecisionRecord) -> tuple[int, ...]:
    """Return the tokens that explain a tested decision, from what the tests found.

    Raises:
        ContractError: nobody tested it.
    """
    if record.causes is None:
        raise ContractError(f"{record.source}, frame {record.frame_id}: its causes were not tested")
    d = record.decision
    tokens = [ID[d.longitudinal], ID[d.lateral]]
    speaker = Speaker(record)
    for token in tokens:
        speaker.say(token)
    told = causes_told(record)
    wanted = [token for factor, token in speaker.offers() if factor in told][:MAX_FACTORS]
    for token in wanted:
        tokens.append(token)
        speaker.say(token)
        while (following := _only(speaker)) is not None:
            tokens.append(following)
            speaker.say(following)
    if not wanted:
        free = d.longitudinal in _CAREFREE and d.lateral == "keep the lane"
        tokens += [ID["free"], ID["therefore"]] if free else [ID["unexplained"]]
        return tuple(tokens)
    each = [ID["each"]] if record.jointly and len(wanted) > 1 else []
    return (*tokens, *each, ID["therefore"])


def causes_told(record: DecisionRecord) -> frozenset[Factor]:
    """Return the causes worth telling: who matters by what is behind it is told of once."""
    causes = frozenset(record.causes or ())
    behind = {f.actor_id for f in causes if f.kind == "hides"}
    return frozenset(f for f in causes if not (f.kind == "actor" and f.actor_id in behind))


def _only(speaker: Speaker) -> int | None:
    """Return the first word or number that has to follow, None where another factor may."""
    following = speaker.following()
    first = TOKENS[following[0]] if following else ""
    return following[0] if first.startswith(("does ", "number ")) else None


def said_factors(tokens: Sequence[int], record: DecisionRecord) -> frozenset[Factor]:
    """Return the factors that a row of answer tokens names."""
    by_token = {token: factor for factor, token in Speaker(record).offers()}
    return frozenset(by_token[t] for t in tokens if t in by_token)
