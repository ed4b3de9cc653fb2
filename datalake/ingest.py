"""Landing zone to lake, exactly once.

A clip is claimed, made ready (datalake/prepare.py), committed with others (datalake/commit.py) and
settled: its landed files go, a receipt stays. The rows of a clip appear in one transaction that
first looks whether the clip is in, so a crash at any point, a second run or a second process leaves
the same rows. A bad clip is moved to the lake's quarantine with the reason; nothing else is
disturbed.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datalake.clips import clip_object
from datalake.commit import commit, sweep_queue
from datalake.config import ScrubPolicy
from datalake.lake import Lake
from datalake.landed import BadClipError, Landed, landed, sweep_work
from datalake.prepare import Prepared, Scrubs, manifest_of, prepare, prepare_again, receipt_of
from datalake.quarantine import Quarantined, set_aside
from datalake.scrubber import Scrubber
from datalake.summaries import take_summaries
from vehicle.contracts.home import Home

BATCH_CLIPS: Final = 32
BATCH_ROWS: Final = 50_000
"""Clips are committed together up to these sizes: fewer, larger Parquet files."""


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What one ingest did.

    Args:
        ingested: clips whose rows this run appended.
        already: landed clips that were in the lake before, or came in by another process.
        gone: clips that were in a lake once and whose objects were erased since.
        quarantined: clips and summaries set aside by this run.
        clip_ids: the clips ingested.
        summaries: clip summaries whose rows this run appended.
        rows: rows appended, over all tables.
        bytes: size of the clip files stored.
        snapshot: newest snapshot of the lake afterwards.
    """

    SCHEMA = "ingest/1"
    ingested: int = 0
    already: int = 0
    gone: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    clip_ids: list[str] = field(default_factory=list)
    summaries: int = 0
    rows: int = 0
    bytes: int = 0
    snapshot: int = 0


def ingest(
    home: Home,
    *,
    store: str | None = None,
    scrubber: Scrubs | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Take every landed clip into the lake, exactly once.

    Args:
        home: whose landing zone and lake.
        store: s3://bucket/prefix of a landing zone that is no folder here.
        scrubber: who blurs faces and plates; None: as home's privacy.toml says.
        progress: called with clips done and clips in all.
    Returns:
        what was ingested, what was in already, what was set aside and why.
    Raises:
        LakeError: the lake cannot be read or written; what was committed before stays.
    """
    report = IngestReport()
    zone = landed(home, store)
    sweep_work(home.lake / "work")
    sweep_queue(home.lake / "queue")
    with Lake(home) as lake:
        run = _Run(home, lake, zone, scrubber or Scrubber(ScrubPolicy.of(home)), report)
        todo = run.what_is_new()
        try:
            others = []
            for done, clip in enumerate(todo):
                if progress is not None:
                    progress(done, len(todo))
                if not run.take(*clip, wait=False):
                    others.append(clip)
            run.commit()
            for clip in others:  # wait for whoever has them, take what they could not finish
                run.take(*clip, wait=True)
                run.commit()
        finally:
            run.release()
        report.summaries, bad = take_summaries(home, lake)
        report.rows += report.summaries
        report.quarantined += bad
        report.snapshot = lake.snapshot()
    if progress is not None:
        progress(len(todo), len(todo))
    return report


class _Run:
    """One ingest: the clips it holds claims on, and what has become of them."""

    def __init__(
        self, home: Home, lake: Lake, zone: Landed, scrubber: Scrubs, report: IngestReport
    ) -> None:
        self._home, self._lake, self._zone = home, lake, zone
        self._scrubber, self._report = scrubber, report
        self._batch: list[Prepared] = []
        self._claims = ExitStack()

    def what_is_new(self) -> list[tuple[str, bool]]:
        """Return the landed clips that the lake does not hold, and whether it once did."""
        known = _known(self._lake)
        new = []
        for clip_id, receipt in self._zone.clips():
            if clip_id not in known:
                new.append((clip_id, receipt))
                continue
            self._report.already += 1
            if not receipt:  # a run was killed between its commit and this
                self._settle_late(clip_id)
        return new

    def take(self, clip_id: str, receipt: bool, *, wait: bool) -> bool:
        """Make a clip ready; return False where another process has it and `wait` is not set."""
        claims = self._home.lake / "claims"
        claim = ExitStack()
        if not claim.enter_context(_claim(claims / clip_id[:64], wait=wait)):
            return False
        self._claims.push(claim)
        state = self._zone.state(clip_id)
        if state is None or (state == "settled" and not receipt):
            self._report.already += 1  # another process was here since
            return True
        try:
            if receipt:
                made = prepare_again(self._home, self._zone, clip_id)
            else:
                made = prepare(self._home, self._zone, clip_id, self._scrubber)
        except BadClipError as error:
            self._set_aside(clip_id, error)
            return True
        if made is None:
            self._report.gone += 1
            return True
        self._batch.append(made)
        if len(self._batch) >= BATCH_CLIPS or sum(m.ready.rows for m in self._batch) >= BATCH_ROWS:
            self.commit()
        return True

    def commit(self) -> None:
        """Commit what is ready, settle it, and let go of all claims."""
        report = self._report
        try:
            known = commit(self._lake, [made.ready for made in self._batch])
            for made in self._batch:
                if made.ready.clip_id in known:
                    report.already += 1
                else:
                    report.ingested += 1
                    report.clip_ids.append(made.ready.clip_id)
                    report.rows += made.ready.rows
                    report.bytes += made.stored.size_bytes
                self._zone.settle(made.ready.clip_id, made.manifest.files, made.receipt)
        finally:
            self._batch = []
            self.release()

    def release(self) -> None:
        """Let go of all claims."""
        self._claims.close()

    def _settle_late(self, clip_id: str) -> None:
        [row] = self._lake.sql(
            f"SELECT object_sha256, scrub, scrubbed FROM clips WHERE clip_id = '{clip_id}'"
        ).to_pylist()
        path = clip_object(self._home, clip_id)
        if not path.is_file():
            return  # whoever looks after the lake finds this; the landed file is all there is
        sha256 = row["object_sha256"] or clip_id  # lakes of before kept the file as it came
        note = receipt_of(sha256, row["scrub"] or "none", row["scrubbed"] or 0)
        with suppress(BadClipError):
            self._zone.settle(clip_id, manifest_of(self._zone, clip_id).files, note)

    def _set_aside(self, clip_id: str, error: BadClipError) -> None:
        bad = set_aside(
            self._home, clip_id, error, lambda at, note: self._zone.set_aside(clip_id, at, note)
        )
        if bad is not None:
            self._report.quarantined.append(bad)


def _known(lake: Lake) -> set[str]:
    return set(lake.sql("SELECT clip_id FROM clips")["clip_id"].to_pylist())


@contextmanager
def _claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a claim on a clip; yield False where another process holds it. It dies with us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            yield False
            return
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            break
        os.close(handle)  # whoever held it has removed it since
    try:
        yield True
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)
