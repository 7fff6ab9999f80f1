"""What a server's `/metrics` tell of the engine behind it.  Pure.

vLLM says nowhere in so many words on what it runs.  Our plugin does; without it, a CPU engine is
known by how it keeps its cache (vLLM 0.32).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

#: What our plugin publishes (`vllm_plugin`).
PLUGIN_METRIC = "kdpo_plugin_info"


@dataclass(frozen=True)
class Engine:
    """As far as it is known."""

    slots: int | None  #: `--max-loras`; None: not told before the first request
    cpu: bool
    own_operators: bool  #: our LoRA operators for CPU are in place


def read_engine(text: str) -> Engine:
    """Read the exposition; unknown metrics are ignored, and so is what is no exposition."""
    labels: dict[str, Mapping[str, str]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels[sample.name] = sample.labels
    except ValueError:
        pass  # labels found so far count; a server without metrics is not the worse for it
    plugin = labels.get(PLUGIN_METRIC, {})
    slots = labels.get("vllm:lora_requests_info", {}).get("max_lora", "")
    cpu = plugin["platform"] == "cpu" if plugin else _cpu(labels)
    own = plugin.get("operators") == "ours"
    return Engine(int(slots) if slots.isdigit() else None, cpu, own)


def _cpu(labels: Mapping[str, Mapping[str, str]]) -> bool:
    """Only the CPU engine has both by default: blocks of 128, and a cache of a fixed size."""
    cache = labels.get("vllm:cache_config_info", {})
    fixed = cache.get("kv_cache_memory_bytes", "None") != "None"
    return fixed and cache.get("block_size") == "128"
