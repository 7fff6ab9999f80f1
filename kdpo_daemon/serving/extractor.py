"""A model behind an OpenAI-compatible endpoint that reads entries; with vLLM's structured outputs.

Asks and checks the form of the answer; what is believed of it is decided in `facts.by_model`.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.facts.by_model import MOST, Question
from kdpo_daemon.records.intake import Quoted
from kdpo_daemon.serving import replies
from kdpo_daemon.serving.line import Access, Call, Line, ServingPolicy


@dataclass(frozen=True)
class ExtractorPolicy:
    """How patiently a model is asked, and how much it may read and say."""

    answer_s: float = 60.0  #: until one answer is complete
    attempts: int = 2  #: at once, of a request that failed; the entry gets further turns
    max_chars: int = 2000  #: of an entry's title and text that are shown
    max_tokens: int = 600  #: of an answer; with the prompt it must fit --max-model-len
    per_cycle: int = 50  #: entries read in one cycle; the others wait


class _Fact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    subject: str
    relation: str
    new: str
    old: str | None
    valid_from: str | None
    quote: str
    confidence: float = Field(ge=0, le=1)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    facts: list[_Fact] = Field(max_length=MOST)


class Extractor:
    """The endpoint, under its URL with `/v1`, as OpenAI's clients take it.  Close it when done."""

    def __init__(self, url: str, model: str, api_key: str | None, policy: ExtractorPolicy) -> None:
        self.model = model
        self.policy = policy
        asking = ServingPolicy(
            answer_s=policy.answer_s, attempts=policy.attempts, total_s=2 * policy.answer_s
        )
        self._line = Line("extraction", url, Access(api_key), asking)

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
        """Close the connections to the endpoint."""
        self._line.close()

    def ask(self, question: Question) -> list[Quoted]:
        """Give what the model reports.

        Raises:
            ReplicaError: with the status 200 if the answer cannot be used, else as `Line` has it.

        """
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ],
            "temperature": 0,
            "max_tokens": self.policy.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "facts", "schema": question.schema, "strict": True},
            },
        }
        reply = self._line.ask(replies.Chat, Call("POST", "/chat/completions", body))
        content = reply.choices[0].message.content
        try:
            answer = _Answer.model_validate_json(content or "")
        except ValidationError as error:
            raise ReplicaError(
                f"the answer is not of the schema: {error.errors()[0]['msg']}",
                subject=self._line.name,
                hint="take a larger model, raise [extraction] max_tokens, or a server that knows"
                " structured outputs",
                status=200,
            ) from error
        return [
            Quoted(
                one.subject,
                one.relation,
                one.new,
                one.old or "",
                one.valid_from or "",
                one.quote,
                one.confidence,
            )
            for one in answer.facts
        ]


def is_about_the_entry(error: ReplicaError) -> bool:
    """Tell whether the endpoint works and it was this entry that went wrong."""
    return error.status in {200, 400, 413, 422}
