"""Lines of JSONL and CSV, and posted JSON, become entries; the bad ones are refused one by one."""

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import RefusedError
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.lines import Lines, read_file, read_post
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.records.intake import Entry, RawFact

LINE = '{"subject": "Kazakhstan", "relation": "capital", "new": "%s"}'
ASTANA = RawFact("Kazakhstan", "capital", "Astana")


def lines_of(text: str, name: str = "a.jsonl", most: int = 500) -> Lines:
    return read_file(name, text.encode(), most)


def only(text: str, name: str = "a.jsonl") -> Entry:
    found = lines_of(text, name)
    assert found.refused == []
    [entry] = found.entries
    return entry


def test_a_line_becomes_an_entry_like_any_other() -> None:
    line = {
        "subject": "Netherlands",
        "relation": "head_of_government",
        "old": "Mark Rutte",
        "new": "Dick\u202e \n Schoof",
        "valid_from": "2 July 2024",
        "source": "https://example.org/1",
    }

    entry = only(json.dumps(line))
    (claim,) = claims_of(entry, read_pack([packs.text("relations.toml")]))

    assert entry.link == "https://example.org/1"
    assert (claim.object, claim.old_object) == ("Dick Schoof", "Mark Rutte")
    assert claim.valid_from == datetime(2024, 7, 2, tzinfo=UTC)


def test_an_entry_is_known_by_what_it_says_wherever_it_stands() -> None:
    first, other = only(LINE % "Astana"), only("\n\n" + LINE % "Astana", "b.jsonl")
    row = only("new,relation,subject\nAstana,capital,Kazakhstan\n", "c.csv")
    (posted,) = read_post("delivery 1", (LINE % "Astana").encode(), 9).entries

    assert {one.key for one in (first, other, row, posted)} == {first.key}
    assert {one.content_hash for one in (first, other, row, posted)} == {first.content_hash}
    assert only(LINE % "Almaty").key != first.key


def test_an_entry_tells_the_file_the_line_and_the_hash_of_its_text() -> None:
    text = LINE % "Astana"

    entry = only(f"\r\n{text}\r\n", "drop.jsonl")

    assert entry.summary == f"drop.jsonl:2, SHA-256 {sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON"),
        ("[" * 9_000, "is not JSON"),
        ('{"subject": "X", "relation": "capital", "new": %s}' % ("1" * 5_000), "is not JSON"),
        ("3", "not a JSON object"),
        ('{"subject": "X", "relation": "capital"}', "new is missing"),
        ('{"subject": "X", "relation": "capital", "new": " "}', "new is missing"),
        ('{"subject": "X", "relation": "capital", "new": 3}', "new is not a text"),
        ('{"subject": "X", "relation": "capital", "new": "Y", "when": "Z"}', "when is no known"),
        ('{"subject": "X", "relation": "capital", "new": "Y", "valid_from": "Z"}', "no date"),
        (LINE % ("x" * 10_000), "longer than 10000 characters"),
    ],
)
def test_a_faulty_line_is_refused_by_its_place_and_the_others_are_taken(
    line: str, why: str
) -> None:
    found = lines_of(f"{LINE % 'Astana'}\n{line}\n{LINE % 'Almaty'}\n")

    assert [entry.fact.new for entry in found.entries if entry.fact] == ["Astana", "Almaty"]
    [refused] = found.refused
    assert why in refused.message
    assert refused.subject == "a.jsonl:2"
    assert refused.hint


def test_what_is_wrong_is_quoted_only_in_part() -> None:
    [key] = lines_of(json.dumps({"k" * 5_000: "v"})).refused
    [date] = lines_of(
        json.dumps({"subject": "X", "relation": "r", "new": "Y", "valid_from": "z" * 5_000})
    ).refused

    assert max(len(str(key)), len(str(date))) < 300


def test_a_line_ends_at_a_line_feed_only() -> None:
    entry = only('{"subject": "X", "relation": "r", "new": "a\u2028b\x85c"}')

    assert entry.fact == RawFact("X", "r", "a b c")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_is_read_in_its_usual_dialects(delimiter: str, end: str) -> None:
    rows = [
        ["subject", " relation", "new", "source"],
        ['"Trinidad; ""and"", | Tobago"', "capital", '"Port\tof Spain"', ""],
    ]

    entry = only(end.join(delimiter.join(row) for row in rows) + end, "A.CSV")

    assert entry.fact == RawFact('Trinidad; "and", | Tobago', "capital", "Port of Spain")
    assert entry.link == ""


