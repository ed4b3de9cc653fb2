"""Faces and plates are gone before anybody can ask, and nothing else is touched."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from lake_parts import RATE_HZ, TINY, observation, tick

from datalake.config import LakeConfigError, ScrubPolicy
from datalake.detect import Detector, Look, Region
from datalake.detect_tracks import TrackDetector, believed
from datalake.scrub import ScrubError, blur, mask_of, scrub
from datalake.scrubber import Scrubber
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.scene import KINDS
from vehicle.geometry import look_camera, project
from vehicle.mcap_records import McapRecords, open_mcap
from vehicle.route import RouteCorruptError, RouteReader, RouteWriter

RIG = Rig(
    name="two",
    cameras=(
        look_camera("front", width_px=256, height_px=128, yaw_deg=0.0, **TINY),
        look_camera("rear", width_px=32, height_px=32, yaw_deg=180.0, **TINY),
    ),
)
TICKS = 35
NEAR = range(15, 20)
"""Ticks on which somebody stands close ahead; a second of the video begins at 10, 20 and 30."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mcap"
    with RouteWriter(path, RIG, rate_hz=RATE_HZ, metadata={"car_id": "car-1"}) as writer:
        for frame in range(TICKS):
            obs = observation(frame, 0, 100, RIG)
            made = tick(obs)
            person = made.scene.tracks
            person["track_id"], person["kind"] = 0, KINDS.index("pedestrian")
            person["x_m"], person["height_m"] = (6.0 if frame in NEAR else 70.0), 1.8
            writer.write(obs, made)
    return path


def messages(path: Path) -> list[tuple[str, int, bytes]]:
    with open_mcap(path) as file:
        return [(i[0], i[1].log_time, i[1].data) for i in McapRecords(file) if isinstance(i, tuple)]


def test_only_the_seconds_with_a_face_are_encoded_again(clip: Path, tmp_path: Path) -> None:
    report = scrub(clip, tmp_path / "out.mcap", (TrackDetector(),))
    before, after = messages(clip), messages(tmp_path / "out.mcap")
    changed = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert {before[k][0] for k in changed} == {"/camera/front"}
    front = [k for k, message in enumerate(before) if message[0] == "/camera/front"]
    assert [front.index(k) for k in changed] == list(NEAR)
    assert (report.frames, report.encoded, report.regions) == (len(NEAR), len(NEAR), len(NEAR))
    assert report.pictures == 2 * TICKS
    assert report.detector == "tracks@1"


def test_the_same_clip_gives_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    for name in ("a.mcap", "b.mcap"):
        scrub(clip, tmp_path / name, (TrackDetector(),))
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()


def test_a_clip_with_nothing_to_hide_stays_the_same_file(clip: Path, tmp_path: Path) -> None:
    report = scrub(clip, tmp_path / "out.mcap", (TrackDetector(min_face_px=100.0),))
    assert report.regions == 0
    assert (tmp_path / "out.mcap").read_bytes() == clip.read_bytes()


def test_where_nobody_looks_the_clip_stays_the_same_file(clip: Path, tmp_path: Path) -> None:
    report = Scrubber(ScrubPolicy()).scrub(clip, tmp_path / "out.mcap", "ZZ")
    assert (report.detector, report.regions) == ("none", 0)
    assert (tmp_path / "out.mcap").read_bytes() == clip.read_bytes()


def test_ticks_and_pictures_read_as_before_outside_the_regions(clip: Path, tmp_path: Path) -> None:
    scrub(clip, tmp_path / "out.mcap", (TrackDetector(),))
    before, after = RouteReader(clip), RouteReader(tmp_path / "out.mcap")
    assert (before.rig, before.metadata) == (after.rig, after.metadata)
    for a, b in zip(before.observations(), after.observations(), strict=True):
        assert a.frame.frame_id == b.frame.frame_id
        assert (a.frame.images["rear"] == b.frame.images["rear"]).all()
        difference = np.abs(a.frame.images["front"].astype(int) - b.frame.images["front"])
        assert difference.mean() < (12.0 if a.frame.frame_id in NEAR else 1e-9)


