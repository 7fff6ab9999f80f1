"""What the shipped pack has, and what packs may lack."""

import re

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.gaps import Gap, gaps
from kdpo_daemon.facts.relations import Pack, read_pack
from tests.unit.test_relations import SMALL


@pytest.fixture(scope="module")
def shipped() -> Pack:
    return read_pack([packs.text("relations.toml")])


def test_nothing_is_missing_in_the_shipped_pack(shipped: Pack) -> None:
    assert gaps(shipped) == []
    assert len(shipped.relations) >= 30


ASKED_FOR = """head_of_state head_of_government chief_executive capital population currency
employer team coach champion record_holder latest_version"""


@pytest.mark.parametrize("name", ASKED_FOR.split())
def test_the_relations_that_people_ask_for_are_shipped(shipped: Pack, name: str) -> None:
    relation = shipped.relations[name]

    assert relation.stands_days
    assert relation.object_type


def test_only_relations_with_several_values_say_so(shipped: Pack) -> None:
    several = [one.name for one in shipped.relations.values() if not one.functional]

    assert several == ["employer"]


def test_every_property_is_one_of_wikidatas(shipped: Pack) -> None:
    properties = [one.property for one in shipped.relations.values() if one.property]

    assert all(re.fullmatch(r"P\d+", one) for one in properties)
    assert len(properties) >= 20


def test_what_a_small_pack_lacks_is_named() -> None:
    found = gaps(read_pack([SMALL]))

    assert Gap("relations.mayor.train.chat", "1 of at least 2 phrasings") in found
    assert Gap("subject_types.town.judge_subjects", "3 of at least 6 subjects") in found
    assert {gap.where for gap in found} >= {
        "relations.mayor.object_type",
        "relations.mayor.stands_days",
    }


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('functional = "no"', "functional"),
        ("property = 35", "property"),
        ('property = "Q35"', "property"),
        ("stands_days = 0", "stands_days"),
        ("stands_days = true", "stands_days"),
        ("max_object_chars = 1000", "max_object_chars"),
    ],
)
def test_a_key_of_another_kind_is_refused(line: str, where: str) -> None:
    text = SMALL.replace("[relations.mayor]", f"[relations.mayor]\n{line}")

    with pytest.raises(SettingsError, match=f"relations.mayor.{where}"):
        read_pack([text])
