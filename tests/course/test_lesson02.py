"""Lesson 2 in a real browser: a prediction is kept and compared, and what a reader builds by keyboard passes the lesson's own checks."""

from __future__ import annotations

import json

import pytest

from tests.helpers import ROOT

LESSON = "notebooks/02-describing-physical-memory.ipynb"
INDEX = {cell["id"]: i for i, cell in enumerate(json.loads((ROOT / LESSON).read_text(encoding="utf-8"))["cells"])}


@pytest.fixture
def lesson(lab):
    lab.open(LESSON).run_all()
    return lab


def test_a_reader_predicts_builds_and_looks(lesson):
    # predict by keyboard, then run
    question = lesson.cell(INDEX["zones-question"])
    field = question.get_by_label("How many MiB of it are in ZONE_NORMAL")
    field.click()
    for key in (*"880", "Enter"):
        lesson.press(key)
    lesson.wait_idle()
    assert lesson.kernel("ask_normal.answer") == "880"
    lesson.run_cell(INDEX["zones-run"])
    assert "as you predicted" in lesson.output(INDEX["zones-run"]).inner_text()

    # build a machine with more HighMem than Normal, by keyboard
    assert "Not there yet" in lesson.output(INDEX["zones-construct-check"]).inner_text()
    bench = lesson.cell(INDEX["zones-construct-lab"])
    lesson.tab_to(bench.get_by_role("slider", name="RAM"))
    lesson.press("ArrowRight", times=3)
    lesson.tab_to(bench.get_by_label("highmem="))
    for key in "128":
        lesson.press(key)
    lesson.wait_idle()
    assert (lesson.kernel("bench.ram"), lesson.kernel("bench.highmem")) == (192, 128)
    lesson.run_cell(INDEX["zones-construct-check"])
    assert "✓" in lesson.output(INDEX["zones-construct-check"]).inner_text()

    # one page above the running sum in DMA: it serves the request
    rule = lesson.cell(INDEX["sum-lab"])
    exactly = rule.get_by_label("Free pages of DMA, exactly")
    least = 2 + sum(lesson.kernel("[zone['low'] for zone in rule.facts['zones']]"))
    exactly.fill(str(least))
    exactly.press("Enter")
    lesson.wait_idle()
    lesson.run_cell(INDEX["sum-construct-check"])
    assert "✓" in (said := lesson.output(INDEX["sum-construct-check"]).inner_text()) and "the least there is" in said

    # on the map, the address of mem_map is mem_map's
    frames = lesson.cell(INDEX["map-lab"])
    frames.get_by_placeholder("frame or 0x").fill("0x1000020")
    frames.get_by_role("button", name="Go to this frame or address").click()
    lesson.wait_idle()
    assert lesson.kernel("whole.detail['owner']") == "mem_map" and "mem_map" in frames.inner_text()

    # what the lesson computes for 2.6.11 is what the 2.6.11 traces say of 1 GiB and of 16 MiB
    marks = lesson.kernel("{ram: marks_26(vmlab.boot(ram=ram).zones) for ram in ('16M', '1G')}")
    assert list(marks["16M"]["DMA"][:3]) == [128, 160, 192]
    assert list(marks["1G"]["DMA"]) == [17, 21, 25, [0, 880, 1008]]
    assert list(marks["1G"]["Normal"]) == [939, 1173, 1408, [0, 0, 1024]]
