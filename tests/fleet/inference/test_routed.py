"""The router before real requests: who is asked, when nobody is, and what it learns of links."""

import asyncio
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes_gateway import enrol_car
from site_parts import ask, site

from fleet.inference import collective
from fleet.inference.client import UnreachableSiteError
from fleet.inference.field import Field, read_field
from fleet.inference.front_opening import routed_places
from fleet.inference.policy import Policy, Site
from fleet.inference.refusals import LateAnswerError, PolicyRefusedError
from fleet.inference.regions import Region, RegionDiedError, Regions
from fleet.inference.routed import Router, StayLocalError
from fleet.inference.server import SiteTls
from fleet.inference.tenants import Tenant
from fleet.serving import PortTakenError, listen_alone
from vehicle.asking import question
from vehicle.clock import SystemClock
from vehicle.contracts.ego import EgoState
from vehicle.contracts.home import Home
from vehicle.contracts.inference import Context
from vehicle.contracts.wire import ContractError
from vehicle.site_link import SiteAwayError, SiteLink
from vehicle.site_link import SiteRefusedError as CarRefusedError

FIELD = """
[link.cell]
network = "5g-sa"
quantiles_ms = [[0.5, 20], [0.9, 30], [0.99, 40]]
size_bytes = 2000

[link.far]
network = "lte"
quantiles_ms = [[0.5, 90], [0.9, 120], [0.99, 150]]
size_bytes = 2000

[site.edge-1]
context = "edge"
jurisdiction = "DE"
link = "cell"
processor = "server-core"
compute_ms = 5
quality_gain = {near}
address = "{edge}"

[site.region]
context = "hyperscale"
jurisdiction = "DE"
link = "far"
processor = "region-core"
compute_ms = 10
quality_gain = {far}
address = "{region}"
"""
HERE = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
GONE = UnreachableSiteError("UNAVAILABLE", "", "connection reset")


def written(
    folder: Path, near: float = 0.05, far: float = 0.1, edge: str = "h:1", region: str = "h:2"
) -> Path:
    path = folder / "sites.toml"
    path.write_text(FIELD.format(near=near, far=far, edge=edge, region=region))
    return path


def now_s() -> float:
    return SystemClock().utc_ns() * 1e-9


class Front:
    """Regions of a field behind its router, each of which does as told."""

    def __init__(self, path: Path) -> None:
        self.field: Field = read_field(path)
        self.fails: dict[str, Exception] = {}
        self.takes_s: dict[str, float] = {}
        made = [
            Region[bytes, bytes](site=s.site, send=self._send(s.site), probe=self._probe)
            for s in self.field.spots.values()
        ]
        clock = SystemClock()
        self.regions = Regions(
            made, clock=clock, policy=Policy.default(), router=Router(self.field, clock)
        )

    def _send(self, place: Site):
        async def send(payload: bytes, left_s: float) -> bytes:
            await asyncio.sleep(self.takes_s.get(place.name, 0.0))
            if place.name in self.fails:
                raise self.fails[place.name]
            return place.name.encode()

        return send

    async def _probe(self) -> bool:
        return True

    def ask(self, **changes) -> bytes:
        return asyncio.run(self.regions.ask(b"x" * 500, ask(**changes)))


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return Front(written(tmp_path))


def test_the_place_of_most_worth_is_asked_if_it_is_in_time(front: Front) -> None:
    assert front.ask(lasts_s=1.0) == b"region"
    assert front.ask(lasts_s=0.07) == b"edge-1"  # too short for the region's link


def test_nobody_is_asked_where_nothing_is_gained_or_nobody_is_in_time(tmp_path: Path) -> None:
    front = Front(written(tmp_path, near=0.0, far=0.0))
    with pytest.raises(StayLocalError, match=r"edge-1: worth -.*region: worth -"):
        front.ask()
    rich = Front(written(tmp_path))
    with pytest.raises(StayLocalError, match="edge-1: in time with"):
        rich.ask(lasts_s=0.012)
    assert rich.regions.counts["stayed local"] == 1
    assert not any(region.counts for region in (*front.regions.regions, *rich.regions.regions))


def test_what_the_law_forbids_is_not_asked_whatever_it_is_worth(front: Front) -> None:
    with pytest.raises(PolicyRefusedError, match="Residency"):
        front.ask(data_class="pixels", jurisdiction="CN", tier="interactive")


def test_the_next_best_answers_when_the_best_dies(front: Front) -> None:
    front.fails["region"] = GONE
    assert front.ask() == b"edge-1"
    front.fails["edge-1"] = GONE
    with pytest.raises((RegionDiedError, StayLocalError)):
        front.ask()


