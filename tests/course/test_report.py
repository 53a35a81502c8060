"""Reports: each input, each sentence once, and nothing of hidden inputs but their kind."""

from __future__ import annotations

from vmlab.course import report
from vmlab.course.result import CriterionResult, Evidence, TaskResult


def task(*evidence: list[Evidence], answered: bool = True) -> TaskResult:
    criteria = [CriterionResult(f"c{n}", f"part {n}", 1.0, evidence=e, tried=len(e)) for n, e in enumerate(evidence)]
    return TaskResult("t", "Task", "code", float(len(criteria)), criteria=criteria, answered=answered)


def both(result: TaskResult) -> list[str]:
    return [report.text(result), report.as_html(result)]


def test_one_failing_input_is_shown_once_whatever_it_decides() -> None:
    same = [[Evidence(False, "a busy zone", data="{zone}", expected=f"e{n}", got=f"g{n}", note="Too low.")] for n in range(3)]
    for page in both(task(*same)):
        assert page.count("{zone}") == 1 and page.count("Too low.") == 1
        assert all(page.count(f"{x}{n}") == 1 for n in range(3) for x in "eg") and page.count("part 1") == 2


def test_what_is_wrong_everywhere_is_one_sentence_without_inputs() -> None:
    missing = "There is no Freeing in the notebook yet."
    public = [Evidence(False, f"case {n}", data="{zone}", note=missing) for n in range(4)]
    hidden = [Evidence(False, "case 1", hidden=True, note=missing)]
    for page in both(task([*public, *hidden], public, hidden, answered=False)):
        assert page.count(missing) == 1 and "{zone}" not in page and "hidden inputs" not in page


def test_hidden_inputs_are_told_by_kind_and_only_when_they_add_something() -> None:
    known = Evidence(False, "small", data="{a}", expected="1", got="2", mistake="The tail is taken.")
    again = Evidence(False, "small", hidden=True, mistake="The tail is taken.")
    other = Evidence(False, "large", hidden=True, mistake="Order 9 has no pair.")
    for page in both(task([known, again, other], [again])):
        assert page.count("The tail is taken.") == 1 and "With hidden inputs (large): Order 9 has no pair." in page
        assert page.count("With hidden inputs (small): the same.") == 1, "the second part has nothing else to show"


def test_an_exception_keeps_its_input() -> None:
    for page in both(task([Evidence(False, "small", data="{a}", note="It stopped.")], [Evidence(True, "small", data="{a}", got="1")])):
        assert page.count("{a}") == 1 and "It stopped." in page
