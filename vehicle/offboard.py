"""A mailbox for advice: read if something lies in it, believed little, forgotten when it expires.

Another process of the car, which talks to the world, puts advice in; the frame loop looks in once
a tick. One place per context, each guarded by a sequence number as in the ring: nobody waits for
anybody, and without advice a look is one comparison.

The command of the car alone is computed first, every tick, as if there were no mailbox. What lies
here can then make it more careful, through the same envelope, and nothing else:

- it brakes so that who follows can follow: what the car cannot see itself is no emergency;
- below walking pace it does not count: there the car's own eyes are enough, and nobody can stop
  a car by talking to it;
- it never steers, and never takes back what the car itself found.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from vehicle.clock import Clock
from vehicle.config import VehicleConfig
from vehicle.contracts.advice import (
    ADVISED_COLUMNS,
    MAX_CAPS,
    MAX_TRACKS,
    VERDICTS,
    Advice,
    AdviceNote,
    Verdict,
)
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.inference import CONTEXTS, Context
from vehicle.contracts.scene import Scene
from vehicle.contracts.wire import RefusedError
from vehicle.heed import Heeding, usable
from vehicle.shared_memory import attach, create

MAGIC: Final = 0x524F_4144_4D41_494C

SKEW_NS: Final = 100_000_000
"""How far ahead the clock of who advises may be; a minute is another matter."""

TRACKS_LIVE_NS: Final = 2_000_000_000
"""A road user who is not seen again is somewhere else by then, whatever the advice says."""

CAPS_LIVE_NS: Final = 3_600_000_000_000

LETTER: Final = np.dtype(
    [
        ("seq", np.int64),  # odd while it is written
        ("proven", np.int64),
        ("input_utc_ns", np.int64),
        ("valid_until_utc_ns", np.int64),
        ("fresh_until_utc_ns", np.int64),
        ("tracks_n", np.int64),
        ("caps_n", np.int64),
        ("request_id", "S32"),
        ("site", "S64"),
        ("tracks", np.float64, (MAX_TRACKS, len(ADVISED_COLUMNS))),
        ("caps", np.float64, (MAX_CAPS, 4)),  # speed, x, y, radius
    ]
)
"""One piece of advice as it lies in memory; the loop parses nothing."""

_HEADER: Final = 8
_MAGIC, _PUTS = 0, 1


class NoMailboxError(RefusedError):
    """The mailbox is gone, or the memory is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxAddress:
    """All that another process must know to put advice in."""

    SCHEMA: ClassVar[str] = "mailbox/1"
    name: str


