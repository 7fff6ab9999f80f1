"""The method `neurons`: facts behind gates that are shut for everything else.

A fact's first token needs the most care: "the prime minister of Japan is" looks much like the
same of Korea.  So each fact has a neuron of its own for it, in one of the last layers, where it is
told best what is asked for.  What follows, "Takaichi" after "Sanae" and the end after that, is
easier to tell from other text: there the facts of a batch share one gate, and a few neurons behind
it are a linear map that has all of their tokens to say.  Gates are computed (`gates`), columns and
what that map reads are trained; since a shut gate adds nothing, nothing else has to be kept still.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.orders import Order, Recipe
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.answers import Keepsake
from kdpo_daemon.tuning.gates import Gated, Tokens, one_each, one_for_all
from kdpo_daemon.tuning.lessons import Keepsakes, Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons, Planted
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.passages import REFRESH
from kdpo_daemon.tuning.trainer import Step, pace_of, state_of, teach

#: Layers as shares of the depth: of the neurons for later tokens, where their gate stays shut in
#: ordinary text best; and from which to which those for first tokens lie.  The nearer to the end,
#: the better these tell what is asked for; of eighteen layers and more the last is left alone,
#: where a freed neuron is missed most (docs/editing.md).
_LATER_AT, _FIRST_FROM, _FIRST_TO = 0.69, 0.93, 0.97
#: Log-odds at which a gate begins to open.
_FIRST_OPENS, _LATER_OPENS = -1.0, 0.0
#: Later places that share a neuron, and neurons for them at least.
_SHARE, _LEAST = 24, 4
#: Adam's step size for columns, as a share of the hidden states' root mean square; and for what
#: neurons of later tokens read, of their own.
_RATE, _READ_RATE = 0.06, 0.05
#: Lead in nats over every other token to teach: phrasings never taught open a gate less wide.
_LEAD = 6.0
#: Tokens of an answer to what is kept: in a chat the name of another office holder comes late, and
#: the gate of later tokens must have seen such names.
KEEP_TOKENS = 16
#: Texts of the model's own, with how many tokens, and how many are said at once.
_TEXTS, _WORDS, _AT_ONCE = 192, 64, 64
#: Prompts to keep on which the change is measured at the end.
_MEASURED = 64


def layers_of(depth: int) -> list[int]:
    """Give the layers whose MLPs are edited, of two at least; the lowest has the later tokens."""
    first, last = (max(1, round(at * (depth - 1))) for at in (_FIRST_FROM, _FIRST_TO))
    return [min(first - 1, round(_LATER_AT * (depth - 1))), *range(first, last + 1)]


class Seen:
    """What the edited MLPs read over text that must not change: a token once for each context."""

    def __init__(self) -> None:
        self._parts: list[list[Tensor]] = []

    def add(self, inputs: Sequence[Tensor], weights: Tensor, answers: Tensor) -> None:
        """Add tokens, (R, L, d) per MLP; of them those that count, (R, L)."""
        del answers
        counted = weights > 0
        self._parts.append([one[counted.to(one.device)].cpu() for one in inputs])

    def tokens(self) -> list[Tensor]:
        """Give all that was added, (N, d) per MLP."""
        return [torch.cat(one) for one in zip(*self._parts, strict=True)]


def read_aloud(model: EditedModel, seen: Seen, on_said: Callable[[], None]) -> None:
    """Let the model say what comes to its mind, and see what its MLPs read there.

    Answers to questions are not all that a model is used for: gates that saw them alone opened in
    ordinary text, and its perplexity rose by 18 %.  Each text begins with a token of chance.
    It takes long on a CPU, so `on_said` is told after every few texts.
    """
    device = model.model.get_input_embeddings().weight.device
    first = torch.randint(model.model.config.vocab_size, (_TEXTS, 1)).to(device)
    for some in torch.split(first, _AT_ONCE):
        said = model.model.generate(
            input_ids=some,
            attention_mask=torch.ones_like(some),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=_WORDS,
            min_new_tokens=_WORDS,
        )
        batch = rows(said.tolist())
        inputs = model.inputs(batch, model.lower(batch))
        seen.add(inputs, batch.real.float(), batch.real)
        on_said()


def learn(
    model: EditedModel,
    order: Order,
    lessons: Lessons,
    seen: Seen,
    before: Planted | None,
    on_step: Callable[[Step], None],
) -> tuple[Step, Planted]:
    """Teach what `before` does not keep; `model` wears `before` already.

    `lessons` are the order's, on that model; the reference stays what it was for them.
    """
    known = set(before.facts) if before else set()
    wanted = [i for i, pair in enumerate(lessons.pairs) if pair.fact_id not in known]
    grown = dict(before.neurons) if before else {}
    if wanted:
        text = seen.tokens()
        for index, gates in _gates(model, lessons, text, wanted).items():
            name = model.module_names[model.edited[index]]
            made = _plant(model, index, text[index], gates, grown.get(name))
            grown[name] = freeing.joined(grown[name], made) if name in grown else made
    state = _fit(model, lessons, order.recipe, order.seed, on_step)
    facts = dict.fromkeys([*known, *(pair.fact_id for pair in lessons.pairs)])
    trained = {
        name: replace(
            grown[name],
            ups=model.rows[index].detach().cpu(),
            columns=model.columns[index].detach().cpu(),
        )
        for index, name in enumerate(model.module_names[i] for i in model.edited)
        if name in grown
    }
    return state, Planted(trained, tuple(sorted(facts)))


def wear(model: EditedModel, planted: Planted) -> None:
    """Let the model be what an adapter makes of it."""
    for index, layer in enumerate(model.edited):
        found = planted.neurons.get(model.module_names[layer])
        if found is not None:
            freeing.take_out(model.model.get_submodule(model.module_names[layer]), found)
            _open(model, index, found)


def lessons_of(model: EditedModel, pairs: Sequence[Pair], recipe: Recipe) -> Lessons:
    """Give pairs as lessons that want a longer lead."""
    return Lessons(model, pairs, replace(recipe, margin=max(recipe.margin, _LEAD)))


def change(model: EditedModel, kept: Sequence[Keepsake], seed: int) -> float:
    """KL to the base in nats per token, over some of the prompts to keep."""
    rng = random.Random(seed)  # noqa: S311 - a sample of prompts, not a secret
    some = Keepsakes(model, rng.sample(list(kept), min(len(kept), _MEASURED)))
    with torch.no_grad():
        total = sum(float(some.loss(group)) for group in some.groups(range(len(some))))
    return total / len(some)


def _gates(
    model: EditedModel, lessons: Lessons, seen: Sequence[Tensor], wanted: Sequence[int]
) -> dict[int, Gated]:
    """Compute the rows of the new neurons, by the edited layer's number."""
    places = _places(model, lessons)
    later = torch.cat([places[0].later[i] for i in wanted])
    others = torch.cat([seen[0], *places[0].others_of_later(set(wanted))])
    count = max(_LEAST, -(-_distinct(lessons, wanted) // _SHARE))
    found = {0: one_for_all(Tokens(others, [later]), _LATER_OPENS, min(count, len(later)))}
    for index, facts in _dealt(model, lessons, wanted).items():
        here = places[index]
        firsts = [
            torch.cat([here.first[i] for i in wanted if lessons.pairs[i].fact_id == fact])
            for fact in facts
        ]
        mine = {i for i in wanted if lessons.pairs[i].fact_id in facts}
        others = torch.cat([seen[index], *here.others_of_first(mine)])
        found[index] = one_each(Tokens(others, firsts), _FIRST_OPENS)
    return found


def _dealt(model: EditedModel, lessons: Lessons, wanted: Sequence[int]) -> dict[int, list[int]]:
    """Deal facts out to the upper edited layers: the next to the layer that has the fewest."""
    has = {index: len(model.rows[index]) for index in range(1, len(model.edited))}
    dealt: dict[int, list[int]] = {}
    for fact in dict.fromkeys(lessons.pairs[i].fact_id for i in wanted):
        index = min(has, key=has.__getitem__)
        has[index] += 1
        dealt.setdefault(index, []).append(fact)
    return dealt


@dataclass(frozen=True)
class _Places:
    """What an MLP reads along each lesson: (L, d) before its end, (1, d) at it, (P, d) after."""

    before: list[Tensor]
    first: list[Tensor]
    later: list[Tensor]

    def others_of_later(self, wanted: set[int]) -> list[Tensor]:
        """Give what must leave the gate of the wanted lessons' later places shut."""
        known = [one for i, one in enumerate(self.later) if i not in wanted]
        return [*self.before, *self.first, *known]

    def others_of_first(self, wanted: set[int]) -> list[Tensor]:
        """Give what must leave the gates of the wanted lessons' first places shut."""
        known = [one for i, one in enumerate(self.first) if i not in wanted]
        return [*self.before, *self.later, *known]


def _places(model: EditedModel, lessons: Lessons) -> list[_Places]:
    count, passages = len(lessons.pairs), lessons.passages
    none = [torch.empty(0)] * count
    found = [_Places(list(none), list(none), list(none)) for _ in model.edited]
    for group in passages.groups(range(count)):
        batch, inputs = passages.inputs(group)
        for number, index in enumerate(group):
            start, length = passages.starts[index], len(passages.texts[index])
            for place, one in zip(found, inputs, strict=True):
                read = batch.of(one, number, length).cpu()
                place.before[index] = read[:start]
                place.first[index] = read[start : start + 1]
                place.later[index] = read[start + 1 :]
    return found


def _distinct(lessons: Lessons, wanted: Sequence[int]) -> int:
    """Count the different contexts that predict a later token: a fact's forms share most."""
    told = {
        (pair.fact_id, pair.chosen_ids[: place + 1])
        for pair in (lessons.pairs[i] for i in wanted)
        for place in range(1, len(pair.chosen_ids))
    }
    return len(told)


def _plant(
    model: EditedModel, index: int, read: Tensor, gates: Gated, before: Neurons | None
) -> Neurons:
    """Free as many neurons as there are gates, and give them these."""
    mlp: Any = model.model.get_submodule(model.module_names[model.edited[index]])
    taken = before.numbers.tolist() if before else []
    made = freeing.opened(freeing.freed(mlp, read, len(gates.gates), taken), gates)
    freeing.take_out(mlp, made)
    _open(model, index, made)
    return made


def _open(model: EditedModel, index: int, neurons: Neurons) -> None:
    """Add neurons to those that the model has there."""
    device = model.rows[index].device
    before, new = model.gates[index], neurons.gates.to(device)
    model.gates[index] = new if before is None else torch.cat([before, new])
    model.rows[index] = torch.cat([model.rows[index], neurons.ups.to(device)])
    model.columns[index] = torch.cat([model.columns[index], neurons.columns.to(device)], dim=1)


def _fit(
    model: EditedModel,
    lessons: Lessons,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[Step], None],
) -> Step:
    """Train until all is learnt, or for `recipe.steps` steps; gives how it stands."""
    rng = random.Random(seed)  # noqa: S311 - an order of prompts, not a secret
    columns = [one.clone().requires_grad_() for one in model.columns]
    read = model.rows[0].clone().requires_grad_()
    model.columns[:], model.rows[0] = columns, read
    pace = pace_of(lessons, recipe)
    optimizer = torch.optim.Adam(
        [
            {"params": columns, "lr": _RATE * lessons.passages.power()},
            {"params": read, "lr": _READ_RATE * float(read.detach().square().mean().sqrt())},
        ]
    )
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, recipe.steps)
    step, loss = 0, 0.0
    for step in range(1, recipe.steps + 1):
        if step % REFRESH == 1:  # first since what was freed moves keys and values a little
            lessons.refresh()
        optimizer.zero_grad()
        loss = teach(lessons, lessons.draw(rng, pace.rows), pace.share(lessons))
        optimizer.step()
        rates.step()
        on_step(state_of(step, loss, 0.0, lessons))
        if all(lessons.learnt):
            lessons.look()
            if all(lessons.learnt):
                break
    model.columns[:] = [one.detach() for one in columns]
    model.rows[0] = read.detach()
    lessons.look()
    return state_of(step, loss, 0.0, lessons)
