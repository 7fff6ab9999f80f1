"""When each stage runs; signals; health pages.  The only catch-all of the package is here.

State is rows: the scheduler only knocks, and a tick that was missed is made up by the next one.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import FrameType

import uvicorn
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, generate_latest

from kdpo_daemon.app import App, clock
from kdpo_daemon.errors import KdpoError, LeaseHeldError
from kdpo_daemon.receiver import Receiver
from kdpo_daemon.stages import Report
from kdpo_daemon.telemetry import StageMetrics, StateMetrics, count_posts, logger, sd_notify

#: Exit status when the daemon had to stop by itself, so that its supervisor starts it again.
FAILED = 1
#: Seconds between two tries to become the one daemon that writes.
_LEASE_WAIT_S = 5


class Daemon:
    """The service: a scheduler with two ticks, a supervisor loop, and a management port."""

    def __init__(self, app: App, notify_socket: str) -> None:
        self._app = app
        self._notify_socket = notify_socket
        self._log = logger()
        self._registry = CollectorRegistry()
        self._metrics = StageMetrics(self._registry)
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._syncing = threading.Lock()
        self._alive_at: dict[str, datetime] = {}
        self._last = "starting"

    def run(self) -> int:
        """Run until SIGTERM or SIGINT.  Gives the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        server = self._serve()
        try:
            with ExitStack() as held:
                if not self._take_lease(held):
                    return 0
                self._registry.register(StateMetrics(self._app.db))
                self._receive(held)
                return self._supervise(self._schedule())
        finally:
            self._notify("STOPPING=1")
            server.should_exit = True

    def _take_lease(self, held: ExitStack) -> bool:
        """Wait until no other daemon writes; one that was killed holds its lease for a while."""
        while not self._stopping.is_set():
            try:
                held.enter_context(self._app.writing())
            except LeaseHeldError as error:
                self._log.warning("daemon.waiting", reason=str(error))
                self._notify(f"STATUS={error}\nEXTEND_TIMEOUT_USEC=60000000")
                self._stopping.wait(_LEASE_WAIT_S)
            else:
                return True
        return False

    def _receive(self, held: ExitStack) -> None:
        """Take posts to webhooks while the lease is held, if an address is set for them."""
        listen = self._app.settings.webhook.listen
        if listen:
            receiver = Receiver(listen, self._app.receive().post, count_posts(self._registry))
            receiver.start()
            held.callback(receiver.stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._log.info("daemon.stopping", signal=signal.Signals(number).name)
        self._stopping.set()
        self._app.stop()

    def _schedule(self) -> BackgroundScheduler:
        settings = self._app.settings.daemon
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        for act, every in ((self._cycle, settings.cycle_s), (self._sync, settings.reconcile_s)):
            scheduler.add_job(act, "interval", seconds=every, next_run_time=clock())
        scheduler.start()
        return scheduler

    def _supervise(self, scheduler: BackgroundScheduler) -> int:
        """Watch over the ticks; tell systemd that we live only while they move."""
        self._ready.set()
        self._notify("READY=1")
        while not self._stopping.wait(5):
            if self._app.lease_lost:
                self._log.error("daemon.lease_lost", hint="another daemon has taken over")
                self._stopping.set()
                self._app.stop()
            elif self._moving():
                self._notify(f"WATCHDOG=1\nSTATUS={self._last}")
        self._ready.clear()
        scheduler.shutdown(wait=True)
        return FAILED if self._app.lease_lost else 0

    def _moving(self) -> bool:
        """Whether every tick has shown a sign of life lately; training has its own deadline."""
        longest = timedelta(seconds=self._app.settings.training.deadline_s + 600)
        return all(clock() - at < longest for at in self._alive_at.values())

    def _cycle(self) -> None:
        for name, act in self._app.stages():
            if self._stopping.is_set():
                return
            self._alive_at["cycle"] = clock()
            if name == "sync":
                self._sync()
            elif not self._run(name, act):
                return  # the stages after it would work on nothing new

    def _sync(self) -> None:
        if not self._syncing.acquire(blocking=False):
            return
        try:
            self._alive_at["sync"] = clock()
            self._run("sync", self._app.sync)
        finally:
            self._syncing.release()

    def _run(self, name: str, act: Callable[[], Report]) -> bool:
        """Run one stage.  Whatever fails is logged and counted; the next tick tries again."""
        begun = clock()
        try:
            report = act()
        except KdpoError as error:
            self._metrics.errors.labels(name).inc()
            self._log.error("stage.failed", stage=name, error=str(error))
            self._last = f"{name}: {error}"
            return False
        except Exception:  # noqa: BLE001 - the daemon's one catch-all: a bug must not end it
            self._metrics.errors.labels(name).inc()
            self._log.exception("stage.crashed", stage=name)
            self._last = f"{name} crashed; see the log"
            return False
        now = clock()
        self._metrics.seconds.labels(name).observe((now - begun).total_seconds())
        self._metrics.last_success.labels(name).set(now.timestamp())
        for problem in report.problems:
            self._log.warning("stage.problem", stage=name, problem=problem)
        if not report.idle:
            self._log.info("stage.done", stage=name, **report.counts)
            self._last = f"{name}: {report.counts}"
        return True

    def _serve(self) -> uvicorn.Server:
        host, _, port = self._app.settings.daemon.listen.rpartition(":")
        config = uvicorn.Config(
            self._pages(), host=host, port=int(port), log_level="warning", access_log=False
        )
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, daemon=True, name="management").start()
        return server

    def _pages(self) -> FastAPI:
        pages = FastAPI(title="kdpo_daemon", docs_url=None, redoc_url=None, openapi_url=None)

        @pages.get("/livez")
        def livez() -> Response:
            alive = self._moving()
            return Response("ok\n" if alive else "a tick hangs\n", 200 if alive else 503)

        @pages.get("/readyz")
        def readyz() -> Response:
            ready = self._ready.is_set()
            return Response("ok\n" if ready else "not ready\n", 200 if ready else 503)

        @pages.get("/metrics")
        def metrics() -> Response:
            return Response(
                generate_latest(self._registry), media_type="text/plain; version=0.0.4"
            )

        return pages

    def _notify(self, state: str) -> None:
        try:
            sd_notify(self._notify_socket, state)
        except OSError as error:
            self._log.warning("systemd.unreachable", error=str(error), pid=os.getpid())
