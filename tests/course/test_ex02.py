"""Exercise 2: is every right answer paid in full, every misunderstanding refused with its sentence, and does the student's class boot?"""

from __future__ import annotations

import json
import random
import re

import pytest

import vmlab
from tests.helpers import ROOT
from vmlab.course import ex02, ex02_code, ex02_models, ex02_paper, plug02
from vmlab.course.kit import zones as kit
from vmlab.course.testing import STUDENT, judge_with, notebook_path, sentences

ID = "02-zones"
RIGHT = sorted((ROOT / "tests/course/variants/02-zones").glob("right-*.cell"))


def source(grade_id):
    """The solution cell of a task."""
    book = json.loads(notebook_path(ID).read_text(encoding="utf-8"))
    (cell,) = (c for c in book["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)
    return "".join(cell["source"])


def refused(task, cell, word, criterion="", student=STUDENT):
    """Judge one task with *cell* as its answer: less than full points, and *word* in what the student reads."""
    result = judge_with(ID, {task: cell}, only=task, student=student)
    judged = result.task(task)
    assert judged.earned < judged.points, f"full marks for a wrong answer: {cell}"
    assert word in sentences(result, task), f"the message does not help: {sentences(result, task)!r}"
    if criterion:
        lost = {c.id for c in judged.criteria if c.earned < c.points}
        assert criterion in lost and len(lost) <= 2, f"the wrong part was refused: {lost}"


# --- the whole exercise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", [STUDENT, "ada", "Linus", "ø"])
def test_the_solution_is_right_for_every_student(student):
    result = judge_with(ID, student=student)
    assert result.earned == result.points == 25
    assert not sentences(result)


def test_untouched_brings_nothing():
    assert judge_with(ID, untouched=True).earned == 0


def test_students_have_different_numbers():
    for task in ("watermarks", "page-flags", "running-sum", "tuning"):
        asked = {json.dumps(ex02.EXERCISE.task(task).question(ID, name)) for name in ("a", "b", "c", "d", "e", "f")}
        assert len(asked) >= 5, task


# --- the questions are good questions --------------------------------------------------------------------------------------------


def test_models_with_nothing_misunderstood_agree_with_the_core():
    for seed in range(60):
        q = ex02.pass_inputs(random.Random(seed))
        assert ex02.pass_oracle(q) == ex02.run_model(q)


def test_every_running_sum_question_tells_the_misunderstandings_apart():
    for seed in range(40):
        q = ex02.pass_inputs(random.Random(seed))
        wrong = [{"per_zone": True}, {"at_least": True}, {"quarter": False}, {"dma_wins": False}]
        answers = [ex02.pass_oracle(q)["grants"]] + [ex02.run_model(q, **one)["grants"] for one in wrong]
        assert len({repr(one) for one in answers}) == 5, answers


def test_every_watermark_question_meets_a_limit():
    for seed in range(60):
        q = ex02_paper.watermark_inputs(random.Random(seed))
        answer = ex02_paper.watermark_oracle(q)
        marks = {answer["normal"][0], answer["highmem"][0]}
        assert len(marks & {20, 255}) == 1, (q, answer)
        assert sum(answer["sizes"]) == q["ram_mib"] * 256


def test_watermarks_are_those_of_a_booted_machine():
    q = ex02_paper.watermark_inputs(random.Random(5))
    m = vmlab.boot(f"{q['ram_mib']}M", highmem_pages=q["highmem_mib"] * 256, memfrac=",".join(map(str, q["memfrac"])))
    answer = ex02_paper.watermark_oracle(q)
    assert answer["sizes"] == [z.size for z in m.zones]
    assert answer["normal"] == [m.zones[1].pages_min, m.zones[1].pages_low, m.zones[1].pages_high]
    assert answer["highmem"] == [m.zones[2].pages_min, m.zones[2].pages_low, m.zones[2].pages_high]
    assert answer["wait"] == [z.wait_table_size for z in m.zones[1:]]


def test_every_burst_can_be_served_but_not_by_the_plain_machine():
    choices = set()
    for seed in range(40):
        q = ex02.tuning_inputs(random.Random(seed))
        answer = ex02.tuning_oracle(q)
        assert answer["atomic"]["A"] < q["burst"] <= max(answer["atomic"].values())
        assert answer["atomic"]["D"] == answer["atomic"]["A"], "highmem= should have been ignored for D"
        choices.add(answer["choice"])
    assert choices == {"B", "C", "E"}


# --- task 1 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, word, criterion", [
    ("min(max(pages // divisor, 20), 255)", "pages // divisor", "limits", ""),
    ("min(max(pages // divisor, 20), 255)", "min(max(pages // 128, 20), 255)", "not the usual 128", ""),
    ('q["memfrac"][1]', 'q["memfrac"][0]', "one divisor a zone", "normal"),
    ("3 * least", "4 * least", "three times", ""),
    ('"sizes": [4096, normal, high]', '"sizes": [16, q["ram_mib"] - q["highmem_mib"] - 16, q["highmem_mib"]]', "not in MiB", "sizes"),
    ('"sizes": [4096, normal, high]', '"sizes": [4096, normal + 4096, high]', "belong to DMA", "sizes"),
    ('"sizes": [4096, normal, high]', '"sizes": [4096, normal + high, 0]', "highmem=", "sizes"),
    ('"sizes": [4096, normal, high]', '"sizes": [4096, normal + high, high]', "does not add memory", "sizes"),
    ("[queues(normal), queues(high)]", "[normal // 256, high // 256]", "power of two", "wait"),
    ("[queues(normal), queues(high)]", "[queues(normal) // 2, queues(high) // 2]", "not down", "wait"),
])
def test_wrong_watermarks(old, new, word, criterion):
    cell = source("watermarks")
    assert old in cell
    refused("watermarks", cell.replace(old, new), word, criterion)


