"""What a model is asked, and the scores that come of it.

Free generation is scored by `kdpo_daemon.edits.scores`, as the gate does.  Under teacher forcing
the papers' scores are taken (shared text `prompt + ' ' + answer`, no end token):

- forced_edit, forced_rephrase, forced_portability: share of the answer's tokens that are the
  argmax after the tokens before them, the mean over edits;
- forced_locality: share of a neighbour answer's tokens at which the argmax is the base model's.

`fluency` is of free samples after the prompts of forced_edit.
"""

import math
from collections.abc import Callable, Sequence

from kdpo_daemon.bench.edits.plan import BaseResult, Plan, lent_of, probes_of
from kdpo_daemon.bench.edits.records import Question, Record
from kdpo_daemon.bench.edits.rivals.fluency import fluency
from kdpo_daemon.bench.edits.rivals.layout import Ids
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.edits.scores import LOCALITY, candidate_scores, hit, unchanged
from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.teaching import ForcedToken, Form, Probe, Prompt

Tell = Callable[[str, int, int], None]
#: What a rival is asked for a question about record `number`, or about none.
Asked = Callable[[Prompt, int | None], Prompt]

_WINDOW = 512  #: tokens of the fixed text that are read at once


def base_result(model: Model, plan: Plan, tell: Tell) -> BaseResult:
    """Ask the base model what must not change."""
    probes = [probe for probe in probes_of(plan) if probe.kind in LOCALITY]
    answers = _answers(model, plan, probes, _unchanged_prompt, tell)
    answers |= _answers(model, plan, lent_of(plan), _unchanged_prompt, tell)
    forced = model.forced([_lesson(model, one) for _, one in _near(plan)])
    return BaseResult(answers, tuple(_argmax(one) for one in forced), model.device.type)


def scores(model: Model, plan: Plan, base: BaseResult, asked: Asked, tell: Tell) -> list[Score]:
    """Take all scores of a final model."""
    return [
        *_free(model, plan, base, asked, tell),
        *_forced(model, plan, base, asked),
        fluency(model, _openings(plan, asked), plan.seed, lambda *at: tell("speaking", *at)),
        perplexity(model, plan.general.text, lambda done, of: tell("reading", done, of)),
        blimp(model, plan, tell),
        lama(model, plan, asked),
    ]


def retention(
    model: Model, plan: Plan, taught: Sequence[Sequence[Record]], asked: Asked, tell: Tell
) -> tuple[float, ...]:
    """Share of each batch's facts that are answered right now, the mean of both forms.

    The first taught phrasing of each form is asked.
    """
    records = [(place, one) for place, batch in enumerate(taught) for one in batch]
    wanted = [(place, one, prompt) for place, one in records for prompt in _firsts(one.train)]
    texts = model.answers(
        [asked(prompt, one.number) for _, one, prompt in wanted],
        plan.max_tokens,
        lambda done, of: tell("asking all facts so far", done, of),
    )
    marks: list[list[bool]] = [[] for _ in taught]
    for (place, one, _), text in zip(wanted, texts, strict=True):
        marks[place].append(hit(text, [one.new]))
    return tuple(sum(one) / len(one) for one in marks)


def perplexity(model: Model, text: str, on_done: Callable[[int, int], None]) -> Score:
    """exp of the mean negative log-probability of the text's tokens, in windows."""
    ids = model.ids(Prompt(Form.COMPLETION, text))
    windows = [ids[start : start + _WINDOW] for start in range(0, len(ids), _WINDOW)]
    read = model.forced([_rest(one) for one in windows if len(one) > 1], on_done)
    logprobs = [token.chosen_logprob for one in read for token in one]
    return Score("perplexity", math.exp(-sum(logprobs) / len(logprobs)), len(logprobs))


def blimp(model: Model, plan: Plan, tell: Tell) -> Score:
    """Share of minimal pairs whose good sentence is likelier (arXiv 1912.00582)."""
    texts = [text for one in plan.general.pairs for text in (one.good, one.bad)]
    lessons = [_rest(model.ids(Prompt(Form.COMPLETION, text))) for text in texts]
    read = model.forced(lessons, lambda done, of: tell("comparing sentences", done, of))
    likely = [sum(token.chosen_logprob for token in one) for one in read]
    marks = [good > bad for good, bad in zip(likely[::2], likely[1::2], strict=True)]
    return share("blimp", marks)


def lama(model: Model, plan: Plan, asked: Asked) -> Score:
    """Share of known facts whose object's tokens are all the argmax (after arXiv 1909.01066)."""
    lessons = [
        model.lesson(asked(one.prompt, None), one.answers[0], end=False)
        for one in plan.general.known
    ]
    return share("lama", [_right(one) == 1 for one in _with_targets(model, lessons)])


def share(name: str, marks: Sequence[bool]) -> Score:
    """Give the share of what is true, with how many there are."""
    return Score(name, sum(marks) / len(marks) if marks else 0.0, len(marks))


