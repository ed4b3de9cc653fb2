"""A process that can be called, and calls nobody: how an on-premises site keeps what it gets.

Two guards, because each sees what the other does not. Python's audit hook sees every connection
that Python code tries, refuses it by name and counts it. Landlock, in the kernel, refuses TCP
connections of other code (gRPC's core, any extension), without a name or a count. Neither can be
taken off again. Not seen by either: datagrams that an extension sends by itself; a site where that
matters stands behind a firewall or in a network namespace of its own.

Source: PEP 578 (audit hooks); Linux, Documentation/userspace-api/landlock.rst (network, ABI 4).
"""

import ctypes
import ipaddress
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from fleet.inference.policy import Decision
from fleet.inference.refusals import SiteRefusalError

Address = tuple[str, int]

EVENTS: Final = ("socket.connect", "socket.sendto", "socket.sendmsg")
NAMES: Final = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Landlock's system calls, the same on every architecture."""

CONNECT_TCP: Final = 1 << 1
NET_PORT: Final = 2
ABI_OF_VERSION: Final = 1
LEAST_ABI: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38


class EgressRefusedError(SiteRefusalError):
    """This process may not connect to anywhere, or not with this data."""

    GRPC: ClassVar[str] = "PERMISSION_DENIED"
    HTTP: ClassVar[int] = 403


@dataclass(slots=True)
class Guard:
    """What `seal` put in place.

    Args:
        doors: host and port of what may be connected to, with a decision that allows it.
        kernel: "yes", or why the kernel does not guard as well.
        refused: address -> how often a connection to it was refused by name.
    """

    doors: frozenset[Address]
    kernel: str = "no: not asked for"
    refused: Counter[str] = field(default_factory=Counter)
    _through: ContextVar[bool] = field(default_factory=lambda: ContextVar("through", default=False))

    @contextmanager
    def through(self, decision: Decision) -> Iterator[None]:
        """Let what runs inside connect to a door, by a decision on the data that goes.

        Raises:
            EgressRefusedError: policy does not let this data leave.
        """
        if not decision.allowed:
            self.refused[decision.name] += 1
            raise EgressRefusedError(f"{decision.name}: {'; '.join(decision.reasons)}")
        token = self._through.set(True)
        try:
            yield
        finally:
            self._through.reset(token)

    def audit(self, event: str, words: tuple[Any, ...]) -> None:
        """Refuse what leaves; the interpreter calls this before it happens."""
        if event in EVENTS:
            address = words[1]
            if not isinstance(address, tuple):
                return  # a socket of this machine's file system, or one that is connected already
            self._check((str(address[0]), int(address[1])))
        elif event in NAMES and not _numeric(words[0]):
            self._check((str(words[0]), 0))

    def _check(self, address: Address) -> None:
        door = address in self.doors or (
            not address[1] and address[0] in {h for h, _ in self.doors}
        )
        if door and self._through.get():
            return
        where = f"{address[0]}:{address[1]}" if address[1] else f"the name {address[0]}"
        self.refused[where] += 1
        raise EgressRefusedError(
            f"{where} is not to be reached from this site"
            + (": no policy decision allowed what would be sent" if door else "")
        )


def seal(doors: Iterable[Address] = ()) -> Guard:
    """Let this process connect to nothing but `doors`, from now until it ends.

    To be called before threads are started: the kernel binds those that come after, and the caller.

    Args:
        doors: host and port that may be reached inside `Guard.through`.
    """
    guard = Guard(frozenset(doors))
    sys.addaudithook(guard.audit)
    guard.kernel = _landlock({port for _, port in guard.doors})
    return guard


def _landlock(ports: set[int]) -> str:
    """Refuse TCP connections but to `ports` in the kernel; return "yes" or why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ABI_OF_VERSION)
    if abi < LEAST_ABI:
        return f"no: Landlock's ABI is {abi}, its network rules came with {LEAST_ABI}"
    rules = struct.pack("=QQ", 0, CONNECT_TCP)
    ruleset = libc.syscall(CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return f"no: {os.strerror(ctypes.get_errno())}"
    try:
        for port in sorted(ports):
            rule = struct.pack("=QQ", CONNECT_TCP, port)
            if libc.syscall(ADD_RULE, ruleset, NET_PORT, rule, 0) != 0:
                return f"no: {os.strerror(ctypes.get_errno())}"
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.syscall(RESTRICT_SELF, ruleset, 0) != 0:
            return f"no: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    earlier = len(os.listdir("/proc/self/task")) - 1
    return f"yes, but not for {earlier} threads that ran before" if earlier else "yes"


def _numeric(host: Any) -> bool:
    if host is None:
        return True
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True
