import json
from collections.abc import Callable
from pathlib import Path

import fakes_logs
import numpy as np
import pytest
from fakes_logs import BRAKE_MPS2, TURN_RADPS, Drive
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import roadloop
from vehicle.contracts.frame import MissingCalibrationError, Observation
from vehicle.importers import geodesy
from vehicle.importers.kinds import KINDS, UnknownKindError, find_logs, import_log, open_log
from vehicle.importers.layout import LogDamagedError, LogLayoutError
from vehicle.importers.motion import Mounting, estimate_mounting, fit, motion_from_poses
from vehicle.route import RouteReader
from vehicle.sources import RouteSource

MOVING_LOGS: dict[str, Callable[[Path], Path]] = {
    "comma2k19": fakes_logs.comma2k19,
    "boreas": fakes_logs.boreas,
    "kitti": lambda p: fakes_logs.kitti(p, frames=81),
    "nuscenes": fakes_logs.nuscenes,
}


@pytest.mark.parametrize("kind", MOVING_LOGS)
def test_the_motion_is_what_the_car_did(kind: str, tmp_path: Path) -> None:
    source = open_log(kind, MOVING_LOGS[kind](tmp_path / "log"))
    egos = [obs.ego for obs in source]
    truth = Drive(rate_hz=source.rate_hz)
    assert len(egos) == source.ticks
    for i, ego in enumerate(egos):
        assert ego is not None
        assert ego.mono_ns == pytest.approx(truth.t_s[i] * 1e9, abs=1e4)
        assert ego.speed_mps == pytest.approx(truth.speed_mps[i], abs=0.03)
        assert ego.accel_mps2 == pytest.approx(-BRAKE_MPS2, abs=0.15)
        assert ego.yaw_rate_radps == pytest.approx(TURN_RADPS, abs=0.005)
        assert ego.curvature_1pm == pytest.approx(TURN_RADPS / truth.speed_mps[i], abs=0.001)
    first, last = egos[0], egos[-1]
    assert first is not None
    assert last is not None
    gone = np.hypot(last.x_m - first.x_m, last.y_m - first.y_m)
    assert gone == pytest.approx(np.hypot(*(truth.xy_m[len(egos) - 1])), abs=0.1)


