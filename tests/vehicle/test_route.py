import contextlib
import errno
import io
import resource
from pathlib import Path

import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from mcap.reader import make_reader
from mcap.writer import Writer
from mcap_protobuf.schema import register_schema
from route_parts import RIG, STEP_NS, obs_of, picture, same_scene, scene_of, tick_of

from vehicle.contracts import wire
from vehicle.contracts.frame import FrameSet, MissingCalibrationError, Observation
from vehicle.route import (
    RouteCorruptError,
    RouteMissingError,
    RouteReader,
    RouteWriteError,
    RouteWriter,
)
from vehicle.telemetry_pb import CLASSES, encode_telemetry, parse_telemetry

ABOUT = {"car_id": "a", "route_id": "r", "source": "simulator", "tag.light": "night"}


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("route") / "drive.mcap"
    with RouteWriter(path, RIG, rate_hz=10.0, metadata=ABOUT) as writer:
        for i in range(40):
            writer.write(obs_of(i), tick_of(i))
    return path


def test_a_route_comes_back_as_it_was_driven(route: Path) -> None:
    reader = RouteReader(route)
    assert (reader.rig, reader.rate_hz, reader.metadata) == (RIG, 10.0, ABOUT)
    ticks = list(reader.ticks())
    assert len(ticks) == 40
    for i, (obs, tick) in enumerate(ticks):
        sent, made = obs_of(i), tick_of(i)
        assert tick is not None
        assert tick.plan is not None
        assert made.plan is not None
        assert tick.scene is not None
        assert made.scene is not None
        assert (obs.frame.frame_id, obs.frame.mono_ns, obs.ego) == (i, i * STEP_NS, sent.ego)
        assert tick.plan.digest() == made.plan.digest()
        assert same_scene(tick.scene, made.scene)
        assert tick.events == made.events
        assert set(obs.frame.images) == {"wide", "odd"}
        for name, image in obs.frame.images.items():
            assert image.shape == sent.frame.images[name].shape
            assert np.abs(image.astype(int) - sent.frame.images[name]).mean() < 4.0


def test_records_give_everything_but_the_pictures(route: Path) -> None:
    records = list(RouteReader(route).records())
    assert len(records) == 40
    assert all(r.cameras == ("wide", "odd") and not r.observation.frame.images for r in records)
    assert [r.tick is not None and len(r.tick.events) for r in records][:4] == [2, 0, 0, 2]


def test_a_route_can_be_walked_again(route: Path) -> None:
    reader = RouteReader(route)
    assert len(list(reader.observations())) == len(list(reader.observations())) == 40


def test_two_runs_give_the_same_bytes(route: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mcap"
    with RouteWriter(again, RIG, rate_hz=10.0, metadata=ABOUT) as writer:
        for i in range(40):
            obs = obs_of(i)
            writer.write_record(
                parse_telemetry(encode_telemetry(obs, tick_of(i))), obs.frame.images
            )
    assert again.read_bytes() == route.read_bytes()


def test_a_viewer_finds_video_calibration_and_columns(route: Path) -> None:
    with route.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    schemas = {c.topic: summary.schemas[c.schema_id] for c in summary.channels.values()}
    assert schemas["/camera/wide"].name == "foxglove.CompressedVideo"
    assert schemas["/calibration/odd"].name == "foxglove.CameraCalibration"
    assert schemas["/scene"].name == "roadloop.Scene"
    assert {s.encoding for s in schemas.values()} == {"protobuf"}


def test_a_route_without_cameras_or_ticks_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "bare.mcap"
    with RouteWriter(path, None, rate_hz=20.0, metadata={}) as writer:
        writer.write(obs_of(0, cameras=False))
        writer.write(Observation(frame=FrameSet(frame_id=1, mono_ns=1), traffic=scene_of(1)))
    first, second = RouteReader(path).records()
    assert first.tick is None
    assert first.observation.ego is not None
    assert second.observation.ego is None
    assert second.observation.traffic is not None


def test_a_clip_keeps_the_frame_ids_of_its_drive(tmp_path: Path) -> None:
    path = tmp_path / "clip.mcap"
    with RouteWriter(path, RIG, rate_hz=10.0, metadata={}) as writer:
        for i in range(7_000_000_000, 7_000_000_003):
            writer.write(obs_of(i))
    assert next(o.frame.frame_id for o in RouteReader(path).observations()) == 7_000_000_000


def test_a_file_has_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    writer = RouteWriter(path, RIG, rate_hz=10.0, metadata={})
    writer.write(obs_of(0))
    assert not path.exists()
    writer.close()
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    def drive() -> None:
        with RouteWriter(tmp_path / "a.mcap", RIG, rate_hz=10.0, metadata={}) as writer:
            writer.write(obs_of(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    writer = RouteWriter(tmp_path / "a.mcap", RIG, rate_hz=10.0, metadata={})

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    writer._writer._Writer__stream = Full()

    def drive() -> None:
        for i in range(400):
            writer.write(obs_of(i), tick_of(i))

    with pytest.raises(RouteWriteError, match="free some space"):
        drive()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RouteWriteError, match="cannot write"):
        RouteWriter(tmp_path / "file" / "a.mcap", None, rate_hz=10.0, metadata={})


def test_a_picture_without_calibration_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingCalibrationError, match="'wide'"),
        RouteWriter(tmp_path / "a.mcap", None, rate_hz=10.0, metadata={}) as writer,
    ):
        writer.write(obs_of(0))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    frame = FrameSet(frame_id=0, mono_ns=0, images={"wide": picture(64, 64)})
    with (
        pytest.raises(wire.ContractError, match="'wide'"),
        RouteWriter(tmp_path / "a.mcap", RIG, rate_hz=10.0, metadata={}) as writer,
    ):
        writer.write(Observation(frame=frame))


