import pytest

from vehicle.contracts.uplink import (
    Inbox,
    PartDigest,
    UploadAsk,
    UploadParts,
    checksum_of,
    cut,
    part_checksum,
)
from vehicle.contracts.wire import ContractError, digest

SHA = "a" * 64


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, [(1, 0, 0)]),
        (4, [(1, 0, 4)]),
        (5, [(1, 0, 4), (2, 4, 1)]),
        (8, [(1, 0, 4), (2, 4, 4)]),
    ],
)
def test_parts_cover_a_content_once(size, expected):
    assert list(cut(size, 4)) == expected


def test_checksum_is_the_one_s3_wants():
    assert part_checksum(b"x") == checksum_of(digest(b"x"))
    assert part_checksum(b"") == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize(
    "make",
    [
        lambda: UploadAsk(size_bytes=5, part_bytes=4, parts=(SHA,)),
        lambda: UploadAsk(size_bytes=-1, part_bytes=4, parts=(SHA,)),
        lambda: UploadAsk(size_bytes=1, part_bytes=0, parts=(SHA,)),
        lambda: UploadAsk(size_bytes=1 << 40, part_bytes=1, parts=()),
        lambda: UploadAsk(size_bytes=1, part_bytes=4, parts=("../x",)),
        lambda: UploadParts(parts=()),
        lambda: UploadParts(parts=(PartDigest(number=2, sha256=SHA),)),
        lambda: PartDigest(number=10_001, sha256=SHA),
        lambda: Inbox(wanted=("../x",)),
        lambda: Inbox(part_bytes=0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ContractError):
        make()
