"""Fixtures that several folders of tests share."""

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["tests.servers", "tests.databases"]


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Leave no test the log of an earlier one: a command's goes to a stream that ends with it."""
    yield
    structlog.reset_defaults()
