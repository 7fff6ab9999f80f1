"""The command line in a process of its own, forked from one that has imported it already.

Of what a short command takes, nearly all is its imports.  `python -m kdpo_daemon` itself is run by
tests/stages/test_daemon.py.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["kdpo_daemon.cli"])


def run(words: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `kdpo` with these words in a directory, and capture what it says."""
    with TemporaryDirectory() as folder:
        said = Path(folder, "stdout"), Path(folder, "stderr")
        process = _forks.Process(target=_run, args=(list(words), cwd, said, dict(os.environ)))
        process.start()
        process.join()
        out, err = (path.read_text("utf-8") for path in said)
        status = process.exitcode
        process.close()
    assert status is not None
    return subprocess.CompletedProcess(["kdpo", *words], status, out, err)


def _run(words: list[str], cwd: Path, said: tuple[Path, Path], environ: Mapping[str, str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for stream, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    sys.argv = ["kdpo", *words]
    from kdpo_daemon.cli import main

    main()
