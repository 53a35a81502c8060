"""Exercise 5: forged answers bring nothing, and the student's own allocator boots the machine as the kernel's does."""

from __future__ import annotations

import random

import pytest

import vmlab
from tests.course.test_ex05 import FOLDER, ID, MERGE, TASKS, changed, source
from tests.helpers import ROOT
from vmlab.course import ex05_oracles, plug05
from vmlab.course.kit import bootmem as kit
from vmlab.course.testing import judge_with, sentences

# --- forgeries of this chapter -----------------------------------------------------------------------------------------------------

FORGERIES = {
    "the core's own allocator": """
from vmlab.mm.bootmem import BootmemAllocator

def alloc_bootmem_core(bdata, size, align, goal):
    return BootmemAllocator().alloc_bootmem_core(bdata, size, align, goal)
""",
    "a map that claims to be right": """
from vmlab.course.kit.bootmem import BootMap
BootMap.free_ranges = lambda self: [[0, self.pages]]
BootMap.set_bit = lambda self, i: 0

def alloc_bootmem_core(bdata, size, align, goal):
    bdata.last_pos, bdata.last_offset = 0, size % 4096
    return bdata.node_boot_start
""",
    "an answer that equals everything": """
class Anything(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0

def alloc_bootmem_core(bdata, size, align, goal):
    bdata.last_pos = bdata.last_offset = Anything()
    return Anything(4096)
""",
    "another driver": """
import vmlab.course.kit.bootmem as kit
kit.drive_alloc = lambda namespace, data: [[0, 0, 0, []] for _ in data["requests"]]

def alloc_bootmem_core(bdata, size, align, goal):
    return None
""",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_bring_nothing(name):
    result = judge_with(ID, {"alloc-core": FORGERIES[name]}, only="alloc-core")
    assert result.task("alloc-core").earned <= 0.0, sentences(result)


def test_remembering_the_public_cases_brings_nothing():
    """Somebody stores the expected answers of the public cases; the hidden ones decide."""
    known = {}
    for case in TASKS["alloc-core"].public(random.Random(0)):
        for request, step in zip(case.data["requests"], ex05_oracles.alloc_steps(case.data), strict=False):
            known[tuple(request)] = step[:3] if isinstance(step, list) else None
    cell = f"""
KNOWN = {known!r}

def alloc_bootmem_core(bdata, size, align, goal):
    answer = KNOWN.get((size, align, goal)) or [None, 0, 0]
    bdata.last_pos, bdata.last_offset = answer[1:]
    return answer[0]
"""
    result = judge_with(ID, {"alloc-core": cell}, only="alloc-core")
    assert result.task("alloc-core").earned == 0


def test_nothing_of_the_oracle_is_in_the_kit():
    text = (ROOT / "vmlab/course/kit/bootmem.py").read_text()
    assert "vmlab.mm" not in text and "alloc_steps" not in text


# --- booting ---------------------------------------------------------------------------------------------------------------------


def functions(*cells):
    """What solution cells define."""
    names: dict[str, object] = {}
    for cell in ("from vmlab.course.kit.bootmem import BUG\nPAGE_SIZE = 4096", *cells):
        exec(compile(cell, "cell", "exec"), names)
    return names


def student_code():
    return functions(source("marks"), source("alloc-core"))


@pytest.mark.parametrize(
    "options", [{"ram": "16M"}, {"ram": "64M"}, {"ram": "1G"}, {"ram": "64M", "pse": False}, {"ram": "20M", "kernel_end": 0x345678}]
)
def test_the_solution_boots_a_machine_like_the_kernels(options):
    names = student_code()
    mine = plug05.boot_with(names["alloc_bootmem_core"], reserve=names["reserve_bootmem_core"], free=names["free_bootmem_core"], **options)
    kernels = vmlab.boot(**options)
    assert mine.boot_log == kernels.boot_log and mine.buddyinfo() == kernels.buddyinfo()
    for m in (mine, kernels):
        m.run(vmlab.workload("mixed", seed=3, n=300))
    assert not vmlab.compare(mine, kernels), vmlab.compare(mine, kernels)
    mine.check()
    assert "are where the kernel puts them" in plug05.boot_report(mine)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("alloc-core-right-*.txt")), ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore:this is only a warning")
def test_other_right_allocators_boot_too(path):
    text = "\n".join(line for line in path.read_text().split("\n") if not line.startswith("%"))
    mine = plug05.boot_with(
        functions(
            text.replace("@dataclass\n", "").replace(
                "    bdata: object\n    need: int\n    step: int\n",
                "    def __init__(self, bdata, need, step):\n        self.bdata, self.need, self.step = bdata, need, step\n",
            )
        )["alloc_bootmem_core"],
        "24M",
    )
    assert mine.boot_log == vmlab.boot("24M").boot_log


def test_a_machine_booted_by_a_student_records_and_copies():
    names = student_code()
    events = []
    m = plug05.boot_with(
        names["alloc_bootmem_core"],
        reserve=names["reserve_bootmem_core"],
        free=names["free_bootmem_core"],
        ram="32M",
        on_event=events.append,
    )
    kernels = []
    vmlab.boot("32M", on_event=kernels.append)
    assert events == kernels
    assert m.copy().buddyinfo() == m.buddyinfo()


def test_the_report_names_the_first_difference():
    names = functions(source("marks"), changed("alloc-core", (MERGE, "if False:")))
    said = plug05.boot_report(plug05.boot_with(names["alloc_bootmem_core"], "64M"))
    assert "First difference: wait table DMA" in said and "The buddy lists differ" in said


def test_nothing_fits_is_a_panic_and_a_bug_a_kernel_bug():
    with pytest.raises(vmlab.KernelBug, match="failed"):
        plug05.boot_with(lambda bdata, size, align, goal: None, "16M")
    with pytest.raises(vmlab.KernelBug, match="too tired"):
        plug05.boot_with(lambda bdata, size, align, goal: kit.BUG("too tired"), "16M")
    with pytest.raises(vmlab.KernelBug, match="no address of this node"):
        plug05.boot_with(lambda bdata, size, align, goal: -5, "16M")
    with pytest.raises(TypeError, match="functions"):
        plug05.boot_with("alloc_bootmem_core", "16M")


def test_the_kit_map_refuses_what_is_no_page():
    bdata = kit.BootMap(0, 8)
    with pytest.raises(TypeError, match="//"):
        bdata.set_bit(1.0)
    with pytest.raises(IndexError, match="pages 0 to 7"):
        bdata.test_bit(8)
    with pytest.raises(IndexError):
        bdata.clear_bit(-1)
