"""A car that no network reaches gets its update and its advice by orbit, and sends its clip home.

The nodes are real processes that speak TCPCLv4 over TLS, hold what they have in SQLite, and are
killed one after the other; only time is compressed, and orbits, rates, sun and battery are modelled
(docs/how-to/relay-by-orbit.md says from what). Everything is counted at its end: what has had its
effect, what was lost, what came twice.
"""

import asyncio
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from fleet.identity import enrol
from fleet.inference.policy import Site
from fleet.orbit.agent import Agent, Received
from fleet.orbit.answering import HOME as TENANT
from fleet.orbit.answering import Asking, question_desk, written
from fleet.orbit.constellation import Declaration
from fleet.orbit.desks import Clerk, ClipDesk, QuestionDesk, Reply, runner
from fleet.orbit.hazards import Hazard, HazardModel
from fleet.orbit.mission import MissionClock
from fleet.orbit.power import Upsets, board_of
from fleet.orbit.services import (
    ANSWERS,
    CLIPS,
    QUESTIONS,
    RELEASES,
    UnprovenError,
    read_answer,
)
from sim.relay import orbit_cargo as cargo
from sim.relay.orbit_relay import RelayProcesses
from sim.relay.orbit_script import (
    CAR,
    DOWN,
    FAST,
    START_UTC_NS,
    UP,
    Line,
    Script,
    Trial,
    write,
)
from sim.relay.orbit_time import Pacer
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.advice import ANSWER, Advice
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import IDENTITY
from vehicle.contracts.wire import RefusedError
from vehicle.installer import Installer
from vehicle.offboard import Mailbox, Offboard
from vehicle.parcel_link import PARCEL_URL, ParcelLink

NOTES: Final = 9
"""Service of small bundles that are only counted."""

NOTES_EACH_WAY: Final = 20
GIVE_UP_S: Final = 240.0
ICE: Final = Hazard(
    east_m=900.0, north_m=0.0, radius_m=200.0, speed_mps=8.0, reason="ice on the bridge"
)
FRESH_S: Final = 3_600.0


