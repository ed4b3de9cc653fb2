"""Look for findings by coverage: `make fuzz`, or python tests/fuzz/hunt.py TARGET [SECONDS].

Needs the extra [fuzz] (atheris). The corpus is made on the fly and grows in a folder of its own
under the system's temporary folder; a finding is printed with the bytes that make it.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
with atheris.instrument_imports(include=["vehicle", "datalake", "fleet", "mcap"]):
    import fuzz_targets


def main() -> None:
    """Hunt for one target until the time is up or something is found."""
    if len(sys.argv) < 2 or sys.argv[1] not in fuzz_targets.TARGETS:
        raise SystemExit(f"usage: hunt.py {'|'.join(fuzz_targets.TARGETS)} [SECONDS]")
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    corpus = Path(tempfile.gettempdir()) / "roadloop-fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzz_targets.seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=20", "-max_len=65536"]
    prefix = f"-artifact_prefix={corpus.parent}/{name}-"
    atheris.Setup([sys.argv[0], str(corpus), prefix, *options], fuzz_targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
