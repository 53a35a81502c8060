"""mremap in 2.6: the new area first, then the entries page by page, then the old area goes. kernel: mm/mremap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EAGAIN, EFAULT, EINVAL, ENOMEM
from ..mm.mmap_areas import U32, page_align
from ..mm.mremap import Mremap
from ..mm.task import CAP_IPC_LOCK, RLIMIT_AS, RLIMIT_MEMLOCK
from ..mm.vm import MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, TASK_SIZE, VM_DONTEXPAND, VM_LOCKED, VM_MAYSHARE
from .vm import VM_ACCOUNT, VM_HUGETLB, MmStruct26, VmArea26

if TYPE_CHECKING:
    from ..mm.vm import VmArea
    from .mmap import Mmap26

_MAPPED = 0x81  # _PAGE_PRESENT | _PAGE_PROTNONE


class Mremap26(Mremap):
    """Moving and resizing one mapping of the current task."""

    def _move_one_page(self, vma: VmArea26, old_addr: int, new_vma: VmArea26, new_addr: int) -> int:
        """In 2.6 the entry's area may be told to look again for a truncation, because moved entries could be missed; before that there was
        no such mark.

        Returns 0 (also when there was none) or -ENOMEM without a page table. kernel: mm/mremap.c:move_one_page
        """
        kernel = self.kernel
        mm = vma.vm_mm
        assert mm is not None
        if vma.vm_file is not None and new_vma.vm_truncate_count and new_vma.vm_truncate_count != vma.vm_truncate_count:
            new_vma.vm_truncate_count = 0
        pgtable = kernel.pgtable
        source = pgtable.pte_lookup(mm, old_addr)
        if source is None or not source[0][source[1]]:
            return 0
        target = pgtable.pte_lookup(mm, new_addr)
        if target is None:
            target = pgtable.pte_alloc(mm, new_addr)
            source = pgtable.pte_lookup(mm, old_addr)
            if source is None or not source[0][source[1]]:
                return 0
        if target is None:
            return -ENOMEM
        table, slot = source
        pte = table[slot]
        table[slot] = 0
        kernel.mmu.flush_tlb_page(vma, old_addr)
        target[0][target[1]] = pte
        if pte & _MAPPED:
            kernel.rmap.page_moved(pte >> 12, mm, old_addr, new_addr)  # type: ignore[attr-defined]
        return 0

    def _move_page_tables(self, vma: VmArea26, old_addr: int, new_vma: VmArea26, new_addr: int, length: int) -> int:
        """In 2.6 the first page moves first, because the caller undoes a failure by moving back what was moved; before that the last.

        Returns how many bytes were moved: *length*, or less without memory. kernel: mm/mremap.c:move_page_tables
        """
        if self.on_event is not None and vma.vm_mm is not None:
            self.on_event(("move_page_tables", vma.vm_mm.pid, old_addr, new_addr, length))
        for offset in range(0, length, 0x1000):
            if self._move_one_page(vma, old_addr + offset, new_vma, new_addr + offset) < 0:
                return offset
        return length

    def move_vma(self, vma: VmArea, addr: int, old_len: int, new_len: int, new_addr: int) -> int:
        """In 2.6 the new area exists before entries move, because reclaim looks for entries through areas; before that it came last.

        Move [addr, addr + old_len) of *vma* to *new_addr*, where it is *new_len* long. Returns *new_addr* or -ENOMEM.
        kernel: mm/mremap.c:move_vma
        """
        mmap = cast("Mmap26", self.kernel.mmap)
        mm = cast(MmStruct26, vma.vm_mm)
        vm_flags = vma.vm_flags
        if mm.map_count >= mmap.max_map_count - 3:
            return -ENOMEM
        pgoff = vma.vm_pgoff + (addr - vma.vm_start >> 12) & U32
        new_vma, area = mmap.copy_vma(cast(VmArea26, vma), new_addr, new_len, pgoff)
        if new_vma is None:
            return -ENOMEM
        moved = self._move_page_tables(area, addr, new_vma, new_addr, old_len)
        if moved < old_len:
            self._move_page_tables(new_vma, new_addr, area, addr, moved)
            area, old_len, addr, new_addr = new_vma, new_len, new_addr, -ENOMEM
        excess = 0
        split = False
        if vm_flags & VM_ACCOUNT:  # conceal it: the promise moves along
            area.vm_flags &= ~VM_ACCOUNT
            excess = area.vm_end - area.vm_start - old_len
            split = addr > area.vm_start and addr + old_len < area.vm_end
        if mmap.do_munmap(mm, addr, old_len) < 0:
            mmap.vm_unacct_memory(excess >> 12)
            excess = 0
        if excess:
            area.vm_flags |= VM_ACCOUNT
            if split:
                assert area.vm_next is not None
                area.vm_next.vm_flags |= VM_ACCOUNT
        mm.total_vm = mm.total_vm + (new_len >> 12) & U32
        mmap.vm_stat_account(mm, area.vm_flags, area.vm_file, new_len >> 12)
        if vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + (new_len >> 12) & U32
            if new_len > old_len:
                self.kernel.memory.make_pages_present((new_addr + old_len) & U32, (new_addr + new_len) & U32)
        mmap.update_mem_hiwater()
        return new_addr

    def do_mremap(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
        """In 2.6 more is refused and longer mappings are promised memory, because errors of munmap count and there are accounts; before
        that a new length of 0 unmapped.

        Resize [addr, addr + old_len) of the current task to *new_len* bytes, moving it if *flags* allow. Returns its
        address, or -EINVAL, -EFAULT (not one area), -EAGAIN (too much locked), -ENOMEM. kernel: mm/mremap.c:do_mremap
        """
        mmap = cast("Mmap26", self.kernel.mmap)
        mm = cast(MmStruct26, self.kernel.current.mm)
        if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE) or addr & 0xFFF:
            return -EINVAL
        old_len, new_len = page_align(old_len), page_align(new_len)
        if not new_len:
            return -EINVAL
        fixed = bool(flags & MREMAP_FIXED)
        if fixed:
            if not self._fixed_target_ok(addr, old_len, new_len, flags, new_addr):
                return -EINVAL
            error = mmap.do_munmap(mm, new_addr, new_len)
            if error:
                return error
        if old_len >= new_len:
            error = mmap.do_munmap(mm, addr + new_len & U32, old_len - new_len)
            if error and old_len != new_len:
                return error
            if not fixed or new_addr == addr:
                return addr
            old_len = new_len
        vma = cast("VmArea26 | None", mmap.find_vma(mm, addr))
        if vma is None or vma.vm_start > addr:
            return -EFAULT
        if vma.vm_flags & VM_HUGETLB:
            return -EINVAL
        if old_len > vma.vm_end - addr or (vma.vm_flags & VM_DONTEXPAND and new_len > old_len):
            return -EFAULT
        error = self._may_grow(mm, vma, new_len - old_len)
        if error:
            return error
        charged = 0
        if vma.vm_flags & VM_ACCOUNT:
            charged = new_len - old_len >> 12
            if mmap.security_vm_enough_memory(charged):
                return -ENOMEM
        result = self._resize(mm, vma, addr, old_len, new_len, flags, new_addr)
        if result & 0xFFF:
            mmap.vm_unacct_memory(charged)
        return result

    def _may_grow(self, mm: MmStruct26, vma: VmArea26, more: int) -> int:
        """Whether the limits of the current task leave room for *more* bytes. Returns 0 or a negative error."""
        task = self.kernel.current
        if vma.vm_flags & VM_LOCKED and (mm.locked_vm << 12) + more & U32 > task.rlim[RLIMIT_MEMLOCK] and not task.capable(CAP_IPC_LOCK):
            return -EAGAIN
        return -ENOMEM if (mm.total_vm << 12) + more & U32 > task.rlim[RLIMIT_AS] else 0

    def _resize(self, mm: MmStruct26, vma: VmArea26, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
        """The end of do_mremap: grow in place if there is room behind, else move. Returns the address or a negative error."""
        mmap = cast("Mmap26", self.kernel.mmap)
        fixed = flags & MREMAP_FIXED
        to_the_end = old_len == vma.vm_end - addr
        if to_the_end and not (fixed and addr != new_addr) and (old_len != new_len or not flags & MREMAP_MAYMOVE):
            limit = vma.vm_next.vm_start if vma.vm_next is not None else TASK_SIZE
            if limit - addr & U32 >= new_len:
                self._grow(mm, vma, addr, old_len, new_len)
                return addr
        if not flags & MREMAP_MAYMOVE:
            return -ENOMEM
        if not fixed:
            new_addr = mmap.get_unmapped_area(vma.vm_file, 0, new_len, vma.vm_pgoff, MAP_SHARED if vma.vm_flags & VM_MAYSHARE else 0)
            if new_addr & 0xFFF:
                return new_addr
        return self.move_vma(vma, addr, old_len, new_len, new_addr)

    def _grow(self, mm: MmStruct26, vma: VmArea26, addr: int, old_len: int, new_len: int) -> None:  # type: ignore[override]
        """The area just gets longer, where it is."""
        mmap = cast("Mmap26", self.kernel.mmap)
        pages = new_len - old_len >> 12
        mmap.vma_adjust(vma, vma.vm_start, addr + new_len, vma.vm_pgoff)
        mm.total_vm = mm.total_vm + pages & U32
        mmap.vm_stat_account(mm, vma.vm_flags, vma.vm_file, pages)
        if vma.vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + pages & U32
            self.kernel.memory.make_pages_present(addr + old_len, addr + new_len)
        mmap.update_mem_hiwater()
