"""Feeds that are polled side by side, of one host one at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from kdpo_daemon.feeds.fetch import host_of
from kdpo_daemon.records.intake import Feed

T = TypeVar("T")


class Round(Generic[T]):
    """One round of polls.

    A result is handed out before more are asked for, so memory holds what a few feeds gave,
    however many feeds there are.
    """

    def __init__(self, due: Sequence[Feed]) -> None:
        self.done = 0
        self._waiting: dict[str, deque[Feed]] = {}
        for feed in due:
            self._waiting.setdefault(host_of(feed), deque()).append(feed)

    def drop(self, host: str) -> list[Feed]:
        """Give the feeds of a host that still wait; they wait no more."""
        return list(self._waiting.pop(host, ()))

    def results(self, task: Callable[[Feed], Callable[[], T]], at_once: int) -> Iterator[T]:
        """Give each feed's result as it comes.

        `task` is called here, when a feed's turn has come; what it gives is called in a thread.
        """
        running: dict[Future[T], str] = {}
        with ThreadPoolExecutor(at_once, thread_name_prefix="poll") as pool:
            while self._waiting or running:
                for feed in self._next(set(running.values()), at_once - len(running)):
                    running[pool.submit(task(feed))] = host_of(feed)
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    del running[future]
                    self.done += 1
                    yield future.result()

    def _next(self, busy: set[str], room: int) -> list[Feed]:
        free = [host for host in self._waiting if host not in busy][:room]
        chosen = [self._waiting[host].popleft() for host in free]
        for host in free:
            if not self._waiting[host]:
                del self._waiting[host]
        return chosen
