"""The whole loop on tiny data: every arrow, real parts, in under a minute."""

from pathlib import Path

import pytest
from rich.console import Console

from sim.loop import loop, report
from vehicle.contracts.home import Home


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_one_turn_of_the_loop_reaches_the_car_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    facts = loop.run(home, loop.TINY, Console(quiet=True))
    assert facts["drive"]["clips"] >= 1
    assert facts["ingest"]["ingested"] == facts["drive"]["clips"]
    assert facts["ingest"]["quarantined"] == 0
    assert facts["mine"]["frames"] >= 1
    assert facts["train"]["steps"] == loop.TINY.steps
    assert facts["publish"]["tampered"] == "TamperedReleaseError"
    assert set(facts["publish"]["installed"].values()) == {"base@3"}
    assert {d["bundle"] for d in facts["again"]["drives"]} == {"base@3"}
    report.write_page(home, facts)
    assert "recall of cars in fog" in (home.reports / "turn.md").read_text()


def test_finished_run_is_kept_aside_and_an_others_run_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    notes = home.root / "demo"
    loop.prepare(home, notes, loop.TINY)
    loop.prepare(home, notes, loop.TINY)
    with pytest.raises(loop.DemoStateError, match="other options"):
        loop.prepare(home, notes, loop.DemoOptions())
    (notes / "done.json").write_text("{}")
    home.reports.mkdir()
    (home.reports / "after-fog.json").write_text("of the old run")
    loop.prepare(home, notes, loop.DemoOptions())
    assert not home.reports.exists()
    assert (home.root / "previous" / "demo" / "done.json").is_file()