def test_late_clamp():
    cell = source("watermarks")
    late = cell.replace(
        "    return [least, 2 * least, 3 * least]", "    return [min(max(k * (pages // divisor), 20), 255) for k in (1, 2, 3)]"
    )
    assert late != cell
    for student in ("solution", "ada", "b"):
        refused("watermarks", late, "Only pages_min is limited", student=student)


def test_watermarks_as_literals_and_floats():
    q = ex02.EXERCISE.task("watermarks").question(ID, STUDENT)
    answer = ex02_paper.watermark_oracle(q)
    right = judge_with(ID, {"watermarks": f"print('hello')\nwatermarks = {answer!r}"}, only="watermarks")
    assert right.task("watermarks").earned == 4
    as_tuples = {k: tuple(float(x) for x in v) for k, v in answer.items()}
    assert judge_with(ID, {"watermarks": f"watermarks = dict({as_tuples!r})"}, only="watermarks").task("watermarks").earned == 4
    del answer["wait"]
    refused("watermarks", f"watermarks = {answer!r}", "no entry 'wait'", "wait")


# --- task 2 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, word, criterion", [
    ("index // 3", "index", "index into zone_table", "node"),
    ('["DMA", "Normal", "HighMem"][index % 3]', "index % 3", "zone's name", "zone"),
    ('["DMA", "Normal", "HighMem"][index % 3]', '["DMA", "Normal", "HighMem"][min(index, 2)]', "modulo 3", "zone"),
    ("for bit, name in NAMES.items() if", "for bit, name in reversed(NAMES.items()) if", "lowest bit up", "flags"),
    ('q["flags"] >> bit & 1', 'q["flags"] >> (bit + 1) & 1', "counted from 0", "flags"),
    ("[name for bit", '["PG_" + name for bit', "without PG_", "flags"),
    ("frames_into_zone * 4096", "frames_into_zone", "multiply the number of frames", "paddr"),
    ('zone["zone_start_paddr"] + ', "", "start of its zone", "paddr"),
    ('// q["sizeof_page"]', "", "size of a struct page", "paddr"),
    ('zone["zone_start_paddr"] + ', '0xC0000000 + zone["zone_start_paddr"] + ', "virtual address", "paddr"),
    ("+ frames_into_zone * 4096", "// 4096 + frames_into_zone", "frame's number", "paddr"),
])
def test_wrong_page(old, new, word, criterion):
    cell = source("page-flags")
    assert old in cell
    students = [s for s in map(str, range(30)) if ex02.EXERCISE.task("page-flags").question(ID, s)["flags"] >> 24 == 4]
    refused("page-flags", cell.replace(old, new), word, criterion, student=students[0])


