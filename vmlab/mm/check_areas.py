"""Invariants of address spaces: list and tree of areas, counters, chains of files."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

from ..errors import KernelBug
from .kernel import Kernel
from .vm import RB_BLACK, RB_RED, VM_LOCKED, VM_SHARED, MmStruct, VmArea

__all__ = ["bad", "check_address_spaces", "check_chains"]


def bad(kind: str, why: str) -> NoReturn:
    """Report a broken invariant; *kind* is which one, in a word or two."""
    raise KernelBug("check", why, kind)


def check_address_spaces(kernel: Kernel) -> None:
    """mmlist and tasks, and of every address space the list, the tree and the counters."""
    users: Counter[int] = Counter()
    for task in kernel.sched.tasks.values():
        if task.mm is not None:
            users[id(task.mm)] += 1
    listed = Counter(id(mm) for mm in kernel.fork.mmlist)
    for task in kernel.sched.tasks.values():
        if task.mm is not None and listed[id(task.mm)] != 1:
            bad("mmlist", f"the address space of {task.pid} {task.comm} is on the mmlist {listed[id(task.mm)]} times")
    for mm in kernel.fork.mmlist:
        if users[id(mm)] != mm.mm_users:
            bad("mm_users", f"{mm!r} has mm_users {mm.mm_users}, but {users[id(mm)]} tasks use it")
        areas = _list(mm)
        _tree(mm, areas)
        pages = sum(vma.vm_end - vma.vm_start for vma in areas) >> 12
        if len(areas) != mm.map_count:
            bad("map_count", f"{mm!r} has map_count {mm.map_count}, its list has {len(areas)} areas")
        if pages != mm.total_vm:
            bad("total_vm", f"{mm!r} has total_vm {mm.total_vm}, its areas have {pages} pages")
        locked = sum(vma.vm_end - vma.vm_start for vma in areas if vma.vm_flags & VM_LOCKED) >> 12
        if locked != mm.locked_vm:
            bad("locked_vm", f"{mm!r} has locked_vm {mm.locked_vm}, its locked areas have {locked} pages")


def _list(mm: MmStruct) -> list[VmArea]:
    """The areas by the list: sorted, none empty, none overlapping."""
    areas: list[VmArea] = []
    vma, end = mm.mmap, 0
    while vma is not None:
        if vma.vm_mm is not mm:
            bad("vm_mm", f"{vma} is on the list of {mm!r}, but belongs to {vma.vm_mm!r}")
        if (vma.vm_start | vma.vm_end) & 0xFFF or vma.vm_start >= vma.vm_end:
            bad("area", f"{vma} of {mm!r} is empty, or not of whole pages")
        if vma.vm_start < end:
            bad("overlap", f"{vma} begins below {end:#x}, where the area before it on the list of {mm!r} ends")
        end = vma.vm_end
        areas.append(vma)
        vma = vma.vm_next
    return areas


def _tree(mm: MmStruct, areas: list[VmArea]) -> None:
    """The tree holds the very areas of the list in the same order, and obeys the red-black rules."""
    root = mm.mm_rb
    if root is not None and (root.rb_color != RB_BLACK or root.rb_parent is not None):
        bad("red-black", f"the root of the tree of {mm!r}, {root}, is red or has a parent")
    found: list[VmArea] = []
    blacks = -1
    todo: list[tuple[VmArea, int, bool]] = [(root, 0, False)] if root is not None else []
    while todo:
        node, above, seen = todo.pop()
        if seen:
            found.append(node)
            continue
        if len(found) + len(todo) > 4 * len(areas) + 8:
            bad("tree", f"the tree of {mm!r} has more areas than its list, or a ring")
        here = above + (node.rb_color == RB_BLACK)
        for child in (node.rb_right, node.rb_left):
            if child is None:
                if blacks not in (-1, here):
                    bad("red-black", f"paths of {blacks} and of {here} black areas in the tree of {mm!r}, the latter to {node}")
                blacks = here
                continue
            if child.rb_parent is not node:
                bad("tree", f"{child} hangs below {node} in the tree of {mm!r}, but names {child.rb_parent} as its parent")
            if node.rb_color == RB_RED == child.rb_color:
                bad("red-black", f"{node} and {child} below it are both red in the tree of {mm!r}")
        if node.rb_right is not None:
            todo.append((node.rb_right, here, False))
        todo.append((node, here, True))
        if node.rb_left is not None:
            todo.append((node.rb_left, here, False))
    if len(found) != len(areas) or any(a is not b for a, b in zip(found, areas, strict=True)):
        bad("tree", f"the tree of {mm!r} holds {found}, its list {areas}")


def check_chains(kernel: Kernel) -> None:
    """Every area of a file is once on the right chain of that file, and nothing else is; open files are counted."""
    due: Counter[tuple[int, bool, int]] = Counter()
    files: Counter[int] = Counter()
    names = {}
    for mm in kernel.fork.mmlist:
        for vma in mm.areas():
            if vma.vm_file is not None:
                due[vma.vm_file.inode.i_mapping.id, bool(vma.vm_flags & VM_SHARED), id(vma)] += 1
                files[id(vma.vm_file)] += 1
                names[id(vma.vm_file)] = vma.vm_file
    for task in kernel.sched.tasks.values():
        for file in task.files.values():
            files[id(file)] += 1
            names[id(file)] = file
    for ident, refs in files.items():
        if names[ident].f_count < refs:
            bad("f_count", f"{names[ident]!r} has f_count {names[ident].f_count}, but {refs} areas and descriptors use it")
    have: Counter[tuple[int, bool, int]] = Counter()
    for mapping in kernel.mappings.values():
        for shared, chain in ((False, mapping.i_mmap), (True, mapping.i_mmap_shared)):
            for vma in chain:
                key = mapping.id, shared, id(vma)
                have[key] += 1
                if have[key] > due[key]:
                    where = "i_mmap_shared" if shared else "i_mmap"
                    bad("i_mmap", f"{vma} is on {where} of {mapping!r} ({have[key]} times), where it does not belong")
    if due != have:
        missing = next(key for key in due if due[key] != have[key])
        bad("i_mmap", f"an area that maps a file is missing on the chain of {kernel.mappings[missing[0]]!r}")
