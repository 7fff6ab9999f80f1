"""When two values are one: spellings, near-spellings, other scripts, rewordings.

Pure.  What a letter is in plain Latin is asked of anyascii, how alike two words are of rapidfuzz.
Does not read values: that is done in `names`, `plain` and `quantities`.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from anyascii import anyascii
from rapidfuzz.distance import Indel

# How alike two words are (rapidfuzz: twice the letters in common, of all) to count as one word
# respelled.  Measured on the Factbook's changes of name among heads of state, heads of government
# and ambassadors, 2014 to 2026: at 0.85 it finds 97 respellings and takes no change of holder for
# one; at 0.80 Li Keqiang and Li Qiang become one, but not if the words begin alike: that finds 27
# more and no change; at 0.75 Arif Alvi and Asif Ali Zardari become one.  A respelling that is
# missed costs a needless edit, a change that is missed is lost: so strict values.
_NEARLY, _NEARLY_FROM_THE_START = 0.85, 0.80
_HALF = re.compile(r"\b(semi|quasi)-", re.IGNORECASE)
_MARKS = str.maketrans("", "", "'`\u2018\u2019\u02bb\u02bc\u02bf\u02be")
#: Words of a name that are written small.
PARTICLE = re.compile(
    "a[ltnsd]|bint?|ibni?|bte|d[aeiou]|das|dos|del|della|de[rn]|van|von|te[nr]|[yei]|ould|zu|a[vf]"
)


def same_value(one: str, other: str) -> bool:
    """True when two names are spellings of one: as `same_spelling`, and near-spellings.

    The first names must be nearly equal, and every further word of the shorter name must have
    its like in the longer one, in the same order: a middle name may come and go.
    """
    if same_spelling(one, other):
        return True
    mine, theirs = _in_one_script(one, other)
    short, long = sorted((words_of(mine), words_of(theirs)), key=len)
    return len(short) >= 2 and nearly(short[0], long[0]) and _all_in_order(short[1:], long[1:])


def same_spelling(one: str, other: str) -> bool:
    """True when two values differ in no more than case, accents, marks, particles or script."""
    numbers = any(c.isdigit() for c in one + other)  # 1.2 is not 12
    mine, theirs = map(words_of, _in_one_script(one, other))
    return mine == theirs if numbers else "".join(mine) == "".join(theirs)


def shares_words(one: str, other: str) -> bool:
    """True when two descriptions have half of all their words in common, or more.

    What is half of a kind is another kind: `semi-presidential` does not have `presidential` in it.
    """
    mine, theirs = (set(words_of(_HALF.sub(r"\1", text))) for text in (one, other))
    return 2 * len(mine & theirs) >= len(mine | theirs)


def nearly(one: str, other: str) -> bool:
    """Tell whether one word is another one respelled."""
    enough = _NEARLY_FROM_THE_START if one[0] == other[0] else _NEARLY
    return one == other or Indel.normalized_similarity(one, other) >= enough


# a value is compared with all that is said of its slot
@lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[str, ...]:
    """Give the words of a text without case, accents, marks and particles.

    Latin letters become plain ones, `Łódź` is `lodz`; other scripts stay what they are.
    """
    composed = unicodedata.normalize("NFKC", text.casefold()).translate(_MARKS)
    letters = "".join(map(_plain, composed))
    # the v of `v3.12` is no part of the number
    words = [re.sub(r"^v(?=\d)", "", word) for word in re.findall(r"\w+", letters)]
    return tuple(word for word in words if not PARTICLE.fullmatch(word)) or tuple(words)


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if character.isdigit() or unicodedata.name(character, "").startswith("LATIN"):
        return anyascii(character).lower().translate(_MARKS)
    # combining marks: an accent that is written after its letter
    return "" if unicodedata.combining(character) else character


def _in_one_script(one: str, other: str) -> tuple[str, str]:
    """Give both in Latin letters if only one of them is: `Владимир` is compared as `Vladimir`.

    Two texts in one other script stay as they are: names that sound alike are written apart.
    """
    if _is_latin(one) == _is_latin(other):
        return one, other
    return anyascii(one), anyascii(other)


def _is_latin(text: str) -> bool:
    return all(unicodedata.name(c, "").startswith("LATIN") for c in text if c.isalpha())


def _all_in_order(short: Sequence[str], long: Sequence[str]) -> bool:
    """Say whether each word of `short` is found in `long`, in the same order."""
    rest = iter(long)
    return all(any(nearly(word, candidate) for candidate in rest) for word in short)
