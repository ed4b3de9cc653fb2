"""`roadloop sim link`: lists links, and puts one in front of a server."""

import json
import socket
import subprocess
import sys

ROADLOOP = [sys.executable, "-m", "roadloop", "sim", "link"]


def test_links_are_listed_with_their_sources() -> None:
    done = subprocess.run([*ROADLOOP, "--json"], capture_output=True, text=True, check=True)
    listed = json.loads(done.stdout)
    assert listed["5g-sa"]["assumed"]
    assert "2601.08439" in listed["leo-dense"]["source"]


def test_a_link_stands_before_a_server_until_its_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        words = [*ROADLOOP, "--to", f"127.0.0.1:{port}", "--profile", "cabinet", "--seconds", "2"]
        link = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert link.stdout is not None
        near = link.stdout.readline().split("connect to ")[1].split()[0]
        sock = socket.create_connection((near.split(":")[0], int(near.split(":")[1])), timeout=5.0)
        sock.sendall(b"through")
        door.settimeout(5.0)
        assert door.accept()[0].recv(100) == b"through"
        sock.close()
        assert "packets" in link.stdout.read()
        assert link.wait() == 0


def test_an_unknown_link_is_refused_and_a_bad_address_is_usage() -> None:
    refused = subprocess.run(
        [*ROADLOOP, "--to", "127.0.0.1:9", "--profile", "dial-up"], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "UnknownLinkError" in refused.stderr
    assert "lte" in refused.stderr
    usage = subprocess.run([*ROADLOOP, "--to", "nowhere"], capture_output=True, text=True)
    assert usage.returncode == 2
