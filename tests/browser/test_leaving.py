"""A reader leaves a widget: by Escape, back to its cell; and by restarting the kernel, which the widget then says."""

from __future__ import annotations

import pytest

from tests.browser.lab_page import LabPage

WIDGETS = [
    "import vmlab\nfrom vmlab import course, views\nfrom vmlab.course.lab05 import Toy, bench\nm = vmlab.boot(ram='64M')\nviews.frames(m)",
    "views.buddy(m, charts=False)",
    "views.zones('64M')",
    "views.bootmem('64M')",
    "views.host()",
    "question = course.predict('leaving', 'How many?', unit='pages')",
    "course.parsons('06-buddy/free-order')",
    "bench(Toy())",
]


@pytest.fixture
def widgets(lab: LabPage) -> LabPage:
    return lab.scratch(WIDGETS).run_all()


def test_escape_leads_from_every_widget_to_its_cell(widgets: LabPage) -> None:
    for index in range(len(WIDGETS)):
        widgets.output(index).locator("button:enabled, input:enabled").first.focus()
        widgets.press("Escape")
        cell = widgets.cell(index)
        cell.evaluate("cell => { if (cell !== document.activeElement) throw new Error('the focus is still in the widget'); }")
        assert "jp-mod-active" in (cell.get_attribute("class") or "")


def test_a_widget_says_that_its_kernel_was_restarted(widgets: LabPage) -> None:
    field = widgets.output(5).locator("input")
    field.fill("many")
    field.press("Enter")
    assert "not a number" in widgets.output(5).locator(".said").inner_text()
    assert widgets.kernel("question.answer") == ""
    widgets.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart().then(() => 1)")
    widgets.output(1).get_by_role("button", name="Allocate").first.click()
    widgets.output(1).get_by_role("alert").get_by_text("kernel behind this picture was restarted").wait_for()
    field.fill("12")
    field.press("Enter")
    assert widgets.output(5).locator(".said").inner_text().startswith("Not kept")
    widgets.wait_idle()
