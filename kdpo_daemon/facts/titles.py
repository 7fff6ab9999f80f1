"""The words that stand before a name: offices, ranks and courtesies, institutions.

Pure.  English, as newspapers and the CIA World Factbook write them.  A title that is not known is
left where it is; whether what remains is a name is asked in `names`.
"""

import re

APOSTROPHES = "'`\u2018\u2019"
#: Hyphen and apostrophes: what a word of a name may be joined with.
MARKS = f"-{APOSTROPHES}"
# What may stand before a name.  An office gives the role; the first one counts.
OFFICES = (
    "prime minister|vice president|president of the government"
    "|(?:president|chairman|chairwoman|chairperson) of (?:the )?(?:council of ministers"
    "|presidency|executive council|territorial council|territorial assembly)"
    "|president|premi(?:er|[eè]re) ministre|premier|chief minister|first minister"
    "|minister of state"
    "|secretary of (?:state|defen[sc]e|war|the (?:treasury|interior))"
    "|chancellor of the exchequer|chief executive officer|chief executive|taoiseach"
    "|federal chancellor|minister[- ]president"
    "|(?:(?:chairman|chairwoman|president|(?:co-)?founder) and )?"
    "(?:(?:group|global) )?(?:co-)?CEOs?"
    "|(?:chief|special) advis[eo]r|(?:special|high) representative|special envoy"
    "|(?:head )?coach|manager|t[aá]naiste|(?:bundes)?kanzler(?:in)?|(?:bundes)?pr[aä]sident(?:in)?"
    "|ministerpr[aä]sident(?:in)?|(?:ober)?b[uü]rgermeister(?:in)?|ministre-pr[eé]sidente?"
    "|pr[eé]sidente?|primer[ao]? ministr[ao]|primeir[ao][- ]ministr[ao]"
    "|chancellor|king|queen|emperor|empress|sultan|amir|emir|grand duke|crown prince|prince|pope"
    "|governor[ -]general|lieutenant[ -]governor|governor|high commissioner|prefect"
    "|administrator[ -]general|administrator|ambassador|chief justice"
    "|apostolic nuncio|consul"
    f"|charg[eé][{APOSTROPHES}]? d[{APOSTROPHES}] ?affaires"
    "|chairperson|chairwoman|chairman|speaker|lord mayor|mayor|(?:secretary|director)[ -]general"
    "|head of government|foreign minister|minister for foreign affairs"
    "|minister (?:of|for) (?:foreign affairs|external affairs|(?:the )?interior|home affairs"
    "|(?:national )?defen[sc]e|finance|(?:the )?economy|justice|health|education)"
    "|(?:defen[sc]e|finance|interior|home) minister|(?:team )?captain|managing director"
    "|(?:chair(?:man|woman|person)?|governor|president) of the (?:federal reserve(?: board)?"
    "|(?:european )?central bank|board(?: of directors)?)"
)
# An officer who is not the real thing: noted, and left out of the role.
MODIFIERS = "acting|interim|caretaker|transitional|transition"
# Ranks, callings and courtesies, which people leave out when they ask for somebody.
_HONOURS = (
    r"(?:sr|lt|brig|maj|gen|col|cdre|adm|capt|cmdr|sgt|dr|mr|mrs|ms|hon|ret|prof|eng|ing|rev|sen"
    r"|rep|gov)\.|\(ret\.?\)"
    # without the full stop only what is no given name: Gen and Hon are
    r"|(?:capt|cmdr|cdre|lt(?: col)?|maj|brig|sgt|dr|mr|mrs|ms|pm)(?=\s)"
    "|(?:(?:major|lieutenant|brigadier|colonel|army|police)[ -])?general"
    "|(?:lieutenant[ -])?colonel|brigadier|major|(?:staff |master )?sergeant"
    r"|(?:vice|rear)[ -]admiral|admiral|(?:vice|rear)(?= adm\.)|(?:air )?commodore"
    "|air (?:chief |vice[ -])?marshall?|(?:field )?marshal|group captain|wing commander"
    "|captains|commander(?:-in-chief)?|reverend|sister|father|ayatollah|mullah|mawlawi|maulana"
    "|professor|doctor|engineer|senator|sir|dame|lord|lady|princess|sheikh|shaykh|sayyid|cardinal|ratu|tuanku"
    "|(?:dato'?|datuk)(?: (?:seri|sri))?|appointed|ad(?= interim)"
    "|tan sri|(?:arch)?bishop"
    "|(?:his|her|their) (?:royal )?(?:majesty|highness|excellency|holiness)"
    r"|(?:the )?(?:rt\.?|right|most) hon(?:ou?rable|\.)?|(?:the )?honou?rable|h\.\s?e\."
)
# `President of the Swiss Confederation`, `of the Islamic Republic of Afghanistan`
_STATE = (
    r" of (?:the )?(?:[A-Z]\w+ ){0,3}?(?:Confederation|Republic|Federation|Kingdom|Union"
    r"|Principality|Emirates|Commonwealth)(?: of (?:the )?[A-Z]\w+)?(?= [A-Z])"
)
# `President of X is NAME` says no more than `President of X NAME`.
_TITLE = re.compile(
    rf"(?:(?P<office>{OFFICES})|{MODIFIERS}|{_HONOURS}|and\b|is\b)(?:,|\b|(?<=[.)]))"
    # a country's name ends where a ruler's begins, in capitals or with a title of its own
    rf"(?-i: of (?:the )?[A-Z][a-z]+(?= (?:[A-Z]{{2}}|(?i:{OFFICES})\b))|{_STATE})?"
    rf"(?:- |\s*)(?![{MARKS}])",
    re.IGNORECASE,
)
# Words that only a title has.  Left in a name, they say that the title was not understood.
_TITLE_WORD = re.compile(
    "(?:vice-|co-vice-)?(?:president|minister|chair(?:man|person)?|leader|council|commission(?:er)?"
    "|prime|premier|chief|executive|secretary|director|head|deputy|vice|co-vice|speaker|marshal"
    "|government|state|general|regent|co-?princes?|majesty|highness|excellency|affairs|assembly|committee|forces"
    "|representatives?|administrator|governor|commander|coordinator|counsellor|envoy|founder"
    "|owner|manager|coach)",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\((?!ret\b|vacant)[^()]*\)|\[.*?\]", re.IGNORECASE)
# A title with an explanation, before the name.
_GLOSS = re.compile(r"([^()]*)\((?!ret\b|vacant)([^()]*)\) (?=\S)", re.IGNORECASE)
# Honours and seats behind a name.  Not KC, which is a family's name in Nepal.
_BEHIND = re.compile(r"(?:,? (?:M\.?P\.?|MEP|[MOCKDG]BE|G?CMG|KCMG|Ph\.?D\.?))+$")
# Small words within a title.
_SMALL = frozenset(["of", "the", "for", "and", "in", "or", "to"])


def split_titles(head: str) -> tuple[str, str]:
    """`Acting Prime Minister Dr. X` -> ("prime minister", "X")."""
    gloss = _GLOSS.match(head)
    if gloss and _is_title(gloss[1], gloss[2]):
        # `Taoiseach (Prime Minister)`: the role that others understand stands in the gloss
        office = re.fullmatch(OFFICES, gloss[2], re.IGNORECASE)
        role = gloss[2].lower() if office else _strip(gloss[1])[0]
        own, name = split_titles(head[gloss.end() :])
        return role or own, name
    head = _BEHIND.sub("", " ".join(_ASIDE.sub(" ", head).split()))
    role, name = _strip(head)
    if any(is_title_word(word) for word in name.split()):
        return "", _strip(_after_title(name))[1]
    return role, name


def is_title_word(word: str) -> bool:
    """Tell whether a word is of a title; in capitals it is a family name."""
    return bool(_TITLE_WORD.fullmatch(word.strip(",."))) and not word.isupper()


def _is_title(text: str, gloss: str) -> bool:
    """Tell `Taoiseach (Prime Minister)` from a name and a nickname, `Prokopios (Prokopis)`."""
    words = text.split()
    said = [_strip(part)[1].split() for part in (text, gloss)]
    known = any(not rest or any(map(is_title_word, rest)) for rest in said)
    return known and not any(word.isupper() for word in words)


def _strip(head: str) -> tuple[str, str]:
    """Take titles that are known in full from the start of a text."""
    role = ""
    while match := _TITLE.match(head):
        office = match["office"] or ""
        role = role or re.sub(r"\bceo", "CEO", office.lower())
        head = head[match.end() :]
    return role, head


def _after_title(text: str) -> str:
    """`State Affairs Commission President KIM Jong Un` -> `KIM Jong Un`.

    Gives the text as it is where its beginning is no mere title: a sentence, or a title after
    somebody's family name, which then is another person's.
    """
    words = text.split()
    last = max(n for n, word in enumerate(words) if is_title_word(word))
    title = words[1 : last + 1]
    mere = all(w[:1].isupper() or w in _SMALL or is_title_word(w) for w in title)
    named = any(word.strip(",.").isupper() for word in title)
    return " ".join(words[last + 1 :]) if mere and not named else text
