from pathlib import Path

import pytest

from kdpo_daemon.processor import prefers_float32


@pytest.mark.parametrize(
    ("cpuinfo", "float32"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx avx2 fma\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16 amx_tile\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", True),
        ("nothing that we know\n", False),
    ],
)
def test_float32_is_for_processors_without_bfloat16(
    tmp_path: Path, cpuinfo: str, float32: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo, "utf-8")

    assert prefers_float32(tmp_path / "cpuinfo", tmp_path / "no_gpu") is float32


def test_a_gpu_has_bfloat16_whatever_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: fpu avx2\n", "utf-8")
    (tmp_path / "nvidia").touch()

    assert not prefers_float32(tmp_path / "cpuinfo", tmp_path / "nvidia")


def test_where_nothing_tells_the_model_stays_as_it_is(tmp_path: Path) -> None:
    assert not prefers_float32(tmp_path / "absent", tmp_path / "no_gpu")
