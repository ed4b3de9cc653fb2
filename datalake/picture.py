"""Search by a picture from anywhere: what of the lake looks like this to the network.

A log was seen by all cameras, frame after frame; a picture stands alone, and the other cameras are
grey. That moves the embedding by about the same for every picture: so much that, taken as it is, a
front picture hardly ever finds its own frame. The shift is measured on frames of the lake, looked
at again through the same cameras alone, and taken away (docs/decisions/0014).
"""

from pathlib import Path
from typing import Final

import numpy as np

from datalake.duck import quoted
from datalake.lake import Lake
from datalake.similar import Query
from datalake.stills import stills
from datalake.vectors import matrix, unit
from vehicle.contracts.frame import Rig
from vehicle.embed import Eye, base_folder, read, rig_of

REFERENCES: Final = 24
"""Frames looked at again; 16 find as much as 90."""


def of_picture(
    lake: Lake, path: Path, bundle_folder: Path | None = None, *, hfov_deg: float | None = None
) -> Query:
    """Return what to search for, given a picture or a folder of pictures named by camera.

    Args:
        path, hfov_deg: as `vehicle.embed.read` takes them.
        bundle_folder: the network to look with, None: the one that ships with the package. Only
            frames that it saw too can be found.
    Raises:
        PictureError: no picture, or not of the camera's shape; and all errors of Perception.
    """
    bundle_folder = bundle_folder or base_folder()
    whole = rig_of(bundle_folder)
    rig, images = read(path, whole, hfov_deg=hfov_deg)
    with Eye(bundle_folder, rig) as eye:
        vector, model, fed = eye.embed(images), eye.model, eye.fed
    alike = Rig(name=rig.name, cameras=tuple(whole.camera(c.name) for c in rig.cameras))
    with Eye(bundle_folder, alike) as eye:
        shift, references = shift_of(lake, eye, whole)
    about = f"{path.name} through {len(fed)} of {len(whole.cameras)} cameras, "
    about += (
        f"less what {references} frames of the lake are shifted by when seen so"
        if references
        else "not corrected for that: the lake has no frame of these cameras seen by this network"
    )
    return Query(model=model, unit_E=unit(vector - shift)[0], about=about)


def shift_of(lake: Lake, eye: Eye, whole: Rig) -> tuple[np.ndarray, int]:
    """Return by how much embeddings move when frames are seen through `eye` alone, and how many
    frames say so; the same lake gives the same."""
    rows = lake.sql(
        "SELECT e.clip_id, e.frame_id, e.embedding, t.mono_ns FROM (SELECT e.* FROM embeddings e "
        f"JOIN clips c USING (clip_id) WHERE c.rig_digest = {quoted(whole.digest)} AND e.model = "
        f"{quoted(eye.model)} ORDER BY md5(e.clip_id || e.frame_id) LIMIT {REFERENCES}) e "
        "JOIN ticks t USING (clip_id, frame_id) ORDER BY ALL"
    )
    names, moved = {c.name for c in eye.rig.cameras}, []
    if rows.num_rows:
        for row, logged in zip(rows.to_pylist(), matrix(rows["embedding"]), strict=True):
            frame = row["clip_id"], row["frame_id"], row["mono_ns"]
            _, images = stills(lake.home, *frame, cameras=names)
            if images.keys() == names:
                moved.append(eye.embed(images) - logged)
    return (np.mean(moved, axis=0) if moved else np.zeros(1, np.float32)), len(moved)
