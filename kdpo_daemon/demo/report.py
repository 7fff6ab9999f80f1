"""What the served endpoint answered before and answers now, and the gate's verdict."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdpo_daemon.app import App
from kdpo_daemon.edits.scores import first_sentence, hit
from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Form, Probe, ProbeKind
from kdpo_daemon.serving import Replica
from kdpo_daemon.store import adapters, deployments, facts, probes

#: Share of the facts that must be answered with the new object, in each form.
_WANTED = 0.9

#: Share of the general questions that the base model answers right that must still be right.
_GENERAL = 0.95


def show(app: App, home: Path, console: Console) -> bool:
    """Ask the served endpoint once more, now as any client would, and compare.

    Tells whether the demo reached its goal.
    """
    with app.db.begin() as tx:
        wanted = deployments.wanted(tx)
        taught = sorted(facts.list_facts(tx), key=lambda fact: fact.id)
        known = probes.probes_of(tx, [fact.id for fact in taught])
    asked = [_first_taught(known, fact, form) for fact in taught for form in Form]
    replica, alias = app.replicas[0], app.settings.serving.alias
    base = _said(app, replica, app.settings.model.name, asked)
    served = _said(app, replica, alias, asked)
    shares = _answers(console, taught, asked, base, served)
    if wanted is None:
        return False
    passed = _gate(app, wanted.adapter.name, console)
    console.print(f"\nServed under the alias {alias!r}: [bold]{wanted.adapter.name}[/bold]")
    _where_to_look(console, home, taught[0])
    missed = [
        f"answers in {form} form"
        for form, pair in zip(Form, shares, strict=True)
        if not _changed(pair)
    ]
    missed += [] if passed else ["the gate"]
    missed += [] if _general_kept(app, wanted.adapter.name) >= _GENERAL else ["general_kept"]
    if missed:
        what = ", ".join(missed)
        console.print(f"\nThe demo missed its goal (docs/editing.md): {what}.", style="red")
    return not missed


def _said(app: App, replica: Replica, model: str, asked: Sequence[Probe]) -> dict[int, str]:
    """Give what a model answers to each probe, by the probe's id."""
    said = replica.answer(model, [one.prompt for one in asked], app.settings.plan.max_tokens)
    return {one.id: text for one, text in zip(asked, said, strict=True)}


def _where_to_look(console: Console, home: Path, fact: Fact) -> None:
    kdpo = f"{sys.executable} -m kdpo_daemon --config {home / 'kdpo.toml'}"
    console.print(f"Every step is in {home / 'kdpo.db'}:")
    console.print(f"  {kdpo} audit show", markup=False, soft_wrap=True)
    console.print(f"  {kdpo} facts show {fact.id}", markup=False, soft_wrap=True)
    console.print("  sqlite3 kdpo.db 'select * from applied_edits'", markup=False)
    console.print("To take it back, while the server runs (make demo KEEP=1):")
    console.print(f"  {kdpo} rollback", markup=False, soft_wrap=True)


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
    console: Console,
    taught: Sequence[Fact],
    asked: Sequence[Probe],
    before: dict[int, str],
    after: dict[int, str],
) -> list[tuple[float, float]]:
    """Print the table of answers and give, for each form, the share right before and after."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, width in (("fact", 22), ("asked as", 10), ("before", 22), ("now", 22)):
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    names = {fact.id: f"{fact.subject}, {fact.role}" for fact in taught}
    marks: dict[Form, list[tuple[bool, bool]]] = {form: [] for form in Form}
    for probe in asked:
        form, then, now = probe.prompt.form, before[probe.id], after[probe.id]
        right = hit(now, probe.expected)
        marks[form].append((hit(then, probe.expected), right))
        table.add_row(
            names.pop(probe.fact_id or 0, ""),  # once, above both forms
            form.value,
            first_sentence(then),
            f"[{'green' if right else 'red'}]{first_sentence(now)}",
        )
    console.print()
    console.print(table)
    return [
        (sum(then for then, _ in all_) / len(all_), sum(now for _, now in all_) / len(all_))
        for all_ in marks.values()
    ]


def _first_taught(known: Sequence[Probe], fact: Fact, form: Form) -> Probe:
    """Give the plainest question about a fact: the first phrasing that is taught."""
    return next(
        one
        for one in known
        if one.fact_id == fact.id and one.prompt.form is form and one.kind is ProbeKind.EDIT
    )


def _gate(app: App, name: str, console: Console) -> bool:
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
