from pathlib import Path

import pytest

from vehicle.contracts.home import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ROADLOOP_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")
