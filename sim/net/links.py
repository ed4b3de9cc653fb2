"""A link between real sockets that behaves like a car's: slow, shaky, lossy, out, cut at will.

A process of its own relays TCP streams or UDP datagrams through the delays and losses of a profile.
It needs no root and nothing of the kernel, so it runs in any container. The kernel's TCP ends at
the relay; what TCP makes of the link is done in `sim/net/link_tcp.py`.
One thing differs from a real link: a connection opens at once, and what the handshake takes is
added to the first bytes. While the link is cut, connections open too, and nothing comes.
"""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

from sim.net.link_profiles import PROFILES, Profile, UnknownLinkError, profile_of
from sim.net.link_relay import Setup
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError

__all__ = ["PROFILES", "Link", "LinkDownError", "Profile", "UnknownLinkError"]


class LinkDownError(RefusedError):
    """The process of a link did not come up, or is gone."""


class Link:
    """An emulated link to `upstream`, open between `with` and its end; `port` is the near end.

    The same seed gives the same bursts, jitter and outages at the same age of the link.
    """

    def __init__(
        self,
        profile: str | Profile,
        upstream: tuple[str, int],
        *,
        kind: Literal["tcp", "udp"] = "tcp",
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        start_s: float = 0.0,
    ) -> None:
        """Describe the link; entering it opens it.

        Args:
            profile: one of PROFILES by name, or a profile of one's own.
            upstream: host and port of the far end.
            kind: streams, whose lost segments cost time, or datagrams, which are lost.
            seed: of everything that is drawn.
            host, port: where the near end listens; port 0 takes a free one.
            start_s: age at which the link begins, for outages and epochs.
        Raises:
            UnknownLinkError: no such profile.
        """
        self.profile = profile_of(profile)
        self._setup = Setup(
            profile=self.profile,
            host=host,
            port=port,
            upstream_host=upstream[0],
            upstream_port=upstream[1],
            kind=kind,
            seed=seed,
            start_s=start_s,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self.host, self.port = host, port
        self.scheduling = ""

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", "sim.net.link_relay"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            facts = self._ask(wire.to_bytes(self._setup))
            if "error" in facts:
                raise LinkDownError(f"the link cannot listen: {facts['error']}")
        except BaseException:
            self.close()
            raise
        self.port, self.scheduling = int(facts["port"]), facts["class"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Return host:port of the near end."""
        return f"{self.host}:{self.port}"

    def cut(self) -> None:
        """Lose every packet of both directions from now on; connections stay open."""
        self._ask(b"cut")

    def mend(self) -> None:
        """Let packets through again."""
        self._ask(b"mend")

    def stats(self) -> dict[str, Any]:
        """Return age, packets and losses of each direction, repairs, and lateness of releases, s.

        `late_s` is sorted: how much later than due each waking of the relay was.
        """
        return self._ask(b"stats")

    def close(self) -> None:
        """End the process; connections through it break."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it is gone already
            process.stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _ask(self, word: bytes) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LinkDownError("the link is not open: use it in a with statement")
        with self._turn:
            try:
                process.stdin.write(word + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = b""
        if not answer:
            raise LinkDownError(f"the link's process is gone (exit {process.poll()})")
        facts: dict[str, Any] = json.loads(answer)
        return facts
