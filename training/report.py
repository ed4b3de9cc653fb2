"""The report page of a bundle: every figure by kind, light and weather, and pictures to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from training import meters
from training.calibrate import BINS, expected_calibration_error
from training.evaluate import counted, open_bundle
from training.frames import Frames, load_frames
from training.heads import LIGHTS
from training.judge import answers, half_answers, judged_frames, matched
from training.metrics import OPERATING_PROB, Matches
from training.pictures import Sight, sight_of, write_grid
from training.weights import WEIGHTS, read_arrays
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.report import MetricResult

PICTURES_EACH: Final = 9
TOLD_WRONG: Final = 0.7
_HEADS: Final = (
    *("iou/drivable", "iou/lane", "iou/occupied", "lanes/own/error", "lanes/own/recall"),
    *("lanes/own/precision", "light/accuracy", "light/shown/accuracy", "light/distance/error"),
    *("flow/moving/error", "flow/standing/error", "velocity/moving/error"),
    *("ego_motion/speed/error", "ego_motion/yaw_rate/error", "uncertainty/over_half"),
)
_BY_CONDITION: Final = (
    *("ap/car/near", "ap/car", "ap/pedestrian/near", "ap/pedestrian", "recall/pedestrian/near"),
    *("iou/drivable", "lanes/own/error", "light/shown/accuracy", "velocity/moving/error"),
    "uncertainty/over_half",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One dataset judged."""

    name: str
    inside: bool
    frames: int
    matches: dict[str, Matches]
    heads: meters.Meters
    sights: list[Sight]

    def metrics(self) -> dict[str, MetricResult]:
        found = [*meters.of_detections(self.matches), *self.heads.results()]
        return {m.name: m for m in found}


