"""Documents, good, odd and hostile, and the entries that are read from them."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.texts import MAX_LINE, MAX_SUMMARY, clean
from kdpo_daemon.feeds import parse as parsing
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Entry, Fetched, RawFact

DOCUMENTS = Path(__file__).parent / "documents"
FACT = """
<kdpo:subject>Netherlands</kdpo:subject>
<kdpo:relation>head_of_government</kdpo:relation>
<kdpo:old>Prime Minister Mark RUTTE (since 14 October 2010)</kdpo:old>
<kdpo:new>Prime Minister Dick SCHOOF (since 2 July 2024)</kdpo:new>
<kdpo:valid-from>2024-07-02</kdpo:valid-from>
"""
RAW = RawFact(
    subject="Netherlands",
    relation="head_of_government",
    new="Prime Minister Dick SCHOOF (since 2 July 2024)",
    old="Prime Minister Mark RUTTE (since 14 October 2010)",
    valid_from="2024-07-02",
)


def rss(inside: str, prefix: str = "kdpo") -> str:
    return (
        f'<rss version="2.0" xmlns:{prefix}="urn:kdpo:facts:1"><channel><title>News</title>'
        f"{inside}</channel></rss>"
    )


def atom(inside: str) -> str:
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:kdpo="urn:kdpo:facts:1">'
        f"<title>News</title><id>urn:news</id>{inside}</feed>"
    )


def read(document: str | bytes, content_type: str = "", most: int = 500) -> list[Entry]:
    body = document.encode() if isinstance(document, str) else document
    return entries_of("news", Fetched("http://example.org/", body, content_type), most)


def test_an_atom_entry_is_read_with_its_fact() -> None:
    (entry,) = read(
        atom(
            "<entry><id>urn:1</id><title>New premier</title><link href='https://example.org/1'/>"
            "<published>2024-07-04T10:00:00+02:00</published><updated>2024-07-05T00:00:00Z</updated>"
            f"<summary>Dick Schoof it is.</summary>{FACT}</entry>"
        )
    )

    assert entry == Entry(
        key="urn:1",
        title="New premier",
        link="https://example.org/1",
        published_at=datetime(2024, 7, 4, 8, tzinfo=UTC),
        summary="Dick Schoof it is.",
        fact=RAW,
        content_hash=entry.content_hash,
    )
    assert entry.content_hash.startswith("1:")


def test_an_rss_item_is_read_with_its_fact() -> None:
    (entry,) = read(
        rss(f"<item><guid>1</guid><pubDate>Thu, 04 Jul 2024 08:00:00 GMT</pubDate>{FACT}</item>")
    )

    assert (entry.key, entry.fact) == ("1", RAW)
    assert entry.published_at == datetime(2024, 7, 4, 8, tzinfo=UTC)


def test_a_value_that_is_escaped_twice_is_read_as_it_was_meant() -> None:
    twice = FACT.replace("SCHOOF", "JER&amp;Iacute; Or&amp;eacute;")

    (entry,) = read(rss(f"<item><guid>1</guid>{twice}</item>"))

    assert entry.fact
    assert "JERÍ Oré" in entry.fact.new


def test_any_prefix_may_stand_for_the_namespace() -> None:
    (entry,) = read(rss(f"<item>{FACT.replace('kdpo:', 'Facts:')}</item>", prefix="Facts"))

    assert entry.fact == RAW


def test_the_same_elements_of_another_namespace_are_no_fact() -> None:
    document = rss(f"<item>{FACT}</item>").replace("urn:kdpo:facts:1", "urn:other")

    assert [entry.fact for entry in read(document)] == [None]


@pytest.mark.parametrize("element", ["subject", "relation", "new"])
def test_a_fact_needs_subject_relation_and_new(element: str) -> None:
    document = rss(f"<item><title>x</title>{FACT}</item>").replace(f"kdpo:{element}>", "kdpo:x>")

    assert [entry.fact for entry in read(document)] == [None]


def test_an_item_without_an_id_is_known_by_its_link() -> None:
    (entry,) = read(rss("<item><title>x</title><link>https://example.org/1</link></item>"))

    assert entry.key == "https://example.org/1"


def test_items_with_neither_id_nor_link_are_known_by_what_they_say() -> None:
    one, other = read(rss("<item><title>x</title></item><item><title>y</title></item>"))

    assert one.key != other.key


def colliding(*titles: str) -> str:
    items = "".join(f"<item><guid>1</guid><title>{title}</title></item>" for title in titles)
    return rss(items + "<item><guid>2</guid></item>")


def test_entries_whose_ids_collide_are_all_read_and_none_hides_another() -> None:
    entries = read(colliding("a", "b"))

    assert [entry.title for entry in entries] == ["a", "b", ""]
    assert len({entry.key for entry in entries}) == 3
    assert entries[2].key == "2"


def test_the_key_of_an_entry_with_a_shared_id_does_not_depend_on_the_others() -> None:
    first, later = read(colliding("a", "b")), read(colliding("c", "b", "a"))

    keys = {entry.title: entry.key for entry in later}
    assert all(keys[entry.title] == entry.key for entry in first)


def test_an_entry_that_is_listed_twice_is_read_twice_and_stays_the_same() -> None:
    one, other, _ = read(colliding("a", "a"))

    assert one.key != other.key
    assert [one, other] == read(colliding("a", "a"))[:2]


def test_an_id_made_up_to_collide_with_a_key_of_ours_does_no_harm() -> None:
    (key, *_) = (entry.key for entry in read(colliding("a", "b")))
    forged = colliding("a", "b").replace("<guid>2<", f"<guid>{key}<")

    assert len(read(forged)) == 2


def test_the_hash_leaves_the_date_out_and_nothing_else() -> None:
    def content_hash(title: str, date: str, fact: str) -> str:
        inside = f"<title>{title}</title><pubDate>{date}</pubDate>{fact}"
        return read(rss(f"<item><guid>1</guid>{inside}</item>"))[0].content_hash

    first = content_hash("x", "Thu, 04 Jul 2024 08:00:00 GMT", FACT)

    assert content_hash("x", "Fri, 05 Jul 2024 08:00:00 GMT", FACT) == first
    assert content_hash("y", "Thu, 04 Jul 2024 08:00:00 GMT", FACT) != first
    assert content_hash("x", "Thu, 04 Jul 2024 08:00:00 GMT", FACT.replace("SCHOOF", "X")) != first


def test_no_more_entries_are_read_than_allowed() -> None:
    items = "".join(f"<item><guid>{n}</guid></item>" for n in range(9))

    assert [entry.key for entry in read(rss(items), most=3)] == ["0", "1", "2"]


def test_markup_and_scripts_are_taken_out() -> None:
    (entry,) = read(
        rss(
            "<item><title>A &lt;b&gt;bold&lt;/b&gt; move</title><description>Say "
            "&lt;script&gt;alert(1)&lt;/script&gt;&lt;a href='javascript:x'&gt;hi&lt;/a&gt; "
            "&amp;amp; go</description></item>"
        )
    )

    assert (entry.title, entry.summary) == ("A bold move", "Say hi & go")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("javascript:alert(1)", ""),
        ("file:///etc/passwd", ""),
        ("http://[::1", ""),
        ("/news/1", "http://example.org/news/1"),
        ("https://example.com/1", "https://example.com/1"),
    ],
)
def test_only_web_links_are_kept(written: str, kept: str) -> None:
    (entry,) = read(rss(f"<item><guid>1</guid><link>{written}</link></item>"))

    assert entry.link == kept


def test_a_key_does_not_depend_on_the_feeds_address() -> None:
    body = rss("<item><guid>1</guid></item>").encode()

    keys = {
        entries_of("news", Fetched(url, body), 9)[0].key
        for url in ("http://example.org/", "https://example.com/feed")
    }

    assert keys == {"1"}


def test_long_texts_are_cut() -> None:
    long = "x" * 10_000
    (entry,) = read(
        rss(
            f"<item><guid>{long}</guid><title>{long}</title><description>{long}</description></item>"
        )
    )

    assert (len(entry.key), len(entry.title), len(entry.summary)) == (
        MAX_LINE,
        MAX_LINE,
        MAX_SUMMARY,
    )


def test_long_ids_that_begin_alike_stay_apart() -> None:
    items = "".join(f"<item><guid>{'x' * 10_000}{n}</guid></item>" for n in range(3))

    assert len(read(rss(items))) == 3


@pytest.mark.parametrize(
    "document",
    [
        rss("<item/>" * 1_000_000),
        rss("<ITEM />" * 1_000_000),
        f'<a:feed xmlns:a="http://www.w3.org/2005/Atom">{"<a:entry/>" * 1_000_000}</a:feed>',
        ('<?xml version="1.0" encoding="utf-16"?>' + rss("<item>" * 1_000_000)).encode("utf-16"),
        f'{{"version": "https://jsonfeed.org/version/1", "items": [{"1," * 999_999}1]}}',
    ],
    ids=["rss", "in capitals", "under a prefix", "utf-16", "json"],
)
def test_a_million_entries_are_refused_before_they_are_read(document: str | bytes) -> None:
    started = time.process_time()

    with pytest.raises(SourceError, match="about 1000000 entries, more than 50000"):
        read(document)

    assert time.process_time() - started < 2  # reading them takes 9 s and more


def test_control_and_direction_characters_are_taken_out() -> None:
    assert clean("a\x00b\x1b[31m\u202ec\u200b \n\t d") == "ab[31mc d"
    assert clean("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"  # Persian


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "koi8-r", "windows-1251", "iso-8859-5"]
)
def test_a_document_may_come_in_any_encoding_that_it_names(encoding: str) -> None:
    name = encoding.removesuffix("-sig")
    document = f'<?xml version="1.0" encoding="{name}"?>' + rss("<item><title>Мир</title></item>")

    (entry,) = read(document.encode(encoding))

    assert entry.title == "Мир"


def test_a_charset_in_the_header_counts() -> None:
    (entry,) = read(
        rss("<item><title>Zürich</title></item>").encode("latin-1"), "text/xml; charset=latin-1"
    )

    assert entry.title == "Zürich"


@pytest.mark.parametrize(
    ("file", "title"), [("koi8r.xml", "Первая новость"), ("utf8-incorrect-prolog.xml", "Café")]
)
def test_real_documents_with_odd_encodings_are_read(file: str, title: str) -> None:
    assert read((DOCUMENTS / file).read_bytes(), "application/xml")[0].title == title


@pytest.mark.parametrize(
    "broken",
    [
        rss("<item><guid>1</guid><title>A &amp; B</title></item>").replace("&amp;", "&"),
        rss("<item><guid>1</guid><title>A & B</title></item>")[:-15],
        rss("<item><guid>1</guid><title>A & B</title></item><item><title>cut of"),
        rss("<item><guid>1</guid><title>A &nosuch; B</title></item>"),
    ],
)
def test_a_broken_document_gives_what_can_be_read(broken: str) -> None:
    assert read(broken)[0].key == "1"


def test_a_feed_without_entries_is_a_feed() -> None:
    assert read(rss("")) == []


@pytest.mark.parametrize(
    "document",
    [
        "",
        "hello",
        "<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>No.</p></body></html>",
        '{"version": "2.0", "items": []}',
        b"\x00\xff\xfe" * 100,
        "/etc/passwd",
        "http://127.0.0.1:1/feed.xml",
    ],
)
def test_what_is_no_feed_is_refused(document: str | bytes) -> None:
    with pytest.raises(SourceError, match="not a feed") as refused:
        read(document, "text/html")

    assert refused.value.subject == "feed news"
    assert refused.value.hint


BOMB = (
    '<?xml version="1.0"?><!-- {padding} --><!DOCTYPE rss [<!ENTITY a "ha">'
    '<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><rss version="2.0"><channel>'
    "<item><title>&b;</title></item></channel></rss>"
)


@pytest.mark.parametrize(
    "document",
    [
        BOMB.encode(),
        BOMB.replace("padding", "x" * 100_000).encode(),
        BOMB.replace("ENTITY", "entity").encode(),
        BOMB.encode("utf-16"),
        BOMB.replace('"ha"', 'SYSTEM "file:///etc/passwd"').encode(),
    ],
)
def test_documents_that_declare_entities_are_refused(document: bytes) -> None:
    with pytest.raises(SourceError, match="entities"):
        read(document)


def test_the_child_gives_the_same_entries() -> None:
    items = f"<item><guid>1</guid><pubDate>Thu, 04 Jul 2024 08:00:00 GMT</pubDate>{FACT}</item>"
    document = rss(items + "<item><title>Мир</title></item>")
    fetched = Fetched("http://example.org/", document.encode(), "text/xml")

    assert parse("news", fetched, 500) == entries_of("news", fetched, 500)


def test_what_the_child_refuses_is_refused() -> None:
    with pytest.raises(SourceError, match="feed news: is not a feed"):
        parse("news", Fetched("http://example.org/", b""), 500)


def test_a_document_that_takes_too_long_costs_only_its_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parsing, "_LIMIT_S", 1)
    slow = rss(f"<item><author>{'a.' * 700_000}</author></item>").encode()

    with pytest.raises(SourceError, match="takes longer than 1 s"):
        parse("news", Fetched("http://example.org/", slow), 500)


def test_the_example_in_the_documentation_is_read() -> None:
    text = (Path(__file__).parents[2] / "docs" / "feed-format.md").read_text("utf-8")
    document = text.split("```xml\n")[1].split("```")[0]

    (entry,) = read(document)

    assert entry.fact == RawFact(
        subject="Ireland",
        relation="head_of_state",
        new="President Catherine CONNOLLY (since 11 November 2025)",
        old="President Michael D. HIGGINS (since 11 November 2011)",
    )
