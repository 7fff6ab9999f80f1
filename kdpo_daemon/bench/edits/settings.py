"""The rivals by name, with the values that shape each.  Loads no torch; trains nothing.

Every value can be set (`--set lora-ce.rate=3e-4`), so that each rival can be given the same effort
of tuning; what was done is part of the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.orders import Recipe

#: The process that asks the base model, where others are named after their rival.
BASE = "base"

#: The edited layer of the papers, 21 of Llama's 32, as a share of the depth.
_PAPERS_LAYER = 0.66


@dataclass(frozen=True)
class NoneSettings:
    """No edit: the base model."""


@dataclass(frozen=True)
class PromptSettings:
    """The fact before the question, as a retriever would put it that always finds it."""

    chat: str = "{fact}\n\n{question}"
    completion: str = "{fact} {question}"


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (arXiv 2106.09685) on the MLP of all layers, kept and trained on over batches."""

    rank: int = 8
    alpha: int = 16
    modules: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    rate: float = 1e-3  #: as arXiv 2502.14502 stores new facts with
    epochs: int = 10  #: over a batch's own pairs
    rows: int = 16  #: pairs in a step; as many of earlier facts come on top
    replay: bool = True
    beta: float = 0.1  #: of DPO; not used with cross-entropy
    stop: float = 1e-2  #: an epoch with a smaller mean loss is the last


@dataclass(frozen=True)
class AdaLoraSettings(LoraSettings):
    """AdaLoRA (arXiv 2303.10512) on queries and values, a new adapter merged after each batch."""

    alpha: int = 32
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    rate: float = 5e-3
    epochs: int = 70
    replay: bool = False
    stop: float = 0.0  #: none: the ranks are given out by a schedule
    first_rank: int = 12  #: before ranks are taken away, `rank` is what is left; as in peft
    orthogonal: float = 0.5  #: weight of A and B being orthogonal; as in peft
    warm: float = 0.1  #: share of the steps before ranks are taken away
    settled: float = 0.3  #: share of the steps after that


@dataclass(frozen=True)
class FineTuneSettings:
    """One matrix, one fact at a time (FT-M, FT-L), or many epochs over all facts (LocFT-BF)."""

    layer: float = _PAPERS_LAYER
    module: str = "mlp.down_proj"
    rate: float = 5e-4
    steps: int = 25  #: at most; epochs for LocFT-BF
    rows: int = 100  #: pairs in a step of LocFT-BF
    stop: float = 1e-2  #: a smaller loss ends a fact, or an epoch, or leaves a step out
    clamp: float = 0.0  #: largest change of a weight by one fact; 0: any


@dataclass(frozen=True)
class ReleasedSettings:
    """KDPO as its authors released it (arXiv 2406.09920): one matrix, one fact at a time.

    Completion alone and no end token, as in their code.
    """

    layer: float = _PAPERS_LAYER
    module: str = "mlp.down_proj"
    rate: float = 2e-5  #: 1e-4 / 5, their sequential mode
    steps: int = 8
    cycles: int = 20
    beta: float = 0.1
    stop: float = 1e-3
    #: their sequential mode trains in place and then adds the change once more
    twice: bool = True


@dataclass(frozen=True)
class RomeSettings:
    """ROME (arXiv 2202.05262): one matrix, one fact at a time, solved for a target value."""

    layers: tuple[float, ...] = (0.18,)  #: as shares of the depth; 5 of GPT-J's 28
    module: str = "mlp.down_proj"
    rate: float = 0.5  #: of the target value's gradient descent
    steps: int = 25
    stop: float = 5e-2  #: a smaller loss ends it
    kl: float = 0.0625  #: weight of what "{subject} is a" says as before
    decay: float = 1e-3
    clamp: float = 4.0  #: longest change, in lengths of what it is added to
    texts: int = 300  #: general prompts with the model's answers that make C
    ridge: float = 1e-3  #: added to C, in means of its diagonal: those texts are few


@dataclass(frozen=True)
class MemitSettings(RomeSettings):
    """MEMIT (arXiv 2210.07229): a batch at once, spread over layers."""

    layers: tuple[float, ...] = (0.125, 0.156, 0.188, 0.219, 0.25)  #: 4 to 8 of Llama's 32
    weight: float = 15000.0  #: of C, which is a mean where the keys are summed


@dataclass(frozen=True)
class AlphaEditSettings(RomeSettings):
    """AlphaEdit (arXiv 2410.02355): MEMIT within the directions that text hardly uses."""

    layers: tuple[float, ...] = (0.125, 0.156, 0.188, 0.219, 0.25)
    rate: float = 0.1
    decay: float = 0.5
    clamp: float = 0.75
    null: float = 2e-2  #: eigenvalues of C below it belong to such directions
    damping: float = 10.0  #: of the identity in what is inverted


