"""What a site decided and did, in a chain that shows when somebody changed it.

One canonical line per receipt, each naming the sha256 of the one before. An entry is on the disk
before its digest is handed out; the car gets that digest with its reply and is the witness that a
site which writes the whole chain anew, or cuts its end off, cannot satisfy.
"""

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.inference import InferenceRequest, Receipt
from vehicle.contracts.wire import ContractError, RefusedError

FIRST: Final = "0" * 64
"""What the first receipt names as the one before it."""

UNDECLARED: Final = "undeclared"


class ReceiptChainError(RefusedError):
    """The chain of receipts is not what was written: changed, cut, reordered or not a chain."""


class ReceiptUnwrittenError(RefusedError):
    """A receipt could not be made to last; what it was about must not be answered."""


class ReceiptsInUseError(RefusedError):
    """Another process writes this chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain that was read and holds.

    Args:
        count: receipts in it.
        head: sha256 of the last one; 64 zeros when there is none.
        torn_bytes: after the last whole line: an entry that a crash cut, of which nobody was told.
        decisions: how many of each, by name.
    """

    count: int
    head: str
    torn_bytes: int
    decisions: dict[str, int]


def check(path: Path, witnesses: Iterable[str] = ()) -> Chain:
    """Read a chain whole.

    Args:
        path: the file.
        witnesses: digests of receipts that cars were given: each must be in the chain.
    Raises:
        ReceiptChainError: names the line that does not hold, or the witness that is missing.
    """
    previous, decisions, missing = FIRST, dict[str, int](), set(witnesses)
    number, torn = 0, 0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    torn = len(line)
                    break
                number += 1
                receipt = _receipt(path, number, line[:-1])
                if receipt.previous != previous:
                    raise ReceiptChainError(
                        f"{path} line {number} follows {receipt.previous[:12]}, but the one before "
                        f"it is {previous[:12]}: it was changed, or lines were taken out or put in"
                    )
                previous = wire.digest(line[:-1])
                missing.discard(previous)
                decisions[receipt.decision] = decisions.get(receipt.decision, 0) + 1
    except OSError as error:
        raise ReceiptChainError(f"{path} cannot be read: {error}") from error
    if missing:
        raise ReceiptChainError(
            f"{path} holds together, but not receipt {min(missing)[:12]} that a car was given: its "
            "end was cut off, or it was written anew"
        )
    return Chain(count=number, head=previous, torn_bytes=torn, decisions=decisions)


class Receipts:
    """The one writer of a chain; whole before it is opened, locked while it is.

    Args:
        path: the file; made when missing.
        site: whose chain it is.
        clock: gives the time of an entry.
    Raises:
        ReceiptChainError: what is there does not hold; nothing is appended to it.
        ReceiptsInUseError: another process has it open.
    """

    def __init__(self, path: Path, *, site: str, clock: Clock) -> None:
        self._site, self._clock = site, clock
        self._writing, self._syncing, self._synced = threading.Lock(), asyncio.Lock(), 0
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            chain = check(path)
        except BlockingIOError as error:
            os.close(self._file)
            raise ReceiptsInUseError(f"{path} is open in another process") from error
        except ReceiptChainError:
            os.close(self._file)
            raise
        if chain.torn_bytes:
            os.ftruncate(self._file, os.fstat(self._file).st_size - chain.torn_bytes)
        self._size_bytes = os.fstat(self._file).st_size
        if new:
            wire.sync_folder(path.parent)
        self.count, self.head = chain.count, chain.head

    def append(
        self,
        request: InferenceRequest | None,
        *,
        tenant: str,
        policy: str,
        decision: str,
        size_bytes: int,
    ) -> str:
        """Write one receipt so that it lasts, and return its sha256.

        Args:
            request: None: it came without saying what it is.
            tenant: of the certificate.
            policy: digest of the policy that decided; "" when none was asked.
            decision: "allowed", or the name of the refusal.
            size_bytes: received and sent.
        Raises:
            ReceiptUnwrittenError: the disk is full or gone; the chain stands as before.
        """
        head, number = self._write(request, tenant, policy, decision, size_bytes)
        self._sync(number)
        return head

    async def appended(
        self,
        request: InferenceRequest | None,
        *,
        tenant: str,
        policy: str,
        decision: str,
        size_bytes: int,
    ) -> str:
        """Do as `append` does, but let receipts that come together share one wait for the disk."""
        head, number = self._write(request, tenant, policy, decision, size_bytes)
        async with self._syncing:
            if self._synced < number:
                await asyncio.to_thread(self._sync, self.count)
        return head

    def _write(
        self,
        request: InferenceRequest | None,
        tenant: str,
        policy: str,
        decision: str,
        size_bytes: int,
    ) -> tuple[str, int]:
        with self._writing:
            receipt = Receipt(
                number=self.count + 1,
                previous=self.head,
                request_id=request.request_id if request else "",
                tenant=tenant,
                jurisdiction=request.jurisdiction if request else "",
                data_class=request.data_class if request else UNDECLARED,
                policy=policy,
                decision=decision,
                site=self._site,
                utc_ns=self._clock.utc_ns(),
                size_bytes=size_bytes,
            )
            line = wire.to_bytes(receipt)
            try:
                wrote = os.write(self._file, line + b"\n")
            except OSError as error:
                raise ReceiptUnwrittenError(f"receipt {receipt.number}: {error}") from error
            if wrote != len(line) + 1:
                os.ftruncate(self._file, self._size_bytes)
                raise ReceiptUnwrittenError(
                    f"receipt {receipt.number}: {wrote} of {len(line) + 1} bytes fit on the disk"
                )
            self._size_bytes += wrote
            self.count, self.head = receipt.number, wire.digest(line)
            return self.head, receipt.number

    def _sync(self, number: int) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise ReceiptUnwrittenError(f"receipt {number}: {error}") from error
        self._synced = max(self._synced, number)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _receipt(path: Path, number: int, line: bytes) -> Receipt:
    try:
        receipt = wire.from_bytes(Receipt, line)
    except ContractError as error:
        raise ReceiptChainError(f"{path} line {number} is no receipt: {error}") from error
    if wire.to_bytes(receipt) != line:
        raise ReceiptChainError(f"{path} line {number} is not in canonical form")
    if receipt.number != number:
        raise ReceiptChainError(
            f"{path} line {number} is receipt {receipt.number}: one was taken out or put in"
        )
    return receipt
