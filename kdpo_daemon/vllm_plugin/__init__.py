"""Runs inside vLLM: follows alias pointers, and on CPU replaces the LoRA operators by right ones.

Loaded by vLLM through the entry point group `vllm.general_plugins` in each of its processes.
Imports the standard library and, once inside vLLM, vllm and what comes with it; nothing else of
this package, so that it can be installed beside vLLM without our dependencies.
"""

import logging
import os
from pathlib import Path

from kdpo_daemon.vllm_plugin import aliases, lora_linear, lora_ops

#: The directory that holds the adapters and `aliases/`, absolute; unset: no alias is resolved.
ADAPTERS_ENV = "KDPO_ADAPTERS"

#: Set to 1 to keep vLLM's own LoRA operators on CPU.
STOCK_OPS_ENV = "KDPO_STOCK_LORA_OPS"

#: The vLLM releases whose inner parts we know well enough to replace some.
TESTED_VERSIONS = ("0.32.0",)

_log = logging.getLogger("vllm.kdpo")


def register() -> None:
    """Install what the environment asks for.  May be called again; never raises.

    An exception here would keep vLLM from starting; without us it still serves the base model,
    and `kdpo doctor` tells that the alias does not answer.
    """
    try:
        _install()
    except Exception:  # noqa: BLE001 - vLLM's start is worth more than any of ours
        _log.exception("kdpo: not installed; vLLM goes on without aliases")


def _install() -> None:
    import vllm
    from vllm.platforms import current_platform

    tested = vllm.__version__.split("+")[0] in TESTED_VERSIONS
    if not tested:
        _log.warning("kdpo: vLLM %s is not tested; its inner parts stay", vllm.__version__)
    root = os.getenv(ADAPTERS_ENV)
    if root:
        aliases.install(Path(root), move_on_unload=tested)
    cpu = current_platform.is_cpu()
    ours = tested and cpu and os.getenv(STOCK_OPS_ENV) != "1"
    if ours:
        lora_ops.install()
        lora_linear.install()
    _tell("cpu" if cpu else "gpu", "ours" if ours else "stock")


def _tell(platform: str, operators: str) -> None:
    """Say on vLLM's `/metrics` what was installed, for `kdpo doctor`; once in a process."""
    from prometheus_client import REGISTRY, Gauge

    name = "kdpo_plugin_info"
    if REGISTRY.get_sample_value(name, {"platform": platform, "operators": operators}):
        return
    says = "What the kdpo plugin found and put in place"
    made = Gauge(name, says, ["platform", "operators"], multiprocess_mode="mostrecent")
    made.labels(platform, operators).set(1)