RivalSettings = (
    NoneSettings
    | PromptSettings
    | LoraSettings
    | FineTuneSettings
    | ReleasedSettings
    | RomeSettings
    | Recipe
)


@dataclass(frozen=True)
class Rival:
    """A name, its values, and what was done to find them."""

    settings: RivalSettings
    tuning: str
    source: str


_PUBLISHED = "published values of models of 7 to 8B; the layer as a share of the depth; not tuned"

RIVALS: Mapping[str, Rival] = {
    "none": Rival(NoneSettings(), "nothing to tune", "the base model"),
    "prompt": Rival(PromptSettings(), "not tuned", "retrieval that always finds the fact"),
    "lora-ce": Rival(LoraSettings(), "not tuned", "LoRA, arXiv 2106.09685, cross-entropy"),
    "lora-dpo": Rival(
        LoraSettings(),
        "as lora-ce; not tuned",
        "LoRA with DPO, arXiv 2305.18290: chosen the new object, rejected the greedy answer",
    ),
    "adalora": Rival(
        AdaLoraSettings(),
        "published rank, alpha, modules, rate and steps (arXiv 2406.09920's code); not tuned",
        "AdaLoRA, arXiv 2303.10512, through peft, cross-entropy",
    ),
    "ft-m": Rival(
        FineTuneSettings(),
        _PUBLISHED,
        "cross-entropy on the target's tokens, one matrix, one fact at a time (EasyEdit)",
    ),
    "ft-l": Rival(
        FineTuneSettings(clamp=5e-5),
        _PUBLISHED,
        "constrained fine-tuning, arXiv 2012.00363; the target from the prompt's last place, as"
        " in the code of arXiv 2202.05262",
    ),
    "locft-bf": Rival(
        FineTuneSettings(),
        _PUBLISHED + "; each batch trains on all facts so far",
        "breadth-first fine-tuning of one matrix, arXiv 2509.22072",
    ),
    "kdpo-released": Rival(
        ReleasedSettings(),
        _PUBLISHED,
        "KDPO as released, arXiv 2406.09920, double update included",
    ),
    "rome": Rival(
        RomeSettings(),
        _PUBLISHED,
        "ROME, arXiv 2202.05262: rank-one change at the subject's last token, C of own answers",
    ),
    "memit": Rival(
        MemitSettings(),
        _PUBLISHED,
        "MEMIT, arXiv 2210.07229: least squares over a batch and five layers",
    ),
    "alphaedit": Rival(
        AlphaEditSettings(),
        _PUBLISHED,
        "AlphaEdit, arXiv 2410.02355: the same in directions that text hardly uses",
    ),
    "kdpo": Rival(
        Recipe(),
        "the product's defaults, found on facts about heads of government with the demo model",
        "kdpo_daemon, through its own training child",
    ),
}


def rival_of(name: str) -> str:
    """Give the rival that a name stands for: `kdpo@3` is `kdpo` with values of its own."""
    return name.partition("@")[0]


def chosen(names: Sequence[str], changes: Sequence[str]) -> dict[str, Rival]:
    """Give the named rivals with changed values; a change is `lora-ce.rate=3e-4`.

    Raises:
        SettingsError: no such rival or value.

    """
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise SettingsError(
            f"no rival is named {unknown[0]!r}",
            subject="--rivals",
            hint=f"choose from {', '.join(RIVALS)}",
        )
    found = {name: RIVALS[name] for name in dict.fromkeys(names)}
    for change in changes:
        name, _, said = change.partition(".")
        field, equals, value = said.partition("=")
        if name not in found or not equals:
            raise SettingsError(
                f"{change!r} is not RIVAL.NAME=VALUE of a rival in this run", subject="--set"
            )
        found[name] = _changed(found[name], name, field, value)
    return found


def _changed(rival: Rival, name: str, field: str, value: str) -> Rival:
    known = {one.name for one in fields(rival.settings)}
    if field not in known:
        raise SettingsError(
            f"{name} has no {field!r}", subject="--set", hint=f"it has {', '.join(sorted(known))}"
        )
    try:
        changed: dict[str, Any] = {field: _as(getattr(rival.settings, field), value)}
    except ValueError as error:
        raise SettingsError(f"{value!r} is no value of {name}.{field}", subject="--set") from error
    settings = replace(rival.settings, **changed)
    return replace(rival, settings=settings, tuning=f"{rival.tuning}; set: {field}={value}")


def _as(now: object, value: str) -> object:
    """Read a value of the kind that stands there now."""
    if isinstance(now, bool):
        if value not in ("true", "false"):
            raise ValueError(value)
        return value == "true"
    if isinstance(now, tuple):
        kind = type(now[0]) if now else int
        return tuple(kind(one) for one in value.split(",") if one)
    return type(now)(value)  # type: ignore[call-arg]  # int, float or str
