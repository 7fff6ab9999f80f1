"""How much memory an edit takes at its peak.  Standard library and torch's own counters."""

import contextlib
import resource
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  #: resets VmHWM (proc(5))


def reset_peak() -> None:
    """Begin to look for a new peak, where the system can."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_mb() -> float:
    """Peak resident memory of this process since the reset, or since it began, in MB."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _STATUS.read_text("ascii").splitlines()
        return int(next(one for one in lines if one.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_gpu_mb() -> float:
    """Peak memory on the GPU since the reset, in MB; 0 without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