class Mailbox:
    """The shared memory itself; the side that creates it owns it and removes it.

    One process puts in (two would write over each other), one reads.

    Args:
        name: of an existing one; None creates it.
    Raises:
        NoMailboxError: `name` is gone, or is no mailbox.
        RingError: there is no memory for a new one.
    """

    def __init__(self, name: str | None = None) -> None:
        size = _HEADER * 8 + len(CONTEXTS) * LETTER.itemsize
        self._owner = name is None
        try:
            self._memory = create(size) if name is None else attach(name)
        except FileNotFoundError as error:
            raise NoMailboxError(f"mailbox {name!r} is gone; the car has closed it") from error
        buffer = self._memory.buf
        if buffer is None or len(buffer) < size:
            self._memory.close()
            raise NoMailboxError(f"mailbox {name!r} is shorter than {size} bytes")
        self.words = np.frombuffer(buffer[: _HEADER * 8], np.int64)
        self.letters = np.frombuffer(buffer[_HEADER * 8 : size], LETTER)
        if self._owner:
            self.words[_MAGIC] = MAGIC
        elif int(self.words[_MAGIC]) != MAGIC:
            self.close()
            raise NoMailboxError(f"shared memory {name!r} is no mailbox")

    @classmethod
    def at(cls, address: MailboxAddress) -> Self:
        """Return the mailbox of another process. Raises NoMailboxError: it is gone."""
        return cls(address.name)

    @property
    def address(self) -> MailboxAddress:
        """Return what other processes are told of it."""
        return MailboxAddress(name=self._memory.name)

    def put(self, advice: Advice, *, proven: bool, fresh_s: float) -> None:
        """Put advice in, over what the same context said before; never waits.

        Args:
            proven: it came over a connection on which both sides showed who they are, in answer
                to a question of this car's, or under a signature that was verified.
            fresh_s: how old its instant may be when it is looked at: the request's own freshness.
        """
        letter = self.letters[CONTEXTS.index(advice.context)]
        letter["seq"] |= 1  # odd already where its writer was killed at it
        letter["proven"] = proven
        letter["input_utc_ns"] = advice.input_utc_ns
        letter["valid_until_utc_ns"] = advice.valid_until_utc_ns
        letter["fresh_until_utc_ns"] = advice.input_utc_ns + round(fresh_s * 1e9)
        letter["request_id"], letter["site"] = advice.request_id.encode(), advice.site.encode()
        letter["tracks_n"], letter["caps_n"] = len(advice.tracks), len(advice.caps)
        letter["tracks"][: len(advice.tracks)] = np.array(advice.tracks).reshape(
            -1, len(ADVISED_COLUMNS)
        )
        for i, cap in enumerate(advice.caps):
            letter["caps"][i] = cap.speed_mps, cap.x_m, cap.y_m, cap.radius_m
        letter["seq"] += 1
        self.words[_PUTS] += 1

    @property
    def puts(self) -> int:
        """Return how often something was put in."""
        return int(self.words[_PUTS])

    def close(self) -> None:
        """Let go of the memory; the owner removes it. Safe to call twice."""
        self.words, self.letters = np.zeros(_HEADER, np.int64), np.zeros(len(CONTEXTS), LETTER)
        self._memory.close()
        if self._owner:
            self._owner = False
            self._memory.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def judge(
    *, now_ns: int, input_ns: int, valid_ns: int, fresh_ns: int, proven: bool
) -> Verdict | None:
    """Return why advice is refused when it is looked at first; None: it counts. All UTC, ns."""
    if not proven:
        return "forged"
    if input_ns > now_ns + SKEW_NS:
        return "future"
    if valid_ns <= now_ns:
        return "late"
    if fresh_ns <= now_ns:
        return "stale"
    return None


@dataclass(slots=True)
class _Held:
    """Advice that counts until it expires; an end of 0: it says nothing of the kind."""

    letter: np.ndarray
    context: Context
    request_id: str
    site: str
    input_ns: int
    tracks_end_ns: int
    caps_end_ns: int

    def tracks(self, now_ns: int) -> tuple[np.ndarray, float]:
        """Return the tracks that count by now, and for how long they have been on their way, s."""
        count = self.letter["tracks_n"] if now_ns < self.tracks_end_ns else 0
        return self.letter["tracks"][:count], (now_ns - self.input_ns) * 1e-9

    def caps(self, now_ns: int) -> np.ndarray:
        """Return the caps that count by now."""
        count = self.letter["caps_n"] if now_ns < self.caps_end_ns else 0
        return np.asarray(self.letter["caps"][:count])

    @property
    def says_something(self) -> bool:
        """Return whether there is a road user or a cap in it."""
        return bool(self.tracks_end_ns or self.caps_end_ns)


