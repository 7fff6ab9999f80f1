"""`kdpo facts approve | reject | hold | revoke`, as processes, on both databases."""

import getpass
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.store import facts, feeds
from kdpo_daemon.store.db import Database
from tests import commands
from tests.stages.conftest import RWANDA, TONGA, FeedServer

ME = f"operator:{getpass.getuser()}"


@dataclass
class Desk:
    """An operator at a terminal; the feed of the two entries needs approval."""

    home: Path
    url: str

    def kdpo(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        config = str(self.home / "kdpo.toml")
        ended = commands.run(["--config", config, *words], cwd=self.home)
        assert ended.returncode == status, ended.stderr + ended.stdout
        return ended

    def said(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.kdpo(*words, "--json", status=status).stdout)

    def put(self, status: FactStatus) -> None:
        """Let the fact be where the pipeline would have brought it."""
        database = Database(self.url)
        with database.begin() as tx:
            facts.set_fact_status(tx, [1], status, "for the test", clock())
        database.dispose()


@pytest.fixture
def desk(tmp_path: Path, database_url: str) -> Iterator[Desk]:
    (tmp_path / "kdpo.toml").write_text(f'[database]\nurl = "{database_url}"\n', "utf-8")
    desk = Desk(tmp_path, database_url)
    with FeedServer() as feed:
        feed.entries = [TONGA, RWANDA]
        app = App(read_settings(tmp_path / "kdpo.toml"))
        with app.db.begin() as tx:
            feeds.add_feed(tx, "press", feed.url, Trust.MANUAL, 600, True, clock())
        app.ingest()
        app.accept()
        app.close()
        yield desk


def test_an_approved_claim_becomes_a_fact_and_the_audit_log_names_who(desk: Desk) -> None:
    [tonga, _] = desk.said("facts", "claims")
    assert (tonga["feed"], tonga["held_because"]) == (
        "press",
        "its feed needs a person's approval",
    )

    done = desk.said("facts", "approve", str(tonga["id"]), "--reason", "read the paper")

    assert done == [{"id": "claim:1", "is": "accepted", "because": f"approved by {ME}"}]
    [fact] = desk.said("facts", "list")
    assert (fact["subject"], fact["status"]) == ("Tonga", "pending")
    events = desk.said("audit", "show", "--subject", "claim:1")
    assert [(one["event"], one["actor"]) for one in events] == [
        ("claim.approved", ME),
        ("claim.accepted", "rules"),
    ]
    assert events[0]["detail"] == "reason=read the paper"


def test_all_claims_of_a_feed_are_approved_at_once(desk: Desk) -> None:
    done = desk.said("facts", "approve", "--feed", "press")

    assert [one["is"] for one in done] == ["accepted", "accepted"]
    assert desk.said("facts", "claims") == []
    assert desk.kdpo("facts", "approve", "--feed", "press").stdout == "No claim is held.\n"


def test_what_an_approval_cannot_help_stays_held_with_exit_status_3(desk: Desk) -> None:
    desk.kdpo("facts", "add", "Bhutan", "national_bird", "raven")
    held = desk.said("facts", "claims")[-1]

    ended = desk.kdpo("facts", "approve", str(held["id"]), status=3)

    assert "no templates for relation 'national_bird'" in ended.stderr


def test_a_rejected_claim_is_gone_for_good(desk: Desk) -> None:
    done = desk.said("facts", "reject", "1", "claim:2", "--reason", "a hoax")

    assert [one["is"] for one in done] == ["rejected", "rejected"]
    assert done[0]["because"] == f"rejected by {ME}: a hoax"
    assert desk.said("facts", "claims") == []
    again = desk.kdpo("facts", "approve", "1", status=1)
    assert "claim:1: is rejected already" in again.stderr
    assert desk.said("audit", "show", "--subject", "claim:2")[0]["event"] == "claim.rejected"


def test_a_claim_on_hold_waits_whatever_the_rules_say(desk: Desk) -> None:
    done = desk.said("facts", "hold", "1", "--reason", "the count goes on")
    desk.kdpo("facts", "approve", "2")

    assert done == [{"id": "claim:1", "is": "held", "because": f"held by {ME}: the count goes on"}]
    [held] = desk.said("facts", "claims")
    assert held["held_because"] == f"held by {ME}: the count goes on"
    assert desk.said("facts", "approve", "1")[0]["is"] == "accepted"


def test_a_fact_on_hold_is_released_or_ended(desk: Desk) -> None:
    desk.kdpo("facts", "approve", "1")

    held = desk.said("facts", "hold", "fact:1")
    released = desk.said("facts", "approve", "fact:1")
    ended = desk.said("facts", "reject", "fact:1", "--reason", "a hoax")

    assert [one[0]["is"] for one in (held, released, ended)] == [
        "quarantined",
        "pending",
        "superseded",
    ]
    events = desk.said("audit", "show", "--subject", "fact:1")
    assert [one["event"] for one in events] == ["fact.held", "fact.approved", "fact.rejected"]
    assert {one["actor"] for one in events} == {ME}


@pytest.mark.parametrize("status", [FactStatus.PLANNED, FactStatus.LIVE])
def test_what_is_under_way_is_not_touched_and_the_remedy_is_named(
    desk: Desk, status: FactStatus
) -> None:
    desk.kdpo("facts", "approve", "1")
    desk.put(status)

    ended = desk.kdpo("facts", "reject", "fact:1", "2", status=1)

    assert f"fact:1: is {status.value}" in ended.stderr
    assert len(desk.said("facts", "claims")) == 1  # all or nothing


def test_a_live_fact_is_revoked_and_the_audit_log_names_who_and_why(desk: Desk) -> None:
    desk.kdpo("facts", "approve", "1")
    desk.put(FactStatus.LIVE)
    refused = desk.kdpo("facts", "reject", "fact:1", status=1)
    assert "`kdpo facts revoke`" in refused.stderr

    done = desk.said("facts", "revoke", "1", "fact:1", "--reason", "a hoax")

    why = f"revoked by {ME}: a hoax"
    assert done == [{"id": "fact:1", "is": "revoked", "because": why}]
    [fact] = desk.said("facts", "list", "--status", "revoked")
    assert (fact["subject"], fact["reason"]) == ("Tonga", why)
    assert desk.said("status")["facts"] == {"revoked": 1}
    last = desk.said("audit", "show", "--subject", "fact:1")[-1]
    assert (last["event"], last["actor"]) == ("fact.revoked", ME)
    assert last["detail"].startswith("reason=a hoax")


def test_what_cannot_be_revoked_is_named_with_the_remedy_and_all_stays(desk: Desk) -> None:
    desk.kdpo("facts", "approve", "1", "2")
    desk.put(FactStatus.LIVE)

    ended = desk.kdpo("facts", "revoke", "1", "2", status=1)

    assert "fact:2: is pending" in ended.stderr
    assert "`kdpo facts reject fact:2`" in ended.stderr
    assert [one["status"] for one in desk.said("facts", "list")] == ["pending", "live"]
    assert "fact:9" in desk.kdpo("facts", "revoke", "9", status=1).stderr
    assert "is a claim" in desk.kdpo("facts", "revoke", "claim:1", status=1).stderr
    desk.kdpo("facts", "revoke", status=2)


def test_wrong_numbers_are_named(desk: Desk) -> None:
    assert "claim:99" in desk.kdpo("facts", "approve", "99", status=1).stderr
    assert "fact:99" in desk.kdpo("facts", "hold", "fact:99", status=1).stderr
    assert "Numbers of `kdpo facts" in desk.kdpo("facts", "hold", "Tonga", status=1).stderr
    assert "name a claim" in desk.kdpo("facts", "reject", status=2).stderr


def test_relations_that_held_claims_need_are_named_until_a_pack_has_them(desk: Desk) -> None:
    assert len(desk.said("relations", "list")) >= 30
    assert desk.said("relations", "check") == []
    desk.kdpo("facts", "add", "Bhutan", "national_bird", "raven")

    missing = desk.said("relations", "check", status=3)

    assert missing == [
        {
            "where": "relations.national_bird",
            "missing": "1 held claims are about it, and it is in no pack",
        }
    ]
