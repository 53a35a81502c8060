"""Address spaces and their areas as 2.6 keeps them. kernel: include/linux/sched.h, include/linux/mm.h, include/asm-i386/page.h"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mm.vm import (
    VM_GROWSDOWN,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_READ,
    VM_WRITE,
    MmStruct,
    VmArea,
)

if TYPE_CHECKING:
    from .rmap import AnonVma

VM_ACCOUNT = 0x100000  # its pages are promised: counted in vm_committed_space
VM_HUGETLB = 0x400000
VM_NONLINEAR = 0x800000  # remap_file_pages was used: pages come in any order
VM_DATA_DEFAULT_FLAGS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC  # 2.4 added VM_EXEC
VM_STACK_FLAGS = VM_GROWSDOWN | VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT

PROT_SEM = 8
PROT_GROWSDOWN, PROT_GROWSUP = 0x01000000, 0x02000000
MAP_LOCKED = 0x2000
MAP_POPULATE, MAP_NONBLOCK = 0x8000, 0x10000


class VmArea26(VmArea):
    """In 2.6 an area leads to its anonymous pages' list (``anon_vma``) and sits in a tree by file offset, because reclaim must find the
    areas that map a page; before that an area of a file was on one of two lists, and nothing led to an anonymous one.

    The ``shared_`` fields are one union in C: for a node of a file's priority tree its two children and
    parent (None: no child; the root is its own parent); for a further area of the same pages the next and
    previous ones on a ring, with no parent. ``shared_head``: the first of that ring, or back to the tree node.
    kernel: include/linux/mm.h:vm_area_struct
    """

    __slots__ = ("anon_vma", "shared_head", "shared_left", "shared_parent", "shared_right", "vm_truncate_count")

    def __init__(self, mm: MmStruct | None, start: int = 0, end: int = 0, flags: int = 0) -> None:
        super().__init__(mm, start, end, flags)
        self.anon_vma: AnonVma | None = None
        self.vm_truncate_count = 0  # which truncation of the file has seen this area
        self.shared_left: VmArea26 | None = None
        self.shared_right: VmArea26 | None = None
        self.shared_parent: VmArea26 | None = None
        self.shared_head: VmArea26 | None = None

    def __getstate__(self) -> dict[str, object]:
        # The tree's links are saved by its root, those of the list and the red-black tree by the MmStruct.
        return {name: getattr(self, name) for name in _SAVED if hasattr(self, name)}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        for name in _SHARED:
            if not hasattr(self, name):  # its file's tree may have been there first
                setattr(self, name, None)


_LINKS = ("rb_left", "rb_right", "rb_parent", "vm_next")
_SHARED = ("shared_left", "shared_right", "shared_parent", "shared_head")
_SAVED = tuple(name for name in (*VmArea.__slots__, *VmArea26.__slots__) if name not in _LINKS and name not in _SHARED)
ASSIGNED = tuple(name for name in (*VmArea.__slots__, *VmArea26.__slots__) if name != "address")
"""What ``*new = *vma`` copies."""


class MmStruct26(MmStruct):
    """In 2.6 an address space says where mappings go and keeps more accounts, because the layout became a choice of each program; before
    that mappings went up from a third of the address space.

    Counts are pages. kernel: include/linux/sched.h:mm_struct
    """

    def __init__(self) -> None:
        super().__init__()
        self.anon_rss = 0  # resident pages that are anonymous
        self.nr_ptes = 0  # page tables
        self.hiwater_rss = self.hiwater_vm = 0  # the most there ever were
        self.shared_vm = self.exec_vm = self.stack_vm = self.reserved_vm = 0
        self.mmap_base = 0  # where the search for a gap begins
        self.free_area_cache = 0  # where it goes on
        self.legacy = False  # the search goes upwards