@pytest.mark.parametrize("kind", MOVING_LOGS)
def test_the_path_the_driver_took_is_the_guidance(kind: str, tmp_path: Path) -> None:
    observations = list(open_log(kind, MOVING_LOGS[kind](tmp_path / "log")))
    obs = observations[len(observations) // 4]
    assert obs.guidance is not None
    assert obs.guidance.source == "log"
    line = obs.guidance.centreline_m
    assert line[0, 0] == pytest.approx(-5.0, abs=0.3)
    assert np.hypot(*np.diff(line, axis=0).T) == pytest.approx(1.0, abs=0.02)
    assert line[5] == pytest.approx([0.0, 0.0], abs=0.15)
    assert line[20, 1] > 0.3, "the drive turns left"


def test_a_comma_minute_without_imu_takes_yaw_rate_from_the_pose(tmp_path: Path) -> None:
    log = fakes_logs.comma2k19(tmp_path, imu=False)
    rates = [o.ego.yaw_rate_radps for o in open_log("comma2k19", log) if o.ego]
    assert np.mean(rates) == pytest.approx(TURN_RADPS, abs=0.002)


def test_a_segment_is_found_below_the_folder_named(tmp_path: Path) -> None:
    fakes_logs.comma2k19(tmp_path / "Example_1" / "car_2018" / "40")
    source = open_log("comma2k19", tmp_path)
    assert source.metadata["route_id"] == "car_2018-40"
    assert source.metadata["start_utc_ns"] == "1533226488000000000"


def test_stereo_pictures_keep_their_baseline(tmp_path: Path) -> None:
    source = open_log("kitti", fakes_logs.kitti(tmp_path))
    assert source.rig is not None
    left, right = source.rig.cameras
    assert left.matrix[:3, 3] == pytest.approx([1.08, 0.0, 1.65])
    assert right.matrix[:3, 3] == pytest.approx([1.08, -0.54, 1.65])
    obs = list(source)[7]
    assert obs.frame.images["left"].shape == (41, 65, 3)
    assert int(obs.frame.images["right"].mean()) == 70


def test_kitti_in_its_published_layout_uses_the_colour_pair(tmp_path: Path) -> None:
    folder = fakes_logs.kitti(tmp_path / "sequences" / "07", named=True)
    (tmp_path / "poses").mkdir()
    (folder / "poses.txt").rename(tmp_path / "poses" / "07.txt")
    np.savetxt(folder / "times.txt", np.arange(12) * 0.1037)
    observations = list(open_log("kitti", folder))
    assert observations[-1].frame.mono_ns == 1_140_700_000
    assert observations[0].ego is not None


def test_kitti_without_poses_still_has_pictures(tmp_path: Path) -> None:
    folder = fakes_logs.kitti(tmp_path)
    (folder / "poses.txt").unlink()
    observations = list(open_log("kitti", folder))
    assert len(observations) == 12
    assert all(o.ego is None and o.guidance is None for o in observations)


def test_road_users_of_a_scene_come_in_the_ego_frame(tmp_path: Path) -> None:
    observations = list(open_log("nuscenes", fakes_logs.nuscenes(tmp_path)))
    early, late = observations[0].traffic, observations[-1].traffic
    assert early is not None
    assert late is not None
    assert [int(i) for i in early.tracks["track_id"]] == [2]
    parked, walker = early.tracks[0], late.tracks[0]
    assert [float(parked["x_m"]), float(parked["y_m"])] == pytest.approx([0.0, 4.0], abs=0.05)
    assert abs(float(parked["vx_mps"])) < 0.01
    assert (int(walker["track_id"]), int(walker["kind"])) == (1, 1)
    assert np.hypot(walker["vx_mps"], walker["vy_mps"]) == pytest.approx(1.0, abs=0.02)
    assert {line.kind for line in early.lanes} == {"centre"}


def test_a_plain_video_is_one_camera_without_motion(tmp_path: Path) -> None:
    source = open_log("video", fakes_logs.video(tmp_path / "a.mp4"), hfov_deg=90.0)
    observations = list(source)
    assert source.rig is not None
    assert source.rig.cameras[0].fx_px == pytest.approx(32.0)
    assert source.rate_hz == 25.0
    assert [o.frame.mono_ns for o in observations][:3] == [0, 40_000_000, 80_000_000]
    assert len(observations) == 10
    assert observations[0].ego is None


def test_a_video_without_field_of_view_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingCalibrationError, match="--hfov-deg"):
        open_log("video", fakes_logs.video(tmp_path / "a.mp4"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_something_else_is_refused_with_what_is_missing(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(LogLayoutError, match=f"import {kind}"):
        open_log(kind, tmp_path, hfov_deg=60.0)
    with pytest.raises(LogLayoutError, match="not"):
        open_log(kind, tmp_path / "absent", hfov_deg=60.0)


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def test_every_missing_file_is_listed(tmp_path: Path) -> None:
    log = fakes_logs.comma2k19(tmp_path)
    drop(log, "global_pose/frame_positions")
    drop(log, "processed_log/CAN/speed/value")
    with pytest.raises(LogLayoutError, match=r"frame_positions, processed_log/CAN/speed/value"):
        open_log("comma2k19", log)


def test_pictures_without_calibration_are_refused(tmp_path: Path) -> None:
    log = fakes_logs.kitti(tmp_path)
    drop(log, "calib.txt")
    with pytest.raises(MissingCalibrationError, match=r"calib\.txt"):
        open_log("kitti", log)


DAMAGE: dict[str, tuple[str, str, bytes]] = {
    "pickle instead of numbers": (
        "comma2k19",
        "global_pose/frame_times",
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
    ),
    "cut array": ("comma2k19", "processed_log/CAN/speed/value", b"\x93NUMPY\x01\x00v\x00"),
    "words in a table": (
        "boreas",
        "lidar_poses.csv",
        b"GPSTime,easting,northing,roll,pitch,heading\n1,2,3,4,5,six\n",
    ),
    "no rows": ("boreas", "lidar_poses.csv", b"GPSTime,easting,northing,roll,pitch,heading\n"),
    "poses missing": ("kitti", "poses.txt", b"1 0 0 0 0 1 0 0 0 0 1 0\n"),
    "words in poses": ("kitti", "poses.txt", b"a b c\n"),
    "short calibration": ("kitti", "calib.txt", b"1 2 3\n4 5 6\n"),
    "not a picture": ("kitti", "image_r/000003.png", b"nonsense"),
    "not parquet": ("nuscenes", "tracks.parquet", b"PAR1nothing"),
    "not json": ("nuscenes", "meta.json", b"{"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_and_leaves_no_route(case: str, tmp_path: Path) -> None:
    kind, name, content = DAMAGE[case]
    log = {**MOVING_LOGS, "kitti": fakes_logs.kitti}[kind](tmp_path / "log")
    (log / name).write_bytes(content)
    with pytest.raises((LogDamagedError, LogLayoutError), match=Path(name).name):
        import_log(kind, log, tmp_path / "out" / "a.mcap")
    assert not list(tmp_path.glob("out/*"))


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video" * 100)
    with pytest.raises(LogDamagedError, match="is not a video"):
        open_log("video", tmp_path / "a.mp4", hfov_deg=60.0)


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownKindError, match="comma2k19, boreas"):
        open_log("waymo", tmp_path)


def test_the_command_writes_a_route_and_says_what_came_of_it(tmp_path: Path) -> None:
    log, out = fakes_logs.kitti(tmp_path / "log"), tmp_path / "a.mcap"
    done = CliRunner().invoke(roadloop.app, ["import", "kitti", str(log), "-o", str(out), "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (report["ticks"], report["cameras"]) == (12, ["left", "right"])
    source = RouteSource(out)
    assert source.metadata["source"] == "kitti"
    assert len(list(source)) == 12


def test_imported_twice_the_route_has_the_same_bytes(tmp_path: Path) -> None:
    log = fakes_logs.nuscenes(tmp_path / "log")
    reports = [import_log("nuscenes", log, tmp_path / f"{i}.mcap") for i in range(2)]
    assert reports[0].sha256 == reports[1].sha256


def test_logs_below_a_folder_are_found_by_their_files(tmp_path: Path) -> None:
    fakes_logs.boreas(tmp_path / "drive")
    fakes_logs.kitti(tmp_path / "seq" / "07")
    fakes_logs.nuscenes(tmp_path / "scenes" / "scene-1")
    assert [(kind, path.name) for kind, path in find_logs(tmp_path)] == [
        ("boreas", "drive"),
        ("kitti", "07"),
        ("nuscenes", "scene-1"),
    ]


def test_noise_on_poses_does_not_look_like_braking() -> None:
    drive = Drive(seconds=8.0)
    noise = np.random.default_rng(0).normal(scale=0.02, size=drive.xy_m.shape)
    motion = motion_from_poses(drive.t_s, drive.xy_m + noise, drive.yaw_rad, mounting=Mounting())
    assert motion.accel_mps2.min() > -2.0
    raw = np.gradient(np.gradient(drive.xy_m[:, 0] + noise[:, 0], drive.t_s), drive.t_s)
    assert raw.min() < -3.0, "plain differences would have fired"


def test_a_pose_out_of_order_does_not_look_like_braking() -> None:
    drive = Drive(seconds=8.0)
    late, swapped = drive.xy_m.copy(), drive.xy_m.copy()
    late[40:] += drive.xy_m[1] - drive.xy_m[0]
    swapped[-1] = swapped[-3]
    for track in (late, swapped):
        motion = motion_from_poses(drive.t_s, track, drive.yaw_rad, mounting=Mounting())
        assert np.abs(motion.accel_mps2 + BRAKE_MPS2).max() < 0.5


def test_a_drive_that_turns_shows_how_its_sensor_is_mounted() -> None:
    t_s = np.arange(0, 60, 0.1)
    yaw = 0.6 * np.sin(0.5 * t_s)
    velocity = 9.0 * np.column_stack([np.cos(yaw), np.sin(yaw)])
    heading = np.column_stack([np.cos(yaw), np.sin(yaw)])
    xy = np.cumsum(velocity, axis=0) * 0.1 + 1.4 * heading
    mounting = estimate_mounting(t_s, xy, yaw - 0.8, lever_m=0.0)
    assert mounting.yaw_rad == pytest.approx(-0.8, abs=0.03)
    assert mounting.lever_m == pytest.approx(1.4, abs=0.5)


@given(st.floats(-3, 3), st.floats(-20, 20), st.floats(-1e6, 1e6), st.integers(5, 60))
def test_a_local_fit_is_exact_on_what_it_fits(a: float, b: float, c: float, n: int) -> None:
    t_s = np.cumsum(np.random.default_rng(n).uniform(0.05, 0.15, n))
    value, slope = fit(t_s, a * t_s**2 + b * t_s + c, window_s=0.6, degree=2)
    assert np.allclose(value, a * t_s**2 + b * t_s + c, atol=1e-5)
    assert np.allclose(slope, 2 * a * t_s + b, atol=1e-4)


@given(st.floats(-80, 80), st.floats(-179, 179), st.floats(-100, 4000))
def test_degrees_survive_the_way_through_ecef(lat: float, lon: float, height: float) -> None:
    place = np.array([lat, lon])
    back = geodesy.latlon_from_ecef(geodesy.ecef_from_latlon(place, np.array(height)))
    assert np.allclose(back, place, atol=1e-8)


def test_utm_agrees_with_ecef_distances() -> None:
    east = np.array([623_426.0, 623_526.0])
    north = np.full(2, 4_848_821.0)
    place = geodesy.latlon_from_utm(east, north, 17)
    assert place[0] == pytest.approx([43.7821, -79.4661], abs=1e-3)
    apart = np.linalg.norm(np.diff(geodesy.ecef_from_latlon(place, np.zeros(2)), axis=0))
    assert apart == pytest.approx(100.0, abs=0.05)


def egos(source: object) -> list[Observation]:
    return [o for o in source if o.ego is not None]  # type: ignore[attr-defined]


def test_the_real_minute_s_wheel_speed_agrees_with_its_pose(data_folder: Path) -> None:
    folder = data_folder / "comma2k19-example"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    ticks = egos(open_log("comma2k19", folder))
    xy = np.array([(o.ego.x_m, o.ego.y_m) for o in ticks if o.ego])
    speed = np.array([o.ego.speed_mps for o in ticks if o.ego])
    accel = np.array([o.ego.accel_mps2 for o in ticks if o.ego])
    from_pose = np.hypot(*np.diff(xy, axis=0).T) / 0.05
    assert len(ticks) == 1200
    assert np.abs(from_pose - speed[1:]).mean() < 0.2
    assert -3.0 < accel.min() < -1.0, "the minute holds real, gentle braking"


def test_the_real_logs_fire_no_false_braking(data_folder: Path) -> None:
    logs = [(k, p) for k, p in find_logs(data_folder) if k in ("boreas", "kitti", "nuscenes")]
    if not logs:
        pytest.skip(f"no logs below {data_folder}")
    for kind, path in logs:
        if kind == "kitti":
            continue  # decodes pictures; its motion is held by the test below
        accel = [o.ego.accel_mps2 for o in egos(open_log(kind, path)) if o.ego]
        assert min(accel) > -3.4, f"{kind} {path.name}"


def test_the_real_stereo_pair_imports_with_its_motion(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "kitti-odom-1"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    report = import_log("kitti", folder, tmp_path / "k.mcap")
    reader = RouteReader(tmp_path / "k.mcap")
    assert report.ticks == 51
    assert reader.rig is not None
    assert reader.rig.cameras[1].matrix[1, 3] == pytest.approx(-0.537, abs=0.001)
    speeds = [r.observation.ego.speed_mps for r in reader.records() if r.observation.ego]
    assert speeds == pytest.approx([12.0] * 51, abs=0.2)
