"""Receipts that last, and every way to change them that is found."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.inference.receipts import (
    FIRST,
    ReceiptChainError,
    Receipts,
    ReceiptsInUseError,
    ReceiptUnwrittenError,
    check,
)
from vehicle.clock import FakeClock
from vehicle.contracts.inference import InferenceRequest


def asked(number: int) -> InferenceRequest:
    return InferenceRequest(
        request_id=f"{number:032x}",
        tenant="acme",
        car_id="car-1",
        workload="adjudication",
        tier="interactive",
        input_utc_ns=1,
        freshness_s=1.0,
        deadline_utc_ns=2,
        data_class="pixels",
        jurisdiction="DE",
    )


def written(path: Path, count: int = 5) -> list[str]:
    with Receipts(path, site="munich", clock=FakeClock()) as receipts:
        return [
            receipts.append(
                asked(n), tenant="acme", policy="p", decision="allowed", size_bytes=100 + n
            )
            for n in range(count)
        ]


def test_receipts_chain_and_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    digests = written(path, 3) + written(path, 2)
    chain = check(path, witnesses=digests)
    assert (chain.count, chain.head, chain.decisions) == (5, digests[-1], {"allowed": 5})
    first = json.loads(path.read_bytes().split(b"\n")[0])
    assert first["previous"] == FIRST
    assert first["schema"] == "receipt/1"


def test_a_request_that_says_nothing_of_itself_has_a_receipt_too(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with Receipts(path, site="munich", clock=FakeClock()) as receipts:
        receipts.append(
            None, tenant="anonymous", policy="p", decision="UndeclaredDataError", size_bytes=9
        )
    assert json.loads(path.read_bytes())["data_class"] == "undeclared"
    assert check(path).decisions == {"UndeclaredDataError": 1}


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "insert", "renumber", "spaces"])
def test_every_change_to_what_was_written_is_found(tmp_path: Path, change: str) -> None:
    path = tmp_path / "receipts.jsonl"
    written(path)
    lines = path.read_bytes().splitlines()
    if change == "edit":
        lines[1] = lines[1].replace(b'"size_bytes":101', b'"size_bytes":999')
    elif change == "remove":
        del lines[2]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "insert":
        lines.insert(2, lines[2])
    elif change == "renumber":
        lines[0] = lines[0].replace(b'"number":1', b'"number":2')
    else:
        lines[4] = lines[4].replace(b",", b", ", 1)
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ReceiptChainError, match="line"):
        check(path)
    with pytest.raises(ReceiptChainError):
        Receipts(path, site="munich", clock=FakeClock())
    assert path.read_bytes() == b"\n".join(lines) + b"\n"


def test_no_byte_can_be_changed_unseen(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    handed_out = written(path, 3)
    whole = path.read_bytes()

    @given(at=st.integers(0, len(whole) - 1), flip=st.integers(1, 255))
    @settings(max_examples=300, deadline=None)
    def changed(at: int, flip: int) -> None:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with pytest.raises(ReceiptChainError):
            check(path, witnesses=handed_out)

    changed()


def test_an_end_that_was_cut_off_or_a_chain_written_anew_lacks_what_a_car_was_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / "receipts.jsonl"
    given = written(path)[-1]
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-1]) + b"\n")
    assert check(path).count == 4  # by itself it holds together
    with pytest.raises(ReceiptChainError, match="that a car was given"):
        check(path, witnesses=[given])


def test_a_line_that_a_crash_cut_is_dropped_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    digests = written(path)
    with path.open("ab") as file:
        file.write(b'{"data_class":"pix')
    assert check(path).torn_bytes == 18
    digests += written(path, 1)
    assert check(path, witnesses=digests).count == 6


def test_two_writers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with (
        Receipts(path, site="munich", clock=FakeClock()),
        pytest.raises(ReceiptsInUseError, match="another process"),
    ):
        Receipts(path, site="munich", clock=FakeClock())


def test_receipts_that_come_together_share_the_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, waits, really = tmp_path / "receipts.jsonl", [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (waits.append(1), really(file))[1])

    async def together() -> list[str]:
        with Receipts(path, site="munich", clock=FakeClock()) as receipts:
            one = {"tenant": "acme", "policy": "p", "decision": "allowed", "size_bytes": 1}
            return await asyncio.gather(*(receipts.appended(asked(n), **one) for n in range(40)))

    assert check(path, witnesses=asyncio.run(together())).count == 40
    assert len(waits) < 5


def test_a_full_disk_is_refused_and_the_chain_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really = tmp_path / "receipts.jsonl", os.write
    given = written(path, 2)
    with Receipts(path, site="munich", clock=FakeClock()) as receipts:
        words = {"tenant": "acme", "policy": "p", "decision": "allowed", "size_bytes": 1}
        monkeypatch.setattr(os, "write", lambda file, data: really(file, data[:10]))
        with pytest.raises(ReceiptUnwrittenError, match="10 of"):
            receipts.append(asked(9), **words)
        monkeypatch.undo()
        given.append(receipts.append(asked(9), **words))
    assert check(path, witnesses=given).count == 3


WRITER = """
import sys
from pathlib import Path
from fleet.inference.receipts import Receipts
from vehicle.clock import SystemClock
receipts = Receipts(Path(sys.argv[1]), site="munich", clock=SystemClock())
while True:
    print(receipts.append(None, tenant="t", policy="p", decision="allowed", size_bytes=1),
          flush=True)
"""


def test_what_was_handed_out_survives_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    given: list[str] = []
    for stop_after in (1, 7, 23):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        given += [process.stdout.readline().strip() for _ in range(stop_after)]
        os.kill(process.pid, signal.SIGKILL)
        given += [line for line in process.stdout.read().split("\n") if len(line) == 64]
        process.wait()
    assert check(path, witnesses=given).count >= len(given) >= 31
