"""Entries -> claims by the patterns of relations, without any model.

Pure.  What a pattern fits is claimed only if nothing in its sentence makes that doubtful.  The
sentence is the evidence, the pattern is named with the claim.
"""

from collections.abc import Iterator
from dataclasses import replace

from kdpo_daemon.facts.claims import claim_of
from kdpo_daemon.facts.relations import Pack, Relation
from kdpo_daemon.facts.sentences import doubt, sentences
from kdpo_daemon.facts.templates import Match, Template
from kdpo_daemon.records.intake import Claim, Entry, RawFact

#: Claims of one entry; a longer list is no news.
_MOST = 5


def claims_by_pattern(entry: Entry, pack: Pack) -> list[Claim]:
    """Give what title and summary say by the patterns, each value once, at most five."""
    found: dict[tuple[str, ...], Claim] = {}
    year = entry.published_at.year if entry.published_at else None
    for sentence in [*sentences(entry.title), *sentences(entry.summary)]:
        fits = list(_fits(sentence, pack))
        if not fits or doubt(sentence, year):
            continue
        for relation, template, match in fits:
            claim = _claim(entry, pack, relation, template, match, sentence)
            if claim.object:
                found.setdefault((claim.subject, claim.relation, claim.object), claim)
    return list(found.values())[:_MOST]


def _fits(sentence: str, pack: Pack) -> Iterator[tuple[Relation, Template, Match]]:
    """Give for each relation the first template that fits."""
    for relation in pack.relations.values():
        for template in relation.patterns:
            match = template.match(sentence)
            if match:
                yield relation, template, match
                break


def _claim(
    entry: Entry, pack: Pack, relation: Relation, template: Template, match: Match, sentence: str
) -> Claim:
    raw = RawFact(match.subject, relation.name, match.new, match.old)
    claim = claim_of(raw, entry.published_at, pack)
    return replace(
        claim,
        role=match.title or claim.role,
        quote=sentence,
        note=", ".join(note for note in (match.modifier, claim.note) if note),
        extractor=f"pattern {template.text}",
    )
