"""Does lesson 6 say what is so? Its cells are executed here with the questions recorded and the pictures left out."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from types import SimpleNamespace

import nbformat
import pytest

import vmlab.course
import vmlab.views
from tests.helpers import ROOT

NOTEBOOK = nbformat.read(ROOT / "notebooks" / "06-physical-page-allocation.ipynb", as_version=4)
CODE = {cell.id: cell for cell in NOTEBOOK.cells if cell.cell_type == "code"}


class Asked:
    """A prediction that only remembers what was asked and revealed."""

    def __init__(self, key, question, choices=(), unit=""):
        self.key, self.question, self.choices, self.unit = key, question, [str(choice) for choice in choices], unit
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
        for view in ("buddy", "frames", "zones", "host"):
            monkeypatch.setattr(vmlab.views, view, lambda *_args, **_options: SimpleNamespace())

    def _predict(self, key, question, choices=(), unit=""):
        self.asked[key] = Asked(key, question, choices, unit)
        return self.asked[key]

    def run(self, cell_id, change=None):
        """Execute a cell, with *change* (old, new) made to its source first; returns what it prints."""
        source = CODE[cell_id].source
        if change is not None:
            assert source.count(change[0]) == 1, f"{cell_id} does not have {change[0]!r} once"
            source = source.replace(*change)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(source, cell_id, "exec"), self.names)
        return said.getvalue()

    def run_all(self):
        for cell_id in CODE:
            self.run(cell_id)
        return self


@pytest.fixture(scope="module")
def lesson():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Lesson(monkeypatch).run_all()


def truths(lesson):
    return {key: asked.truths[-1] for key, asked in lesson.asked.items()}


def test_every_question_is_answered_once_and_can_be_answered_rightly(lesson):
    assert len(lesson.asked) > 30
    for key, asked in lesson.asked.items():
        assert key.startswith("06-"), key
        assert len(asked.truths) == 1, f"{key} is revealed {len(asked.truths)} times"
        assert asked.because.strip(), f"{key}: no word on why"
        if asked.choices:
            assert len(set(asked.choices)) == len(asked.choices) >= 2
            assert asked.truths[0] in asked.choices, f"{key}: nobody can choose {asked.truths[0]!r}"
        else:
            float(asked.truths[0])


def test_the_right_choice_cannot_be_guessed_from_its_place(lesson):
    places = Counter(asked.choices.index(asked.truths[0]) for asked in lesson.asked.values() if asked.choices)
    assert len(places) >= 3 and max(places.values()) <= 0.5 * sum(places.values()), places


# What the real kernel did on these machines: shared/golden/README.md, part A, and mm/page_alloc.c.
KNOWN = {
    "06-recall-normal": "12288",
    "06-recall-min": "96",
    "06-recall-zonelist": "HighMem, Normal, DMA",
    "06-recall-upwards": "from low frames to high",
    "06-order9": "23",
    "06-buddy-of": "8",
    "06-ones": "as many",
    "06-head": "the highest in memory",
    "06-which-half": "4544",
    "06-left-in-normal": "25",  # strict: 25 is not more than 1 + 96 / 4
    "06-need-balance": "only Normal",
    "06-hang": "a request never returns, with more pages left",
    "06-order-four": "it fails",
    "06-merges": "2",
    "06-same-state": "nothing but the counters",
    "06-reserved": "nothing",
    "06-pieces": "9",
    "06-dma-and-highmem": "DMA",
    "06-gfp-high": "both the same",
    "06-gfp-dma": "it fails, like GFP_ATOMIC",
    "06-memalloc": "0",
    "06-local-page": "from its own hands, without a free list",
    "06-keep-lower-fragmentation": "exactly the same",
    "06-last-left": "9",
    "06-last-half": "8448",
}


@pytest.mark.parametrize("key", KNOWN)
def test_the_revealed_truth_is_the_kernels(lesson, key):
    assert truths(lesson)[key] == KNOWN[key]


def test_the_2_6_rules_are_those_of_the_real_2_6_11(lesson):
    """1 GiB as README-2.6.md has it: low 21 and 1173, protection DMA [0, 880, 1008], Normal [0, 0, 1024]."""
    low, protection = lesson.names["rules_26"]([4096, 225280, 32768])
    assert (low, protection) == ([21, 1173], [[0, 880, 1008], [0, 0, 1024]])


def test_each_cell_can_be_run_again(monkeypatch):
    """A reader goes back, changes a line, runs a cell twice: the same truths as in one go."""
    once, twice = Lesson(monkeypatch).run_all(), Lesson(monkeypatch)
    for cell_id in CODE:
        twice.run(cell_id)
        twice.run(cell_id)
    assert truths(twice) == truths(once)


def test_an_answer_is_still_true_when_it_is_run_again_later(monkeypatch):
    """Run all, then commit a prediction and run its answer again: no later cell may have changed what it is computed from."""
    lesson = Lesson(monkeypatch).run_all()
    before = truths(lesson)
    for cell_id in reversed([cell_id for cell_id in CODE if ".reveal(" in CODE[cell_id].source]):
        lesson.run(cell_id)
    assert truths(lesson) == before
    others = [cell_id for cell_id in CODE if ".reveal(" not in CODE[cell_id].source and "predict(" not in CODE[cell_id].source]
    for cell_id in reversed(others):  # and a reader who goes back to an experiment finds it as it was
        lesson.run(cell_id)
    for cell_id in CODE:
        if ".reveal(" in CODE[cell_id].source:
            lesson.run(cell_id)
    assert truths(lesson) == before


def test_questions_and_answers_are_folded_and_give_nothing_away():
    folded = {cell_id for cell_id, cell in CODE.items() if cell.metadata.get("jupyter", {}).get("source_hidden")}
    for cell_id, cell in CODE.items():
        if "course.predict(" in cell.source or ".reveal(" in cell.source:
            assert cell_id in folded, f"{cell_id} shows the answer before it is asked for"
            assert cell.source.startswith("# "), f"{cell_id}: its first line is what a folded cell shows"
        elif "helper" not in cell_id:
            assert cell_id not in folded, f"{cell_id} is folded without need"


def test_no_visible_line_is_cut_off():
    """What is not folded must fit beside the file browser: 112 columns."""
    shown = {cell_id: cell for cell_id, cell in CODE.items() if "jupyter" not in cell.metadata}
    wide = [(cell_id, line) for cell_id, cell in shown.items() for line in cell.source.split("\n") if len(line) > 112]
    assert not wide


@pytest.mark.parametrize(
    "keep, goal, verdict",
    [
        ("range(0, 512, 64)", 3, "not yet"),
        ("range(0, 512, 16)", 3, "with the fewest pages possible!"),
        ("range(0, 512, 8)", 3, "reached, but fewer pages will do"),
        ("range(0, 512, 2)", 0, "with the fewest pages possible!"),
        ("range(0, 512, 3)", 0, "not yet"),
        ("()", 3, "not yet"),
        ("range(512)", 0, "reached, but fewer pages will do"),
    ],
)
def test_the_hoarders_puzzle_judges_rightly(lesson, keep, goal, verdict):
    said = lesson.run("construct-cell", ("goal = 3 ", f"goal = {goal}; keep = {keep} "))
    assert verdict in said, said


def test_what_the_reader_is_invited_to_change_works(lesson):
    said = lesson.run("head-modify-cell", ('ram = "64M"', 'ram = "1G"'))
    assert "HighMem" in said and "the lowest is first" in said.splitlines()[2] and "the highest is first" in said.splitlines()[1]
    assert "4 ↔" not in lesson.run("buddy-modify-cell", ("index, order = 12, 3", "index, order = 12, 4"))
    said = lesson.run("local-modify-cell", ("orders=[0, 1], want=1", "orders=[1, 0], want=1"))
    assert said.startswith("from its own hands")
    assert "a request fails" in lesson.run("gfp-modify-cell", ("GFP_NOFS | GFP_DMA ", "GFP_NOFS & ~0x10 "))
    lesson.run("hang-modify-cell", ("[GFP_ATOMIC, GFP_KERNEL, GFP_DMA]", "[GFP_USER, GFP_KERNEL | GFP_DMA]"))
    lesson.run("workloads-table", ('"16M", 4000, 1', '"32M", 500, 3'))
    lesson.run("walk-modify-cell", ("16, 1 ", "16, 0 "))


def test_allocators_of_the_lesson_keep_every_invariant(lesson):
    for name in ("Choosing", "Fifo", "Apart", "Mine", "KeepLower", "HotPages"):
        for workload in vmlab.WORKLOADS:
            m = vmlab.boot(ram="16M", kernel_objects=None, page_allocator=lesson.names[name])
            m.run(vmlab.workload(workload, seed=5, n=1500))
            m.check()
        vmlab.boot(ram="32M", page_allocator=lesson.names[name]).check()  # and they carry a whole machine


def test_apart_wins_in_one_world_and_pays_in_the_other(lesson):
    """The reader is asked what it pays: so it must."""
    index = {}
    for name in ("Choosing", "Apart"):
        m = vmlab.boot(ram="16M", page_allocator=lesson.names[name])
        m.run(vmlab.workload("mixed", seed=1, n=4000))
        index[name] = m.fragmentation(m.zones[0], 6)
    assert index["Apart"] > index["Choosing"]
    assert truths(lesson)["06-apart"] == "much better" and truths(lesson)["06-fifo"] == "about the same"


def test_choosing_alone_changes_nothing(lesson):
    """The base class of the reader's allocators must be the kernel's, block for block, on a tape as well."""
    machines = []
    for allocator in (vmlab.PageAllocator, lesson.names["Choosing"]):
        m = vmlab.boot(ram="16M", page_allocator=allocator)
        with m.record() as tape:
            m.run(vmlab.workload("mixed", seed=7, n=2000))
        machines.append((m, tape))
    (plain, plain_tape), (chosen, chosen_tape) = machines
    assert not vmlab.compare(plain, chosen), vmlab.compare(plain, chosen)
    assert len(plain_tape) == len(chosen_tape)
    for event in range(100, len(plain_tape), 997):  # in the middle of operations too
        assert not vmlab.compare(plain_tape.seek(event), chosen_tape.seek(event)), event


def test_a_reader_in_the_lab_predicts_and_goes_through_a_split(lab):
    """The whole lesson in JupyterLab: no failed cell, nothing on the console; a prediction by keyboard, a tape step by step."""
    ids = [cell.id for cell in NOTEBOOK.cells]
    lab.open("notebooks/06-physical-page-allocation.ipynb").run_all()

    def show(cell_id):
        index = ids.index(cell_id)
        lab.page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')", index)
        lab.wait_idle()
        return lab.cell(index)

    field = show("half-question").get_by_label("Your prediction")
    field.fill("4352")
    field.press("Enter")
    lab.wait_idle()
    assert lab.kernel("ask_half.answer") == "4352"
    field.press("Shift+Enter")  # on to the next cell, as everywhere in a notebook
    assert lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == ids.index("half-question") + 1
    assert not field.evaluate("element => element === document.activeElement")
    lab.run_cell(ids.index("half-answer"))
    assert "4544" in show("half-answer").inner_text() and "not what you predicted" in show("half-answer").inner_text()

    timeline = show("split-view").get_by_label("Position on the tape", exact=False).first
    for key in ["Home"] + ["ArrowRight"] * 6:
        timeline.press(key)
    lab.wait_idle()
    lab.kernel_says("split_view.position", 5)
    assert "the lower half 4352 goes to the order-7 list" in show("split-view").inner_text()
