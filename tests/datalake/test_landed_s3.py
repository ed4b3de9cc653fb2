"""The landing zone in a real S3 server."""

import shutil

import obstore
import pytest
from fakes_s3 import BUCKET, S3Server, s3_server  # noqa: F401
from lake_parts import land, rows
from obstore.store import S3Store

from datalake.ingest import ingest
from vehicle.contracts.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("s3")]


def test_clips_of_a_real_bucket_are_taken_in_once(
    home: Home,
    s3_server: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    good, bad = land(home, seed=1), land(home, seed=2)
    store = S3Store(BUCKET, prefix="lake-test", client_options={"allow_http": True})
    for clip_id in (good, bad):
        folder = home.landing / clip_id
        data = (folder / "clip.mcap").read_bytes() if clip_id == good else b"not it"
        obstore.put(store, f"objects/{clip_id}", data)
        manifest = (folder / "manifest.json").read_bytes()
        obstore.put(store, f"clips/{clip_id}/manifest.json", manifest)
    shutil.rmtree(home.landing)
    address = f"s3://{BUCKET}/lake-test"
    report = ingest(home, store=address)
    assert (report.clip_ids, [q.error for q in report.quarantined]) == (
        [good],
        ["TruncatedClipError"],
    )
    assert ingest(home, store=address).already == 1
    assert len(rows(home, "FROM clips")) == 1
    left = {meta["path"] for batch in obstore.list(store) for meta in batch}
    assert left == {f"clips/{good}/{name}" for name in ("manifest.json", "ingested.json")}
