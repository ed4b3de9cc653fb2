"""Nobody outside is needed: what the car plans and commands does not depend on who can be asked."""

from sim.advice import link_cut
from sim.rivals.cases import NO_CAMERAS
from sim.run.episode import Episode
from vehicle.contracts.bench import Bench


def frames(count):
    episode, out = Episode(town=101, seed=7, rig=NO_CAMERAS), []
    for _ in range(count):
        out.append(episode.observe(truth=True))
        episode.step(None)
    return out


def test_plans_and_commands_are_the_same_without_a_mailbox_with_an_empty_and_a_useless_one():
    found = link_cut.plans_of(None, frames(60))
    assert set(found) == {"none", "empty", "refused"}
    assert len(set(found.values())) == 1


def test_advice_that_counts_changes_commands_and_no_plan(monkeypatch):
    seen = frames(30)
    plain = link_cut.plans_of(None, seen)
    put = link_cut.Mailbox.put

    def believed(box, advice, **_):
        put(box, advice, proven=True, fresh_s=1.0)

    monkeypatch.setattr(link_cut.Mailbox, "put", believed)
    heard = link_cut.plans_of(None, seen)
    assert heard["none"] == plain["none"]
    assert heard["refused"] != plain["refused"]
    monkeypatch.setattr(link_cut, "_felt", lambda command: "")  # plans alone
    assert len(set(link_cut.plans_of(None, seen).values())) == 1


def test_rows_say_what_was_compared_and_what_holds():
    found = link_cut.LinkCut(
        linked_ms=(7.0,) * 216, cut_ms=(7.07,) * 216, ratios=(1.0, 1.01, 1.02), missed=(0, 0),
        answers=((20, 7), (1, 0)), plans={"none": "a", "empty": "a", "refused": "a"},
        punctuality="best effort", health=(), heed_us=link_cut.heed_times(40),
    )  # fmt: skip
    bench = Bench(name="tiers")
    link_cut.cut_rows(bench, found)
    assert [must.holds for must in bench.must] == [True, True, True, True]
    assert bench.must[2].value == 9.0  # 27 answers in three pairs
    assert bench.must[0].value == 1.01
    assert bench.rows[0]["ms"]["n"] == 216
    assert [row["us"]["n"] for row in bench.rows if "mailbox" in row["row"]] == [40, 40]
