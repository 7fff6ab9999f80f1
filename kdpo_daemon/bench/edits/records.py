"""A fact to be edited, with everything that is asked about it.  Reads nothing."""

from dataclasses import dataclass

from kdpo_daemon.records.teaching import Form, Prompt


@dataclass(frozen=True)
class Question:
    """A prompt and what counts as right; `answers` is empty where only sameness counts."""

    prompt: Prompt
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """One edit of a benchmark, whatever form its file has."""

    number: int  #: place in the file while it is read, then in the drawn sequence; from 1
    subject: str
    relation: str  #: relation of the pack, or the phrasing with {} for the subject; "" if unknown
    new: str  #: the object to be taught
    old: str  #: the object it replaces; "" where the file names none
    train: tuple[Prompt, ...]  #: phrasings that are taught, and so judge efficacy
    held_out: tuple[Prompt, ...] = ()  #: phrasings that are never taught
    same_subject: tuple[Question, ...] = ()  #: other questions about the subject
    same_relation: tuple[Question, ...] = ()  #: the same question about other subjects
    unrelated: tuple[Question, ...] = ()
    portability: tuple[Question, ...] = ()  #: what should follow from the edit
    keep: tuple[Prompt, ...] = ()  #: prompts to be left alone that a rival may train on
    role: str = ""  #: the words for the relation in prompts
    place: int | None = None  #: in the sequence of the data's authors, if they give one


def both_forms(text: str) -> tuple[Prompt, ...]:
    """Put a text as a completion and as a chat message."""
    return tuple(Prompt(form, text) for form in Form)


def by_turns(
    texts: list[tuple[str, tuple[str, ...]]], first: int, limit: int
) -> tuple[Question, ...]:
    """Ask at most `limit` texts in one form each, by turns; `first` says which form begins."""
    forms = tuple(Form)
    return tuple(
        Question(Prompt(forms[(first + place) % len(forms)], text), answers)
        for place, (text, answers) in enumerate(texts[:limit])
    )
