"""Exercise 5: is every right answer paid in full, every misunderstanding refused with its sentence, and does the student's code boot?"""

from __future__ import annotations

import json
import random

import pytest

import vmlab
from tests.helpers import ROOT
from vmlab.course import ex05, ex05_cases, ex05_oracles, plug05
from vmlab.course.testing import STUDENT, judge_with, notebook_path, sentences
from vmlab.mm.bootmem import BootmemAllocator

ID = "05-bootmem"
FOLDER = ROOT / "tests/course/variants/05-bootmem"
TASKS = {task.id: task for task in ex05.EXERCISE.tasks}


def source(grade_id):
    """The solution cell of a task."""
    book = json.loads(notebook_path(ID).read_text(encoding="utf-8"))
    (cell,) = (c for c in book["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)
    return "".join(cell["source"])


def changed(grade_id, *changes):
    """The solution cell with each (old, new) replaced; old must stand there exactly once."""
    text = source(grade_id)
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {grade_id}"
        text = text.replace(old, new)
    return text


def refused(task, cell, word, lost=(), student=STUDENT):
    """Judge one task with *cell* as its answer: the criteria *lost* are lost, and *word* is in what the student reads."""
    result = judge_with(ID, {task: cell}, only=task, student=student)
    judged = result.task(task)
    assert judged.earned < judged.points, f"full marks for a wrong answer: {cell}"
    assert word in sentences(result, task), f"the message does not help: {sentences(result, task)!r}"
    missing = {c.id for c in judged.criteria if not c.ok}
    assert set(lost) <= missing, f"lost {missing}, not {lost}"
    assert not result.warnings, result.warnings
    return missing


# --- the whole exercise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", [STUDENT, "ada", "Linus", "ø"])
def test_the_solution_is_right_for_every_student(student):
    result = judge_with(ID, student=student)
    assert result.earned == result.points == 31, sentences(result)
    assert not sentences(result) and not result.warnings


def test_another_secret_seed_decides_the_same():
    assert judge_with(ID, seed="other").earned == 31


def test_untouched_brings_nothing():
    assert judge_with(ID, untouched=True).earned == 0


def test_students_have_different_numbers():
    for task in ("boot-map", "requests", "search-cost"):
        asked = {json.dumps(TASKS[task].question(ID, name)) for name in ("a", "b", "c", "d", "e", "f")}
        assert len(asked) >= 5, task


def test_five_kinds_of_task():
    assert {task.kind for task in TASKS.values()} == {"calculation", "parsons", "perform", "code", "analyse"}


# --- oracles and questions -------------------------------------------------------------------------------------------------------


def random_case(r):
    pages, start = r.randrange(8, 40), r.choice(ex05_cases.RAM_AT)
    sizes = [r.randrange(1, 300), r.randrange(1, 9000), 4096, 8192, 0]
    data = {"start": start, "pages": pages, "free": ex05_cases.free_map(r, pages)}
    requests = [[r.choice(sizes), 1 << r.randrange(2, 15), r.choice([0, 0, start + r.randrange(pages * 4096)])] for _ in range(7)]
    orders = [[r.choice(["reserve", "free"]), start + r.randrange(pages * 4096), r.randrange(0, 20000)] for _ in range(4)]
    return data | {"requests": requests, "orders": orders}


def test_the_model_of_mistakes_makes_none_by_itself():
    r = random.Random(5)
    for _ in range(400):
        data = random_case(r)
        assert ex05_oracles.flawed(data, "") == ex05_oracles.alloc_steps(data)
        assert ex05_oracles.flawed_marks(data, "") == ex05_oracles.mark_steps(data)


def test_every_mistake_can_be_told_from_the_truth_in_the_hidden_cases():
    for task, model, truth, flaws in (
        ("alloc-core", ex05_oracles.flawed, ex05_oracles.alloc_steps, ex05_cases.FLAWS),
        ("marks", ex05_oracles.flawed_marks, ex05_oracles.mark_steps, ex05_cases.MARK_FLAWS),
    ):
        for seed in range(12):
            cases = [c.data for c in TASKS[task].hidden(random.Random(seed))]
            for flaw in flaws:
                assert any(model(data, flaw) != truth(data) for data in cases), (task, flaw, seed)


def test_requests_to_perform_show_every_feature():
    for name in "abcdefghij":
        q = TASKS["requests"].question(ID, name)
        assert ex05_cases.features(q) == ("align", "blocked", "goal", "rest", "spill")
        assert len(ex05_oracles.columns(ex05_oracles.alloc_steps(q))["address"]) == len(q["requests"])


def test_search_cost_counts_the_bits_a_plain_loop_tests():
    for ram in ("16M", "24M", "64M", "200M"):
        for hint in (False, True):
            assert plug05.search_cost(ram, plug05.POLICIES[hint]).bits_tested == plain_count(ram, hint), (ram, hint)


def plain_count(ram, hint):
    """The scan of 2.4 written out bit by bit, on the map as it is before each request of the boot."""
    count = [0, 0]  # bits, last_success

    class Counting(BootmemAllocator):
        def alloc_bootmem_core(self, bdata, size, align, goal):
            bits, eidx = bytes(bdata.map), bdata.node_low_pfn
            preferred = goal if goal and goal >> 12 < eidx else 0
            if hint and preferred:
                preferred = max(preferred, count[1])
            first, pages = (preferred + align - 1) // align * align >> 12, (size + 4095) // 4096
            while True:
                for i in range(first, eidx, align >> 12 or 1):
                    count[0] += 1
                    j = i
                    while not bits[j]:
                        j += 1
                        if j == i + pages:
                            count[1] = i << 12
                            return super().alloc_bootmem_core(bdata, size, align, goal)
                        if j >= eidx:
                            break
                        count[0] += 1
                assert first, "a boot finds room"
                first = 0

    m = vmlab.Machine(ram, bootmem=Counting)
    m.power_on()
    return count[0]


def test_search_cost_refuses_an_unknown_policy():
    with pytest.raises(ValueError, match="first fit"):
        plug05.search_cost("64M", policy="best fit")


# --- calculation -----------------------------------------------------------------------------------------------------------------

BOOT_MAP = [
    ("boot_map['bitmap_bytes'] = pages", "one bit for each page", "bitmap_bytes"),
    ("boot_map['bitmap_bytes'] = (pages + 7) // 8", "whole longs", "bitmap_bytes"),
    ("boot_map['bitmap_bytes'] = pages // 8", "round up, not down", "bitmap_bytes"),
    ("boot_map['bitmap_bytes'] = -(-map_bytes(pages) // 4096) * 4096", "not about the whole pages", "bitmap_bytes"),
    ("boot_map['bitmap_pfn'] -= 1", "PFN_UP", "bitmap_pfn"),
    ("boot_map['bitmap_pfn'] *= 4096", "number of the frame", "bitmap_pfn"),
    ("boot_map['next_free_pfn'] -= 1", "stays reserved", "next_free_pfn"),
    ("boot_map['next_free_pfn'] = bitmap_pfn", "comes the boot map itself", "next_free_pfn"),
    ("boot_map['free_pages'] += 1", "Frame 0", "free_pages"),
    ("boot_map['free_pages'] += 97", "640 KiB to 1 MiB", "free_pages"),
    ("boot_map['free_pages'] -= 158", "below the kernel", "free_pages"),
    ("boot_map['big_bitmap_bytes'] = q['big_mib'] * 256 // 8", "low memory only", "big_bitmap_bytes"),
    ("boot_map = list(boot_map.values())", "must be a dict", "free_pages"),
    ("boot_map['free_pages'] = ...", "not been filled in", "free_pages"),
]


@pytest.mark.parametrize(("line", "word", "criterion"), BOOT_MAP)
def test_wrong_boot_maps(line, word, criterion):
    missing = refused("boot-map", source("boot-map") + "\n" + line, word, [criterion], student="ada")
    assert len(missing) == 1 or "list" in line, "one misunderstanding costs one part"


def test_a_boot_map_calculated_otherwise():
    cell = """
import math
from math import ceil
numbers = course.question("05-bootmem/boot-map")
low = min(numbers["ram_kib"] * 1024, 896 << 20)
size = ceil(low / 4096 / 32) * 4
start = ceil(numbers["kernel_end"] / 4096)
after = start + (size + 4095) // 4096 + 1
print("a print is no mistake")
boot_map = dict(bitmap_bytes=size, bitmap_pfn=start, next_free_pfn=after, big_bitmap_bytes=896 * 32,
                free_pages=float(len(range(1, 159)) + low // 4096 - after))
"""
    assert judge_with(ID, {"boot-map": cell}, only="boot-map", student="grace").task("boot-map").earned == 5


# --- reserve and free ------------------------------------------------------------------------------------------------------------

R_FIRST = ("first = (addr - bdata.node_boot_start) // PAGE_SIZE", "first = -(-(addr - bdata.node_boot_start) // PAGE_SIZE) ")
R_END = ("end = -(-(addr + size - bdata.node_boot_start) // PAGE_SIZE)", "end = (addr + size - bdata.node_boot_start) // PAGE_SIZE ")
F_FIRST = ("first = -(-(addr - bdata.node_boot_start) // PAGE_SIZE)\n", "first = (addr - bdata.node_boot_start) // PAGE_SIZE\n")
F_END = ("end = (addr + size - bdata.node_boot_start) // PAGE_SIZE\n", "end = -(-(addr + size - bdata.node_boot_start) // PAGE_SIZE)\n")
OUTWARDS, INWARDS = f"{R_FIRST[0]}\n    {R_END[0]}\n", f"{F_FIRST[0]}    {F_END[0]}"
TWICE = "return sum(bdata.set_bit(i) for i in range(first, end))"
CHECKS = "    if not size or end > bdata.pages:\n        BUG()\n"
MARKS = [
    ("reserve inwards", [R_FIRST, R_END], "round outwards", ["reserve"]),
    ("free outwards", [F_FIRST, F_END], "round inwards", ["free"]),
    ("both the wrong way round", [(OUTWARDS, "@"), (INWARDS, OUTWARDS), ("@", INWARDS)], "round outwards", ["reserve", "free"]),
    ("the size is rounded, not the end", [(R_END[0], "end = first + -(-size // PAGE_SIZE)")], "end of the range", ["reserve"]),
    ("newly reserved", [(TWICE, TWICE.replace("bdata", "1 - bdata"))], "newly reserved", ["twice"]),
    ("nothing returned", [(TWICE, TWICE.replace("return ", ""))], "has to return a number", ["twice"]),
    ("only whether", [(TWICE, TWICE.replace("sum", "max") + " > 0")], "number of pages", ["twice"]),
    (
        "reserving twice is a BUG",
        [(TWICE, TWICE.replace("return sum", "twice = sum") + "\n    if twice:\n        BUG()\n    return 0")],
        "Reserving a page twice is allowed",
        ["reserve", "twice"],
    ),
    ("freeing twice is allowed", [('            BUG("free already")', "            pass")], "free", ["bug"]),
]


@pytest.mark.parametrize(("title", "changes", "word", "lost"), MARKS, ids=lambda x: x if isinstance(x, str) else "")
def test_wrong_marks(title, changes, word, lost):
    refused("marks", changed("marks", *changes), word, lost)


@pytest.mark.parametrize(
    ("old", "new", "word", "lost"),
    [
        ("addr - bdata.node_boot_start", "addr", "counts from the start of the node", "free"),
        ("if not size or end > bdata.pages", "if end > bdata.pages", "size of 0", "bug"),
        ("if not size or end > bdata.pages", "if not size", "IndexError", "bug"),
        ("BUG(", "print(", "must end in BUG()", "bug"),
    ],
)
def test_wrong_marks_in_both_functions(old, new, word, lost):
    text = source("marks").replace(old, new)
    if old.startswith("addr"):
        text = text.replace("addr + size - bdata.node_boot_start", "addr + size")
    if old == "BUG(":  # nothing is checked at all
        text = text.replace(CHECKS, "").replace("range(first, end)", "range(first, min(end, bdata.pages))")
    refused("marks", text, word, [lost])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*-right-*.txt")), ids=lambda p: p.stem)
def test_differently_written_right_answers(path):
    task = path.stem.partition("-right-")[0]
    result = judge_with(ID, {task: path.read_text(encoding="utf-8")}, only=task)
    assert result.task(task).earned == result.task(task).points, sentences(result, task)


# --- perform ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flaw", "key"),
    [
        ("no-merge", "address"),
        ("page-after-not-needed", "address"),
        ("offset-not-aligned", "address"),
        ("takes-whole-pages", "address"),
        ("no-goal", "address"),
        ("no-align", "address"),
        ("size-as-offset", "last_offset"),
        ("free-rest", "last_offset"),
        ("merge-anywhere", "address"),
        ("last-pos-kept", "last_pos"),
        ("round-down", "address"),
    ],
)
def test_misunderstandings_in_the_performance_are_named(flaw, key):
    for student in "abcdefghijklmnopqrstuvwxyz":
        q = TASKS["requests"].question(ID, student)
        wrong, right = (ex05_oracles.columns(ex05_oracles.flawed(q, f)) for f in (flaw, ""))
        named = [m.id.removesuffix(f"-{key}") for m in TASKS["requests"].mistakes if m.criterion == key and m.gives]
        earlier = [f for f in named[: named.index(flaw)] if f in ex05_cases.FLAWS]
        others = [ex05_oracles.columns(ex05_oracles.flawed(q, f))[key] for f in earlier]
        if wrong[key] != right[key] and wrong[key] not in others:
            refused("requests", f"requests = {wrong!r}", ex05_cases.FLAWS[flaw], [key], student=student)
            return
    pytest.fail(f"no student's numbers show {flaw}")


def test_page_numbers_instead_of_addresses():
    refused(
        "requests",
        source("requests") + "\nrequests['address'] = [a // 4096 for a in requests['address']]",
        "bytes, not page numbers",
        ["address"],
    )


def test_one_answer_short():
    refused("requests", source("requests") + "\nrequests['address'].pop()", "One number for each request", ["address"])


# --- orders ----------------------------------------------------------------------------------------------------------------------

ORDERS = [
    ("alloc-order", "CDGEIAF", "best fit"),
    ("alloc-order", "HCBGEIAF", "searches for whole pages first"),
    ("alloc-order", "CBGEIAJF", "only one partial page"),
    ("alloc-order", "CBGAEIF", "E before A"),
    ("alloc-order", "CBGIEAF", "E before I"),
    ("alloc-order", "CGBEIAF", "only when the first"),
    ("alloc-order", "CBGEIA", "missing at the end"),
    ("alloc-order", "", "No line has been chosen"),
    ("alloc-order", "CBX", "no line 'X'"),
    ("retire-order", "DCBAH", "one at a time"),
    ("retire-order", "DFBAH", "reserved"),
    ("retire-order", "DEBAG", "top down"),
    ("retire-order", "BDEAH", "read to the end"),
    ("retire-order", "DEABH", "through its pointer"),
    ("retire-order", "DEBA", "missing at the end"),
]


@pytest.mark.parametrize(("task", "letters", "word"), ORDERS)
def test_wrong_orders(task, letters, word):
    refused(task, f"{task.replace('-', '_')} = {list(letters)!r}", word, ["order"])


@pytest.mark.parametrize(
    ("task", "letters"), [("alloc-order", "C B G E A I F"), ("alloc-order", "C,B,G,E,I,A,F"), ("retire-order", "DEBAH")]
)
def test_right_orders(task, letters):
    result = judge_with(ID, {task: f"print('x'); {task.replace('-', '_')} = {letters!r}"}, only=task)
    assert result.task(task).earned == 2


# --- the allocator ---------------------------------------------------------------------------------------------------------------

MERGE = "if align <= PAGE_SIZE and bdata.last_offset and bdata.last_pos + 1 == start:"
NEED = "need = max(-(-size // PAGE_SIZE), 0)"
POS, OFFSET = "bdata.last_pos = start + need - 1", "bdata.last_offset = size % PAGE_SIZE"
SECOND = "if start is None and wish:"
FIND = "start = first_fit(bdata, wish, step, need)\n"
CANNOT = "    if start is None:\n        return None"
BEST_FIT = """
    runs, i = [], 0
    while i < bdata.pages:
        k = i
        while k < bdata.pages and not bdata.test_bit(k):
            k += 1
        runs += [(k - i, i)] if k - i >= need else []
        i = max(k, i + 1)
    start = min(runs)[1] if runs else None
"""
ALLOC = [
    ("no merging", [(MERGE, "if False:")], "no-merge", ["merge", "boot"]),
    ("merging wherever there is a rest", [(" and bdata.last_pos + 1 == start:", ":")], "merge-anywhere", ["merge"]),
    (
        "the rest is not aligned",
        [("inside = -(-bdata.last_offset // align) * align", "inside = bdata.last_offset")],
        "offset-not-aligned",
        ["merge", "boot"],
    ),
    ("all pages are taken after a merge", [(NEED, "pass")], "takes-whole-pages", ["merge"]),
    (
        "the size becomes last_offset",
        [(NEED, NEED + "\n        size += PAGE_SIZE - inside if size < 0 else 0")],
        "size-as-offset",
        ["merge"],
    ),
    ("last_pos stays behind", [(POS, f"{POS} if address % PAGE_SIZE == 0 else bdata.last_pos")], "last-pos-kept", ["merge"]),
    ("a full page leaves 4096", [(OFFSET, OFFSET + " or PAGE_SIZE")], "full-page-4096", []),
    ("bytes left instead of used", [(OFFSET, "bdata.last_offset = -size % PAGE_SIZE")], "free-rest", ["merge"]),
    ("the goal is ignored", [(FIND, "start = first_fit(bdata, 0, step, need)\n")], "no-goal", ["goal", "boot"]),
    ("no second search", [(SECOND, "if False:")], "no-restart", ["goal"]),
    (
        "the goal is not relative to the node",
        [("wish = goal - bdata.node_boot_start", "wish = goal"), ("wish < 0 or", "goal < bdata.node_boot_start or")],
        "no-goal",
        ["goal"],
    ),
    ("steps of one page", [("step = max(align // PAGE_SIZE, 1)", "step = 1")], "", ["goal"]),
    (
        "no alignment at all",
        [("step = max(align // PAGE_SIZE, 1)", "step = 1"), ("wish = -(-wish // align) * align // PAGE_SIZE", "wish = wish // PAGE_SIZE")],
        "no-align",
        ["goal"],
    ),
    (
        "best fit",
        [(FIND, FIND + BEST_FIT), (SECOND, "if False:")],
        "best-fit",
        ["search"],
    ),
    (
        "from the top down",
        [("for i in range(first, bdata.pages - need + 1, step):", "for i in range(bdata.pages - need, first - 1, -1):")],
        "top-down",
        ["search"],
    ),
    ("an offset instead of an address", [("return address", "return address - bdata.node_boot_start")], "no-base", ["search"]),
    (
        "size rounded down",
        [("need = -(-size // PAGE_SIZE)\n    step", "need = max(size // PAGE_SIZE, 1)\n    step")],
        "round-down",
        ["merge"],
    ),
    ("a page too many", [("need = -(-size // PAGE_SIZE)\n    step", "need = size // PAGE_SIZE + 1\n    step")], "one-more", ["search"]),
    ("nothing is marked", [("        bdata.set_bit(i)", "        pass")], "no-mark", ["search", "boot"]),
    ("0 for None", [(CANNOT, CANNOT.replace("return None", "return 0"))], "zero-for-none", ["refuse"]),
    (
        "no BUG",
        [("        BUG()", "        pass"), ("-(-wish // align) * align", "-(-wish // (align or 1)) * align")],
        "no-bug",
        ["refuse"],
    ),
    (
        "division with /",
        [("address = bdata.node_boot_start + start * PAGE_SIZE", "address = bdata.node_boot_start + start * PAGE_SIZE / 3")],
        "float",
        ["search"],
    ),
]
SAYS = {m.id: m.says for m in TASKS["alloc-core"].mistakes} | {"": "differ"}


@pytest.mark.parametrize(("title", "changes", "flaw", "lost"), ALLOC, ids=lambda x: x if isinstance(x, str) else "")
def test_wrong_allocators_are_refused_by_name(title, changes, flaw, lost):
    missing = refused("alloc-core", changed("alloc-core", *changes), SAYS[flaw], lost)
    assert missing, title


def test_merging_costs_only_what_it_decides():
    missing = refused("alloc-core", changed("alloc-core", (MERGE, "if False:")), "partial-page merging", ["merge"])
    assert missing == {"merge", "boot"}, "whole pages, goals and refusals were right"


def test_merging_across_a_large_alignment_is_refused():
    refused("alloc-core", changed("alloc-core", ("if align <= PAGE_SIZE and ", "if ")), "more than a page cannot be met", ["merge"])


# --- measuring -------------------------------------------------------------------------------------------------------------------

COSTS = [
    ("search_costs['bits_first_fit'], search_costs['bits_hint'] = hint, first", "the other policy", "bits_first_fit"),
    ("search_costs['bits_first_fit'] = first[::-1]", "in the order of the question", "bits_first_fit"),
    ("search_costs['extra_pages'] = [x + 196 for x in extra]", "the difference", "extra_pages"),
    (
        "mib = course.question('05-bootmem/search-cost')['ram_mib']; search_costs['growth'] = mib[-1] / mib[0]",
        "how much larger the RAM is",
        "growth",
    ),
    ("search_costs['growth'] = 1 / search_costs['growth']", "wrong way round", "growth"),
    ("search_costs['growth'] = ...", "not been filled in", "growth"),
    ("search_costs = None", "must be a dict", "growth"),
]


@pytest.mark.parametrize(("line", "word", "criterion"), COSTS)
def test_wrong_figures(line, word, criterion):
    refused("search-cost", source("search-cost") + "\n" + line, word, [criterion], student="ada")


def test_rounded_growth_is_right():
    cell = source("search-cost") + "\nsearch_costs['growth'] = round(search_costs['growth'], 1)"
    assert judge_with(ID, {"search-cost": cell}, only="search-cost", student="ada").task("search-cost").earned == 4
