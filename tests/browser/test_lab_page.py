"""Does the instrument work? What the widget tests rely on, each piece seen to fail when it should."""

from __future__ import annotations

import pytest

COUNTER = """
import ipywidgets
button, label, count = ipywidgets.Button(description="Count"), ipywidgets.Label("0"), 0
def on_click(_):
    global count
    count += 1
    label.value = str(count)
button.on_click(on_click)
ipywidgets.VBox([button, label])
"""


def test_mouse_and_keyboard_reach_the_kernel_and_come_back(lab):
    lab.scratch([COUNTER]).run_all()
    button = lab.cell(0).get_by_role("button", name="Count")
    button.click()
    lab.wait_idle()
    assert lab.kernel("count") == 1
    lab.page.evaluate("() => document.activeElement.blur()")
    lab.tab_to(button)
    assert "button" in lab.focused()
    lab.press("Enter")
    lab.press("Space")
    lab.wait_idle()
    assert lab.kernel("[count, label.value]") == [3, "3"]
    assert lab.cell(0).get_by_text("3", exact=True).is_visible()


def test_each_notebook_gets_a_kernel_of_its_own(lab):
    lab.scratch(["mine = 1"]).run_all()
    lab.scratch(["pass"]).run_all()
    assert lab.kernel("'mine' in globals()") is False


def test_running_again_waits_for_the_second_run(lab):
    lab.scratch(["runs = globals().get('runs', 0) + 1", "import time; time.sleep(0.4 * runs); slept = runs"])
    for run in (1, 2):
        lab.run_all()
        assert lab.kernel("[runs, slept]") == [run, run]
    lab.run_cell(0)
    assert lab.kernel("[runs, slept]") == [3, 2]


def test_a_failing_cell_is_reported_with_its_traceback(lab):
    lab.scratch(["%%markdown\n# A title", "fine = 1", "1 / 0", "never = 1"])
    with pytest.raises(AssertionError, match=r"cell 2 failed:(.|\n)*ZeroDivisionError"):
        lab.run_all()
    lab.run_cell(3)
    assert lab.kernel("never") == 1
    with pytest.raises(AssertionError, match="NameError"):
        lab.kernel("no_such_name")


def test_an_error_on_the_console_is_noticed(lab):
    lab.scratch(["from IPython.display import Javascript\nJavascript('console.error(\"seen by a test\")')"]).run_all()
    noticed, lab.errors[:] = list(lab.errors), []
    assert any("seen by a test" in error for error in noticed)


def test_pictures_themes_and_an_element_out_of_reach(lab, tmp_path):
    lab.scratch(["import ipywidgets; ipywidgets.Button(description='Off', disabled=True)"]).run_all()
    lab.theme(dark=True)
    dark = lab.screenshot(tmp_path / "dark.png").read_bytes()
    lab.theme(dark=False)
    light = lab.screenshot(tmp_path / "light.png").read_bytes()
    assert dark.startswith(b"\x89PNG") and dark != light
    with pytest.raises(AssertionError, match="did not reach"):
        lab.tab_to(lab.cell(0).get_by_role("button", name="Off"), limit=5)