# --- task 3 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order, word", [
    ("HDBJGEAC", "No page is free yet"),
    ("HDBJGEFC", "order 9 needs no pair bitmap"),
    ("HDBJGEI", "filled once"),
    ("DHBJGEC", "must be added up"),
    ("HBDJGEC", "before the first zone"),
    ("HDBJCGE", "they come last"),
    ("HDEJGBC", "wait table first"),
    ("HDBJG", "missing at the end"),
    ("", "No line has been chosen"),
    ("HDBJGEQ", "no line 'Q'"),
])
def test_wrong_order_of_set_up(order, word):
    refused("set-up", f"set_up = {list(order)!r}", word)


@pytest.mark.parametrize("order", ["HDBJGEC", "HDBEJGC", "HDJGBEC", "HDGBEJC"])
def test_steps_that_do_not_depend_on_each_other_may_change_places(order):
    assert judge_with(ID, {"set-up": f"set_up = {order!r}"}, only="set-up").task("set-up").earned == 2


def test_the_kernel_takes_boot_memory_in_that_order():
    m = vmlab.boot("64M")
    taken = [c.name for c in m.boot_log if c.stage == "paging_init" and "page table" not in c.name]
    assert taken[0] == "mem_map" and taken[1] == "wait table DMA" and taken[2:11] == [f"buddy bitmap DMA order {n}" for n in range(9)]


# --- task 4 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, word, criterion", [
    ('total += zone[mark] >> shift', 'total = (1 << request["order"]) + (zone[mark] >> shift)', "add up along the zonelist", ""),
    ('zone["free"] > total', 'zone["free"] >= total', "strict", "grants"),
    ('0 if request["mask"] & 0x10 else 2', "0", "quarter", "grants"),
    ('if mask & 1:', "if mask & 1 and not mask & 2:", "beats __GFP_HIGHMEM", ""),
    ('1 << request["order"], [], None', "0, [], None", "starts at 2^order", ""),
    ('"low", 0', '"high", 0', "where kswapd stops", ""),
    ('.append(first is None)', ".append(first is None and second is None)", "even if the second one then finds a page", "kswapd"),
    ('.append(first is None)', ".append(first is None and second is not None)", "neither pass can satisfy", "kswapd"),
    ('.append(first is None)', '.append(first is None and bool(request["mask"] & 0x10))', "any request that fails", "kswapd"),
])
def test_wrong_running_sums(old, new, word, criterion):
    cell = source("running-sum")
    assert old in cell
    wrong = cell.replace(old, new)
    tried = 0
    for student in ("solution", "ada", "b", "c", "d", "e", "f", "g"):  # not everybody's numbers show every misunderstanding about kswapd
        result = judge_with(ID, {"running-sum": wrong}, only="running-sum", student=student).task("running-sum")
        if result.earned < result.points:
            refused("running-sum", wrong, word, criterion, student=student)
            tried += 1
            if tried == 2:
                return
    assert tried, "no student's numbers show this misunderstanding"


