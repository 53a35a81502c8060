"""Does the start page tell the truth about the course, and does a reader get anywhere from it?"""

from __future__ import annotations

import re

import nbformat

from scripts.start_page import MAP_CELL, map_source
from tests.helpers import ROOT
from vmlab.course.chapters import CHAPTERS, table_html
from vmlab.tools.lab import START_PAGE, find_course, lab_command


def test_there_are_fourteen_chapters_in_the_books_order():
    assert [chapter.number for chapter in CHAPTERS] == list(range(1, 15))
    assert len({chapter.title for chapter in CHAPTERS}) == 14
    assert all(chapter.sections and chapter.doing.endswith(".") for chapter in CHAPTERS)


def test_the_map_is_up_to_date():
    (cell,) = (cell for cell in nbformat.read(ROOT / START_PAGE, as_version=4).cells if cell.id == MAP_CELL)
    assert cell.source == map_source(ROOT), "the map is out of date: make start-page"


def test_a_chapter_becomes_readable_when_its_notebook_exists_and_graded_when_its_exercises_do(tmp_path):
    before = table_html(tmp_path)
    assert before.count("to&nbsp;come") == 14 and "<a " not in before
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "07-noncontiguous.ipynb").touch()
    (tmp_path / "exercises" / "07-vmalloc").mkdir(parents=True)
    (tmp_path / "exercises" / "07-vmalloc" / "areas & gaps.ipynb").touch()
    after = table_html(tmp_path)
    assert after.count("to&nbsp;come") == 13 and "1 can be read now, 13 are to come" in after
    assert re.findall(r'href="(.*?)"', after) == ["07-noncontiguous.ipynb", "../exercises/07-vmalloc/areas &amp; gaps.ipynb"]


def test_every_link_of_the_map_leads_to_a_file():
    links = re.findall(r'href="(.*?)"', table_html(ROOT))
    missing = [link for link in links if not (ROOT / "notebooks" / link).resolve().is_file()]
    assert not missing


def test_the_course_is_found_from_anywhere_in_the_checkout_and_by_the_installed_package(tmp_path):
    assert find_course(ROOT / "vmlab" / "mm") == ROOT
    assert find_course(tmp_path) == ROOT


def test_jupyterlab_is_asked_to_stay_on_this_machine(tmp_path):
    command = lab_command(tmp_path, port=0, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command and "--no-browser" in command and "--ServerApp.port=0" in command
    assert "--no-browser" not in lab_command(tmp_path)


def test_a_reader_sees_the_map_runs_the_machine_and_follows_a_link(lab):
    lab.open(START_PAGE)
    page = lab.page
    table = page.get_by_role("table", name=re.compile("The 14 chapters"))
    assert table.is_visible(), "the map is there before anything has run"
    assert table.get_by_role("row").count() == 15
    assert table.get_by_role("rowheader").first.inner_text() == "1 Introduction"
    lab.run_all()
    (boot,) = (index for index, cell in enumerate(nbformat.read(ROOT / START_PAGE, as_version=4).cells) if cell.id == "boot")
    assert "MemTotal" in lab.output(boot).inner_text()
    # MemTotal is 64 MiB less what was taken before there was an allocator.
    assert 60_000 < lab.kernel("m.nr_free_pages() * 4") < 65_536
    assert page.locator(".Toastify__toast").count() == 0, "nothing pops up over the first page"
    links = table.get_by_role("link")
    assert links.count() == len(re.findall("<a ", table_html(ROOT)))
    if links.count():
        link = links.first
        name = (link.get_attribute("href") or "").rpartition("/")[2].partition("?")[0]
        lab.tab_to(link)
        lab.press("Enter")
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").get_by_role("heading", level=1).first.wait_for()
        assert name in page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")
