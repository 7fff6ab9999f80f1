"""The sentences of a text, and why one of them states no fact: what patterns and models share.

Pure.  English, and the German of the same words.  These words are no setting: who could take
"denies" from the list could have a denial believed.
"""

import re

# After these a full stop ends no sentence.
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|(?:[A-Z]\.)+[A-Z]|Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Col|Lt|Sgt|Capt"
    r"|Hon|St|Jr|Sr|Inc|Corp|Co|Ltd|No|vs|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)$"
)
_END = re.compile(r"[.!?\u2026][\"'\u2019\u201d)]*\s+(?=\S)")

_QUESTION = re.compile(
    r"\?|^\W*(?:who|what|when|where|why|how|which|is|are|was|were|do|does|did|can|has|have|had"
    r"|wer|was|wann|wo|warum|wie|ist|sind|hat)\b",
    re.IGNORECASE,
)
# What is denied, what may be, what others are said to say, what was.  `*` is any letters.
_DOUBTS = {
    "denies it": """
        not, cannot, *n't, never, no longer, nobody, no one, neither, nor, without, deny, denies,
        denied, denying, denial*, refus*, reject*, declin*, dismiss*, disput*, rule out, rules out,
        ruled out, fails to, failed to, falsely, false, untrue, fake, hoax, debunk*, withdraw*,
        withdrew, backs out, blocks, blocked, collaps*, cancel*, nicht, kein*, nie, dementier*,
        bestreite*, verneint, falsch*, lehnt
        """,
    "says what may be": """
        could, may, might, would, should, will, shall, must, to be, to become, poised, likely,
        unlikely, expect*, plan, plans, planned, planning, propos*, intend*, want*, hope, hopes,
        hoping, aim, aims, aiming, seek*, bid, bids, run for, runs for, consider*, mull*, eyes,
        weighs, talks, tipped, favourite*, favorite*, frontrunner, candidat*, nomin*, contender*,
        shortlist*, if, unless, whether, almost, nearly, about to, set to, due to, ready to, next,
        future, soon, upcoming, *-elect, president elect, *-designate, potential*, possible,
        possibly, perhaps, maybe, call for, calls for, calls on, call to, calls to, urg*, demand*,
        vote for, votes for, vote on, votes on, vote to, könnte*, würde*, soll, sollen, sollte*,
        wird, werden, möglich*, plant, planen, künftig*, demnächst, bald, wohl, vielleicht
        """,
    "is hearsay": """
        rumour*, rumor*, report, reports, reported, reportedly, alleg*, claim, claims, claimed,
        claiming, source, sources, said to, speculat*, apparently, suppos*, believ*, suggest*,
        hint*, gossip, leak*, unconfirmed, insider*, opinion, satire, parody, prank, joke*, quiz,
        fiction*, dream, dreams, imagin*, pretend*, angeblich*, gerücht*, offenbar, mutma*, laut,
        bericht*, kommentar, meinung, glosse
        """,
    "tells of the past": """
        former, formerly, ex, ex-*, previous, previously, once, used to, ago, then, late, last
        year, last month, anniversary, history, historic, historical, years later, years after,
        back in, had been, had become, ehemalig*, früher*, einst*, damals
        """,
}


def _any_of(words: str) -> re.Pattern[str]:
    each = [" ".join(one.split()) for one in words.split(",")]
    which = "|".join(
        re.escape(one).replace(r"\*", r"\w*").replace("'", "['\u2019]") for one in each
    )
    # "in May" is a month, and so is "May 2025"
    which = which.replace("|may|", r"|(?<!in )may(?!\ \d)|")
    return re.compile(rf"(?<![\w-])(?:{which})(?!\w)", re.IGNORECASE)


_DOUBT = {why: _any_of(words) for why, words in _DOUBTS.items()}
_YEAR = re.compile(r"(?<![\w.])(?:1[5-9]|20)\d\d(?![\w.]*\d)")


def sentences(text: str) -> list[str]:
    """Give the sentences of a cleaned text, each verbatim; initials and `Inc.` end none."""
    found, begin = [], 0
    for end in _END.finditer(text):
        if text[end.start()] == "." and _ABBREVIATED.search(text[begin : end.start()]):
            continue
        found.append(text[begin : end.end()].rstrip())
        begin = end.end()
    return [*found, text[begin:]] if begin < len(text) else found


def doubt(sentence: str, year: int | None = None) -> str:
    """Say why a sentence states no change of now, or ""; `year`: of the entry, if it is known.

    It asks, denies, guesses, passes on what others say, or tells of the past.
    """
    if _QUESTION.search(sentence):
        return "asks"
    for why, words in _DOUBT.items():
        met = words.search(sentence)
        if met:
            return f"{why} ({met[0].lower()!r})"
    years = {int(one) for one in _YEAR.findall(sentence)}
    if year and years and year not in years:
        return f"tells of {min(years)}"
    return ""
