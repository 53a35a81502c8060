"""What must always be true of 2.6's address spaces, checked from the outside.

Lists, trees and counters of areas; who is on whose list of anonymous pages; the priority trees of files;
resident pages and mapcounts against the page tables; promises against the areas that hold them.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

from ..mm.check_areas import _list, _tree, bad
from ..mm.kernel import Kernel
from ..mm.page_flags import RESERVED
from ..mm.vm import VM_LOCKED, MmStruct, VmArea
from .check_lru import check_lru_and_cache
from .check_swap import check_swap
from .fs import ANON, AddressSpace26
from .mmap import Mmap26
from .prio_tree import PrioTreeRoot, heap_index, radix_index
from .rmap import AnonVma
from .vm import VM_ACCOUNT, VM_HUGETLB, VM_NONLINEAR, MmStruct26, VmArea26

_MAPPED = 0x81  # _PAGE_PRESENT | _PAGE_PROTNONE


def check_address_spaces(kernel: Kernel) -> None:
    """Every address space by itself, then what they share: anonymous pages, files, promises. Raises KernelBug."""
    users: Counter[int] = Counter()
    spaces: dict[int, MmStruct26] = {}
    for task in kernel.sched.tasks.values():
        if task.mm is not None:
            users[id(task.mm)] += 1
            spaces[id(task.mm)] = cast(MmStruct26, task.mm)
    for mm in kernel.fork.mmlist:
        if id(mm) not in spaces:
            bad("mmlist", f"{mm!r} is on the mmlist, but no task uses it")
    areas: list[VmArea26] = []
    maps: Counter[int] = Counter()
    for mm in spaces.values():
        if users[id(mm)] != mm.mm_users:
            bad("mm_users", f"{mm!r} has mm_users {mm.mm_users}, but {users[id(mm)]} tasks use it")
        mine = _list(mm)
        _tree(mm, mine)
        _counters(mm, mine)
        areas += cast("list[VmArea26]", mine)
        _resident(kernel, mm, maps)
    mapcount = kernel.mem.column("mapcount", "i", -1)
    for pfn in (p for p in range(kernel.mem.frames) if mapcount[p] >= 0 or maps[p]):
        if mapcount[pfn] + 1 != maps[pfn]:
            bad("mapcount", f"frame {pfn} has mapcount {mapcount[pfn]}, but {maps[pfn]} entries map it")
    _anon_vmas(kernel, areas)
    _files(kernel, areas)
    promised = sum(_pages(vma) for vma in areas if vma.vm_flags & VM_ACCOUNT)
    committed = cast(Mmap26, kernel.mmap).vm_committed_space
    if committed < promised:
        bad("committed", f"{committed} pages are promised, areas with VM_ACCOUNT have {promised}")
    check_swap(kernel)
    check_lru_and_cache(kernel)


def _pages(vma: VmArea) -> int:
    return vma.vm_end - vma.vm_start >> 12


def _counters(mm: MmStruct, areas: list[VmArea]) -> None:
    if len(areas) != mm.map_count:
        bad("map_count", f"{mm!r} has map_count {mm.map_count}, its list has {len(areas)} areas")
    pages = sum(map(_pages, areas))
    if pages != mm.total_vm:
        bad("total_vm", f"{mm!r} has total_vm {mm.total_vm}, its areas have {pages} pages")
    locked = sum(_pages(vma) for vma in areas if vma.vm_flags & VM_LOCKED)
    if locked != mm.locked_vm:
        bad("locked_vm", f"{mm!r} has locked_vm {mm.locked_vm}, its locked areas have {locked} pages")


def _resident(kernel: Kernel, mm: MmStruct26, maps: Counter[int]) -> None:
    """Count the entries of *mm* into *maps*, and compare with its own counters."""
    pgtable, mem = kernel.pgtable, kernel.mem
    rss = anon_rss = tables = 0
    for vma in cast("list[VmArea26]", mm.areas()):
        if vma.vm_flags & VM_HUGETLB:
            return
        address = vma.vm_start
        while address < vma.vm_end:
            found = pgtable.pte_lookup(mm, address)
            limit = min(vma.vm_end, (address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE)
            if found is not None:
                table, slot = found
                for at in range(limit - address >> 12):
                    pte = table[slot + at]
                    pfn = pte >> 12
                    if not pte & _MAPPED or pfn >= kernel.max_mapnr or mem.flags[pfn] & RESERVED:
                        continue
                    rss += 1
                    maps[pfn] += 1
                    if mem.mapping[pfn] & ANON:
                        anon_rss += 1
                        _anonymous(kernel, pfn, vma, address + (at << 12))
            address = limit
    for index in range(pgtable.USER_PTRS_PER_PGD << (9 if pgtable.pae else 0)):
        tables += pgtable.pte_lookup(mm, index * pgtable.PMD_SIZE) is not None
    for name, counted, found_here in (("rss", mm.rss, rss), ("anon_rss", mm.anon_rss, anon_rss), ("nr_ptes", mm.nr_ptes, tables)):
        if counted != found_here:
            bad(name, f"{mm!r} has {name} {counted}, its page tables {found_here}")


def _anonymous(kernel: Kernel, pfn: int, vma: VmArea26, address: int) -> None:
    """The reverse mapping must lead from the page to this very entry."""
    owner: object = kernel.mappings.get(kernel.mem.mapping[pfn])
    if owner is not vma.anon_vma:
        bad("anon_vma", f"frame {pfn} at {address:#x} of {vma} belongs to {owner!r}, the area to {vma.anon_vma!r}")
    expected = (address - vma.vm_start >> 12) + vma.vm_pgoff & 0xFFFFFFFF
    if kernel.mem.index[pfn] != expected:
        bad("index", f"frame {pfn} at {address:#x} of {vma} has index {kernel.mem.index[pfn]}, its place is {expected}")


def _anon_vmas(kernel: Kernel, areas: list[VmArea26]) -> None:
    """Every area is once on the list of its anon_vma, and nothing else is."""
    due = Counter((vma.anon_vma.serial, id(vma)) for vma in areas if vma.anon_vma is not None)
    have = Counter((a.serial, id(v)) for a in kernel.mappings.values() if isinstance(a, AnonVma) for v in a.head)
    if due != have:
        serial = next(key for key in (due - have) + (have - due))[0]
        bad("anon_vma", f"the list of anon_vma {serial} is not that of the areas that name it")


def _files(kernel: Kernel, areas: list[VmArea26]) -> None:
    """Every area of a file is once in its tree or on its list of nonlinear areas; the tree is a heap by last page."""
    due: Counter[tuple[int, bool, int]] = Counter()
    for area in areas:
        if area.vm_file is not None:
            due[area.vm_file.inode.i_mapping.id, bool(area.vm_flags & VM_NONLINEAR), id(area)] += 1
    have: Counter[tuple[int, bool, int]] = Counter()
    for mapping in kernel.mappings.values():
        if not isinstance(mapping, AddressSpace26):
            continue
        root: PrioTreeRoot | None = mapping.i_mmap
        for vma in root.everything() if root is not None else ():
            have[mapping.id, False, id(vma)] += 1
            for child in (vma.shared_left, vma.shared_right) if vma.shared_parent is not None else ():
                if child is not None and (child.shared_parent is not vma or heap_index(child) > heap_index(vma)):
                    bad("prio_tree", f"{child} hangs below {vma}, but names another parent or ends later")
            head = vma.shared_head
            if head is not None and (radix_index(head), heap_index(head)) != (radix_index(vma), heap_index(vma)):
                bad("prio_tree", f"{head} stands behind {vma}, but maps other pages")
        for area in cast("list[VmArea26]", mapping.i_mmap_nonlinear):
            have[mapping.id, True, id(area)] += 1
    if due != have:
        where = next(key for key in (due - have) + (have - due))[0]
        bad("i_mmap", f"the areas of {kernel.mappings[where]!r} are not those that map it")
