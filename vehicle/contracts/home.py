"""Where everything of a run lives: one folder, ROADLOOP_HOME (default .roadloop/)."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one run's state. Nothing outside `root` is ever written."""

    root: Path

    @classmethod
    def here(cls) -> "Home":
        """Return the folder named by ROADLOOP_HOME, or .roadloop/ in the working folder."""
        return cls(Path(os.environ.get("ROADLOOP_HOME", ".roadloop")).absolute())

    def car(self, car_id: str) -> Path:
        """Return a car's own folder: identity/ campaigns/ routes/ outbox/ slots/
        trust/ truth/."""
        return self.root / "cars" / car_id

    @property
    def fleet(self) -> Path:
        """Return the fleet's folder: registry.json campaigns/ summaries/ wanted/ landing/ uploads/
        repository/ keys/."""
        return self.root / "fleet"

    @property
    def landing(self) -> Path:
        """Return the landing zone: what cars have sent, manifest last."""
        return self.fleet / "landing"

    @property
    def lake(self) -> Path:
        """Return the lake: catalog.sqlite, data/ (Parquet), clips/ (objects by sha256)."""
        return self.root / "lake"

    @property
    def datasets(self) -> Path:
        """Return the folder of pinned datasets."""
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        """Return the folder of trained and exported bundles."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Return the folder of evaluation reports."""
        return self.root / "reports"
