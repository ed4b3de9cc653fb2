"""Telemetry to bytes and back: protobuf classes built from the table at import, no protoc.

One TickRecord carries everything of a tick but its pictures: the ring hands it from the loop to
the recorder, and a route file holds its parts as one message per topic.
"""

import math
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from vehicle.contracts import wire
from vehicle.contracts.advice import AdviceNote
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand, DriverInput, EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.goal import Goal
from vehicle.contracts.plan import STATE_COLUMNS, Plan, Trajectory
from vehicle.contracts.scene import TRACK, BevGrid, LaneLine, Occupancy, Scene, Signal
from vehicle.contracts.telemetry import DeadlineMiss, StageTiming
from vehicle.contracts.tick import Record, Tick
from vehicle.telemetry_schema import MESSAGES, PACKAGE


class TelemetryError(wire.RefusedError, ValueError):
    """Telemetry bytes are not a TickRecord."""


_TYPES: Final = {
    "f64": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "f32": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "i64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "i32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "text": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}


def _field(name: str, number: int, spec: str) -> descriptor_pb2.FieldDescriptorProto:
    base = spec.rstrip("*?")
    field = descriptor_pb2.FieldDescriptorProto(name=name, number=number)
    repeated = spec.endswith("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if base in _TYPES:
        field.type = _TYPES[base]
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{base}"
    return field


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="roadloop/telemetry.proto", package=PACKAGE, syntax="proto3"
    )
    for message_name, columns in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (name, spec) in enumerate(columns.items(), start=1):
            field = _field(name, number, spec)
            if spec.endswith("?") and field.type != field.TYPE_MESSAGE:
                # proto3 marks a scalar that may be absent by a oneof of its own
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{name}")
            message.field.append(field)
    return file


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


CLASSES: Final[dict[str, Any]] = _classes()
"""Message name -> protobuf class."""

TickRecord: Final[Any] = CLASSES["TickRecord"]
"""Everything of one tick but its pictures; what the ring carries and the recorder splits."""


def encode_telemetry(obs: Observation, tick: Tick | None) -> bytes:
    """Return one TickRecord: all of a tick but its pictures.

    Args:
        obs: what the tick was given; pictures are named, not carried.
        tick: what the loop made of it; None for a log that nothing has driven yet.
    """
    return bytes(record_of(obs, tick).SerializeToString())


def parse_telemetry(data: bytes) -> Any:
    """Return the TickRecord message in these bytes.

    Raises:
        TelemetryError: the bytes are not a TickRecord.
    """
    try:
        return TickRecord.FromString(data)
    except DecodeError as error:
        raise TelemetryError(f"{len(data)} bytes are no TickRecord: {error}") from error


def decode_telemetry(data: bytes) -> Record:
    """Return the observation (without pictures) and the tick of a TickRecord.

    Raises:
        TelemetryError: the bytes are not a TickRecord, or break a contract.
    """
    try:
        return record_from(parse_telemetry(data))
    except (ValueError, TypeError) as error:
        raise TelemetryError(f"{len(data)} bytes are no TickRecord: {error}") from error


def record_of(obs: Observation, tick: Tick | None) -> Any:
    """Return the TickRecord message of a tick."""
    message = TickRecord()
    frame = message.frame
    frame.frame_id, frame.mono_ns = obs.frame.frame_id, obs.frame.mono_ns
    frame.cameras.extend(obs.frame.images)
    if obs.ego is not None:
        _copy(message.ego, obs.ego, _EGO)
    if obs.guidance is not None:
        _encode_guidance(message.guidance, obs.guidance)
    if obs.traffic is not None:
        _encode_scene(message.traffic, obs.traffic)
    if obs.driver is not None:
        message.driver.SetInParent()
        _copy(message.driver, obs.driver, _DRIVER)
    if tick is not None:
        if tick.scene is not None:
            _encode_scene(message.scene, tick.scene)
        if tick.plan is not None:
            _encode_plan(message.plan, tick.plan)
        if tick.command is not None:
            _copy(message.command, tick.command, _COMMAND)
            message.command.limited_by.extend(tick.command.limited_by)
        _encode_timing(message.timing, tick)
        for event in tick.events:
            _copy(message.events.add(), event, _EVENT)
        for note in tick.advice:
            _copy(message.advice.add(), note, _ADVICE)
        if tick.signals:
            for name, value in tick.signals.items():
                setattr(message.signals, name, value)
    return message


