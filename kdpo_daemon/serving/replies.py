"""What vLLM's routes reply, as far as we read it (vLLM 0.32).

Unknown fields are ignored: vLLM adds some with each release.
"""

from pydantic import BaseModel, Field


class Card(BaseModel):
    """One line of `/v1/models`."""

    id: str
    root: str
    parent: str | None = None


class Models(BaseModel):
    """`/v1/models`."""

    data: list[Card]


class Version(BaseModel):
    """`/version`."""

    version: str


class Tokens(BaseModel):
    """`/tokenize`."""

    tokens: list[int]


class Logprob(BaseModel):
    """One candidate at one position; rank 1 is the model's own choice."""

    logprob: float
    rank: int


class Choice(BaseModel):
    """One continuation of `/v1/completions`."""

    text: str
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


class Completion(BaseModel):
    """`/v1/completions`; `model` is the name of the LoRA that answered, or of the base."""

    model: str
    choices: list[Choice] = Field(min_length=1)


class Message(BaseModel):
    """What the assistant said."""

    content: str | None = None


class ChatChoice(BaseModel):
    """One continuation of `/v1/chat/completions`."""

    message: Message


class Chat(BaseModel):
    """`/v1/chat/completions`."""

    model: str
    choices: list[ChatChoice] = Field(min_length=1)
