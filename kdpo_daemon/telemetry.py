"""What operators watch: log lines, metrics, and word to systemd.  Decides nothing."""

import logging
import socket
import sys
from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kdpo_daemon import __version__
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.store import deployments, facts, feeds
from kdpo_daemon.store.db import Database


def configure_logging(*, json: bool) -> None:
    """Log to standard error: JSON lines for machines, aligned text for people."""
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


def logger() -> structlog.typing.FilteringBoundLogger:
    """Give the logger: `log.info("stage.done", stage="train", adapters=1)`."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound


class StageMetrics:
    """Counts and times of the stages, kept in the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "kdpo_stage_duration_seconds",
            "Time a stage took.",
            ["stage"],
            buckets=(0.1, 1, 10, 60, 300, 1800),
            registry=registry,
        )
        self.errors = Counter(
            "kdpo_stage_errors_total", "Stage runs that failed.", ["stage"], registry=registry
        )
        self.last_success = Gauge(
            "kdpo_stage_last_success_timestamp_seconds",
            "When a stage last ended well.",
            ["stage"],
            registry=registry,
        )
        Gauge("kdpo_build_info", "The running version.", ["version"], registry=registry).labels(
            __version__
        ).set(1)


def count_posts(registry: CollectorRegistry) -> Counter:
    """Give the counter of posts to webhooks."""
    return Counter("kdpo_webhook_posts_total", "Posts to webhooks.", ["status"], registry=registry)


class StateMetrics(Collector):
    """Gauges read from the database when they are asked for: state is rows."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def collect(self) -> Iterator[Metric]:
        """Give all gauges from one short transaction."""
        with self._db.begin() as tx:
            by_status = facts.count_by_status(tx)
            polled = feeds.list_feeds(tx)
            wanted = deployments.wanted(tx)
            replicas = deployments.replicas(tx)
        yield _gauge(
            "kdpo_facts",
            "Facts by status.",
            "status",
            [(status.value, by_status.get(status, 0)) for status in FactStatus],
        )
        yield _gauge(
            "kdpo_feed_failures",
            "Polls that failed since the last good one.",
            "feed",
            [(feed.name, feed.failures) for feed in polled if feed.enabled],
        )
        yield _gauge(
            "kdpo_feed_last_poll_timestamp_seconds",
            "When a feed was last polled.",
            "feed",
            [
                (feed.name, feed.last_polled_at.timestamp())
                for feed in polled
                if feed.last_polled_at
            ],
        )
        if wanted is not None:
            in_sync = [
                (r.name, float(r.state is ReplicaStatus.LIVE and r.deployment_id == wanted.id))
                for r in replicas
                if r.state is not ReplicaStatus.ABSENT
            ]
            yield _gauge(
                "kdpo_adapter_in_sync", "Whether a server has what is wanted.", "replica", in_sync
            )


def _gauge(
    name: str, text: str, label: str, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def sd_notify(address: str, state: str) -> None:
    """Tell systemd: `READY=1`, `STATUS=...`, `STOPPING=1`, `WATCHDOG=1`.

    `address` is $NOTIFY_SOCKET; without one nobody listens and nothing is done.
    """
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux' abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(state.encode())
