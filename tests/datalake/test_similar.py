from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_parts import FRAMES, land

from datalake import faiss_index, similar, vectors
from datalake.ingest import ingest
from datalake.lake import Lake, QueryError
from datalake.similar import AmbiguousClipError, UnknownClipError
from datalake.vectors import MixedModelsError, NoEmbeddingsError, Vectors
from vehicle.contracts.home import Home


def fleet(clips: int = 40, frames: int = 50, width: int = 16, seed: int = 0) -> Vectors:
    """Return clips that drift slowly through the space, as drives do."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=0.1, size=(clips, frames, width))
    steps[:, 0] = rng.normal(size=(clips, width))
    paths = np.cumsum(steps, axis=1).reshape(-1, width)
    return Vectors(
        model="net@1",
        clips=tuple(f"{i:064x}" for i in range(clips)),
        clip_N=np.repeat(np.arange(clips, dtype=np.int32), frames),
        frame_N=np.tile(np.arange(frames), clips),
        unit_NE=vectors.unit(paths),
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Return a lake of three clips that nobody writes to."""
    home = Home(tmp_path_factory.mktemp("home"))
    for seed in range(3):
        land(home, seed=seed, light=20 if seed == 2 else 100)
    ingest(home)
    with Lake(home) as lake:
        yield lake


@given(seed=st.integers(0, 1000), k=st.integers(1, 40), block=st.integers(1, 70))
def test_the_nearest_are_those_of_a_full_sort(seed: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    units = vectors.unit(rng.normal(size=(200, 8)).round(1))
    query = units[seed % 200]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "BLOCK_ROWS", block)
        rows, cosine = vectors.nearest(units, query, k)
    exact = (units.astype(np.float64) * query).sum(axis=1)
    order = np.lexsort((np.arange(200), -exact))
    np.testing.assert_array_equal(rows[:k], order[:k])
    np.testing.assert_array_equal(cosine[:k], exact[order[:k]])
    assert (cosine[k:] == cosine[k - 1]).all()


def test_more_than_there_is_gives_what_there_is() -> None:
    units = vectors.unit(np.eye(3))
    assert len(vectors.nearest(units, units[0], 10)[0]) == 3
    assert len(vectors.nearest(units[:0], units[0], 10)[0]) == 0
    assert len(vectors.nearest(units, units[0], 0)[0]) == 0


def test_a_vector_without_length_is_like_nothing() -> None:
    units = vectors.unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]]))
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], rtol=1e-6)


def test_vectors_leave_the_lake_as_they_came_in(lake: Lake) -> None:
    found = vectors.load(lake, "base@1", ordered=True)
    assert (len(found), found.width, len(found.clips)) == (3 * FRAMES, 4, 3)
    wanted = np.arange(4, dtype=np.float32) + np.arange(FRAMES)[:, None]
    np.testing.assert_array_equal(found.unit_NE[:FRAMES], vectors.unit(wanted))
    assert found.key(FRAMES + 2) == (sorted(found.clips)[1], 2)


def test_chunks_and_slices_of_a_column_make_one_matrix() -> None:
    kind = pa.list_(pa.float32())
    whole = pa.array([[1, 2], [3, 4], [5, 6], [7, 8]], kind)
    column = pa.chunked_array([whole.slice(1, 2), pa.array([], kind), whole.slice(3)])
    np.testing.assert_array_equal(vectors.matrix(column), [[3, 4], [5, 6], [7, 8]])
    with pytest.raises(MixedModelsError, match=r"lengths \[1, 2\]"):
        vectors.matrix(pa.chunked_array([whole, pa.array([[1.0]], kind)]))


def test_a_clip_stands_for_the_frame_of_its_event(lake: Lake) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    event = similar.of_clip(lake, clip[:8])
    assert (event.clip_id, event.model, event.about) == (
        clip, "base@1", f"clip {clip[:12]}, frame 3",
    )  # fmt: skip
    frame = similar.of_clip(lake, f"{clip}:3")
    np.testing.assert_array_equal(event.unit_E, frame.unit_E)
    mean = similar.of_clip(lake, clip, mean=True)
    assert "mean" in mean.about
    assert not np.array_equal(mean.unit_E, frame.unit_E)


def test_a_frame_finds_its_twins_in_other_clips_first(lake: Lake) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    query = similar.of_clip(lake, f"{clip}:5")
    found = similar.similar(lake, query, k=2)
    assert found["frame_id"].to_pylist() == [5, 5]
    assert clip not in found["clip_id"].to_pylist()
    np.testing.assert_allclose(found["similarity"], 1.0, atol=1e-6)
    with_own = similar.similar(lake, query, k=9, own=True, per_clip=3)
    assert set(with_own["frame_id"].to_pylist()[:3]) == {5}
    assert with_own.num_rows == 9


def test_a_condition_holds_before_the_search_so_that_k_come_back(lake: Lake) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    query = similar.of_clip(lake, f"{clip}:1")
    far = similar.similar(lake, query, k=4, per_clip=0, where="frame_id >= 8 AND speed_mps > 1")
    assert far["frame_id"].to_pylist() == [8, 8, 9, 9]
    night = similar.similar(lake, query, k=5, per_clip=0, own=True, where="luma_1 < 60 -- dark")
    assert len(set(night["clip_id"].to_pylist())) == 1
    with pytest.raises(NoEmbeddingsError, match="where speed_mps > 99; it holds those of: base@1"):
        similar.similar(lake, query, where="speed_mps > 99")
    with pytest.raises(QueryError):
        similar.similar(lake, query, where="no_such_column = 1")