def test_a_row_of_csv_is_refused_by_its_first_line() -> None:
    text = (
        "subject,relation,new\n"
        "Kazakhstan,capital,Astana\n"
        "\n"
        'Peru,capital,"Li\nma",too many\n'
        "Chad,capital\n"
        'Mali,capital,"Bama"ko\n'
        "Fiji,capital,Suva\n"
        'Oman,capital,"Muscat\n'
        "Iran,capital,Tehran\n"
    )

    found = lines_of(text, "a.csv")

    assert [one.fact.subject for one in found.entries if one.fact] == ["Kazakhstan", "Fiji"]
    assert [(one.subject, one.message.split(":")[0]) for one in found.refused] == [
        ("a.csv:4", "has 4 cells for 3 columns"),
        ("a.csv:6", "has 2 cells for 3 columns"),
        ("a.csv:7", "is not CSV"),
        ("a.csv:9", "is not CSV"),
    ]


@pytest.mark.parametrize(
    "header",
    ["", "subject,new\n", "subject,relation,new,when\n", "subject,relation,new,new\n", "\n"],
)
def test_csv_without_its_columns_is_refused_with_their_names(header: str) -> None:
    with pytest.raises(RefusedError, match=r"a\.csv:1: its first line .* valid_from"):
        lines_of(header + "Peru,capital,Lima\n" if header else "", "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_utf8_may_have_a_byte_order_mark(encoding: str, name: str) -> None:
    text = {"a.csv": "subject,relation,new\nKazakhstan,capital,Astana", "a.jsonl": LINE % "Astana"}

    [entry] = read_file(name, text[name].encode(encoding), 9).entries

    assert entry.fact == ASTANA


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        ("latin-1", r"a\.csv: is not UTF-8 \(byte 24, in line 2\)\. Save it as UTF-8"),
        ("utf-16", "is UTF-16, or no text"),
        ("utf-16-be", "is UTF-16, or no text"),
    ],
)
def test_another_encoding_is_refused_with_a_remedy(encoding: str, why: str) -> None:
    body = "subject,relation,new\r\nZürich,mayor,x".encode(encoding)

    with pytest.raises(RefusedError, match=why):
        read_file("a.csv", body, 9)


@pytest.mark.parametrize(("name", "head"), [("a.jsonl", ""), ("a.csv", "subject,relation,new\n")])
def test_a_file_of_too_many_lines_is_refused_as_a_whole(name: str, head: str) -> None:
    line = LINE % "Astana" if name == "a.jsonl" else "Kazakhstan,capital,Astana"
    text = head + f"{line}\n\n" * 3

    assert len(lines_of(text, name, most=3).entries) == 3
    with pytest.raises(RefusedError, match=r"more than 2 lines.*max_entries"):
        lines_of(text, name, most=2)


def test_posted_json_is_one_object_or_a_list_and_errors_name_the_field() -> None:
    good = {"subject": "Kazakhstan", "relation": "capital", "new": "Astana"}
    body = json.dumps([good, good | {"valid_from": "soon"}, [], {**good, "new": 1}]).encode()

    single = read_post("delivery 7", json.dumps(good).encode(), 9)
    many = read_post("delivery 7", body, 9)

    assert [(one.fact, one.summary) for one in single.entries] == [(ASTANA, "delivery 7")]
    assert [(one.fact, one.summary) for one in many.entries] == [(ASTANA, "delivery 7[0]")]
    assert [(one.subject, one.field) for one in many.refused] == [
        ("[1]", "valid_from"),
        ("[2]", ""),
        ("[3]", "new"),
    ]
    [alone] = read_post("delivery 7", b'{"subject": "X"}', 9).refused
    assert (alone.subject, alone.field) == ("", "relation")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b"[{}, {}, {}]"])
def test_a_body_that_cannot_be_used_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        read_post("delivery 7", body, 2)

    assert refused.value.hint
