"""`python -m kdpo_daemon.tuning train ORDER OUT --said DIR` and `... baseline BASE OUT`.

A line of JSON per step on standard output is progress and heartbeat.  Exit 0: OUT is complete.
Exit 2: the order is refused, and the last line says why and for which facts.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# never ask a hub, and what deterministic algorithms want of CUDA; both are read at the start
os.environ |= {"HF_HUB_OFFLINE": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # noqa: TID251

from kdpo_daemon.errors import AdapterError, TuningError
from kdpo_daemon.tuning.given import RefusedError
from kdpo_daemon.tuning.run import baseline, train

REFUSED = 2


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kdpo_daemon.tuning")
    parser.add_argument("verb", choices=("train", "baseline"))
    parser.add_argument("source", type=Path, help="the order's directory, or the base model's")
    parser.add_argument("out", type=Path, help="an empty directory")
    parser.add_argument("--said", type=Path, help="where what the base says is remembered")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "train":
            train(given.source, given.said, given.out, tell)
        else:
            baseline(given.source, given.out)
    except RefusedError as error:
        tell({"refused": str(error), "fact_ids": list(error.fact_ids)})
        return REFUSED
    except AdapterError as error:
        tell({"refused": str(error), "fact_ids": []})
        return REFUSED
    except TuningError as error:
        if not error.refused:
            raise
        tell({"refused": str(error), "fact_ids": []})
        return REFUSED
    return 0


def tell(line: dict[str, object]) -> None:
    """Print one line of JSON at once: the daemon listens."""
    print(json.dumps(line), flush=True)  # noqa: T201 - standard output is the child's interface


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
