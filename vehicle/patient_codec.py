"""An encoder that may stop answering, used so that nothing else stops with it.

SVT-AV1 4.1 has been seen to wait for itself for good in the middle of a stream, all its threads
asleep (docs/decisions/0015). So each picture is encoded in a thread that is waited for only so
long; an encoder that has not answered by then is left behind with its thread, and a new one goes on
with a keyframe.
"""

import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from vehicle.engine_worker import Worker

PATIENCE_S: Final = 5.0
"""A picture takes milliseconds; an encoder that is only slow is taken for a stuck one at the price
of a keyframe."""

Coder = Callable[[Any], bytes]
"""Frame -> bytes of the picture."""


class StuckError(RuntimeError):
    """Two encoders in a row did not answer."""


class PatientCodec:
    """Encodes as the coder that `open_` makes does, or as the next one that it makes."""

    def __init__(self, open_: Callable[[], Coder]) -> None:
        self._open = open_
        self.stalls = 0
        """How often one did not answer."""
        self._take()

    def encode(self, frame: Any) -> bytes:
        """Return the bytes of a picture.

        Raises:
            StuckError: a new encoder did not answer either.
        """
        for _ in range(2):
            answer = self._one.encode(frame)
            if answer is not None:
                return answer
            self.stalls += 1
            self._close.detach()
            self._take()
        raise StuckError(f"no answer within {PATIENCE_S:g} s from two encoders")

    def _take(self) -> None:
        self._one = _One(self._open())
        self._close = weakref.finalize(self, self._one.close)


class _One:
    """One coder and the thread that it is used in."""

    def __init__(self, code: Coder) -> None:
        self._code, self._frame, self._bytes = code, None, b""
        self._worker = Worker(self._work)

    def encode(self, frame: Any) -> bytes | None:
        """Return the bytes of a picture, None where they did not come in time."""
        self._frame = frame
        self._worker.start(0)
        if not self._worker.wait(time.monotonic_ns() + round(PATIENCE_S * 1e9)):
            return None
        error, self._worker.error = self._worker.error, None  # its trace would keep us all alive
        if error is not None:
            raise error
        return self._bytes

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def _work(self, _: int) -> None:
        self._bytes = self._code(self._frame)