def run(
    folder: Path | None = None,
    *,
    kill: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Trial:
    """Run the trial; with `kill`, every node dies once by kill -9.

    Args:
        folder: for the processes' files; None: one that is removed.
        tell: hears of what happens.
    Raises:
        NodeFailedError: a process does not open.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orbit-")))
        return _Room(folder, kill, tell, stack).run()


class _Room:
    """Everybody who takes part, in one room."""

    def __init__(
        self, folder: Path, kill: bool, tell: Callable[[str], None], stack: ExitStack
    ) -> None:
        self.folder, self.tell, self.stack = folder, tell, stack
        self.trial, self.home = Trial(), Home(folder / "home")
        self.names: dict[str, str] = {}
        enrol(self.home, CAR, "", self.home.car(CAR) / IDENTITY)
        self.release, self.good = cargo.release(self.home)
        self.clip = cargo.clip(folder / "outbox")
        self.script: Script = write(len(self.good), len(self.clip), kill=kill)
        plan, asked = self.script.plan, self.script.asked
        self.relay = stack.enter_context(
            RelayProcesses(folder, plan, self.home, [(CAR, UP), (CAR, DOWN), (CAR, asked)])
        )
        end_utc_ns = START_UTC_NS + 24 * 3_600 * 10**9
        stretches = self.script.stretches
        self.pacer = Pacer(self.relay.set_course, stretches, START_UTC_NS, end_utc_ns, FAST)
        self.clock = MissionClock(path=folder / "course.json")
        self.mailbox = stack.enter_context(Mailbox())
        self.clerks: dict[str, Clerk] = {}
        shell = Declaration.read("sparse").shell
        self.board = board_of(asked, shell, START_UTC_NS, START_UTC_NS)

    def run(self) -> Trial:
        """Run from the first process to the last count."""
        began_ns = SystemClock().mono_ns()
        self.relay.start()
        self._open_desks()
        self.pacer.begin()
        self._note(START_UTC_NS, CAR, "out of every network's reach; the plan says who will pass")
        with self.pacer.hold():
            self._send_first()
        for due_ns, act in self._acts():
            self._wait(lambda due_ns=due_ns: self.clock.utc_ns() >= due_ns)
            act()
        self._wait(lambda: self._arrived() >= set(self.names))
        self._count()
        self.trial.wall_s = (SystemClock().mono_ns() - began_ns) * 1e-9
        return self.trial

    def _open_desks(self) -> None:
        run = self.stack.enter_context(runner())
        cars = {self.script.plan.node(CAR).number: CAR}
        site = Site(name=self.script.asked, context="orbital", jurisdiction="US", landings=("US",))
        self.model = HazardModel([ICE], site, self.clock, upsets=Upsets(prob=0.5, seed=4))
        asked = question_desk(self.model, site, cars, self.clock, self.board)
        self.clips = ClipDesk(self.home, cars)
        for where, service, take in (
            (DOWN, CLIPS, self._landed(self.clips)),
            (self.script.asked, QUESTIONS, self._asked(asked)),
            (CAR, RELEASES, self._install),
            (CAR, ANSWERS, self._heed),
            (CAR, NOTES, _nothing),
            (DOWN, NOTES, _nothing),
        ):
            clerk = Clerk(self.relay.door(where), service, take, run)
            self.clerks[f"{where}.{service}"] = clerk
            self.stack.callback(clerk.close)

    def _send_first(self) -> None:
        """Hand everything that waits from the start to the nodes."""
        bad = cargo.tampered(self.good)
        self._send("tampered release", UP, CAR, RELEASES, bad, priority=2)
        self._send("release", UP, CAR, RELEASES, self.good)
        self._send("clip", CAR, DOWN, CLIPS, self.clip, lands_in=("US",))
        for n in range(NOTES_EACH_WAY):
            self._send(f"note {n} up", CAR, DOWN, NOTES, secrets.token_bytes(500), priority=0)
            self._send(f"note {n} down", UP, CAR, NOTES, secrets.token_bytes(500), priority=0)

    def _send(
        self,
        label: str,
        source: str,
        target: str,
        service: int,
        payload: bytes,
        *,
        priority: int = 1,
        lands_in: tuple[str, ...] = (),
    ) -> None:
        eid = f"ipn:{self.script.plan.node(target).number}.{service}"
        with Agent(self.relay.door(source), service + 100, timeout_s=60.0) as agent:
            name = agent.send(eid, payload, priority=priority, lands_in=lands_in)
        self.names[name] = label
        if not label.startswith("note"):
            self.tell(f"{source} keeps the {label}: {len(payload):,} bytes for {target}")

    def _acts(self) -> list[tuple[int, Callable[[], None]]]:
        """Return what this room does itself, by mission time."""
        acts: list[tuple[int, Callable[[], None]]] = [(self.script.ask_utc_ns, self._ask)]
        for kill in self.script.kills:

            def act(node: str = kill.node, doing: str = kill.doing) -> None:
                self.relay.kill(node)
                self._note(self.clock.utc_ns(), node, f"killed (-9) {doing}")
                with self.pacer.hold():
                    self.relay.start(node)
                self._note(self.clock.utc_ns(), node, "started again")

            acts.append((kill.utc_ns, act))
        return sorted(acts, key=lambda a: a[0])

    def _ask(self) -> None:
        asking = Asking(
            target=self.script.plan.node(self.script.asked).eid,
            car=CAR,
            at_m=(0.0, 0.0),
            tenant=TENANT,
            jurisdiction="US",
            fresh_h=FRESH_S / 3_600.0,
        )
        _, payload = written(asking, self.clock)
        self._send("question", CAR, self.script.asked, QUESTIONS, payload, priority=2)

    def _landed(self, desk: ClipDesk) -> Any:
        async def take(received: Received) -> Sequence[Reply]:
            replies = await desk.take(received)
            self._note(self.clock.utc_ns(), DOWN, "the clip has landed, and may: it is in the US")
            return replies

        return take

    def _asked(self, desk: QuestionDesk) -> Any:
        async def take(received: Received) -> Sequence[Reply]:
            replies = await desk.take(received)
            state = self.board.advance(self.clock.utc_ns())
            self.trial.power = {
                "sunlit_ratio": round(self.board.sunlit_ratio(START_UTC_NS), 3),
                "charge_ratio": round(state.charge_wh / self.board.spec.battery_wh, 3),
                "temperature_k": round(state.temperature_k, 1),
                "runs_until_two_agreed": self.model.runs,
            }
            self._note(self.clock.utc_ns(), self.script.asked, "answered on board, power allowing")
            return replies

        return take

    async def _install(self, received: Received) -> Sequence[Reply]:
        """Install what came, by the installer that installs from a gateway."""
        if not received.proven:
            raise UnprovenError(f"{received.id}: nothing proves that home sent it")
        rig = self.release.rig_digest
        root = (self.home.fleet / "repository" / "metadata" / "1.root.json").read_bytes()
        installer = Installer(
            car_folder=self.home.car(CAR),
            rig_digest=rig,
            trusted_root=root,
            clock=self.clock,
            link=ParcelLink.of(received.payload),
        )
        try:
            with self.pacer.hold():
                result = await asyncio.to_thread(installer.update, PARCEL_URL)
        except RefusedError as error:
            self._note(self.clock.utc_ns(), CAR, f"refuses a release: {type(error).__name__}")
            raise
        counts, name = self.trial.counts, f"update_{result.status}"
        counts[name] = counts.get(name, 0) + 1
        what = f"{result.status}: {result.bundle}, release {self.release.release_counter}"
        self._note(self.clock.utc_ns(), CAR, what)
        return ()

    async def _heed(self, received: Received) -> Sequence[Reply]:
        """Put advice into the mailbox, and look what the loop makes of it before the hazard."""
        outputs, reply = read_answer(received.payload)
        advice = wire.from_bytes(Advice, outputs[ANSWER][0])
        with self.pacer.hold():
            offboard = Offboard(self.mailbox, self.clock)
        self.mailbox.put(advice, proven=received.proven, fresh_s=FRESH_S)
        own = ControlCommand(frame_id=1, mono_ns=0, accel_mps2=0.3, curvature_1pm=0.0)
        ego = EgoState(mono_ns=0, x_m=600.0, y_m=0.0, yaw_rad=0.0, speed_mps=22.0)
        careful = offboard.heed(own, None, ego)
        self.trial.accel_mps2 = {"own": own.accel_mps2, "with_advice": careful.accel_mps2}
        self.trial.counts["advice_heeded"] = offboard.counters["advice_heeded"]
        age_s = (self.clock.utc_ns() - advice.input_utc_ns) / 1e9
        what = f"heeds advice of {reply.site}, {age_s:.0f} s old: {advice.reason}"
        self._note(self.clock.utc_ns(), CAR, what)
        return ()

    def _wait(self, done: Callable[[], bool]) -> None:
        give_up = SystemClock().mono_ns() + int(GIVE_UP_S * 1e9)
        while not done() and SystemClock().mono_ns() < give_up:
            SystemClock().sleep_until(SystemClock().mono_ns() + 20_000_000)

    def _arrived(self) -> set[str]:
        return {name for clerk in self.clerks.values() for name in clerk.taken}

    def _count(self) -> None:
        """Count what was sent, what had its effect, and tell the whole story in order."""
        taken = [n for clerk in self.clerks.values() for n in clerk.taken]
        times = Counter(taken)
        answers = self.clerks[f"{CAR}.{ANSWERS}"]
        counts = self.trial.counts
        counts["killed"] = len(self.script.kills)
        counts["sent"] = len(self.names) + len(answers.taken)
        counts["arrived"] = len(times)
        counts["lost"] = len(set(self.names) - set(times)) + (0 if answers.taken else 1)
        again = self.clips.again + max(0, len(answers.taken) - 1)
        counts["twice"] = sum(n - 1 for n in times.values()) + again
        counts["clip_landed"] = len(self.clips.landed)
        refused = [r for clerk in self.clerks.values() for r in clerk.refused]
        self.trial.refused = refused
        counts["tampered_release_refused"] = sum("TamperedReleaseError" in r for r in refused)
        copies = 0
        for node in self.script.plan.nodes:
            found = self.relay.counts(node.name)
            copies += found.get("duplicate", 0)
            self.trial.nodes[node.name] = found
            self._tell_of(node.name)
        counts["copies_known"] = copies + sum(c.again for c in self.clerks.values())
        self.trial.timeline.sort(key=lambda line: line.minute)

    def _tell_of(self, node: str) -> None:
        """Add what a node noted of the bundles that have a name to the timeline."""
        for entry in self.relay.log(node):
            label = self.names.get(entry.id, "answer" if ".3/" in entry.id else "")
            if not label or label.startswith("note") or entry.event not in WORDS:
                continue
            what = WORDS[entry.event].format(label, entry.detail)
            self.trial.timeline.append(Line(minute=_minute(entry.utc_ns), node=node, what=what))

    def _note(self, utc_ns: int, node: str, what: str) -> None:
        """Add a line to the timeline, and tell it now."""
        line = Line(minute=_minute(utc_ns), node=node, what=what)
        self.trial.timeline.append(line)
        self.tell(f"{line.minute:7.1f} min  {node:10} {what}")


WORDS: Final = {
    "created": "keeps the {0}",
    "received": "has all of the {0} from {1}, on its disk",
    "forwarded": "handed the {0} to {1}, which has kept it",
    "cut": "cuts the {0} to what contacts carry: {1}",
    "joined": "has all pieces of the {0}",
    "duplicate": "knows the {0} already",
    "expired": "lets go of the {0}: too old",
}


def _minute(utc_ns: int) -> float:
    return round((utc_ns - START_UTC_NS) / 60e9, 2)


async def _nothing(received: Received) -> Sequence[Reply]:
    return ()