def record_from(message: Any) -> Record:
    """Return the record of a TickRecord message."""
    frame = FrameSet(frame_id=message.frame.frame_id, mono_ns=message.frame.mono_ns)
    obs = Observation(
        frame=frame,
        ego=EgoState(**_plain(message.ego, _EGO)) if message.HasField("ego") else None,
        guidance=_guidance(message.guidance) if message.HasField("guidance") else None,
        traffic=_scene(message.traffic) if message.HasField("traffic") else None,
        driver=DriverInput(**_plain(message.driver, _DRIVER))
        if message.HasField("driver")
        else None,
    )
    cameras = tuple(message.frame.cameras)
    if not message.HasField("timing"):
        return Record(observation=obs, tick=None, cameras=cameras)
    timing = message.timing
    tick = Tick(
        frame_id=frame.frame_id,
        scene=_scene(message.scene) if message.HasField("scene") else None,
        plan=_plan(message.plan) if message.HasField("plan") else None,
        command=ControlCommand(
            **_plain(message.command, _COMMAND), limited_by=tuple(message.command.limited_by)
        )
        if message.HasField("command")
        else None,
        timing=StageTiming(
            **_plain(timing, _TIMING), stage_us={n.name: int(n.value) for n in timing.stages_us}
        ),
        misses=tuple(DeadlineMiss(**_plain(m, _MISS)) for m in timing.misses),
        events=tuple(TriggerEvent(**_plain(e, _EVENT)) for e in message.events),
        signals={field.name: value for field, value in message.signals.ListFields()},
        advice=tuple(AdviceNote(**_plain(a, _ADVICE)) for a in message.advice),
    )
    return Record(observation=obs, tick=tick, cameras=cameras)


def _scalars(message: str) -> tuple[str, ...]:
    specs = MESSAGES[message]
    return tuple(n for n, s in specs.items() if s.rstrip("?") in _TYPES)


_EGO, _COMMAND, _EVENT, _MISS, _TIMING, _GUIDANCE, _GOAL, _SIGNAL, _DRIVER, _ADVICE = (
    _scalars(name)
    for name in (
        *("Ego", "Command", "Event", "Miss", "Timing", "Guidance", "Goal", "Signal", "Driver"),
        "Advice",
    )
)


def _copy(message: Any, value: Any, names: tuple[str, ...]) -> None:
    for name in names:
        item = getattr(value, name)
        if item is not None:
            setattr(message, name, item)


def _plain(message: Any, names: tuple[str, ...]) -> dict[str, Any]:
    fields = message.DESCRIPTOR.fields_by_name
    return {
        name: None
        if fields[name].has_presence and not message.HasField(name)
        else getattr(message, name)
        for name in names
    }


def _encode_points(message: Any, points_m: np.ndarray) -> None:
    message.x_m.extend(points_m[:, 0].tolist())
    message.y_m.extend(points_m[:, 1].tolist())


def _points(message: Any) -> np.ndarray:
    return np.column_stack([_array(message.x_m), _array(message.y_m)])


def _array(column: Any, dtype: Any = np.float64) -> np.ndarray:
    return np.fromiter(column, dtype=dtype, count=len(column))


def _encode_guidance(message: Any, guidance: Guidance) -> None:
    _encode_points(message, guidance.centreline_m)
    _copy(message, guidance, _GUIDANCE)
    goal = guidance.goal
    if goal is not None:
        _copy(message.goal, goal, _GOAL)
        message.goal.SetInParent()
        message.goal.speed_mps.extend(goal.speed_mps or ())
        message.goal.yaw_rad.extend(goal.yaw_rad or ())
        for region_m in goal.regions_m:
            _encode_points(message.goal.regions.add(), region_m)


def _guidance(message: Any) -> Guidance:
    return Guidance(
        centreline_m=_points(message),
        **_plain(message, _GUIDANCE),
        goal=_goal(message.goal) if message.HasField("goal") else None,
    )


def _goal(message: Any) -> Goal:
    return Goal(
        regions_m=tuple(_points(region) for region in message.regions),
        **_plain(message, _GOAL),
        speed_mps=tuple(message.speed_mps) or None,
        yaw_rad=tuple(message.yaw_rad) or None,
    )


