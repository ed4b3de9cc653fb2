"""A clip as a car would offer it and a door to offer it at: what tests of sending share."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry, TriggerEvent

EVENT = TriggerEvent(
    trigger="ttc", campaign_id="default", frame_id=3, mono_ns=300, value=1.0, threshold=1.5
)


def manifest_of(content: bytes, car_id: str = "car-1", **changes: object) -> ClipManifest:
    """Return the manifest of a clip whose one file is `content`."""
    sha256 = hashlib.sha256(content).hexdigest()
    facts = {
        "clip_id": sha256,
        "car_id": car_id,
        "route_id": "r",
        "events": (EVENT,),
        "frames": (0, 9),
        "start_mono_ns": 0,
        "end_mono_ns": 900,
        "created_utc_ns": 1,
        "jurisdiction": "ZZ",
        "model": "base@1",
        "rig_digest": "",
        "files": (FileEntry(name="clip.mcap", sha256=sha256, size_bytes=len(content)),),
    }
    return ClipManifest(**(facts | changes))


def put_in_outbox(outbox: Path, content: bytes, car_id: str = "car-1") -> ClipManifest:
    """Put a clip into a car's outbox as the recorder would."""
    manifest = manifest_of(content, car_id)
    folder = outbox / manifest.clip_id
    folder.mkdir(parents=True)
    (folder / "clip.mcap").write_bytes(content)
    wire.atomic_write(folder / "manifest.json", wire.to_bytes(manifest))
    return manifest


class GatewayProcess:
    """A real gateway in a process of its own, on a free port of loopback."""

    def __init__(self, home: Path, port: int = 0, *more: str) -> None:
        self._url_file = home / "url"
        self._url_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "roadloop", "fleet", "serve", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--url-file", str(self._url_file), *more],
            env={**os.environ, "ROADLOOP_HOME": str(home)},
            stdout=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 30.0
        while not self._url_file.exists():
            assert self.process.poll() is None, "the gateway ended"
            assert time.monotonic() < give_up, "the gateway did not open"
            time.sleep(0.02)
        self.url = self._url_file.read_text().strip()
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, wait for the end, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self) -> "GatewayProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
