"""One vLLM server: what it serves, what it answers, and how it is moved to another adapter.

Does not decide which adapter is wanted (`edits.rollout`) nor start the server (`local_vllm`).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import ModelCard
from kdpo_daemon.records.teaching import ForcedToken, Form, Prompt
from kdpo_daemon.serving import aliases, replies
from kdpo_daemon.serving.aliases import AliasMode
from kdpo_daemon.serving.engine import Engine, read_engine
from kdpo_daemon.serving.line import Access, Call, Line, ServingPolicy

_VERSION_NAME = re.compile(r"kdpo-\d+")


@dataclass(frozen=True)
class Question:
    """What is asked, and of which of the server's models."""

    model: str
    prompt: Prompt
    stops: tuple[str, ...] = ()  #: the answer may end with the first of these; it is kept


class Replica:
    """A vLLM server under its own URL (never a load balancer).  Use it as a context manager."""

    def __init__(
        self, name: str, url: str, base_model: str, access: Access, policy: ServingPolicy
    ) -> None:
        self.name = name
        self.url = url
        self.base_model = base_model
        self._policy = policy
        self._line = Line(name, url, access, policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._line.close()

    # ------------------------------------------------------------ what it is

    def models(self) -> list[ModelCard]:
        """The base model and every adapter that is loaded, as the server lists them."""
        reply = self._line.ask(
            replies.Models, Call("GET", "/v1/models", deadline_s=self._policy.look_s)
        )
        return [ModelCard(card.id, card.root, card.parent) for card in reply.data]

    def version(self) -> str:
        """The version of vLLM, for example 0.32.0."""
        return self._line.ask(replies.Version, Call("GET", "/version")).version

    def engine(self) -> Engine:
        """What the server's metrics tell of its engine; a proxy may hide them."""
        try:
            reply = self._line.send(Call("GET", "/metrics", deadline_s=self._policy.look_s))
        except ReplicaError as error:
            if error.status is None:
                raise
            return read_engine("")
        return read_engine(reply.text)

    # ------------------------------------------------------------ what it says

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids that the server itself computes on when asked this prompt."""
        if prompt.form is Form.COMPLETION:
            return self._ids({"prompt": prompt.text, "add_special_tokens": True})
        return self._ids({"messages": [_user(prompt)], "add_generation_prompt": True})

    def tokenize_target(self, prompt: Prompt, target: str, completion_end: int) -> tuple[int, ...]:
        """The ids of the target as it follows the prompt, with the end token.

        Completion: the ids of `" " + target`, then `completion_end`.  Chat: what the template
        puts after the generation prompt, up to its end of turn; ReplicaError where the template
        writes a finished answer in another way than it starts one.
        """
        if prompt.form is Form.COMPLETION:
            ids = self._ids({"prompt": f" {target}", "add_special_tokens": False})
            return (*ids, completion_end)
        asked = self.tokenize(prompt)
        turns = {"messages": [_user(prompt), {"role": "assistant", "content": target}]}
        still_open = {"add_generation_prompt": False, "continue_final_message": True}
        answered = self._ids({**turns, **still_open})
        closed = self._ids({**turns, "add_generation_prompt": False})
        end = len(answered) + 1
        if answered[: len(asked)] != asked or closed[: end - 1] != answered or len(closed) < end:
            raise ReplicaError(
                "the chat template does not write an answer after its own generation prompt",
                subject=self.name,
                hint="Serve the model with a template that does, or teach completions only",
            )
        return closed[len(asked) : end]

    def answer(
        self,
        model: str,
        prompts: Sequence[Prompt],
        max_tokens: int,
        on_answered: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Greedy answers in the order of the prompts, each until the model's own end token."""
        return self.ask([Question(model, prompt) for prompt in prompts], max_tokens, on_answered)

    def ask(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        on_answered: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Greedy answers in the order of the questions.

        `on_answered` is told how many there are.  Ask all at once: the server is busiest while
        many wait, and between two calls it would run dry.
        """
        answers: list[str] = []
        with ThreadPoolExecutor(self._policy.concurrency) as pool:
            for text in pool.map(lambda question: self._answer(question, max_tokens), questions):
                answers.append(text)
                if on_answered:
                    on_answered(len(answers))
        return answers

    def forced(
        self, model: str, prompt_ids: Sequence[int], target_ids: Sequence[int]
    ) -> list[ForcedToken]:
        """The target under teacher forcing: one record per target id (natural logarithms)."""
        body = _greedy(model, 1) | {"prompt": [*prompt_ids, *target_ids], "prompt_logprobs": 1}
        reply = self._line.ask(replies.Completion, Call("POST", "/v1/completions", body))
        positions = (reply.choices[0].prompt_logprobs or [])[len(prompt_ids) :]
        if len(positions) != len(target_ids) or None in positions:
            raise ReplicaError(
                "the server gave no log-probability for some target tokens",
                subject=self.name,
                hint="Give a prompt of at least one token, and vLLM of a tested version",
            )
        pairs = zip(target_ids, positions, strict=True)
        return [_forced_token(chosen, seen) for chosen, seen in pairs if seen]

    def perplexity(self, model: str, text: str) -> float:
        """exp of the mean negative log-probability of the text's tokens after the first."""
        ids = self.tokenize(Prompt(Form.COMPLETION, text))
        tokens = self.forced(model, ids[:1], ids[1:])
        return math.exp(-sum(token.chosen_logprob for token in tokens) / len(tokens))

    # ------------------------------------------------------------ what it serves

    def load(self, name: str, path: str) -> None:
        """Have the adapter at this absolute path served under the name; fine if it already is."""
        body = {"lora_name": name, "lora_path": path}
        try:
            self._adapters("load", body)
        except ReplicaError as error:
            if error.status != 400 or not self._lists(name, path):
                raise

    def unload(self, name: str) -> None:
        """Have the name forgotten; fine if it is not known.  Running requests end undisturbed."""
        try:
            self._adapters("unload", {"lora_name": name})
        except ReplicaError as error:
            if error.status != 404 or "cannot be found" not in error.message:
                raise

    def served_by(self, alias: str) -> str | None:
        """The version that answers now when the alias is asked, or None if nobody does."""
        found = self.answering(alias)
        return found.id if found else None

    def answering(self, alias: str) -> ModelCard | None:
        """The version that answers now when the alias is asked, and where it was read from.

        Asks for one token: with our plugin the answer's `model` names the version
        (`kdpo-000007.prod`); on stock vLLM it repeats the alias, and the version is read from
        the directory that `/v1/models` gives for it.
        """
        body = _greedy(alias, 1) | {"prompt": "A"}
        try:
            reply = self._line.ask(replies.Completion, Call("POST", "/v1/completions", body))
        except ReplicaError as error:
            if error.status == 404:
                return None
            raise
        root = next((card.root for card in self.models() if card.id == reply.model), "")
        if reply.model != alias:
            return ModelCard(reply.model.removesuffix(f".{alias}"), root, self.base_model)
        version = _VERSION_NAME.match(Path(root).name)
        return ModelCard(version[0], root, self.base_model) if version else None

    def promote(self, alias: str, adapter: Adapter, mode: AliasMode, adapters_dir: Path) -> None:
        """Let the alias stand for the adapter, and make sure that new requests get it.

        In `versioned` mode there is no alias here: the version, loaded before, is asked itself.
        ReplicaError if afterwards the alias answers as anything else; promote the former adapter
        to go back.
        """
        match mode:
            case AliasMode.PLUGIN:
                aliases.point(adapters_dir, alias, adapter)
                self.unload(alias)
            case AliasMode.RELOAD:
                aliases.forget(adapters_dir, alias)  # a server with our plugin would follow it
                self._reload(alias, adapter)
            case AliasMode.VERSIONED:
                alias = adapter.name
        found = self.answering(alias)
        if found is None or (found.id, found.root) != (adapter.name, adapter.path):
            seen = f"{found.id} from {found.root}" if found else "nothing"
            raise ReplicaError(
                f"{alias} answers as {seen}, not as {adapter.name} from {adapter.path}",
                subject=self.name,
                hint=aliases.REMEDY[mode],
            )

    # ------------------------------------------------------------ the parts

    def _reload(self, alias: str, adapter: Adapter) -> None:
        """Load the alias at another place; should that fail, where it was."""
        before = next((card.root for card in self.models() if card.id == alias), None)
        self.unload(alias)
        try:
            self.load(alias, adapter.path)
        except ReplicaError:
            if before is not None:
                with suppress(ReplicaError):
                    self.load(alias, before)
            raise

    def _ids(self, body: Mapping[str, object]) -> tuple[int, ...]:
        call = Call("POST", "/tokenize", {"model": self.base_model, **body})
        return tuple(self._line.ask(replies.Tokens, call).tokens)

    def _answer(self, question: Question, max_tokens: int) -> str:
        prompt, body = question.prompt, _greedy(question.model, max_tokens)
        if question.stops:
            body |= {"stop": list(question.stops), "include_stop_str_in_output": True}
        if prompt.form is Form.COMPLETION:
            call = Call("POST", "/v1/completions", body | {"prompt": prompt.text})
            return self._line.ask(replies.Completion, call).choices[0].text
        call = Call("POST", "/v1/chat/completions", body | {"messages": [_user(prompt)]})
        return self._line.ask(replies.Chat, call).choices[0].message.content or ""

    def _adapters(self, verb: str, body: Mapping[str, object]) -> None:
        # A 500 here is vLLM's word on the adapter itself (rank, modules): asking again is no use.
        path = f"/v1/{verb}_lora_adapter"
        self._line.send(Call("POST", path, body, self._policy.load_s, repeatable_500=False))

    def _lists(self, name: str, path: str) -> bool:
        return any(card.id == name and card.root == path for card in self.models())


def _greedy(model: str, max_tokens: int) -> dict[str, object]:
    return {"model": model, "max_tokens": max_tokens, "temperature": 0}


def _user(prompt: Prompt) -> dict[str, str]:
    return {"role": "user", "content": prompt.text}


def _forced_token(chosen: int, seen: Mapping[int, replies.Logprob]) -> ForcedToken:
    argmax = min(seen, key=lambda token: seen[token].rank)
    return ForcedToken(seen[chosen].logprob, argmax, seen[argmax].logprob)
