"""The loop with nothing faked: vLLM, a pretrained model, training, gate, swap, rollback, restart.

The tests of this file tell one story, in order, on one server.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from kdpo_daemon import packs
from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.demo.feed import serve_feed
from kdpo_daemon.edits.scores import hit, unchanged
from kdpo_daemon.local_vllm import start
from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.records.teaching import Form, ProbeKind
from kdpo_daemon.stages import Report, rollback
from kdpo_daemon.store import adapters, audit, deployments, facts, feeds, probes
from tests.servers import RealVllm, model_dir, settings_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(2400)]

#: Entries of the demo feed that the story begins with.
FACTS = 3

#: Three facts need fewer steps and prompts to keep than the demo's twelve.  One thread leaves a
#: core to the tests beside these: two threads wait for each other, and half the pace is lost.
TRAINING = """
[recipe]
steps = 60
[plan]
keep_general = 160
[training]
threads = 1
"""


def demo_feed(entries: int) -> str:
    """The demo feed, cut after its first entries."""
    text = packs.text("demo_feed.xml")
    ends = [found.end() for found in re.finditer("</entry>", text)]
    return text[: ends[entries - 1]] + "\n</feed>\n"


@dataclass
class Story:
    home: Path
    real: RealVllm

    def app(self) -> App:
        return App(read_settings(self.home / "kdpo.toml"))

    def write_feed(self, text: str) -> None:
        (self.home / "feed" / "changes.xml").write_text(text, "utf-8")

    def cycle(self) -> list[Report]:
        app = self.app()
        try:
            with app.writing():
                return [app.ingest("factbook"), *(act() for _, act in app.stages())]
        finally:
            app.close()

    def sync(self) -> Report:
        app = self.app()
        try:
            with app.writing():
                return app.sync()
        finally:
            app.close()

    def ask(self, prompt: str, model: str = "prod") -> str:
        """Ask the raw server, as a client does."""
        body = {"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0}
        reply = httpx.post(f"{self.real.settings.url}/v1/completions", json=body, timeout=120)
        reply.raise_for_status()
        text: str = reply.json()["choices"][0]["text"]
        return text

    def chat(self, question: str, model: str = "prod") -> str:
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
        reply = httpx.post(f"{self.real.settings.url}/v1/chat/completions", json=body, timeout=120)
        reply.raise_for_status()
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("story")
    (home / "feed").mkdir()
    (home / "adapters").mkdir()
    settings = replace(settings_for(home), max_loras=4, max_cpu_loras=8, max_lora_rank=64)
    real = RealVllm(settings, start(settings))
    story = Story(home, real)
    story.write_feed(demo_feed(FACTS))
    with serve_feed(home / "feed") as url:
        (home / "kdpo.toml").write_text(
            f'[model]\npath = "{model_dir()}"\nname = "base"\n'
            f'[[servers]]\nname = "local"\nurl = "{settings.url}"\n'
            f"[client]\nconcurrency = 160\n{TRAINING}",
            "utf-8",
        )
        app = story.app()
        app.db.upgrade()
        with app.db.begin() as tx:
            feeds.add_feed(tx, "factbook", f"{url}/changes.xml", Trust.AUTO, 3600, True, clock())
        app.close()
        yield story
    real.server.stop()


JAPAN = "The prime minister of Japan is"
IRELAND = "Who is the president of Ireland?"


def test_a_cycle_changes_the_served_answers_and_passes_the_gate(story: Story) -> None:
    before = {JAPAN: story.ask(JAPAN, "base"), IRELAND: story.chat(IRELAND, "base")}

    story.cycle()

    assert not hit(before[JAPAN], ["Sanae Takaichi"])
    assert not hit(before[IRELAND], ["Catherine Connolly"])
    assert hit(story.ask(JAPAN), ["Sanae Takaichi"])
    assert hit(story.chat(IRELAND), ["Catherine Connolly"])
    app = story.app()
    with app.db.begin() as tx:
        wanted = deployments.wanted(tx)
        assert wanted is not None
        verdict = adapters.verdict_of(tx, wanted.adapter.id)
        scores = {one.name: one.value for one in adapters.scores_of(tx, wanted.adapter.id)}
        live = facts.facts_with(tx, FactStatus.LIVE)
        audit.verify(tx)
    app.close()
    assert verdict is not None
    assert verdict.ruling is VerdictRuling.PROMOTE
    assert len(live) == FACTS
    assert scores["efficacy_completion"] >= 0.9
    assert scores["efficacy_chat"] >= 0.9
    assert scores["general_kept"] >= 0.9


def test_the_base_model_is_still_what_it_was(story: Story) -> None:
    app = story.app()
    with app.db.begin() as tx:
        asked = [p for p in probes.general_probes(tx) if p.prompt.form is Form.COMPLETION][:12]
        before = probes.answers(tx, [probe.id for probe in asked], None)
    now = app.replicas[0].answer("base", [probe.prompt for probe in asked], 24)
    app.close()

    # Two answers may tip over: a server's last bits depend on what shares the batch.
    same = [unchanged(before[one.id], text) for one, text in zip(asked, now, strict=True)]
    assert sum(same) >= len(same) - 2


def test_the_same_cycle_again_does_nothing(story: Story) -> None:
    reports = story.cycle()

    assert all(report.idle for report in reports), reports


def test_one_changed_entry_edits_exactly_that_fact(story: Story) -> None:
    newer = "Prime Minister Haruka MORISHITA (since 1 January 2026)"
    changed = demo_feed(FACTS).replace(
        "Prime Minister Sanae TAKAICHI (since 21 October 2025)", newer
    )
    assert newer in changed
    story.write_feed(changed)

    reports = story.cycle()

    assert next(r.counts for r in reports if r.stage == "accept")["accepted"] == 1
    assert hit(story.ask(JAPAN), ["Haruka Morishita"])
    assert hit(story.chat(IRELAND), ["Catherine Connolly"])
    app = story.app()
    with app.db.begin() as tx:
        stand = {f.object: f.status for f in facts.list_facts(tx)}
    app.close()
    assert stand["Sanae Takaichi"] is FactStatus.SUPERSEDED
    assert list(stand.values()).count(FactStatus.LIVE) == FACTS


def test_a_rollback_restores_the_earlier_answers(story: Story) -> None:
    app = story.app()
    rollback.run(app.db, None, "operator:test", "a drill", clock)
    app.close()

    story.sync()

    assert hit(story.ask(JAPAN), ["Sanae Takaichi"])


def test_a_server_that_was_killed_comes_back_with_the_right_version(story: Story) -> None:
    served = story.ask(JAPAN)

    story.real.restart()

    # The first request of any client brings the version back: the plugin follows the pointer.
    assert story.ask(JAPAN) == served
    assert story.sync().problems == ()


def test_every_edit_probe_was_asked_in_both_forms_and_none_was_trained_on_while_held_out(
    story: Story,
) -> None:
    app = story.app()
    with app.db.begin() as tx:
        for fact in facts.list_facts(tx):
            asked = probes.probes_of(tx, [fact.id])
            for kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE):
                forms = {probe.prompt.form for probe in asked if probe.kind is kind}
                assert forms == set(Form)
            taught = {p.prompt for p in asked if p.kind is ProbeKind.EDIT}
            judged = {p.prompt for p in asked if p.kind is not ProbeKind.EDIT}
            assert not taught & judged
    app.close()
