"""A gateway is told by a file, a command, or both."""

import json
import sys
from pathlib import Path

import pytest

from kdpo_daemon.errors import AdapterError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving.gateway import Gateway, GatewayPolicy

SEVEN = Adapter(7, "kdpo-000007", "/adapters/kdpo-000007", "aa", 7, None)
EIGHT = Adapter(8, "kdpo-000008", "/adapters/kdpo-000008", "bb", 8, 7)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_rule_without_a_template_is_json(tmp_path: Path) -> None:
    rule = tmp_path / "rule.json"
    gateway = Gateway(GatewayPolicy(rule=rule), {})

    gateway.point("prod", SEVEN)

    assert json.loads(rule.read_text()) == {"alias": "prod", "version": "kdpo-000007"}
    assert gateway.stands_for("prod", SEVEN)
    assert not gateway.stands_for("prod", EIGHT)


def test_a_template_gives_the_rule_its_form(tmp_path: Path) -> None:
    template, rule = tmp_path / "template", tmp_path / "map.conf"
    template.write_text('map $$model $$target { "$alias" "$version"; }\n')
    gateway = Gateway(GatewayPolicy(rule, template), {})

    gateway.point("prod", SEVEN)

    assert rule.read_text() == 'map $model $target { "prod" "kdpo-000007"; }\n'


@pytest.mark.parametrize("damage", ["", '{"alias": "prod', None])
def test_a_rule_that_was_damaged_does_not_stand(tmp_path: Path, damage: str | None) -> None:
    rule = tmp_path / "rule.json"
    gateway = Gateway(GatewayPolicy(rule), {})
    gateway.point("prod", SEVEN)
    rule.unlink()
    if damage is not None:
        rule.write_text(damage)

    assert not gateway.stands_for("prod", SEVEN)


def test_a_rule_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    rule = tmp_path / "rule.json"
    gateway = Gateway(GatewayPolicy(rule), {})
    gateway.point("prod", SEVEN)
    (tmp_path / "rule.draft").mkdir()  # as a full disk or a lost permission would

    with pytest.raises(AdapterError, match="the gateway's rule could not be written"):
        gateway.point("prod", EIGHT)

    assert gateway.stands_for("prod", SEVEN)


def test_a_bad_template_names_the_remedy(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("price: $5")

    with pytest.raises(AdapterError, match=r"\$\$ for a dollar sign"):
        Gateway(GatewayPolicy(tmp_path / "rule", template), {}).point("prod", SEVEN)


def test_the_hook_runs_after_the_rule_and_is_told_both_names(tmp_path: Path) -> None:
    rule, seen = tmp_path / "rule.json", tmp_path / "seen"
    code = (
        "import os, pathlib; pathlib.Path(os.environ['SEEN']).write_text("
        "os.environ['KDPO_ALIAS'] + ' ' + os.environ['KDPO_VERSION'] + ' ' "
        "+ pathlib.Path(os.environ['RULE']).read_text())"
    )
    environment = {"SEEN": str(seen), "RULE": str(rule)}

    Gateway(GatewayPolicy(rule, hook=python(code)), environment).point("prod", SEVEN)

    assert seen.read_text() == f"prod kdpo-000007 {rule.read_text()}"


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (python("import sys; sys.exit('no such route')"), "exit status 1; no such route"),
        (python("import time; time.sleep(60)"), "timed out"),
        (("/nowhere/hook",), "No such file"),
    ],
)
def test_a_hook_that_fails_says_why(hook: tuple[str, ...], why: str) -> None:
    with pytest.raises(AdapterError, match=why):
        Gateway(GatewayPolicy(hook=hook, hook_s=1.0), {}).point("prod", SEVEN)
