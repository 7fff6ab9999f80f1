"""The command line, as processes, on a world in which one cycle has run."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.settings import Settings
from tests import commands
from tests.fakes import FakeVllm
from tests.stages.conftest import FeedServer, World, build


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[World]:
    home = tmp_path_factory.mktemp("cli")
    (home / "adapters").mkdir()
    with FeedServer() as feed, FakeVllm({}, adapters_dir=home / "adapters") as vllm:
        world = build(home, f"sqlite:///{home / 'kdpo.db'}", feed, vllm)
        text = (home / "kdpo.toml").read_text("utf-8")
        (home / "kdpo.toml").write_text(text.replace("unused.db", "kdpo.db"), "utf-8")
        world.cycle()
        yield world


def kdpo(home: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ended = commands.run(["--config", str(home / "kdpo.toml"), *words], cwd=home)
    assert ended.returncode == status, ended.stderr + ended.stdout
    return ended


def said(world: World, *words: str) -> Any:
    return json.loads(kdpo(world.home, *words, "--json").stdout)


def test_init_writes_a_configuration_that_can_be_read_and_never_overwrites(tmp_path: Path) -> None:
    kdpo(tmp_path, "init")
    again = kdpo(tmp_path, "init", status=1)
    assert "kdpo.toml" in again.stderr

    upgraded = kdpo(tmp_path, "db", "upgrade")
    assert "The database is at" in upgraded.stdout
    assert "as it should be" in kdpo(tmp_path, "db", "check").stdout


@pytest.mark.parametrize("section", ["gate", "daemon", "intake", "extraction", "model"])
def test_an_unknown_setting_is_named(tmp_path: Path, section: str) -> None:
    (tmp_path / "kdpo.toml").write_text(f"[{section}]\nefficacy = 1\n", "utf-8")

    with pytest.raises(SettingsError, match=rf"{section}\.efficacy: unknown key"):
        Settings.read(tmp_path / "kdpo.toml", frozenset())

    if section == "gate":
        assert "gate.efficacy: unknown key" in kdpo(tmp_path, "status", status=1).stderr


def test_brackets_in_a_message_are_printed(tmp_path: Path) -> None:
    assert "Set [model] and [[servers]]" in kdpo(tmp_path, "init").stdout


def test_without_a_configuration_the_remedy_is_named(tmp_path: Path) -> None:
    assert "kdpo init" in kdpo(tmp_path, "status", status=1).stderr


def test_status_says_what_is_wanted_and_what_each_server_has(world: World) -> None:
    found = said(world, "status")

    assert found["wanted"] == "kdpo-000001"
    assert found["servers"] == {"one": "live"}
    assert found["facts"] == {"live": 2}


def test_lists_are_tables_for_people_and_json_for_machines(world: World) -> None:
    [feed] = said(world, "feeds", "list")
    assert (feed["name"], feed["moved_to"], feed["interval_s"]) == ("test", None, 3600)
    assert {fact["new"] for fact in said(world, "facts", "list")} == {
        "Fatafehi Fakafanua",
        "Justin Nsengiyumva",
    }
    names = [one["name"] for one in said(world, "adapters", "list")]
    assert sorted(names) == ["kdpo-000000", "kdpo-000001"]
    assert "Fakafanua" in kdpo(world.home, "facts", "list").stdout


def test_a_facts_story_goes_from_the_document_to_the_server(world: World) -> None:
    [fact] = [one for one in said(world, "facts", "list") if one["subject"] == "Tonga"]

    story = said(world, "facts", "show", str(fact["id"]))

    assert story["evidence"]["url"] == world.feed.url
    assert len(story["evidence"]["sha256"]) == 64
    [teaching] = story["teachings"]
    assert teaching["adapter"]["name"] == "kdpo-000001"
    assert teaching["verdict"]["ruling"] == "promote"
    assert teaching["served"][0]["replica"] == "one"


def test_probe_asks_base_and_alias(world: World) -> None:
    [fact] = [one for one in said(world, "facts", "list") if one["subject"] == "Tonga"]

    rows = said(world, "probe", str(fact["id"]))

    assert {row["base_model"] for row in rows} == {"I do not know"}
    assert {row["prod"] for row in rows} == {"Fatafehi Fakafanua"}


def test_the_audit_log_is_shown_and_exported_with_its_chain_checked(world: World) -> None:
    events = [event["event"] for event in said(world, "audit", "show")]
    exported = kdpo(world.home, "audit", "export")

    assert "adapter.judged" in events
    assert "chain unbroken" in exported.stderr
    assert len(exported.stdout.splitlines()) >= len(events)
    assert all(json.loads(line) for line in exported.stdout.splitlines())


def test_doctor_finds_nothing_wrong_or_says_what_to_do(world: World) -> None:
    assert said(world, "doctor") == []
    world.vllm.fail("/v1/models", 503, times=20)

    [problem] = json.loads(kdpo(world.home, "doctor", "--json", status=3).stdout)

    assert problem["subject"] == "one"
    assert problem["hint"]
    world.vllm._faults.clear()


def test_a_feed_that_is_down_is_reported_and_the_rest_goes_on(world: World) -> None:
    kdpo(world.home, "feeds", "add", "down", "http://127.0.0.1:9/feed.xml", "--allow-private")

    ended = kdpo(world.home, "once", status=3)

    assert "down" in ended.stderr
    assert said(world, "status")["failing_feeds"].keys() == {"down"}


def test_imported_facts_are_accepted_or_held_with_a_reason(world: World) -> None:
    file = world.home / "facts.jsonl"
    file.write_text(
        '{"subject": "Bhutan", "relation": "head_of_government", "new": "Tshering Tobgay"}\n'
        '{"subject": "Bhutan", "relation": "national_bird", "new": "raven"}\n',
        "utf-8",
    )

    ended = kdpo(world.home, "facts", "import", str(file))

    assert "2 new claims; 1 accepted" in ended.stdout
    assert "national_bird" in ended.stderr
    [held] = said(world, "facts", "claims")
    assert "no templates" in held["held_because"]
    broken = world.home / "broken.jsonl"
    broken.write_text('{"subject": "Bhutan"}\n', "utf-8")
    assert "broken.jsonl:1" in kdpo(world.home, "facts", "import", str(broken), status=1).stderr


def test_a_rollback_names_the_version_and_is_in_the_audit_log(world: World) -> None:
    found = said(world, "rollback", "kdpo-000000", "--reason", "a drill")

    assert found == {"wanted": "kdpo-000000", "pinned": False, "served": True, "problems": []}
    assert world.ask("The prime minister of Tonga is") == "I do not know"
    events = said(world, "audit", "show", "--subject", "adapter:kdpo-000000")
    assert "deployment.rollback" in [event["event"] for event in events]
    kdpo(world.home, "rollback", "kdpo-000001")
    assert world.ask("The prime minister of Tonga is") == "Fatafehi Fakafanua"
    assert "kdpo-000001" in kdpo(world.home, "rollback", "kdpo-000099", status=1).stderr


def test_pin_freeze_and_thaw_say_what_stands(world: World) -> None:
    pinned = said(world, "pin", "kdpo-000000", "--reason", "a drill")
    assert pinned == {"wanted": "kdpo-000000", "pinned": True, "served": True, "problems": []}
    assert world.ask("The prime minister of Tonga is") == "I do not know"
    assert said(world, "status")["pinned"] is True

    kdpo(world.home, "pin", "kdpo-000001")
    assert said(world, "freeze") == {"wanted": "kdpo-000001", "pinned": True}
    assert said(world, "thaw", "--reason", "it is over") == {
        "wanted": "kdpo-000001",
        "pinned": False,
    }

    assert said(world, "status")["pinned"] is False
    events = said(world, "audit", "show", "--subject", "adapter:kdpo-000001")
    thawed = [event for event in events if event["event"] == "deployment.thawed"]
    assert "it is over" in thawed[-1]["detail"]


def test_a_revoked_fact_is_told_with_what_teaches_it_still_until_it_is_gone(world: World) -> None:
    kdpo(world.home, "rollback", "kdpo-000001")
    [tonga] = [one for one in said(world, "facts", "list") if one["subject"] == "Tonga"]
    name = f"fact:{tonga['id']}"

    [row] = said(world, "facts", "revoke", str(tonga["id"]), "--reason", "a hoax")

    assert row["is"] == "revoked"
    assert row["because"].endswith(": a hoax; taught still by kdpo-000001")
    assert said(world, "status")["revoked_but_taught"] == {name: row["because"]}
    [listed] = [one for one in said(world, "facts", "list") if one["id"] == tonga["id"]]
    assert (listed["status"], listed["reason"]) == ("revoked", row["because"])

    world.cycle()

    assert world.ask("The prime minister of Tonga is") == "I do not know"
    assert said(world, "status")["revoked_but_taught"] == {}
    [listed] = [one for one in said(world, "facts", "list") if one["id"] == tonga["id"]]
    assert listed["reason"].endswith(": a hoax")