def test_a_head_in_the_picture_is_inside_the_region() -> None:
    obs = observation(0, 0, 100, RIG)
    made = tick(obs)
    made.scene.tracks[0] = (1, KINDS.index("pedestrian"), 6, 1, 0.3, 0.5, 0.5, 1.8, 0, 0, 0.9, 1, 0)
    (region,) = TrackDetector().regions(Look(camera=RIG.cameras[0], tracks=made.scene.tracks))
    uv, depth = project(RIG.cameras[0], np.array([[6.0, 1.0, 1.65]]))
    assert depth[0] > 0.0
    assert region.left_px < uv[0, 0] < region.right_px
    assert region.top_px < uv[0, 1] < region.bottom_px
    assert region.kind == "face"


def test_a_plate_is_looked_for_only_at_the_ends_that_show() -> None:
    made = tick(observation(0, 0, 100, RIG))
    (region,) = TrackDetector().regions(Look(camera=RIG.cameras[0], tracks=_car(made, 6.0)))
    assert region.kind == "plate"
    assert TrackDetector().regions(Look(camera=RIG.cameras[1], tracks=_car(made, 6.0))) == []


def _car(made: object, x_m: float) -> np.ndarray:
    tracks = made.scene.tracks.copy()  # type: ignore[attr-defined]
    tracks["kind"], tracks["x_m"] = KINDS.index("car"), x_m
    return np.asarray(tracks)


def test_a_track_speaks_for_the_second_before_it_was_believed_in(tmp_path: Path) -> None:
    path = tmp_path / "late.mcap"
    with RouteWriter(path, RIG, rate_hz=RATE_HZ, metadata={}) as writer:
        for frame in range(20):
            obs = observation(frame, 0, 100, RIG)
            made = tick(obs)
            made.scene.tracks["x_m"] = 40.0 - frame
            if frame < 15:
                made = type(made)(
                    frame_id=frame, scene=None, plan=None, command=None, timing=made.timing
                )
            writer.write(obs, made)
    found = believed(list(RouteReader(path).records()))
    assert [len(rows) for rows in found] == [0] * 5 + [1] * 15
    assert float(found[5]["x_m"][0]) == pytest.approx(35.0)  # standing still while the ego drives


def test_blurred_pixels_say_nothing_but_a_few_colours() -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (60, 60), dtype=np.uint8)  # a picture of 40 x 60 pixels
    region = Region(kind="face", left_px=11, top_px=5, right_px=31, bottom_px=29)
    other = planes.copy()
    quarters = [(slice(4, 17), slice(10, 21)), (slice(4, 17), slice(21, 32))]
    quarters += [(slice(17, 30), slice(10, 21)), (slice(17, 30), slice(21, 32))]
    for quarter in quarters:  # the same values in every quarter, in another order
        other[quarter] = rng.permutation(other[quarter].ravel()).reshape(other[quarter].shape)
    outside = ~mask_of((40, 60), [region])
    kept = planes[:40][outside].copy()
    assert (planes != other).any()
    assert blur(planes, (40, 60), [region]) == blur(other, (40, 60), [region]) == 26 * 22
    assert (planes == other).all()
    assert (planes[:40][outside] == kept).all()
    assert len(np.unique(planes[4:30, 10:32])) < 200


class _Everywhere:
    name, needs_pixels = "everywhere@1", True

    def regions(self, look: Look) -> Sequence[Region]:
        assert look.image is not None
        height, width = look.image.shape[:2]
        return [
            Region(kind="face", left_px=-9, top_px=-9, right_px=width + 9, bottom_px=height + 9),
            Region(kind="face", left_px=width, top_px=0, right_px=width + 4, bottom_px=4),
        ]


def test_any_detector_can_be_plugged_in(clip: Path, tmp_path: Path) -> None:
    policy = ScrubPolicy(detectors={"*": ("tracks", "plates")})
    scrubber = Scrubber(policy, own={"plates": _Everywhere()})
    report = scrubber.scrub(clip, tmp_path / "out.mcap", "DE")
    assert report.detector == "tracks@1+everywhere@1"
    assert (report.frames, report.blurred_ratio) == (2 * TICKS, 1.0)
    for observed in RouteReader(tmp_path / "out.mcap").observations():
        assert float(observed.frame.images["front"].std(axis=(0, 1)).max()) < 8.0


