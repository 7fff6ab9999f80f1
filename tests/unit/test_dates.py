"""The day that a text names, in whatever form."""

from datetime import UTC, datetime

import pytest

from kdpo_daemon.facts.dates import date_in, read_date

SECOND_OF_JULY = datetime(2024, 7, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-07-02",
        "20240702",
        "2024/07/02",
        "2 July 2024",
        "2nd of July 2024",
        "July 2, 2024",
        "July 2nd, 2024",
        "2 Jul 2024",
        "2. Juli 2024",
        "2 juillet 2024",
        "2 de julio de 2024",
        "2 июля 2024",
        "٢ يوليو ٢٠٢٤",
        "Tue, 02 Jul 2024 00:00:00 GMT",
        "since 2 July 2024",
    ],
)
def test_one_day_is_read_in_many_forms(text: str) -> None:
    assert read_date(text) == SECOND_OF_JULY


def test_another_time_zone_counts() -> None:
    at_one = datetime(2024, 7, 1, 23, tzinfo=UTC)

    assert read_date("2024-07-02T01:00:00+02:00") == at_one
    assert read_date("Tue, 02 Jul 2024 01:00:00 +0200") == at_one


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("September 2023", datetime(2023, 9, 1, tzinfo=UTC)),
        ("Sept 2023", datetime(2023, 9, 1, tzinfo=UTC)),
        ("2023-09", datetime(2023, 9, 1, tzinfo=UTC)),
        ("09/2023", datetime(2023, 9, 1, tzinfo=UTC)),
        ("2023", datetime(2023, 1, 1, tzinfo=UTC)),
        ("13/07/2024", datetime(2024, 7, 13, tzinfo=UTC)),
        ("07/13/2024", datetime(2024, 7, 13, tzinfo=UTC)),
        ("4/4/2024", datetime(2024, 4, 4, tzinfo=UTC)),
    ],
)
def test_what_is_left_out_is_the_first(text: str, day: datetime) -> None:
    assert read_date(text) == day


@pytest.mark.parametrize(
    "text",
    [
        "02/07/2024",  # February in the United States
        "02.07.24",
        "15 listopada 2024",  # November in Polish, October in Croatian
        "31 February 2024",
        "2 July",
        "May",
        "10",
        "soon",
        "today",
        "1.2 million",
        "2:00:35",
        "0000",
        "",
        "9" * 50,
    ],
)
def test_no_day_is_guessed(text: str) -> None:
    assert read_date(text) is None


def test_the_first_date_within_a_sentence_is_found() -> None:
    assert date_in("resigned on 2nd of July 2024, and again on 5 July 2024") == SECOND_OF_JULY
    assert date_in("since 2024") == datetime(2024, 1, 1, tzinfo=UTC)
    assert date_in("in 2024") is None
