"""Page faults, page-table ranges and user copies, as a process meets them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import machine, new_task
from vmlab import GFP_ATOMIC, KernelBug
from vmlab.mm.errno import EFAULT, EFBIG
from vmlab.mm.extable import EXCEPTION_TABLE, INSN
from vmlab.mm.fault import SEGV_ACCERR, SEGV_MAPERR, Regs
from vmlab.mm.memory import Memory
from vmlab.mm.task import RLIMIT_FSIZE, RLIMIT_STACK, SIGBUS, SIGKILL, SIGSEGV, Task
from vmlab.mm.uaccess import KERNEL_DS, USER_DS
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PAGE_SHARED, PROT_NONE, PROT_READ, PROT_WRITE

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS
AT = 0x40000000


def mapped(pages: int = 8, prot: int = RW, **options: Any) -> tuple[vmlab.Machine, Task, int]:
    """A machine, a process, and an anonymous mapping of *pages* at AT."""
    m = machine(**options)
    task = new_task(m)
    with m.running(task):
        assert m.mmap.do_mmap_pgoff(None, AT, pages << 12, prot, ANON | MAP_FIXED, 0) == AT
    return m, task, AT


def entry(m: vmlab.Machine, task: Task, address: int) -> int:
    found = m.pgtable.pte_lookup(task.mm, address)
    return 0 if found is None else found[0][found[1]]


def load(m: vmlab.Machine, task: Task, address: int) -> int:
    assert m.mmu.touch(task, address) >= 0
    return m.mmu.loaded


# -- copy on write ------------------------------------------------------------------------------


# Who pays for a write after a fork? The first to write copies; the last one left keeps the page.
@pytest.mark.parametrize("pae", [False, True])
def test_copy_on_write(pae: bool) -> None:
    m, parent, at = mapped(pae=pae)
    m.mmu.touch(parent, at, 1, None, 1)
    frame = entry(m, parent, at) >> 12
    child = m.fork.fork_task(parent, 2)
    assert child is not None and m.mem.count[frame] == 2
    assert entry(m, parent, at) & 2 == entry(m, child, at) & 2 == 0, "both may only read now"
    assert m.mmu.touch(child, at, 1, None, 2) == 1
    assert entry(m, child, at) >> 12 != frame and m.mem.count[frame] == 1
    assert (load(m, parent, at), load(m, child, at)) == (1, 2)
    events: list[Any] = []
    m.on_event = events.append
    assert m.mmu.touch(parent, at, 1, None, 3) == 1
    m.on_event = None
    assert entry(m, parent, at) >> 12 == frame, "nobody else has it: no copy"
    assert ("cow_reuse", at, frame) in events
    assert parent.mm is not None and child.mm is not None
    assert parent.mm.rss == child.mm.rss == 1


# Does reading new memory cost a frame? No: it is the zero page, which rss does not count.
def test_zero_page() -> None:
    m, task, at = mapped()
    m.mmu.touch(task, at)
    free = m.nr_free_pages()
    for i in range(8):
        assert load(m, task, at + (i << 12)) == 0
    assert m.nr_free_pages() == free
    assert task.mm is not None and task.mm.rss == 0
    m.mmu.touch(task, at, 1, None, 5)
    assert task.mm.rss == 1 and m.nr_free_pages() == free - 1
    assert load(m, task, at + 4096) == 0, "the zero page itself stays zero"


# -- files --------------------------------------------------------------------------------------


# What does a private write leave of the file, and what a shared one?
def test_file_mappings() -> None:
    m = machine()
    task = new_task(m)
    file = m.diskfs.fake_file(0, 4, 3 << 12, 3)
    word = 0x46000000
    with m.running(task):
        private = m.mmap.do_mmap_pgoff(file, 0, 4 << 12, RW, MAP_PRIVATE, 0)
        shared = m.mmap.do_mmap_pgoff(file, 0, 4 << 12, RW, MAP_SHARED, 0)
    assert load(m, task, shared + 4096) == word + 1
    m.mmu.touch(task, private + 4096, 1, None, 99)
    assert load(m, task, shared + 4096) == word + 1
    m.mmu.touch(task, shared, 1, None, 77)
    assert load(m, task, private) == 77, "not copied yet: it sees the file"
    assert m.mmu.touch(task, private, 1, None, 1) == 1
    assert load(m, task, shared) == 77
    assert m.mmu.touch(task, shared + (3 << 12)) == -SIGBUS, "the file has only three pages"
    assert task.siginfo.signo == SIGBUS and not task.pending


# Are pages past a new end of the file gone from every mapping?
def test_vmtruncate() -> None:
    m = machine()
    task = new_task(m)
    file = m.diskfs.fake_file(0, 8, 8 << 12, 3)
    with m.running(task):
        at = m.mmap.do_mmap_pgoff(file, 0, 8 << 12, RW, MAP_SHARED, 0)
        for i in range(8):
            load(m, task, at + (i << 12))
        assert m.memory.vmtruncate(file.inode, (3 << 12) + 1) == 0
        assert [bool(entry(m, task, at + (i << 12))) for i in range(8)] == [True] * 4 + [False] * 4
        assert file.inode.i_mapping.nrpages == 4
        task.rlim[RLIMIT_FSIZE] = 5 << 12
        assert m.memory.vmtruncate(file.inode, 6 << 12) == -EFBIG
        assert 25 in task.pending  # SIGXFSZ
        assert m.memory.vmtruncate(file.inode, 5 << 12) == 0
    assert m.mmu.touch(task, at + (4 << 12)) == 1
    assert m.mmu.touch(task, at + (5 << 12)) == -SIGBUS


# -- do_page_fault ------------------------------------------------------------------------------


# How far below the stack pointer may a program reach? 32 bytes, and not one more.
@pytest.mark.parametrize(("below", "signal"), [(0, 0), (31, 0), (32, 0), (33, SIGSEGV), (4096, SIGSEGV)])
def test_stack_growth(below: int, signal: int) -> None:
    m = machine()
    task = new_task(m)
    with m.running(task):
        m.fork.setup_arg_pages(2)
    assert task.mm is not None and task.mm.mmap is not None
    start = task.mm.mmap.vm_start
    esp = start - 5 * 4096 + below
    got = m.mmu.touch(task, start - 5 * 4096, 1, esp, 1)
    assert got == (-signal if signal else 1)
    assert task.mm.mmap.vm_start == (start if signal else start - 5 * 4096)


# Where does the stack end? At RLIMIT_STACK, and in kernel mode %esp does not matter.
def test_stack_limit() -> None:
    m = machine()
    task = new_task(m)
    task.rlim[RLIMIT_STACK] = 16 << 12
    with m.running(task):
        m.fork.setup_arg_pages(2)
        assert task.mm is not None and task.mm.mmap is not None
        top = task.mm.mmap.vm_end
        assert m.fault.copy_to_user(top - (16 << 12), b"x" * 8) == 0
        assert m.fault.copy_to_user(top - (16 << 12) - 8, b"x" * 8) == 8
    assert m.mmu.touch(task, top - (17 << 12)) == -SIGSEGV
    assert "RLIMIT_STACK" in task.siginfo.reason


@pytest.mark.parametrize(
    ("prot", "address", "write", "code"),
    [
        (PROT_READ, AT, 1, SEGV_ACCERR),
        (PROT_NONE, AT, 0, SEGV_ACCERR),
        (PROT_NONE, AT, 1, SEGV_ACCERR),
        (RW, AT - 4096, 0, SEGV_MAPERR),
        (RW, AT + (8 << 12), 1, SEGV_MAPERR),
        (RW, 0, 0, SEGV_MAPERR),
        (RW, 0xC0100000, 0, SEGV_MAPERR),
        (RW, 0xFFFFFFFC, 1, SEGV_MAPERR),
    ],
)
def test_sigsegv(prot: int, address: int, write: int, code: int) -> None:
    m, task, _ = mapped(prot=prot)
    assert m.mmu.touch(task, address, write, 0, 1) == -SIGSEGV
    assert (task.siginfo.code, task.siginfo.address) == (code, address)
    assert task.min_flt == task.maj_flt == 0
    assert "SEGV_" in str(task.siginfo)


# A read-only page that is there: the write is refused though the table is complete.
def test_protection_fault() -> None:
    m, task, at = mapped()
    m.mmu.touch(task, at, 1, None, 6)
    with m.running(task):
        assert m.mprotect.sys_mprotect(at, 4096, PROT_READ) == 0
    assert m.mmu.touch(task, at, 1, None, 7) == -SIGSEGV
    assert task.siginfo.error_code == 7
    assert load(m, task, at) == 6


class ShortMemory(Memory):
    """Fails the first faults for lack of memory."""

    state_names = ("short",)
    short = 0

    def handle_mm_fault(self, mm: Any, vma: Any, address: int, write_access: int) -> int:
        if self.short:
            self.short -= 1
            return -1
        return super().handle_mm_fault(mm, vma, address, write_access)


# Who dies when a fault finds no memory? The process, unless it is init, which waits.
def test_out_of_memory() -> None:
    m, task, at = mapped(parts={"memory": ShortMemory})
    init, other = task, new_task(m, 2)
    with m.running(other):
        m.mmap.do_mmap_pgoff(None, AT, 4096, RW, ANON | MAP_FIXED, 0)
    m.memory.short = 3  # type: ignore[attr-defined]
    before = m.sched.jiffies
    assert m.mmu.touch(init, at, 1, None, 1) == 1
    assert m.sched.jiffies == before + 3, "three yields"
    m.memory.short = 1  # type: ignore[attr-defined]
    assert m.mmu.touch(other, AT, 1, None, 1) == -SIGKILL
    assert m.console[-1] == "VM: killing process p"
    m.sched.end_of_op()
    assert 2 not in m.sched.tasks and other.mm is None
    m.memory.short = 1  # type: ignore[attr-defined]
    with m.running(new_task(m, 3)):
        m.mmap.do_mmap_pgoff(None, AT, 4096, RW, ANON | MAP_FIXED, 0)
        assert m.fault.copy_to_user(AT, b"1234") == 4, "in kernel mode the copy fails instead"


# A kernel instruction without a fixup oopses, one with a fixup goes on.
def test_oops() -> None:
    m, task, _ = mapped()
    with m.running(task):
        assert m.mmu.kernel_access(0x10, False, INSN["get_user: mov"]) == -1
        with pytest.raises(KernelBug, match="NULL pointer dereference") as caught:
            m.mmu.kernel_access(0x10, True, 0xC0123456)
    assert caught.value.kind == "oops"
    assert any("c0123456" in line for line in m.console) and any("Oops: 0002" in line for line in m.console)
    m.sched.end_of_op()
    assert task.mm is None, "the task that oopsed is gone"


# Is the exception table sorted, as the binary search needs? And is every entry found?
def test_exception_table() -> None:
    m = machine()
    insns = [e.insn for e in EXCEPTION_TABLE]
    assert insns == sorted(set(insns))
    assert [m.fault.search_exception_table(e.insn) for e in EXCEPTION_TABLE] == [e.fixup for e in EXCEPTION_TABLE]
    for insn in insns:
        assert m.fault.search_exception_table(insn + 1) == 0
    assert m.fault.search_exception_table(0) == m.fault.search_exception_table(0xFFFFFFFF) == 0


# How does a process learn of a vmalloc area made after it? By a fault that copies init_mm's entry.
@pytest.mark.parametrize("pae", [False, True])
def test_vmalloc_fault(pae: bool) -> None:
    m, task, _ = mapped(pae=pae, kernel_objects="ram")
    address = m.vmalloc_space.vmalloc(8192)
    events: list[Any] = []
    m.on_event = events.append
    with m.running(task):
        frames = [m.mmu.kernel_access(address + i * 4096, True, 0) for i in (0, 1)]
        m.on_event = None
        with pytest.raises(KernelBug, match="paging request"):
            m.mmu.kernel_access(address + 8192, False, 0)  # the guard page
    assert frames == [m.memory.vmalloc_to_page(address + i * 4096) for i in (0, 1)]
    faults = [e[1] for e in events if e[0] == "vmalloc_fault"]
    assert faults == ([] if pae else [address]), "once for 4 MiB; with PAE all share the kernel's middle directory"
    assert m.memory.vmalloc_to_page(address + 8192) is None


# -- copies -------------------------------------------------------------------------------------


def not_copied(start: int, size: int, end: int) -> int:
    """What rep movsl, rep movsb leave of a copy of *size* bytes at *start* when memory ends at *end*."""
    at = 0
    while at < size & ~3:
        if start + at + 4 > end:
            return size - at
        at += 4
    while at < size:
        if start + at + 1 > end:
            return size - at
        at += 1
    return 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9000), st.integers(0, 300))
def test_partial_copies(back: int, extra: int) -> None:
    m, task, at = COPYING
    end = at + (2 << 12)
    start = max(at, end - back)
    size = min(back, 8192) + extra
    left = not_copied(start, size, end)
    data = random.Random(size).randbytes(size)
    with m.running(task):
        assert m.fault.copy_to_user(start, data) == left
        got, missing = m.fault.copy_from_user(start, size)
        assert missing == left and got == data[: size - left] + bytes(left)
        assert m.fault.clear_user(start, size) == left
        assert m.fault.copy_from_user(start, size - left) == (bytes(size - left), 0)


COPYING = mapped(2)


def test_access_ok() -> None:
    m, task, at = mapped()
    with m.running(task):
        assert m.fault.verify_area(0, 0xBFFFFFFF, 1) == 0
        assert m.fault.verify_area(0, 0xBFFFFFFF, 2) == -EFAULT
        assert m.fault.verify_area(0, 0xFFFFFFFF, 8) == -EFAULT, "no wrapping around"
        assert m.fault.copy_from_user(0xC0000000, 4) == (bytes(4), 4)
        m.fault.set_fs(KERNEL_DS)
        assert m.fault.verify_area(0, 0xC0100000, 4096) == 0
        m.fault.set_fs(USER_DS)


def test_single_values_and_strings() -> None:
    m, task, at = mapped(1)
    end = at + 4096
    with m.running(task):
        assert m.fault.put_user(0x11223344, end - 4) == 0
        assert m.fault.get_user(end - 4) == (0, 0x11223344)
        assert m.fault.get_user(end - 2, 2) == (0, 0x1122)
        assert m.fault.get_user(end - 3, 4) == (-EFAULT, 0)
        assert m.fault.put_user(0, end - 4, 8) == -EFAULT
        assert m.fault.get_user(end - 4) == (0, 0), "the first half was stored"
        assert m.fault.get_user(0xBFFFFFFE, 4) == (-EFAULT, 0)
        m.fault.copy_to_user(end - 6, b"hello!")
        assert m.fault.strncpy_from_user(end - 6, 5) == (b"hello", 5)
        assert m.fault.strncpy_from_user(end - 6, 7)[1] == -EFAULT
        assert m.fault.strnlen_user(end - 6, 7) == 0
        assert m.fault.strnlen_user(end - 6, 5) == 6, "more than asked for: no zero met"
        m.fault.put_user(0, end - 1, 1)
        assert m.fault.strncpy_from_user(end - 6, 100) == (b"hello", 5)
        assert m.fault.strnlen_user(end - 6, 100) == 6
        assert m.fault.strncpy_from_user(0xC0000000, 4) == (b"", -EFAULT)
        with pytest.raises(ValueError, match="1, 2 or 4"):
            m.fault.get_user(at, 3)


# -- pages by the range -------------------------------------------------------------------------


def test_get_user_pages() -> None:
    m, task, at = mapped(4, PROT_READ)
    pages: list[int] = []
    areas: list[Any] = []
    with m.running(task):
        get = m.memory.get_user_pages
        assert get(task, task.mm, at, 4, 0, 0, pages, areas) == 4
        assert pages == [m.empty_zero_page] * 4 and {a.vm_start for a in areas} == {at}
        assert get(task, task.mm, at, 1, 1, 0, pages) == -EFAULT, "it may not be written"
        assert get(task, task.mm, at, 6, 0, 0) == 4, "as far as the area goes"
        assert get(task, task.mm, at + (4 << 12), 1, 0, 0) == -EFAULT
        more: list[int] = []
        assert get(task, task.mm, at, 2, 1, 1, more) == 2, "force needs only MAYWRITE: a debugger's write"
        assert [m.mem.count[p] for p in more] == [2, 2]
        assert m.memory.make_pages_present(at, at + (4 << 12)) == 0
        with pytest.raises(KernelBug, match="empty"):
            m.memory.make_pages_present(at, at)
        with pytest.raises(KernelBug, match="past"):
            m.memory.make_pages_present(at, at + (5 << 12))
    assert task.min_flt == 4 + 2


def test_given_frames() -> None:
    m, task, at = mapped(8)
    with m.running(task):
        assert m.memory.zeromap_page_range(at, 2 << 12, PAGE_SHARED) == 0
        assert [entry(m, task, at + i * 4096) for i in (0, 1)] == [m.empty_zero_page << 12 | PAGE_SHARED & ~2] * 2
        with pytest.raises(KernelBug, match="in use"):
            m.memory.zeromap_page_range(at + 4096, 4096, PAGE_SHARED)
        page = m.alloc_pages(GFP_ATOMIC)
        assert page is not None
        assert m.memory.remap_page_range(at + (4 << 12), page.address, 4096, PAGE_SHARED) == 0
        assert entry(m, task, at + (4 << 12)) == 0, "an ordinary page is left out"
        assert m.memory.remap_page_range(at + (5 << 12), 0xA0000, 2 << 12, PAGE_SHARED) == 0
        assert entry(m, task, at + (6 << 12)) >> 12 == 0xA1
        assert m.memory.remap_page_range(at + (7 << 12), 0xF0000000, 4096, PAGE_SHARED) == 0
        assert entry(m, task, at + (7 << 12)) >> 12 == 0xF0000, "a device beyond RAM"
        with pytest.raises(KernelBug, match="empty"):
            m.memory.zap_page_range(task.mm, at, 0)
        m.memory.zap_page_range(task.mm, at, 8 << 12)
    assert not any(entry(m, task, at + (i << 12)) for i in range(8))


# A directory entry that is no page table is reported and dropped, not followed.
def test_bad_pmd() -> None:
    m, task, at = mapped(4)
    m.mmu.touch(task, at, 1, None, 1)
    assert task.mm is not None
    table, slot = m.pgtable.pmd_lookup(task.mm, at)  # type: ignore[misc]
    table[slot] &= ~0x20
    m.memory.zap_page_range(task.mm, at, 4096)
    assert table[slot] == 0 and "bad pmd" in m.console[-1]


# Does a processor that ignores read-only in kernel mode get its pages prepared?
def test_verify_write() -> None:
    m, task, at = mapped(2)
    with m.running(task):
        assert m.fault.verify_write(at + 4090, 8) == 1
        assert all(entry(m, task, at + i * 4096) & 2 for i in (0, 1))
        assert m.fault.verify_write(at + 8190, 8) == 0
        assert m.fault.verify_write(0x1000, 4) == 0
        assert m.fault.verify_write(0x1000, 0) == 1


# A fault in an interrupt or a kernel thread never looks at user areas.
def test_no_context() -> None:
    m = machine()
    regs = Regs(INSN["put_user: mov"])
    assert m.fault.do_page_fault(0x1000, 2, regs) == 0
    assert regs.eip == m.fault.search_exception_table(INSN["put_user: mov"])
