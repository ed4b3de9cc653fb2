"""The edge of the command: every end has its exit code and its words, and no traceback."""

import errno
from collections.abc import Callable

import pytest

import roadloop
from vehicle.contracts.wire import RefusedError


def raising(error: BaseException) -> Callable[[], None]:
    def app() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RefusedError("because"), 1, "refused: RefusedError: because"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), 1, "DiskFullError"),
        (KeyboardInterrupt(), 130, "what was finished is kept"),
    ],
)
def test_an_end_that_is_no_fault_of_the_code_is_told_in_words(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(roadloop, "app", raising(error))
    with pytest.raises(SystemExit) as end:
        roadloop.main()
    assert end.value.code == code
    assert words in capsys.readouterr().err


def test_a_fault_of_the_code_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roadloop, "app", raising(PermissionError(errno.EACCES, "denied")))
    with pytest.raises(PermissionError):
        roadloop.main()