def test_an_answer_is_a_query_again(lake: Lake) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    found = similar.similar(lake, similar.of_clip(lake, clip), k=2)
    assert lake.sql(vectors.values_sql(found)).to_pydict() == found.to_pydict()
    none = found.slice(0, 0)
    assert lake.sql(vectors.values_sql(none)).column_names == found.column_names


def test_what_cannot_be_searched_for_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    for text in ("zzzz", "' OR 1=1", "abc", "0" * 64):
        with pytest.raises(UnknownClipError):
            similar.of_clip(lake, text)
    with pytest.raises(UnknownClipError, match=r"has frames 0\.\.11"):
        similar.of_clip(lake, f"{clip}:99")
    with pytest.raises(UnknownClipError, match="frame number"):
        similar.of_clip(lake, f"{clip}:last")
    with pytest.raises(NoEmbeddingsError, match="seen by base@1, not other@2"):
        similar.of_clip(lake, clip, model="other@2")
    twins = ("a" * 63 + "0", "a" * 63 + "1")
    monkeypatch.setattr(lake, "sql", lambda _: pa.table({"clip_id": twins}))
    with pytest.raises(AmbiguousClipError, match="all begin with aaaa"):
        similar.resolve(lake, "aaaa")


def test_embeddings_of_two_models_are_never_compared(lake: Lake) -> None:
    clip = vectors.load(lake, "base@1", ordered=True).clips[0]
    query = similar.of_clip(lake, clip)
    with pytest.raises(MixedModelsError, match=r"of base@1, the frames of net@1"):
        similar.similar(lake, query, among=fleet())
    other = similar.Query(model="net@1", unit_E=query.unit_E)
    with pytest.raises(MixedModelsError, match="4 numbers here and 16 in the lake"):
        similar.similar(lake, other, among=fleet())


def test_two_searches_give_the_same_answer(lake: Lake) -> None:
    frames = fleet()
    query = similar.Query(model="net@1", unit_E=frames.unit_NE[77])
    first = similar.similar(lake, query, k=30, among=frames)
    order = np.random.default_rng(0).permutation(len(frames))
    shuffled = Vectors(
        model="net@1",
        clips=frames.clips,
        clip_N=frames.clip_N[order],
        frame_N=frames.frame_N[order],
        unit_NE=frames.unit_NE[order],
    )
    assert similar.similar(lake, query, k=30, among=shuffled).equals(first)


def test_an_index_answers_as_exact_search_does(lake: Lake) -> None:
    pytest.importorskip("faiss")
    clip = vectors.load(lake, "base@1", ordered=True).clips[1]
    query = similar.of_clip(lake, f"{clip}:7")
    for where in (None, "frame_id < 6"):
        index = faiss_index.indexed(lake, "base@1", where=where)
        by_index = similar.similar(lake, query, k=2, where=where, among=index)
        exact = similar.similar(lake, query, k=2, where=where)
        assert by_index["frame_id"].equals(exact["frame_id"])
        np.testing.assert_allclose(by_index["similarity"], exact["similarity"], atol=1e-6)


def test_an_index_is_kept_until_there_are_other_frames(home: Home) -> None:
    pytest.importorskip("faiss")
    kept = []
    for seed in (7, 8):
        land(home, seed=seed)
        ingest(home)
        with Lake(home) as grown:
            for _ in range(2):
                assert len(faiss_index.indexed(grown, "base@1")) == (seed - 6) * FRAMES
        kept.append([*(home.lake / "index").rglob("*.faiss")])
    assert [len(files) for files in kept] == [1, 1]
    assert kept[0] != kept[1]


def test_a_partitioned_index_finds_nearly_all_and_under_a_condition_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(faiss_index, "FLAT_ROWS", 100)
    frames = fleet(clips=200, frames=50)
    index = faiss_index.build(frames.unit_NE)
    hits = 0
    for row in range(0, len(frames), 500):
        exact = set(vectors.nearest(frames.unit_NE, frames.unit_NE[row], 10)[0][:10].tolist())
        hits += len(exact & set(index.search(frames.unit_NE[row : row + 1], 10)[1][0].tolist()))
    assert hits >= 0.95 * 10 * len(range(0, len(frames), 500))
    few = np.arange(0, len(frames), 999)
    filtered = faiss_index.Indexed(
        model="net@1",
        clips=frames.clips,
        clip_N=frames.clip_N[few],
        frame_N=frames.frame_N[few],
        index=index,
        place_N=few,
        filtered=True,
    )
    rows, cosine = filtered.nearest(frames.unit_NE[5], 10)
    wanted, exact_cosine = vectors.nearest(frames.unit_NE[few], frames.unit_NE[5], 10)
    np.testing.assert_array_equal(rows, wanted[:10])
    np.testing.assert_allclose(cosine, exact_cosine[:10], atol=1e-6)
