"""Records -> what a person reads, or JSON for a machine.  Asks and decides nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from rich.console import Console
from rich.table import Table

#: What a table row may hold.
Cell = object


def rows(
    console: Console, found: Sequence[Mapping[str, Cell]], *, as_json: bool, empty: str
) -> None:
    """Print rows as a table, or as a JSON array.  `empty` is said where there are none."""
    if as_json:
        machine(console, list(found))
    elif not found:
        console.print(empty)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in found[0]:
            table.add_column(name.replace("_", " "), overflow="fold")
        for row in found:
            table.add_row(*(text(value) for value in row.values()))
        console.print(table)


def tree(console: Console, found: object, *, as_json: bool) -> None:
    """Print a nested record as indented `name: value` lines, or as a JSON object."""
    if as_json:
        machine(console, found)
        return
    for line in _lines(plain(found), 0):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def machine(console: Console, found: object) -> None:
    """Print as JSON, one document, nothing else."""
    said = json.dumps(plain(found), ensure_ascii=False, indent=1)
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def plain(value: object) -> Any:
    """Turn records, enums and times into what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def text(value: Cell) -> str:
    """Give a cell of a table: short times, "-" for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(plain(value))


def _lines(value: Any, depth: int) -> Iterable[str]:
    pad = "  " * depth
    pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
    for name, one in pairs:
        if isinstance(one, (dict, list)) and one:
            yield f"{pad}{name}:"
            yield from _lines(one, depth + 1)
        elif one not in ("", None, [], {}):
            yield f"{pad}{name}: {one}"


def line(found: object) -> bytes:
    """Give one line of JSONL, without the line break."""
    return json.dumps(plain(found), ensure_ascii=False).encode()


def brief(detail: Mapping[str, object]) -> str:
    """Give an event's detail as `name=value` words."""
    return " ".join(f"{name}={plain(value)}" for name, value in detail.items())
