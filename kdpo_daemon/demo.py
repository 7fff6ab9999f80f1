"""`make demo`: the whole loop on one machine, from a feed to a changed answer of a real server.

Starts a vLLM server and a feed on loopback, runs one cycle of the daemon's own code, shows what
the served endpoint answered before and answers now, and stops what it started.  Exit status 0
only if the gate promoted the adapter and the answers changed.
"""

import argparse
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kdpo_daemon import packs
from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.edits.scores import first_sentence, hit
from kdpo_daemon.errors import KdpoError
from kdpo_daemon.local_vllm import LocalVllm, free_port, start
from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.records.teaching import Form, Probe, ProbeKind
from kdpo_daemon.store import adapters, deployments, facts, feeds, probes

#: Share of the facts that must be answered with the new object, in each form.
_WANTED = 0.9

#: Share of the general questions that the base model answers right that must still be right.
_GENERAL = 0.95

#: What the gate asks of a model this small where it falls short of the defaults, so that the swap
#: can be seen: docs/editing.md says what it reaches.  All else is as by default, general_kept too.
GATE = """
[gate]
paraphrase_chat = 0.0
same_subject_unchanged = 0.4
same_relation_unchanged = 0.05
general_unchanged = 0.6
"""

console = Console()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the demo feed; answers conditional requests with 304."""

    def log_message(self, *_: object) -> None:
        """Say nothing: the demo's output is the daemon's."""


@contextmanager
def serve_feed(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback over HTTP; gives its URL."""
    handler = partial(_Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
            _server(given.model, given.serve_python, home, port),
            serve_feed(home / "feed") as url,
        ):
            passed = _cycle(home, url)
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
concurrency = 64