@pytest.mark.parametrize("task, name", [("page-flags", "page"), ("running-sum", "running_sum"), ("watermarks", "watermarks")])
def test_right_answers_written_otherwise(task, name):
    """Literals, tuples for lists, answers built step by step, with output of all kinds in between."""
    oracle = {"page-flags": ex02_paper.flags_oracle, "running-sum": ex02.pass_oracle, "watermarks": ex02_paper.watermark_oracle}[task]
    answer = oracle(ex02.EXERCISE.task(task).question(ID, STUDENT))
    as_tuples = {k: tuple(map(tuple, v)) if v and isinstance(v, list) and isinstance(v[0], list) else v for k, v in answer.items()}
    steps = "".join(f"{name}[{key!r}] = {value!r}\nprint({key!r})\n" for key, value in as_tuples.items())
    for cell in (f"{name} = {answer!r}", f"import warnings, logging\nwarnings.warn('x')\n{name} = {{}}\n{steps}logging.error('y')",
                 f"from collections import OrderedDict\n{name} = OrderedDict({as_tuples!r})\n{name}"):
        judged = judge_with(ID, {task: cell}, only=task).task(task)
        assert judged.earned == judged.points, cell


def test_running_sums_of_the_wrong_shape():
    for wrong in ("running_sum = 7", "running_sum = {'sums': 1, 'grants': 2, 'kswapd': 3}", "running_sum = [[], [], []]",
                  "running_sum = {'sums': [[{}]], 'grants': [[None]], 'kswapd': []}"):
        assert judge_with(ID, {"running-sum": wrong}, only="running-sum").task("running-sum").earned == 0


# --- task 5 ----------------------------------------------------------------------------------------------------------------------

HEAD = "from vmlab.course.kit.zones import *\nfrom vmlab.course.kit.zones import Zones\n"
METHODS = {
    "zones_size": "return [max_low_pfn, 0, 0] if max_low_pfn < 4096 else "
                  "[4096, max_low_pfn - 4096, highend_pfn - max_low_pfn if self.highmem else 0]",
    "watermarks": "m = min(max(realsize // self.ratio[zone_num], 20), 255)\nreturn m, 2 * m, 3 * m",
    "wait_table_size": "n = 1\nwhile n < pages // 256: n *= 2\nreturn min(n, 4096)",
    "build_zonelists": "return [[j for j in range(0 if i & 1 else 2 if i & 2 else 1, -1, -1) if sizes[j]] for i in range(16)]",
}
SIGNATURES = {"zones_size": "self, max_low_pfn, highend_pfn", "watermarks": "self, zone_num, realsize", "wait_table_size": "self, pages",
              "build_zonelists": "self, sizes"}


def my_zones(**bodies):
    """The cell of task 5 with some methods' bodies replaced."""
    out = HEAD + "class MyZones(Zones):\n"
    for name, body in (METHODS | bodies).items():
        out += f"    def {name}({SIGNATURES[name]}):\n" + "".join(f"        {line}\n" for line in body.split("\n"))
    return out


def test_the_base_of_the_variants_is_right():
    assert judge_with(ID, {"zones": my_zones()}, only="zones").task("zones").earned == 9


@pytest.mark.parametrize("path", RIGHT, ids=lambda p: p.stem)
def test_other_right_classes(path):
    result = judge_with(ID, {"zones": path.read_text(encoding="utf-8")}, only="zones")
    assert result.task("zones").earned == 9, sentences(result, "zones")


def test_there_are_right_variants():
    assert len(RIGHT) >= 3


