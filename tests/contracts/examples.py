"""One example of each contract that travels as bytes; the golden files hold their form."""

from vehicle.config import RIG_R
from vehicle.contracts.advice import Advice, SpeedCap
from vehicle.contracts.bundle import Lineage, ModelBundle, TensorSpec
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.caption import Caption
from vehicle.contracts.clip import ClipManifest, ClipSummary, FileEntry, TriggerEvent
from vehicle.contracts.decision import Actor, Decision, DecisionRecord, Factor
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.explainer import Explainer
from vehicle.contracts.inference import InferenceReply, InferenceRequest, Receipt
from vehicle.contracts.judged import Judged
from vehicle.contracts.release import Release
from vehicle.contracts.report import EvalReport, MetricResult
from vehicle.contracts.sample import DatasetManifest
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.scene import BEV, BEV_BOX, Signal
from vehicle.contracts.telemetry import DeadlineMiss, Health, StageTiming
from vehicle.contracts.uplink import (
    Inbox,
    Part,
    PartDigest,
    SummaryAnswer,
    Upload,
    UploadAsk,
    UploadParts,
)

SHA = "a" * 64
FILE = FileEntry(name="clip.mcap", sha256=SHA, size_bytes=123)
EVENT = TriggerEvent(
    trigger="ttc", campaign_id="default", frame_id=7, mono_ns=700, value=1.2, threshold=1.5
)
CLIP = ClipManifest(
    clip_id=SHA,
    car_id="car-1",
    route_id="r1",
    events=(EVENT,),
    frames=(1, 40),
    start_mono_ns=100,
    end_mono_ns=4000,
    created_utc_ns=1_700_000_000_000_000_000,
    jurisdiction="ZZ",
    model="base@1",
    rig_digest=RIG_R.digest,
    files=(FILE,),
    tags={"source": "simulator"},
)

