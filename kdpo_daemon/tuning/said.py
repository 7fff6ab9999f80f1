"""What the base says by itself, remembered from batch to batch: it never changes.

Saying takes a model far longer than reading: of a batch's minutes half went to answers that the
batch before had heard already.  What its MLPs read where every batch looks is remembered, too.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kdpo_daemon.tuning.answers import answered
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Ids, said_aloud


class Said:
    """Texts and answers of one base, in a file of its own; the model must be that base."""

    def __init__(self, directory: Path, base_sha256: str, tokens: int) -> None:
        """Remember what was said before; answers are `tokens` long at most."""
        self._file = directory / f"{base_sha256[:16]}-{tokens}.json"
        self._tokens = tokens
        self._texts: list[Ids] = []
        self._answers: dict[Ids, Ids] = {}
        try:
            form = json.loads(self._file.read_text("utf-8"))
            self._texts = [tuple(one) for one in form["texts"]]
            self._answers = {tuple(asked): tuple(said) for asked, said in form["answers"]}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or no such file: it is all said again

    def texts(self, model: EditedModel, on_said: Callable[[], None]) -> list[Ids]:
        """Give what the model says with no question asked."""
        if not self._texts:
            self._texts = said_aloud(model, on_said)
            self._save()
        return self._texts

    def answers(
        self,
        model: EditedModel,
        prompts: Sequence[Ids],
        on_answered: Callable[[int], None],
    ) -> list[Ids]:
        """Give the model's own answer to each prompt; it ends with the end token if that came."""
        new = [one for one in dict.fromkeys(prompts) if one not in self._answers]
        if new:
            heard = answered(model, new, self._tokens, _Deaf(), on_answered)
            self._answers |= {one.prompt: tuple(one.said) for one in heard}
            self._save()
        return [self._answers[one] for one in prompts]

    def read(
        self,
        kind: str,
        layers: Sequence[int],
        texts: Sequence[Ids],
        look: Callable[[Sequence[int], Sequence[Ids]], Sequence[Tensor]],
    ) -> dict[int, Tensor]:
        """Give what `look` sees of texts in some layers of the base, by layer.

        It is kept in a file of that kind, which other texts or layers replace.
        """
        file = self._file.with_name(f"{self._file.stem}-{kind}.safetensors")
        of = sha256(json.dumps(list(texts)).encode()).hexdigest()
        try:
            with safe_open(file, "pt") as form:
                if (form.metadata() or {}).get("of") == of:
                    return {layer: form.get_tensor(str(layer)) for layer in layers}
        except (OSError, SafetensorError):
            pass  # not there, or not of all layers: it is looked at again
        found = {str(layer): one for layer, one in zip(layers, look(layers, texts), strict=True)}
        draft = file.with_suffix(".draft")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(found, draft, {"of": of})
        draft.replace(file)
        return {int(layer): one for layer, one in found.items()}

    def _save(self) -> None:
        form = {"texts": self._texts, "answers": list(self._answers.items())}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(form), "utf-8")
        draft.replace(self._file)


class _Deaf:
    """Listens to nothing: what is said now is looked at later, with marks."""

    def add(self, inputs: Sequence[Tensor], weights: Tensor, answers: Tensor) -> None:
        """Forget it."""
