# ruff: noqa: E501, RUF001 - verbatim values; thin spaces, Arabic digits and real minus signs are what is tested
"""Numbers with units and years; the longer values are the CIA World Factbook's, verbatim."""

from datetime import UTC, datetime

import pytest

from kdpo_daemon.facts.quantities import read_quantity, same_currency, same_quantity

# (raw value, object, since)
READ = [
    ("146,836 (July 2013 est.)", "146,836", "2013-07-01"),
    ("169,532", "169,532", None),
    ("334002", "334,002", None),
    ("1969", "1969", None),
    ("67.03 years", "67.03 years", None),
    ("-0.9% (2019 est.) / 4.2% (2018 est.) / -1.5% (2017 est.)", "-0.9%", "2019-01-01"),
    ("4.2% (2018 est.) ++ \u22120.9% (2019 est.)", "\u22120.9%", "2019-01-01"),
    ("8.6% (FY2014 est.) ++ 7.4% (FY2013 est.)", "8.6%", "2014-01-01"),
    ("83.7% of GDP (2023 est.)", "83.7% of GDP", "2023-01-01"),
    ("$2.052 billion (2019 est.)", "$2.052 billion", "2019-01-01"),
    ("$240 million note: data are in 2017 dollars (2019 est.)", "$240 million", "2019-01-01"),
    ("Algerian dinars (DZD) per US dollar - ++ 80.58 (2014 est.) ++ 77.54 (2012 est.)", "80.58", "2014-01-01"),
    ("450,131,902 (July 2021 est.) rank by population: Germany - 79,903,481; France - 68,084,217", "450,131,902", "2021-07-01"),
    ("about 15,700; note - approximately 7,700 are Cypriots", "15,700", None),
    ("total: 281,562,465 (2024 est.)", "281,562,465", "2024-01-01"),
    ("9.58 s (16 August 2009)", "9.58 s", "2009-08-16"),
    ("2:00:35 (8 October 2023)", "2:00:35", "2023-10-08"),
    ("1 h 59 min 40.2 s", "1 h 59 min 40.2 s", None),
    ("182,000 in 2023", "182,000", "2023-01-01"),
    ("12,5 %", "12,5 %", None),
]  # fmt: skip

# (raw value, note)
UNREAD = [
    ("NA", "says that there is none"),
    ("NA% (2017 est.)", "says that there is none"),
    ("", "says that there is none"),
    ("see entry for the West Bank", "cannot be read as a number for sure"),
    ("no indigenous inhabitants", "cannot be read as a number for sure"),
    ("12 million people were counted", "cannot be read as a number for sure"),
    ("5.300", "cannot be read as a number for sure"),  # or 5300
    ("5.3-5.5 million", "a range, and no value"),
    ("5.3 to 5.5 million", "a range, and no value"),
    ("more than 500", "a bound, and no value"),
    ("<500", "a bound, and no value"),
    ("18.5% (2014 est.) ++ 19.1% (2014 est.)", "several values"),
    ("5.3 million; 5.4 million", "several values"),
]

SAME = [
    ("334,002", "334002"),
    ("5 300 000", "5,300,000"),
    ("5\u202f300\u202f000", "5.300.000"),
    ("5'300'000", "5.3 million"),
    ("53,00,000", "53 lakh"),
    ("٥٬٣٠٠٬٠٠٠", "5,300,000"),
    ("12.5%", "12,5 per cent"),
    ("67.4 million", "67,391,582"),
    ("9.0%", "9%"),
    ("US$5,000 million", "$5 billion"),
    ("EUR 5 billion", "\u20ac5bn"),
    ("9.58 s", "9.58 seconds"),
    ("8.95 m", "8.95"),
    ("7.10 m", "7.1 m"),
    ("\u22120.9%", "-0.9%"),
]

DIFFERENT = [
    ("67.3 million", "67,391,582"),
    ("9%", "9.28%"),  # one digit tells nothing of a new figure
    ("1.2 million", "12 million"),
    ("$5 billion", "\u20ac5 billion"),
    ("12 m", "12 ft"),
    ("2:00:35", "2:00:36"),
    ("-0.9%", "0.9%"),
    ("5,300,000", "5,300,001"),
]


@pytest.mark.parametrize(("raw", "value", "since"), READ)
def test_a_number_is_read_with_its_unit_and_year(raw: str, value: str, since: str | None) -> None:
    day = datetime.fromisoformat(since).replace(tzinfo=UTC) if since else None

    read = read_quantity(raw)

    assert (read.object, read.since, read.note) == (value, day, "")


@pytest.mark.parametrize("value", sorted({value for _, value, _ in READ}))
def test_a_clean_number_is_read_as_itself(value: str) -> None:
    assert read_quantity(value).object == value


@pytest.mark.parametrize(("raw", "note"), UNREAD)
def test_no_number_is_guessed(raw: str, note: str) -> None:
    read = read_quantity(raw)

    assert (read.object, read.note) == ("", note)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_to_write_a_number_are_one(one: str, other: str) -> None:
    assert same_quantity(one, other)
    assert same_quantity(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_numbers_are_two(one: str, other: str) -> None:
    assert not same_quantity(one, other)
    assert not same_quantity(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("euros", "EUR"), ("US dollars", "USD"), ("Swiss Franc", "swiss francs")]
)
def test_a_currency_has_a_name_and_a_code(one: str, other: str) -> None:
    assert same_currency(one, other)


def test_two_currencies_are_two() -> None:
    assert not same_currency("Croatian kuna", "euro")
    assert not same_currency("US dollar", "Canadian dollar")
    assert not same_currency("old money", "new money")


def test_a_long_text_without_a_number_takes_no_time() -> None:
    for text in ("1," * 300, "1 " * 300, "9" * 600, "1:" * 300, "1 a " * 150, "$" * 600):
        assert read_quantity(text).object == ""