def test_frames_that_run_backwards_are_refused(tmp_path: Path) -> None:
    writer = RouteWriter(tmp_path / "a.mcap", RIG, rate_hz=10.0, metadata={})
    writer.write(obs_of(5))
    with pytest.raises(wire.ContractError, match="in order"):
        writer.write(obs_of(5))
    writer.abort()


def test_video_without_calibration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.add_metadata("route", {"schema": "route/1", "rate_hz": "10.0", "rig": ""})
        schema = register_schema(writer, CompressedVideo)
        channel = writer.register_channel("/camera/x", "protobuf", schema)
        data = CompressedVideo(data=b"", format="h264").SerializeToString()
        writer.add_message(channel, log_time=0, data=data, publish_time=0)
        frame = writer.register_channel(
            "/frame", "protobuf", register_schema(writer, CLASSES["Frame"])
        )
        data = CLASSES["Frame"](cameras=["x"]).SerializeToString()
        writer.add_message(frame, log_time=0, data=data, publish_time=0)
        writer.finish()
    with pytest.raises(MissingCalibrationError, match="'x' has video"):
        list(RouteReader(path).records())


def test_a_missing_route_is_named(tmp_path: Path) -> None:
    with pytest.raises(RouteMissingError, match="does not exist"):
        RouteReader(tmp_path / "no.mcap")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not a route at all", "is not a route file"),
        (b"\x89MCAP0\r\n", "no route metadata"),
        (b"\x89MCAP0\r\n" + b"\xff" * 64, "no route metadata"),
    ],
)
def test_what_is_no_route_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    for recover in (False, True):
        with pytest.raises(RouteCorruptError, match=says):
            RouteReader(path, recover=recover)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.9999])
def test_a_cut_route_is_named_and_can_be_recovered(
    route: Path, tmp_path: Path, share: float
) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(route.read_bytes()[: int(route.stat().st_size * share)])
    with pytest.raises(RouteCorruptError, match="whole messages"):
        list(RouteReader(cut).records())
    reader = RouteReader(cut, recover=True)
    ticks = list(reader.ticks())
    assert reader.damage is not None
    assert len(ticks) > 40 * share - 12
    assert [o.frame.frame_id for o, _ in ticks] == list(range(len(ticks)))


def test_a_flipped_bit_is_found(route: Path, tmp_path: Path) -> None:
    data = bytearray(route.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.mcap"
    path.write_bytes(data)
    with pytest.raises(RouteCorruptError, match="damaged"):
        list(RouteReader(path).records())


def test_whatever_is_damaged_the_refusal_has_a_name(route: Path, tmp_path: Path) -> None:
    whole, rng = route.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "damaged.mcap"
    for _ in range(40):
        data = bytearray(whole[: rng.integers(9, len(whole))])
        for at in rng.integers(0, min(len(data), 4000), 3):
            data[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(data)
        with pytest.raises(RouteCorruptError):
            list(RouteReader(path).records())
        with contextlib.suppress(RouteCorruptError):
            list(RouteReader(path, recover=True).records())


def test_a_long_route_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.mcap"
    with RouteWriter(path, None, rate_hz=10.0, metadata={}) as writer:
        for i in range(600):
            writer.write(obs_of(i, cameras=False), tick_of(i))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in RouteReader(path).records()) == 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
