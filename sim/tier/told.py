"""A child process that says one line when it is ready, and ends with its stdin."""

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

END_S: Final = 10.0


@contextmanager
def telling(
    words: Sequence[str],
    failed: Callable[[int], Exception],
    *,
    asked: bytes = b"",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """Run a child for the length of a block; yield it and its line.

    Args:
        words: the command.
        failed: makes what is raised, from the exit code, when it ended without a line.
        asked: first line of its stdin; empty: none.
        environment, folder: that it runs in; None: this process's.
    """
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if asked:
            process.stdin.write(asked + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise failed(process.wait())
        yield process, line
    finally:
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