def test_video_before_the_first_keyframe_is_emptied(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    reader = RouteReader(clip)
    with (
        open_mcap(clip) as file,
        RouteWriter(cut, RIG, rate_hz=RATE_HZ, metadata=reader.metadata) as writer,
    ):
        ticks = 0
        for item in McapRecords(file):
            if isinstance(item, tuple):
                if ticks >= 3:
                    writer.carry(*item)
                ticks += item[0] == "/frame"
    scrub(cut, tmp_path / "out.mcap", (TrackDetector(),))
    video = [m for m in messages(tmp_path / "out.mcap") if m[0] == "/camera/rear"]
    sizes = [len(CompressedVideo.FromString(data).data) for _, _, data in video]
    assert [size == 0 for size in sizes] == [k < 7 for k in range(TICKS - 3)]
    assert len(list(RouteReader(tmp_path / "out.mcap").records())) == TICKS - 3


def spoil_video(change: Callable[[CompressedVideo], None], clip: Path, out: Path) -> Path:
    """Write a clip whose video of one near tick was changed."""
    reader = RouteReader(clip)
    with (
        open_mcap(clip) as file,
        RouteWriter(out, RIG, rate_hz=RATE_HZ, metadata=reader.metadata) as writer,
    ):
        for item in McapRecords(file):
            if not isinstance(item, tuple):
                continue
            topic, message = item
            if topic == "/camera/front" and message.sequence == 16:
                video = CompressedVideo.FromString(message.data)
                change(video)
                message.data = video.SerializeToString()
            writer.carry(topic, message)
    return out


@pytest.mark.parametrize("change", [{"data": b"\0\0\1\x41garbage"}, {"format": "h265"}])
def test_what_cannot_be_looked_at_is_refused(
    clip: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    def spoil(video: CompressedVideo) -> None:
        for name, value in change.items():
            setattr(video, name, value)

    bad = spoil_video(spoil, clip, tmp_path / "bad.mcap")
    with pytest.raises(ScrubError):
        scrub(bad, tmp_path / "out.mcap", (TrackDetector(),))
    assert not list(tmp_path.glob("out*"))


def test_a_cut_clip_is_refused_and_nothing_is_left(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(clip.read_bytes()[:-4000])
    with pytest.raises(RouteCorruptError):
        scrub(cut, tmp_path / "out.mcap", (TrackDetector(),))
    assert not list(tmp_path.glob("out*"))


def test_every_jurisdiction_but_simulation_is_scrubbed_unless_it_is_named_otherwise() -> None:
    policy = ScrubPolicy()
    assert policy.who_looks("ZZ") == ()
    assert {"tracks", "plates"} <= set(policy.who_looks("DE")) & set(policy.who_looks("nowhere"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("colour = 1", "colour"),
        ("min_face_px = 'big'", "min_face_px"),
        ("min_face_px = -1.0", "min_face_px"),
        ("[detectors]\nDE = ['tracks']", "\\*"),
        ("[detectors]\n'*' = ['ears']", "ears"),
        ("[detectors]\n'*' = ['faces']", "face_model"),
        ("closed = 'DE'", "closed"),
        ("closed = [", "privacy.toml"),
    ],
)
def test_a_bad_policy_is_refused_by_its_key(home: Home, text: str, word: str) -> None:
    home.root.mkdir(parents=True)
    (home.root / "privacy.toml").write_text(text)
    with pytest.raises(LakeConfigError, match=word):
        ScrubPolicy.of(home)


def test_a_policy_is_read_from_the_home(home: Home) -> None:
    assert ScrubPolicy.of(home) == ScrubPolicy()
    home.root.mkdir(parents=True)
    (home.root / "privacy.toml").write_text("closed = ['DE']\n[detectors]\n'*' = ['tracks']\n")
    policy = ScrubPolicy.of(home)
    assert policy.closed == ("DE",)
    assert policy.who_looks("ZZ") == ("tracks",)


def test_detectors_satisfy_the_protocol() -> None:
    detectors: list[Detector] = [TrackDetector(), _Everywhere()]
    assert len({hashlib.sha256(d.name.encode()).digest() for d in detectors}) == 2
