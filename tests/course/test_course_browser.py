"""The course's widgets in JupyterLab: predict and order with the mouse and with the keyboard alone, and a check one can read."""

from __future__ import annotations

from pathlib import Path

from tests.browser.lab_page import LabPage
from tests.course import toy

FIRST = f"import os\nos.environ['VMLAB_EXERCISES'] = {str(Path(toy.__file__))!r}\nfrom vmlab import course\nSTUDENT = 'browser'"


def test_a_prediction_is_made_with_the_mouse_kept_and_revealed(lab: LabPage) -> None:
    ask = 'p = course.predict("06-split", "How many blocks does `expand` give back?", choices=[2, 3, 4])'
    lab.scratch([FIRST, ask, "p.reveal(3, because='One an order.')"])
    lab.run_all()
    assert "No prediction yet" in lab.output(2).inner_text()
    out = lab.output(1)
    out.get_by_role("button", name="Commit").click()
    assert "Choose one first" in out.get_by_role("status").inner_text()
    out.get_by_role("radio", name="4").check()
    out.get_by_role("button", name="Commit").click()
    lab.wait_idle()
    assert lab.kernel("p.answer") == "4"
    assert "you predict 4" in out.get_by_role("status").inner_text()
    lab.run_cell(2)
    assert "You predicted 4; the machine says 3: ✗ not what you predicted" in lab.output(2).inner_text()
    assert "not what you predicted" in out.get_by_role("status").inner_text(), "the live region above says it, too"
    lab.screenshot("predict.png")
    lab.run_cell(1)
    assert lab.output(1).get_by_role("radio", name="4").is_checked(), "running the cell again shows the kept answer"


def test_a_prediction_is_typed_and_committed_with_the_keyboard_alone(lab: LabPage) -> None:
    lab.scratch([FIRST, 'p = course.predict("02-mib", "Where does ZONE_NORMAL begin?", unit="MiB")', "p.reveal(16)"]).run_all()
    field = lab.output(1).get_by_role("textbox")
    lab.page.evaluate("() => document.activeElement.blur()")
    lab.tab_to(field)
    lab.page.keyboard.type("dd16")  # d twice deletes a cell in command mode: the notebook must not hear it
    for _ in range(2):
        lab.press("Home")
        lab.press("Delete")
    lab.press("Enter")
    lab.wait_idle()
    assert lab.kernel("p.answer") == "16" and lab.kernel("'p' in globals()")
    lab.run_cell(2)
    assert "as you predicted" in lab.output(2).inner_text()


def test_a_choice_is_made_with_the_arrow_keys(lab: LabPage) -> None:
    lab.scratch([FIRST, 'p = course.predict("06-keys", "How many?", choices=[2, 3, 4])']).run_all()
    lab.page.evaluate("() => document.activeElement.blur()")
    lab.tab_to(lab.output(1).get_by_role("radio", name="2"))
    lab.press("ArrowDown", times=2)
    lab.press("ArrowUp")
    lab.press("Enter")
    lab.wait_idle()
    assert lab.kernel("p.answer") == "3"


def test_lines_are_ordered_with_the_mouse_and_the_list_is_spelt_out(lab: LabPage) -> None:
    lab.scratch([FIRST, 'w = course.parsons("00-toy/free-order")\nw']).run_all()
    out = lab.output(1)
    for letter in "CBDA":
        out.get_by_role("button", name=f"Add line {letter}").click()
    out.get_by_role("button", name="Move line B up").click()
    out.get_by_role("button", name="Put line D back").click()
    lab.wait_idle()
    assert lab.kernel("w.order") == ["B", "C", "A"]
    assert out.get_by_role("textbox").input_value() == 'free_order = ["B", "C", "A"]'
    assert out.get_by_role("button", name="Move line B up").is_disabled()
    lab.screenshot("parsons.png")


def test_lines_are_ordered_with_the_keyboard_and_announced(lab: LabPage) -> None:
    lab.scratch([FIRST, 'w = course.parsons("00-toy/free-order")\nw']).run_all()
    out = lab.output(1)
    lab.page.evaluate("() => document.activeElement.blur()")
    before = lab.kernel("w.order")
    for letter in [x for x in "BE" if x not in before]:
        lab.tab_to(out.get_by_role("button", name=f"Add line {letter}"))
        lab.press("Enter")
    lab.wait_idle()
    order = lab.kernel("w.order")
    last = order[-1]
    lab.tab_to(out.locator(f'[data-chosen="{last}"]'))
    lab.press("Alt+ArrowUp")
    lab.wait_idle()
    assert lab.kernel("w.order") == [*order[:-2], last, order[-2]]
    assert f"Line {last} is now number {len(order) - 1} of {len(order)}" in out.get_by_role("status").inner_text()
    assert f"line {last}" in lab.focused(), "the focus stays on the line that moved"
    lab.press("Delete")
    lab.wait_idle()
    assert last not in lab.kernel("w.order") and "Add line" in lab.focused()


def test_a_check_shows_a_readable_report_in_both_themes(lab: LabPage) -> None:
    wrong = "def buddy_of(pfn, order):\n    return pfn + (1 << order)"
    cells = [FIRST, wrong, 'course.check("00-toy/buddy-of")', 'course.question("00-toy/split")',
             'split = [[1, 2]]\ncourse.check("00-toy/split")']
    lab.scratch(cells).run_all()
    report = lab.output(2).get_by_role("status")
    assert "flip the bit" in report.inner_text() and report.get_by_role("table").count() == 1
    assert report.get_by_role("columnheader").all_inner_texts() == ["tested", "with", "expected", "got"]
    own = lab.output(4).get_by_role("status").inner_text()
    assert "[[1, 2]]" in own and "Worked example" in own, "an answer given in the check's own cell counts"
    lab.screenshot("check.png")
    lab.theme(dark=True)
    colours = report.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
    lab.screenshot("check-dark.png")
    lab.theme(dark=False)
    light = [sum(int(x) for x in c[c.index("(") + 1 : -1].split(",")[:3]) for c in colours]
    assert abs(light[0] - light[1]) > 350, f"text and ground are too close in the dark theme: {colours}"