def write_report(
    bundle_folder: Path,
    datasets: Sequence[Path],
    out: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write `index.md`, `successes.png` and `failures.png` into `out`; return the page.

    Datasets whose weather or light lies outside the bundle's ODD are shown, and counted apart.

    Raises:
        BundleUnreadableError: no bundle, or tampered; and all errors of `load_frames`.
    """
    bundle, graph = open_bundle(bundle_folder)
    parts, extras = [], ""
    for done, folder in enumerate(datasets):
        data = load_frames(folder, bundle.rig)
        parts.append(_judge(graph, data, bundle))
        if not extras and "memory" in {i.name for i in graph.get_inputs()}:
            extras = _extras(bundle_folder, graph, data, bundle.kinds)
        progress(done + 1, len(datasets))
    inside = [p for p in parts if p.inside] or parts
    whole, heads = {kind: Matches([], []) for kind in bundle.kinds}, meters.Meters()
    for part in inside:
        heads.merge(part.heads)
        for kind, m in part.matches.items():
            whole[kind].merge(m)
    digest = wire.digest((bundle_folder / "bundle.json").read_bytes())
    page = [
        f"# Perception of {bundle.tag}",
        f"Bundle `{digest[:16]}`, trained by recipe `{bundle.lineage.recipe}`, "
        f"{bundle.lineage.steps} steps. Made by `roadloop training report`.",
        "A detection is right within 2 m of the label; near is within 30 m; labels under 6 visible "
        "pixels count nothing. Brackets: 95 % (average precision: bootstrap over frames; shares: "
        "Wilson; means: normal).",
        f"## All {sum(p.frames for p in inside)} frames inside the ODD {bundle.odd}",
        _kinds_table(whole),
        "## The other heads",
        _heads_table({m.name: m for m in heads.results()}),
        _lights_table(heads.light),
        "## By light and weather",
        _conditions(parts),
        "## Do scores mean what they say?",
        _scores_table(whole, bundle_folder, bundle),
        extras,
        *_pictures(inside, out),
    ]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.md"
    path.write_text("\n\n".join(part for part in page if part) + "\n")
    return path


def _judge(graph: onnxruntime.InferenceSession, data: Frames, bundle: ModelBundle) -> _Part:
    sights: list[Sight] = []

    def look(
        i: int, found: dict[str, np.ndarray], wanted: dict[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        sights.append(sight_of(data, i, found, wanted))

    matches, heads = counted(graph, data, bundle.kinds, look=look)
    judged = sorted((s for s in sights if np.isfinite(s.score)), key=lambda s: s.score)
    kept = [*judged[:PICTURES_EACH], *judged[-PICTURES_EACH:]]
    return _Part(
        name=data.manifest.name,
        inside=_inside(data.manifest.tags, bundle.odd),
        frames=len(judged_frames(data)),
        matches=matches,
        heads=heads,
        sights=kept,
    )


def _inside(tags: dict[str, str], odd: dict[str, str]) -> bool:
    """Return whether all lights and weathers of a dataset are named by the ODD."""
    for name, usual in (("light", "day"), ("weather", "clear")):
        allowed = odd.get(name, "any")
        found = set(tags.get(name, usual).split(","))
        if allowed != "any" and not found <= set(allowed.split(",")):
            return False
    return True


def _cell(m: MetricResult | None) -> str:
    if m is None or m.n == 0:
        return "-"
    text = f"{m.value:.3f}"
    return text if m.low is None or m.high is None else f"{text} ({m.low:.2f}..{m.high:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _kinds_table(matches: dict[str, Matches]) -> str:
    found = {m.name: m for m in meters.of_detections(matches)}
    rows = []
    for kind, m in matches.items():
        names = (f"ap/{kind}", f"ap/{kind}/near", f"recall/{kind}/near", f"precision/{kind}")
        counts = [str(m.labels), str(m.near_labels)]
        rows.append([kind, *counts, *(_cell(found[n]) for n in names)])
    head = ["kind", "labels", "near", "AP", "AP near", "recall near", "precision"]
    return _table([*head[:5], *(f"{h} at {OPERATING_PROB}" for h in head[5:])], rows)


def _heads_table(found: dict[str, MetricResult]) -> str:
    rows = [[n, _cell(found[n]), found[n].unit, str(found[n].n)] for n in _HEADS if n in found]
    return _table(["figure", "value", "unit", "n"], rows)


def _lights_table(light: np.ndarray) -> str:
    if not light.sum():
        return ""
    rows = [[f"**{k}**", *(str(v) for v in row)] for k, row in zip(LIGHTS, light, strict=True)]
    return _table(["light: labelled / said", *LIGHTS], rows)


def _conditions(parts: Sequence[_Part]) -> str:
    rows = []
    for part in parts:
        found = part.metrics()
        name = part.name if part.inside else f"{part.name} (outside the ODD)"
        rows.append([name, str(part.frames), *(_cell(found.get(n)) for n in _BY_CONDITION)])
    return _table(["dataset", "frames", *_BY_CONDITION], rows)


def _scores_table(matches: dict[str, Matches], folder: Path, bundle: ModelBundle) -> str:
    if not (folder / WEIGHTS).is_file():
        return ""
    arrays = read_arrays(folder / WEIGHTS)
    if "heat_scale" not in arrays:
        return ""
    before: list[float] = []
    after = [s for m in matches.values() for s in m.scores]
    right = np.array([r for m in matches.values() for r in m.right])
    for k, kind in enumerate(bundle.kinds):
        prob = np.clip(np.array(matches[kind].scores), 1e-6, 1 - 1e-6)
        logit = np.log(prob / (1 - prob))
        raw = (logit - arrays["heat_offset"][k]) / arrays["heat_scale"][k]
        before += (1 / (1 + np.exp(-raw))).tolist()
    errors = [expected_calibration_error(s, right.tolist()) for s in (before, after)]
    place = np.minimum((np.array(after) * BINS).astype(int), BINS - 1)
    rows = [
        [f"{b / BINS:.1f}..{(b + 1) / BINS:.1f}", str(n), f"{right[place == b].mean():.3f}"]
        for b in range(BINS)
        if (n := int((place == b).sum()))
    ]
    note = (
        f"Expected calibration error over {len(after)} detections: {errors[0]:.3f} before, "
        f"{errors[1]:.3f} after the fit on towns that are neither trained on nor tested here."
    )
    return note + "\n\n" + _table(["score", "detections", "right"], rows)


def _extras(
    folder: Path,
    graph: onnxruntime.InferenceSession,
    data: Frames,
    kinds: tuple[str, ...],
) -> str:
    """Return what memory, half looks and wrong odometry change, on the first dataset."""
    runs = {
        "whole look, memory": answers(graph, data, ["heat", "box"]),
        "whole look, no memory": answers(graph, data, ["heat", "box"], forget=True),
    }
    if (folder / "half.onnx").is_file():
        half = onnxruntime.InferenceSession(
            str(folder / "half.onnx"), providers=["CPUExecutionProvider"]
        )
        runs["half look, the rest 0.1 s old"] = half_answers(graph, half, data, ["heat", "box"])
    rows = []
    for name, said in runs.items():
        found = {m.name: m for m in meters.of_detections(matched(said, data, kinds))}
        names = ("ap/car/near", "ap/car", "ap/pedestrian/near", "ap/pedestrian")
        rows.append([name, *(_cell(found.get(n)) for n in names)])
    table = _table([data.manifest.name, "car near", "car", "pedestrian near", "pedestrian"], rows)
    said_mps, true_mps = [], []
    for i, answer in answers(graph, data, ["ego_motion"], stretch=TOLD_WRONG):
        if data.before(i) is not None:
            said_mps.append(float(answer["ego_motion"][0, 0]))
            true_mps.append(float(data.motion[i, 0] / data.motion[i, 3]))
    if not said_mps:
        return table
    true, told = np.array(true_mps), TOLD_WRONG * np.array(true_mps)
    note = (
        f"Told a motion {TOLD_WRONG} times the true one (n = {len(true)}), the told speed is off "
        f"by {np.abs(told - true).mean():.2f} m/s on average, the network's by "
        f"{np.abs(np.array(said_mps) - true).mean():.2f} m/s."
    )
    return f"## Memory, half looks, own motion\n\n{table}\n\n{note}"


def _pictures(parts: Sequence[_Part], out: Path) -> list[str]:
    sights = [s for p in parts for s in p.sights]
    best = sorted(sights, key=lambda s: -s.score)
    lines = []
    for name, chosen in (("successes", _spread(best)), ("failures", _spread(best[::-1]))):
        if chosen:
            write_grid(out / f"{name}.png", chosen)
            about = "green found, red missed, yellow made up"
            lines.append(f"## {name.capitalize()}\n\n![{name}: {about}]({name}.png)\n\n{about}")
    return lines


def _spread(sights: Sequence[Sight]) -> list[Sight]:
    """Return the first few, at most two of a dataset."""
    chosen: list[Sight] = []
    for sight in sights:
        own = [s for s in chosen if s.title.split(" #")[0] == sight.title.split(" #")[0]]
        if len(own) < 2 and len(chosen) < PICTURES_EACH:
            chosen.append(sight)
    return chosen
