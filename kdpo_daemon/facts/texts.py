"""What every text from outside goes through, and the hash that tells whether it changed."""

import html
import json
import re
import unicodedata
from hashlib import sha256

from kdpo_daemon.records.intake import RawFact

#: Longest title, value, name and date that is kept; the rest of a longer one is cut off.
MAX_LINE = 600
#: Longest summary that is kept.
MAX_SUMMARY = 4000
# A letter that was decoded wrongly has become two or more, of which none is plain.
_PAIR = re.compile(r"[^\x00-\x7f]{2}")
# Zero-width joiner and non-joiner are part of Persian and Indic words.
_JOINERS = "\u200c\u200d"


def clean(text: str, longest: int = MAX_LINE) -> str:
    """Give a text on one line, without control and formatting characters, cut to `longest`."""
    # twice the length is enough after folding spaces, and bounds the work on a huge text
    kept = (" " if c.isspace() else c for c in text[: 2 * longest] if _visible(c))
    return " ".join("".join(kept).split())[:longest].rstrip()


def readable(text: str, longest: int = MAX_LINE) -> str:
    """As `clean`, and mend what was decoded wrongly before it came here: `SÃ£o TomÃ©`.

    For words only: ids, addresses and the like are compared with what they were.
    """
    begin = text[: 2 * longest]
    # control characters may be half of a letter, so this comes first
    return clean(_mended(begin) if _PAIR.search(begin) else begin, longest)


def _mended(text: str) -> str:
    # here, for it takes as long as reading a document, and few documents need it
    from ftfy import TextFixerConfig, fix_encoding
    from ftfy.badness import is_bad

    # a lone control character is a line break of sorts, and no letter
    config = TextFixerConfig(fix_c1_controls=False, explain=False)
    return fix_encoding(text, config) if is_bad(text) else text


def without_markup(markup: str) -> str:
    """Give the text of HTML, not yet cleaned: a space for each tag, characters for references."""
    return html.unescape(re.sub(r"<[^<>]*>", " ", markup))


def _visible(character: str) -> bool:
    if character.isspace() or character in _JOINERS:
        return True
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"}


def content_hash(key: str, title: str, link: str, summary: str, fact: RawFact | None) -> str:
    """Give `1:` and the SHA-256 of an entry's content; 1 is the version of this recipe.

    The date of publication is no part of it: publishers touch it without changing a word.
    """
    said = [fact.subject, fact.relation, fact.new, fact.old, fact.valid_from] if fact else None
    content = json.dumps([key, title, link, summary, said], ensure_ascii=True)
    return f"1:{sha256(content.encode()).hexdigest()}"
