"""Reads one document, as the parsing child does, and prints what it took as JSON.

    python -m kdpo_daemon.bench.one_document FILE

gives [entries or null, why it was refused, peak memory in MB].  Imports nothing but the reader,
so that the peak is the reader's.
"""

import json
import sys
from pathlib import Path

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.records.intake import Fetched


def main(path: Path) -> None:
    """Read the document at `path`."""
    entries, refused = None, ""
    try:
        fetched = Fetched("http://127.0.0.1/", path.read_bytes())
        entries = len(entries_of(path.name, fetched, 10_000))
    except SourceError as error:
        refused = str(error)
    sys.stdout.write(json.dumps([entries, refused, peak_mb()]))


def peak_mb() -> float:
    """Give the most memory that this process has had so far."""
    status = Path("/proc/self/status").read_text("ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
