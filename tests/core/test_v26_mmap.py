"""2.6's address spaces: what merges, where mappings go, what is promised, pages of files in any order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug
from vmlab.mm.errno import EAGAIN, EINVAL, ENOMEM, EPERM
from vmlab.mm.exec_image import Segment, write_elf
from vmlab.mm.task import RLIMIT_MEMLOCK, RLIMIT_STACK
from vmlab.mm.vm import VM_LOCKED
from vmlab.v26.check_areas import check_address_spaces
from vmlab.v26.prio_tree import (
    PrioTreeRoot,
    heap_index,
    radix_index,
    vma_prio_tree_add,
    vma_prio_tree_foreach,
    vma_prio_tree_insert,
    vma_prio_tree_remove,
)
from vmlab.v26.vm import VM_ACCOUNT, VM_NONLINEAR, VmArea26

PAGE = 4096
PRIVATE, SHARED, FIXED, ANON = 2, 1, 0x10, 0x20


def boot(**options: Any) -> Any:
    options.setdefault("kernel_objects", "outside")
    return vmlab.Machine("32M", kernel="2.6", **options).power_on()


def areas(process: Any) -> list[Any]:
    """Its areas without the stack."""
    mm = process.machine.sched.tasks[process.pid].mm
    return [vma for vma in mm.areas() if vma.vm_end != 0xC0000000]


def extents(process: Any) -> list[tuple[int, int]]:
    return [(vma.vm_start, vma.vm_end) for vma in areas(process)]


# -- the priority tree ------------------------------------------------------------------------


def interval(first: int, pages: int) -> VmArea26:
    vma = VmArea26(None, 0, pages * PAGE)
    vma.vm_pgoff = first
    return vma


STEP = st.tuples(st.integers(0, 4), st.integers(0, 70), st.integers(1, 40), st.integers(0, 1000))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=80), st.sampled_from([1, 1000, 0xFFF000]))
def test_tree_finds_what_a_walk_over_all_areas_finds(steps: list[tuple[int, int, int, int]], scale: int) -> None:
    root = PrioTreeRoot()
    live: list[VmArea26] = []
    for kind, first, pages, pick in steps:
        if kind == 3 and live:
            vma_prio_tree_remove(live.pop(pick % len(live)), root)
        elif kind == 4 and live:
            old = live[pick % len(live)]
            live.append(interval(old.vm_pgoff, (old.vm_end - old.vm_start) // PAGE))
            vma_prio_tree_add(live[-1], old)
        else:
            live.append(interval(first * scale, pages))
            vma_prio_tree_insert(live[-1], root)
        low, high = sorted((pick, first * scale))
        found = list(vma_prio_tree_foreach(root, low, high))
        expected = [vma for vma in live if radix_index(vma) <= high and heap_index(vma) >= low]
        assert len(found) == len(expected), "each one once"
        assert {id(vma) for vma in found} == {id(vma) for vma in expected}
    assert {id(vma) for vma in root.everything()} == {id(vma) for vma in live}


def test_a_copy_of_other_pages_is_no_copy() -> None:
    root, old = PrioTreeRoot(), interval(3, 4)
    vma_prio_tree_insert(old, root)
    with pytest.raises(KernelBug, match="map different pages"):
        vma_prio_tree_add(interval(3, 5), old)


# -- merging ----------------------------------------------------------------------------------


def test_touched_neighbours_merge_only_with_one_list_of_pages() -> None:
    m = boot()
    p = m.spawn("p")
    low = p.mmap(2 * PAGE, addr=0x50000000, fixed=True)
    high = p.mmap(2 * PAGE, addr=0x50003000, fixed=True)
    p.write(low, b"1")
    p.write(high, b"2")
    p.mmap(PAGE, addr=0x50002000, fixed=True)
    assert extents(p) == [(low, low + 3 * PAGE), (high, high + 2 * PAGE)], "the gap joins one side; two lists keep the sides apart"
    q = m.spawn("q")
    low = q.mmap(2 * PAGE, addr=0x50000000, fixed=True)
    q.mmap(2 * PAGE, addr=0x50003000, fixed=True)
    q.write(low, b"1")
    q.mmap(PAGE, addr=0x50002000, fixed=True)
    assert extents(q) == [(low, low + 5 * PAGE)]


def test_mprotect_there_and_back_leaves_one_area() -> None:
    m = boot()
    p = m.spawn("p")
    a = p.mmap(8 * PAGE)
    p.write(a + 2 * PAGE, b"x")
    assert p.mprotect(a + 2 * PAGE, PAGE, "r") == 0
    assert len(areas(p)) == 3
    assert len({id(vma.anon_vma) for vma in areas(p)}) == 1, "the halves keep the list of the whole"
    assert p.mprotect(a + 2 * PAGE, PAGE, "rw") == 0
    assert extents(p) == [(a, a + 8 * PAGE)]
    check_address_spaces(m)


def test_mappings_of_one_file_merge_when_the_offset_goes_on() -> None:
    m = boot()
    m.create_file("f", bytes(8 * PAGE))
    p = m.spawn("p")
    fd = p.open("f", "r+")
    a = p.mmap(2 * PAGE, "r", fd=fd, addr=0x50000000, fixed=True, shared=True)
    p.mmap(2 * PAGE, "r", fd=fd, offset=2 * PAGE, addr=a + 2 * PAGE, fixed=True, shared=True)
    assert extents(p) == [(a, a + 4 * PAGE)]
    p.mmap(PAGE, "r", fd=fd, offset=6 * PAGE, addr=a + 4 * PAGE, fixed=True, shared=True)
    assert extents(p) == [(a, a + 4 * PAGE), (a + 4 * PAGE, a + 5 * PAGE)]
    check_address_spaces(m)


# -- where mappings go ------------------------------------------------------------------------


def test_layouts() -> None:
    m = boot()
    p = m.spawn("p")
    a = p.mmap(3 * PAGE, "r")
    assert a + 3 * PAGE == 0xB8000000
    assert p.mmap(PAGE, "r", shared=True) == a - PAGE
    assert p.munmap(a, PAGE) == 0
    assert p.mmap(PAGE, "none") == a, "the hole above is found again"
    m.mmap.sysctl_legacy_va_layout = 1
    q = m.spawn("q")
    a = q.mmap(2 * PAGE, "r")
    assert a == 0x40000000
    b = q.mmap(PAGE, "none")
    assert b == a + 2 * PAGE
    q.munmap(a, 2 * PAGE)
    assert q.mmap(PAGE, "r") == a, "unmapping below the mark moves it back"


@pytest.mark.parametrize(("stack", "base"), [(8 << 20, 0xB8000000), (0x20000000, 0xA0000000), (0xB0000000, 0x20000000)])
def test_room_for_the_stack_decides_where_mappings_begin(stack: int, base: int) -> None:
    m = boot()
    task = m.fork.new_task(5)
    task.rlim[RLIMIT_STACK] = stack
    with m.running(task):
        m.mmap.arch_pick_mmap_layout(task.mm)
    assert (task.mm.mmap_base, task.mm.legacy) == (base, False)


# -- promises ---------------------------------------------------------------------------------


def test_promises_follow_areas_to_the_end() -> None:
    m = boot()
    before = m.mmap.vm_committed_space
    p = m.spawn("p")
    a = p.mmap(10 * PAGE)
    started = m.mmap.vm_committed_space - 10
    p.mprotect(a, 4 * PAGE, "r")
    assert m.mmap.vm_committed_space == started + 10, "what was promised stays promised"
    p.munmap(a + 8 * PAGE, 2 * PAGE)
    q = p.fork()
    assert m.mmap.vm_committed_space - before == 2 * (started - before + 8)
    assert p.mremap(a + 4 * PAGE, 4 * PAGE, 20 * PAGE) > 0
    check_address_spaces(m)
    q.exit()
    p.exit()
    assert m.mmap.vm_committed_space == before


def test_strict_mode_promises_no_more_than_the_limit() -> None:
    m = boot()
    m.mmap.sysctl_overcommit_memory = 2
    p = m.spawn("p")
    with m.running(m.sched.tasks[p.pid]):
        room = m.mmap.commit_limit() - m.mmap.vm_committed_space
    assert p.mmap((room + 1) * PAGE) == -ENOMEM
    committed = m.mmap.vm_committed_space
    assert p.mmap((room - 1) * PAGE) > 0
    assert m.mmap.vm_committed_space == committed + room - 1
    m.mmap.sysctl_overcommit_memory = 1
    assert p.mmap(200 << 20) > 0


def test_users_lock_a_little() -> None:
    m = boot()
    p = m.spawn("p")
    task = m.sched.tasks[p.pid]
    task.rlim[RLIMIT_MEMLOCK] = 8 * PAGE
    a = p.mmap(16 * PAGE)
    assert p.mlock(a, 8 * PAGE) == 0
    assert task.mm.rss >= 8
    assert p.mlock(a + 8 * PAGE, PAGE) == -ENOMEM
    assert p.mmap(PAGE, locked=True) == -EAGAIN
    task.rlim[RLIMIT_MEMLOCK] = 0
    assert p.mlock(a, PAGE) == -EPERM
    q = p.fork()
    assert not any(vma.vm_flags & VM_LOCKED for vma in areas(q))
    check_address_spaces(m)
    assert m.mlock.user_shm_lock(PAGE, 1000) is True, "init may"
    with m.running(task):
        assert m.mlock.user_shm_lock(PAGE, 1000) is False


# -- pages in any order -----------------------------------------------------------------------


def test_remap_file_pages_shows_the_file_in_another_order() -> None:
    m = boot()
    m.create_file("f", b"".join(bytes([65 + i]) * PAGE for i in range(8)))
    p = m.spawn("p")
    fd = p.open("f", "r+")
    a = p.mmap(4 * PAGE, "rw", fd=fd, shared=True)
    assert p.read(a, 1) == b"A"
    with m.running(m.sched.tasks[p.pid]):
        assert m.fremap.sys_remap_file_pages(a, PAGE, 1, 6, 0) == -EINVAL, "rights cannot be given"
        assert m.fremap.sys_remap_file_pages(a, PAGE, 0, 6, 0) == 0
        assert m.fremap.sys_remap_file_pages(a + PAGE, 2 * PAGE, 0, 3, 0) == 0
    area = areas(p)[0]
    assert area.vm_flags & VM_NONLINEAR and area in area.vm_file.inode.i_mapping.i_mmap_nonlinear
    check_address_spaces(m)
    assert p.read(a, 1) + p.read(a + PAGE, 1) + p.read(a + 2 * PAGE, 1) + p.read(a + 3 * PAGE, 1) == b"GDED"
    assert p.madvise(a, 4 * PAGE, 4) == 0
    assert areas(p)[0].vm_mm.rss < 4, "gone, but not forgotten where they belong"
    assert p.read(a, 1) + p.read(a + PAGE, 1) + p.read(a + 2 * PAGE, 1) + p.read(a + 3 * PAGE, 1) == b"GDED"
    q = p.fork()
    assert q.read(a + 2 * PAGE, 1) == b"E"
    c = m.copy()
    assert c.process(q.pid).read(a, 1) == b"G"
    check_address_spaces(c)


# -- processes --------------------------------------------------------------------------------


def test_fork_does_not_copy_what_lies_at_address_0() -> None:
    m = boot()
    p = m.spawn("p")
    p.mmap(2 * PAGE, addr=0, fixed=True)
    p.write(PAGE, b"here")
    q = p.fork()
    assert q.read(PAGE, 4) == bytes(4), "the kernel's loop ends at address 0, also when it begins there"
    check_address_spaces(m)


def test_exec_lays_out_a_program() -> None:
    m = boot()
    segments = (Segment(0x08048000, 0, 0x1000, 0x1000, 5), Segment(0x0804A000, 0x1000, 0x234, 0x5000, 6))
    m.create_file("prog", write_elf(segments, 0x08048100, {0x1000: b"data"}))
    p = m.spawn("prog", program="prog")
    task = m.sched.tasks[p.pid]
    assert p.read(0x0804A000, 4) == b"data" and p.read(0x0804A234, 4) == bytes(4)
    assert task.mm.brk == task.mm.start_brk == 0x0804F000
    assert task.eip == 0x08048100 and task.mm.arg_start == task.mm.areas()[-1].vm_end - 4 - 2 * len("prog ")
    stack = task.mm.areas()[-1]
    assert stack.vm_flags & VM_ACCOUNT and not stack.vm_flags & 4, "not executable"
    assert p.brk(task.mm.brk + PAGE) == 0x08050000
    check_address_spaces(m)
    p.exit()
    assert m.mmap.vm_committed_space == 0


@pytest.mark.parametrize(("seed", "objects"), [(1, "outside"), (2, "ram"), (3, "outside"), (4, "outside")])
def test_any_sequence_of_calls_keeps_every_invariant(seed: int, objects: str) -> None:
    r = random.Random(seed)
    m = boot(kernel_objects=objects)
    m.create_file("f", bytes(range(256)) * 16 * 12)
    start = m.mmap.vm_committed_space
    processes = [m.spawn("p")]
    for step in range(400):
        p = r.choice(processes)
        at = r.choice([0x50000000, 0xB7FF0000]) + r.randrange(16) * PAGE
        size = r.randrange(1, 8) * PAGE
        kind = r.randrange(11)
        if kind < 3:
            fd = p.open("f", "r+") if r.random() < 0.4 else None
            p.mmap(
                size,
                r.choice(["rw", "r", "rw"]),
                fd=fd,
                addr=at,
                fixed=r.random() < 0.7,
                shared=r.random() < 0.4,
                offset=r.randrange(4) * PAGE if fd is not None else 0,
            )
            if fd is not None:
                p.close(fd)
        elif kind == 3:
            p.munmap(at, size)
        elif kind == 4:
            p.mprotect(at, size, r.choice(["r", "rw", "none"]))
        elif kind == 5:
            p.mremap(at, size, r.randrange(1, 9) * PAGE)
        elif kind == 6:
            p.mlock(at, size) if r.random() < 0.5 else p.madvise(at, size, r.randrange(5))
        elif kind < 10:
            with m.running(m.sched.tasks[p.pid]):
                m.fault.put_user(step, at) if r.random() < 0.7 else m.fault.copy_from_user(at, 4)
        elif r.random() < 0.5 and len(processes) < 4:
            processes.append(p.fork())
        elif len(processes) > 1:
            processes.remove(p)
            p.exit()
        if step % 20 == 0:
            check_address_spaces(m)
    for p in processes:
        p.exit()
    check_address_spaces(m)
    assert m.mmap.vm_committed_space == start
