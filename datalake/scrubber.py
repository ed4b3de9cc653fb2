"""Who looks at which clip: a policy, its detectors, and the scrub they are for."""

from pathlib import Path

from datalake.config import ScrubPolicy
from datalake.detect import Detector, name_of
from datalake.detect_faces import FaceDetector
from datalake.detect_plates import PlateDetector
from datalake.detect_tracks import TrackDetector
from datalake.scrub import ScrubReport, scrub


class Scrubber:
    """Scrubs clips as a policy says for their jurisdiction; detectors are opened once.

    Args:
        policy: of the home whose lake the clips enter.
        own: further detectors by name, for whoever has better ones; see docs/how-to/privacy.md.
    """

    def __init__(self, policy: ScrubPolicy, own: dict[str, Detector] | None = None) -> None:
        self.policy = policy
        self._open: dict[str, Detector] = dict(own or {})

    def scrub(self, path: Path, out: Path, jurisdiction: str) -> ScrubReport:
        """Write `path` to `out` with what is found blurred; see `datalake.scrub.scrub`."""
        return scrub(path, out, self.detectors(jurisdiction))

    def name(self, jurisdiction: str) -> str:
        """Return who looks at clips of a jurisdiction, as `clips.scrub` says it."""
        return name_of(self.detectors(jurisdiction))

    def detectors(self, jurisdiction: str) -> tuple[Detector, ...]:
        """Return who looks at clips of a jurisdiction.

        Raises:
            LakeConfigError: the model of a detector is missing or another than the policy names.
        """
        return tuple(self._detector(name) for name in self.policy.who_looks(jurisdiction))

    def _detector(self, name: str) -> Detector:
        if name not in self._open:
            self._open[name] = self._new(name)
        return self._open[name]

    def _new(self, name: str) -> Detector:
        policy = self.policy
        if name == "tracks":
            return TrackDetector(min_face_px=policy.min_face_px, min_plate_px=policy.min_plate_px)
        if name == "plates":
            return PlateDetector(min_plate_px=policy.min_plate_px)
        return FaceDetector(
            Path(policy.face_model), policy.face_model_sha256, min_face_px=policy.min_face_px
        )
