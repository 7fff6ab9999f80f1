"""Which number types this machine computes fast in.

bfloat16 halves the memory of weights, but a processor without instructions for it takes some ten
times as long as for float32 (512 x 576 x 1536 on one core of an AVX2 machine: 5.7 against 68
GFLOPS, torch 2.13).  Standard library only: the daemon and the training child both ask.
"""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
#: x86 tells of the first two under "flags", ARM of the third under "Features".
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_NVIDIA = Path("/proc/driver/nvidia/version")


def prefers_float32(cpuinfo: Path = _CPUINFO, nvidia: Path = _NVIDIA) -> bool:
    """Tell whether models should be computed in float32 here: no GPU, no bfloat16 on the CPU."""
    if nvidia.exists() or not cpuinfo.exists():
        return False
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [
        line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))
    ]
    return bool(told) and not _BFLOAT16.intersection(told[0])
