"""What a refusal of vLLM means, and what an operator can do about it.  Pure."""

import re

#: The ranks that `--max-lora-rank` takes (vLLM 0.32).
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_NO_ROUTE = "Start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
_RANK = r"LoRA rank (\d+) is greater than max_lora_rank"
_UNFIT = (
    (r"LoRA is not enabled", "Start vLLM with --enable-lora"),
    (r"No adapter found for", "Make the adapter's directory readable for the server, same path"),
    (r"expected target modules", "Start vLLM without --lora-target-modules, or name them all"),
)
_OTHER = (
    (r"does not contain tensors|doesn't contain tensors", "Publish the adapter again"),
    (
        r"found but could not be loaded",
        "kdpo doctor tells which of vLLM's LoRA flags is in the way",
    ),
    (r"maximum (context|model) length|max_model_len", "Shorten it, or raise --max-model-len"),
)


def remedy(status: int, path: str, said: str) -> str:
    """Give what to do about a refusal; "" where the refusal itself says all."""
    if _lacks_route(status, path, said):
        return _NO_ROUTE
    if status in {401, 403}:
        return "Give the server's API key in the settings"
    rank = re.search(_RANK, said)
    if rank:
        return f"Start vLLM with --max-lora-rank {enough_rank(int(rank[1]))}"
    for pattern, hint in (*_UNFIT, *_OTHER):
        if re.search(pattern, said):
            return hint
    return "See the server's log" if status >= 500 else ""


def is_unfit(status: int, path: str, said: str) -> bool:
    """Tell whether it is the server that does not fit, as it was started, not the version."""
    patterns = (_RANK, *(pattern for pattern, _ in _UNFIT))
    return _lacks_route(status, path, said) or any(re.search(one, said) for one in patterns)


def enough_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that takes an adapter of this rank."""
    return next((allowed for allowed in MAX_RANKS if allowed >= rank), MAX_RANKS[-1])


def _lacks_route(status: int, path: str, said: str) -> bool:
    return status == 404 and said == "Not Found" and path.endswith("_lora_adapter")
