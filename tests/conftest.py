"""What every test shares: real data where it is there, no deadlines on a shared machine."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("shared-machine", deadline=None, max_examples=60)
settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-refs", action="store_true", help="write golden files anew, on purpose"
    )


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real drive data, or skip: the project passes its tests without it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ROADLOOP_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real drive data at {folder} (set ROADLOOP_DATA)")
    return folder
