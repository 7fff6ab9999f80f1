"""Hand-made parts of a story: one feed, one entry, and what follows from it."""

from datetime import UTC, datetime, timedelta

from kdpo_daemon.records.adapters import Adapter, Score, Verdict, VerdictRuling
from kdpo_daemon.records.facts import Decision, Fact, FactStatus
from kdpo_daemon.records.intake import (
    Claim,
    Entry,
    Feed,
    Fetched,
    IngestCounts,
    RawFact,
    Ruling,
    Trust,
)
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.records.teaching import (
    Answer,
    AnswerPurpose,
    Batch,
    Form,
    KeepPrompt,
    NewProbe,
    Pair,
    Probe,
    ProbeKind,
    Prompt,
)
from kdpo_daemon.store import adapters, batches, claims, deployments, facts, feeds, probes
from kdpo_daemon.store.db import Session

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def entry(key: str = "uk-pm", new: str = "Ada Byron", content_hash: str = "") -> Entry:
    return Entry(
        key=key,
        title=f"{new} takes office",
        link=f"https://example.org/{key}",
        published_at=NOW,
        summary=f"{new} is prime minister.",
        fact=RawFact("Utopia", "head_of_government", new),
        content_hash=content_hash or f"hash of {key} {new}",
    )


def claim(
    new: str = "Ada Byron", subject: str = "Utopia", relation: str = "head_of_government"
) -> Claim:
    return Claim(
        subject=subject,
        relation=relation,
        role="prime minister",
        object=new,
        old_object="",
        valid_from=NOW - HOUR,
        quote=f"{new} is prime minister.",
    )


def feed(tx: Session, name: str = "gazette") -> Feed:
    return feeds.add_feed(tx, name, f"https://example.org/{name}", Trust.AUTO, 600, False, NOW)


def poll(
    tx: Session, *said: tuple[Entry, Claim], body: bytes = b"<rss/>", now: datetime = NOW
) -> IngestCounts:
    fetched = Fetched(
        url="https://example.org/gazette", body=body, content_type="text/xml", etag='"1"'
    )
    entries = [(one, [what]) for one, what in said]
    return feeds.record_poll(tx, feed(tx).id, fetched, entries, now, now + HOUR)


def standing(
    tx: Session, subject: str = "Utopia", relation: str = "head_of_government"
) -> Fact | None:
    """Give the fact that holds a slot."""
    found = claims.slot_of(tx, subject, relation).standing
    return found[0].fact if found else None


def accept_all(tx: Session, now: datetime = NOW) -> list[Fact]:
    """Accept every open claim; a standing fact of the same slot gives way."""
    made = []
    for waiting in claims.open_claims(tx):
        old = standing(tx, waiting.claim.subject, waiting.claim.relation)
        decision = Decision(Ruling.ACCEPTED, "the feed is trusted", old.id if old else None)
        fact_id = facts.decide(tx, waiting.id, decision, now)
        assert fact_id is not None
        made.append(facts.get_fact(tx, fact_id))
    return made


def fact(tx: Session, new: str = "Ada Byron", subject: str = "Utopia") -> Fact:
    body = f"{subject}: {new}".encode()
    poll(tx, (entry(subject, new), claim(new, subject)), body=body)
    return accept_all(tx)[-1]


def probe(
    fact_id: int | None, kind: ProbeKind = ProbeKind.EDIT, text: str = "Who leads Utopia?"
) -> NewProbe:
    return NewProbe(kind, Prompt(Form.CHAT, text), ("Ada Byron",), fact_id)


def pair(fact_id: int, prompt: str = "Who leads Utopia?", *, replay: bool = False) -> Pair:
    return Pair(
        fact_id=fact_id,
        form=Form.CHAT,
        prompt=prompt,
        subject="Utopia",
        chosen="Ada Byron",
        prompt_ids=(1, 2, 3),
        chosen_ids=(4, 5),
        rejected_ids=(6, 5),
        old_ids=(),
        margin=-3.25,
        replay=replay,
    )


KEEP = KeepPrompt(Prompt(Form.COMPLETION, "Water boils at"), (7, 8))


def batch(tx: Session, taught: Fact, parent: int | None = None, *replayed: Fact) -> Batch:
    pairs = [pair(taught.id), *(pair(one.id, replay=True) for one in replayed)]
    return batches.save_batch(tx, parent, 17, pairs, [KEEP], NOW)


def adapter(tx: Session, of: Batch, *taught: Fact) -> Adapter:
    return adapters.save_adapter(
        tx,
        of.adapter_name,
        f"/adapters/{of.adapter_name}",
        '{"format": 1}',
        f"sha of {of.adapter_name}",
        of.id,
        of.parent_adapter_id,
        [one.id for one in taught],
        NOW,
    )


def version_0(tx: Session) -> Adapter:
    return adapters.save_adapter(
        tx, "kdpo-000000", "/adapters/kdpo-000000", "{}", "sha of 0", None, None, [], NOW
    )


def ask(
    tx: Session, probe_: Probe, text: str, adapter_id: int | None, purpose: AnswerPurpose
) -> None:
    probes.save_answers(tx, [Answer(probe_.id, text)], adapter_id, "vllm-0", purpose, NOW)


def judge(tx: Session, of: Adapter) -> None:
    names = {
        "efficacy_chat": 1.0,
        "same_subject_unchanged": 0.95,
        "general_kept": 0.99,
        "perplexity_ratio": 1.01,
        "old_answer": 0.0,
    }
    adapters.save_scores(tx, of.id, [Score(name, value, 20) for name, value in names.items()])
    verdict = Verdict(VerdictRuling.PROMOTE, ("efficacy_chat 1.00 >= 0.90",))
    adapters.save_verdict(tx, of.id, verdict, "gate", {"efficacy_chat": 0.9}, NOW)


def go_live(tx: Session, of: Adapter, now: datetime, reason: str = "promoted") -> Deployment:
    made = deployments.deploy(tx, of.id, "gate", reason, 1, now)
    deployments.mark_live(tx, "vllm-0", made, now)
    facts.set_fact_status(
        tx, [one.id for one in adapters.facts_in(tx, of.id)], FactStatus.LIVE, "served", now
    )
    return made
