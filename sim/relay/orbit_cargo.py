"""What travels in the trial of the relay: a signed release, a bad one, a clip."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from fleet.orbit.releases import release_parcel
from fleet.orbit.services import clip_parcel
from fleet.sign import Repository
from sim.relay.orbit_script import CAR, START_UTC_NS
from vehicle import bundles
from vehicle.contracts import parcel, wire
from vehicle.contracts.clip import ClipManifest, FileEntry, TriggerEvent
from vehicle.contracts.home import Home
from vehicle.contracts.release import Release

CLIP_BYTES: Final = 1_500_000


def release(home: Home) -> tuple[Release, bytes]:
    """Sign the shipped network as the home's first release; return it and its parcel."""

    def start() -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=START_UTC_NS // 10**9)

    repository = Repository(home, now=start)
    repository.create()
    folder = bundles.base_folder()
    bundle, archive = bundles.load(folder), bundles.pack(folder)
    release = Release(
        release_counter=1,
        bundle=bundle.tag,
        bundle_digest=bundles.digest_of(folder),
        rig_digest=bundle.rig.digest,
        archive=FileEntry(name="1.tar", sha256=wire.digest(archive), size_bytes=len(archive)),
        report_digests=(),
    )
    repository.publish(folder, release)
    return release, release_parcel(repository, bundle.rig.digest)


def tampered(good: bytes) -> bytes:
    """Return the release with one bit of what is signed flipped, and without its archive."""
    contents = parcel.unpack(good, 1 << 30)
    name = next(n for n in contents if n.endswith(".targets.json"))
    data = contents[name]
    kept = {n: d for n, d in contents.items() if n.startswith("metadata/")}
    return parcel.pack({**kept, name: data[:200] + bytes([data[200] ^ 1]) + data[201:]})


def clip(outbox: Path) -> bytes:
    """Return a clip of the car as a parcel."""
    content = np.random.default_rng(6).bytes(CLIP_BYTES)
    sha256 = wire.digest(content)
    event = TriggerEvent(
        trigger="harsh-brake",
        campaign_id="default",
        frame_id=30,
        mono_ns=10**9,
        value=6.1,
        threshold=4.0,
    )
    manifest = ClipManifest(
        clip_id=sha256,
        car_id=CAR,
        route_id="mojave",
        events=(event,),
        frames=(0, 60),
        start_mono_ns=0,
        end_mono_ns=2 * 10**9,
        created_utc_ns=START_UTC_NS,
        jurisdiction="US",
        model="base@1",
        rig_digest="",
        files=(FileEntry(name="clip.mcap", sha256=sha256, size_bytes=len(content)),),
    )
    wire.atomic_write(outbox / "clip.mcap", content)
    wire.atomic_write(outbox / "manifest.json", wire.to_bytes(manifest))
    return clip_parcel(outbox)
