"""Transfers of 2.6: a bio each, whose end differs for reads and writes. kernel: fs/mpage.c, mm/page_io.c"""

from __future__ import annotations

from ..mm.block import BlockLayer
from ..mm.page_flags import PG_error, PG_locked, PG_uptodate
from .page_flags import WRITEBACK

_ERROR, _UPTODATE = 1 << PG_error, 1 << PG_uptodate


class BlockLayer26(BlockLayer):
    """Disks and their queue, for pages under PG_writeback."""

    busy = 1 << PG_locked | WRITEBACK

    def end_buffer_io_async(self, pfn: int, uptodate: bool) -> None:
        """In 2.6 the end of a write leaves the page's lock alone, because PG_writeback stood for the write; before that it unlocked the
        page.

        A read leaves the page up to date (or in error) and unlocked. kernel: mm/page_io.c:end_swap_bio_write, end_swap_bio_read
        """
        flags, filemap = self.flags, self.kernel.filemap
        if flags[pfn] & WRITEBACK:
            if not uptodate:
                flags[pfn] |= _ERROR
            filemap.end_page_writeback(pfn)  # type: ignore[attr-defined]
            return
        if uptodate:
            flags[pfn] |= _UPTODATE
        else:
            flags[pfn] = flags[pfn] & ~_UPTODATE | _ERROR
        filemap.unlock_page(pfn)
