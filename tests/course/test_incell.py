"""What a notebook cell calls, in a real kernel (nbclient): checks, questions, predictions, the ordering widget."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.course import toy
from tests.course.corpus import RELEASE, SOURCE, cell, shaped
from vmlab.course import incell, report, submission
from vmlab.course.exercise import Case
from vmlab.course.incell import needed_cells
from vmlab.course.judge import check_public
from vmlab.course.predictions import Prediction

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Execute a notebook (dict, or list of sources) in a fresh folder; returns it with outputs. `env` adds to the environment."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("VMLAB_EXERCISES", str(Path(toy.__file__)))

    def execute(what: dict[str, Any] | list[str], **env: str) -> Any:
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        notebook = what if isinstance(what, dict) else {"cells": [submission._fresh("code", s) for s in what], "metadata": {}}
        node = nbformat.from_dict(submission.finish(notebook["cells"], notebook))
        NotebookClient(node, timeout=60, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return node

    return execute


def texts(cell: Any) -> str:
    """Everything a cell put out, as text: errors, streams, plain-text forms."""
    out = []
    for o in cell.outputs:
        out.append(o.get("text", "") + "\n".join(o.get("traceback", [])) + o.get("data", {}).get("text/plain", ""))
    return "\n".join(out)


def test_solution_notebook_checks_itself_and_nothing_goes_to_stderr(run: Callable[..., Any]) -> None:
    node = run(SOURCE)
    for task in toy.EXERCISE.tasks:
        test = cell(node, f"check-{task.id}")
        assert "Attempt 1." in texts(test) and "✗" not in texts(test), texts(test)
        assert [o.output_type for o in test.outputs] == ["display_data"]
        assert "text/html" in test.outputs[0].data
        assert ("all public tests passed" if task.hidden else "all right") in texts(test)
    assert not [o for c in node.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_validating_an_untouched_notebook_shows_the_report_as_the_error(run: Callable[..., Any]) -> None:
    node = run(RELEASE, NBGRADER_VALIDATING="1", NBGRADER_EXECUTION="validate")
    for task in toy.EXERCISE.tasks:
        test = cell(node, f"check-{task.id}")
        assert test.outputs[0].output_type == "error"
        assert "no answer that can be judged yet" in texts(test)


def test_check_says_what_was_tested_expected_and_got_and_names_the_mistake(run: Callable[..., Any]) -> None:
    notebook = json.loads(
        shaped(lambda nb: cell(nb, "buddy-of").update(source="def buddy_of(pfn, order):\n    return pfn + (1 << order)"), SOURCE)
    )
    cell(notebook, "split")["source"] = "split = [[1, 2]]"
    again = json.loads(json.dumps(cell(notebook, "check-split")))
    again["metadata"] = {}
    notebook["cells"].append(again)
    node = run(notebook, NBGRADER_EXECUTION="autograde")
    said = texts(cell(node, "check-buddy-of"))
    for part in (
        "tested:   eight pages",
        "expected: 0",
        "got:      16",
        "flip the bit",
        "partly right (1 of 2 points)",
        "These were the public tests",
    ):
        assert part in said or part.replace("partly right", "The buddy of a block: partly right") in said, said
    assert cell(node, "check-buddy-of").outputs[-1].output_type == "execute_result"
    assert cell(node, "check-buddy-of").outputs[-1].data["text/plain"] == "1.0"
    own = texts(cell(node, "check-split"))
    assert "got:      [[1, 2]]" in own and "expected:" not in own, "the right answer to a student's own numbers is not given away"
    assert "Worked example with other numbers" in own
    assert "Attempt 2." in texts(node.cells[-1])


def test_question_shows_the_numbers_of_the_name_in_the_notebook(run: Callable[..., Any]) -> None:
    node = run(
        [
            'STUDENT = "alice"\nfrom vmlab import course\ncourse.student()',
            'course.question("00-toy/watermarks")',
            'course.question("00-toy/watermarks")["pages"]',
            'course.question("00-toy/buddy-of")',
            'course.check("00-toy/none")',
        ]
    )
    pages = toy.EXERCISE.task("watermarks").question("00-toy", "alice")["pages"]
    assert "'alice' (STUDENT in this notebook)" in texts(node.cells[0])
    assert f"A zone has {pages} pages" in texts(node.cells[1]) and "<caption" in node.cells[1].outputs[0].data["text/html"]
    assert texts(node.cells[2]) == str(pages)
    assert "no numbers of its own" in texts(node.cells[3]) and "has no task 'none'" in texts(node.cells[4])


def test_name_falls_back_on_the_hub_and_then_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "hub-name")
    assert incell.student() == "hub-name" and "JupyterHub" in repr(incell.student())
    monkeypatch.delenv("JUPYTERHUB_USER")
    monkeypatch.setenv("LOGNAME", "root")
    assert incell.student() == "root" and "many people share" in repr(incell.student())


def test_predictions_are_kept_compared_and_never_fail(run: Callable[..., Any], tmp_path: Path) -> None:
    ask = 'from vmlab import course\nSTUDENT = "a/../b"\np = course.predict("06-split", "How many blocks?", choices=[3, 4])'
    first = run([ask, "p.reveal(3, because='It splits twice.')", "p.commit('4')", "p.reveal(3)", "p.commit('5')"])
    assert "No prediction yet" in texts(first.cells[1]) and "<details>" in first.cells[1].outputs[0].data["text/html"]
    assert "You predicted 4; the machine says 3: not what you predicted" in texts(first.cells[3])
    assert "'5' is not one of the choices" in texts(first.cells[4])
    files = list((tmp_path / ".vmlab").iterdir())
    assert [f.name for f in files] == ["predictions-a_.._b.json"]
    kept = json.loads(files[0].read_text())["06-split"]
    assert (kept["answer"], kept["truth"], kept["right"]) == ("4", "3", False)
    again = run([ask, "p.answer", "p.reveal(4)"])
    assert "'4'" in texts(again.cells[1]) and "as you predicted" in texts(again.cells[2])
    files[0].write_text("{damaged")
    assert "No prediction yet" in texts(run([ask, "p.reveal(4)"]).cells[1])


@pytest.mark.parametrize(
    ("typed", "truth", "right"),
    [
        ("4096", 4096, True),
        ("0x1000", 4096, True),
        ("4,096", 4096, True),
        ("12 %", 12.0, True),
        ("4097", 4096, False),
        ("yes", "Yes", True),
        ("ZONE_DMA", "ZONE_NORMAL", False),
        ("1.02", 1.0, False),
    ],
)
def test_predictions_are_compared_as_numbers_or_as_texts(
    typed: str, truth: object, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    p = Prediction("k", "?", [], "")
    p.commit(typed)
    assert p.is_right(truth) is right and p.is_right(truth, tolerance=0.05) in (right, typed == "1.02" or typed == "4097")


def test_parsons_widget_keeps_the_order_and_has_a_text_form(run: Callable[..., Any]) -> None:
    show = 'from vmlab import course\nSTUDENT = "x"\nw = course.parsons("00-toy/free-order")\nw'
    node = run([show, "w.order = ['B', 'C']\nprint(w.text_alternative)", show, "print(w.assignment)", 'course.parsons("00-toy/split")'])
    assert "bring these lines into order" in texts(node.cells[1]) and "  B  toggle the bit of the pair" in texts(node.cells[1])
    assert "free_order = ['B', 'C']" in texts(node.cells[3])
    assert "has no lines to order" in texts(node.cells[4])


def test_only_the_cells_an_answer_depends_on_are_run_again() -> None:
    history = [
        "",
        "import math\nk = 3",
        "slow = [i for i in range(10)]",
        "def helper(x): return x * k",
        "def answer(x): return helper(x) + math.pi",
        "%matplotlib inline\nplot = slow",
        "rows = []",
        "rows.append(answer(1))",
        "x = (",
        "def answer(x): return helper(x)",
    ]
    assert [c.label for c in needed_cells(history, ["answer"])] == ["In [1]", "In [3]", "In [4]", "In [9]"]
    assert [c.label for c in needed_cells(history, ["rows"])] == ["In [1]", "In [3]", "In [4]", "In [6]", "In [7]"]
    assert needed_cells(history, ["nothing"]) == []


def test_run_all_twice_keeps_the_imports_before_what_uses_them() -> None:
    once = ["from vmlab import course", 'q = course.question("a/b")\nanswer = q["x"]', 'course.check("a/b")']
    cells = needed_cells(["", *once, *once[:1], 'q = course.question("a/c")\nother = q["y"]'], ["answer"])
    assert [c.label for c in cells] == ["In [1]", "In [2]"]


def test_a_number_may_be_typed_with_its_unit_and_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    p = Prediction("k", "?", [], "frames")
    for typed, right in (("16,384 frames", True), ("16 384", True), ("16\u202f384 frames", True), ("0x4000", True), ("384", False)):
        p.commit(typed)
        assert p.is_right(16384) is right, typed


def test_report_says_the_same_in_html_and_in_text() -> None:
    task = toy.EXERCISE.task("buddy-of")
    result = check_public(toy.EXERCISE, task, [incell.Cell("In [1]", "def buddy_of(pfn, order):\n    return '<b>' if order else 9")], "x")
    text, page = report.text(result, ["Tail & end."]), report.as_html(result, ["Tail & end."])
    for part in ("partly right (1 of 2 points)", "✓ passed: blocks of order 0", "✗ not yet: larger blocks", "eight pages"):
        assert part in text and part in page
    assert "&lt;b&gt;" in page and "<b>" not in page and "Tail &amp; end." in page
    assert 'role="status"' in page and '<th scope="col"' in page


def test_a_criterion_only_hidden_inputs_decide_is_not_called_passed() -> None:
    task = toy.EXERCISE.task("buddy-of")
    small_only = dataclasses.replace(task, public=lambda r: [Case({"pfn": 8, "order": 0}, "a single page", ("small",))])
    result = check_public(toy.EXERCISE, small_only, [incell.Cell("In [1]", "def buddy_of(pfn, order):\n    return 9")], "x")
    text = report.text(result)
    assert "all public tests passed" in text and "✓ passed: blocks of order 0" in text
    assert "○ not tried here: larger blocks (decided with hidden inputs; worth 1)" in text
