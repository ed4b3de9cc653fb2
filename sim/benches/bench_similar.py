"""What the lake's eye is worth, on drives of the simulator: pictures that look for their own frame,
how rare weathers are, what counts as a duplicate, and what a car finds novel."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake import land
from datalake.choice import choose
from datalake.duplicates import thin
from datalake.ingest import ingest
from datalake.known import know, novelty
from datalake.lake import Lake
from datalake.picture import shift_of
from datalake.rarity import drives, rarity
from datalake.similar import Query, similar
from datalake.stills import stills
from datalake.vectors import load, raw_of, unit
from sim.run.episode import Episode
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.bundles import base_folder
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Tick
from vehicle.embed import Eye, rig_of
from vehicle.route import RouteWriter
from vehicle.sight import Sight

FRAMES: Final = 1_500
DRIVES: Final = (
    *((16, "day", "clear", "town_drive"), (17, "day", "clear", "jaywalker")),
    *((18, "day", "clear", "sudden_brake"), (19, "day", "clear", "town_drive")),
    *((16, "day", "clear", "jaywalker"), (17, "night", "clear", "town_drive")),
    *((18, "day", "rain", "town_drive"), (19, "dusk", "clear", "town_drive")),
    *((16, "day", "fog", "town_drive"), (18, "day", "clear", "town_drive")),
)
"""Town, light, weather, family; fog is what the base network was never shown."""

PROBE_EVERY: Final = 15
THRESHOLDS: Final = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
CENTRES: Final = (8, 64, 256)
_ALL: Final = "SELECT clip_id, frame_id FROM ticks"


def similar_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Drive, ingest, and ask: pictures, rarity, duplicates, novelty."""
    bench, folder = Bench(name="similar"), bundle or base_folder()
    each = max(frames // len(DRIVES), 10)
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        for seed, drive in enumerate(DRIVES, start=1):
            land.land(home, _driven(Path(name) / f"drive-{seed}.mcap", drive, seed, each, folder))
            progress(0.6 * seed / len(DRIVES))
        ingest(home)
        with Lake(home) as lake:
            model = lake.sql("SELECT DISTINCT model FROM embeddings")["model"][0].as_py()
            _pictures(bench, lake, folder, model)
            progress(0.9)
            _rare(bench, lake, model)
            _twice(bench, lake)
            _novel(bench, lake, model)
    progress(1.0)
    return bench


def _driven(
    path: Path, drive: tuple[int, str, str, str], seed: int, ticks: int, bundle: Path
) -> Path:
    """Drive by truth, see with the network, write a route."""
    town, light, weather, family = drive
    episode = Episode(town=town, seed=seed, light=light, weather=weather, family=family)
    about = {"car_id": f"car-{seed}", "route_id": path.stem, "source": "simulator"}
    about |= {"jurisdiction": "ZZ", "light": light, "weather": weather}
    about["model"] = bundles.load(bundle).tag
    budget = Budget(enforce=False, clock=SystemClock())
    sight = Sight.open(bundle, episode.rig, False, episode.config, None)
    try:
        with RouteWriter(path, episode.rig, rate_hz=episode.rate_hz, metadata=about) as writer:
            for _ in range(ticks):
                observation = episode.observe()
                budget.begin(observation.frame.frame_id, None)
                scene = sight.see(observation, budget)
                budget.command_left()
                tick = Tick(
                    frame_id=episode.frame_id, scene=scene, plan=None, command=None,
                    timing=budget.timing("full", False),
                )  # fmt: skip
                writer.write(observation, tick)
                episode.step(None)
    finally:
        sight.close()
    return path


def _pictures(bench: Bench, lake: Lake, bundle: Path, model: str) -> None:
    """Look for frames by their own pictures: by all cameras, and by the first alone."""
    whole = rig_of(bundle)
    probes = lake.sql(
        "SELECT t.clip_id, t.frame_id, t.mono_ns FROM ticks t JOIN embeddings e "
        f"USING (clip_id, frame_id) WHERE t.frame_id % {PROBE_EVERY} = 7 ORDER BY ALL"
    ).to_pylist()
    front = Rig(name="front", cameras=whole.cameras[:1])
    found: dict[str, float] = {}
    for words, rig in (("all cameras", whole), ("front picture", front)):
        with Eye(bundle, rig) as eye:
            shift, references = shift_of(lake, eye, whole)
            names = {c.name for c in rig.cameras}
            seen = []
            for probe in probes:
                key = probe["clip_id"], probe["frame_id"], probe["mono_ns"]
                seen.append(eye.embed(stills(lake.home, *key, cameras=names)[1]))
        for how, less in (("as it is", 0.0), (f"less the shift of {references} frames", shift)):
            row = _recall(lake, model, probes, unit(np.stack(seen) - less))
            bench.rows.append({"row": f"{words}, {how}", "n": len(probes), **row})
            found[f"{words} {'as' if how == 'as it is' else 'less'}"] = row["its second in 10"]
    for words, least in (("all cameras", 0.9), ("front picture", 0.4)):
        bench.must.append(
            Must(
                figure=f"{words}: its own second among 10",
                value=found[f"{words} less"],
                op=">=",
                limit=least,
                unit="ratio",
                n=len(probes),
                peer=f"uncorrected {found[f'{words} as']}",
            )
        )


def _recall(
    lake: Lake, model: str, probes: list[dict[str, Any]], units: np.ndarray
) -> dict[str, float]:
    frames = load(lake, model)
    exact = near = drive = 0
    for probe, vector in zip(probes, units, strict=True):
        query = Query(model=model, unit_E=vector)
        rows = similar(lake, query, k=10, per_clip=0, among=frames).to_pylist()
        own = [r["frame_id"] for r in rows if r["clip_id"] == probe["clip_id"]]
        exact += probe["frame_id"] in own
        near += any(abs(f - probe["frame_id"]) <= 10 for f in own)
        drive += rows[0]["clip_id"] == probe["clip_id"]
    counts = {"itself in 10": exact, "its second in 10": near, "its drive first": drive}
    return {name: round(count / len(probes), 3) for name, count in counts.items()}


def _rare(bench: Bench, lake: Lake, model: str) -> None:
    rows = rarity(lake, model).to_pylist()
    bits, unlike = (np.array([r[n] for r in rows]) for n in ("rarity_bits", "unlike_bits"))
    conditions = np.array([r["condition"] for r in rows])
    for condition in sorted(set(conditions)):
        of = conditions == condition
        bench.rows.append(
            {
                "row": f"rarity of {condition}",
                "n": int(of.sum()),
                "median bits": round(float(np.median(bits[of])), 2),
                "of them unlike others": round(float(np.median(unlike[of])), 2),
            }
        )
    fog, rest = unlike[conditions == "day fog"], unlike[conditions == "day clear"]
    bench.must.append(
        Must(
            figure="foggy frames rarer than the median clear day, by the network alone",
            value=round(float((fog > np.median(rest)).mean()), 3),
            op=">=",
            limit=0.95,
            unit="ratio",
            n=len(fog),
        )
    )


def _twice(bench: Bench, lake: Lake) -> None:
    chosen = choose(lake, _ALL)
    frames = sum(map(len, chosen.values()))
    for threshold in THRESHOLDS:
        kept = sum(map(len, thin(lake, chosen, threshold).kept.values()))
        bench.rows.append({"row": f"duplicates at {threshold}", "n": frames, "stay": kept})


def _novel(bench: Bench, lake: Lake, model: str) -> None:
    def raw(condition: str) -> tuple[Any, np.ndarray]:
        sql = f"SELECT t.clip_id, frame_id FROM ticks t JOIN clips USING (clip_id) {condition}"
        return raw_of(lake, model, choose(lake, sql))

    frames, clear = raw("WHERE light = 'day' AND weather = 'clear'")
    others = {w: raw(f"WHERE weather = '{w}'")[1] for w in ("fog", "rain")}
    others["night"] = raw("WHERE light = 'night'")[1]
    for k in CENTRES:
        known = know(clear, drives(lake, frames), min(k, len(clear)))
        row: dict[str, Any] = {"row": f"known: {k} centres of clear days", "n": len(clear)}
        row["threshold"] = round(known.threshold, 3)
        for name, vectors in others.items():
            share = novelty(vectors, known.centre_KE) >= known.threshold
            row[f"novel of {name}"] = round(float(share.mean()), 3)
        bench.rows.append(row)
