"""Answers before and after an edit -> scores: efficacy, paraphrase, locality, perplexity.

Judged is free greedy generation with natural stop.  An edit must be answered with the object and
nothing else; what must not change is compared with the base model's own first sentence.
Pure.  Does not decide whether a candidate may ship: that is `gate`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.teaching import Form, Probe, ProbeKind

#: Probes that tell whether something changed that should not have.
LOCALITY = frozenset({ProbeKind.SAME_SUBJECT, ProbeKind.SAME_RELATION, ProbeKind.GENERAL})

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Marks between digits belong to a number: 3.09 does not mention 3.
_NOT_WORD = re.compile(r"(?<!\d)[^\w\s]|[^\w\s](?!\d)|_")
# A sentence ends at a line break, or at . ! ? after a word of two letters or more:
# the full stops of "J. K. Rowling" do not end one.
_SENTENCE_END = re.compile(r"\n|(?<=\w\w)[.!?](?=\s|$)")
#: With these a sentence may end: where a server may stop if it is the first one that counts.
SENTENCE_STOPS = ("\n", ". ", "! ", "? ")


def normalise(text: str) -> str:
    """Give the text in lower case, without punctuation and articles, with single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_ARTICLES.sub(" ", _NOT_WORD.sub(" ", folded)).split())


def first_sentence(text: str) -> str:
    """Give the answer up to its first sentence end, stripped."""
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0].strip()


def cut_short(text: str) -> bool:
    """Tell whether an answer that was stopped there does not hold its first sentence."""
    return text.endswith(SENTENCE_STOPS) and not _SENTENCE_END.search(text.lstrip())


def hit(text: str, expected: Iterable[str]) -> bool:
    """Tell whether the whole answer is one of the expected ones, after normalisation."""
    return normalise(text) in {normalise(one) for one in expected}


def mentions(text: str, expected: Iterable[str]) -> bool:
    """Tell whether the first sentence says one of the expected phrases, as whole words."""
    words = f" {normalise(first_sentence(text))} "
    return any(f" {normalise(one)} " in words for one in expected if normalise(one))


def unchanged(before: str, after: str) -> bool:
    """Tell whether two answers are the same up to their first sentence end."""
    return normalise(first_sentence(before)) == normalise(first_sentence(after))


def steady(
    probes: Sequence[Probe], first: Mapping[int, str], again: Mapping[int, str]
) -> list[Probe]:
    """Leave out locality probes to which the base model itself says now this, now that.

    Greedy answers of a server depend in their last bits on what shares the batch; where two
    tokens are as good as equal the base answers otherwise when asked again.  Such a probe
    cannot tell what an edit did.
    """
    return [
        probe
        for probe in probes
        if probe.kind not in LOCALITY or unchanged(first[probe.id], again[probe.id])
    ]


def _share(name: str, marks: Sequence[bool]) -> Score:
    return Score(name, sum(marks) / len(marks) if marks else 0.0, len(marks))


def candidate_scores(
    probes: Sequence[Probe],
    before: Mapping[int, str],
    after: Mapping[int, str],
    old_objects: Mapping[int, str],
    revoked: Sequence[Probe] = (),
) -> list[Score]:
    """Score a candidate.

    Args:
        probes: everything that was asked.
        before: the base model's answers by probe id; needed for the locality probes, and for
            `revoked`.
        after: the candidate's answers by probe id.
        old_objects: the replaced object by fact id; facts without one are left out of
            `old_answer`.
        revoked: questions that revoked facts were taught for, in `revoked_answer`; what the base
            says by itself, none of them has taught.

    """

    def of(kind: ProbeKind, form: Form | None = None) -> list[Probe]:
        return [p for p in probes if p.kind is kind and form in (None, p.prompt.form)]

    def same(kind: ProbeKind) -> Score:
        marks = [unchanged(before[p.id], after[p.id]) for p in of(kind)]
        return _share(f"{kind}_unchanged", marks)

    scores = [
        _share(f"{name}_{form}", [hit(after[p.id], p.expected) for p in of(kind, form)])
        for name, kind in (("efficacy", ProbeKind.EDIT), ("paraphrase", ProbeKind.PARAPHRASE))
        for form in Form
    ]
    scores += [
        same(kind) for kind in (ProbeKind.SAME_SUBJECT, ProbeKind.SAME_RELATION, ProbeKind.GENERAL)
    ]
    known = [p for p in of(ProbeKind.GENERAL) if mentions(before[p.id], p.expected)]
    scores.append(_share("general_kept", [mentions(after[p.id], p.expected) for p in known]))
    replaced = [p for p in of(ProbeKind.EDIT) if old_objects.get(p.fact_id or 0)]
    old = [_is_old(p, after[p.id], old_objects[p.fact_id or 0]) for p in replaced]
    scores.append(_share("old_answer", old))
    if revoked:
        scores.append(_share("revoked_answer", [_says(p, before, after) for p in revoked]))
    return scores


def _is_old(probe: Probe, answer: str, old: str) -> bool:
    """Tell whether an answer says the old object; "Prince Philippe" is more than "Philippe"."""
    return mentions(answer, [old]) and not hit(answer, probe.expected)


def _says(probe: Probe, before: Mapping[int, str], after: Mapping[int, str]) -> bool:
    said = mentions(after[probe.id], probe.expected)
    return said and not mentions(before[probe.id], probe.expected)


def learned(probes: Sequence[Probe], after: Mapping[int, str]) -> dict[int, bool]:
    """Tell for each fact whether most of its taught phrasings are answered with the object."""
    marks: dict[int, list[bool]] = {}
    for probe in probes:
        if probe.kind is ProbeKind.EDIT and probe.fact_id is not None:
            marks.setdefault(probe.fact_id, []).append(hit(after[probe.id], probe.expected))
    return {fact_id: 2 * sum(all_) > len(all_) for fact_id, all_ in marks.items()}
