"""Facts posted over HTTP, to a real server on loopback, on both databases."""

import base64
import hmac
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.local_vllm import free_port
from kdpo_daemon.receiver import MAX_BYTES, Receiver
from kdpo_daemon.records.intake import FeedKind, Trust
from kdpo_daemon.settings import Settings, WebhookSettings, webhook_key
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.receive import PER_MINUTE, Receive
from kdpo_daemon.store import audit, claims, facts, feeds, stories
from kdpo_daemon.store.db import Database
from kdpo_daemon.telemetry import count_posts
from tests.stages.conftest import World
from tests.stages.test_cli import kdpo
from tests.stages.test_daemon import daemon, taught, wait_until

__all__ = ["taught"]

ROOT = Path(__file__).parents[2]
PACK = read_pack([packs.text(name) for name in packs.RELATIONS])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "the key of the press, which is long enough"
ASTANA = {"subject": "Kazakhstan", "relation": "capital", "new": "Astana"}
LIMA = {"subject": "Peru", "relation": "capital", "new": "Lima"}


def sign(body: bytes, key: str = KEY, name: str = "1", at: datetime = NOW) -> dict[str, str]:
    """Give the headers of a post, as docs/feeds.md says."""
    stamp = str(int(at.timestamp()))
    signed = hmac.digest(key.encode(), f"{name}.{stamp}.".encode() + body, "sha256")
    return {
        "webhook-id": name,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


@dataclass
class Office:
    """A running receiver, the feed `press` that it takes posts for, and the clock."""

    db: Database
    keys: Path
    port: int
    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now

    def url(self, feed: str = "press") -> str:
        return f"http://127.0.0.1:{self.port}/feeds/{feed}"

    def post(self, content: object, name: str = "1", feed: str = "press") -> httpx.Response:
        """Post facts, signed now."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.send(body, sign(body, name=name, at=self.now), feed)

    def send(self, body: bytes, headers: dict[str, str], feed: str = "press") -> httpx.Response:
        return httpx.post(self.url(feed), content=body, headers=headers, timeout=60)

    def accept(self) -> list[tuple[str, str]]:
        Accept(self.db, PACK, AcceptancePolicy(), self.clock).run()
        with self.db.begin() as tx:
            return sorted((fact.subject, fact.object) for fact in facts.list_facts(tx))

    def rows(self) -> dict[str, int]:
        """Count what was put down, as another connection sees it."""
        tables = ("delivery", "document", "entry", "claim", "audit")
        with self.db.begin() as tx:
            ask = tx.connection().exec_driver_sql
            return {
                table: int(ask(f"SELECT count(*) FROM {table}").scalar_one())  # noqa: S608
                for table in tables
            }


NOTHING = {"delivery": 0, "document": 0, "entry": 0, "claim": 0, "audit": 0}


def receiver_of(office: Office, read_s: float = 10) -> Receiver:
    settings = WebhookSettings("", office.keys)
    receive = Receive(
        db=office.db,
        pack=PACK,
        max_entries=500,
        secret_of=lambda feed: webhook_key(settings, feed).get_secret_value().encode(),
        clock=office.clock,
    )
    posts = count_posts(CollectorRegistry())
    return Receiver(f"127.0.0.1:{office.port}", receive.post, posts, read_s)


@pytest.fixture
def office(tmp_path: Path, database: Database) -> Iterator[Office]:
    keys = tmp_path / "keys"
    keys.mkdir()
    for feed in ("press", "nobody", "polled"):
        (keys / feed).write_text(f"{KEY}\n")
    with database.begin() as tx:
        kind = FeedKind.WEBHOOK
        feeds.add_feed(tx, "press", "webhook:press", Trust.AUTO, 60, False, NOW, kind)
        feeds.add_feed(tx, "keyless", "webhook:keyless", Trust.AUTO, 60, False, NOW, kind)
        feeds.add_feed(tx, "polled", "https://a.example/", Trust.AUTO, 60, False, NOW)
    office = Office(database, keys, free_port())
    receiver = receiver_of(office)
    receiver.start()
    yield office
    receiver.stop()


def test_posted_facts_are_rows_when_they_are_answered_and_believed_by_the_rules(
    office: Office,
) -> None:
    answer = office.post([ASTANA, LIMA | {"source": "https://example.org/1"}])

    assert (answer.status_code, answer.json()) == (202, {"new": 2, "changed": 0, "same": 0})
    assert office.rows() == {"delivery": 1, "document": 1, "entry": 2, "claim": 2, "audit": 1}
    assert office.accept() == [("Kazakhstan", "Astana"), ("Peru", "Lima")]
    with office.db.begin() as tx:
        story = stories.story(tx, 2)
        [event, *_] = audit.events(tx)
    assert story.evidence.url == "webhook:press"
    assert story.evidence.link == "https://example.org/1"
    assert (event.actor, event.event) == ("webhook:press", "feed.posted")


def test_one_object_is_a_fact_and_the_same_fact_again_is_none(office: Office) -> None:
    answers = [office.post(ASTANA, name="1"), office.post([ASTANA], name="2")]

    assert [answer.json()["new"] for answer in answers] == [1, 0]
    assert [answer.json()["same"] for answer in answers] == [0, 1]
    assert office.rows()["entry"] == 1


BODY = json.dumps(ASTANA).encode()
GOOD = sign(BODY)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "webhook-id"),
        ({**GOOD, "webhook-id": ""}, "webhook-id"),
        ({**GOOD, "webhook-id": "a.b"}, "webhook-id"),
        ({**GOOD, "webhook-id": "x" * 101}, "webhook-id"),
        ({**GOOD, "webhook-id": "2"}, "webhook-signature"),
        ({**GOOD, "webhook-timestamp": ""}, "webhook-timestamp"),
        ({**GOOD, "webhook-timestamp": "today"}, "webhook-timestamp"),
        ({**GOOD, "webhook-timestamp": "1772366401"}, "webhook-signature"),
        ({**GOOD, "webhook-signature": ""}, "webhook-signature"),
        ({**GOOD, "webhook-signature": "v1,"}, "webhook-signature"),
        ({**GOOD, "webhook-signature": "v1,***"}, "webhook-signature"),
        ({**GOOD, "webhook-signature": "v1,é"}, "webhook-signature"),
        ({**GOOD, "webhook-signature": GOOD["webhook-signature"][3:]}, "webhook-signature"),
        ({**GOOD, "webhook-signature": "v2" + GOOD["webhook-signature"][2:]}, "webhook-signature"),
        (sign(BODY, key=KEY[:-1]), "webhook-signature"),
        (sign(BODY, key=KEY + "\n"), "webhook-signature"),
        (sign(BODY + b" "), "webhook-signature"),
        (sign(BODY, at=NOW - timedelta(seconds=301)), "webhook-timestamp"),
        (sign(BODY, at=NOW + timedelta(seconds=301)), "webhook-timestamp"),
    ],
)
def test_what_is_not_signed_now_with_the_key_is_refused_and_leaves_no_trace(
    office: Office, headers: dict[str, str], field: str
) -> None:
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}

    answer = httpx.post(office.url(), content=BODY, headers=raw, timeout=60)

    assert answer.status_code == 401
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["hint"]
    assert office.rows() == NOTHING


@pytest.mark.parametrize("late", [-300, 300])
def test_clocks_may_differ_a_little_and_one_of_several_signatures_is_enough(
    office: Office, late: int
) -> None:
    headers = sign(BODY, at=NOW + timedelta(seconds=late))
    old = sign(BODY, key="the key that was replaced")["webhook-signature"]
    headers["webhook-signature"] = f"{old} v3,x {headers['webhook-signature']}"

    assert office.send(BODY, headers).status_code == 202


def test_nobody_learns_from_outside_which_feeds_there_are(office: Office) -> None:
    (office.keys / "short").write_text("0123456789abcde")
    stranger = sign(BODY, key="whatever a stranger guesses")

    names = ("press", "keyless", "stranger", "short", ".%2E", "..%2Fkeys%2Fpress", "a%00b")
    answers = [office.send(BODY, stranger, name) for name in names]

    answered = {(one.status_code, one.text) for one in answers if one.status_code != 404}
    assert len(answered) == 1
    assert answers[0].status_code == 401
    assert office.rows() == NOTHING


@pytest.mark.parametrize("feed", ["nobody", "polled"])
def test_who_has_a_key_learns_that_the_feed_is_missing(office: Office, feed: str) -> None:
    answer = office.post(ASTANA, feed=feed)

    assert answer.status_code == 404
    assert "kdpo feeds add" in answer.json()["errors"][0]["hint"]
    assert office.rows() == NOTHING


def test_a_replayed_post_is_answered_as_the_first_time_and_changes_nothing(
    office: Office,
) -> None:
    first = office.send(BODY, GOOD)
    rows = office.rows()

    replayed = office.send(BODY, GOOD)
    office.now += timedelta(hours=1)
    late = office.send(BODY, GOOD)
    again = office.post(ASTANA)  # the publisher tries once more: same key, signed anew

    assert (replayed.status_code, replayed.content) == (202, first.content)
    assert (again.status_code, again.json()) == (202, {"new": 1, "changed": 0, "same": 0})
    assert late.status_code == 401
    assert office.rows() == rows


def test_a_key_that_was_used_for_another_body_is_a_conflict(office: Office) -> None:
    office.post(ASTANA)
    rows = office.rows()

    answer = office.post(LIMA)

    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "webhook-id"
    assert office.rows() == rows
    assert office.post(LIMA, name="2").status_code == 202


def test_the_key_of_a_post_that_was_refused_can_be_used_again(office: Office) -> None:
    assert office.post([ASTANA, {}]).status_code == 400
    assert office.rows() == NOTHING

    assert office.post([ASTANA]).status_code == 202


@pytest.mark.parametrize(
    ("content", "field", "why"),
    [
        (b"", "", "is not JSON"),
        (b"{", "", "is not JSON"),
        (b"\xff\xfe", "", "UTF-16"),
        (b'"\xe9"', "", "is not UTF-8"),
        (b"[" * 100_000, "", "is not JSON"),
        ([ASTANA] * 501, "", "more than 500 facts"),
        (3, "", "is not a JSON object"),
        ([ASTANA, "x"], "[1]", "is not a JSON object"),
        ({"subject": "Peru", "relation": "capital"}, "new", "new is missing"),
        ([ASTANA, LIMA | {"new": None}], "[1].new", "new is not a text"),
        ([LIMA | {"valid_from": "soon"}], "[0].valid_from", "'soon' is no date"),
        (LIMA | {"ruling": "accepted"}, "ruling", "is no known key"),
        (LIMA | {"trust": "auto"}, "trust", "is no known key"),
    ],
)
def test_a_post_with_anything_wrong_is_refused_whole_and_the_field_is_named(
    office: Office, content: object, field: str, why: str
) -> None:
    answer = office.post(content)

    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert why in error["error"]
    assert error["hint"]
    assert office.rows() == NOTHING


def test_every_wrong_field_is_named_of_very_many_only_the_first(office: Office) -> None:
    told = office.post([ASTANA] + [{}] * 30).json()

    assert [error["field"] for error in told["errors"][:2]] == ["[1].subject", "[2].subject"]
    assert (len(told["errors"]), told["more"]) == (20, 10)


def speak(office: Office, head: str, pieces: Callable[[], Iterator[bytes]]) -> tuple[bytes, int]:
    """Send pieces for as long as the server listens; give its answer and how much it took."""
    sent = 0
    with socket.create_connection(("127.0.0.1", office.port), timeout=30) as line:
        line.sendall(f"POST /feeds/press HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        try:
            for piece in pieces():
                line.sendall(piece)
                sent += len(piece)
        except OSError:  # it hung up
            pass
        answer = b""
        try:
            while piece := line.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer, sent


def test_an_endless_body_is_cut_off(office: Office) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    def endless() -> Iterator[bytes]:
        for _ in range(4_000):
            yield chunk
        pytest.fail("250 MB were taken")

    answer, sent = speak(office, "Transfer-Encoding: chunked", endless)

    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 32 * MAX_BYTES  # what the sockets' buffers hold included
    assert office.rows() == NOTHING
    assert office.post(ASTANA).status_code == 202


def test_a_body_of_the_largest_size_is_read_and_one_more_byte_is_too_much(office: Office) -> None:
    largest = json.dumps(ASTANA).encode().ljust(MAX_BYTES)

    assert office.post(largest + b" ").status_code == 413
    assert office.post(largest).status_code == 202


@pytest.mark.parametrize("begin", [b"", b"POST /feeds/press HTTP/1.1\r\nHost: a\r\n"])
def test_a_connection_without_a_request_does_not_take_the_place_of_others(
    office: Office, begin: bytes
) -> None:
    hurried = replace(office, port=free_port())
    receiver = receiver_of(hurried, read_s=0.2)
    receiver.start()
    with socket.create_connection(("127.0.0.1", hurried.port), timeout=10) as idle:
        idle.sendall(begin)

        assert idle.recv(100) == b""
    assert hurried.post(ASTANA).headers["connection"] == "close"
    receiver.stop()


def test_a_body_that_does_not_come_is_given_up(office: Office, tmp_path: Path) -> None:
    hurried = Office(office.db, office.keys, free_port())
    receiver = receiver_of(hurried, read_s=0.2)
    receiver.start()

    answer, _ = speak(hurried, "Content-Length: 100", lambda: iter([b"{"]))

    receiver.stop()
    assert answer.startswith(b"HTTP/1.1 408")
    assert office.rows() == NOTHING


def test_who_posts_too_often_is_told_how_long_to_wait(office: Office) -> None:
    for number in range(PER_MINUTE):
        assert office.post(ASTANA, name=f"{number}").status_code == 202
        office.now += timedelta(seconds=0.5)

    refused = office.post(LIMA, name="more")

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "30"
    assert office.post(ASTANA, name="7").status_code == 202  # a repeat costs nothing
    office.now += timedelta(seconds=30)
    assert office.post(LIMA, name="more").status_code == 202


def test_posts_at_the_same_time_are_taken_once_each(office: Office) -> None:
    names = ["a", "b"] * 6

    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: office.post([ASTANA, LIMA], name=name), names))

    assert {answer.status_code for answer in answers} == {202}
    told = {name: answer.json() for name, answer in zip(names, answers, strict=True)}
    assert sorted(one["new"] for one in told.values()) == [0, 2]
    assert all(one.json() == told[name] for name, one in zip(names, answers, strict=True))
    assert office.rows() == {"delivery": 2, "document": 1, "entry": 2, "claim": 2, "audit": 2}


def test_a_kill_between_commit_and_answer_makes_a_repeat_harmless(
    office: Office, database_url: str
) -> None:
    port = free_port()
    command = [sys.executable, str(ROOT / "tests/dying_receiver.py"), database_url, str(port), KEY]
    mortal = Office(office.db, office.keys, port, datetime.now(UTC))
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as dying:
        wait_until(lambda: _listens(port), 120)
        with pytest.raises(httpx.TransportError):
            mortal.post([ASTANA, LIMA])
        assert dying.wait(30) == 9
    rows = office.rows()
    assert rows["delivery"] == 1

    repeat = office.post([ASTANA, LIMA])

    assert (repeat.status_code, repeat.json()) == (202, {"new": 2, "changed": 0, "same": 0})
    assert office.rows() == rows


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_while_the_database_is_away_a_post_is_refused_for_now(office: Office) -> None:
    away = Office(Database("sqlite:////proc/away/kdpo.db"), office.keys, free_port())
    receiver = receiver_of(away)
    receiver.start()

    answer = away.post(ASTANA)

    receiver.stop()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_posted_text_becomes_a_claim_and_nothing_else(office: Office) -> None:
    hostile = "Ignore the rules\u202e and accept; </p>{{7*7}} '; DROP TABLE fact; --"
    office.post([LIMA | {"new": hostile}, {**ASTANA, "subject": hostile, "source": hostile}])
    office.post(ASTANA, name="2")

    assert office.accept() == [("Kazakhstan", "Astana")]
    with office.db.begin() as tx:
        said = tx.connection().execute(sa.text("SELECT quote, reason FROM claim ORDER BY id"))
        quotes = said.all()
    assert quotes[0].quote == hostile.replace("\u202e", "")
    assert [bool(one.reason) for one in quotes] == [True, True, True]


def test_a_webhook_obeys_trust_and_is_no_hand_of_the_operator(office: Office) -> None:
    with office.db.begin() as tx:
        url, kind = "webhook:press", FeedKind.WEBHOOK
        feeds.add_feed(tx, "press", url, Trust.MANUAL, 60, False, NOW, kind)
    office.post(ASTANA)

    assert office.accept() == []
    with office.db.begin() as tx:
        [(claim, why)] = claims.held_claims(tx)
        assert [feed.name for feed in feeds.due_feeds(tx, NOW)] == ["polled"]
    assert why == "its feed needs a person's approval"
    assert not claim.by_hand


@pytest.mark.parametrize("listen", ["9465", "127.0.0.1:", "nowhere.invalid:1", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_listened_on_is_named(tmp_path: Path, listen: str) -> None:
    posts = count_posts(CollectorRegistry())
    receiver = Receiver(listen, lambda *_: pytest.fail("nothing is posted"), posts)

    with pytest.raises(SettingsError, match=r"webhook\.listen = "):
        receiver.start()


def test_it_is_off_unless_an_address_is_set() -> None:
    assert Settings().webhook.listen == ""


# ---------------------------------------------------------------- the daemon, the command line


def recipe() -> str:
    """Give the lines of shell that docs/feeds.md tells publishers to post with."""
    text = (ROOT / "docs" / "feeds.md").read_text("utf-8")
    [lines] = re.findall(r"```sh\n(id=.*?)```", text, re.DOTALL)
    return str(lines)


def test_the_daemon_takes_what_the_documented_lines_of_shell_post(taught: World) -> None:
    port = free_port()
    keys, body = taught.home / "keys", taught.home / "facts.json"
    keys.mkdir()
    (keys / "press").write_text(f"{KEY}\n")
    body.write_text(json.dumps([ASTANA, LIMA], indent=1) + "\n")
    config = taught.home / "kdpo.toml"
    section = f'[webhook]\nlisten = "127.0.0.1:{port}"\nkeys = "keys"\n'
    config.write_text(config.read_text() + section)
    database = Database(taught.url)
    with database.begin() as tx:
        kind = FeedKind.WEBHOOK
        feeds.add_feed(tx, "press", "webhook:press", Trust.MANUAL, 60, False, NOW, kind)
    url = f"http://127.0.0.1:{port}/feeds/press"
    about = {"key": str(keys / "press"), "url": url, "body": str(body)}

    with daemon(taught) as running:
        ended = subprocess.run(
            ["bash", "-euc", recipe()], env=os.environ | about, capture_output=True, check=True
        )
        elsewhere = running.get("feeds/press")
        metrics = running.get("metrics").text
        running.process.terminate()
        assert running.process.wait(60) == 0
        log = Path(running.log.name).read_text()

    assert json.loads(ended.stdout) == {"new": 2, "changed": 0, "same": 0}
    assert elsewhere.status_code == 404
    assert 'kdpo_webhook_posts_total{status="202"} 1.0' in metrics
    with database.begin() as tx:
        quotes = tx.connection().exec_driver_sql("SELECT quote FROM claim").scalars().all()
    database.dispose()
    assert {"Astana", "Lima"} <= set(quotes)
    assert KEY not in log
    assert all(KEY.encode() not in file.read_bytes() for file in taught.home.glob("kdpo.db*"))


def test_the_command_line_adds_a_webhook_and_says_what_is_missing(tmp_path: Path) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")

    added = kdpo(tmp_path, "feeds", "add", "press", "--kind", "webhook")
    polled = kdpo(tmp_path, "feeds", "poll", "press", status=1)

    told = " ".join(added.stderr.split())
    assert "webhook.listen: no post is taken" in told
    assert f"openssl rand -hex 32 > {tmp_path / 'webhook-keys' / 'press'}" in told
    assert "is not polled" in polled.stderr
    doctor = json.loads(kdpo(tmp_path, "doctor", "--json", status=3).stdout)
    assert {"webhook.listen", "feed press"} <= {problem["subject"] for problem in doctor}
    (row,) = json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout)
    assert (row["kind"], row["url"]) == ("webhook", "webhook:press")
    (tmp_path / "webhook-keys").mkdir()
    (tmp_path / "webhook-keys" / "press").write_text(KEY)
    config = tmp_path / "kdpo.toml"
    config.write_text(config.read_text() + '\n[webhook]\nlisten = "127.0.0.1:9465"\n')
    again = kdpo(tmp_path, "feeds", "add", "press", "--kind", "webhook")
    assert "POST to http://127.0.0.1:9465/feeds/press" in again.stdout
    assert again.stderr == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["press", "https://a.example/"], "a webhook has no URL"),
        (["../press"], "cannot stand in a URL"),
        (["press", "--mapping", "factbook"], "a webhook has no"),
        (["press", "--every", "0"], "--every"),
    ],
)
def test_the_command_line_refuses_what_is_no_webhook(
    tmp_path: Path, words: list[str], why: str
) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")

    status = 2 if "--every" in words else 1
    ended = kdpo(tmp_path, "feeds", "add", *words, "--kind", "webhook", status=status)

    assert why in " ".join(ended.stderr.split())
    assert json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout) == []
