"""The page docs/how-to/mine-the-fleet.md holds: its commands run as they stand there, in order."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "mine-the-fleet.md"
DOOR = "roadloop fleet serve &"
ENOUGH_S = 120


def commands() -> list[str]:
    """Return the page's commands, block by block, without the comments."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [shlex.join(shlex.split(line, comments=True)) for b in blocks for line in b.splitlines()]


class Desk:
    """An empty folder and a shell in it; the door takes a free port instead of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door: subprocess.Popen[bytes] | None = None
        bin_folder = Path(sys.executable).parent
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("ROADLOOP_")}
        self._env |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "COLUMNS": "160"}

    def run(self, command: str) -> str:
        """Run one command to its end and return what it printed."""
        if command.startswith("roadloop vehicle uplink"):
            command += f" --gateway {(self.folder / 'url').read_text().strip()}"
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=ENOUGH_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def open_door(self) -> None:
        """Start the gateway and wait until it says where it listens."""
        command = ["roadloop", "fleet", "serve", "--port", "0", "--url-file", "url"]
        with (self.folder / "door.log").open("wb") as log:
            self.door = subprocess.Popen(
                command, cwd=self.folder, env=self._env, stdout=log, stderr=log
            )
        until = time.monotonic() + ENOUGH_S
        while not (self.folder / "url").exists():
            assert self.door.poll() is None, "the door closed at once: door.log says why"
            assert time.monotonic() < until, "the door did not open"
            time.sleep(0.1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    if desk.door is not None:
        desk.door.send_signal(signal.SIGINT)
        desk.door.wait(20)


@pytest.mark.slow
def test_ten_commands_lead_from_nothing_to_a_training_set_and_four_more_ask_for_more(
    desk: Desk,
) -> None:
    said: dict[str, str] = {}
    assert len(commands()) == 14
    for command in commands():
        if command == shlex.join(shlex.split(DOOR)):
            desk.open_door()
        else:
            said[" ".join(command.split()[1:3])] = desk.run(command)
    assert (desk.folder / "found.png").stat().st_size > 10_000
    assert (desk.folder / ".roadloop/datasets/night-rain").is_dir()
    assert "frames" in said["datalake dataset"]
    assert "late" in said["vehicle campaigns"]
