"""Address spaces: areas in list and tree, and the system calls that make, change and remove them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import machine, new_task
from vmlab.errors import KernelBug
from vmlab.mm import rbtree
from vmlab.mm.errno import EACCES, EAGAIN, EFAULT, EINVAL, ENODEV, ENOMEM, EPERM, ETXTBSY
from vmlab.mm.mmap import maps, tree
from vmlab.mm.mmap_check import validate_mm
from vmlab.mm.task import CAP_IPC_LOCK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_STACK, Task
from vmlab.mm.vm import (
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_CURRENT,
    MCL_FUTURE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RB_BLACK,
    RB_RED,
    TASK_SIZE,
    VM_LOCKED,
    MmStruct,
    VmArea,
)

PAGE = 4096
BASE = 0x40000000
RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS


class User:
    """A process on a small machine, and its system calls in pages."""

    def __init__(self, **options: Any) -> None:
        self.m: vmlab.Machine = machine(**options)
        self.m.mmap.sysctl_overcommit_memory = 1
        self.task: Task = new_task(self.m)
        self.m.current = self.task
        mm = self.task.mm
        assert mm is not None
        self.mm: MmStruct = mm

    def file(self, fd: int = 0, npages: int = 64, mode: int = 3) -> Any:
        return self.m.diskfs.fake_file(fd, npages, npages * PAGE, mode)

    def mmap(self, page: int, pages: int, prot: int = RW, flags: int = ANON | MAP_FIXED, file: Any = None, pgoff: int = 0) -> int:
        return self.m.mmap.do_mmap_pgoff(file, BASE + page * PAGE, pages * PAGE, prot, flags, pgoff)

    def munmap(self, page: int, pages: int) -> int:
        return self.m.mmap.do_munmap(self.mm, BASE + page * PAGE, pages * PAGE)

    def mprotect(self, page: int, pages: int, prot: int) -> int:
        return self.m.mprotect.sys_mprotect(BASE + page * PAGE, pages * PAGE, prot)

    def ranges(self) -> list[tuple[int, int]]:
        return [((a.vm_start - BASE) // PAGE, (a.vm_end - BASE) // PAGE) for a in self.mm.areas()]


# Do insertions and removals in any order keep the tree a search tree with the red-black rules?
@given(st.lists(st.integers(0, 60), max_size=80))
def test_tree_keeps_its_rules(keys: list[int]) -> None:
    mm = MmStruct()
    there: dict[int, VmArea] = {}
    for key in keys:  # a key that is there goes, one that is not comes
        if key in there:
            rbtree.rb_erase(there.pop(key), mm)
        else:
            parent, right, node = None, False, mm.mm_rb
            while node is not None:
                parent, right = node, key > node.vm_start
                node = node.rb_right if right else node.rb_left
            there[key] = VmArea(mm, key, key + 1)
            rbtree.rb_link_node(there[key], parent, right, mm)
            rbtree.rb_insert_color(there[key], mm)
        mm.mmap = previous = None
        for at in sorted(there):
            if previous is None:
                mm.mmap = there[at]
            else:
                previous.vm_next = there[at]
            previous = there[at]
            previous.vm_next = None
        mm.map_count = len(there)
        validate_mm(mm)


# Would we notice? Each kind of damage is named.
@pytest.mark.parametrize("kind", ["count", "overlap", "tree", "colour", "parent", "height"])
def test_damage_is_found(kind: str) -> None:
    user = User()
    for page in range(0, 12, 2):
        user.mmap(page, 1)
    mm, areas = user.mm, user.mm.areas()
    validate_mm(mm)
    root = mm.mm_rb
    assert root is not None and root.rb_right is not None and root.rb_left is not None
    if kind == "count":
        mm.map_count += 1
    elif kind == "overlap":
        areas[2].vm_end = areas[3].vm_end
    elif kind == "tree":
        mm.mmap, mm.map_count = areas[1], mm.map_count - 1
    elif kind == "colour":
        root.rb_color = RB_RED
    elif kind == "parent":
        root.rb_right.rb_parent = None
    else:
        root.rb_left.rb_color = RB_RED
    with pytest.raises(KernelBug) as caught:
        validate_mm(mm)
    assert caught.value.kind == kind


# What does the tree of 1, 2, 3 inserted in this order look like? (One rotation: 2 is the root.)
def test_a_rotation_by_hand() -> None:
    mm = MmStruct()
    said: list[tuple[Any, ...]] = []
    parent = None
    for key in (1, 2, 3):
        node = VmArea(mm, key, key + 1)
        rbtree.rb_link_node(node, parent, True, mm)
        rbtree.rb_insert_color(node, mm, said.append)
        parent = node
    assert [(v.vm_start, v.rb_color, d) for v, d in rbtree.walk(mm, "pre")] == [(2, RB_BLACK, 0), (1, RB_RED, 1), (3, RB_RED, 1)]
    assert said == [("rb_rotate", "left", 1, 2)]


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("map"), st.integers(0, 30), st.integers(1, 8), st.integers(0, 7), st.booleans()),
        st.tuples(st.just("unmap"), st.integers(0, 30), st.integers(1, 12)),
        st.tuples(st.just("protect"), st.integers(0, 30), st.integers(1, 8), st.integers(0, 7)),
        st.tuples(st.just("lock"), st.integers(0, 30), st.integers(1, 8), st.booleans()),
        st.tuples(st.just("remap"), st.integers(0, 30), st.integers(1, 4), st.integers(1, 6), st.integers(40, 60)),
    ),
    max_size=25,
)


class Pages:
    """What the calls mean, page by page: page → (rights, locked, page of the file or None)."""

    def __init__(self) -> None:
        self.at: dict[int, tuple[int, bool, int | None]] = {}

    def map(self, page: int, pages: int, prot: int, from_file: bool) -> None:
        for p in range(page, page + pages):
            self.at[p] = (prot, False, p if from_file else None)

    def unmap(self, page: int, pages: int) -> None:
        for p in range(page, page + pages):
            self.at.pop(p, None)

    def change(self, page: int, pages: int, prot: int | None, lock: bool | None) -> int:
        """Up to the first hole: what was done before it stays done."""
        for p in range(page, page + pages):
            if p not in self.at:
                return -ENOMEM
            was = self.at[p]
            self.at[p] = (was[0] if prot is None else prot, was[1] if lock is None else lock, was[2])
        return 0


# Whatever is mapped, cut, protected, locked and moved: is every page where a page-by-page account says?
@settings(max_examples=150, deadline=None)
@given(OPS)
def test_areas_say_the_same_as_pages(ops: list[tuple[Any, ...]]) -> None:
    user = User()
    user.task.cap_effective = 1 << CAP_IPC_LOCK
    file = user.file(npages=64)
    pages = Pages()
    for name, page, count, *rest in ops:
        if name == "map":
            prot, from_file = rest
            flags = (MAP_PRIVATE if from_file else ANON) | MAP_FIXED
            assert user.mmap(page, count, prot, flags, file if from_file else None, page) == BASE + page * PAGE
            pages.map(page, count, prot, from_file)
        elif name == "unmap":
            assert user.munmap(page, count) == 0
            pages.unmap(page, count)
        elif name == "protect":
            assert user.mprotect(page, count, rest[0]) == pages.change(page, count, rest[0], None)
        elif name == "lock":
            call = user.m.mlock.sys_mlock if rest[0] else user.m.mlock.sys_munlock
            assert call(BASE + page * PAGE, count * PAGE) == pages.change(page, count, None, rest[0])
        else:
            _remap(user, pages, page, count, *rest)
        validate_mm(user.mm)
    found = {}
    for area in user.mm.areas():
        for p in range((area.vm_start - BASE) // PAGE, (area.vm_end - BASE) // PAGE):
            offset = area.vm_pgoff + p - (area.vm_start - BASE) // PAGE if area.vm_file else None
            found[p] = (area.vm_flags & 7, bool(area.vm_flags & VM_LOCKED), offset)
    assert found == pages.at
    assert user.mm.total_vm == len(found)
    assert user.mm.locked_vm == sum(locked for _, locked, _ in found.values())
    assert file.f_count == 1 + sum(a.vm_file is file for a in user.mm.areas())
    assert user.m.mmap.do_munmap(user.mm, 0, TASK_SIZE) == 0
    assert (user.mm.map_count, user.mm.total_vm, user.mm.locked_vm, user.mm.rss, file.f_count) == (0, 0, 0, 0, 1)


def _remap(user: User, pages: Pages, page: int, old: int, new: int, target: int) -> None:
    """Move *old* pages to *target*, where they become *new* pages: only when they are one area."""
    areas = [a for a in user.mm.areas() if a.vm_start <= BASE + page * PAGE and BASE + (page + max(old, new)) * PAGE <= a.vm_end]
    fits = bool(areas) and new <= old
    ret = user.m.mremap.sys_mremap(BASE + page * PAGE, old * PAGE, new * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + target * PAGE)
    pages.unmap(target, new)
    if old >= new:
        pages.unmap(page + new, old - new)  # done before anything is looked at
    inside = [a for a in user.mm.areas() if a.vm_start == BASE + target * PAGE or a.vm_start < BASE + target * PAGE < a.vm_end]
    if ret < 0:
        assert ret in (-EFAULT, -ENOMEM) and (not fits or old != new)
        return
    assert ret == BASE + target * PAGE and inside
    for i in range(new):
        first = pages.at[page]
        offset = None if first[2] is None else first[2] + i
        pages.at[target + i] = (first[0], first[1], offset)
    pages.unmap(page, old)


# Which request gets which error?
@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (0x123, (None, 0x123, 0, RW, ANON, 0)),  # nothing to map: any address is fine
        (-EINVAL, (None, 0, TASK_SIZE + 1, RW, ANON, 0)),
        (-EINVAL, (None, 0, 0xFFFFFFFF, RW, ANON, 0)),
        (-EINVAL, (None, 0, PAGE, RW, ANON, 0xFFFFFFFF)),
        (-EINVAL, (None, BASE + 1, PAGE, RW, ANON | MAP_FIXED, 0)),
        (-ENOMEM, (None, TASK_SIZE, PAGE, RW, ANON | MAP_FIXED, 0)),
        (-ENOMEM, (None, 0, TASK_SIZE, RW, ANON, 0)),
        (-EINVAL, (None, 0, PAGE, RW, MAP_ANONYMOUS, 0)),  # neither shared nor private
        (-EINVAL, ("rw", 0, PAGE, RW, 0, 0)),
        (-EINVAL, ("rw", 0, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, 0)),
        (-ENODEV, ("no mmap", 0, PAGE, RW, MAP_PRIVATE, 0)),
        (-EACCES, ("r", 0, PAGE, RW, MAP_SHARED, 0)),
        (-EACCES, ("w", 0, PAGE, PROT_READ, MAP_PRIVATE, 0)),
        (-EACCES, ("append", 0, PAGE, PROT_READ, MAP_SHARED, 0)),
        (-ETXTBSY, ("written", 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_DENYWRITE, 0)),
        (BASE, ("r", 0, PAGE, RW, MAP_PRIVATE, 0)),
    ],
)
def test_mmap_errors(error: int, arguments: tuple[Any, ...]) -> None:
    user = User()
    modes = {"r": 1, "w": 2, "rw": 3, "no mmap": 7, "append": 19, "written": 1}
    files = {name: user.file(fd, 4, mode) for fd, (name, mode) in enumerate(modes.items())}
    files["written"].inode.i_writecount = 1
    before = {name: (f.f_count, f.inode.i_writecount) for name, f in files.items()}
    file, *rest = arguments
    assert user.m.mmap.do_mmap_pgoff(files.get(file), *rest) == error
    if error != BASE:
        assert user.mm.map_count == 0
        assert before == {name: (f.f_count, f.inode.i_writecount) for name, f in files.items()}


def test_limits() -> None:
    user = User()
    mmap = user.m.mmap
    user.task.rlim[RLIMIT_AS] = 4 * PAGE
    assert user.mmap(0, 5) == -ENOMEM
    assert user.mmap(0, 4) == BASE
    assert mmap.do_brk(0x08050000, PAGE) == -ENOMEM
    user.task.rlim[RLIMIT_AS] = 0xFFFFFFFF
    user.task.cap_effective = 1 << CAP_IPC_LOCK
    assert user.m.mlock.sys_mlockall(MCL_FUTURE) == 0
    user.task.rlim[RLIMIT_MEMLOCK] = 2 * PAGE
    assert user.mmap(8, 3) == -EAGAIN
    assert mmap.do_brk(0x08050000, 3 * PAGE) == -EAGAIN
    assert user.mmap(8, 2) == BASE + 8 * PAGE
    assert user.mm.locked_vm == 2 and user.mm.rss == 2  # locked pages are made present at once
    assert user.m.mlock.sys_mlock(BASE, PAGE) == -ENOMEM
    assert user.m.mremap.sys_mremap(BASE + 8 * PAGE, 2 * PAGE, 3 * PAGE, 0) == -EAGAIN


def test_heap() -> None:
    user = User()
    mm = user.mm
    start = 0x08060000
    mm.end_code = mm.start_data = mm.start_brk = mm.brk = start
    brk = user.m.mmap.sys_brk
    assert brk(0) == start  # below the program: refused, which is how one asks where it is
    assert brk(start + 5000) == start + 5000 and user.mm.total_vm == 2
    assert brk(start + 5001) == start + 5001 and user.mm.total_vm == 2
    user.task.rlim[RLIMIT_DATA] = 3 * PAGE
    assert brk(start + 3 * PAGE + 1) == start + 5001
    assert brk(start + 3 * PAGE) == start + 3 * PAGE
    user.task.rlim[RLIMIT_DATA] = 0xFFFFFFFF
    user.m.mmap.do_mmap_pgoff(None, start + 6 * PAGE, PAGE, RW, ANON | MAP_FIXED, 0)
    assert brk(start + 6 * PAGE) == start + 3 * PAGE  # one page between heap and the next area stays free
    assert brk(start + 5 * PAGE) == start + 5 * PAGE
    assert len(mm.areas()) == 2
    assert brk(start) == start and mm.total_vm == 1


def test_promises_are_checked() -> None:
    user = User()
    mmap = user.m.mmap
    mmap.sysctl_overcommit_memory = 0
    free = user.m.nr_free_pages() + user.m.filemap.page_cache_size
    assert mmap.vm_enough_memory(free - 1) and not mmap.vm_enough_memory(free)
    assert user.mmap(0, free + 1) == -ENOMEM
    assert user.mmap(0, free + 1, PROT_READ) == BASE  # what nobody can write needs no promise
    assert user.mprotect(0, free + 1, RW) == 0  # but then this should have asked: the kernel does not
    assert user.mmap(0, free + 1, RW, ANON | MAP_FIXED | MAP_NORESERVE) == BASE
    assert user.m.mremap.sys_mremap(BASE, PAGE, 2 * PAGE + free * PAGE, MREMAP_MAYMOVE) == -ENOMEM


def test_neighbours_merge_only_without_a_file() -> None:
    user = User()
    file = user.file()
    user.mmap(0, 2), user.mmap(4, 2)
    assert user.ranges() == [(0, 2), (4, 6)]
    user.mmap(2, 2)
    assert user.ranges() == [(0, 6)]
    for page in (10, 11):
        user.mmap(page, 1, RW, MAP_PRIVATE | MAP_FIXED, file, page)
    assert user.ranges() == [(0, 6), (10, 11), (11, 12)]
    user.mprotect(2, 2, PROT_READ)
    assert user.ranges()[:3] == [(0, 2), (2, 4), (4, 6)]
    user.mprotect(2, 2, RW)  # melts backwards in the fixup and forwards at the end
    assert user.ranges()[:1] == [(0, 6)]
    user.task.cap_effective = 1 << CAP_IPC_LOCK
    assert user.m.mlock.sys_mlock(BASE + 2 * PAGE, 2 * PAGE) == 0
    assert user.m.mlock.sys_munlock(BASE + 2 * PAGE, 2 * PAGE) == 0
    assert user.ranges()[:3] == [(0, 2), (2, 4), (4, 6)]  # mlock never merges again


def test_where_an_area_goes() -> None:
    user = User()
    mmap = user.m.mmap
    get = mmap.get_unmapped_area
    assert get(None, 0, PAGE, 0, 0) == BASE
    user.mmap(0, 2), user.mmap(5, 1), user.mmap(7, 1, PROT_READ)
    assert get(None, 0, 3 * PAGE, 0, 0) == BASE + 2 * PAGE
    assert get(None, 0, 4 * PAGE, 0, 0) == BASE + 8 * PAGE
    assert get(None, BASE + 6 * PAGE - 1, PAGE, 0, 0) == BASE + 6 * PAGE  # a wish is rounded up
    assert get(None, BASE + 6 * PAGE, 2 * PAGE, 0, 0) == BASE + 2 * PAGE  # and kept only if there is room
    assert get(None, 0x1000, PAGE, 0, 0) == 0x1000
    assert get(None, BASE, PAGE, 0, MAP_FIXED) == BASE  # FIXED does not look


def test_stack_grows_to_its_limit() -> None:
    user = User()
    start = user.m.fork.setup_arg_pages(2)
    assert start == TASK_SIZE - 2 * PAGE and user.mm.total_vm == 2
    area = user.mm.mmap
    assert area is not None
    user.task.rlim[RLIMIT_STACK] = 8 * PAGE
    assert user.m.mmap.expand_stack(area, start - 7 * PAGE) == -ENOMEM
    assert user.m.mmap.find_extend_vma(user.mm, start - 6 * PAGE) is area
    assert (area.vm_start, area.vm_pgoff, user.mm.total_vm) == (start - 6 * PAGE, 0xFFFFFFFA, 8)
    assert user.m.mmap.find_extend_vma(user.mm, start - 7 * PAGE) is None


def test_a_hole_beyond_the_limit_of_areas() -> None:
    user = User()
    user.mmap(0, 9)
    user.m.mmap.max_map_count = 1
    assert user.munmap(4, 1) == -ENOMEM
    assert user.munmap(0, 1) == 0
    assert user.mmap(20, 1) == BASE + 20 * PAGE  # compared with >: one too many is allowed
    assert user.mmap(30, 1) == -ENOMEM


# The kernel's own bug: mremap does not look whether it could clear the target.
def test_mremap_into_the_middle_of_an_area_at_the_limit() -> None:
    user = User()
    user.mmap(0, 9), user.mmap(20, 1, PROT_READ)
    user.m.mmap.max_map_count = 2
    with pytest.raises(KernelBug, match="overlaps"):
        user.m.mremap.sys_mremap(BASE + 20 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 4 * PAGE)


def test_munmap_mprotect_mremap_errors() -> None:
    user = User()
    mmap, mprotect, mremap = user.m.mmap, user.m.mprotect.sys_mprotect, user.m.mremap.sys_mremap
    user.mmap(0, 4), user.mmap(6, 2)
    assert [mmap.sys_munmap(*a) for a in ((BASE + 1, PAGE), (BASE, 0), (TASK_SIZE, PAGE), (BASE, TASK_SIZE))] == [-EINVAL] * 4
    assert mmap.sys_munmap(0x1000, PAGE) == 0  # nothing there
    assert [mprotect(*a) for a in ((BASE + 1, PAGE, 1), (0xFFFFF000, 2 * PAGE, 1), (BASE, PAGE, 8))] == [-EINVAL] * 3
    assert mprotect(BASE, 0, 1) == 0
    assert mprotect(BASE, 7 * PAGE, PROT_READ) == -ENOMEM
    assert user.ranges() == [(0, 4), (6, 8)] and user.mm.areas()[0].vm_flags & 7 == PROT_READ  # done up to the hole
    assert [mremap(BASE, PAGE, PAGE, f, BASE) for f in (4, MREMAP_FIXED, MREMAP_FIXED | MREMAP_MAYMOVE)] == [-EINVAL] * 3
    assert mremap(BASE + 5 * PAGE, PAGE, 2 * PAGE, 0) == -EFAULT
    assert mremap(BASE, 5 * PAGE, 6 * PAGE, 0) == -EFAULT
    assert mremap(BASE, 4 * PAGE, 7 * PAGE, 0) == -ENOMEM
    assert mremap(BASE, 4 * PAGE, 6 * PAGE, 0) == BASE and user.ranges() == [(0, 6), (6, 8)]
    assert mremap(BASE, 6 * PAGE, 2 * PAGE, 0) == BASE and user.ranges() == [(0, 2), (6, 8)]
    read_only = user.file(mode=1)
    user.mmap(9, 1, PROT_READ, MAP_SHARED | MAP_FIXED, read_only)
    assert user.mprotect(9, 1, RW) == -EACCES


def test_mlock_rights() -> None:
    user = User()
    mlock = user.m.mlock
    user.mmap(0, 2)
    assert mlock.sys_mlock(BASE, PAGE) == -EPERM == mlock.sys_munlockall()
    user.task.cap_effective = 1 << CAP_IPC_LOCK
    assert mlock.sys_mlock(BASE, 3 * PAGE) == -ENOMEM
    assert mlock.sys_munlock(BASE + 1, 0xFFFFFFFF) == 0  # 4 GiB and a page wrap to nothing
    assert mlock.sys_mlock(BASE, (user.m.num_physpages // 2 + 1) * PAGE) == -ENOMEM
    assert [mlock.sys_mlockall(f) for f in (0, 4)] == [-EINVAL] * 2
    assert mlock.sys_mlockall(MCL_CURRENT) == 0 and user.mm.locked_vm == 2
    assert mlock.sys_munlockall() == 0 and user.mm.locked_vm == 0


def test_moved_pages_keep_their_frames() -> None:
    user = User()
    user.mmap(0, 3)
    mmu, mremap = user.m.mmu, user.m.mremap.sys_mremap
    for page in range(3):
        mmu.touch(user.task, BASE + page * PAGE, 1, value=100 + page)
    frames = user.mm.rss
    to = mremap(BASE, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x50000000)
    assert to == 0x50000000 and user.mm.rss == frames and user.mm.total_vm == 5
    for page in range(3):
        assert mmu.touch(user.task, to + page * PAGE) == 0  # no fault: the entry moved
        assert mmu.loaded == 100 + page
    assert mmu.touch(user.task, BASE) == -11


def test_protection_reaches_the_entries() -> None:
    user = User()
    user.mmap(0, 1)
    touch = user.m.mmu.touch
    touch(user.task, BASE, 1, value=7)
    user.mprotect(0, 1, PROT_READ)
    assert touch(user.task, BASE) == 0 and touch(user.task, BASE, 1, value=8) == -11
    user.mprotect(0, 1, PROT_NONE)
    assert touch(user.task, BASE) == -11
    user.mprotect(0, 1, RW)
    assert touch(user.task, BASE) == 0 and user.m.mmu.loaded == 7


# Page tables are given back only when nothing needs their 4 MiB any more.
def test_page_tables_go_with_the_last_area() -> None:
    user = User()
    pgtable = user.m.pgtable
    user.mmap(0, 2), user.mmap(5, 1), user.mmap(1024, 1)
    for page in (0, 5, 1024):
        user.m.mmu.touch(user.task, BASE + page * PAGE, 1)
    assert pgtable.pgtable_cache_size == 0
    user.munmap(0, 2)
    assert pgtable.pte_lookup(user.mm, BASE) is not None
    user.munmap(5, 1)
    assert pgtable.pte_lookup(user.mm, BASE) is None and pgtable.pgtable_cache_size == 1
    assert pgtable.pte_lookup(user.mm, BASE + 1024 * PAGE) is not None


def test_chains_of_a_file() -> None:
    user = User()
    file = user.file()
    mapping = file.inode.i_mapping
    for page, flags in ((0, MAP_PRIVATE), (2, MAP_SHARED), (4, MAP_PRIVATE | MAP_DENYWRITE), (6, MAP_SHARED)):
        user.mmap(page, 2, RW, flags | MAP_FIXED, file)
    starts = [[(a.vm_start - BASE) // PAGE for a in chain] for chain in (mapping.i_mmap, mapping.i_mmap_shared)]
    assert starts == [[4, 0], [6, 2]]  # newest first
    assert file.inode.i_writecount == -1
    user.munmap(5, 1)
    assert file.inode.i_writecount == -1
    user.munmap(4, 1)
    assert file.inode.i_writecount == 0
    user.mprotect(3, 1, PROT_READ)  # the upper half is a new area: it goes to the front
    assert [(a.vm_start - BASE) // PAGE for a in mapping.i_mmap_shared] == [3, 6, 2]


def test_text_views() -> None:
    user = User()
    user.mmap(0, 2, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, user.file(), 3)
    user.mmap(4, 1)
    first, second = maps(user.mm).split("\n")
    assert first.startswith("40000000-40002000 r-xp 00003000 00:00 ") and first.index("file") == 49
    assert second == "40004000-40005000 rw-p 00000000 00:00 0"
    assert tree(user.mm) == "    R 40004000-40005000\nB 40000000-40002000"
    assert maps(MmStruct()) == tree(MmStruct()) == ""


def test_every_step_can_be_said() -> None:
    user = User()
    said: list[tuple[Any, ...]] = []
    user.m.on_event = said.append
    user.mmap(0, 9), user.munmap(2, 2), user.mprotect(5, 1, PROT_READ)
    user.m.mremap.sys_mremap(BASE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 20 * PAGE)
    names = {event[0] for event in said}
    assert {"mmap", "vma_link", "munmap", "vma_unlink", "vma_split", "vma_trim", "vm_flags", "move_page_tables"} <= names
    assert all(vmlab.describe(event) for event in said)
