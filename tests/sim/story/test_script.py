"""The cast of an event comes and goes without anybody taking another's place."""

from sim.rivals.cases import NO_CAMERAS
from sim.run.episode import Episode


def test_a_player_that_leaves_does_not_move_the_others() -> None:
    episode = Episode(town=100, seed=0, family="lost_load", rig=NO_CAMERAS)
    ids = set(episode.actors.table["actor_id"].tolist())
    for _ in range(200):
        episode.step(None)
    after = episode.actors.table["actor_id"].tolist()
    assert len(after) == len(set(after))
    assert set(after) < ids
