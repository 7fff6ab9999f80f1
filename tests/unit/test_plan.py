"""What is asked before a batch is planned."""

from kdpo_daemon.records.teaching import Form, Probe, ProbeKind, Prompt
from kdpo_daemon.stages.questions import few_taught


def probe(number: int, kind: ProbeKind, form: Form, fact: int) -> Probe:
    return Probe(number, kind, Prompt(form, f"question {number}"), ("answer",), fact)


def test_three_taught_phrasings_of_each_form_and_fact_and_all_untaught_ones_are_asked() -> None:
    taught = [
        probe(number, ProbeKind.EDIT, form, fact)
        for number, (fact, form) in enumerate(
            (fact, form) for fact in (1, 2) for form in Form for _ in range(5)
        )
    ]
    untaught = [probe(100 + n, ProbeKind.PARAPHRASE, Form.CHAT, 1) for n in range(5)]

    asked = few_taught([*untaught, *taught])

    assert [one.id for one in asked] == [
        *(one.id for one in untaught),
        *(start + n for start in (0, 5, 10, 15) for n in range(3)),
    ]
