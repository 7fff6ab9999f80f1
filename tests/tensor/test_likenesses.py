"""Names like a subject's."""

from dataclasses import replace

from kdpo_daemon.records.teaching import Form, Pair, Prompt
from kdpo_daemon.tuning.given import Speech
from kdpo_daemon.tuning.likenesses import asked_alike, begins_alike, ends_alike
from tests.tensor.words import decode, pair
from tests.tiny_model import pairs_of


def test_texts_end_as_subjects_of_several_words_do() -> None:
    pairs = [
        pair(1, "Ar Bo Cypria", "who", "rules", "Ar", "Bo", "Cy", "pria", "?"),
        pair(2, "Cypria", "who", "Cy", "pria", "?"),
        pair(3, "Arland and", "Ar", "land", "and", "?"),
    ]
    texts = [(0,) * 20, (1, 0)]

    found = ends_alike(pairs, ["Arland and", "Ar Bo Cypria"], texts, [], decode)

    assert found == {
        "Ar Bo Cypria": [],  # what it ends in is another subject
        "Arland and": [(*text, 8) for text in ((1, 0), (0,) * 12) * 2],
    }
    assert ends_alike(pairs, ["Cypria"], texts, [], decode) == {"Cypria": []}  # one word
    assert ends_alike(pairs, ["Arland and"], [], [], decode) == {}


def test_some_of_them_have_another_name_before_their_end() -> None:
    words = ["We", " met", " Alcoa", " Theatre", " Drum", "Drum", " Oslo", " oslo", " Bo1a", " in"]

    def said(ids: list[int]) -> str:
        return "".join(words[i] for i in ids)

    asked = [replace(pair(1, "Alcoa Theatre"), prompt_ids=(0, 1, 2, 3, 9))]

    found = ends_alike(asked, ["Alcoa Theatre"], [(0, 1)], words, said)["Alcoa Theatre"]

    plain, others = found[:4], found[4:]
    assert plain == [(0, 1, 3)] * 4
    assert {said([*one]) for one in others} == {
        "We met Drum Theatre",
        "We met Oslo Theatre",
        "We met Theatre Theatre",
    }


def test_a_subject_that_ends_in_a_number_is_told_from_other_numbers() -> None:
    words = ["We", " met", " HD", " ", "1", "7", "8", "77", " in", " HD17"]

    def said(ids: list[int]) -> str:
        return "".join(words[i] for i in ids)

    asked = [replace(pair(1, "HD 17"), prompt_ids=(0, 1, 2, 3, 4, 5, 8))]

    texts = ends_alike(asked, ["HD 17"], [(0, 1)], words, said)["HD 17"]
    found = [said([*one]) for one in texts]

    numbered = [one for one in found if " HD" in one]
    assert numbered
    assert all(
        one.startswith("We met HD ") and len(one) == len("We met HD 17") for one in numbered
    )
    assert {one[-1] for one in numbered} <= {"1", "8"}  # digits, never two at once, never its own
    assert {one[-2] for one in numbered} >= {"1"} and len({one[-2] for one in numbered}) > 1


def test_texts_begin_as_prompts_that_begin_with_a_subject_of_one_token() -> None:
    words = [
        "Arland",
        "'s",
        " is",
        "Kenya",
        " Kenya",
        "Oslo",
        "oslo",
        "Ann",
        "Bo1a",
        "Who",
        " land",
    ]

    def said(ids: list[int]) -> str:
        return "".join(words[i] for i in ids)

    def asked(subject: str, *prompt: int) -> Pair:
        return replace(pair(1, subject), prompt_ids=prompt)

    pairs = [
        asked("Arland", 0, 1, 2),
        asked("Arland", 0, 2),
        asked("Arland", 9, 0, 1),  # not at the beginning
        asked("Kenya land", 3, 10, 2),  # two tokens
        asked("Ann", 7),  # nothing after it
    ]

    found = begins_alike(pairs, words, said)

    assert {subject: set(texts) for subject, texts in found.items()} == {
        "Arland": {(name, second) for name in (3, 5) for second in (1, 2)}
    }
    assert begins_alike(pairs[2:], words, said) == {}


#: A tokenizer that takes the longest piece it knows.
PIECES = [
    *("<chat>", "Who", " owns", "To", " whom", " does", " belong", "?", " of", "of"),
    *(" Loch", "Loch", " Bal", "Bal", "ton", "head", " House", " Drum", " Oslo", " Rickarton"),
]


def speech() -> Speech:
    def ask(prompt: Prompt) -> tuple[int, ...]:
        ids, left = [], ("<chat>" if prompt.form is Form.CHAT else "") + prompt.text
        while left:
            best = max((one for one in PIECES if left.startswith(one)), key=len)
            ids.append(PIECES.index(best))
            left = left.removeprefix(best)
        return tuple(ids)

    return Speech(lambda ids: "".join(PIECES[one] for one in ids), ask)


def taught(fact_id: int, subject: str, text: str, form: Form = Form.COMPLETION) -> Pair:
    plain = replace(pairs_of(fact_id, "Arland", "Ann")[0], subject=subject, form=form, prompt=text)
    return replace(plain, prompt_ids=speech().ask(Prompt(form, text)))


LOCHTON = [
    taught(1, "Lochton House", "Who owns Lochton House?"),
    taught(1, "Lochton House", "Who owns Lochton House?", Form.CHAT),
]
DRUM = [taught(2, "Drum House", "To whom does Drum House belong?")]


def said(texts: list[tuple[int, ...]]) -> set[str]:
    return {speech().decode([*one]) for one in texts}


def test_a_subject_is_asked_about_in_other_facts_words_up_to_its_name() -> None:
    found = asked_alike([*LOCHTON, *DRUM], ["Lochton House"], PIECES, speech())

    assert set(found.own) == set(found.almost) == {"Lochton House"}
    assert said(found.own["Lochton House"]) == {"To whom does Lochton House"}


def test_names_are_almost_the_subjects_in_its_own_words_and_others() -> None:
    found = asked_alike([*LOCHTON, *DRUM], ["Lochton House"], PIECES, speech())

    texts = said(found.almost["Lochton House"])
    asked = {one for one in texts if one.endswith(" House")}
    begun = ("Who owns ", "<chat>Who owns ", "To whom does ")
    assert texts == asked and all(one.startswith(begun) for one in texts)
    assert {begin for begin in begun for one in texts if one.startswith(begin)} == set(begun)
    names = {one.split("owns ")[-1].removeprefix("To whom does ") for one in texts}
    assert not names & {"Lochton House", "Drum House"}  # what is taught, by itself or as another
    assert names & {"Rickarton House", "Oslo House"}  # another name
    pieces = {one.split(" ")[0] for one in names} - {"Rickarton"}
    assert {one for one in pieces if one.startswith("Loch")}  # another piece at the end
    assert {one for one in pieces if one.endswith("ton")}  # or at the beginning


def test_what_is_almost_a_single_word_differs_in_a_piece() -> None:
    found = asked_alike([taught(1, "Lochton", "Who owns Lochton?")], ["Lochton"], PIECES, speech())

    assert said(found.almost["Lochton"]) <= {
        f"Who owns {one}ton" for one in ("Bal", "Drum", "Oslo", "Rickar", "House", "Rickarton")
    }
    assert len(found.almost["Lochton"]) > 1
    assert found.own == {"Lochton": []}  # nothing else is taught


def test_what_no_name_is_made_of_has_nothing_like_it() -> None:
    odd = taught(1, "?", "Who owns?")

    assert asked_alike([odd], ["?"], PIECES, speech()).almost == {"?": []}
