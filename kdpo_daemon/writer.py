"""The lease that whoever changes facts, adapters or servers must hold: there is one writer."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from kdpo_daemon.errors import LeaseHeldError, StoreError
from kdpo_daemon.records.serving import Lease
from kdpo_daemon.stages import Clock
from kdpo_daemon.store import leases
from kdpo_daemon.store.db import Database

_NAME = "writer"


class Writer:
    """Holds the lease for this process, and knows if another one took it."""

    def __init__(self, ttl_s: int, clock: Clock) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._db: Database | None = None
        self._lease: Lease | None = None
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether another daemon has taken over, or may have."""
        return self._lost.is_set()

    def fencing(self) -> int:
        """Give the number that grows with each holder.  StoreError unless the lease is held.

        Past its end, as on a machine that slept, it is renewed first, if nobody took it.
        """
        if self._db and self._lease and self._clock() >= self._lease.expires_at:
            self._renew(self._db, self._lease)
        if self.lost or self._lease is None:
            raise StoreError(
                "the writer's lease is not held",
                subject="lease",
                hint="another daemon has taken over; stop this one or the other",
            )
        return self._lease.fencing

    @contextmanager
    def holding(self, db: Database) -> Iterator[None]:
        """Hold the lease, renewed in the background.

        Raises:
            StoreError: another daemon holds it.

        """
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._db = db
        with db.begin() as tx:
            self._lease = leases.acquire(tx, _NAME, holder, self._clock(), self._ttl_s)
        stop = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(db, stop), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()
            with db.begin() as tx:
                leases.release(tx, self._lease)
            self._lease = None

    def _keep(self, db: Database, stop: threading.Event) -> None:
        """Renew until told to stop; whatever else ends it, the next stage refuses to begin."""
        try:
            while self._lease and not self._lost.is_set() and not stop.wait(self._ttl_s / 4):
                self._renew(db, self._lease)
        finally:
            if not stop.is_set():
                self._lost.set()

    def _renew(self, db: Database, lease: Lease) -> None:
        try:
            with db.begin() as tx:
                self._lease = leases.renew(tx, lease, self._clock(), self._ttl_s)
        except LeaseHeldError:
            self._lost.set()
        except StoreError:  # the database is away or busy: until its end the lease is ours
            if self._clock() >= lease.expires_at:
                self._lost.set()
