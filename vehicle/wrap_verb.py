"""`roadloop vehicle wrap`: what a person types to bring a detector."""

import json
from pathlib import Path
from typing import Annotated

import typer


def wrap(
    model: Annotated[
        Path, typer.Argument(help="The detector, an ONNX file with fixed sizes.", dir_okay=False)
    ],
    like: Annotated[str, typer.Option(help="Family it belongs to: fastestdet, yolox or boxes.")],
    camera: Annotated[list[str], typer.Option(help="Camera it looks through; may be repeated.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The bundle folder to write.")],
    route: Annotated[
        Path | None,
        typer.Option(help="A route file with the car's cameras; default: the shipped network's."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Text file, a kind or - per class; default: COCO's 80 classes."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Boxes below are no detections; default: the family's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Wrap an ONNX detector of boxes in pictures as a bundle: tracks and plans come out of it.

    Boxes are set on flat ground with the camera's calibration, tracked, and planned round. The
    bundle drives wherever others do: `roadloop replay ROUTE --bundle BUNDLE`.
    docs/how-to/bring-your-own-model.md
    """
    from vehicle import bundles
    from vehicle.config import RIG_R
    from vehicle.contracts.frame import MissingCalibrationError
    from vehicle.contracts.telemetry import STAGE_BUDGET_US
    from vehicle.route import RouteReader
    from vehicle.wrap import best_run_ms, read_classes
    from vehicle.wrap import wrap as make

    rig = RouteReader(route).rig if route else RIG_R
    if rig is None:
        raise MissingCalibrationError(f"{route} has no cameras to look through")
    made = make(
        model,
        out,
        like=like,
        rig=rig,
        cameras=tuple(camera),
        classes=read_classes(classes) if classes else None,
        min_score_prob=min_score,
    )
    took_ms, has_ms = best_run_ms(out) * len(camera), STAGE_BUDGET_US["inference"] * 1e-3
    if as_json:
        facts = {"bundle": made.tag, "folder": str(out), "digest": bundles.digest_of(out)}
        print(json.dumps({**facts, "took_ms": round(took_ms, 2), "has_ms": has_ms}))
        return
    through, shape = ", ".join(camera), made.inputs[0].shape
    print(f"{out}: {made.tag}, {like} {list(shape)} through {through}: {', '.join(made.kinds)}")
    print(f"a look takes {took_ms:.1f} ms here at best; a tick has {has_ms:.1f} ms for it")
    if took_ms > has_ms:
        print("too slow to drive live, where it would be cancelled; replays wait for it")
