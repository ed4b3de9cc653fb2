"""An independent codec of bundles, run by the Python of .venv-interop.

pyd3tn_peer.py read FILE    reads bundles (hex, a JSON list), prints what it found in each
pyd3tn_peer.py write        prints bundles that it made, and what it put into each
"""

import json
import sys
from pathlib import Path

from pyd3tn.bundle7 import (
    Bundle,
    BundleAgeBlock,
    BundleProcFlag,
    BundleStatusReport,
    CRCType,
    CreationTimestamp,
    HopCountBlock,
    PayloadBlock,
    PreviousNodeBlock,
    PrimaryBlock,
    StatusCode,
    cbor2,
)

TIME = 946_684_800 + 847_000_000


def found(data: str) -> dict:
    """Return what a bundle says, and whether its checksums are what this codec reckons."""
    bundle = Bundle.parse(bytes.fromhex(data))
    primary = bundle.primary_block
    sums = [b.crc_type == 0 or b.crc_provided == b.calculate_crc() for b in bundle]
    told = {
        **{"source": str(primary.source), "destination": str(primary.destination)},
        **{"report_to": str(primary.report_to), "created": list(primary.creation_time)},
        **{"lifetime": primary.lifetime, "flags": int(primary.bundle_proc_flags)},
        **{"place": [primary.fragment_offset, primary.total_payload_length]},
        **{"payload": bundle.payload_block.data.hex(), "sums": sums},
        "blocks": [bytes(block).hex() for block in bundle],
        "kinds": {int(b.block_type): b.data.hex() for b in bundle.blocks},
    }
    if primary.has_flag(BundleProcFlag.ADMINISTRATIVE_RECORD):
        report = BundleStatusReport.from_cbor(cbor2.loads(bundle.payload_block.data))
        told["report"] = [
            *(report.is_received, report.is_delivered, report.is_deleted),
            *(int(report.reason_code), list(report.subject_creation_timestamp)),
            *(report.subject_fragment_offset, report.subject_total_payload_length),
        ]
    return told


def made() -> list[dict]:
    """Return bundles of every kind that this codec knows."""
    bundles = []
    for crc in (CRCType.CRC16, CRCType.CRC32):
        for source in ("ipn:12.1", "dtn://car-7/clips"):
            for number, flags in enumerate((0, BundleProcFlag.REPORT_DELIVERY)):
                primary = PrimaryBlock(
                    bundle_proc_flags=BundleProcFlag(flags),
                    crc_type=crc,
                    destination="dtn://home/clips",
                    source=source,
                    report_to=source,
                    creation_time=CreationTimestamp(0 if number else TIME, 5 + number),
                    lifetime=86_400_000,
                )
                extra = [
                    PreviousNodeBlock("ipn:3.0", crc_type=crc),
                    HopCountBlock(30, 2, crc_type=crc),
                    BundleAgeBlock(1234, crc_type=crc),
                ]
                payload = PayloadBlock(b"from the peer", crc_type=crc)
                bundles.append(Bundle(primary, payload, extra))
    part = PrimaryBlock(
        bundle_proc_flags=BundleProcFlag.IS_FRAGMENT,
        destination="ipn:1.1",
        source="ipn:2.1",
        creation_time=CreationTimestamp(TIME, 1),
        fragment_offset=100,
        total_payload_length=200,
    )
    bundles.append(Bundle(part, PayloadBlock(bytes(100))))
    subject = bundles[0]
    report = BundleStatusReport.from_bundle(StatusCode.DELIVERED_BUNDLE, 0, subject)
    head = PrimaryBlock(
        bundle_proc_flags=BundleProcFlag.ADMINISTRATIVE_RECORD,
        destination="ipn:12.1",
        source="ipn:1.0",
        creation_time=CreationTimestamp(TIME, 9),
    )
    bundles.append(Bundle(head, report))
    return [{"bundle": bytes(b).hex(), **found(bytes(b).hex())} for b in bundles]


if sys.argv[1] == "read":
    print(json.dumps([found(data) for data in json.loads(Path(sys.argv[2]).read_text())]))
else:
    print(json.dumps(made()))
