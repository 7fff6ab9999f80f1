"""Takes posts like the daemon, but is killed when the first is committed and not yet answered.

Arguments: the database's URL, the port, the key.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from sqlmodel import Session

from kdpo_daemon import packs
from kdpo_daemon.app import clock
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.receiver import Receiver
from kdpo_daemon.stages.receive import Receive
from kdpo_daemon.store.db import Database
from kdpo_daemon.telemetry import count_posts


class MortalDatabase(Database):
    """Ends the process right after a commit, as kill -9 would."""

    @contextmanager
    def begin(self) -> Iterator[Session]:
        with super().begin() as tx:
            yield tx
        os._exit(9)


if __name__ == "__main__":
    url, port, key = sys.argv[1:]
    pack = read_pack([packs.text("relations.toml")])
    receive = Receive(MortalDatabase(url), pack, 500, lambda _: key.encode(), clock)
    Receiver(f"127.0.0.1:{port}", receive.post, count_posts(CollectorRegistry())).start()
    threading.Event().wait()
