"""The training child in this process: an order in, an adapter out."""

from collections.abc import Callable
from pathlib import Path

from kdpo_daemon.orders import Order, write_order
from kdpo_daemon.tuning.run import train


def trained(
    order: Order, directory: Path, tell: Callable[[dict[str, object]], None] = lambda _: None
) -> Path:
    source, out = directory / "order", directory / "out"
    source.mkdir()
    out.mkdir()
    write_order(order, source)
    train(source, directory / "said", out, tell)
    return out
