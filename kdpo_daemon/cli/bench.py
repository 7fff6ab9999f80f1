"""Commands that measure."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import packs, show
from kdpo_daemon.bench import beside, folder, scale
from kdpo_daemon.bench import documents as documents_bench
from kdpo_daemon.bench import extract as extract_bench
from kdpo_daemon.bench import sources as sources_bench
from kdpo_daemon.bench import wikidata as wikidata_bench
from kdpo_daemon.cli import bench_edits, bench_serving
from kdpo_daemon.cli.options import ATTENTION, console
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.serving.extractor import Extractor, ExtractorPolicy

Out = Annotated[Path, typer.Option("--json", help="Where the numbers go.")]

cli = typer.Typer(help="Measure what the documentation states.", no_args_is_help=True)
bench_serving.add_to(cli)
bench_edits.add_to(cli)


@cli.callback()
def _measure() -> None:
    pass


@cli.command("intake")
def intake(
    data: Annotated[
        Path, typer.Option(help="Folder that holds factbook, wikidata, feeds, feeds_polls.")
    ],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="Labelled changes of the Factbook, besides the shipped.")
    ] = None,
) -> None:
    """Replay the World Factbook week by week, and compare with hand-labelled changes.

    Of the same folder also: revisions of Wikidata, feed documents, feeds polled again.
    """
    with tempfile.TemporaryDirectory() as home, console.status("") as status:
        result = folder.measure(
            data,
            Path(home) / "bench.db",
            lambda what, done, of: status.update(f"{what} ({done} of {of})"),
            labels,
        )
    _write(out, result)
    show.tree(console, folder.summary(result), as_json=False)


@cli.command("plot")
def plot(
    result: Annotated[Path, typer.Argument(help="What bench intake or bench edits wrote.")],
    picture: Annotated[Path, typer.Argument(help="SVG or PNG to write.")],
) -> None:
    """Draw what `kdpo bench intake` or `edits` found; needs the package matplotlib."""
    _need("matplotlib")
    from kdpo_daemon.bench import plots
    from kdpo_daemon.bench.edits import pictures

    found = json.loads(result.read_text("utf-8"))
    draw = pictures.draw if found.get("benchmark") == "edits" else plots.draw
    draw(found, picture)


@cli.command("documents")
def documents(
    data: Annotated[Path, typer.Option(help="Folder that holds feeds/MANIFEST.jsonl.")], out: Out
) -> None:
    """Read every feed document of a folder; exit status 3 if one is read otherwise than it is."""
    with console.status("reading documents"):
        rows = documents_bench.measure(data)
        polls = documents_bench.polls(data) if (data / "feeds_polls").is_dir() else {}
    documents = [asdict(row) | {"good": row.good} for row in rows]
    again = {name: [asdict(counts) for counts in found] for name, found in polls.items()}
    _write(out, {"documents": documents, "polls": again})
    shown = folder.of_documents(documents)
    show.tree(console, shown | {"polls": again}, as_json=False)
    if shown["not good"]:
        raise typer.Exit(ATTENTION)


@cli.command("extract")
def extract(
    data: Annotated[Path, typer.Option(help="Folder that holds feeds/MANIFEST.jsonl.")],
    out: Out,
    url: Annotated[str, typer.Option(help="Also measure a model: its endpoint, with /v1.")] = "",
    model: Annotated[str, typer.Option(help="The name that the endpoint knows it by.")] = "base",
    others: Annotated[
        int, typer.Option(help="Entries without a fact that the model is asked about.", min=0)
    ] = 40,
) -> None:
    """Find facts in the free text of real entries, by patterns and by a model."""
    pack = read_pack([packs.text(name) for name in packs.RELATIONS])
    items = extract_bench.read_items(data)
    result: dict[str, object] = {
        "patterns": extract_bench.shown(extract_bench.by_patterns(items, pack))
    }
    if url:
        policy = ExtractorPolicy(answer_s=300)  # a slow model is to be judged by what it says
        with Extractor(url, model, None, policy) as one, console.status("") as status:
            result["model"] = extract_bench.by_a_model(
                items,
                one,
                pack,
                others,
                lambda what, done, of: status.update(f"{what} ({done} of {of})"),
            )
    _write(out, result)
    show.tree(console, result, as_json=False)


@cli.command("reader")
def reader(
    data: Annotated[Path, typer.Option(help="Folder that holds feeds/ and feeds_polls/.")],
    out: Out,
) -> None:
    """Poll real feeds side by side with the package `reader`, which has to be installed."""
    _need("reader")
    with console.status("polling with both"):
        rows = beside.measure(data)
    _shown(out, [asdict(row) for row in rows])


@cli.command("wikidata")
def wikidata(
    data: Annotated[Path, typer.Option(help="Folder that holds wikidata/Q*@rev*.json.")], out: Out
) -> None:
    """Compare revisions of real items: what is told, what changed, and every difference."""
    with console.status("comparing revisions"):
        pairs = wikidata_bench.measure(data)
    _shown(out, [asdict(pair) for pair in pairs])


@cli.command("sources")
def sources(
    out: Out,
    count: Annotated[int, typer.Option("--sources", help="How many feeds.", min=1)] = 1000,
    entries: Annotated[int, typer.Option(help="Entries in each.", min=1)] = 100,
) -> None:
    """Poll many feeds of a local server twice; the second time nothing has changed."""
    with console.status(f"polling {count} feeds twice"):
        passes = sources_bench.measure(count, entries)
    _shown(out, [asdict(one) for one in passes])


@cli.command("accept")
def accept(
    out: Out,
    db: Annotated[
        list[str] | None,
        typer.Option(help="URLs of two EMPTY databases, for few and for many facts; or files."),
    ] = None,
    few: Annotated[int, typer.Option(help="Facts in the first.", min=1)] = 10_000,
    many: Annotated[int, typer.Option(help="Facts in the second.", min=1)] = 1_000_000,
    claims: Annotated[int, typer.Option(help="New claims in each round.", min=2)] = 100,
) -> None:
    """Time the accept stage with few and with many stored facts, by turns.

    The databases are filled, and not emptied.
    """
    if db and len(db) != 2:
        raise typer.BadParameter("give it twice, or not at all", param_hint="--db")
    with tempfile.TemporaryDirectory() as home, console.status(f"storing {many} facts"):
        urls = db or [f"sqlite:///{home}/few.db", f"sqlite:///{home}/many.db"]
        found = scale.measure(list(zip(urls, (few, many), strict=True)), claims)
    _shown(out, [asdict(one) | {"best_s": one.best_s} for one in found])


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise SettingsError("is not installed", subject=package, hint=f"pip install {package}")


def _shown(out: Path, rows: Sequence[dict[str, object]]) -> None:
    _write(out, rows)
    for row in rows:
        show.tree(console, row, as_json=False)


def _write(out: Path, result: object) -> None:
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
