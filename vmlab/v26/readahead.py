"""Read-ahead of 2.6: two windows, the one being read and the one ahead of it. kernel: mm/readahead.c

    ──────┬───────────────────┬───────────────────┬──────
          start        start + size        ahead_start + ahead_size
          └ current window ───┴─ ahead window ────┘
                              ahead_start: a read that gets here makes the ahead window the
                              current one, and starts reading the next ahead window
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EINVAL
from .filemap_write import FileWrite26
from .fs import AddressSpace26, FileRaState
from .swap import PAGEVEC_SIZE

if TYPE_CHECKING:
    from ..mm.fs import File
    from .mmzone import Zone26

VM_MIN_READAHEAD_PAGES = 4  # 16 KiB
VM_MAX_CACHE_HIT = 256  # pages found in the cache in a row until read-ahead of the file stops
RA_FLAG_MISS, RA_FLAG_INCACHE = 1, 2
RA_OFF = 0xFFFFFFFF
_CHUNK = 512  # pages: 2 MiB
_U32 = 0xFFFFFFFF


class Readahead(FileWrite26):
    """How far to read before anybody asks. All lengths in pages."""

    def ra_state(self, file: File) -> FileRaState:
        """In 2.6 a record of its own, because descriptors of the same file read at different places; before that fields of the file.

        Made at the first use. kernel: mm/readahead.c:file_ra_state_init
        """
        ra: FileRaState | None = getattr(file, "f_ra", None)
        if ra is None:
            ra = FileRaState(cast(AddressSpace26, file.inode.i_mapping).ra_pages)
            file.f_ra = ra  # type: ignore[attr-defined]
        return ra

    @staticmethod
    def ra_off(ra: FileRaState) -> None:
        """In 2.6 a seek turns read-ahead off, because random readers pay for it; before that the window shrank.

        kernel: mm/readahead.c:ra_off
        """
        ra.start = ra.flags = ra.ahead_start = ra.ahead_size = 0
        ra.size = RA_OFF

    @staticmethod
    def get_init_ra_size(size: int, limit: int) -> int:
        """In 2.6 the first window follows from the size of the first read, because that tells how much will follow; before that 3 pages.

        kernel: mm/readahead.c:get_init_ra_size
        """
        newsize = 1 << (size - 1).bit_length()
        if newsize <= limit // 64:
            return newsize * newsize
        return limit // 4 if newsize <= limit // 4 else limit

    @staticmethod
    def get_next_ra_size(cur: int, limit: int, least: int, ra: FileRaState) -> int:
        """In 2.6 windows grow fourfold while small, then twofold, and shrink by 2 after a page was evicted before its use, because memory
        is short then; before that they always doubled.

        kernel: mm/readahead.c:get_next_ra_size
        """
        if ra.flags & RA_FLAG_MISS:
            newsize = max(cur - 2 & _U32, least)
            ra.flags &= ~RA_FLAG_MISS
        else:
            newsize = 4 * cur if cur < limit // 16 else 2 * cur
        return min(newsize & _U32, limit)

    def read_pages(self, mapping: AddressSpace26, file: File | None, pages: list[tuple[int, int]]) -> None:
        """In 2.6 pages are allocated first and read then, because allocating may write and disks hate the mixture; before that one by one.

        *pages* are (frame, index) in ascending order. kernel: mm/readahead.c:read_pages
        """
        lru_pvec: list[int] = []
        for pfn, index in pages:
            if self.add_to_page_cache(pfn, mapping, index):
                self.kernel.put_page(pfn)
                continue
            mapping.a_ops.readpage(file, pfn)
            lru_pvec.append(pfn)
            if len(lru_pvec) == PAGEVEC_SIZE:
                self.lru_cache.pagevec_lru_add(lru_pvec)
        if lru_pvec:
            self.lru_cache.pagevec_lru_add(lru_pvec)

    def do_page_cache_readahead(self, mapping: AddressSpace26, file: File | None, offset: int, nr_to_read: int) -> int:
        """In 2.6 new, see :meth:`read_pages`: start reading those of *nr_to_read* pages from *offset* on that are not cached; returns how
        many.

        kernel: mm/readahead.c:__do_page_cache_readahead, do_page_cache_readahead
        """
        assert mapping.host is not None
        size = mapping.host.i_size
        if not size:
            return 0
        end_index = size - 1 >> 12
        pool: list[tuple[int, int]] = []
        for at in range(offset, offset + nr_to_read):
            index = at & _U32
            if index > end_index:
                break
            if index in mapping.page_tree:
                continue
            pfn = self.page_cache_alloc_cold(mapping)
            if pfn is None:
                break
            self.index[pfn] = index
            pool.append((pfn, index))
        if pool:
            self.read_pages(mapping, file, pool)
            if self.on_event is not None:
                self.on_event(("readahead", mapping.id, pool[0][1], len(pool), "asynchronous"))
        return len(pool)

    def force_page_cache_readahead(self, mapping: AddressSpace26, file: File | None, offset: int, nr_to_read: int) -> int:
        """In 2.6 new, because madvise and readahead(2) ask for much: the same in chunks of 2 MiB. Returns the pages, or EINVAL (22).

        kernel: mm/readahead.c:force_page_cache_readahead
        """
        if mapping.a_ops.readpage is None:
            return -EINVAL
        ret = 0
        while nr_to_read:
            chunk = min(_CHUNK, nr_to_read)
            ret += self.do_page_cache_readahead(mapping, file, offset, chunk)
            offset += chunk
            nr_to_read -= chunk
        return ret

    def blockable_page_cache_readahead(
        self, mapping: AddressSpace26, file: File | None, offset: int, nr_to_read: int, ra: FileRaState
    ) -> bool:
        """In 2.6 new, because read-ahead of a cached file is useless: read; False when this turned read-ahead off.

        kernel: mm/readahead.c:blockable_page_cache_readahead, check_ra_success
        """
        if self.do_page_cache_readahead(mapping, file, offset, nr_to_read):
            ra.cache_hit = 0
            return True
        ra.cache_hit = ra.cache_hit + nr_to_read & _U32
        if ra.cache_hit >= VM_MAX_CACHE_HIT:
            self.ra_off(ra)
            ra.flags |= RA_FLAG_INCACHE
            return False
        return True

    def page_cache_readahead(self, mapping: AddressSpace26, ra: FileRaState, file: File | None, offset: int, req_size: int) -> int:
        """In 2.6 the windows are moved when a read reaches the ahead window, because its pages should come while the current ones are
        used; before that each page read could start more.

        A read of *req_size* pages at page *offset* begins. Returns for how many of them this was done.
        kernel: mm/readahead.c:page_cache_readahead
        """
        if offset == ra.prev_page and req_size == 1 and ra.size:
            ra.prev_page = offset
            return req_size
        limit, least = ra.ra_pages, VM_MIN_READAHEAD_PAGES
        newsize = min(req_size, limit)
        if not newsize or ra.flags & RA_FLAG_INCACHE:
            ra.prev_page = offset
            return 1
        last = offset + newsize - 1 & _U32
        before = ra.prev_page
        if not ra.size and not offset or ra.size == RA_OFF and before == offset - 1 & _U32:
            # The start of a file, or the second of two reads in a row.
            ra.size = self.get_init_ra_size(newsize, limit)
            ra.start = offset
            if self.blockable_page_cache_readahead(mapping, file, offset, ra.size, ra) and req_size >= limit:
                ra.ahead_size = self.get_next_ra_size(ra.size, limit, least, ra)
                ra.ahead_start = ra.start + ra.size & _U32
                self.blockable_page_cache_readahead(mapping, file, ra.ahead_start, ra.ahead_size, ra)
        elif offset != before + 1 & _U32 or not ra.size:
            self.ra_off(ra)
            self.blockable_page_cache_readahead(mapping, file, offset, newsize, ra)
        else:
            self._sequential(mapping, ra, file, last)
        ra.prev_page = last
        return newsize

    def _sequential(self, mapping: AddressSpace26, ra: FileRaState, file: File | None, last: int) -> None:
        """The read goes on where the one before ended, up to page *last*: see that there is an ahead window, and enter it."""
        limit, least = ra.ra_pages, VM_MIN_READAHEAD_PAGES
        if not ra.ahead_start:
            ra.ahead_size = self.get_next_ra_size(ra.size, limit, least, ra)
            ra.ahead_start = ra.start + ra.size & _U32
            if not self.blockable_page_cache_readahead(mapping, file, ra.ahead_start, ra.ahead_size, ra):
                ra.ahead_start = ra.ahead_size = 0
                return
        if last >= ra.ahead_start:
            ra.start, ra.size = ra.ahead_start, ra.ahead_size
            ra.ahead_start = ra.ahead_start + ra.ahead_size & _U32
            ra.ahead_size = self.get_next_ra_size(ra.ahead_size, limit, least, ra)
            if not self.blockable_page_cache_readahead(mapping, file, ra.ahead_start, ra.ahead_size, ra):
                ra.ahead_start = ra.ahead_size = 0

    def handle_ra_miss(self, ra: FileRaState) -> None:
        """In 2.6 new, because reclaim may be faster than the reader: a page that was read ahead is gone again, windows shall shrink.

        kernel: mm/readahead.c:handle_ra_miss
        """
        ra.flags = (ra.flags | RA_FLAG_MISS) & ~RA_FLAG_INCACHE

    def max_sane_readahead(self, nr: int) -> int:
        """In 2.6 free pages count too, because they are what will be used; before that half of the inactive list was the limit.

        At most *nr* pages. kernel: mm/readahead.c:max_sane_readahead
        """
        zones = [cast("Zone26", zone) for zone in self.kernel.pgdats[0].node_zones]
        return min(nr, sum(zone.nr_inactive + zone.free_pages for zone in zones) // 2)
