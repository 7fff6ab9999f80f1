"""The base model with keyed LoRA on some layers: what it says, and what its edited modules read.

It knows neither pairs nor losses, and never changes a weight of the base.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

from kdpo_daemon.processor import prefers_float32
from kdpo_daemon.tuning.head import quicken_head, speaking
from kdpo_daemon.tuning.layers import Below, Relay, layer_list, module_names
from kdpo_daemon.tuning.mlps import quicken_mlps
from kdpo_daemon.tuning.packing import Tokens


@dataclass(frozen=True)
class Pass:
    """What one pass of the whole model saw."""

    lower: Tensor  #: (R, L, D), what enters the first edited layer
    inputs: tuple[Tensor, ...]  #: what each edited module reads, float32 (R, L, d_in) each
    logits: Tensor  #: (P, V) float32, at the places asked for


class EditedModel:
    """A causal LM whose edited modules add something to their output, in float32.

    `rows[i]`, A, (r, d_in) and `columns[i]`, B, (d_out, r) belong to the edited layer
    `edited[i]`, and are where that layer's weights are; with r = 0 the model is the base.  Added
    is `x A^T B^T`; where `gates[i]`, G, (r, d_in) is set, `(act(x G^T) * x A^T) B^T`: neurons,
    times `openings[i]`, which is 1 unless training lets them open less.
    What is computed comes back where it was computed: hidden states with the first edited layer,
    logits with the head.
    """

    def __init__(self, directory: Path, target_module: str) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=torch.float32 if prefers_float32() else "auto",
            local_files_only=True,
            # on short rows twice as fast as the fused kernels, whose backward is slow on CPUs
            attn_implementation="eager",
            # over as many GPUs as it takes (accelerate); one takes it whole if it can
            device_map="auto" if torch.cuda.is_available() else None,
        )
        self.model.requires_grad_(requires_grad=False)
        quicken_head(self.model)
        self.module_names = module_names(self.model, target_module)
        quicken_mlps(map(self.model.get_submodule, self.module_names))
        owner, self._list_name = layer_list(self.module_names)
        self._owner = self.model.get_submodule(owner)
        self._layers = getattr(self._owner, self._list_name)
        self.edited: list[int] = []
        self.rows: list[Tensor] = []
        self.columns: list[Tensor] = []
        self.gates: list[Tensor | None] = []
        self.openings: list[float] = []
        self._parts: list[torch.Size] = []  #: (heads, width) of keys and values, layer by layer

    @property
    def depth(self) -> int:
        """How many layers have a module to edit."""
        return len(self.module_names)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return frozenset(ends if isinstance(ends, list) else [ends])

    def weight(self, index: int) -> Tensor:
        """The base's own weight of the index-th edited module, (d_out, d_in)."""
        return self._module(self.edited[index]).get_parameter("weight")

    def edit(self, names: Sequence[str]) -> None:
        """Choose the edited modules by name, the lowest first, once.  They have no slots yet."""
        self.edited = [self.module_names.index(name) for name in names]
        for index, name in enumerate(names):
            module = self.model.get_submodule(name)
            d_out, d_in = self._shape(module)
            device = next(module.parameters()).device
            self.rows.append(torch.zeros(0, d_in, device=device))
            self.columns.append(torch.zeros(d_out, 0, device=device))
            self.gates.append(None)
            self.openings.append(1.0)
            module.register_forward_hook(self._adding(index))

    def lower(self, batch: Tokens) -> Tensor:
        """Hidden states that enter the first edited layer, (R, L, D): fixed while B is trained."""
        return self.entering(self.edited[0], batch)

    @torch.no_grad()
    def entering(self, layer: int, batch: Tokens, below: Below | None = None) -> Tensor:
        """Hidden states that enter a layer, (R, L, D), from tokens or from states below it."""
        relay = Relay()
        with self._going_on(below, [*self._layers[:layer], relay]):
            self._forward(batch, *_nowhere())
        if relay.seen is None:
            raise AssertionError("the model did not run its layers")
        return relay.seen

    def logits(
        self,
        batch: Tokens,
        at: tuple[Tensor, Tensor],
        lower: Tensor | None = None,
        past: Tensor | None = None,
        words: Tensor | None = None,
    ) -> Tensor:
        """Float32 logits at P places, (P, V).

        Args:
            batch: tokens to compute.
            at: row and column of each place, (P,) x 2.
            lower: what `lower` gave for them, to run the upper layers alone.
            past: what `memory` gave for tokens that come before; none else.
            words: tokens of the vocabulary whose logits are wanted, (V,); None: all.

        """
        with ExitStack() as narrowed:
            if words is not None:
                narrowed.enter_context(speaking(self.model, words))
            if lower is None:
                return self._forward(batch, *at)
            narrowed.enter_context(self._from(lower))
            return self._forward(batch, *at, None if past is None else self._cache(past))

    def memory(self, batch: Tokens, lower: Tensor) -> Tensor:
        """Keys and values of the upper layers as the model now stands, flat: (R, L, K)."""
        cache: Any = DynamicCache()
        with torch.no_grad(), self._from(lower):
            self._forward(batch, *_nowhere(), cache)
        parts: list[Tensor] = [
            part.transpose(1, 2)  # to (R, L, heads, width)
            for layer in cache.layers[self.edited[0] :]
            for part in (layer.keys, layer.values)
        ]
        self._parts = [part.shape[2:] for part in parts]
        return torch.cat([part.flatten(2).to(lower.device) for part in parts], dim=2)

    def inputs(self, batch: Tokens, lower: Tensor) -> list[Tensor]:
        """What each edited module reads, a float32 (R, L, d_in) per edited layer.

        `lower` is what `lower` gave for the batch.
        """
        with torch.no_grad(), self._from(lower), self._noting(self.edited) as seen:
            self._forward(batch, *_nowhere())
        return [seen[index] for index in range(len(self.edited))]

    @torch.no_grad()
    def read_by(
        self, layers: Sequence[int], batch: Tokens, below: Below | None = None
    ) -> list[Tensor]:
        """What the modules of some layers read, edited or not, a float32 (R, L, d_in) each.

        It goes on from the states `below`, if there are some.
        """
        cut = [*self._layers[: max(layers) + 1]]
        with self._going_on(below, cut), self._noting(layers) as seen:
            self._forward(batch, *_nowhere())
        return [seen[index] for index in range(len(layers))]

    @torch.no_grad()
    def run(self, batch: Tokens, at: tuple[Tensor, Tensor], cache: DynamicCache) -> Pass:
        """Run all layers on tokens that come after those in the cache, and add them to it."""
        lower: list[Tensor] = []

        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            lower.append(arguments[0])

        handle = self._layers[self.edited[0]].register_forward_pre_hook(note)
        try:
            with self._noting(self.edited) as seen:
                logits = self._forward(batch, *at, cache)
        finally:
            handle.remove()
        return Pass(lower[0], tuple(seen[i] for i in range(len(self.edited))), logits)

    def _module(self, layer: int) -> nn.Module:
        module: nn.Module = self.model.get_submodule(self.module_names[layer])
        return module

    def _shape(self, module: Any) -> tuple[int, int]:
        """d_out and d_in: of a linear module its weight's; a whole MLP maps hidden states."""
        if isinstance(module, nn.Linear):
            return module.out_features, module.in_features
        width = int(self.model.config.hidden_size)
        return width, width

    def _adding(self, index: int) -> Any:
        def add(module: Any, arguments: tuple[Tensor], output: Tensor) -> Tensor:
            if not self.rows[index].shape[0]:
                return output
            read = arguments[0].float()
            gates, answer = self.gates[index], read @ self.rows[index].T
            if gates is not None:
                answer = module.act_fn(read @ gates.T) * answer * self.openings[index]
            return output + (answer @ self.columns[index].T).to(output.dtype)

        return add

    @contextmanager
    def _noting(self, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Within, what the modules of these layers read last, in float32, by place in `layers`."""
        seen: dict[int, Tensor] = {}

        def noting(index: int) -> Any:
            def note(_: nn.Module, arguments: tuple[Tensor]) -> None:
                seen[index] = arguments[0].float()

            return note

        with ExitStack() as hooks:
            for index, layer in enumerate(layers):
                handle = self._module(layer).register_forward_pre_hook(noting(index))
                hooks.callback(handle.remove)
            yield seen

    def _forward(
        self, batch: Tokens, row: Tensor, column: Tensor, cache: DynamicCache | None = None
    ) -> Tensor:
        # picking before the head keeps whatever the architecture does to its logits
        def pick(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            device = arguments[0].device
            return (arguments[0][row.to(device), column.to(device)][None],)

        device = self.model.get_input_embeddings().weight.device
        handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            logits: Tensor = self.model(
                input_ids=batch.ids.to(device),
                position_ids=batch.depth.to(device),
                attention_mask=self._mask(batch).to(device),
                past_key_values=cache,
                use_cache=cache is not None,
            ).logits
            return logits[0].float()
        finally:
            handle.remove()

    def _cache(self, past: Tensor) -> DynamicCache:
        """What `memory` made flat, as the model takes it."""
        sizes = [heads * width for heads, width in self._parts]
        split = torch.split(past, sizes, dim=2)
        parts = [
            part.reshape(*part.shape[:2], *shape).transpose(1, 2)
            for part, shape in zip(split, self._parts, strict=True)
        ]
        cache = DynamicCache()
        both = zip(parts[::2], parts[1::2], strict=True)
        for layer, (keys, values) in enumerate(both, self.edited[0]):
            device = next(self._module(layer).parameters()).device
            cache.update(keys.to(device), values.to(device), layer)
        return cache

    def _mask(self, batch: Tokens) -> Tensor:
        """What eager attention adds to its scores, (R, 1, L, K + L).

        It stands in for the model's own mask, a sliding window's too: sequences are far shorter.
        """
        mask = torch.zeros(batch.sees.shape, dtype=self.model.dtype)
        return mask.masked_fill_(~batch.sees, torch.finfo(mask.dtype).min)[:, None]

    @contextmanager
    def _from(self, lower: Tensor) -> Iterator[None]:
        """Within, the model goes on from these hidden states at the first edited layer."""
        with self._going_on(Below(self.edited[0], lower), self._layers):
            yield

    @contextmanager
    def _going_on(self, below: Below | None, layers: Sequence[nn.Module]) -> Iterator[None]:
        """Within, the model has these layers, and goes on from the states below, if any."""
        first, relay = below.layer if below else 0, Relay()
        relay.given = below.states if below else None
        lower = [Relay() for _ in range(first - 1)] + [relay]
        with self._with_layers([*lower[:first], *layers[first:]]):
            yield

    @contextmanager
    def _with_layers(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        # as many as before: architectures look a layer's kind up by its number
        filled = [*layers, *(Relay() for _ in range(len(self._layers) - len(layers)))]
        setattr(self._owner, self._list_name, nn.ModuleList(filled))
        try:
            yield
        finally:
            setattr(self._owner, self._list_name, self._layers)


def _nowhere() -> tuple[Tensor, Tensor]:
    none = torch.zeros(0, dtype=torch.int64)
    return none, none
