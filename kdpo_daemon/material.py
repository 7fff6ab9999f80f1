"""From the settings to what may be asked and taught: relations, questions, texts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.teaching import Form, NewProbe, ProbeKind, Prompt
from kdpo_daemon.settings import IntakeSettings, Settings, read_lines, read_text
from kdpo_daemon.stages.questions import Curriculum

_Read = TypeVar("_Read")


def pack(settings: Settings) -> Pack:
    """Give the shipped relations and the operator's own."""
    own = [read_text(path, "intake.packs") for path in settings.intake.packs]
    shipped = [packs.text(name) for name in packs.RELATIONS]
    return read_pack([*shipped, *own], settings.extraction.patterns)


def curriculum(intake: IntakeSettings, known: Pack) -> Curriculum:
    """Give what may be asked and taught besides the facts."""
    return Curriculum(
        pack=known,
        general_probes=_each(intake.general_probes, "general_probes.jsonl", _probe),
        general_keep=_each(intake.general_keep, "general_keep.jsonl", _prompt),
    )


def perplexity_text(intake: IntakeSettings) -> str:
    """Give the text whose perplexity is taken."""
    own = intake.perplexity_text
    return read_text(own, "intake.perplexity_text") if own else packs.text("perplexity.txt")


def _each(
    own: Path | None, shipped: str, read: Callable[[Mapping[str, Any]], _Read]
) -> tuple[_Read, ...]:
    lines = read_lines(own, packs.text(shipped))
    try:
        return tuple(read(line) for line in lines)
    except (KeyError, ValueError, TypeError) as error:
        raise SettingsError(
            f"a line is not as it should be ({error!r})",
            subject=str(own or shipped),
            hint='give each line "form" (completion or chat) and "prompt"; a probe "expected" too',
        ) from error


def _probe(line: Mapping[str, Any]) -> NewProbe:
    expected = line["expected"]
    if not isinstance(expected, list):
        raise TypeError("expected is no list")
    return NewProbe(ProbeKind.GENERAL, _prompt(line), tuple(expected), None)


def _prompt(line: Mapping[str, Any]) -> Prompt:
    return Prompt(Form(line["form"]), line["prompt"])
