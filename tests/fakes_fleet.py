"""A home that signs and a car that installs, without a network between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes_bundle import make_bundle, make_report
from tuf.api.exceptions import DownloadError, DownloadHTTPError

from fleet.release import GateRules, gate
from fleet.sign import Repository
from vehicle import bundles
from vehicle.clock import FakeClock
from vehicle.config import RIG_R
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.release import Release
from vehicle.installer import Installer

URL = "http://home"
DAY_NS = 86_400 * 10**9


@dataclass
class FolderLink:
    """Reads what a gateway would serve straight from a folder.

    Args:
        folder: a `fleet/repository`; an attacker swaps it for another.
        twist: changes the bytes of a path on their way.
        cut_at: the link breaks after so many bytes of an archive.
    """

    folder: Path
    twist: Callable[[str, bytes], bytes] = lambda path, data: data
    cut_at: int | None = None
    asked: list[str] = field(default_factory=list)

    def read(self, url: str, offset: int = 0) -> Iterator[bytes]:
        path = url.removeprefix(f"{URL}/tuf/")
        self.asked.append(path)
        file = self.folder / path
        if not file.is_file():
            raise DownloadHTTPError(f"{url} answers 404", 404)
        data = self.twist(path, file.read_bytes())[offset:]
        if self.cut_at is not None and path.startswith("targets/"):
            yield data[: self.cut_at]
            raise DownloadError(f"{url}: cut")
        for start in range(0, len(data), 4096):
            yield data[start : start + 4096]


class Fleet:
    """One home with its repository, one car that trusts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.repository = Repository(Home(root / "home"), now=self.now)
        self.repository.create()
        self.pinned = self.repository.root_bytes()
        self.base = root / "base"
        make_bundle(self.base, version=1, gain=0.1)
        self.car_folder = root / "car"
        self.link = FolderLink(self.repository.folder)

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=self.clock.utc_ns() // 1000
        )

    def installer(self, **changes: object) -> Installer:
        made = {
            "car_folder": self.car_folder,
            "rig_digest": RIG_R.digest,
            "clock": self.clock,
            "trusted_root": self.pinned,
            "link": self.link,
            "base": self.base,
        }
        return Installer(**{**made, **changes})  # type: ignore[arg-type]

    def bundle(self, counter: int, *, rig: Rig = RIG_R, golden_gain: float | None = None) -> Path:
        folder = self.root / f"bundle-{counter}"
        make_bundle(folder, version=counter, gain=counter / 4, rig=rig, golden_gain=golden_gain)
        return folder

    def release(self, folder: Path, counter: int) -> Release:
        report = make_report(bundles.digest_of(folder))
        rules = GateRules(self_test=False)
        return gate(folder, [report], [], release_counter=counter, rules=rules)

    def publish(
        self, counter: int, *, rig: Rig = RIG_R, golden_gain: float | None = None
    ) -> Release:
        folder = self.bundle(counter, rig=rig, golden_gain=golden_gain)
        release = self.release(folder, counter)
        self.repository.publish(folder, release)
        return release
