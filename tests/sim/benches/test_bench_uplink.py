"""Kills in small: what the bench counts, and that nothing is lost, twice or left over."""

import pytest

from sim.benches.bench_uplink import uplink_bench
from sim.benches.uplink_count import orphans
from vehicle.contracts.home import Home


def test_what_nothing_refers_to_is_found_wherever_it_lies(tmp_path) -> None:
    home = Home(tmp_path)
    planted = (
        "cars/c/outbox/aa/clip.mcap",
        "cars/c/outbox/.tmp/clip-1/clip.mcap.part",
        "cars/c/sent/.x.json.7.part",
        "fleet/uploads/c/bb",
        "fleet/landing/cc/clip.mcap",
        "lake/clips/dd/dd.mcap",
        "lake/data/main/ticks/ee.parquet",
    )
    for name in planted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = set(orphans(home, {"ff"}))
    assert found == {
        "cars/c/outbox/aa",
        "cars/c/outbox/.tmp/clip-1",
        "cars/c/outbox/.tmp/clip-1/clip.mcap.part",
        "cars/c/sent/.x.json.7.part",
        "fleet/uploads/c/bb",
        "fleet/landing/cc",
        "lake/clips/dd/dd.mcap",
        "lake/data/main/ticks/ee.parquet",
    }
    assert set(orphans(home, {"dd"})) == found - {"lake/clips/dd/dd.mcap"}


@pytest.mark.slow
def test_eight_kills_lose_nothing_and_leave_nothing_twice_or_half() -> None:
    bench = uplink_bench(frames=8, progress=lambda share: None, drives=1, file_bytes=1 << 20)
    musts = {must.figure: must for must in bench.must}
    rows = {row["row"]: row for row in bench.rows}
    assert musts.pop("kills").value == 8
    assert {figure: must.value for figure, must in musts.items()} == dict.fromkeys(musts, 0.0)
    assert set(rows["kills (SIGKILL)"]) >= {"recorder", "uplink", "gateway", "ingest"}
    assert rows["after everything ran once more"]["clips"] > 0
