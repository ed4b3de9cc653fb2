"""A site in a process of its own, for benches: real models behind the real server, on two ports.

`python -m sim.tier.tier_site` reads its setup from the first line of stdin, prints its ports, and
ends with its stdin, or by being killed, which is what `bench tiers` does to one.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from fleet.inference import collective
from fleet.inference.explain import serve_explain
from fleet.inference.explain_model import ExplainModel
from fleet.inference.oip_model import Model
from fleet.inference.pictures import JpegPictures
from fleet.inference.policy import Policy, Site
from fleet.inference.server import serve_site
from fleet.inference.teacher import Adjudicator
from fleet.inference.variants import Variant, Variants, kept
from sim.tier.told import telling
from vehicle import bundles
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.inference import Context
from vehicle.contracts.wire import RefusedError

ADJUDICATE: Final = "adjudicate"
COLLECTIVE: Final = "collective"
EXPLAINER: Final = "explainer"
TEACHER: Final = "teacher"
"""Folder of this home's models; where there is one it judges frames when there is time."""


class SiteStartError(RefusedError):
    """A site of the bench did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSetup:
    """What a site serves and who it is.

    Args:
        models: names in MODELS; or EXPLAINER alone, which has a door of its own.
        folder: of the explainer.
    """

    SCHEMA: ClassVar[str] = "tiersite/1"
    name: str
    context: Context
    jurisdiction: str
    models: tuple[str, ...]
    folder: str = ""


def _collective(site: Site) -> Sequence[Model]:
    return collective.models(site, SystemClock())


def _adjudicate(site: Site) -> Sequence[Model]:
    clock = SystemClock()
    folders = [bundles.base_folder(), Home.here().models / TEACHER]
    variants = [Variant.at(f) for f in folders if (f / bundles.MANIFEST).is_file()]
    eyes = Variants("perceive", variants, kept(variants), clock)
    return [JpegPictures(Adjudicator(ADJUDICATE, eyes, site.name, clock))]


MODELS: Final[dict[str, Callable[[Site], Sequence[Model]]]] = {
    COLLECTIVE: _collective,
    ADJUDICATE: _adjudicate,
}
"""What a site may serve: name -> how it is made, with what belongs to it."""


@dataclass(slots=True)
class RunningSite:
    """A site's process and where it listens."""

    site: Site
    process: subprocess.Popen[bytes]
    grpc: tuple[str, int]
    http: tuple[str, int]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_site(setup: SiteSetup) -> Iterator[RunningSite]:
    """Run a site for the length of a block.

    Raises:
        SiteStartError: it did not come up; its own words stand on stderr.
    """
    words = [sys.executable, "-m", "sim.tier.tier_site"]
    with telling(
        words,
        lambda code: SiteStartError(f"site {setup.name} ended at once (exit {code})"),
        asked=wire.to_bytes(setup),
    ) as (process, line):
        ports = json.loads(line)
        site = Site(name=setup.name, context=setup.context, jurisdiction=setup.jurisdiction)
        here = "127.0.0.1"
        yield RunningSite(site, process, (here, ports["grpc"]), (here, ports["http"]))


async def _serve(setup: SiteSetup) -> None:
    site = Site(name=setup.name, context=setup.context, jurisdiction=setup.jurisdiction)
    policy, clock = Policy.default(), SystemClock()
    if setup.models == (EXPLAINER,):
        model = ExplainModel(Path(setup.folder))
        async with serve_explain(model, site=site, policy=policy, clock=clock) as explaining:
            await _until_told({"grpc": 0, "http": explaining.port})
    else:
        models = [model for name in setup.models for model in MODELS[name](site)]
        async with serve_site(models, site=site, policy=policy, clock=clock, grace_s=0.5) as served:
            await _until_told({"grpc": served.grpc_port, "http": served.http_port})
    os._exit(0)  # threads of the runtimes hold nothing that must last


async def _until_told(ports: dict[str, int]) -> None:
    """Say where the doors are, and wait for the end of stdin."""
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_serve(wire.from_bytes(SiteSetup, sys.stdin.buffer.readline())))
