"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

pytest_plugins = ["tests.servers", "tests.databases"]

#: Files that take minutes, the longest first.  Two processes share the files (Makefile): what is
#: begun last has one of them to itself, while the other has nothing left to do.
_LONGEST = (
    "vllm/test_first_cycle.py",
    "stages/test_crashes.py",
    "stages/test_cli.py",
    "vllm/test_real_server.py",
    "edges/test_serving.py",
    "stages/test_cycle.py",
    "vllm/test_cpu_operators.py",
    "stages/test_promotion.py",
    "vllm/test_extraction.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; pytest-xdist is told to keep the order."""
    here = Path(__file__).parent
    ranks = {here / name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Leave no test the log of an earlier one: a command's goes to a stream that ends with it."""
    yield
    structlog.reset_defaults()
