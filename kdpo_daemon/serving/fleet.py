"""The servers that there are now: the same connection to each for as long as it is there."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.serving.replica import Replica

#: Seconds that a connection to a server that is gone stays open; another thread may be asking.
_LINGER_S = 3600.0

Server = TypeVar("Server", bound=Hashable)


class Fleet(Generic[Server]):
    """Looks servers up and keeps connections to them.  Close it when done.

    A look-up that fails or finds nobody changes nothing: those that were known are asked on.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Server]],
        connect: Callable[[Server], Replica],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._connect = connect
        self._clock = clock
        self._known: dict[Server, Replica] = {}
        self._gone: list[tuple[float, Replica]] = []

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The servers in their order, as they were found last.  ReplicaError as of `refresh`."""
        if not self._known:
            self.refresh()
        return tuple(self._known.values())

    def refresh(self) -> None:
        """Look the servers up again.

        Raises:
            ReplicaError: the look-up failed, or found nobody.

        """
        found = tuple(dict.fromkeys(self._find()))
        if not found:
            raise ReplicaError(
                "no server was found", subject="servers", hint="start one, or correct [discovery]"
            )
        before = self._known
        self._known = {one: before.get(one) or self._connect(one) for one in found}
        now = self._clock()
        self._gone += [(now, before[one]) for one in before if one not in self._known]
        for since, replica in self._gone:
            if now - since > _LINGER_S:
                replica.close()
        self._gone = [one for one in self._gone if now - one[0] <= _LINGER_S]

    def close(self) -> None:
        """Close all connections."""
        for replica in (*self._known.values(), *(one for _, one in self._gone)):
            replica.close()
