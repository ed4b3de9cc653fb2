"""What a node holds, on a disk that forgets nothing it has promised.

Everything is one SQLite file; each step is one transaction that has reached the disk before anybody
is told. A bundle is kept until the next hop has all of it, until the application has taken it, or
until it expires. What was here is remembered by name until it would have expired, so that a copy is
known for one.

Source: RFC 9171 section 5 (bundle processing); SQLite, "Atomic Commit" (sqlite.org/atomiccommit).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fleet.orbit.blocks import BlockType, Timestamp, read_hops
from fleet.orbit.bundle import Bundle, dtn_ms, encode, utc_ns
from fleet.orbit.carriage import Carriage
from vehicle.contracts.wire import RefusedError

State = Literal["forward", "gather", "deliver"]
"""forward: to another node; gather: a fragment that waits for the others; deliver: to a service."""

REMEMBER_NS: Final = 3_600 * 10**9
"""How long after its expiry a bundle's name is still known: clocks differ."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS bundles(
    id TEXT PRIMARY KEY, whole TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
    priority INTEGER NOT NULL, expires_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL,
    came_from TEXT NOT NULL, lands_in TEXT NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON bundles(state, whole);
CREATE TABLE IF NOT EXISTS seen(
    id TEXT PRIMARY KEY, hops INTEGER NOT NULL, expires_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts(name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log(
    number INTEGER PRIMARY KEY, utc_ns INTEGER NOT NULL, event TEXT NOT NULL, id TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS given(one INTEGER PRIMARY KEY CHECK (one = 1), ms INTEGER, n INTEGER);
"""


class StoreFullError(RefusedError):
    """The store has no room for a bundle; whoever sends it keeps it."""


class StoreUnusableError(RefusedError):
    """The file is no store of bundles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A bundle in the store, without its bytes.

    Args:
        id: of the bundle or the fragment; `whole` of the bundle.
        target: destination endpoint.
        came_from: name of the node that sent it, "" when it was made here.
        lands_in: countries that it may land in; empty: any.
    """

    id: str
    whole: str
    target: str
    state: State
    priority: int
    expires_ns: int
    received_ns: int
    came_from: str
    lands_in: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the node's log."""

    utc_ns: int
    event: str
    id: str
    detail: str


class Store:
    """The bundles of one node; one process at a time has it.

    Args:
        path: the SQLite file, made when it is not there.
        quota_bytes: most bytes of bundles.
    Raises:
        StoreUnusableError: the file is something else.
    """

    def __init__(self, path: Path, quota_bytes: int = 256 << 20) -> None:
        self.quota_bytes = quota_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise StoreUnusableError(
                f"{path} is no store of bundles ({error}); move it away, and the node makes a new "
                "one: bundles in it are lost to this node"
            ) from error

    @classmethod
    def peek(cls, path: Path) -> "Store":
        """Return the store of a node that may be running, to be read only.

        Raises:
            StoreUnusableError: there is none.
        """
        store = cls.__new__(cls)
        try:
            store._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)
            store.counts()
        except sqlite3.DatabaseError as error:
            raise StoreUnusableError(f"{path}: no store of bundles ({error})") from error
        return store

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, bundle: Bundle, state: State, now_ns: int, came_from: str = "") -> bool:
        """Keep a bundle; from when this returns, it is this node's to bring on.

        Returns:
            False when it is a copy of one that is or was here.
        Raises:
            StoreFullError: there is no room.
        """
        with self._transaction():
            if not self._remember(bundle, state):
                self._count("duplicate")
                return False
            self._insert(bundle, state, now_ns, came_from)
            self._note(now_ns, "received" if came_from else "created", bundle.id, came_from)
        return True

    def cut(self, held: Held, pieces: Sequence[Bundle], now_ns: int) -> None:
        """Put fragments in the place of a bundle, all at once."""
        with self._transaction():
            self._delete(held.id)
            for piece in pieces:
                self._remember(piece, held.state)
                self._insert(piece, held.state, now_ns, held.came_from, within=held.size_bytes)
            self._note(now_ns, "cut", held.id, f"{len(pieces)} pieces")

    def join(self, whole: Bundle, now_ns: int, came_from: str) -> bool:
        """Put the bundle in the place of its fragments; False when it was delivered before."""
        with self._transaction():
            rows = self._db.execute(
                "DELETE FROM bundles WHERE state='gather' AND whole=? RETURNING size", [whole.id]
            ).fetchall()
            if not self._remember(whole, "deliver"):
                self._count("duplicate")
                return False
            self._insert(whole, "deliver", now_ns, came_from, within=sum(r[0] for r in rows) + 4096)
            self._note(now_ns, "joined", whole.id, f"{len(rows)} pieces")
        return True

    def done(self, id: str, event: str, now_ns: int, detail: str = "") -> None:
        """Let go of a bundle: the next hop or the application has it, or it is refused here."""
        with self._transaction():
            if self._delete(id):
                self._count(event)
                self._note(now_ns, event, id, detail)

    def expire(self, now_ns: int) -> list[tuple[Held, bytes]]:
        """Let go of what is of no use to anybody any more, and return it."""
        gone = [(held, self.data(held.id)) for held in self._select("expires_ns<=?", now_ns)]
        with self._transaction():
            for held, _ in gone:
                self._delete(held.id)
                self._count("expired")
                self._note(now_ns, "expired", held.id, "")
            self._db.execute("DELETE FROM seen WHERE expires_ns<=?", [now_ns - REMEMBER_NS])
        return gone

    def held(self, state: State, whole: str | None = None) -> list[Held]:
        """Return what is held in a state, the most urgent first, then the first to expire."""
        if whole is None:
            return self._select("state=?", state)
        return self._select("state=? AND whole=?", state, whole)

    def data(self, id: str) -> bytes:
        """Return a held bundle's bytes; b"" when it is not here any more."""
        row = self._db.execute("SELECT data FROM bundles WHERE id=?", [id]).fetchone()
        return bytes(row[0]) if row else b""

    def size_bytes(self) -> int:
        """Return how many bytes of bundles are held."""
        return int(self._db.execute("SELECT coalesce(sum(size),0) FROM bundles").fetchone()[0])

    def stamp(self, now_ns: int) -> Timestamp:
        """Return a creation timestamp that this node never gave before, also before a restart."""
        with self._transaction():
            row = self._db.execute("SELECT ms, n FROM given").fetchone() or (0, 0)
            now_ms = dtn_ms(now_ns)
            ms, n = (now_ms, 0) if now_ms > row[0] else (row[0], row[1] + 1)
            self._db.execute("INSERT OR REPLACE INTO given VALUES(1, ?, ?)", [ms, n])
        return Timestamp(ms, n)

    def count(self, name: str, now_ns: int, id: str = "", detail: str = "") -> None:
        """Count a refusal or another event, and note it in the log."""
        with self._transaction():
            self._count(name)
            self._note(now_ns, name, id, detail)

    def counts(self) -> dict[str, int]:
        """Return what was counted, since the store was made."""
        return dict(self._db.execute("SELECT name, n FROM counts ORDER BY name").fetchall())

    def log(self, after: int = 0) -> list[Entry]:
        """Return the log's lines, oldest first."""
        rows = self._db.execute(
            "SELECT utc_ns, event, id, detail FROM log WHERE number>? ORDER BY number", [after]
        )
        return [Entry(utc_ns=r[0], event=r[1], id=r[2], detail=r[3]) for r in rows]

    def _remember(self, bundle: Bundle, state: State) -> bool:
        """Note a bundle's name; False for a copy.

        What was sent on from here and came round by more hops is no copy: it is ours again. At its
        end there is no such thing, and what was delivered whole needs no more fragments.
        """
        block = bundle.block(BlockType.HOP_COUNT)
        hops = read_hops(block)[1] if block else 0
        names = [bundle.id] if state == "forward" else [bundle.id, bundle.whole_id]
        for name in names:
            row = self._db.execute("SELECT hops FROM seen WHERE id=?", [name]).fetchone()
            if row and (hops <= row[0] or state != "forward"):
                return False
        if self._db.execute("SELECT 1 FROM bundles WHERE id=?", [bundle.id]).fetchone():
            return False
        self._db.execute(
            "INSERT OR REPLACE INTO seen VALUES(?,?,?)", [bundle.id, hops, _expires_ns(bundle)]
        )
        return True

    def _insert(
        self, bundle: Bundle, state: State, now_ns: int, came_from: str, within: int = 0
    ) -> None:
        data, carriage = encode(bundle), Carriage.of(bundle)
        room = self.quota_bytes - self.size_bytes()
        if len(data) > room and not within:
            raise StoreFullError(
                f"{bundle.id}: {len(data)} bytes, {room} of {self.quota_bytes} are free; keep it "
                "and offer it again"
            )
        self._db.execute(
            "INSERT INTO bundles VALUES(?,?,?,?,?,?,?,?,?,?,?)",
            [
                *(bundle.id, bundle.whole_id, str(bundle.primary.destination), state),
                *(carriage.priority, _expires_ns(bundle), now_ns, came_from),
                *(" ".join(carriage.lands_in), len(data), data),
            ],
        )

    def _delete(self, id: str) -> bool:
        return self._db.execute("DELETE FROM bundles WHERE id=?", [id]).rowcount > 0

    def _select(self, where: str, *values: object) -> list[Held]:
        rows = self._db.execute(
            "SELECT id, whole, target, state, priority, expires_ns, received_ns, came_from, "
            f"lands_in, size FROM bundles WHERE {where} ORDER BY priority DESC, expires_ns, id",
            values,
        )
        return [
            Held(
                id=r[0],
                whole=r[1],
                target=r[2],
                state=r[3],
                priority=r[4],
                expires_ns=r[5],
                received_ns=r[6],
                came_from=r[7],
                lands_in=tuple(r[8].split()),
                size_bytes=r[9],
            )
            for r in rows
        ]

    def _count(self, name: str) -> None:
        self._db.execute(
            "INSERT INTO counts VALUES(?, 1) ON CONFLICT(name) DO UPDATE SET n=n+1", [name]
        )

    def _note(self, now_ns: int, event: str, id: str, detail: str) -> None:
        self._db.execute(
            "INSERT INTO log(utc_ns, event, id, detail) VALUES(?,?,?,?)",
            [now_ns, event, id, detail],
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _expires_ns(bundle: Bundle) -> int:
    """Return when a bundle expires by the clock; one without a creation time, never by it."""
    primary = bundle.primary
    if not primary.created.dtn_ms:
        return (1 << 63) - 1
    return min(utc_ns(primary.created.dtn_ms + primary.lifetime_ms), (1 << 63) - 1)
