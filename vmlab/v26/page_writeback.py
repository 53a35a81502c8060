"""How much dirty memory there may be, and who has to write some of it. kernel: mm/page-writeback.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from ..mm.kernel import Kernel, Part
from .fs import AddressSpace26
from .task import HZ, PF_LESS_THROTTLE
from .writeout import WritebackControl

if TYPE_CHECKING:
    from .filemap import Filemap26
    from .page_alloc import PageAllocator26

WRITEPAGE_ACTIVATE = 0x80000  # writepage says: not written, keep the page active
MAX_WRITEBACK_PAGES = 1024  # in one go
WRITE = 1


class DirtyLimits(NamedTuple):
    """Pages: from how many dirty ones on somebody writes in the background, and from how many on who dirties pages has to."""

    background: int
    dirty: int


class PageWriteback(Part):
    """In 2.6 who dirties pages is held up by the share of memory that is dirty, because buffers no longer stand for dirty pages; before
    that bdflush looked at the buffers.

    There is no pdflush thread: requests for it are counted (``sched.kstat.pdflush_requests``), and reclaim, msync and fsync write.
    """

    state_names = ("dirty_background_ratio", "dirty_exceeded", "ratelimit_pages", "ratelimits", "total_pages", "vm_dirty_ratio")

    def __init__(self) -> None:
        super().__init__()
        self.dirty_background_ratio = 10  # per cent of memory
        self.vm_dirty_ratio = 40
        self.ratelimit_pages = 32  # a task that has dirtied so many looks whether there are too many
        self.ratelimits = 0  # pages dirtied since somebody looked
        self.dirty_exceeded = False
        self.total_pages = 1

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state

    def page_writeback_init(self) -> None:
        """In 2.6 the limits fit the memory that can hold buffers, because a page of high memory may need some below; before that they were
        fixed.

        kernel: mm/page-writeback.c:page_writeback_init, set_ratelimit
        """
        allocator = cast("PageAllocator26", self.kernel.page_allocator)
        self.total_pages = allocator.nr_free_pagecache_pages()
        correction = 100 * 4 * allocator.nr_free_buffer_pages() // self.total_pages
        if correction < 100:
            self.dirty_background_ratio = max(self.dirty_background_ratio * correction // 100, 1)
            self.vm_dirty_ratio = max(self.vm_dirty_ratio * correction // 100, 1)
        self.ratelimit_pages = min(max(self.total_pages // 32, 16), 1024)

    def get_dirty_limits(self, mapping: AddressSpace26 | None = None) -> DirtyLimits:
        """In 2.6 mapped memory lowers the limits, because reclaim can do least about it when the rest is dirty; before that only buffers
        counted.

        kernel: mm/page-writeback.c:get_dirty_limits
        """
        available = self.total_pages
        if mapping is not None and self.kernel.config.highmem and not mapping.gfp_mask & 2:
            available -= self.kernel.totalhigh_pages
        unmapped_ratio = 100 - self.page_state.nr_mapped * 100 // self.total_pages
        dirty_ratio = max(min(self.vm_dirty_ratio, unmapped_ratio // 2), 5)
        background_ratio = self.dirty_background_ratio
        if background_ratio >= dirty_ratio:
            background_ratio = dirty_ratio // 2
        background = background_ratio * available // 100
        dirty = dirty_ratio * available // 100
        current = self.kernel.current
        if current.flags & PF_LESS_THROTTLE or current.rt_priority > 0:
            background += background // 4
            dirty += dirty // 4
        return DirtyLimits(background, dirty)

    def _nr_reclaimable(self) -> int:
        return self.page_state.nr_dirty + self.page_state.nr_unstable

    def balance_dirty_pages_ratelimited(self, mapping: AddressSpace26) -> None:
        """In 2.6 a writer looks at the limits only every so many pages, because counting is dear with many processors; before that with
        each buffer.

        A page of *mapping* was dirtied. kernel: mm/page-writeback.c:balance_dirty_pages_ratelimited
        """
        limit = 8 if self.dirty_exceeded else self.ratelimit_pages
        self.ratelimits += 1
        if self.ratelimits > limit:
            self.ratelimits = 0
            self.balance_dirty_pages(mapping)

    def balance_dirty_pages(self, mapping: AddressSpace26) -> None:
        """In 2.6 the writer itself writes until it has done its share, because it must not be faster than the disk; before that it woke
        bdflush and waited.

        kernel: mm/page-writeback.c:balance_dirty_pages
        """
        page_state = self.page_state
        write_chunk = self.ratelimit_pages + self.ratelimit_pages // 2
        written = 0
        while True:
            limits = self.get_dirty_limits(mapping)
            over = self._nr_reclaimable() + page_state.nr_writeback > limits.dirty
            if not over:
                break
            self.dirty_exceeded = True
            if self._nr_reclaimable():
                written += self.writeback_inodes(write_chunk)
                limits = self.get_dirty_limits(mapping)
                over = self._nr_reclaimable() + page_state.nr_writeback > limits.dirty
                if not over or written >= write_chunk:
                    break
            self.kernel.sched.blk_congestion_wait(WRITE, HZ // 10)  # type: ignore[attr-defined]
        if not over:
            self.dirty_exceeded = False
        if self._nr_reclaimable() > limits.background:
            self.pdflush_operation(0)

    def writeback_inodes(self, nr_to_write: int) -> int:
        """In 2.6 dirty files are written page by page in order of index, because each knows its dirty pages; before that the buffers of
        all files were, oldest first.

        Start to write up to *nr_to_write* dirty pages of files. Returns how many those were.
        kernel: fs/fs-writeback.c:writeback_inodes
        """
        filemap = cast("Filemap26", self.kernel.filemap)
        left = nr_to_write
        for mapping in list(self.kernel.mappings.values()):
            if left <= 0:
                break
            if isinstance(mapping, AddressSpace26) and mapping.dirty_tags and not mapping.memory_backed and mapping.a_ops.writepage:
                wbc = WritebackControl(left, sync=False)
                filemap.do_writepages(mapping, wbc)
                left = wbc.nr_to_write
        return nr_to_write - left

    def wakeup_bdflush(self, nr_pages: int) -> None:
        """In 2.6 reclaim asks for as many pages to be written as it has scanned, because it cannot wait for each; before that it woke
        bdflush without a number.

        *nr_pages* 0: all. kernel: mm/page-writeback.c:wakeup_bdflush
        """
        self.pdflush_operation(nr_pages or self._nr_reclaimable())

    def pdflush_operation(self, nr_pages: int) -> None:
        """In 2.6 a pool of threads writes, one to a disk, because one thread kept one disk busy at a time; before that bdflush and kupdate
        did all.

        Nobody does it here: the request is counted. kernel: mm/pdflush.c:pdflush_operation
        """
        self.kernel.sched.kstat.pdflush_requests += 1  # type: ignore[attr-defined]
