"""The boot memory allocator of 2.6. kernel: mm/bootmem.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from ..mm.bootmem import BootmemAllocator
from .page_init import BITS_PER_LONG, free_boot_group, free_boot_page

if TYPE_CHECKING:
    from ..mm.mmzone import BootmemData, PgData

_OFFSET = PAGE_SIZE - 1


class BootmemAllocator26(BootmemAllocator):
    """Memory before there is an allocator, as in 2.6."""

    state_names = ("last_success",)

    def __init__(self) -> None:
        super().__init__()
        self.last_success: dict[str, int] = {}  # by node number: where the last search found something, bytes from the node's start

    def free_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> None:
        """In 2.6 freeing below the last success moves the hint back, because the search would pass over it; before that there was no
        hint.

        Mark the whole pages inside [addr, addr + size) free.
        kernel: mm/bootmem.c:free_bootmem_core
        """
        key = str(self._node(bdata))
        if size and (addr + size & M32) // PAGE_SIZE <= bdata.node_low_pfn and addr < self.last_success.get(key, 0):
            self.last_success[key] = addr
        super().free_bootmem_core(bdata, addr, size)

    def alloc_bootmem_core(self, bdata: BootmemData, size: int, align: int, goal: int) -> int | None:
        """In 2.6 a search that has a goal begins where the last one succeeded, because large machines spent seconds walking over what was
        taken; before that at the goal.

        Find and reserve *size* bytes aligned to *align*, above *goal* if possible. Returns the physical address, or None.

        An allocation of a whole page never begins in the rest of another's.
        kernel: mm/bootmem.c:__alloc_bootmem_core
        """
        if not size:
            raise KernelBug("__alloc_bootmem_core", "size 0", "size")
        if align & (align - 1):
            raise KernelBug("__alloc_bootmem_core", f"alignment {align} is not a power of two", "align")
        key = str(self._node(bdata))
        boot_start = bdata.node_boot_start
        eidx = bdata.node_low_pfn - (boot_start >> PAGE_SHIFT) & M32
        bitmap = self._map(bdata, "__alloc_bootmem_core", eidx)
        offset = 0
        if align and boot_start & (align - 1):
            offset = align - (boot_start & (align - 1))
        offset >>= PAGE_SHIFT
        preferred = 0
        if goal and goal >= boot_start and goal >> PAGE_SHIFT < bdata.node_low_pfn:
            preferred = max(goal - boot_start, self.last_success.get(key, 0))
        preferred = ((preferred + align - 1 & M32) & ~(align - 1) & M32) >> PAGE_SHIFT
        preferred += offset
        areasize = (size + PAGE_SIZE - 1 & M32) // PAGE_SIZE
        incr = align >> PAGE_SHIFT or 1

        start = self._scan26(bitmap, preferred, eidx, areasize, incr)
        if start < 0 and preferred > offset:
            start = self._scan26(bitmap, offset, eidx, areasize, incr)
        if start < 0:
            return None
        self.last_success[key] = start << PAGE_SHIFT
        if start >= eidx:
            raise KernelBug("__alloc_bootmem_core", f"page {start} is past the node", "range")

        merged = 0
        if align < PAGE_SIZE and bdata.last_offset and bdata.last_pos + 1 == start:
            # The rest of the last page, then the pages that follow it.
            merged = 1
            offset = (bdata.last_offset + align - 1) & ~(align - 1)
            room = PAGE_SIZE - offset
            address = bdata.last_pos * PAGE_SIZE + offset + boot_start & M32
            if size < room:
                areasize = 0
                bdata.last_offset = offset + size
            else:
                rest = size - room
                areasize = (rest + PAGE_SIZE - 1) // PAGE_SIZE
                bdata.last_pos = start + areasize - 1
                bdata.last_offset = rest
            bdata.last_offset &= _OFFSET
        else:
            bdata.last_pos = start + areasize - 1
            bdata.last_offset = size & _OFFSET
            address = start * PAGE_SIZE + boot_start & M32
        taken = bitmap.find(1, start, start + areasize)
        if taken >= 0:
            raise KernelBug("__alloc_bootmem_core", f"page {taken} is taken already", "taken")
        bitmap[start : start + areasize] = b"\1" * areasize
        if self.on_event is not None:
            self.on_event(("bootmem_alloc", self._node(bdata), address, size, align, goal, merged))
        return address

    @staticmethod
    def _scan26(bitmap: bytearray, preferred: int, eidx: int, areasize: int, incr: int) -> int:
        """First index from *preferred* on where *areasize* pages are free; -1 if none.

        After a failed place the search goes on behind the page that was taken, plus one step.
        """
        i = preferred
        while i < eidx:
            at = bitmap.find(0, i, eidx)
            i = -(-(eidx if at < 0 else at) // incr) * incr
            if i >= len(bitmap) or bitmap[i]:
                i += incr
                continue
            failed = bitmap.find(1, i + 1, min(i + areasize, eidx))
            if failed < 0 and i + areasize > eidx and areasize > 1:
                failed = max(eidx, i + 1)
            if failed < 0:
                return i
            i = -(-failed // incr) * incr + incr
        return -1

    def free_all_bootmem_core(self, pgdat: PgData) -> int:
        """In 2.6 a wholly free group of 32 aligned frames is freed as one block of order 5, because that saves 31 merges; before that
        every page was freed alone.

        Hand every free page to the buddy allocator in address order, then the bitmap's own pages; returns how many.
        kernel: mm/bootmem.c:free_all_bootmem_core
        """
        bdata, kernel = pgdat.bdata, self.kernel
        if bdata.map is None:
            raise KernelBug("free_all_bootmem_core", "the bitmap is gone: boot memory has retired already", "retired")
        bitmap = bdata.map
        base = bdata.node_boot_start >> PAGE_SHIFT
        fast = not bdata.node_boot_start or (base & -base).bit_length() > (BITS_PER_LONG & -BITS_PER_LONG).bit_length()
        idx = bdata.node_low_pfn - base
        total = 0
        for i in range(0, idx, BITS_PER_LONG):
            group = bitmap[i : i + BITS_PER_LONG]
            free = group.count(0)
            if fast and free == BITS_PER_LONG:
                free_boot_group(kernel, base + i)
                total += BITS_PER_LONG
            elif free:
                for j in range(min(BITS_PER_LONG, idx - i)):
                    if not group[j]:
                        free_boot_page(kernel, base + i + j)
                        total += 1
        first = bdata.map_pa >> PAGE_SHIFT
        map_pages = (idx // 8 + PAGE_SIZE - 1) // PAGE_SIZE
        for pfn in range(first, first + map_pages):
            free_boot_page(kernel, pfn)
        total += map_pages
        bdata.map = None
        if self.on_event is not None:
            self.on_event(("bootmem_retire", pgdat.nid, total))
        return total
