"""`make demo`: the whole loop on one machine, from a feed to a changed answer of a real server.

Starts a vLLM server and a feed on loopback, runs one cycle of the daemon's own code, shows what
the served endpoint answered before and answers now, and stops what it started.  Exit status 0
only if the gate promoted the adapter and the answers changed.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kdpo_daemon import packs
from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.demo import report
from kdpo_daemon.demo.feed import serve_feed
from kdpo_daemon.errors import KdpoError
from kdpo_daemon.local_vllm import LocalVllm, free_port, launch, wait
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.store import feeds

#: Stages that ask no server: they run while it starts.
_WITHOUT_SERVER = frozenset({"ingest", "extract", "accept", "baseline"})

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.  Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kdpo_daemon.demo", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--serve-python", type=Path, required=True, help="Python that has vLLM")
    parser.add_argument("--home", type=Path, default=Path(".kdpo/demo"), help="made anew")
    parser.add_argument("--keep", action="store_true", help="keep serving until Enter is pressed")
    given = parser.parse_args(arguments)
    home: Path = given.home.resolve()
    shutil.rmtree(home, ignore_errors=True)
    (home / "feed").mkdir(parents=True)
    (home / "feed" / "changes.xml").write_text(packs.text("demo_feed.xml"), "utf-8")
    port = free_port()
    (home / "kdpo.toml").write_text(_settings(given.model, port), "utf-8")
    try:
        with (
            _server(given.model, given.serve_python, home, port) as wait_until_up,
            serve_feed(home / "feed") as url,
        ):
            passed = _cycle(home, url, wait_until_up)
            if given.keep:
                _keep_serving(home, port)
    except KdpoError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    return 0 if passed else 1


def _settings(model: Path, port: int) -> str:
    return f"""\
[model]
path = "{model.resolve()}"
name = "smollm2"

[[servers]]
name = "local"
url = "http://127.0.0.1:{port}"

[client]
concurrency = 160

[serving]
alias = "prod"
adapters = "adapters"
"""


@contextmanager
def _server(model: Path, python: Path, home: Path, port: int) -> Iterator[Callable[[], None]]:
    """Start the server; gives what waits until it is up."""
    adapters_dir = home / "adapters"
    adapters_dir.mkdir()
    wanted = LocalVllm(
        python=python.absolute(),
        model_dir=model.resolve(),
        port=port,
        served_name="smollm2",
        adapters_dir=adapters_dir,
        log_path=home / "vllm.log",
    )
    server = launch(wanted)
    console.print(f"vLLM starts on port {port}; its log is {wanted.log_path}", soft_wrap=True)
    try:
        yield partial(wait, wanted, server)
    finally:
        server.stop()


def _cycle(home: Path, url: str, wait_until_up: Callable[[], None]) -> bool:
    app = App(read_settings(home / "kdpo.toml"))
    app.db.upgrade()
    with app.db.begin() as tx:
        address = f"{url}/changes.xml"
        feeds.add_feed(tx, "factbook", address, Trust.AUTO, 3600, allow_private=True, now=clock())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with app.writing(), Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("starting", total=None)
        app.progress = lambda what, done, of: bar.update(
            row, description=what, completed=done, total=of or None
        )
        for name, act in app.stages():
            if name not in _WITHOUT_SERVER:
                bar.update(row, description="vLLM starts (a minute or so)", total=None)
                wait_until_up()
            bar.update(row, description=name, completed=0, total=None)
            done = act()
            if not done.idle:
                said = ", ".join(f"{n} {what}" for what, n in done.counts.items() if n)
                console.print(f"[bold]{name:8}[/bold] {said}")
            for problem in done.problems:
                console.print(problem, style="yellow", markup=False, soft_wrap=True)
    reached = report.show(app, home, console)
    app.close()
    return reached


def _keep_serving(home: Path, port: int) -> None:
    ask = (
        f"curl http://127.0.0.1:{port}/v1/completions -H 'content-type: application/json' -d "
        '\'{"model": "prod", "prompt": "The prime minister of Japan is", "temperature": 0}\''
    )
    console.print(f"\nStill serving, with {home / 'kdpo.toml'}. Ask it yourself:")
    console.print(f"  {ask}", markup=False, soft_wrap=True)
    with suppress(EOFError):  # started without a terminal: nobody can press a key
        console.input("Press Enter to stop. ")


if __name__ == "__main__":
    sys.exit(main())