def test_a_link_that_loses_answers_is_not_believed_soon_after(front: Front) -> None:
    link, known = front.field.links["far"], front.field.links["far"].count
    assert link.p_on_time(1_524, 0.5, now_s()) > 0.95
    front.fails["region"] = GONE
    for _ in range(2):  # the breaker opens at three
        assert front.ask() == b"edge-1"
    assert link.count == known + 2
    assert link.p_on_time(1_524, 0.5, now_s() + 1.0) < 0.7
    assert link.p_on_time(1_524, 0.5, now_s() + 60.0) > 0.9  # long ago: it may be well again


def test_a_call_that_was_taken_back_teaches_nothing(front: Front) -> None:
    front.takes_s["region"] = 5.0  # hedged after a tenth of a second
    far, near = (front.field.links[name] for name in ("far", "cell"))
    counts = far.count, near.count
    assert front.ask() == b"edge-1"
    assert (far.count, near.count) == (counts[0], counts[1] + 1)


def test_an_answer_that_is_late_counts_as_lost(front: Front) -> None:
    front.takes_s |= {"region": 5.0, "edge-1": 5.0}
    link = front.field.links["far"]
    count = link.count
    with pytest.raises(LateAnswerError, match="did not answer"):
        front.ask(lasts_s=0.3)
    assert link.count == count + 1


def test_the_field_in_the_how_to_can_be_used_as_it_stands(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/ask-for-advice.md").read_text()
    [text] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "sites.toml").write_text(text)
    places, _ = routed_places(tmp_path / "sites.toml", None)
    assert [(p.site.name, p.address) for p in places] == [
        ("edge-1", "127.0.0.1:8802"),
        ("plant-1", "127.0.0.1:8822"),
    ]


def test_a_place_without_an_address_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="site edge-1 has no address"):
        routed_places(written(tmp_path, edge=""), None)


def test_a_socket_is_its_users_alone_and_takes_no_other_things_place(tmp_path: Path) -> None:
    path = tmp_path / "front.sock"
    with listen_alone(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with pytest.raises(PortTakenError, match="somebody listens"):
            listen_alone(path)
    with listen_alone(path):  # what a dead one left
        pass
    path.unlink()
    path.write_text("precious")
    with pytest.raises(PortTakenError):
        listen_alone(path)
    assert path.read_text() == "precious"


@contextmanager
def front_process(*options: str) -> Iterator[None]:
    command = (sys.executable, "-m", "roadloop", "fleet", "infer", "front", *options)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "front open" in process.stderr.readline()
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_a_car_is_answered_at_a_socket_by_the_place_of_most_worth_and_then_by_the_next(
    tmp_path: Path,
) -> None:
    home, clock, door = Home(tmp_path / "home"), SystemClock(), tmp_path / "front.sock"
    options = ("--identity", str(enrol_car(home)), "--socket", str(door))
    asked = question(None, HERE, (0.0, 0.0))
    tls = SiteTls.of_home(home)
    tenant = Tenant(name="home", authority=str(tls.authorities), home=str(home.root))

    def opened(name: str, context: Context):
        place = Site(name=name, context=context, jurisdiction="DE")
        models = collective.models(place, clock)
        return site(*models, site=place, tls=tls, tenants=[tenant])

    with ExitStack() as stack, ExitStack() as dies:
        edge = stack.enter_context(opened("edge-1", "edge"))
        region = dies.enter_context(opened("region", "hyperscale"))
        doors = [f"127.0.0.1:{s.http_port}" for s in (edge, region)]
        path = written(tmp_path, edge=doors[0], region=doors[1])
        stack.enter_context(front_process("--sites", str(path), *options))
        link = SiteLink(f"unix:{door}", None, clock)
        link.open()
        advice, reply = link.ask(ask(), asked)
        assert (advice.site, reply.context, link.proven) == ("region", "hyperscale", True)
        dies.close()
        advice, reply = link.ask(ask(), asked)
        assert (advice.site, reply.context) == ("edge-1", "edge")
        with pytest.raises(CarRefusedError, match="StayLocalError: edge-1: in time with"):
            link.ask(ask(lasts_s=0.012), asked)
    with pytest.raises(SiteAwayError, match="this user alone"):
        link.open()  # the socket went with its front
    link.close()


def test_a_socket_that_others_may_use_is_nobody(tmp_path: Path) -> None:
    door = tmp_path / "front.sock"
    with listen_alone(door):
        door.chmod(0o777)
        link = SiteLink(f"unix:{door}", None, SystemClock())
        with pytest.raises(SiteAwayError, match="this user alone"):
            link.open()
        link.close()
