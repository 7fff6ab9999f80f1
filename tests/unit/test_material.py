"""What an operator's own files of questions must be like."""

from pathlib import Path

import pytest

from kdpo_daemon import material
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.settings import IntakeSettings

SKY = '{"form": "completion", "prompt": "The sky is", "expected": ["blue"]}'


def probes(folder: Path, text: str) -> IntakeSettings:
    file = folder / "probes.jsonl"
    file.write_text(text, "utf-8")
    return IntakeSettings(general_probes=file)


def test_own_probes_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    [probe] = material.curriculum(probes(tmp_path, SKY), Pack({}, {})).general_probes

    assert (probe.prompt, probe.expected) == (Prompt(Form.COMPLETION, "The sky is"), ("blue",))


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ('"form": "completion", ', ""),
        ("completion", "poem"),
        (', "expected": ["blue"]', ""),
        ('["blue"]', '"blue"'),
        (SKY, '["The sky is"]'),
        (SKY, "The sky is"),
    ],
)
def test_a_line_of_another_form_is_named_with_its_file(
    tmp_path: Path, given: str, instead: str
) -> None:
    with pytest.raises(SettingsError, match=r"probes\.jsonl"):
        material.curriculum(probes(tmp_path, SKY.replace(given, instead)), Pack({}, {}))