def _encode_scene(message: Any, scene: Scene) -> None:
    message.frame_id, message.mono_ns = scene.frame_id, scene.mono_ns
    message.fresh, message.uncertainty_ratio = scene.fresh, scene.uncertainty_ratio
    tracks = message.tracks
    tracks.SetInParent()
    if len(scene.tracks):
        for name in _TRACK_NAMES:
            getattr(tracks, name).extend(scene.tracks[name].tolist())
    for line in scene.lanes:
        lane = message.lanes.add(kind=line.kind)
        _encode_points(lane, line.points_m)
    if scene.signal is not None:
        _copy(message.signal, scene.signal, _SIGNAL)
    message.embedding.extend(scene.embedding.reshape(-1).tolist())
    if scene.occupancy is not None:
        grid, raster = scene.occupancy.grid, message.occupancy
        _copy(raster, grid, _GRID)
        for name in _LAYERS:
            layer = np.ascontiguousarray(getattr(scene.occupancy, name), dtype=np.uint8)
            setattr(raster, name, layer.tobytes())
        if scene.occupancy.flow is not None:
            raster.flow = np.ascontiguousarray(scene.occupancy.flow, dtype=np.int8).tobytes()


def _scene(message: Any) -> Scene:
    tracks = np.zeros(len(message.tracks.track_id), dtype=TRACK)
    for name in _TRACK_NAMES:
        tracks[name] = _array(getattr(message.tracks, name), TRACK[name])
    return Scene(
        frame_id=message.frame_id,
        mono_ns=message.mono_ns,
        tracks=tracks,
        lanes=tuple(LaneLine(kind=x.kind, points_m=_points(x)) for x in message.lanes),
        occupancy=_occupancy(message.occupancy) if message.HasField("occupancy") else None,
        embedding=_array(message.embedding, np.float32),
        uncertainty_ratio=message.uncertainty_ratio,
        fresh=message.fresh,
        signal=Signal(**_plain(message.signal, _SIGNAL)) if message.HasField("signal") else None,
    )


def _occupancy(message: Any) -> Occupancy:
    grid = BevGrid(**_plain(message, _GRID))
    layers = {
        name: np.frombuffer(getattr(message, name), np.uint8).reshape(grid.nx, grid.ny)
        for name in _LAYERS
    }
    return Occupancy(grid=grid, **layers, flow=_flow(message, grid))


def _flow(message: Any, grid: BevGrid) -> np.ndarray | None:
    if not message.HasField("flow"):
        return None
    steps = np.frombuffer(message.flow, np.int8)
    block = math.isqrt(2 * grid.nx * grid.ny // max(steps.size, 1)) or 1
    return steps.reshape(2, grid.nx // block, grid.ny // block)


_TRACK_NAMES: Final = tuple(MESSAGES["Tracks"])
_GRID: Final = ("x_min_m", "y_min_m", "cell_m", "nx", "ny")
_LAYERS: Final = ("drivable", "lane", "occupied")


def _encode_plan(message: Any, plan: Plan) -> None:
    message.frame_id, message.mono_ns = plan.frame_id, plan.mono_ns
    message.rung, message.proposal = plan.rung, plan.proposal
    for name, value in plan.scores.items():
        message.scores.add(name=name, value=value)
    columns = plan.trajectory.states.T.tolist()
    for name, column in zip(STATE_COLUMNS, columns, strict=True):
        getattr(message, name).extend(column)


def _plan(message: Any) -> Plan:
    states = np.column_stack([_array(getattr(message, name)) for name in STATE_COLUMNS])
    return Plan(
        frame_id=message.frame_id,
        mono_ns=message.mono_ns,
        trajectory=Trajectory(states=states),
        rung=message.rung,
        proposal=message.proposal,
        scores={n.name: n.value for n in message.scores},
    )


def _encode_timing(message: Any, tick: Tick) -> None:
    _copy(message, tick.timing, _TIMING)
    for name, took_us in tick.timing.stage_us.items():
        message.stages_us.add(name=name, value=took_us)
    for miss in tick.misses:
        _copy(message.misses.add(), miss, _MISS)
