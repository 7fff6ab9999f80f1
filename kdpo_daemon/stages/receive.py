"""A post -> entries and their claims, like those of a polled feed.

What is posted becomes claims and nothing else: which of them are believed is for the stage accept.
A post is taken whole or not at all, and answered when its rows are committed; its key makes a
repeat harmless.  Of HTTP this knows the headers and the status numbers only.
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus

from kdpo_daemon.errors import RefusedError, SettingsError, StoreError
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.lines import Lines, read_post
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.kinds.webhook import is_name
from kdpo_daemon.feeds.signature import ID, delivery_key
from kdpo_daemon.records.intake import Delivery, Feed, Fetched
from kdpo_daemon.stages import Clock
from kdpo_daemon.store import audit, deliveries, feeds
from kdpo_daemon.store.db import Database, Session

#: Posts that are taken of one feed in a minute.
PER_MINUTE = 60
_MINUTE = timedelta(minutes=1)
#: Errors of one post that are told one by one.
_TOLD = 20
_LATER_S = 5


@dataclass(frozen=True)
class Answer:
    """What a publisher is answered: a status, JSON, and after how many seconds to try again."""

    status: HTTPStatus
    content: Mapping[str, object]
    retry_after: int | None = None


@dataclass(frozen=True)
class Receive:
    """Takes posts, several at a time."""

    db: Database
    pack: Pack
    max_entries: int  #: facts in one post
    secret_of: Callable[[str], bytes]  #: a feed's key; SettingsError where there is none
    clock: Clock

    def post(self, name: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take a post to the feed `name`, and say what to answer."""
        now = self.clock()
        try:
            key = delivery_key(headers, body, self._secret(name), now)
        except RefusedError as error:
            return _refusal(HTTPStatus.UNAUTHORIZED, [error])
        try:
            lines = read_post(f"delivery {key}", body, self.max_entries)
        except RefusedError as error:
            lines = Lines(refused=[error])
        try:
            with self.db.begin() as tx:
                return self._decide(tx, name, key, body, lines, now)
        except StoreError:
            busy = RefusedError("the database cannot be used now", hint="post it again")
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, [busy], _LATER_S)

    def _secret(self, name: str) -> bytes:
        try:
            # the name comes from outside and is that of a file
            return self.secret_of(name) if is_name(name) else secrets.token_bytes()
        except SettingsError:
            return secrets.token_bytes()  # which nothing is signed with

    def _decide(
        self, tx: Session, name: str, key: str, body: bytes, lines: Lines, now: datetime
    ) -> Answer:
        feed = feeds.lock_webhook(tx, name)
        if feed is None:
            hint = f"its operator adds it: kdpo feeds add {name} --kind webhook"
            return _refusal(
                HTTPStatus.NOT_FOUND, [RefusedError(f"there is no webhook {name}", hint=hint)]
            )
        digest = sha256(body).hexdigest()
        first = deliveries.find(tx, feed.id, key)
        if first:
            return _repeat(first, digest)
        wait = _wait(deliveries.nth_latest(tx, feed.id, PER_MINUTE), now)
        if wait:
            error = RefusedError(f"more than {PER_MINUTE} posts in a minute", hint="post lists")
            return _refusal(HTTPStatus.TOO_MANY_REQUESTS, [error], wait)
        if lines.refused:
            return _refusal(HTTPStatus.BAD_REQUEST, lines.refused)
        return self._take(tx, feed, Delivery(key, digest, {}, now), body, lines)

    def _take(
        self, tx: Session, feed: Feed, delivery: Delivery, body: bytes, lines: Lines
    ) -> Answer:
        now = delivery.received_at
        said = [(entry, claims_of(entry, self.pack)) for entry in lines.entries]
        fetched = Fetched(feed.url, body, content_type="application/json")
        counts = asdict(feeds.record_poll(tx, feed.id, fetched, said, now, feed.next_poll_at))
        deliveries.put(tx, feed.id, Delivery(delivery.key, delivery.body_sha256, counts, now))
        detail = {"delivery": delivery.key, **counts}
        audit.record(tx, f"webhook:{feed.name}", "feed.posted", f"feed:{feed.name}", detail, now)
        return _taken(counts)


def _taken(counts: Mapping[str, int]) -> Answer:
    # a database may give its keys in another order: a repeat is the same to the byte
    return Answer(HTTPStatus.ACCEPTED, dict(sorted(counts.items())))


def _repeat(first: Delivery, digest: str) -> Answer:
    """Answer a key that was seen before: as the first time, if the body is the same."""
    if first.body_sha256 == digest:
        return _taken(first.answer)
    why = f"{ID} was used for another body, at {first.received_at:%Y-%m-%dT%H:%M:%SZ}"
    error = RefusedError(why, hint="give each post an id of its own", field=ID)
    return _refusal(HTTPStatus.CONFLICT, [error])


def _wait(nth: datetime | None, now: datetime) -> int:
    """Give the whole seconds until a minute has passed since `nth`, 0 if it has."""
    left = (nth + _MINUTE - now).total_seconds() if nth else 0
    return max(0, math.ceil(left))


def _refusal(
    status: HTTPStatus, errors: Sequence[RefusedError], retry_after: int | None = None
) -> Answer:
    told: list[dict[str, str]] = [
        {
            "field": ".".join(filter(None, (error.subject, error.field))),
            "error": error.message,
            "hint": error.hint,
        }
        for error in errors[:_TOLD]
    ]
    return Answer(status, {"errors": told, "more": len(errors) - len(told)}, retry_after)
