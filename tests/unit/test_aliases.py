"""The pointer file is written by several moves at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving import aliases

SEVEN = Adapter(7, "kdpo-000007", "/adapters/kdpo-000007", "aa", 7, None)


def test_servers_that_are_moved_at_once_do_not_take_the_pointer_from_each_other(
    tmp_path: Path,
) -> None:
    with ThreadPoolExecutor(8) as pool:
        moves = [pool.submit(aliases.point, tmp_path, "prod", SEVEN) for _ in range(200)]
        for move in moves:
            move.result()  # raises what a move met

    assert aliases.stands_for(tmp_path, "prod", SEVEN)
    assert [one.name for one in (tmp_path / "aliases").iterdir()] == ["prod.json"]