WRONG = [
    ("zones_size", "return [4096, max_low_pfn - 4096, highend_pfn - max_low_pfn if self.highmem else 0]", "less than 16 MiB", "sizes"),
    ("zones_size", "return [4096, max(max_low_pfn - 4096, 0), highend_pfn - max_low_pfn if self.highmem else 0]",
     "less than 16 MiB", "sizes"),
    ("zones_size", "return [min(max_low_pfn, 4096), max(max_low_pfn - 4096, 0), highend_pfn - max_low_pfn]",
     "without high memory", "sizes"),
    ("zones_size", "a = min(max_low_pfn, 4096)\nreturn [a, max_low_pfn if a == 4096 and max_low_pfn > 4096 else 0, "
                   "highend_pfn - max_low_pfn if self.highmem else 0]", "begins at 16 MiB", "sizes"),
    ("zones_size",
     "return [min(max_low_pfn, 4096), max(max_low_pfn - 4096, 0), highend_pfn if self.highmem and max_low_pfn >= 4096 else 0]",
     "subtract", "sizes"),
    ("zones_size", "e = highend_pfn\nreturn [min(e, 4096), max(min(e, 229376) - 4096, 0), max(e - 229376, 0) if self.highmem else 0]",
     "use max_low_pfn", "sizes"),
    ("zones_size", "return max_low_pfn", "", "sizes"),
    ("watermarks", "m = realsize // self.ratio[zone_num]\nreturn m, 2 * m, 3 * m", "is limited", "watermarks"),
    ("watermarks", "m = max(realsize // self.ratio[zone_num], 20)\nreturn m, 2 * m, 3 * m", "at most 255", "watermarks"),
    ("watermarks", "m = min(realsize // self.ratio[zone_num], 255)\nreturn m, 2 * m, 3 * m", "at least 20", "watermarks"),
    ("watermarks", "m = min(max(realsize // 128, 20), 255)\nreturn m, 2 * m, 3 * m", "not always 128", "watermarks"),
    ("watermarks", "m = min(max(realsize // self.ratio[0], 20), 255)\nreturn m, 2 * m, 3 * m", "self.ratio[zone_num]", "watermarks"),
    ("watermarks", "m = min(max(realsize // self.ratio[zone_num], 20), 255)\nreturn m, 2 * m, 4 * m", "three times", "watermarks"),
    ("watermarks", "return [min(max(k * (realsize // self.ratio[zone_num]), 20), 255) for k in (1, 2, 3)]",
     "Limit pages_min only", "watermarks"),
    ("watermarks", "m = min(max(realsize / self.ratio[zone_num], 20), 255)\nreturn m, 2 * m, 3 * m", "divide with //", "watermarks"),
    ("watermarks", "m = min(max(realsize // self.ratio[zone_num], 20), 255)\nprint(m, 2 * m, 3 * m)", "return is missing", "watermarks"),
    ("wait_table_size", "return min(max(pages // 256, 1), 4096)", "power of two", "wait"),
    ("wait_table_size", "return min(1 << max((pages // 256).bit_length() - 1, 0), 4096)", "not down", "wait"),
    ("wait_table_size", "n = 1\nwhile n <= pages // 256: n *= 2\nreturn min(n, 4096)", "< and not <=", "wait"),
    ("wait_table_size", "n = 1\nwhile n < -(-pages // 256): n *= 2\nreturn min(n, 4096)", "down first", "wait"),
    ("wait_table_size", "n = 1\nwhile n < pages // 256: n *= 2\nreturn n", "never made", "wait"),
    ("wait_table_size", "n = 1\nwhile n < pages: n *= 2\nreturn min(n, 4096)", "serves 256 pages", "wait"),
    ("build_zonelists", "return [[j for j in range(2 if i & 2 else 0 if i & 1 else 1, -1, -1) if sizes[j]] for i in range(16)]",
     "beats __GFP_HIGHMEM", "zonelists"),
    ("build_zonelists", "return [list(range(0 if i & 1 else 2 if i & 2 else 1, -1, -1)) for i in range(16)]", "without pages", "zonelists"),
    ("build_zonelists", "return [[j for j in range(0 if i & 1 else 2 if i & 2 else 1, 3) if sizes[j]] for i in range(16)]",
     "never up", "zonelists"),
    ("build_zonelists", "return [[j for j in [0 if i & 1 else 2 if i & 2 else 1] if sizes[j]] for i in range(16)]",
     "zones below it", "zonelists"),
    ("build_zonelists", "return [[j for j in range(0 if i & 1 else 2 if i & 2 else 1, -1, -1) if sizes[j]][:1] for i in range(16)]",
     "zones below it", "zonelists"),
    ("build_zonelists", "return [[j for j in range((0 if i & 1 else 2 if i & 2 else 1) + 1) if sizes[j]] for i in range(16)]",
     "comes first", "zonelists"),
    ("build_zonelists", "return [[j for j in range(0 if i == 1 else 2 if i == 2 else 1, -1, -1) if sizes[j]] for i in range(16)]",
     "not the whole index", "zonelists"),
    ("build_zonelists", "return [[j for j in range(0 if i & 1 else 2 if i & 2 else 1, -1, -1) if sizes[j]] for i in range(4)]",
     "16 zonelists", "zonelists"),
    ("build_zonelists", "n = ['DMA', 'Normal', 'HighMem']\n"
                        "return [[n[j] for j in range(0 if i & 1 else 2 if i & 2 else 1, -1, -1) if sizes[j]] for i in range(16)]",
     "zone numbers", "zonelists"),
]


