"""The areas of an address space: found by address, put into list and tree, merged with neighbours.

Every area is on the list by address (``mm.mmap``, ``vm_next``), in the red-black tree (``mm.mm_rb``),
and, if it maps a file, on one of the file's chains ``i_mmap`` / ``i_mmap_shared``. Addresses are in
bytes, unsigned 32 bits. kernel: mm/mmap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import KernelBug
from .errno import ENOMEM
from .gfp import GFP_KERNEL
from .kernel import Part
from .rbtree import LEFT, RIGHT, rb_erase, rb_insert_color, rb_link_node
from .task import RLIMIT_AS, RLIMIT_STACK
from .vfs import get_file
from .vm import VM_DENYWRITE, VM_GROWSDOWN, VM_LOCKED, VM_SHARED, MmStruct, VmArea

if TYPE_CHECKING:
    from .kernel import Kernel

U32 = 0xFFFFFFFF
PAGE_MASK = 0xFFFFF000


def page_align(value: int) -> int:
    """Up to a page boundary, in 32 bits: 0xfffff001 becomes 0. kernel: include/asm-i386/page.h:PAGE_ALIGN"""
    return value + 0xFFF & PAGE_MASK


def can_vma_merge(vma: VmArea, vm_flags: int) -> bool:
    """Only areas without a file and with the very same flags merge. kernel: include/linux/mm.h:can_vma_merge"""
    return vma.vm_file is None and vma.vm_flags == vm_flags


class Place(NamedTuple):
    """Where find_vma_prepare looked: the area found, its lower neighbour, and where in the tree a new area belongs."""

    vma: VmArea | None
    prev: VmArea | None
    rb_parent: VmArea | None
    right: bool


class Areas(Part):
    """Finding and linking areas; the base of Mmap."""

    state_names: tuple[str, ...] = ("structs",)
    area_class: type[VmArea] = VmArea

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        # vm_area_struct by its address in RAM. A freed struct keeps its contents until it is allocated again, and
        # mmap_cache can still point to it: fork copies mm_rb, so reclaim in the middle of a fork caches the parent's area.
        self.structs: dict[int, VmArea] = {}

    # -- the records themselves ----------------------------------------------------------------

    def alloc_vma(self) -> VmArea | None:
        """A vm_area_struct with whatever it held before, or None. May reclaim."""
        slab = self.kernel.slab
        address = slab.kmem_cache_alloc(slab.vm_area_cachep, GFP_KERNEL)
        if not address:
            return None
        vma = self.structs.get(address)
        if vma is None:
            vma = self.area_class(None)
            vma.address = address
            if self.kernel.config.kernel_objects in ("ram", "vm-only"):
                self.structs[address] = vma
        return vma

    def copy_vma(self, vma: VmArea) -> VmArea | None:
        """A new record with everything *vma* has, or None. Its read-ahead restarts and it belongs to no list yet."""
        new = self.alloc_vma()
        if new is not None:
            self.assign_vma(new, vma)
            new.vm_raend = 0
        return new

    def assign_vma(self, new: VmArea, vma: VmArea) -> None:
        """``*new = *vma``: every field, but not the struct's own address."""
        for name in VmArea.__slots__:
            if name != "address":
                setattr(new, name, getattr(vma, name))

    def free_vma(self, vma: VmArea) -> None:
        """Give the record back to its slab cache."""
        if self.on_event is not None:
            self.on_event(("vma_free", vma.vm_mm.pid if vma.vm_mm else -1, vma.vm_start, vma.vm_end))
        slab = self.kernel.slab
        slab.kmem_cache_free(slab.vm_area_cachep, vma.address)

    # -- finding -------------------------------------------------------------------------------

    def find_vma(self, mm: MmStruct | None, addr: int) -> VmArea | None:
        """The first area that ends above *addr*, or None. It may begin above *addr*: compare ``vm_start``.

        Remembers it in ``mmap_cache``, where the next search looks first. kernel: mm/mmap.c:find_vma
        """
        if mm is None:
            return None
        vma = mm.mmap_cache
        if vma is not None and vma.vm_start <= addr < vma.vm_end:
            return vma
        vma = None
        node = mm.mm_rb
        while node is not None:
            if node.vm_end > addr:
                vma = node
                if node.vm_start <= addr:
                    break
                node = node.rb_left
            else:
                node = node.rb_right
        if vma is not None:
            mm.mmap_cache = vma
        return vma

    def find_vma_prev(self, mm: MmStruct | None, addr: int) -> tuple[VmArea | None, VmArea | None]:
        """As find_vma, with the area before it: (area, previous). Both None when no area ends above *addr*.

        Raises KernelBug when list and tree disagree. kernel: mm/mmap.c:find_vma_prev
        """
        if mm is None:
            return None, None
        vma = prev = last_right = None
        node = mm.mm_rb
        while node is not None:
            if node.vm_end > addr:
                vma, prev = node, last_right
                if node.vm_start <= addr:
                    break
                node = node.rb_left
            else:
                last_right = node
                node = node.rb_right
        if vma is None:
            return None, None
        if vma.rb_left is not None:
            prev = vma.rb_left
            while prev.rb_right is not None:
                prev = prev.rb_right
        if (prev.vm_next if prev is not None else mm.mmap) is not vma:
            raise KernelBug("find_vma_prev", f"the list does not lead from {prev} to {vma}, the tree does", "list")
        return vma, prev

    def find_vma_intersection(self, mm: MmStruct | None, start_addr: int, end_addr: int) -> VmArea | None:
        """The first area with a byte in [start_addr, end_addr), or None. kernel: include/linux/mm.h:find_vma_intersection"""
        vma = self.find_vma(mm, start_addr)
        return None if vma is not None and end_addr <= vma.vm_start else vma

    def find_vma_prepare(self, mm: MmStruct, addr: int) -> Place:
        """The place in the tree for an area at *addr*. When an area contains *addr* only ``vma`` is meaningful.

        kernel: mm/mmap.c:find_vma_prepare
        """
        vma = prev = parent = None
        right = LEFT
        node = mm.mm_rb
        while node is not None:
            parent = node
            if node.vm_end > addr:
                vma = node
                if node.vm_start <= addr:
                    return Place(vma, None, None, LEFT)
                node, right = node.rb_left, LEFT
            else:
                prev = node
                node, right = node.rb_right, RIGHT
        return Place(vma, prev, parent, right)

    def find_extend_vma(self, mm: MmStruct, addr: int) -> VmArea | None:
        """The area of *addr*, a stack grown down to it if need be; None if there is none. kernel: mm/mmap.c:find_extend_vma"""
        addr &= PAGE_MASK
        vma = self.find_vma(mm, addr)
        if vma is None or vma.vm_start <= addr:
            return vma
        if not vma.vm_flags & VM_GROWSDOWN:
            return None
        start = vma.vm_start
        if self.expand_stack(vma, addr):
            return None
        if vma.vm_flags & VM_LOCKED:
            self.kernel.memory.make_pages_present(addr, start)
        return vma

    def expand_stack(self, vma: VmArea, address: int) -> int:
        """Let *vma* begin at the page of *address*. Returns 0, or -ENOMEM past the limits of the current task.

        kernel: include/linux/mm.h:expand_stack
        """
        rlim = self.kernel.current.rlim
        mm = vma.vm_mm
        assert mm is not None
        address &= PAGE_MASK
        grow = (vma.vm_start - address & U32) >> 12  # pages
        if (vma.vm_end - address & U32) > rlim[RLIMIT_STACK] or (mm.total_vm + grow << 12 & U32) > rlim[RLIMIT_AS]:
            return -ENOMEM
        vma.vm_start = address
        vma.vm_pgoff = vma.vm_pgoff - grow & U32  # an anonymous area's offset means nothing, and goes below zero here
        mm.total_vm = mm.total_vm + grow & U32
        if vma.vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + grow & U32
        if self.on_event is not None:
            self.on_event(("expand_stack", mm.pid, address, grow))
        return 0

    # -- linking -------------------------------------------------------------------------------

    def vma_link_list(self, mm: MmStruct, vma: VmArea, prev: VmArea | None, rb_parent: VmArea | None) -> None:
        """After *prev*; with none it is the lowest, and the tree's parent is what follows. kernel: mm/mmap.c:__vma_link_list"""
        if prev is not None:
            vma.vm_next = prev.vm_next
            prev.vm_next = vma
        else:
            mm.mmap = vma
            vma.vm_next = rb_parent

    def vma_link_rb(self, mm: MmStruct, vma: VmArea, rb_parent: VmArea | None, right: bool) -> None:
        """Into the tree, on one side of *rb_parent*. kernel: mm/mmap.c:__vma_link_rb"""
        rb_link_node(vma, rb_parent, right, mm)
        rb_insert_color(vma, mm, self.on_event)

    def vma_link_file(self, vma: VmArea) -> None:
        """At the head of the file's chain of areas. kernel: mm/mmap.c:__vma_link_file"""
        file = vma.vm_file
        if file is None:
            return
        inode = file.inode
        if vma.vm_flags & VM_DENYWRITE:
            inode.i_writecount -= 1
        mapping = inode.i_mapping
        (mapping.i_mmap_shared if vma.vm_flags & VM_SHARED else mapping.i_mmap).insert(0, vma)

    def vma_link_all(self, mm: MmStruct, vma: VmArea, place: Place) -> None:
        """Into the list, the tree and the file's chain. kernel: mm/mmap.c:__vma_link"""
        if self.on_event is not None:
            self.on_event(("vma_link", mm.pid, vma.vm_start, vma.vm_end, vma.vm_flags))
        self.vma_link_list(mm, vma, place.prev, place.rb_parent)
        self.vma_link_rb(mm, vma, place.rb_parent, place.right)
        self.vma_link_file(vma)

    def vma_link(self, mm: MmStruct, vma: VmArea, place: Place) -> None:
        """Link a new area where *place* says, and count it. kernel: mm/mmap.c:vma_link"""
        self.vma_link_all(mm, vma, place)
        mm.map_count += 1

    def insert_vm_struct(self, mm: MmStruct, vma: VmArea) -> None:
        """Find the area's place and link it there. Raises KernelBug if another one is in the way.

        kernel: mm/mmap.c:insert_vm_struct, __insert_vm_struct
        """
        place = self.find_vma_prepare(mm, vma.vm_start)
        if place.vma is not None and place.vma.vm_start < vma.vm_end:
            raise KernelBug("insert_vm_struct", f"{vma} overlaps {place.vma}", "overlap")
        self.vma_link(mm, vma, place)

    def vma_unlink(self, mm: MmStruct, vma: VmArea, prev: VmArea) -> None:
        """Take *vma*, which follows *prev*, out of list and tree. kernel: include/linux/mm.h:__vma_unlink"""
        prev.vm_next = vma.vm_next
        rb_erase(vma, mm, self.on_event)
        if mm.mmap_cache is vma:
            mm.mmap_cache = prev

    def remove_shared_vm_struct(self, vma: VmArea) -> None:
        """Off the file's chain. kernel: mm/mmap.c:remove_shared_vm_struct, __remove_shared_vm_struct"""
        file = vma.vm_file
        if file is None:
            return
        inode = file.inode
        if vma.vm_flags & VM_DENYWRITE:
            inode.i_writecount += 1
        mapping = inode.i_mapping
        (mapping.i_mmap_shared if vma.vm_flags & VM_SHARED else mapping.i_mmap).remove(vma)

    def build_mmap_rb(self, mm: MmStruct) -> None:
        """Make the tree anew from the list: each area goes to the right of the one before. kernel: mm/mmap.c:build_mmap_rb"""
        mm.mm_rb = None
        parent = None
        vma = mm.mmap
        while vma is not None:
            self.vma_link_rb(mm, vma, parent, RIGHT)
            parent = vma
            vma = vma.vm_next

    def vma_merge(self, mm: MmStruct, prev: VmArea | None, rb_parent: VmArea, addr: int, end: int, vm_flags: int) -> bool:
        """Let a neighbour grow over [addr, end) instead of making a new area. Returns whether one could.

        Both neighbours become one when the range closes the gap between them. File offsets are not
        looked at: areas that have a file never merge. kernel: mm/mmap.c:vma_merge
        """
        ev = self.on_event
        if prev is None:
            follower: VmArea | None = rb_parent
        elif prev.vm_end == addr and can_vma_merge(prev, vm_flags):
            prev.vm_end = end
            following = prev.vm_next
            if following is not None and end == following.vm_start and can_vma_merge(following, vm_flags):
                prev.vm_end = following.vm_end
                self.vma_unlink(mm, following, prev)
                mm.map_count -= 1
                self.free_vma(following)
            if ev is not None:
                ev(("vma_merge", mm.pid, prev.vm_start, prev.vm_end))
            return True
        else:
            follower = prev.vm_next
        if follower is None or not can_vma_merge(follower, vm_flags) or end != follower.vm_start:
            return False
        follower.vm_start = addr
        if ev is not None:
            ev(("vma_merge", mm.pid, addr, follower.vm_end))
        return True

    # -- files ---------------------------------------------------------------------------------

    def get_area_file(self, vma: VmArea) -> None:
        """Another area of the same file: count it and tell the file system. *vma* is the new one."""
        if vma.vm_file is not None:
            get_file(vma.vm_file)
        if vma.vm_ops is not None and vma.vm_ops.open is not None:
            vma.vm_ops.open(vma)
