"""Reading and writing pages of swap in 2.6: one bio for each page. kernel: mm/page_io.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import KernelBug
from ..mm.block import READ, WRITE
from ..mm.page_flags import PG_locked, PG_uptodate
from ..mm.page_io import PageIo
from .swap_info import SwapInfo26
from .swapops import swp_offset, swp_type

if TYPE_CHECKING:
    from array import array

    from ..mm.kernel import Kernel
    from .page_alloc import PageAllocator26

_LOCKED, _UPTODATE = 1 << PG_locked, 1 << PG_uptodate


class PageIo26(PageIo):
    """In 2.6 a page is locked while it is read, but under PG_writeback while it is written, because it can be used meanwhile; before that
    it was locked for both."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.private: array[int] = kernel.mem.column("private")
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state

    def get_swap_bio(self, rw: int, pfn: int, entry: int) -> tuple[int, int]:
        """In 2.6 the area's extents say where the page lies, because no file system is asked then; before that swap files were asked.

        (disk, page of it) for the page of *entry*. kernel: mm/page_io.c:get_swap_bio
        """
        swapfile: Any = self.kernel.swapfile
        sis: SwapInfo26 = swapfile.swap_info[swp_type(entry)]
        block: int = swapfile.map_swap_page(sis, swp_offset(entry))
        if self.on_event is not None:
            self.on_event(("swap_io", "write" if rw == WRITE else "read", pfn, entry, sis.bdev, block))
        return sis.bdev, block

    def swap_writepage(self, pfn: int) -> int:
        """In 2.6 here, and the page is unlocked at once, because PG_writeback stands for the write; before that it was unlocked at the end.

        Write a page of the swap cache to its slot, unless nobody but the cache uses the slot any more. Returns 0.
        kernel: mm/page_io.c:swap_writepage, end_swap_bio_write
        """
        kernel = self.kernel
        filemap: Any = kernel.filemap
        if kernel.swapfile.remove_exclusive_swap_page(pfn):
            filemap.unlock_page(pfn)
            return 0
        disk, block = self.get_swap_bio(WRITE, pfn, self.private[pfn])
        self.page_state.pswpout += 1
        filemap.test_set_page_writeback(pfn)
        filemap.unlock_page(pfn)
        kernel.block.brw_page(WRITE, pfn, disk, block)
        return 0

    def swap_readpage(self, pfn: int) -> int:
        """In 2.6 apart from writing, because the two end differently; before that one function did both.

        Begin to read a locked page of the swap cache; it is unlocked when the disk is done. Returns 0.
        kernel: mm/page_io.c:swap_readpage, end_swap_bio_read
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("swap_readpage", f"frame {pfn} is not locked", "locked")
        self.flags[pfn] &= ~_UPTODATE
        disk, block = self.get_swap_bio(READ, pfn, self.private[pfn])
        self.page_state.pswpin += 1
        self.kernel.block.brw_page(READ, pfn, disk, block)
        return 0