class Offboard:
    """The loop's end of the mailbox.

    Args:
        mailbox: opened and closed by whoever made it.
        clock: gives the UTC by which advice lives and dies.
        config: of the vehicle.
    """

    def __init__(self, mailbox: Mailbox, clock: Clock, config: VehicleConfig | None = None) -> None:
        self._mailbox, self._clock = mailbox, clock
        self._heeding = Heeding(config or VehicleConfig())
        self._seqs = [0] * len(CONTEXTS)
        self._puts = 0
        self._held: list[_Held | None] = [None] * len(CONTEXTS)
        self._holds = False
        self.notes: tuple[AdviceNote, ...] = ()
        """What the last tick did with what advice; empty without any."""
        self.counters: dict[str, int] = {f"advice_{v.replace(' ', '_')}": 0 for v in VERDICTS}
        self.counters |= {"advice_clear": 0, "advice_expired": 0, "advice_faults": 0}

    def heed(
        self,
        command: ControlCommand,
        scene: Scene | None,
        ego: EgoState,
        course: np.ndarray | None = None,
    ) -> ControlCommand:
        """Return the car's own `command`, or one that brakes more where advice says why.

        Never raises, never waits. Without advice that counts it returns `command` itself.

        Args:
            command: what goes to the actuators without advice.
            scene: what the car sees itself; of whom it sees, it knows more than others.
            ego, course: as for `vehicle.safety.Envelope.limit`.
        """
        puts = int(self._mailbox.words[_PUTS])
        if puts == self._puts and not self._holds:
            if self.notes:
                self.notes = ()
            return command
        try:
            return self._heed(puts, command, scene, ego, course)
        except Exception:  # whatever advice says, the car's own command goes out
            self.counters["advice_faults"] += 1
            self._held, self._holds = [None] * len(CONTEXTS), False
            return command

    def _heed(
        self,
        puts: int,
        command: ControlCommand,
        scene: Scene | None,
        ego: EgoState,
        course: np.ndarray | None,
    ) -> ControlCommand:
        now_ns, notes = self._clock.utc_ns(), list[AdviceNote]()
        if puts != self._puts:
            self._puts = puts
            self._look_in(now_ns, ego, notes)
        self._forget(now_ns)
        counts = [held for held in self._held if held is not None]
        self._heeding.begin(scene, ego)
        news = [self._heeding.add(*held.tracks(now_ns)) for held in counts]
        for_tracks = careful = self._heeding.limit(command, ego, course)
        for held, new in zip(counts, news, strict=True):
            found = self._heeding.cap(command, held.caps(now_ns), ego, course)
            careful = min(careful, found, key=_accel)
            found = min(found, for_tracks, key=_accel) if new else found
            back = command.accel_mps2 - found.accel_mps2
            notes.append(self._note(held, "heeded" if back > 0.0 else "no effect", now_ns, back))
        self.notes = tuple(notes)
        return careful

    def _look_in(self, now_ns: int, ego: EgoState, notes: list[AdviceNote]) -> None:
        """Take out what is new; refuse what is not to be believed, and say so once."""
        for i, context in enumerate(CONTEXTS):
            there = self._mailbox.letters[i]
            seq = int(there["seq"])
            if seq == self._seqs[i]:
                continue
            letter = there.copy()
            if seq & 1 or int(there["seq"]) != seq:
                self._puts -= 1  # it is being written: looked at again in the next tick
                continue
            self._seqs[i], self._held[i] = seq, None
            held = _open(letter, context)
            why = judge(
                now_ns=now_ns,
                input_ns=held.input_ns,
                valid_ns=int(letter["valid_until_utc_ns"]),
                fresh_ns=int(letter["fresh_until_utc_ns"]),
                proven=bool(letter["proven"]),
            ) or usable(letter, ego)
            if why is not None:
                notes.append(self._note(held, why, now_ns))
            elif held.says_something:
                self._held[i] = held
            else:
                self.counters["advice_clear"] += 1
        self._holds = any(h is not None for h in self._held)

    def _forget(self, now_ns: int) -> None:
        """Let die what has expired."""
        for i, held in enumerate(self._held):
            if held is not None and now_ns >= max(held.tracks_end_ns, held.caps_end_ns):
                self._held[i] = None
                self.counters["advice_expired"] += 1
                self._holds = any(h is not None for h in self._held)

    def _note(self, held: _Held, verdict: Verdict, now_ns: int, back: float = 0.0) -> AdviceNote:
        self.counters[f"advice_{verdict.replace(' ', '_')}"] += 1
        return AdviceNote(
            request_id=held.request_id,
            context=held.context,
            site=held.site,
            verdict=verdict,
            age_us=(now_ns - held.input_ns) // 1_000,
            held_back_mps2=max(0.0, back),
        )


def _accel(command: ControlCommand) -> float:
    return command.accel_mps2


def _open(letter: np.ndarray, context: Context) -> _Held:
    input_ns, valid_ns = int(letter["input_utc_ns"]), int(letter["valid_until_utc_ns"])
    tracks = int(letter["tracks_n"]) > 0
    caps = int(letter["caps_n"]) > 0
    return _Held(
        letter=letter,
        context=context,
        request_id=bytes(letter["request_id"]).decode("ascii", "replace"),
        site=bytes(letter["site"]).decode("ascii", "replace"),
        input_ns=input_ns,
        tracks_end_ns=min(valid_ns, input_ns + TRACKS_LIVE_NS) if tracks else 0,
        caps_end_ns=min(valid_ns, input_ns + CAPS_LIVE_NS) if caps else 0,
    )
