"""Processes: copies of address spaces, programs loaded into them, and what is left when they end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import machine, new_task
from tests.core.test_mmap import BASE, PAGE, RW, User
from vmlab.errors import KernelBug
from vmlab.mm.errno import E2BIG, EAGAIN, ENOEXEC, ETXTBSY
from vmlab.mm.exec_image import PF_R, PF_W, PF_X, Image, Segment, read_elf, write_elf
from vmlab.mm.mmap import maps
from vmlab.mm.mmap_check import validate_mm
from vmlab.mm.task import CAP_SYS_RESOURCE, RLIMIT_NPROC, Task
from vmlab.mm.vm import MAP_DENYWRITE, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, VM_DONTCOPY, VM_LOCKED


def fork(m: vmlab.Machine, parent: Task, pid: int) -> Task:
    child: Task | None = m.fork.fork_task(parent, pid)
    assert child is not None
    return child


def leave(m: vmlab.Machine, task: Task) -> None:
    with m.running(task):
        m.fork.exit_task(task)


def load(m: vmlab.Machine, task: Task, address: int) -> int:
    assert m.mmu.touch(task, address) >= 0
    return int(m.mmu.loaded)


# After a fork both see the same, and what one writes the other does not see.
def test_copies_are_made_when_somebody_writes() -> None:
    user = User()
    m, parent = user.m, user.task
    user.mmap(0, 4)
    for page in range(4):
        m.mmu.touch(parent, BASE + page * PAGE, 1, value=page)
    free = m.nr_free_pages()
    child = fork(m, parent, 2)
    assert child.mm is not None and child.mm.rss == 4
    shared = free - m.nr_free_pages()
    assert shared <= 2  # a page directory and a page table, no page
    assert [load(m, child, BASE + page * PAGE) for page in range(4)] == [0, 1, 2, 3]
    assert m.mmu.touch(child, BASE, 1, value=77) == 1
    assert m.mmu.touch(parent, BASE + PAGE, 1, value=88) == 1
    assert [load(m, t, BASE + p * PAGE) for t in (parent, child) for p in (0, 1)] == [0, 88, 77, 1]
    assert free - m.nr_free_pages() == shared + 2


def test_shared_memory_stays_shared() -> None:
    user = User()
    user.mmap(0, 1, RW, MAP_SHARED | MAP_FIXED | 0x20)
    child = fork(user.m, user.task, 2)
    user.m.mmu.touch(child, BASE, 1, value=5)
    assert load(user.m, user.task, BASE) == 5


def test_what_a_child_inherits() -> None:
    user = User()
    m, mm = user.m, user.mm
    file = user.file()
    user.mmap(0, 2, RW, MAP_PRIVATE | MAP_DENYWRITE | MAP_FIXED, file)
    user.mmap(3, 2, RW, MAP_PRIVATE | MAP_FIXED, file)
    user.mmap(6, 2)
    user.mmap(9, 2, 1)
    areas = mm.areas()
    areas[2].vm_flags |= VM_LOCKED
    mm.locked_vm, mm.def_flags = 2, VM_LOCKED
    areas[3].vm_flags |= VM_DONTCOPY
    user.task.cap_effective, user.task.rlim[RLIMIT_NPROC], user.task.min_flt = 5, 99, 7
    child = fork(m, user.task, 2)
    copy = child.mm
    assert copy is not None
    validate_mm(copy)
    assert [(a.vm_start, a.vm_end, a.vm_flags, a.vm_mm is copy) for a in copy.areas()] == [
        (a.vm_start, a.vm_end, a.vm_flags & ~VM_LOCKED, True) for a in areas[:3]
    ]
    assert (copy.locked_vm, copy.def_flags, copy.total_vm) == (0, 0, mm.total_vm)  # total_vm counts what was not copied too
    assert (child.cap_effective, child.rlim[RLIMIT_NPROC], child.min_flt, child.uid) == (5, 99, 0, 1000)
    child.rlim[RLIMIT_NPROC] = 1
    assert user.task.rlim[RLIMIT_NPROC] == 99
    chain = file.inode.i_mapping.i_mmap
    assert [(a.vm_mm is copy, a.vm_start) for a in chain] == [  # each right after the one it was copied from
        (False, BASE + 3 * PAGE),
        (True, BASE + 3 * PAGE),
        (False, BASE),
        (True, BASE),
    ]
    assert file.inode.i_writecount == -2 and file.f_count == 5
    leave(m, child)
    assert file.inode.i_writecount == -1 and file.f_count == 3 and len(chain) == 2


# Swapping visits address spaces in the order of this list.
def test_order_of_address_spaces() -> None:
    m = machine()
    one, two = new_task(m, 1), new_task(m, 2)
    assert [mm.pid for mm in m.fork.mmlist] == [2, 1]  # exec: to the front
    three = fork(m, two, 3)
    four = fork(m, one, 4)
    assert [mm.pid for mm in m.fork.mmlist] == [2, 3, 1, 4] and m.fork.mmlist_nr == 4  # fork: right after the parent
    m.vmscan.swap_mm = three.mm
    leave(m, three)
    assert m.vmscan.swap_mm is one.mm  # the clock's hand moves on
    m.vmscan.swap_mm = four.mm
    leave(m, four)
    assert m.vmscan.swap_mm is m.pgtable.init_mm  # over the end: the head of the list
    assert [mm.pid for mm in m.fork.mmlist] == [2, 1] and list(m.sched.tasks) == [1, 2]


def test_threads_share_the_address_space() -> None:
    user = User()
    m = user.m
    assert m.fork.do_fork(2, 0x100) == 0
    thread = m.sched.tasks[2]
    assert thread.mm is user.mm and user.mm.mm_users == 2 and m.fork.mmlist == [user.mm]
    user.mmap(0, 1)
    leave(m, thread)
    assert user.mm.map_count == 1 and user.mm.mm_users == 1 and user.mm.mm_count == 1


# Does everything come back, in every mode, whatever the process did?
@pytest.mark.parametrize("mode", ["outside", "vm-only", "ram"])
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5), st.booleans(), st.booleans()), max_size=8))
def test_nothing_is_lost(mode: str, steps: list[tuple[int, int, bool, bool]]) -> None:
    user = User(kernel_objects=mode)
    m = user.m
    file = user.file(npages=64)
    m.current = m.init_task
    leave(m, user.task)  # the slab caches keep what its end leaves in them
    frames = _frames(m)
    task = new_task(m, 5)
    children = []
    for at, (page, count, shared, child) in enumerate(steps):
        with m.running(task):
            flags = (MAP_SHARED if shared else MAP_PRIVATE) | MAP_FIXED
            assert m.mmap.do_mmap_pgoff(file, BASE + page * 64 * PAGE, count * PAGE, RW, flags, page) > 0
            for i in range(count):
                m.mmu.touch(task, BASE + (page * 64 + i) * PAGE, 1, value=i)
        if child:
            children.append(fork(m, task, 10 + at))
            m.mmu.touch(children[-1], BASE + page * 64 * PAGE, 1, value=9)
    for gone in [task, *children]:
        leave(m, gone)
    assert m.sched.tasks == {} and m.fork.mmlist == []
    assert file.f_count == 1 and not file.inode.i_mapping.i_mmap and not file.inode.i_mapping.i_mmap_shared
    m.filemap.truncate_inode_pages(file.inode.i_mapping, 0)
    _shrink(m)
    assert _frames(m) == frames


def _shrink(m: vmlab.Machine) -> None:
    for _ in range(40):
        if m.config.kernel_objects == "outside" or not m.slab.kmem_cache_reap(0x1F0):
            break


def _frames(m: vmlab.Machine) -> int:
    """Free frames, and those that lie ready for page tables and slab objects."""
    slabs = sum(m.mem.owner[pfn] == m.owner_id("slab") and m.mem.count[pfn] > 0 for pfn in range(m.mem.frames))
    return m.nr_free_pages() + m.pgtable.pgtable_cache_size + slabs


def test_objects_of_a_process_are_in_ram() -> None:
    m = machine(kernel_objects="ram")
    slabinfo = lambda: {line.split()[0]: int(line.split()[1]) for line in m.slab.slabinfo().splitlines()[1:]}  # noqa: E731
    names = ("files_cache", "fs_cache", "signal_act", "mm_struct")
    before = slabinfo()
    said: list[tuple[Any, ...]] = []
    m.on_event = said.append
    task = new_task(m)
    assert next(event for event in said if event[0] == "alloc")[2] == 1  # the two frames of the task first
    m.on_event = None
    assert {name: slabinfo()[name] - before[name] for name in names} == dict.fromkeys(names, 1)
    assert m.page(task.task_pfn).order == 1
    leave(m, task)
    assert {name: slabinfo()[name] - before[name] for name in names} == dict.fromkeys(names, 0)
    assert task.task_pfn == 0 and task.objects == {}


def test_how_many_processes() -> None:
    m = machine()
    assert m.fork.max_threads == m.num_physpages // 2 // 8
    parent = new_task(m)
    parent.rlim[RLIMIT_NPROC] = 2
    fork(m, parent, 2)
    with m.running(parent):
        assert m.fork.do_fork(3) == -EAGAIN
        parent.cap_effective = 1 << CAP_SYS_RESOURCE
        assert m.fork.do_fork(3) == 0
        m.fork.max_threads = 3
        assert m.fork.do_fork(4) == -EAGAIN
        with pytest.raises(ValueError, match="taken"):
            m.fork.do_fork(2)


def test_fork_without_memory_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    user = User()
    m = user.m
    for page in range(0, 30, 3):
        user.mmap(page, 2)
    calls = 0
    alloc = m.mmap.alloc_vma

    def scarce() -> Any:
        nonlocal calls
        calls += 1
        return alloc() if calls <= 4 else None

    monkeypatch.setattr(m.mmap, "alloc_vma", scarce)
    free = m.nr_free_pages()
    assert m.fork.do_fork(2) == -12
    assert m.fork.mmlist == [user.mm] and list(m.sched.tasks) == [1] and m.nr_free_pages() == free
    validate_mm(user.mm)


def test_an_area_too_many_is_a_bug() -> None:
    user = User()
    user.mmap(0, 1)
    user.mm.map_count += 1
    with pytest.raises(KernelBug, match="1 areas"):
        user.m.mmap.exit_mmap(user.mm)


CODE = Segment(0x08048000, 0, 0x1234, 0x1234, PF_R | PF_X)
DATA = Segment(0x0804A234, 0x1234, 0x300, 0x3000, PF_R | PF_W)
PROGRAM = write_elf((CODE, DATA), 0x08048100, {0x100: b"code" * 16, 0x1234: b"data" * 0xC0})


def program(m: vmlab.Machine, data: bytes = PROGRAM, name: str = "/bin/prog") -> Any:
    m.diskfs.create(name, data)
    return m.diskfs.open(name)


def test_exec_lays_out_a_program() -> None:
    m = machine(kernel_objects="ram")
    task = new_task(m)
    mm = task.mm
    assert mm is not None
    file = program(m)
    with m.running(task):
        assert m.fork.do_execve(file, read_elf(PROGRAM), ["prog", "-x"], ["HOME=/"]) == 0
        read = lambda at, n: m.fault.copy_from_user(at, n)[0]  # noqa: E731
        word = lambda at: int.from_bytes(read(at, 4), "little")  # noqa: E731
        ranges = [line.split()[0] + " " + line.split()[1] for line in maps(mm).split("\n")]
        assert ranges[:3] == ["08048000-0804a000 r-xp", "0804a000-0804b000 rw-p", "0804b000-0804e000 rwxp"]
        assert ranges[3].startswith("bfff") and len(ranges) == 4
        assert task.eip == 0x08048100 and read(task.eip, 8) == b"codecode"
        assert read(DATA.p_vaddr, 0x300) == b"data" * 0xC0
        assert read(DATA.p_vaddr + 0x300, 0x2D00) == bytes(0x2D00)  # bss, on the page of the data and beyond
        assert (mm.start_code, mm.end_code, mm.start_data, mm.end_data) == (0x08048000, 0x08049234, 0x0804A234, 0x0804A534)
        assert mm.start_brk == mm.brk == 0x0804D234
        sp = task.esp
        assert sp % 16 == 0 and mm.start_stack == sp and word(sp) == 2
        argv = [word(word(sp + 4) + 4 * i) for i in range(3)]
        envp = [word(word(sp + 8) + 4 * i) for i in range(2)]
        assert argv[2] == envp[1] == 0
        assert [read(argv[0], 5), read(argv[1], 3), read(envp[0], 7)] == [b"prog\0", b"-x\0", b"HOME=/\0"]
        assert read(mm.arg_start, 8) == b"prog\0-x\0" and mm.env_end - mm.arg_start == 15
        auxv = {}
        at = word(sp + 8) + 8
        while word(at):
            auxv[word(at)] = word(at + 4)
            at += 8
        assert (auxv[3], auxv[5], auxv[6], auxv[9], auxv[11]) == (0x08048034, 2, 4096, task.eip, 1000)
        assert read(auxv[15], 5) == b"i686\0"
        assert m.mmap.sys_brk(mm.brk + 0x10000) == 0x0805D234
    assert task.comm == "prog"
    assert file.inode.i_writecount == -2  # both areas deny writing while they are there
    validate_mm(mm)


def test_exec_replaces_the_old_program() -> None:
    user = User()
    m, task = user.m, user.task
    user.mmap(0, 5)
    m.mmu.touch(task, BASE, 1)
    file = program(m)
    assert m.fork.do_execve(file, read_elf(PROGRAM)) == 0
    assert task.mm is user.mm and m.mmap.find_vma_intersection(user.mm, BASE, BASE + PAGE) is None
    assert m.fork.do_fork(2, 0x100) == 0  # a thread: now exec must leave the address space to it
    assert m.fork.do_execve(file, read_elf(PROGRAM)) == 0
    assert task.mm is not user.mm and m.fork.mmlist == [task.mm, user.mm] and user.mm.mm_users == 1


def test_exec_of_what_can_be_anywhere() -> None:
    user = User()
    m = user.m
    lib = write_elf(
        (Segment(0, 0, 0x100, 0x100, PF_R | PF_X), Segment(0x1100, 0x100, 0x40, 0x2040, PF_R | PF_W)), 0x80, {0x100: b"x" * 64}, True
    )
    ld, prog = program(m, lib, "/lib/ld.so"), program(m, lib, "/bin/pie")
    assert m.fork.do_execve(prog, read_elf(lib), interp=(ld, read_elf(lib))) == 0
    starts = [area.vm_start for area in user.mm.areas() if area.vm_file]
    assert starts == [BASE, BASE + PAGE, 0x80000000, 0x80001000]
    assert user.task.eip == BASE + 0x80  # the linker runs first
    assert user.mm.brk == 0x80003140 and m.fault.copy_from_user(0x80001100, 4)[0] == b"xxxx"


def test_exec_errors() -> None:
    user = User()
    m = user.m
    file = program(m)
    user.mmap(0, 1)
    free = m.nr_free_pages()
    image = read_elf(PROGRAM)
    assert m.fork.do_execve(file, image, ["x" * 200_000]) == -E2BIG
    assert m.fork.do_execve(file, Image((), 0)) == -ENOEXEC
    file.inode.i_writecount = 1
    assert m.fork.do_execve(file, image) == -ETXTBSY
    assert file.inode.i_writecount == 1 and file.f_count == 1
    assert user.mm.map_count == 1 and m.nr_free_pages() == free  # the old program is still there, the argument pages are not


def test_what_is_no_program() -> None:
    assert read_elf(PROGRAM) == Image((CODE, DATA), 0x08048100)
    for data in (b"", b"#!/bin/sh\n" * 9, PROGRAM[:60], PROGRAM[:18] + b"\x28" + PROGRAM[19:]):
        with pytest.raises(ValueError, match="ELF|headers"):
            read_elf(data)


# A machine's copy goes on exactly as the machine itself.
def test_processes_are_part_of_a_snapshot() -> None:
    user = User(kernel_objects="ram")
    m = user.m
    for page in range(0, 1200, 2):  # a list this long must not be too deep to save
        user.mmap(page, 1)
    m.mmu.touch(user.task, BASE, 1, value=3)
    other = m.copy()
    twin = other.sched.tasks[1]
    assert maps(twin.mm) == maps(user.mm)
    validate_mm(twin.mm)
    with other.running(twin):
        assert other.mmap.do_munmap(twin.mm, BASE, 600 * PAGE) == 0
    validate_mm(twin.mm)
    assert user.mm.map_count == 600 and twin.mm.map_count == 300
    assert load(m, user.task, BASE) == 3
