"""Areas in 2.6: shrunk, grown, split and merged by one function, ``vma_adjust``.

Two neighbours merge when nothing tells them apart: same flags, same file at the next offset, and lists of
anonymous pages that can be one. kernel: mm/mmap.c
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..mm.errno import EINVAL, ENOMEM
from ..mm.mmap_areas import U32, Areas, Place
from ..mm.vfs import fput
from ..mm.vm import (
    VM_DENYWRITE,
    VM_DONTCOPY,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_IO,
    VM_READ,
    VM_RESERVED,
    VM_SHARED,
    VM_WRITE,
)
from .prio_tree import PrioTreeRoot, heap_index, radix_index, vma_prio_tree_foreach, vma_prio_tree_insert, vma_prio_tree_remove
from .vm import ASSIGNED, VM_HUGETLB, VM_NONLINEAR, MmStruct26, VmArea26

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.vm import MmStruct, VmArea
    from .fs import AddressSpace26
    from .rmap import AnonVma

VM_SPECIAL = VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_RESERVED
HPAGE_MASK = 0xFFC00000
_RIGHTS = VM_READ | VM_WRITE | VM_EXEC


def is_mergeable_vma(vma: VmArea26, file: File | None, vm_flags: int) -> bool:
    """In 2.6 areas of a file merge too, because the offset is compared; before that only anonymous ones did.

    kernel: mm/mmap.c:is_mergeable_vma
    """
    return vma.vm_flags == vm_flags and vma.vm_file is file and (vma.vm_ops is None or vma.vm_ops.close is None)


def is_mergeable_anon_vma(one: AnonVma | None, other: AnonVma | None) -> bool:
    """In 2.6 new, because of AnonVma: an area has only one list. kernel: mm/mmap.c:is_mergeable_anon_vma"""
    return one is None or other is None or one is other


def can_vma_merge_before(vma: VmArea26, vm_flags: int, anon_vma: AnonVma | None, file: File | None, vm_pgoff: int) -> bool:
    """In 2.6 the place in the file counts, because areas of files merge too; before that flags alone decided.

    Whether something with these properties can be joined to *vma* from below; *vm_pgoff* is that of the page
    where *vma* begins. kernel: mm/mmap.c:can_vma_merge_before
    """
    return is_mergeable_vma(vma, file, vm_flags) and is_mergeable_anon_vma(anon_vma, vma.anon_vma) and vma.vm_pgoff == vm_pgoff & U32


def can_vma_merge_after(vma: VmArea26, vm_flags: int, anon_vma: AnonVma | None, file: File | None, vm_pgoff: int) -> bool:
    """In 2.6 the place in the file counts, because areas of files merge too; before that flags alone decided.

    Whether something with these properties, from page *vm_pgoff* on, can be joined to *vma* from above.
    kernel: mm/mmap.c:can_vma_merge_after
    """
    return (
        is_mergeable_vma(vma, file, vm_flags)
        and is_mergeable_anon_vma(anon_vma, vma.anon_vma)
        and vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12) & U32 == vm_pgoff
    )


class Areas26(Areas):
    """In 2.6 areas are changed in place, because a file's tree and the lists of anonymous pages must follow; before that each call cut and
    linked areas its own way.

    The base of Mmap26. kernel: mm/mmap.c
    """

    area_class = VmArea26

    def assign_vma(self, new: VmArea, vma: VmArea) -> None:
        """In 2.6 more fields are copied, because areas have more. kernel: none (``*new = *vma``)"""
        for name in ASSIGNED:
            setattr(new, name, getattr(vma, name))

    def init_vma(self, vma: VmArea, mm: MmStruct, start: int, end: int, vm_flags: int) -> None:
        """In 2.6 a new record is zeroed first, because it has more fields; before that those needed were set one by one.

        kernel: mm/mmap.c:do_mmap_pgoff
        """
        address = vma.address
        VmArea26.__init__(cast(VmArea26, vma), mm, start, end, vm_flags)
        vma.address = address

    def find_vma_prev(self, mm: MmStruct | None, addr: int) -> tuple[VmArea | None, VmArea | None]:
        """In 2.6 the lower neighbour is found even where no area lies above, because the top-down search needs it; before that both were
        None then.

        kernel: mm/mmap.c:find_vma_prev
        """
        if mm is None:
            return None, None
        prev: VmArea | None = None
        node = mm.mm_rb
        while node is not None:
            if addr < node.vm_end:
                node = node.rb_left
            else:
                prev = node
                if prev.vm_next is None or addr < prev.vm_next.vm_end:
                    break
                node = node.rb_right
        return (mm.mmap if prev is None else prev.vm_next), prev

    # -- linking -------------------------------------------------------------------------------

    def mapping_of(self, vma: VmArea) -> AddressSpace26:
        """What the area's file caches, with a tree of areas."""
        assert vma.vm_file is not None
        mapping = cast("AddressSpace26", vma.vm_file.inode.i_mapping)
        if mapping.i_mmap is None:
            mapping.i_mmap = PrioTreeRoot()
        return mapping

    def vma_prio_tree_foreach(self, mapping: AddressSpace26, first: int, last: int) -> Iterator[VmArea26]:
        """In 2.6 new, because of the tree: the areas that map one of the pages *first* to *last* of a file.

        kernel: include/linux/mm.h:vma_prio_tree_foreach
        """
        return vma_prio_tree_foreach(mapping.i_mmap, first, last)

    def vma_nonlinear_insert(self, vma: VmArea26, mapping: AddressSpace26) -> None:
        """In 2.6 new, because of remap_file_pages: an area in no order is on a list of its own.

        kernel: include/linux/mm.h:vma_nonlinear_insert
        """
        vma.shared_parent = None
        mapping.i_mmap_nonlinear.append(vma)

    def _tree_insert(self, vma: VmArea26, root: PrioTreeRoot) -> None:
        if self.on_event is not None:
            self.on_event(("prio_insert", vma.vm_start, radix_index(vma), heap_index(vma)))
        vma_prio_tree_insert(vma, root)

    def _tree_remove(self, vma: VmArea26, root: PrioTreeRoot) -> None:
        if self.on_event is not None:
            self.on_event(("prio_remove", vma.vm_start, radix_index(vma), heap_index(vma)))
        vma_prio_tree_remove(vma, root)

    def vma_link_file(self, vma: VmArea) -> None:
        """In 2.6 into the file's tree, and shared writers are counted, because truncation and locks ask for them; before that at the head
        of one of two lists.

        kernel: mm/mmap.c:__vma_link_file
        """
        file = vma.vm_file
        if file is None:
            return
        mapping = self.mapping_of(vma)
        if vma.vm_flags & VM_DENYWRITE:
            file.inode.i_writecount -= 1
        if vma.vm_flags & VM_SHARED:
            mapping.i_mmap_writable = mapping.i_mmap_writable + 1 & U32
        area = cast(VmArea26, vma)
        if vma.vm_flags & VM_NONLINEAR:
            self.vma_nonlinear_insert(area, mapping)
        else:
            self._tree_insert(area, mapping.i_mmap)

    def remove_shared_vm_struct(self, vma: VmArea) -> None:
        """In 2.6 out of the file's tree, because it replaces the lists. kernel: mm/mmap.c:__remove_shared_vm_struct"""
        file = vma.vm_file
        if file is None:
            return
        mapping = self.mapping_of(vma)
        if vma.vm_flags & VM_DENYWRITE:
            file.inode.i_writecount += 1
        if vma.vm_flags & VM_SHARED:
            mapping.i_mmap_writable = mapping.i_mmap_writable - 1 & U32  # fork did not count its copies: it can wrap
        area = cast(VmArea26, vma)
        if vma.vm_flags & VM_NONLINEAR:
            mapping.i_mmap_nonlinear.remove(area)
        else:
            self._tree_remove(area, mapping.i_mmap)

    def remove_vm_struct(self, vma: VmArea26) -> None:
        """In 2.6 one function for munmap and exit, because an anonymous list must be left too. kernel: mm/mmap.c:remove_vm_struct"""
        file = vma.vm_file
        self.remove_shared_vm_struct(vma)
        if vma.vm_ops is not None and vma.vm_ops.close is not None:
            vma.vm_ops.close(vma)
        if file is not None:
            fput(self.kernel, file)
        self.kernel.rmap.anon_vma_unlink(vma)  # type: ignore[attr-defined]
        self.free_vma(vma)

    def vma_link_all(self, mm: MmStruct, vma: VmArea, place: Place) -> None:
        """In 2.6 also into the list of its anonymous pages, because reclaim looks there; the file's tree is the caller's affair.

        kernel: mm/mmap.c:__vma_link
        """
        if self.on_event is not None:
            self.on_event(("vma_link", mm.pid, vma.vm_start, vma.vm_end, vma.vm_flags))
        self.vma_link_list(mm, vma, place.prev, place.rb_parent)
        self.vma_link_rb(mm, vma, place.rb_parent, place.right)
        self.kernel.rmap.anon_vma_link(vma)  # type: ignore[attr-defined]

    def vma_link(self, mm: MmStruct, vma: VmArea, place: Place) -> None:
        """In 2.6 the area notes how often its file was truncated, because an unmapping under way skips areas that have seen it.

        kernel: mm/mmap.c:vma_link
        """
        if vma.vm_file is not None:
            cast(VmArea26, vma).vm_truncate_count = self.mapping_of(vma).truncate_count
        self.vma_link_all(mm, vma, place)
        self.vma_link_file(vma)
        mm.map_count += 1

    def insert_vm_struct(self, mm: MmStruct, vma: VmArea) -> int:  # type: ignore[override]
        """In 2.6 an anonymous area gets an offset that follows from its address, because neighbours merge by offset; before that it was 0.

        Returns 0, or -ENOMEM if another area is in the way (before that a bug).
        kernel: mm/mmap.c:insert_vm_struct
        """
        area = cast(VmArea26, vma)
        if vma.vm_file is None:
            if area.anon_vma is not None:
                raise KernelBug("insert_vm_struct", f"{vma} has anonymous pages already", "anon_vma")
            vma.vm_pgoff = vma.vm_start >> 12
        place = self.find_vma_prepare(mm, vma.vm_start)
        if place.vma is not None and place.vma.vm_start < vma.vm_end:
            return -ENOMEM
        self.vma_link(mm, vma, place)
        return 0

    def insert_split(self, mm: MmStruct, vma: VmArea26) -> None:
        """In 2.6 new, because vma_adjust has put the area into the file's tree already. kernel: mm/mmap.c:__insert_vm_struct"""
        place = self.find_vma_prepare(mm, vma.vm_start)
        if place.vma is not None and place.vma.vm_start < vma.vm_end:
            raise KernelBug("__insert_vm_struct", f"{vma} overlaps {place.vma}", "overlap")
        self.vma_link_all(mm, vma, place)
        mm.map_count += 1

    # -- changing ------------------------------------------------------------------------------

    def vma_adjust(self, vma: VmArea26, start: int, end: int, pgoff: int, insert: VmArea26 | None = None) -> None:
        """In 2.6 one function moves an area's ends, because the file's tree must be left and entered again; before that callers just wrote
        ``vm_start`` and ``vm_end``.

        *insert* is the other half of a split. Without it an end beyond the next area's start moves that
        start, or swallows the area, or even two. kernel: mm/mmap.c:vma_adjust
        """
        mm = cast(MmStruct26, vma.vm_mm)
        rmap = self.kernel.rmap  # type: ignore[attr-defined]
        final = end
        while True:
            following = cast("VmArea26 | None", vma.vm_next)
            importer: VmArea26 | None = None
            anon_vma: AnonVma | None = None
            adjust_next = remove_next = 0
            if following is not None and insert is None:
                if end >= following.vm_end:
                    remove_next = 1 + (end > following.vm_end)
                    end = following.vm_end
                    anon_vma, importer = following.anon_vma, vma
                elif end > following.vm_start:
                    adjust_next = end - following.vm_start >> 12
                    anon_vma, importer = following.anon_vma, vma
                elif end < vma.vm_end:
                    adjust_next = -(vma.vm_end - end >> 12)
                    anon_vma, importer = following.anon_vma, following
            self._before_adjust(vma, following, importer, insert)
            anon_vma = vma.anon_vma or anon_vma
            if anon_vma is not None and importer is not None and importer.anon_vma is None:
                importer.anon_vma = anon_vma
                rmap.anon_vma_link(importer)
            root = None if vma.vm_file is None or vma.vm_flags & VM_NONLINEAR else self.mapping_of(vma).i_mmap
            if root is not None:
                self._tree_remove(vma, root)
                if adjust_next and following is not None:
                    self._tree_remove(following, root)
            vma.vm_start, vma.vm_end, vma.vm_pgoff = start, end, pgoff & U32
            if adjust_next and following is not None:
                following.vm_start += adjust_next << 12
                following.vm_pgoff = following.vm_pgoff + adjust_next & U32
            if root is not None:
                if adjust_next and following is not None:
                    self._tree_insert(following, root)
                self._tree_insert(vma, root)
            if self.on_event is not None:
                self.on_event(("vma_adjust", mm.pid, start, end, pgoff & U32))
            if not remove_next or following is None:
                if insert is not None:
                    self.insert_split(mm, insert)
                return
            self._swallow(mm, vma, following)
            if remove_next == 1:
                return
            end = final

    def _before_adjust(self, vma: VmArea26, following: VmArea26 | None, importer: VmArea26 | None, insert: VmArea26 | None) -> None:
        """What vma_adjust does first with the areas of a file."""
        if vma.vm_file is None:
            return
        if importer is not None and following is not None and vma.vm_truncate_count != following.vm_truncate_count:
            importer.vm_truncate_count = 0  # let a truncation under way look at it again
        if insert is not None:
            insert.vm_truncate_count = vma.vm_truncate_count
            self.vma_link_file(insert)

    def _swallow(self, mm: MmStruct26, vma: VmArea26, following: VmArea26) -> None:
        """*vma* reaches over *following* now, which goes."""
        self.vma_unlink(mm, following, vma)
        if vma.vm_file is not None:
            self.remove_shared_vm_struct(following)
        if following.anon_vma is not None:
            self.kernel.rmap.anon_vma_merge(vma, following)  # type: ignore[attr-defined]
        if vma.vm_file is not None:
            fput(self.kernel, vma.vm_file)
        mm.map_count -= 1
        self.free_vma(following)

    def split_vma(self, mm: MmStruct, vma: VmArea26, addr: int, new_below: bool) -> int:
        """In 2.6 one function cuts an area in two at *addr*, because every caller did the same; before that each had three of its own.

        *vma* keeps the part above with *new_below*, else the part below. Returns 0, -ENOMEM (too many
        areas or no memory), -EINVAL inside a huge page. kernel: mm/mmap.c:split_vma
        """
        if vma.vm_flags & VM_HUGETLB and addr & ~HPAGE_MASK:
            return -EINVAL
        if mm.map_count >= self.max_map_count:  # type: ignore[attr-defined]
            return -ENOMEM
        new = cast("VmArea26 | None", self.alloc_vma())
        if new is None:
            return -ENOMEM
        self.assign_vma(new, vma)
        if new_below:
            new.vm_end = addr
        else:
            new.vm_start = addr
            new.vm_pgoff = new.vm_pgoff + (addr - vma.vm_start >> 12) & U32
        self.get_area_file(new)
        if self.on_event is not None:
            self.on_event(("vma_split", mm.pid, addr, new.vm_start, new.vm_end))
        if new_below:
            self.vma_adjust(vma, addr, vma.vm_end, vma.vm_pgoff + (addr - new.vm_start >> 12), new)
        else:
            self.vma_adjust(vma, vma.vm_start, addr, vma.vm_pgoff, new)
        return 0

    def vma_merge(  # type: ignore[override]
        self,
        mm: MmStruct,
        prev: VmArea | None,
        addr: int,
        end: int,
        vm_flags: int,
        anon_vma: AnonVma | None = None,
        file: File | None = None,
        pgoff: int = 0,
    ) -> VmArea26 | None:
        """In 2.6 [addr, end) merges with what is below, above or both, new or about to get other rights, because one function serves mmap,
        brk, mremap and mprotect; before that each merged anonymous areas its own way.

        Returns the area that contains it now, or None. kernel: mm/mmap.c:vma_merge
        """
        if vm_flags & VM_SPECIAL:
            return None
        pglen = end - addr >> 12
        pgoff &= U32
        before = cast("VmArea26 | None", prev)
        area = cast("VmArea26 | None", mm.mmap if prev is None else prev.vm_next)
        after = area
        if after is not None and after.vm_end == end:
            after = cast("VmArea26 | None", after.vm_next)
        joins_next = after is not None and end == after.vm_start and can_vma_merge_before(after, vm_flags, anon_vma, file, pgoff + pglen)
        merged: VmArea26 | None = None
        if before is not None and before.vm_end == addr and can_vma_merge_after(before, vm_flags, anon_vma, file, pgoff):
            if joins_next and after is not None and is_mergeable_anon_vma(before.anon_vma, after.anon_vma):
                end = after.vm_end
            self.vma_adjust(before, before.vm_start, end, before.vm_pgoff)
            merged = before
        elif joins_next and after is not None and area is not None:
            if before is not None and addr < before.vm_end:
                self.vma_adjust(before, before.vm_start, addr, before.vm_pgoff)
            else:
                self.vma_adjust(area, addr, after.vm_end, after.vm_pgoff - pglen)
            merged = area
        if merged is not None and self.on_event is not None:
            self.on_event(("vma_merge", mm.pid, merged.vm_start, merged.vm_end))
        return merged

    def find_mergeable_anon_vma(self, vma: VmArea26) -> AnonVma | None:
        """In 2.6 new, because two areas with different lists can never merge: the list of a neighbour that may merge one day.

        kernel: mm/mmap.c:find_mergeable_anon_vma
        """
        flags = vma.vm_flags & ~_RIGHTS
        near = cast("VmArea26 | None", vma.vm_next)
        if near is not None and near.anon_vma is not None and vma.vm_end == near.vm_start:
            pgoff = vma.vm_pgoff + (vma.vm_end - vma.vm_start >> 12)
            if can_vma_merge_before(near, flags | near.vm_flags & _RIGHTS, None, vma.vm_file, pgoff):
                return near.anon_vma
        found, prev = self.find_vma_prev(vma.vm_mm, vma.vm_start)
        if found is not vma:
            raise KernelBug("find_mergeable_anon_vma", f"{found} is found where {vma} begins", "list")
        near = cast("VmArea26 | None", prev)
        if near is not None and near.anon_vma is not None and near.vm_end == vma.vm_start:
            if can_vma_merge_after(near, flags | near.vm_flags & _RIGHTS, None, vma.vm_file, vma.vm_pgoff):
                return near.anon_vma
        return None

    def copy_vma(self, vma: VmArea26, addr: int, length: int, pgoff: int) -> tuple[VmArea26 | None, VmArea26]:  # type: ignore[override]
        """In 2.6 the area at mremap's new place is made before anything moves, because reclaim must find the entries there; before that
        they were moved first.

        Returns (it, or None without memory; the old area, which may have become part of it). kernel: mm/mmap.c:copy_vma
        """
        mm = vma.vm_mm
        assert mm is not None
        vma_start = vma.vm_start
        if vma.vm_file is None and vma.anon_vma is None:
            pgoff = addr >> 12
        place = self.find_vma_prepare(mm, addr)
        new = self.vma_merge(mm, place.prev, addr, addr + length, vma.vm_flags, vma.anon_vma, vma.vm_file, pgoff)
        if new is not None:
            return new, (new if new.vm_start <= vma_start < new.vm_end else vma)
        new = cast("VmArea26 | None", self.alloc_vma())
        if new is not None:
            self.assign_vma(new, vma)
            new.vm_start, new.vm_end, new.vm_pgoff = addr, addr + length, pgoff & U32
            self.get_area_file(new)
            self.vma_link(mm, new, place)
        return new, vma
