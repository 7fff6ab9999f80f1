# ruff: noqa: RUF001 - wrongly decoded letters are what is tested
"""What every text from outside goes through."""

import time

import pytest

from kdpo_daemon.facts.texts import MAX_LINE, clean, readable


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SÃ£o TomÃ©", "São Tomé"),
        ("John BriceÃ±o", "John Briceño"),
        ("CÃ´te dâ\u20ac\u2122Ivoire", "Côte d\u2019Ivoire"),
        ("Å½eljko KomÅ¡iÄ\u2021", "Željko Komšić"),
        ("Ã\x89lisabeth Borne", "Élisabeth Borne"),  # half of the letter is a control character
    ],
)
def test_what_was_decoded_wrongly_is_mended(wrong: str, right: str) -> None:
    assert readable(wrong) == right


@pytest.mark.parametrize(
    "right",
    ["SÃO PAULO", "Esera Fofō", "Ľudovít Ódor", "L\u2019été", "Владимир", "習近平", "Oslo"],
)
def test_what_is_right_stays(right: str) -> None:
    assert readable(right) == right
    assert readable(readable(right)) == readable(right)


def test_an_address_stays_what_it_was() -> None:
    assert clean("https://example.org/SÃ£o") == "https://example.org/SÃ£o"


def test_a_huge_wrong_text_is_cut_first() -> None:
    began = time.perf_counter()

    assert len(readable("Ã" * 10_000_000)) == MAX_LINE

    assert time.perf_counter() - began < 1
