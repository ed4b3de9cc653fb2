"""The Python in which clients and codecs of others live (`make interop`)."""

import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parent.parent / ".venv-interop" / "bin" / "python"


def interop(program: Path, *words: object, timeout_s: float = 60.0) -> str:
    """Run a program of ours among the peers; return what it printed. Skips where they are not."""
    if not PYTHON.exists():
        pytest.skip("the peers are not installed here (make interop)")
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-P", program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