[serving]
alias = "prod"
adapters = "adapters"
{GATE}"""


@contextmanager
def _server(model: Path, python: Path, home: Path, port: int) -> Iterator[None]:
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
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task("starting vLLM (a minute or so)", total=None)
        server = start(wanted, on_wait=lambda _seconds: None)
    console.print(f"vLLM is up on port {port}; its log is {home / 'vllm.log'}")
    try:
        yield
    finally:
        server.stop()


def _cycle(home: Path, url: str) -> bool:
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
            bar.update(row, description=name, completed=0, total=None)
            report = act()
            if not report.idle:
                said = ", ".join(f"{n} {what}" for what, n in report.counts.items() if n)
                console.print(f"[bold]{name:8}[/bold] {said}")
            for problem in report.problems:
                console.print(problem, style="yellow", markup=False, soft_wrap=True)
    passed = _show(app, home)
    app.close()
    return passed


def _show(app: App, home: Path) -> bool:
    """Ask the served endpoint once more, now as any client would, and compare."""
    replica = app.replicas[0]
    alias = app.settings.serving.alias
    with app.db.begin() as tx:
        taught = sorted(facts.list_facts(tx), key=lambda fact: fact.id)
        asked = [
            one
            for one in probes.probes_of(tx, [fact.id for fact in taught])
            if one.kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE)
        ]
        wanted = deployments.wanted(tx)
    prompts = [one.prompt for one in asked]
    longest = app.settings.plan.max_tokens
    base = replica.answer(app.settings.model.name, prompts, longest)
    served = replica.answer(alias, prompts, longest)
    before = {one.id: text for one, text in zip(asked, base, strict=True)}
    after = {one.id: text for one, text in zip(asked, served, strict=True)}
    shares = _answers(taught, asked, before, after)
    if wanted is None:
        return False
    passed = _gate(app, wanted.adapter.name)
    console.print(f"\nServed under the alias {alias!r}: [bold]{wanted.adapter.name}[/bold]")
    console.print(f"Every step is in {home / 'kdpo.db'}:")
    kdpo = f"{sys.executable} -m kdpo_daemon --config {home / 'kdpo.toml'}"
    console.print(f"  {kdpo} audit show", markup=False, soft_wrap=True)
    console.print(f"  {kdpo} facts show {taught[0].id}", markup=False, soft_wrap=True)
    console.print("  sqlite3 kdpo.db 'select * from applied_edits'", markup=False)
    console.print("To take it back, while the server runs (make demo KEEP=1):")
    console.print(f"  {kdpo} rollback", markup=False, soft_wrap=True)
    missed = [
        *(
            f"answers in {form} form"
            for form, pair in zip(Form, shares, strict=True)
            if not _changed(pair)
        ),
        *([] if passed else ["the gate"]),
        *([] if _general_kept(app, wanted.adapter.name) >= _GENERAL else ["general_kept"]),
    ]
    if missed:
        what = ", ".join(missed)
        console.print(f"\nThe demo missed its goal (docs/editing.md): {what}.", style="red")
    return not missed


def _changed(shares: tuple[float, float]) -> bool:
    """Tell whether nothing was answered rightly before and nearly everything is now."""
    before, now = shares
    return before == 0 and now >= _WANTED


def _general_kept(app: App, name: str) -> float:
    with app.db.begin() as tx:
        adapter = adapters.adapter_by_name(tx, name)
        scores = {score.name: score.value for score in adapters.scores_of(tx, adapter.id)}
    return scores.get("general_kept", 0.0)


def _answers(
    taught: Sequence[Fact],
    asked: Sequence[Probe],
    before: dict[int, str],
    after: dict[int, str],
) -> list[tuple[float, float]]:
    """Print the table of answers and give, for each form, the share right before and after."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, width in (("fact", 22), ("asked as", 10), ("before", 22), ("now", 22)):
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    marks: dict[Form, list[tuple[bool, bool]]] = {form: [] for form in Form}
    for fact in taught:
        for form in Form:
            probe = _first_taught(asked, fact, form)
            then, now = before[probe.id], after[probe.id]
            right = hit(now, probe.expected)
            marks[form].append((hit(then, probe.expected), right))
            table.add_row(
                f"{fact.subject}, {fact.role}" if form is Form.COMPLETION else "",
                form.value,
                first_sentence(then),
                f"[{'green' if right else 'red'}]{first_sentence(now)}",
            )
    console.print()
    console.print(table)
    _phrasings(asked, after)
    return [
        (sum(then for then, _ in all_) / len(all_), sum(now for _, now in all_) / len(all_))
        for all_ in marks.values()
    ]


def _first_taught(asked: Sequence[Probe], fact: Fact, form: Form) -> Probe:
    """Give the plainest question about a fact: the first phrasing that is taught."""
    return next(
        one
        for one in asked
        if one.fact_id == fact.id and one.prompt.form is form and one.kind is ProbeKind.EDIT
    )


def _phrasings(asked: Sequence[Probe], after: dict[int, str]) -> None:
    console.print("\nAnswered with the new object alone, free generation to its natural stop:")
    for kind, words in (
        (ProbeKind.EDIT, "phrasings that were taught"),
        (ProbeKind.PARAPHRASE, "phrasings never taught"),
    ):
        for form in Form:
            hits = [
                hit(after[one.id], one.expected)
                for one in asked
                if one.kind is kind and one.prompt.form is form
            ]
            console.print(f"  {words}, {form.value}: {sum(hits)} of {len(hits)}", highlight=False)


def _gate(app: App, name: str) -> bool:
    with app.db.begin() as tx:
        adapter = adapters.adapter_by_name(tx, name)
        verdict = adapters.verdict_of(tx, adapter.id)
    if verdict is None:
        console.print("\nNo candidate was promoted.", style="red")
        return False
    console.print(f"\nThe gate's verdict on {name}: [bold]{verdict.ruling}[/bold]")
    for reason in verdict.reasons:
        console.print(f"  {reason}", highlight=False, markup=False)
    return verdict.ruling is VerdictRuling.PROMOTE


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
