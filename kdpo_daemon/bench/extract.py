"""Facts in the free text of real entries: what patterns find, and what a model does.

Every entry of `data/feeds` was read by hand; those that state a fact are in
`data/extract_labels.jsonl`, by file and id, without their texts, which belong to their publishers.
All others state none.  The entries are split by a hash: those of `open` were looked at while the
patterns were written, those of `kept` were not.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from kdpo_daemon.bench.documents import names
from kdpo_daemon.errors import ReplicaError, SourceError
from kdpo_daemon.facts import by_model
from kdpo_daemon.facts.by_pattern import claims_by_pattern
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.facts.spelling import same_spelling, same_value
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.records.intake import Claim, Entry, Fetched, Quoted
from kdpo_daemon.serving.extractor import Extractor
from kdpo_daemon.stages import Progress

#: Entries read from one document here; far more than any of them has.
_MOST = 10_000

#: Questions under way at once: a server answers them together.
_AT_ONCE = 8

Triple = tuple[str, str, str]  # relation, subject, object
Read = Callable[[Entry], Sequence[Claim]]


@dataclass(frozen=True)
class Item:
    """One entry, and the facts that it states."""

    half: str  #: open: looked at while the patterns were written; kept: not
    entry: Entry
    facts: tuple[Triple, ...]


@dataclass(frozen=True)
class Found:
    """How well the facts of some entries were found."""

    entries: int
    facts: int  #: that are stated
    right: int
    missed: int
    wrong: int  #: claims that no entry states
    precision: float | None  #: None: nothing was claimed
    recall: float | None  #: None: nothing is stated
    seconds: float


def read_items(data: Path) -> list[Item]:
    """Give every entry of the collection, with what it states."""
    lines = files(__package__).joinpath("data/extract_labels.jsonl").read_text("utf-8")
    labels: dict[tuple[str, str], tuple[Triple, ...]] = {}
    for line in lines.splitlines():
        one = json.loads(line)
        stated = ((fact["relation"], fact["subject"], fact["object"]) for fact in one["facts"])
        labels[one["file"], one["key"]] = tuple(stated)
    return [
        Item(_half(file, entry), entry, labels.get((file, entry.key), ()))
        for file, entry in _entries(data)
    ]


def by_patterns(items: Sequence[Item], pack: Pack) -> dict[str, Found]:
    """Measure the patterns on each half."""
    return _halves(items, lambda entry: claims_by_pattern(entry, pack))


def by_a_model(
    items: Sequence[Item], extractor: Extractor, pack: Pack, count: int, progress: Progress
) -> dict[str, object]:
    """Measure a model on all entries that state facts and `count` others; say what is refused."""
    chosen = sample(items, count)
    longest = extractor.policy.max_chars
    reasons: Counter[str] = Counter()

    def ask(item: Item) -> Sequence[Quoted]:
        try:
            return extractor.ask(by_model.question(item.entry, pack, longest))
        except ReplicaError as error:
            reasons[f"no usable answer: {error.message}"] += 1
            return ()

    answers: dict[Entry, Sequence[Quoted]] = {}
    began = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for item, answer in zip(chosen, pool.map(ask, chosen), strict=True):
            answers[item.entry] = answer
            progress("asking the model", len(answers), len(chosen))
    seconds = time.perf_counter() - began

    def read(entry: Entry) -> Sequence[Claim]:
        answer = answers[entry]
        claims, refused = by_model.judged(entry, answer, pack, longest, extractor.model)
        reasons["reported"] += len(answer)
        reasons.update(one.rsplit(": ", 1)[-1] for one in refused)
        return claims

    halves = shown(_halves(chosen, read))
    return {**halves, "answers": dict(reasons.most_common()), "seconds": seconds}


def sample(items: Sequence[Item], count: int) -> list[Item]:
    """Give the items that state facts, and `count` others, always the same."""
    stating = [one for one in items if one.facts]
    others = sorted((one for one in items if not one.facts), key=_digest)
    return [*stating, *others[:count]]


def _entries(data: Path) -> Iterator[tuple[str, Entry]]:
    for file in names(data):
        fetched = Fetched("http://127.0.0.1/", (data / file).read_bytes())
        with suppress(SourceError):  # `kdpo bench documents` says which cannot be read
            yield from ((file, entry) for entry in entries_of(file, fetched, _MOST))


def _half(file: str, entry: Entry) -> str:
    return ("open", "kept")[sha256(f"{file}\n{entry.key}".encode()).digest()[0] % 2]


def _digest(item: Item) -> bytes:
    return sha256(f"{item.entry.key}\n{item.entry.content_hash}".encode()).digest()


def _halves(items: Sequence[Item], read: Read) -> dict[str, Found]:
    return {
        half: measure([one for one in items if one.half == half], read)
        for half in ("open", "kept")
    }


def measure(items: Sequence[Item], read: Read) -> Found:
    """Compare what is claimed of entries with what they state."""
    facts = claimed = right = 0
    began = time.perf_counter()
    for item in items:
        claims = {(one.relation, one.subject, one.object) for one in read(item.entry)}
        facts += len(item.facts)
        claimed += len(claims)
        right += sum(any(_same(fact, claim) for claim in claims) for fact in item.facts)
    return Found(
        entries=len(items),
        facts=facts,
        right=right,
        missed=facts - right,
        wrong=claimed - right,
        precision=right / claimed if claimed else None,
        recall=right / facts if facts else None,
        seconds=time.perf_counter() - began,
    )


def _same(one: Triple, other: Triple) -> bool:
    named = same_spelling(one[1], other[1]) and same_value(one[2], other[2])
    return one[0] == other[0] and named


def shown(found: Mapping[str, Found]) -> dict[str, object]:
    """Give the numbers, ready for JSON."""
    return {half: asdict(one) for half, one in found.items()}
