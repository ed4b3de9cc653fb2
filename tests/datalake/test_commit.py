"""Several processes put rows into one lake: each clip once, whole batches, whoever is killed."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from lake_parts import rows

from datalake.commit import Ready, _hand_in, commit, sweep_queue
from datalake.lake import Lake
from datalake.maintain import compact
from datalake.tables import CLIPS, TICKS
from vehicle.contracts.home import Home

TICKS_EACH = 50


def ready(clip_id: str) -> Ready:
    ticks = ({"clip_id": clip_id, "frame_id": i} for i in range(TICKS_EACH))
    return Ready(clip_id, {"clips": CLIPS.rows([{"clip_id": clip_id}]), "ticks": TICKS.rows(ticks)})


def write_clips(home: Home, who: int, batches: int) -> int:
    """Commit batches of one clip of its own and one that everybody else has too."""
    new = 0
    with Lake(home) as lake:
        for number in range(batches):
            both = [ready(f"own-{who}-{number}"), ready(f"shared-{number}")]
            new += 2 - len(commit(lake, both))
    return new


def write_for_ever(home: Home, who: int) -> None:
    write_clips(home, who, 10_000)


def counts(home: Home) -> dict[str, object]:
    [row] = rows(
        home,
        "SELECT (SELECT count(*) FROM clips) AS clips, (SELECT count(*) FROM ticks) AS ticks, "
        "(SELECT count(DISTINCT clip_id) FROM clips) AS distinct_clips, "
        "(SELECT count(DISTINCT (clip_id, frame_id)) FROM ticks) AS distinct_ticks",
    )
    return row


def test_three_processes_at_once_append_every_clip_once(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        new = pool.starmap(write_clips, [(home, who, 6) for who in range(3)])
    clips = 3 * 6 + 6
    assert sum(new) == clips, "every clip was told to be new exactly once"
    ticks = clips * TICKS_EACH
    assert counts(home) == {
        **{"clips": clips, "distinct_clips": clips, "ticks": ticks, "distinct_ticks": ticks}
    }
    assert list((home.lake / "queue").iterdir()) == []


def test_one_commits_for_all_who_wait(home: Home) -> None:

    with Lake(home) as lake:
        commit(lake, [ready("first")])
        before = lake.snapshot()
        other = _hand_in(home.lake / "queue", [ready("other"), ready("first")])
        assert commit(lake, [ready("mine")]) == set()
        assert lake.snapshot() == before + 1
        assert counts(home)["clips"] == 3
        assert other.with_suffix(".answer").read_bytes() == b'["first"]'


def test_what_a_dead_process_handed_in_is_not_committed_and_swept(home: Home) -> None:

    with Lake(home) as lake:
        left = _hand_in(home.lake / "queue", [ready("left")])
        dead = left.with_name(left.name.replace(f".{os.getpid()}.", ".99999999."))
        left.rename(dead)
        commit(lake, [ready("mine")])
        assert counts(home)["clips"] == 1
    sweep_queue(home.lake / "queue")
    assert not dead.exists()


def test_a_clip_twice_in_one_batch_is_a_clip_once(home: Home) -> None:
    with Lake(home) as lake:
        commit(lake, [ready("a")])
        assert commit(lake, [ready("a"), ready("b")]) == {"a"}
    assert counts(home)["distinct_clips"] == counts(home)["clips"] == 2


@pytest.mark.slow
def test_writers_that_are_killed_leave_whole_batches_only(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    for turn in range(2):
        writers = [
            context.Process(target=write_for_ever, args=(home, 2 * turn + w)) for w in (0, 1)
        ]
        for writer in writers:
            writer.start()
        _wait_for(home, 4 * (turn + 1))
        for writer in writers:
            writer.kill()
            writer.join()
    found = counts(home)
    assert found["clips"] == found["distinct_clips"]
    assert found["ticks"] == found["distinct_ticks"]
    whole = "SELECT clip_id FROM clips LEFT JOIN ticks USING (clip_id) GROUP BY ALL"
    assert rows(home, f"{whole} HAVING count(frame_id) != {TICKS_EACH}") == []
    with Lake(home) as lake:
        commit(lake, [ready("after")])
    compact(home, keep=1)
    assert counts(home)["clips"] == int(str(found["clips"])) + 1
    with Lake(home) as lake:
        assert _known_files(lake) == {p.name for p in (home.lake / "data").rglob("*.parquet")}


def _known_files(lake: Lake) -> set[str]:
    with lake.maintenance() as connection:
        names = [
            connection.execute(f"FROM ducklake_list_files('lake', '{t}')").fetchall()
            for t in ("clips", "ticks")
        ]
    return {Path(row[0]).name for each in names for row in each}


def _wait_for(home: Home, clips: int) -> None:
    give_up_s = time.monotonic() + 60.0
    while time.monotonic() < give_up_s:
        with Lake(home) as lake:
            if lake.sql("FROM clips").num_rows >= clips:
                return
        time.sleep(0.05)
    raise AssertionError("the writers wrote nothing in a minute")
