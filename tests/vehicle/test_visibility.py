"""Ground that no camera sees is nobody's to claim."""

import numpy as np

from vehicle.config import RIG_R
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BEV_BOX
from vehicle.visibility import seen_cells


def test_eight_cameras_see_nearly_all_ground_around() -> None:
    assert seen_cells(RIG_R, BEV_BOX).mean() > 0.97


def test_one_front_camera_sees_ahead_and_not_behind() -> None:
    front = Rig(name="front", cameras=(RIG_R.camera("front_wide"),))
    seen, centres = seen_cells(front, BEV_BOX), BEV_BOX.centres()
    ahead = (centres[..., 0] > 10.0) & (np.abs(centres[..., 1]) < 5.0)
    assert seen[ahead].all()
    assert not seen[centres[..., 0] < 1.0].any()


def test_a_rig_without_cameras_sees_nothing() -> None:
    assert not seen_cells(Rig(name="blind", cameras=()), BEV_BOX).any()
