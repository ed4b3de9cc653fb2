"""An application's end of the door: sends as a service of a node, and takes what comes for it."""

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from fleet.orbit import aap2
from fleet.orbit.aap2 import AAPMessage, AAPResponse, BundleADU, DoorError
from vehicle.contracts.wire import RefusedError


class NoDoorError(RefusedError):
    """No node answers at the address."""


class SentRefusedError(RefusedError):
    """The node refuses what it was given to send; the message begins with the refusal's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What came for a service.

    Args:
        id: name of the bundle; the same when it is handed out again.
        proven: an integrity block by the source's own key was verified.
        hops: nodes that it passed.
    """

    id: str
    source: str
    payload: bytes
    created_dtn_ms: int
    lifetime_ms: int
    hops: int
    proven: bool
    is_report: bool


class Agent:
    """One connection to a node's door.

    Args:
        address: path of a unix socket, or HOST:PORT.
        service: number of the endpoint to be, from 1.
        subscribe: take what comes for it; else: send.
        secret: what others who want to be the same endpoint must know.
        timeout_s: of every answer.
    Raises:
        NoDoorError: no node is there.
        DoorError: it will not have us.
    """

    def __init__(
        self,
        address: str,
        service: int,
        *,
        subscribe: bool = False,
        secret: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        self._socket = _connect(address, timeout_s)
        if self._exactly(1) != aap2.MAGIC:
            raise DoorError(f"{address} does not speak AAP 2.0")
        self.node_id: str = self._hear(AAPMessage).welcome.node_id
        self.eid = f"{self.node_id.removesuffix('.0')}.{service}"
        config = {"endpoint_id": self.eid, "is_subscriber": subscribe, "secret": secret}
        self._say(AAPMessage(config=config))
        self._accepted()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def send(
        self,
        target: str,
        payload: bytes,
        *,
        lifetime_s: float = 86_400.0,
        priority: int = 1,
        lands_in: tuple[str, ...] = (),
        report_to: str = "",
        reports: int = 0,
    ) -> str:
        """Give the node a bundle to send; once this returns, the node has it for good.

        Args:
            target: endpoint, e.g. "ipn:3.1".
            reports: flags of the status reports asked for, see `fleet.orbit.blocks.REPORTS`.
        Returns:
            The bundle's name.
        Raises:
            SentRefusedError: the node will not have it.
        """
        adu = BundleADU(
            dst_eid=target,
            payload_length=len(payload),
            lifetime_ms=int(lifetime_s * 1e3),
            priority=priority + 1,
            lands_in=lands_in,
            report_to_eid=report_to,
            reports=reports,
        )
        self._say(AAPMessage(adu=adu), payload)
        return str(self._accepted().bundle_id)

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return what comes next, None after `timeout_s` of nothing; then say `taken`."""
        self._socket.settimeout(timeout_s)
        try:
            first = self._exactly(1)
        except TimeoutError:
            return None
        self._socket.settimeout(10.0)
        adu = self._hear(AAPMessage, first).adu
        created = f"{adu.creation_timestamp_ms}-{adu.sequence_number}"
        return Received(
            id=f"{adu.src_eid}/{created}",
            source=adu.src_eid,
            payload=self._exactly(adu.payload_length),
            created_dtn_ms=adu.creation_timestamp_ms,
            lifetime_ms=adu.lifetime_ms,
            hops=adu.hops,
            proven=adu.secured,
            is_report=aap2.STATUS_REPORT in adu.adu_flags,
        )

    def taken(self) -> None:
        """Say that what came last is safe here; the node forgets it."""
        self._say(AAPResponse(response_status=aap2.SUCCESS))

    def _accepted(self) -> Any:
        answer = self._hear(AAPResponse)
        if answer.response_status != aap2.SUCCESS:
            reason = answer.reason or f"status {answer.response_status}"
            raise SentRefusedError(str(reason))
        return answer

    def _say(self, message: Any, payload: bytes = b"") -> None:
        self._socket.sendall(aap2.framed(message) + payload)

    def _hear(self, kind: Any, first: bytes = b"") -> Any:
        length, reading = None, aap2.Length()
        while length is None:
            length = reading.take((first or self._exactly(1))[0])
            first = b""
        return aap2.parsed(kind, self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(min(count - len(data), 1 << 16))
            if not piece:
                raise NoDoorError("the node hung up")
            data += piece
        return bytes(data)


def _connect(address: str, timeout_s: float) -> socket.socket:
    host, colon, port = address.rpartition(":")
    is_tcp = bool(colon) and port.isdigit()
    made = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
    made.settimeout(timeout_s)
    try:
        made.connect((host, int(port)) if is_tcp else address)
    except OSError as error:
        made.close()
        raise NoDoorError(
            f"no node at {address} ({error.strerror or error}); start it: "
            "roadloop fleet orbit node NAME"
        ) from error
    return made
