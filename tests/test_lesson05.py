"""Does lesson 5 say what is so? Its cells are executed here with the questions recorded and the pictures left out."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace

import nbformat
import pytest

import vmlab.course
import vmlab.views
from tests.helpers import ROOT
from vmlab.course.lab05 import Bench, Toy

NOTEBOOK = nbformat.read(ROOT / "notebooks" / "05-boot-memory-allocator.ipynb", as_version=4)
CODE = {cell.id: cell for cell in NOTEBOOK.cells if cell.cell_type == "code"}


class Asked:
    """A prediction that only remembers what was asked and revealed."""

    def __init__(self, question, choices=()):
        self.question, self.choices = question, [str(choice) for choice in choices]
        self.truths: list[str] = []
        self.because = ""

    def reveal(self, truth, because="", tolerance=0.0):
        self.truths.append(str(truth))
        self.because = because


class Lesson:
    """The notebook's cells, executed in one namespace; `asked` holds the latest question of each key."""

    def __init__(self, monkeypatch):
        self.asked: dict[str, Asked] = {}
        self.names: dict[str, object] = {}
        monkeypatch.setattr(vmlab.course, "predict", self._predict)
        for view in ("bootmem", "buddy", "frames"):
            monkeypatch.setattr(vmlab.views, view, lambda *_args, **_options: SimpleNamespace())

    def _predict(self, key, question, choices=(), unit=""):
        self.asked[key] = Asked(question, choices)
        return self.asked[key]

    def run(self, cell_id):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(CODE[cell_id].source, cell_id, "exec"), self.names)
        return said.getvalue()

    def run_all(self):
        for cell_id in CODE:
            self.run(cell_id)
        return self

    @property
    def truths(self):
        return {key: asked.truths[-1] for key, asked in self.asked.items()}


@pytest.fixture(scope="module")
def lesson():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Lesson(monkeypatch).run_all()


def test_every_question_is_answered_and_can_be_answered_rightly(lesson):
    assert len(lesson.asked) >= 18
    for key, asked in lesson.asked.items():
        assert key.startswith("05-") and len(asked.truths) == 1 and asked.because.strip(), key
        if asked.choices:
            assert len(set(asked.choices)) == len(asked.choices) >= 2
            assert asked.truths[0] in asked.choices, f"{key}: nobody can choose {asked.truths[0]!r}"
        else:
            float(asked.truths[0])


# What the real kernel did on these machines: golden traces and their README, part A, and mm/bootmem.c.
KNOWN = {
    "05-recall-frames": "16384",
    "05-recall-zone": "Normal",
    "05-recall-mem-map": "1.2 %",
    "05-recall-low": "896",
    "05-requests": "26",
    "05-map-size": "2048",
    "05-first-state": "0",
    "05-double-rounding": "760",
    "05-first-fit": "2",
    "05-goal": "low, right after the pages taken so far",
    "05-merge": "128",
    "05-page-after": "4",
    "05-saving": "22",
    "05-hang": "searches for ever",
    "05-free-rounding": "1",
    "05-twice": "freeing twice",
    "05-retire": "15587",
    "05-order": "Normal: the highest; HighMem: the lowest",
    "05-hint": "about 15 times",
}


def test_the_revealed_truths_are_the_kernels(lesson):
    assert lesson.truths == KNOWN


def test_each_cell_can_be_run_again(monkeypatch):
    """A reader runs a cell twice, and comes back to an answer after having run everything."""
    twice = Lesson(monkeypatch)
    for cell_id in CODE:
        twice.run(cell_id)
        twice.run(cell_id)
    assert twice.truths == KNOWN
    for cell_id in reversed([c for c in CODE if ".reveal(" in CODE[c].source]):
        twice.run(cell_id)
    assert twice.truths == KNOWN


def test_questions_and_answers_are_folded():
    for cell_id, cell in CODE.items():
        asks = "course.predict(" in cell.source or ".reveal(" in cell.source
        assert bool(cell.metadata.get("jupyter", {}).get("source_hidden")) == asks, cell_id
        assert not asks or cell.source.startswith("# "), f"{cell_id}: its first line is what a folded cell shows"


def test_no_visible_line_is_cut_off():
    wide = [(c, line) for c, cell in CODE.items() if "jupyter" not in cell.metadata for line in cell.source.split("\n") if len(line) > 110]
    assert not wide


# --- the bench -------------------------------------------------------------------------------------------------------------------


def test_the_toy_counts_bytes_as_the_requests_lie():
    toy = Toy(free=[(1, 3), (4, 12)])
    for size in (100, 50, 4100, 8000):
        toy.alloc(size)
    cells = toy.cells()
    assert cells[1] == ("allocated", 150) and cells[3] == ("reserved", 0) and cells[2] == ("free", 0)
    assert sum(used for _, used in cells) == 100 + 50 + 4100 + 8000
    before = str(toy)
    toy.alloc(7)
    toy.undo()
    assert str(toy) == before
    assert "page 1 allocated, 150 bytes used" in toy.text_alternative


def test_the_bench_does_what_it_is_asked():
    bench = Bench(Toy(free=[(1, 5), (6, 12)]))
    assert bench.last == -1
    bench.ask(100)
    bench.ask(3968)
    assert bench.toy.bdata.last_offset == 0 and "in the rest of a page" in bench.outcome and "last_offset 0" in bench.numbers
    bench.undo()
    assert bench.toy.bdata.last_offset == 100 and bench.cells[1] == ["allocated", 100]
    bench.ask(100, goal=7 * 4096)
    assert bench.last == 7
    bench.ask(1 << 20)
    assert "nothing fits" in bench.outcome
    bench.ask(10, align=24)
    assert "The kernel stops" in bench.outcome
    bench._on_message(bench, {"do": "ask", "size": 1.5, "align": 32, "goal": 0}, [])
    assert "whole number" in bench.outcome
    bench.reset()
    assert bench.requests == 0 and bench.text_alternative == bench.toy.text_alternative
