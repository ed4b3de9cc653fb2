"""TCP between the two ends of an emulated link: segments, acknowledgements, loss and its repair.

The sockets on either side of the relay end there, so the kernel's TCP never sees the link. What it
would do is done here, segment by segment and with the real bytes: slow start from ten segments, a
window that falls to 0.7 on loss, selective acknowledgement, repair after three later arrivals or a
quarter of a round trip, tail probes, time-outs of 200 ms that double, a window that starts
anew after a pause, bytes handed on in order only. Without sockets and without a clock.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.net.link_channel import Channel

MSS_BYTES: Final = 1_448
HEADER_BYTES: Final = 52
"""IPv4 and TCP with timestamps; an acknowledgement is nothing else."""

FIRST_WINDOW: Final = 10
"""Segments; RFC 6928."""

LOSS_FACTOR: Final = 0.7
"""RFC 9438: CUBIC; above the threshold the window then grows as Reno's does, by one a trip."""

MIN_RTO_S: Final = 0.2
"""As Linux has it; RFC 6298 would say 1 s."""

FIRST_RTO_S: Final = 1.0
MAX_RTO_S: Final = 60.0
WINDOW_BYTES: Final = 4 << 20
"""What the far end takes in advance."""

SEND_BUFFER_BYTES: Final = 256 << 10
"""What a sender's kernel holds at least; twice the window where that is more, as Linux does."""

END: Final = b""
"""The segment that says that no more comes."""


