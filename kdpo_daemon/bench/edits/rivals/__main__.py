"""`python -m kdpo_daemon.bench.edits.rivals WORK RIVAL`: one rival of a run, or `base`.

A line of JSON on standard output says how far it is.  Exit 0: the work folder has the rest; 1: the
last line says what is wrong.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # noqa: TID251 - before transformers reads it: never ask a hub

from kdpo_daemon.bench.edits.plan import Work
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.errors import KdpoError


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says and give the exit code."""
    directory, name = arguments
    try:
        run(Work(Path(directory)), name, tell)
    except KdpoError as error:
        _say({"error": str(error)})
        return 1
    return 0


def tell(doing: str, done: int, of: int) -> None:
    """Say how far it is."""
    _say({"doing": doing, "done": done, "of": of})


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - standard output is the process's interface


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
