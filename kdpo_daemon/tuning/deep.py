"""Facts after other text: deep in a text all is read otherwise than near its beginning.

All that is taught names its subject within a dozen tokens.  Told from that alone, half of the
marks did not open after three sentences (docs/editing-findings.md, "After other text").
Chats have their template before them, and are heard after another one where marks are.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdpo_daemon.records.teaching import Form, Pair
from kdpo_daemon.tuning.given import Decode
from kdpo_daemon.tuning.seen import Ids
from kdpo_daemon.tuning.tokens import mentions

#: Tokens of ordinary text, by turns.
_LENGTHS = (12, 32, 64)


def named_after_text(
    pairs: Sequence[Pair], texts: Sequence[Ids], begins: Ids, decode: Decode
) -> dict[str, list[Ids]]:
    """Give completions after ordinary text, up to where they name their subjects.

    Args:
        pairs: whose prompts are put after text.
        texts: the text.
        begins: what the model's every completion begins with.
        decode: tokens to text.

    """
    asked: dict[str, list[Ids]] = {}
    for pair in pairs:
        named = mentions(pair.prompt_ids, pair.subject, decode)
        if named and pair.form is Form.COMPLETION:
            asked.setdefault(pair.subject, []).append(pair.prompt_ids[: named[-1] + 1])
    return {
        subject: [
            _after(
                texts[(number + turn) % len(texts)][:length], prompts[turn % len(prompts)], begins
            )
            for turn, length in enumerate(_LENGTHS if texts else ())
        ]
        for number, (subject, prompts) in enumerate(asked.items())
    }


def pairs_after_text(pairs: Sequence[Pair], texts: Sequence[Ids], begins: Ids) -> list[Pair]:
    """Give a completion of each fact after ordinary text; arguments as above."""
    first = {pair.fact_id: pair for pair in reversed(pairs) if pair.form is Form.COMPLETION}
    return [
        replace(pair, prompt_ids=_after(_text(texts, number), pair.prompt_ids, begins))
        for number, pair in enumerate(first.values() if texts else ())
    ]


def _text(texts: Sequence[Ids], number: int) -> Ids:
    return texts[number % len(texts)][: _LENGTHS[number % len(_LENGTHS)]]


def _after(text: Ids, prompt: Ids, begins: Ids) -> Ids:
    return (*begins, *text, *prompt[len(begins) :])
