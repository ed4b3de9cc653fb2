"""The import table of docs/architecture: who may import whom, held over the syntax tree."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vehicle", "fleet", "datalake", "training", "sim")
COMMAND = {"typer", "rich"}
CAR = {
    *("numpy", "onnxruntime", "cv2", "numba", "mcap", "mcap_protobuf", "foxglove_schemas_protobuf"),
    *("google", "av", "zstandard", "httpx", "tuf", "securesystemslib", "cryptography"),
}
LAKE = {"numpy", "pyarrow", "duckdb", "mcap", "av", "cv2", "obstore", "h3", "zstandard"}
FLEET = {
    *("starlette", "uvicorn", "boto3", "botocore", "httpx", "grpc", "google", "cbor2", "sgp4"),
    *("cedarpy", "google_crc32c", "zstandard"),
    *("tuf", "securesystemslib", "cryptography", "numpy"),
}
TRAIN = {"numpy", "torch", "onnx", "onnxruntime"}
SIM = {"numpy", "numba", "cv2"}
PEERS = {
    *("numpy", "commonroad", "commonroad_dc", "commonroad_rp", "commonroad_route_planner"),
    "frenetix",
}
EVERYTHING = CAR | LAKE | FLEET | TRAIN | SIM | COMMAND | {"ray"}

# module prefix -> (house prefixes it may import, third-party packages); the longest prefix rules.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "vehicle.contracts": ({"vehicle.contracts"}, {"numpy"}),
    "vehicle": ({"vehicle"}, CAR),
    "vehicle.importers": ({"vehicle"}, CAR | {"pyarrow"}),  # docs/decisions/0003
    "vehicle.cli": ({"vehicle"}, CAR | COMMAND),
    "vehicle.drive_options": (set(), COMMAND),
    "vehicle.bookmark_verb": ({"vehicle"}, CAR | COMMAND),
    "vehicle.wrap_verb": ({"vehicle"}, CAR | COMMAND),
    "vehicle.uplink_verb": ({"vehicle"}, CAR | COMMAND),
    "vehicle.clip_verb": ({"vehicle"}, CAR | COMMAND),
    "vehicle.engine_openvino": ({"vehicle"}, CAR | {"openvino"}),  # the extra [openvino]
    "datalake": (
        {
            *("datalake", "vehicle.contracts", "vehicle.geometry", "vehicle.route"),
            *("vehicle.video", "vehicle.mcap_records"),
        },
        LAKE,
    ),
    "datalake.cli": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.picture": (
        {"datalake", "vehicle.contracts", "vehicle.embed"},
        LAKE,
    ),  # decisions/0014
    "datalake.stills": (
        {"datalake", "vehicle.contracts", "vehicle.route", "vehicle.video", "vehicle.mcap_records"},
        LAKE | {"foxglove_schemas_protobuf", "google"},
    ),
    "datalake.scrub": (
        {"datalake", "vehicle"},  # it writes clips as the car does
        LAKE | {"foxglove_schemas_protobuf", "google"},
    ),
    "datalake.quarantine": (
        {"datalake", "vehicle.contracts", "vehicle.route", "vehicle.salvage"},  # what is whole
        LAKE,
    ),
    "datalake.known": ({"datalake", "vehicle.contracts", "vehicle.novelty"}, LAKE),  # one measure
    "datalake.faiss_index": ({"datalake", "vehicle.contracts"}, LAKE | {"faiss"}),  # an extra
    "datalake.answers": ({"datalake", "vehicle.contracts"}, LAKE | {"rich"}),
    "datalake.verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.lake_verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.mine_verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.dataset_verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.similar_verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.caption_verbs": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "datalake.captions": (
        {
            *("datalake", "vehicle.contracts", "vehicle.route", "vehicle.config"),
            "vehicle.decisions",  # one way to tell what was decided
        },
        LAKE,
    ),
    "datalake.privacy_verbs": (
        {"datalake", "vehicle.contracts", "vehicle.clock"},
        LAKE | COMMAND,
    ),
    "datalake.scenario_verb": ({"datalake", "vehicle.contracts"}, LAKE | COMMAND),
    "fleet": ({"fleet", "vehicle.contracts", "vehicle.engine", "vehicle.bundles"}, FLEET),
    "fleet.cli": ({"fleet", "vehicle.contracts", "vehicle.bundles"}, FLEET | COMMAND),
    "fleet.campaign_verbs": ({"fleet", "vehicle.contracts"}, FLEET | COMMAND),
    "fleet.inference": (
        {"fleet", "vehicle.contracts", "vehicle.engine", "vehicle.bundles", "vehicle.clock"},
        FLEET | {"onnxruntime"},
    ),
    "fleet.inference.explain_verbs": (
        {"fleet", "vehicle.contracts", "vehicle.clock"},
        FLEET | COMMAND,
    ),
    "fleet.inference.verbs": ({"fleet", "vehicle.contracts", "vehicle.clock"}, FLEET | COMMAND),
    "fleet.inference.options": (set(), COMMAND),
    "fleet.inference.load_verb": ({"fleet", "vehicle.contracts", "vehicle.clock"}, FLEET | COMMAND),
    "fleet.inference.router_verbs": (
        {"fleet", "vehicle.contracts", "vehicle.clock"},
        FLEET | COMMAND,
    ),
    "fleet.inference.hyperscale": (
        {"fleet", "vehicle.contracts", "vehicle.engine", "vehicle.bundles", "vehicle.clock"},
        FLEET | {"ray"},
    ),
    "fleet.inference.hyperscale_verbs": (
        {"fleet", "vehicle.contracts", "vehicle.bundles"},
        FLEET | COMMAND,
    ),
    "fleet.inference.teacher": (
        {"fleet", "vehicle.contracts", "vehicle.clock", "vehicle.decode"},  # boxes as the car's
        FLEET,
    ),
    "fleet.inference.batch": (
        {"fleet", "vehicle.contracts", "vehicle.engine", "vehicle.bundles", "vehicle.clock"},
        FLEET | {"ray", "pyarrow"},
    ),
    "fleet.inference.pictures": ({"fleet", "vehicle.contracts"}, FLEET | {"cv2"}),
    "fleet.inference.seer": (
        {
            *("fleet", "vehicle.contracts", "vehicle.bundles", "vehicle.config"),
            *("vehicle.geometry", "vehicle.perception", "vehicle.route"),  # it looks as the car
        },
        {"numpy"},
    ),
    "fleet.inference.batch_verbs": (
        {"fleet", "vehicle.contracts", "vehicle.clock", "vehicle.bundles"},
        FLEET | COMMAND,
    ),
    "fleet.inference.loadgen_mlperf": ({"fleet", "vehicle.contracts"}, {"mlperf_loadgen"}),
    "fleet.orbit": ({"fleet", "vehicle.contracts", "vehicle.clock"}, FLEET),
    "fleet.orbit.verbs": ({"fleet", "vehicle.contracts", "vehicle.clock"}, FLEET | COMMAND),
    "fleet.orbit.options": ({"fleet"}, FLEET | COMMAND),
    "fleet.orbit.question_verbs": ({"fleet", "vehicle.contracts"}, FLEET | COMMAND),
    "training": (
        {
            *("training", "vehicle.contracts", "vehicle.geometry", "vehicle.preprocess"),
            *("vehicle.config", "datalake.dataset"),
        },
        TRAIN | {"rich"},
    ),
    "training.distributed": ({"training", "vehicle.contracts"}, TRAIN | {"ray", "rich"}),
    "training.cli": ({"training", "vehicle.contracts"}, TRAIN | COMMAND),
    "training.explain_verb": ({"training", "vehicle.contracts"}, TRAIN | COMMAND),
    "training.pictures": ({"training", "vehicle"}, TRAIN | {"cv2"}),  # drawn as the car draws
    "sim": ({"sim", "vehicle"}, SIM),
    "sim.cli": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.rivals.cluster": ({"sim", "vehicle"}, SIM | {"ray"}),  # docs/decisions/0006
    "sim.loop.children": ({"sim", "vehicle"}, SIM | {"rich"}),
    "sim.sense.generate": ({"sim", "vehicle"}, SIM | {"rich"}),
    "sim.rivals.contest": ({"sim", "vehicle"}, SIM | {"rich"}),
    "sim.gym": ({"sim", "vehicle"}, SIM | {"gymnasium"}),
    "sim.recorded.logged_tables": ({"sim", "vehicle"}, SIM | {"pyarrow"}),  # docs/decisions/0004
    "sim.asam.export_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.asam.opendrive_export": ({"sim", "vehicle"}, SIM | {"scenariogeneration"}),
    "sim.asam.openscenario": ({"sim", "vehicle"}, SIM | {"scenariogeneration"}),
    "sim.recorded.logged_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.run.live_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.why.decisions_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.net.link_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.problems.commonroad_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.problems.commonroad_peers": (set(), PEERS),  # docs/decisions/0012: run by another Python
    "sim.loop.loop": (set(PACKAGES), EVERYTHING),
    "sim.loop.stages": (set(PACKAGES), EVERYTHING),
    "sim.loop.report": (set(PACKAGES), EVERYTHING),
    "sim.benches.bench": (set(PACKAGES), EVERYTHING),
    "sim.benches.bench_clip": ({"sim", "vehicle"}, CAR),  # opens clips as others would
    "sim.benches.bench_codecs": ({"sim", "vehicle"}, CAR),
    "sim.benches.bench_engine": ({"sim", "vehicle", "training"}, SIM),  # makes a float twin
    "sim.why.bench_explain": ({"sim", "vehicle", "fleet", "training"}, SIM),
    "sim.benches.bench_lake": ({"sim", "vehicle", "datalake"}, SIM | {"duckdb", "pyarrow"}),
    "sim.benches.bench_scrub": ({"sim", "vehicle", "datalake"}, SIM),
    "sim.benches.bench_serving": ({"sim", "vehicle", "fleet"}, SIM | {"grpc", "httpx"}),
    "sim.benches.bench_flood": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.benches.serving_peers": (
        set(),
        {"numpy", "tritonclient"},
    ),  # run by the Python of .venv-interop
    "sim.benches.bench_similar": ({"sim", "vehicle", "datalake"}, SIM),
    "sim.benches.bench_hyperscale": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.choice.bench_router": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.benches.bench_soak": (set(PACKAGES), EVERYTHING),
    "sim.tier.bench_tiers": (set(PACKAGES), EVERYTHING),
    "sim.tier.tiers": ({"sim", "vehicle", "fleet"}, SIM),  # the sites it measures
    "sim.tier.tier_site": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.tier.tier_works": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.tier.tier_failover": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.tier.tier_batch": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.tier.tier_talk": ({"sim", "vehicle", "fleet", "training"}, SIM),  # makes an explainer
    "sim.tier.tier_ladder": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.choice.router_play": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.choice.router_quality": ({"sim", "vehicle", "training"}, SIM | {"onnx", "onnxruntime"}),
    "sim.choice.router_sites": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.choice.router_trace": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.benches.uplink_chain": (
        {"sim", "vehicle", "fleet"},
        SIM,
    ),  # the home it kills and starts again
    "sim.relay.orbit": ({"sim", "vehicle", "fleet"}, SIM),  # the relay that it starts and kills
    "sim.relay.orbit_cargo": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.relay.orbit_relay": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.relay.orbit_script": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.relay.orbit_time": ({"sim", "vehicle", "fleet"}, SIM),
    "sim.relay.orbit_verb": ({"sim", "vehicle"}, SIM | COMMAND),
    "sim.benches.uplink_count": ({"sim", "vehicle", "datalake"}, SIM),
    "roadloop": (set(PACKAGES), COMMAND),
}


def covers(prefix: str, module: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def imports_of(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
            if node.level:
                found.append((node.lineno, "a relative import"))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found += [(node.lineno, a.value) for a in node.args if isinstance(a, ast.Constant)]
    return found


def violations(module: str, source: str) -> list[str]:
    """Return one line per import of `source` that the table does not allow `module`."""
    row = max((p for p in TABLE if covers(p, module)), key=len)
    house, third_party = TABLE[row]
    bad = []
    for line, name in imports_of(ast.parse(source)):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if top in PACKAGES:
            allowed = any(covers(p, name) for p in house)
        else:
            allowed = top in third_party
        if not allowed:
            bad.append(f"{module}:{line} imports {name}, which row {row!r} does not allow")
    return bad


def modules() -> list[tuple[str, Path]]:
    paths = [ROOT / "roadloop.py", *(p for k in PACKAGES for p in (ROOT / k).rglob("*.py"))]
    return [(".".join(p.relative_to(ROOT).with_suffix("").parts), p) for p in sorted(paths)]


def test_every_import_is_in_the_table() -> None:
    bad = [v for module, path in modules() for v in violations(module, path.read_text())]
    assert bad == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vehicle.planner", "import torch"),
        ("vehicle.drive", "def f():\n    from datalake.lake import Lake"),
        ("vehicle.contracts.clip", "import cv2"),
        ("vehicle.contracts.clip", "from vehicle.route import RouteReader"),
        ("fleet.gateway", "import duckdb"),
        ("training.train", "from sim.town.world import make_town"),
        ("training.train", "import ray"),
        ("datalake.mine", "from vehicle.planner import Planner"),
        ("sim.look.render", "from training.model import NetR"),
        ("vehicle.engine", "from . import budget"),
    ],
)
def test_planted_violation_is_caught(module: str, source: str) -> None:
    assert violations(module, source)


def test_init_files_are_empty() -> None:
    full = [str(p) for k in PACKAGES for p in (ROOT / k).rglob("__init__.py") if p.read_text()]
    assert full == []


def test_nothing_new_stands_at_the_top_of_the_tree() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")}
    known = {*PACKAGES, "tests", "docs", "build", "roadloop.egg-info", "__pycache__"}
    assert folders <= known


def test_files_stay_under_four_hundred_lines() -> None:
    long = {m: n for m, p in modules() if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_the_loop_fits_one_screen() -> None:
    drive = ROOT / "vehicle" / "drive.py"
    assert len(drive.read_text().splitlines()) < 80