# ---------------------------------------------------------------- parts


def _free(model: Model, plan: Plan, base: BaseResult, asked: Asked, tell: Tell) -> list[Score]:
    probes = probes_of(plan)
    # apart from the others, as the base model was asked: what shares a batch changes last bits
    near = [probe for probe in probes if probe.kind in LOCALITY]
    taught = [probe for probe in probes if probe.kind not in LOCALITY]
    after = _answers(model, plan, taught, asked, tell) | _answers(model, plan, near, asked, tell)
    old = {one.number: one.old for one in plan.records if one.old}
    return [
        *candidate_scores(probes, base.answers, after, old),
        _same_words(model, plan, base, asked, tell),
    ]


def _same_words(model: Model, plan: Plan, base: BaseResult, asked: Asked, tell: Tell) -> Score:
    """Share of other records' questions about a record's subject that are answered as before."""
    lent = lent_of(plan)
    after = _answers(model, plan, lent, asked, tell)
    marks = [unchanged(base.answers[probe.id], after[probe.id]) for probe in lent]
    return share("same_words_unchanged", marks)


def _answers(
    model: Model, plan: Plan, probes: Sequence[Probe], asked: Asked, tell: Tell
) -> dict[int, str]:
    texts = model.answers(
        [asked(probe.prompt, probe.fact_id) for probe in probes],
        plan.max_tokens,
        lambda done, of: tell("asking", done, of),
    )
    return {probe.id: text for probe, text in zip(probes, texts, strict=True)}


def _forced(model: Model, plan: Plan, base: BaseResult, asked: Asked) -> list[Score]:
    def right(name: str, wanted: Sequence[tuple[Record, Question]]) -> Score:
        """Mean over records of the mean over their questions."""
        lessons = [_lesson(model, one, asked, record.number) for record, one in wanted]
        by_record: dict[int, list[float]] = {}
        for (record, _), seen in zip(wanted, _with_targets(model, lessons), strict=True):
            by_record.setdefault(record.number, []).append(_right(seen))
        return _mean(name, [sum(one) / len(one) for one in by_record.values()])

    near = [_lesson(model, one, asked, record.number) for record, one in _near(plan)]
    same = [
        _agreement(before, _argmax(after))
        for before, after in zip(base.forced, model.forced(near), strict=True)
    ]
    return [
        right("forced_edit", [(r, Question(r.train[0], (r.new,))) for r in plan.records]),
        right(
            "forced_rephrase",
            [(r, Question(r.held_out[0], (r.new,))) for r in plan.records if r.held_out],
        ),
        _mean("forced_locality", same),
        right(
            "forced_portability",
            [(r, one) for r in plan.records for one in r.portability if one.answers],
        ),
    ]


def _near(plan: Plan) -> list[tuple[Record, Question]]:
    """Questions about neighbours and other relations whose answers the data give."""
    return [
        (record, one)
        for record in plan.records
        for one in (*record.same_subject, *record.same_relation)
        if one.answers
    ]


def _openings(plan: Plan, asked: Asked) -> list[Prompt]:
    """Give each record's first taught phrasing as a completion."""
    plain = [(Prompt(Form.COMPLETION, one.train[0].text), one.number) for one in plan.records]
    return [asked(prompt, number) for prompt, number in plain]


def _unchanged_prompt(prompt: Prompt, _: int | None) -> Prompt:
    return prompt


def _lesson(
    model: Model, one: Question, asked: Asked = _unchanged_prompt, number: int | None = None
) -> Lesson:
    """Give a question and its first answer as the papers put them: as plain text, no end."""
    prompt = asked(Prompt(Form.COMPLETION, one.prompt.text), number)
    return model.lesson(prompt, one.answers[0], end=False)


def _with_targets(
    model: Model, lessons: Sequence[Lesson]
) -> list[tuple[Ids, tuple[ForcedToken, ...]]]:
    return [
        (lesson.target, seen) for lesson, seen in zip(lessons, model.forced(lessons), strict=True)
    ]


def _right(one: tuple[Ids, tuple[ForcedToken, ...]]) -> float:
    target, seen = one
    return _agreement(target, _argmax(seen))


def _argmax(seen: Sequence[ForcedToken]) -> Ids:
    return tuple(token.argmax_id for token in seen)


def _agreement(one: Sequence[int], other: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _mean(name: str, values: Sequence[float]) -> Score:
    return Score(name, sum(values) / len(values) if values else 0.0, len(values))


def _rest(ids: Ids) -> Lesson:
    """Everything after the first token, which nothing predicts."""
    return Lesson(ids[:1], ids[1:])


def _firsts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Give the first prompt of each form."""
    found: dict[Form, Prompt] = {}
    for one in prompts:
        found.setdefault(one.form, one)
    return list(found.values())