class Timeline:
    """What shall happen when; time moves only by `run_until`."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.now_s = 0.0

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        """Do `do` at `when_s`; in order of time, then of asking."""
        self._number += 1
        heapq.heappush(self._due, (when_s, self._number, do))

    @property
    def next_s(self) -> float | None:
        """Return when something is due next."""
        return self._due[0][0] if self._due else None

    def run_until(self, until_s: float) -> None:
        """Do what is due by `until_s`, each at its own time."""
        while self._due and self._due[0][0] <= until_s:
            when_s, _, do = heapq.heappop(self._due)
            self.now_s = max(self.now_s, when_s)
            do()
        self.now_s = max(self.now_s, until_s)


@dataclass(slots=True)
class _Segment:
    number: int
    data: bytes
    sent_s: float = 0.0
    in_flight: bool = False


class Flow:
    """One direction of one connection: bytes written here come out of `deliver`, in order."""

    def __init__(
        self,
        timeline: Timeline,
        there: Channel,
        back: Channel,
        deliver: Callable[[bytes], None],
    ) -> None:
        """Begin closed: `open` says when the handshake is through.

        Args:
            timeline: when things happen.
            there, back: the channels of data and of acknowledgements.
            deliver: takes the bytes at the far end; END says that no more comes.
        """
        self._line, self._there, self._back, self._deliver = timeline, there, back, deliver
        self._waiting: deque[_Segment] = deque()  # never sent
        self._again: deque[_Segment] = deque()  # lost, to be sent again
        self._sent: dict[int, _Segment] = {}  # not yet acknowledged
        self._flying = 0
        self._next_number = 0
        self._open = False
        self._window, self._threshold = float(FIRST_WINDOW), float("inf")
        self._recover = self._no_growth_until = -1
        self._srtt_s, self._var_s, self._min_rtt_s = 0.0, 0.0, float("inf")
        self._backoff, self._probed = 0, False
        self._timer_s, self._timer_set = float("inf"), False
        self._last_sent_s = 0.0
        self._expected = 0
        self._early: dict[int, bytes] = {}
        self.backlog_bytes = 0
        self.repaired = 0

    def open(self, rtt_s: float | None = None) -> None:
        """Let what was written go: the handshake is through, and took `rtt_s` if it went well."""
        if not self._open:
            self._open = True
            if rtt_s is not None:
                self._measure(rtt_s)
            self._pump()

    def write(self, data: bytes) -> None:
        """Take bytes to carry."""
        for begin in range(0, len(data), MSS_BYTES):
            self._add(data[begin : begin + MSS_BYTES])
        self._pump()

    def close(self) -> None:
        """Say that no more comes, after what was written."""
        self._add(END)
        self._pump()

    def stop(self) -> None:
        """Forget what is not delivered: the connection is gone."""
        for kept in (self._waiting, self._again, self._sent):
            kept.clear()

    def _add(self, data: bytes) -> None:
        self._waiting.append(_Segment(self._next_number, data))
        self._next_number += 1
        self.backlog_bytes += len(data)

    @property
    def has_room(self) -> bool:
        """Return whether the sender's kernel would take more."""
        return self.backlog_bytes < max(SEND_BUFFER_BYTES, int(2 * self._window) * MSS_BYTES)

    # the sender

    def _pump(self) -> None:
        if not self._open:
            return
        now_s = self._line.now_s
        if not self._sent and now_s - self._last_sent_s > self._rto_s():
            self._threshold = max(self._threshold, 0.75 * self._window)  # RFC 2861: after a pause
            self._window = min(self._window, float(FIRST_WINDOW))
        limit = min(int(self._window), WINDOW_BYTES // MSS_BYTES)
        while self._flying < limit:
            if self._again:
                segment = self._again.popleft()
                if segment.number not in self._sent or segment.in_flight:
                    continue
                self.repaired += 1
            elif self._waiting:
                segment = self._waiting.popleft()
                self._sent[segment.number] = segment
            else:
                break
            self._transmit(segment)

    def _transmit(self, segment: _Segment) -> None:
        now_s = self._line.now_s
        self._flying += not segment.in_flight
        segment.sent_s, segment.in_flight = now_s, True
        self._last_sent_s = now_s
        arrival_s = self._there.send(now_s, len(segment.data) + HEADER_BYTES)
        if arrival_s is not None:
            self._line.at(arrival_s, lambda: self._arrived(segment.number, segment.data, now_s))
        self._arm(self._probe_s())

    def _acknowledged(self, below: int, number: int, sent_s: float) -> None:
        """Take an acknowledgement: all segments under `below`, and `number`, sent at `sent_s`."""
        gone = [number] if number >= below and number in self._sent else []
        for n in self._sent:  # in order of first sending
            if n >= below:
                break
            gone.append(n)
        if not gone:
            return
        self._measure(self._line.now_s - sent_s)
        for n in gone:
            segment = self._sent.pop(n)
            self._flying -= segment.in_flight
            self.backlog_bytes -= len(segment.data)
        self._backoff, self._probed = 0, False
        if below > self._no_growth_until:
            grown = len(gone) if self._window < self._threshold else len(gone) / self._window
            self._window += grown
        if number >= below:
            self._find_lost(number, sent_s)
        self._timer_s = float("inf")
        if self._sent:
            self._arm(self._probe_s())
        self._pump()

    def _find_lost(self, number: int, sent_s: float) -> None:
        """Give up segments that later ones have overtaken: three of them, or long enough ago."""
        now_s = self._line.now_s
        patience_s = self._srtt_s + self._min_rtt_s / 4  # RFC 8985: RACK
        passed = itertools.takewhile(lambda s: s.number < number, self._sent.values())
        for segment in [s for s in passed if s.in_flight and s.sent_s < sent_s]:
            if segment.number <= number - 3 or now_s - segment.sent_s >= patience_s:
                self._give_up(segment)
            else:
                self._line.at(
                    segment.sent_s + patience_s,
                    lambda s=segment, at=segment.sent_s: self._overdue(s, at),
                )

    def _overdue(self, segment: _Segment, sent_s: float) -> None:
        if segment.number in self._sent and segment.in_flight and segment.sent_s == sent_s:
            self._give_up(segment)
            self._pump()

    def _give_up(self, segment: _Segment) -> None:
        segment.in_flight = False
        self._flying -= 1
        self._again.append(segment)
        if segment.number > self._recover:
            self._recover = self._no_growth_until = self._highest_sent()
            self._window = max(self._window * LOSS_FACTOR, 2.0)
            self._threshold = self._window

    def _highest_sent(self) -> int:
        return self._next_number - 1 - len(self._waiting)

    def _measure(self, rtt_s: float) -> None:
        """Keep the round trip as RFC 6298 does."""
        self._min_rtt_s = min(self._min_rtt_s, rtt_s)
        if not self._srtt_s:
            self._srtt_s, self._var_s = rtt_s, rtt_s / 2
            return
        self._var_s += (abs(self._srtt_s - rtt_s) - self._var_s) / 4
        self._srtt_s += (rtt_s - self._srtt_s) / 8

    def _rto_s(self) -> float:
        if not self._srtt_s:
            return FIRST_RTO_S * 2**self._backoff
        return min(max(self._srtt_s + 4 * self._var_s, MIN_RTO_S) * 2**self._backoff, MAX_RTO_S)

    def _probe_s(self) -> float:
        """Return how long to wait for an acknowledgement: RFC 8985's tail probe, then time-out."""
        if self._probed or self._backoff or not self._srtt_s:
            return self._rto_s()
        return min(2 * self._srtt_s + (MIN_RTO_S if self._flying == 1 else 0.0), self._rto_s())

    def _arm(self, after_s: float) -> None:
        self._timer_s = self._line.now_s + after_s
        if not self._timer_set:
            self._timer_set = True
            self._line.at(self._timer_s, self._timer)

    def _timer(self) -> None:
        self._timer_set = False
        if self._timer_s == float("inf") or not self._sent:
            return
        if self._line.now_s < self._timer_s:  # it was put off since
            self._timer_set = True
            self._line.at(self._timer_s, self._timer)
            return
        if not self._probed and not self._backoff and self._srtt_s:
            self._probed = True
            self.repaired += 1
            self._transmit(self._sent[max(self._sent)])
            return
        self._backoff += 1
        self._threshold = max(self._flying / 2, 2.0)
        self._window = 1.0
        self._recover, self._no_growth_until = self._highest_sent(), -1  # slow start again
        for segment in self._sent.values():
            segment.in_flight = False
        self._flying = 0
        self._again = deque(self._sent[n] for n in sorted(self._sent))
        self._pump()

    # the receiver

    def _arrived(self, number: int, data: bytes, sent_s: float) -> None:
        if number >= self._expected:
            self._early[number] = data
        while self._expected in self._early:
            self._expected += 1
            self._deliver(self._early.pop(self._expected - 1))
        arrival_s = self._back.send(self._line.now_s, HEADER_BYTES)
        if arrival_s is not None:
            below = self._expected
            self._line.at(arrival_s, lambda: self._acknowledged(below, number, sent_s))


class Handshake:
    """SYN there, SYN-ACK back, ACK there; a lost one is sent again after 1 s, 2 s, 4 s, ..."""

    def __init__(
        self,
        timeline: Timeline,
        up: Channel,
        down: Channel,
        arrived: Callable[[], None],
        done: Callable[[float | None], None],
    ) -> None:
        """Send the first SYN.

        Args:
            arrived: done once, when a SYN reaches the server.
            done: done once, when the client knows that the server answered; takes the round trip,
                or None where a SYN had to be sent again.
        """
        self._line, self._up, self._down = timeline, up, down
        self._reached, self._done = arrived, done
        self._asked = self._over = False
        self._start_s = timeline.now_s
        self._wait_s = FIRST_RTO_S
        self._syn()

    def stop(self) -> None:
        """Send no further SYN: a side is gone."""
        self._over = True

    def _syn(self) -> None:
        if self._over:
            return
        arrival_s = self._up.send(self._line.now_s, HEADER_BYTES)
        if arrival_s is not None:
            self._line.at(arrival_s, self._arrive)
        self._line.at(self._line.now_s + self._wait_s, self._syn)
        self._wait_s = min(self._wait_s * 2, MAX_RTO_S)

    def _arrive(self) -> None:
        if not self._asked:
            self._asked = True
            self._reached()
        arrival_s = self._down.send(self._line.now_s, HEADER_BYTES)
        if arrival_s is not None:
            self._line.at(arrival_s, self._finish)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            took_s = self._line.now_s - self._start_s
            self._done(took_s if took_s < FIRST_RTO_S else None)