@pytest.mark.parametrize("method, body, word, criterion", WRONG, ids=[f"{m}-{i}" for i, (m, *_) in enumerate(WRONG)])
def test_wrong_zones(method, body, word, criterion):
    refused("zones", my_zones(**{method: body}), word, criterion)


def test_one_wrong_method_costs_its_own_points_and_the_boot():
    result = judge_with(ID, {"zones": my_zones(wait_table_size="return 0")}, only="zones").task("zones")
    assert {c.id: c.earned for c in result.criteria} == {"sizes": 2, "watermarks": 2, "wait": 0, "zonelists": 2, "boot": 0}


FORGERIES = {
    "subclasses the core": "from vmlab import ZoneSetup\nclass MyZones(ZoneSetup):\n    pass",
    "imports the oracle": "from vmlab.course.ex02_models import truth_of\nclass MyZones:\n    def __getattr__(self, name):\n"
                          "        return lambda *a: truth_of({'method': name, 'highmem': True, 'ratio': [128] * 3}, *a)",
    "replaces the driver": "import vmlab.course.kit.zones as z\nclass Yes(list):\n    def __eq__(self, other): return True\n"
                           "z.drive = lambda space, data: Yes([True])\nclass MyZones(z.Zones): pass",
    "claims more than it answers": "import vmlab.course.kit.zones as z\nz.drive = lambda space, data: "
                                   "{'ok': True, 'earned': 9, 'sizes': 'right', 'verdict': 'full marks'}\nclass MyZones(z.Zones): pass",
    "remembers the public answers": HEAD + "class MyZones(Zones):\n" + "".join(
        f"    def {name}(self, *a):\n        return KNOWN[{name!r}].get(repr(a), 0)\n" for name in METHODS) + "KNOWN = " + repr({
            method: {repr(tuple(call)): ex02_models.truth_of({**case.data, "method": method}, *call)
                     for case in ex02_code.zone_public(random.Random(0)) if case.data["method"] == method for call in case.data["calls"]}
            for method in METHODS}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_gain_nothing(name):
    assert judge_with(ID, {"zones": FORGERIES[name]}, only="zones").task("zones").earned == 0


# --- task 6 ----------------------------------------------------------------------------------------------------------------------


def tuning(**changes):
    q = ex02.EXERCISE.task("tuning").question(ID, STUDENT)
    return "tuning = " + repr(ex02.tuning_oracle(q) | changes), q, ex02.tuning_oracle(q)


def test_wrong_tuning():
    cell, q, right = tuning()
    assert judge_with(ID, {"tuning": cell}, only="tuning").task("tuning").earned == 3
    enough = [n for n, pages in right["atomic"].items() if pages >= q["burst"] and n != right["choice"]]
    if enough:
        refused("tuning", tuning(choice=enough[0])[0], "leaves the programs more", "choice")
    refused("tuning", tuning(choice="A")[0], "fewer atomic pages", "choice")
    refused("tuning", tuning(users={n: v + 1 for n, v in right["users"].items()})[0], "Off by one", "users")
    refused("tuning", tuning(atomic=right["atomic"] | {"D": right["atomic"]["C"]})[0], "Measure D again", "atomic")
    refused("tuning", tuning(atomic={n: v + right["users"][n] for n, v in right["atomic"].items()})[0], "not on a fresh one", "atomic")
    refused("tuning", "tuning = {'users': 3, 'choice': []}", "no entry 'atomic'")


# --- the plug --------------------------------------------------------------------------------------------------------------------


def solution_class():
    space = {}
    exec(source("zones"), space)
    return space["MyZones"]


@pytest.mark.parametrize("options", [{"ram": "16M"}, {"ram": "64M"}, {"ram": "200M", "highmem_pages": 20000}, {"ram": "1G"},
                                     {"ram": "96M", "memfrac": "32,64,96"}, {"ram": "64M", "highmem": False},
                                     {"nodes": [(0, 4096, 8192, 0, 2048, 0), (12288, 0, 16384, 4096, 0, 0)]}], ids=str)
def test_the_solution_boots_the_same_machine_as_the_kernel(options):
    mine, kernels = plug02.boot_with(solution_class(), **options), vmlab.boot(**options)
    assert str(vmlab.compare(mine, kernels)) == str(vmlab.compare(kernels, kernels))
    shape = lambda m: [(z.name, z.size, z.pages_min, z.pages_low, z.pages_high, z.wait_table_size, z.wait_table_pa) for z in m.zones]  # noqa: E731
    assert shape(mine) == shape(kernels)
    assert [[[z.index for z in one] for one in p.node_zonelists] for p in mine.pgdats] == [
        [[z.index for z in one] for one in p.node_zonelists] for p in kernels.pgdats]


def test_a_workload_runs_the_same_on_both():
    mine, kernels = plug02.boot_with(solution_class(), ram="24M"), vmlab.boot("24M")
    assert repr(mine.run(vmlab.workload("mixed", seed=3, n=3000))) == repr(kernels.run(vmlab.workload("mixed", seed=3, n=3000)))
    assert mine.buddyinfo() == kernels.buddyinfo() and bytes(mine.mem.block) == bytes(kernels.mem.block)


def test_a_class_of_ones_own_can_be_recorded():
    tape = vmlab.record(ram="16M", zone_setup=plug02.zone_setup_of(solution_class()))
    tape.machine.alloc_pages(vmlab.GFP_KERNEL, 2)
    assert tape.seek(len(tape) // 2) is not None


@pytest.mark.parametrize("body, method, word", [
    ("return [4096, 8192]", "zones_size", "three numbers"),
    ("return [4096.0, 8192, 0]", "zones_size", "whole number"),
    ("return 1, 2", "watermarks", "pages_min, pages_low, pages_high"),
    ("return realsize / 128, 40, 60", "watermarks", "divide with //"),
    ("return 3", "wait_table_size", "power of two"),
    ("return [[1, 0]] * 4", "build_zonelists", "16 lists"),
    ("return [['Normal']] * 16", "build_zonelists", "zone numbers"),
])
def test_the_plug_says_what_cannot_be_booted(body, method, word):
    space = {}
    exec(my_zones(**{method: body}), space)
    with pytest.raises(ValueError, match=re.escape(word)):
        plug02.boot_with(space["MyZones"], ram="16M")


def test_the_plug_wants_a_class():
    with pytest.raises(TypeError, match="the class itself"):
        plug02.boot_with(solution_class()())
    with pytest.raises(NotImplementedError, match="zones_size is yours"):
        plug02.boot_with(type("MyZones", (kit.Zones,), {}), ram="16M")
