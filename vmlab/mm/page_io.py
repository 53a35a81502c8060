"""Reading and writing pages of swap. kernel: mm/page_io.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT
from .block import READ, WRITE
from .fs import SWAPPER_SPACE_ID
from .kernel import Part
from .page_flags import PG_locked, PG_uptodate

if TYPE_CHECKING:
    from .kernel import Kernel

_LOCKED, _UPTODATE = 1 << PG_locked, 1 << PG_uptodate


class PageIo(Part):
    """Moves a page between its frame and its slot. The page is locked until the disk is done."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags

    def rw_swap_page_base(self, rw: int, entry: int, pfn: int) -> bool:
        """Begin to read or write the slot *entry*; False when there is no such place.

        A page of swap is one block of a disk; in a swap file it lies where the file system put that
        page of the file. kernel: mm/page_io.c:rw_swap_page_base
        """
        kernel = self.kernel
        if rw == READ:
            self.flags[pfn] &= ~_UPTODATE
            kernel.sched.kstat.pswpin += 1
        else:
            kernel.sched.kstat.pswpout += 1
        offset, disk, swapf = kernel.swapfile.get_swaphandle_info(entry)
        if disk is not None:
            block = offset
        elif swapf is not None:
            where = kernel.diskfs.bmap(swapf, offset)
            if where is None:
                kernel.printk(None, "rw_swap_page: bad swap file")
                return False
            disk, block = where
        else:
            return False
        if self.on_event is not None:
            self.on_event(("swap_io", "write" if rw == WRITE else "read", pfn, entry, disk, block))
        kernel.block.brw_page(rw, pfn, disk, block)
        return True

    def rw_swap_page(self, rw: int, pfn: int) -> None:
        """Begin to read or write a locked page of the swap cache; it is unlocked when the disk is done.

        kernel: mm/page_io.c:rw_swap_page
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("rw_swap_page", f"frame {pfn} is not locked", "locked")
        if self.kernel.mem.mapping[pfn] != SWAPPER_SPACE_ID:
            raise KernelBug("rw_swap_page", f"frame {pfn} is not in the swap cache", "mapping")
        if not self.rw_swap_page_base(rw, self.kernel.mem.index[pfn], pfn):
            self.kernel.filemap.unlock_page(pfn)

    def rw_swap_page_nolock(self, rw: int, entry: int, address: int) -> None:
        """Read or write *entry* through the page at kernel address *address* (locked, in no page cache) and wait.

        kernel: mm/page_io.c:rw_swap_page_nolock
        """
        kernel = self.kernel
        mapping = kernel.mem.mapping
        pfn = address - PAGE_OFFSET >> PAGE_SHIFT
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("rw_swap_page_nolock", f"frame {pfn} is not locked", "locked")
        if mapping[pfn]:
            raise KernelBug("rw_swap_page_nolock", f"frame {pfn} is in a page cache", "mapping")
        mapping[pfn] = SWAPPER_SPACE_ID  # so that whoever waits for it starts the disk
        if self.rw_swap_page_base(rw, entry, pfn):
            kernel.filemap.lock_page(pfn)
        mapping[pfn] = 0
        kernel.filemap.unlock_page(pfn)