EXAMPLES = {
    "ego": EgoState(mono_ns=1, x_m=1.5, y_m=-2.0, yaw_rad=0.1, speed_mps=12.0),
    "command": ControlCommand(frame_id=1, mono_ns=1, accel_mps2=-1.0, curvature_1pm=0.01),
    "rig": RIG_R,
    "campaign": DEFAULT_CAMPAIGN,
    "event": EVENT,
    "clip": CLIP,
    "summary": ClipSummary(
        manifest=CLIP,
        thumbnail_jpeg="/9j/2Q==",
        facts={"duration_s": 3.9, "min_ttc_s": 1.2},
        value=3.25,
    ),
    "bundle": ModelBundle(
        name="base",
        version=1,
        odd={"light": "day"},
        rig=RIG_R,
        inputs=(TensorSpec(name="front", shape=(2, 128, 256, 3), dtype="uint8"),),
        outputs=(TensorSpec(name="heat", shape=(1, 2, 50, 32), dtype="float32"),),
        kinds=("car", "pedestrian"),
        bev=BEV,
        bev_box=BEV_BOX,
        precision="uint8-qdq",
        latency_budget_us=5500,
        golden={"heat": 0.02},
        lineage=Lineage(recipe="base", dataset_digest=SHA),
        files=(FILE,),
    ),
    "report": EvalReport(
        kind="open-loop",
        subject_digest=SHA,
        subject="base@1",
        data_digest=SHA,
        metrics=(
            MetricResult(name="recall/car", value=0.5, unit="ratio", n=10, low=0.2, high=0.8),
        ),
    ),
    "inbox": Inbox(
        campaigns=({"payload": "e30=", "payloadType": "text", "signatures": []},), wanted=(SHA,)
    ),
    "summary_answer": SummaryAnswer(want=True),
    "upload_ask": UploadAsk(size_bytes=7, part_bytes=4, parts=(SHA, SHA)),
    "upload": Upload(
        complete=False,
        part_bytes=4,
        parts=(
            Part(number=1, offset=0, size_bytes=4, have=True),
            Part(number=2, offset=4, size_bytes=3, have=False, url="/v1/cars/car-1/parts/2"),
        ),
    ),
    "upload_parts": UploadParts(parts=(PartDigest(number=1, sha256=SHA),)),
    "inference": InferenceRequest(
        request_id="0f" * 16,
        tenant="fleet",
        car_id="car-1",
        workload="adjudication",
        tier="interactive",
        input_utc_ns=1_000,
        freshness_s=0.5,
        deadline_utc_ns=200_000_000,
        data_class="anonymised",
        jurisdiction="DE",
        joules=2.5,
        size_budget_bytes=20_000,
        model="teacher@1",
    ),
    "advice": Advice(
        request_id="0f" * 16,
        context="edge",
        site="junction-7",
        model_set="collective@1",
        input_utc_ns=1_000_000_000,
        valid_until_utc_ns=1_500_000_000,
        tracks=((1.0, 22.5, -3.25, 1.5, 0.5, 0.5, 1.75, 0.0, 1.75, 0.9),),
        caps=(SpeedCap(speed_mps=5.0, x_m=20.0, y_m=0.0, radius_m=15.0),),
        reason="pedestrian behind truck",
    ),
    "receipt": Receipt(
        number=1,
        previous="0" * 64,
        request_id="0f" * 16,
        tenant="fleet",
        jurisdiction="DE",
        data_class="anonymised",
        policy=SHA,
        decision="allowed",
        site="site-1",
        utc_ns=5_000,
        size_bytes=20_000,
    ),
    "inference_reply": InferenceReply(
        request_id="0f" * 16,
        context="on-prem",
        site="site-1",
        model_set="teacher@1",
        model_digest=SHA,
        finished_utc_ns=9_000,
        valid_until_utc_ns=90_000,
        timings_us={"queue": 100, "compute": 3_000},
        joules=0.25,
        receipt=SHA,
    ),
    "judged": Judged(
        what="labels",
        model="teacher@2",
        model_digest=SHA,
        frames=40,
        files=(FileEntry(name=f"{SHA}.npz", sha256=SHA, size_bytes=9),),
    ),
    "decision": DecisionRecord(
        source="red_runner/100/3",
        frame_id=120,
        speed_mps=8.0,
        accel_mps2=-0.5,
        aside_m=0.1,
        limit_mps=13.9,
        lane_width_m=3.5,
        light="red",
        light_m=23.0,
        yield_m=None,
        bend_m=40.0,
        bend_1pm=0.02,
        left_lane_m=0.0,
        right_lane_m=60.0,
        rung="full",
        actors=(
            Actor(
                actor_id=17,
                kind="pedestrian",
                ahead_m=12.0,
                aside_m=1.5,
                along_mps=0.0,
                across_mps=-1.5,
                length_m=0.5,
                width_m=0.5,
                height_m=1.75,
            ),
        ),
        decision=Decision(longitudinal="stop", lateral="keep the lane", demand_mps2=-2.0),
        limited_by=("rss_longitudinal",),
        causes=(Factor(kind="light"), Factor(kind="actor", actor_id=17)),
        jointly=True,
    ),
    "caption": Caption(
        clip_id=SHA,
        frame_id=120,
        model="explainer@1",
        text="because the light is red 23 m ahead therefore stop and keep the lane.",
        explained=True,
        longitudinal="stop",
        lateral="keep the lane",
        factors=("light",),
    ),
    "explainer": Explainer(
        name="explainer",
        version=1,
        layers=5,
        heads=6,
        size=32,
        parameters=2_302_352,
        records=7_226,
        records_digest=SHA,
        recipe="base",
        steps=3_000,
        seed=0,
        graph_sha256=SHA,
    ),
    "release": Release(
        release_counter=2,
        bundle="base@2",
        bundle_digest=SHA,
        rig_digest=RIG_R.digest,
        archive=FileEntry(name="2.tar", sha256=SHA, size_bytes=9),
        report_digests=(SHA,),
    ),
    "dataset": DatasetManifest(
        name="d",
        snapshot=3,
        query="select 1",
        rig=RIG_R,
        frames=1,
        boxes={"car": 2},
        sources=("sim:town=1",),
        files=(FILE,),
    ),
    "signal": Signal(state="red", prob=0.75, distance_m=21.5, source="network"),
    "scenario": Scenario(family="town", town=3, seed=1, light="day", rate_hz=10.0, duration_s=20.0),
    "timing": StageTiming(
        frame_id=1, release_mono_ns=5, stage_us={"plan": 800}, total_us=900, rung="full"
    ),
    "miss": DeadlineMiss(frame_id=1, stage="plan", took_us=1600, budget_us=1500),
    "health": Health(part="recorder", mono_ns=1, ok=True, counters={"clips": 1}),
}
