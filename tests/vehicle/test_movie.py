"""Films: whole or not at all."""

from pathlib import Path

import av
import numpy as np
import pytest

from vehicle.movie import Movie
from vehicle.video import VideoError


def pictures(count: int) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(count)]


def test_film_holds_every_picture_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "film.mp4"
    with Movie(path, 64, 48, 10.0) as movie:
        for picture in pictures(6):
            movie.add(picture)
    with av.open(str(path)) as film:
        assert float(film.streams.video[0].average_rate) == 10.0
        means = [f.to_ndarray(format="rgb24").mean() for f in film.decode(video=0)]
    assert means == pytest.approx([0, 40, 80, 120, 160, 200], abs=3.0)


def test_failure_leaves_no_film(tmp_path: Path) -> None:
    def fail() -> None:
        with Movie(tmp_path / "film.mp4", 64, 48, 10.0) as movie:
            movie.add(pictures(1)[0])
            raise RuntimeError("the drive broke off")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="even"):
        Movie(tmp_path / "film.mp4", 63, 48, 10.0)
    with (
        pytest.raises(VideoError, match="expected uint8"),
        Movie(tmp_path / "film.mp4", 64, 48, 10.0) as movie,
    ):
        movie.add(np.zeros((48, 66, 3), np.uint8))


def test_a_film_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no pictures"), Movie(tmp_path / "f.mp4", 64, 48, 10.0):
        pass
    assert list(tmp_path.iterdir()) == []
