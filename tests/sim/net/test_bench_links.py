"""The emulator's own bench, in small."""

from sim.net.bench_links import links_bench


def test_the_bench_of_links_says_what_was_declared_and_what_came() -> None:
    bench = links_bench(frames=20, progress=lambda share: None, bundle=None)
    rows = {row["row"]: row for row in bench.report()["rows"]}
    trip = rows["round trip, 25 ms each way"]
    assert trip["declared_ms"] == 50.0
    assert trip["ms"]["p50"] >= 50.0
    assert rows["TCP, 20 Mbit/s, 10 ms"]["mbit_per_s"] < 20.0
    assert rows["datagrams, 5 % lost in bursts"]["unaccounted"] == 0
