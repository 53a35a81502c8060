"""The LRU lists of 2.6: each zone has its own two, and pages reach them by the handful.

A page that is to go on a list waits, with a reference, in one of two arrays of 14 (pagevecs), until that is
full or somebody drains it: the zone's lock is then taken once for all of them.

kernel: mm/swap.c, include/linux/mm_inline.h, include/linux/pagevec.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..mm.page_flags import LRU, RESERVED, ZONE_SHIFT, PG_active, PG_dirty, PG_locked, PG_referenced
from ..mm.swap import LruCache
from .fs import ANON
from .page_flags import PRIVATE, SWAPCACHE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..mm.kernel import Kernel
    from .mmzone import Zone26
    from .page_alloc import PageAllocator26

PAGEVEC_SIZE = 14
_ACTIVE, _REFERENCED = 1 << PG_active, 1 << PG_referenced
_BOTH = LRU | _ACTIVE
_SITTING = 1 << PG_locked | 1 << PG_dirty | _ACTIVE


class LruCache26(LruCache):
    """Active and inactive list of every zone, and the pages on their way there."""

    state_names: tuple[str, ...] = ("lru_add_active_pvecs", "lru_add_pvecs", "page_cluster")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.lru = kernel.mem.lru
        self.following, self.preceding = self.lru.next, self.lru.prev
        self.page_cluster = 0
        self.lru_add_pvecs: list[int] = []  # wait for the inactive list
        self.lru_add_active_pvecs: list[int] = []
        self.allocator = cast("PageAllocator26", kernel.page_allocator)
        self.page_state = self.allocator.page_state

    @property
    def nr_active_pages(self) -> int:  # type: ignore[override]
        """In 2.6 a sum over the zones, because each has lists of its own; before that one number."""
        return sum(cast("Zone26", zone).nr_active for zone in self.kernel.for_each_zone())

    @property
    def nr_inactive_pages(self) -> int:  # type: ignore[override]
        """In 2.6 a sum over the zones, because each has lists of its own; before that one number."""
        return sum(cast("Zone26", zone).nr_inactive for zone in self.kernel.for_each_zone())

    def page_zone(self, pfn: int) -> Zone26:
        """The zone of a page. kernel: include/linux/mm.h:page_zone"""
        return self.kernel.zone_table[self.flags[pfn] >> ZONE_SHIFT]  # type: ignore[return-value]

    # -- the lists ----------------------------------------------------------------------------

    def add_page_to_active_list(self, zone: Zone26, pfn: int) -> None:  # type: ignore[override]
        """In 2.6 onto the zone's list, because each zone ages by itself; before that onto the one list.

        kernel: include/linux/mm_inline.h:add_page_to_active_list
        """
        head, following, preceding = zone.active_list, self.following, self.preceding
        first = following[head]
        preceding[pfn] = head
        following[pfn] = first
        preceding[first] = following[head] = pfn
        zone.nr_active += 1

    def add_page_to_inactive_list(self, zone: Zone26, pfn: int) -> None:  # type: ignore[override]
        """In 2.6 onto the zone's list, because each zone ages by itself; before that onto the one list.

        kernel: include/linux/mm_inline.h:add_page_to_inactive_list
        """
        head, following, preceding = zone.inactive_list, self.following, self.preceding
        first = following[head]
        preceding[pfn] = head
        following[pfn] = first
        preceding[first] = following[head] = pfn
        zone.nr_inactive += 1

    def _unlink(self, pfn: int) -> None:
        after, before = self.following[pfn], self.preceding[pfn]
        self.following[before] = after
        self.preceding[after] = before

    def del_page_from_active_list(self, zone: Zone26, pfn: int) -> None:  # type: ignore[override]
        """In 2.6 PG_active stays, because the caller knows what comes next; before that it was cleared.

        kernel: include/linux/mm_inline.h:del_page_from_active_list
        """
        self._unlink(pfn)
        zone.nr_active -= 1

    def del_page_from_inactive_list(self, zone: Zone26, pfn: int) -> None:  # type: ignore[override]
        """In 2.6 off the zone's list, because each zone has its own; before that off the one list.

        kernel: include/linux/mm_inline.h:del_page_from_inactive_list
        """
        self._unlink(pfn)
        zone.nr_inactive -= 1

    def del_page_from_lru(self, zone: Zone26, pfn: int) -> None:
        """In 2.6 PG_lru is the caller's to clear, because it tests and clears in one; before that lru_cache_del() did all.

        kernel: include/linux/mm_inline.h:del_page_from_lru
        """
        after, before = self.following[pfn], self.preceding[pfn]
        self.following[before] = after
        self.preceding[after] = before
        if self.flags[pfn] & _ACTIVE:
            self.flags[pfn] &= ~_ACTIVE
            zone.nr_active -= 1
        else:
            zone.nr_inactive -= 1
        if self.on_event is not None:
            self.on_event(("lru_del", pfn))

    def activate_page(self, pfn: int) -> None:
        """In 2.6 counted (pgactivate), because tuning needs to know; before that not.

        Move a page from its zone's inactive list to the head of the active one. kernel: mm/swap.c:activate_page
        """
        flags = self.flags[pfn]
        if flags & _BOTH == LRU:
            zone = self.page_zone(pfn)
            self.del_page_from_inactive_list(zone, pfn)
            self.flags[pfn] = flags | _ACTIVE
            self.add_page_to_active_list(zone, pfn)
            self.page_state.pgactivate += 1
            if self.on_event is not None:
                self.on_event(("activate", pfn))

    def mark_page_accessed(self, pfn: int) -> None:
        """In 2.6 a page that is not on a list yet only gets PG_referenced, because it may wait in a pagevec; before that every page was
        on a list.

        The page was used: inactive and referenced → active; unreferenced → referenced. kernel: mm/swap.c:mark_page_accessed
        """
        flags = self.flags[pfn]
        if not flags & _REFERENCED:
            self.flags[pfn] = flags | _REFERENCED
        elif flags & _BOTH == LRU:
            self.activate_page(pfn)
            self.flags[pfn] &= ~_REFERENCED

    def rotate_reclaimable_page(self, pfn: int) -> int:
        """In 2.6 a page that reclaim had written goes to the tail when that is done, because it can be freed at once; before that reclaim
        met it again a round later.

        Returns 0 when it moved the page and ended its writeback, 1 when it did nothing. kernel: mm/swap.c:rotate_reclaimable_page
        """
        flags = self.flags[pfn]
        if flags & _SITTING or not flags & LRU:
            return 1
        zone = self.page_zone(pfn)
        self._unlink(pfn)
        self.lru.add_tail(pfn, zone.inactive_list)
        self.page_state.pgrotated += 1
        if self.on_event is not None:
            self.on_event(("rotate", pfn))
        if not self.kernel.filemap.test_clear_page_writeback(pfn):  # type: ignore[attr-defined]
            raise KernelBug("rotate_reclaimable_page", f"frame {pfn} was not being written", "writeback")
        return 0

    # -- pagevecs -----------------------------------------------------------------------------

    def lru_cache_add(self, pfn: int) -> None:
        """In 2.6 the page waits in a pagevec first, because one lock then serves 14; before that it was listed at once.

        On its way to the inactive list. kernel: mm/swap.c:lru_cache_add
        """
        self.count[pfn] += 1
        pvec = self.lru_add_pvecs
        pvec.append(pfn)
        if len(pvec) == PAGEVEC_SIZE:
            self.pagevec_lru_add(pvec)

    def lru_cache_add_active(self, pfn: int) -> None:
        """In 2.6 new, because anonymous pages begin on the active list; before that all pages began on the inactive one.

        On its way to the active list. kernel: mm/swap.c:lru_cache_add_active
        """
        self.count[pfn] += 1
        pvec = self.lru_add_active_pvecs
        pvec.append(pfn)
        if len(pvec) == PAGEVEC_SIZE:
            self.pagevec_lru_add_active(pvec)

    def lru_add_drain(self) -> None:
        """In 2.6 new, because of the pagevecs: list what waits. kernel: mm/swap.c:lru_add_drain"""
        if self.lru_add_pvecs:
            self.pagevec_lru_add(self.lru_add_pvecs)
        if self.lru_add_active_pvecs:
            self.pagevec_lru_add_active(self.lru_add_active_pvecs)

    def lru_cache_del(self, pfn: int) -> None:
        """In 2.6 a page leaves its list when its last reference goes, because nobody else needs it gone; before that truncation and
        reclaim took it off themselves.

        Nothing to do. kernel: none (removed)
        """

    def pagevec_lru_add(self, pvec: list[int]) -> None:
        """In 2.6 new, because of the pagevecs: put the pages on the inactive lists, drop the references, empty *pvec*.

        kernel: mm/swap.c:__pagevec_lru_add, include/linux/pagevec.h:pagevec_lru_add
        """
        flags = self.flags
        for pfn in pvec:
            if flags[pfn] & LRU:
                raise KernelBug("__pagevec_lru_add", f"frame {pfn} is on a list already", "lru")
            flags[pfn] |= LRU
            self.add_page_to_inactive_list(self.page_zone(pfn), pfn)
        self._listed(pvec, 0)

    def pagevec_lru_add_active(self, pvec: list[int]) -> None:
        """In 2.6 new, because of the pagevecs: the same for the active lists. kernel: mm/swap.c:__pagevec_lru_add_active"""
        flags = self.flags
        for pfn in pvec:
            if flags[pfn] & _BOTH:
                raise KernelBug("__pagevec_lru_add_active", f"frame {pfn} is on a list already", "lru")
            flags[pfn] |= _BOTH
            self.add_page_to_active_list(self.page_zone(pfn), pfn)
        self._listed(pvec, 1)

    def _listed(self, pvec: list[int], active: int) -> None:
        """Drop the references of pages that were just listed. A pagevec is emptied last: nothing below adds to it."""
        if self.on_event is not None:
            self.on_event(("pagevec_drain", len(pvec), active))
        self.release_pages(pvec, 0)
        pvec.clear()

    def release_pages(self, pfns: Sequence[int], cold: int) -> None:
        """In 2.6 many references are dropped in one go, because a zone's lock is then taken once; before that one by one.

        The last reference takes a page off its list and frees it; freed pages go to the hot or *cold* per-CPU list by 14.
        kernel: mm/swap.c:release_pages
        """
        flags, count = self.flags, self.count
        to_free: list[int] = []
        for pfn in pfns:
            if flags[pfn] & RESERVED:
                continue
            left = count[pfn] - 1
            if left < 0:
                raise KernelBug("put_page_testzero", f"frame {pfn} has no reference left to drop", "count")
            count[pfn] = left
            if left:
                continue
            if flags[pfn] & LRU:
                flags[pfn] &= ~LRU
                self.del_page_from_lru(self.page_zone(pfn), pfn)
            to_free.append(pfn)
            if len(to_free) == PAGEVEC_SIZE:
                self.allocator.pagevec_free(to_free, cold)
                to_free = []
        if to_free:
            self.allocator.pagevec_free(to_free, cold)

    def pagevec_release(self, pfns: Sequence[int], cold: int = 0) -> None:
        """In 2.6 new, because of the pagevecs: drop the references after listing what waits, or those pages would not be freed.

        kernel: mm/swap.c:__pagevec_release, include/linux/pagevec.h:pagevec_release
        """
        if pfns:
            self.lru_add_drain()
            self.release_pages(pfns, cold)

    def pagevec_release_nonlru(self, pfns: Sequence[int], cold: int = 0) -> None:
        """In 2.6 new, because reclaim frees pages it took off the lists itself: drop their references.

        kernel: mm/swap.c:__pagevec_release_nonlru
        """
        to_free = []
        for pfn in pfns:
            if self.flags[pfn] & LRU:
                raise KernelBug("__pagevec_release_nonlru", f"frame {pfn} is on a list", "lru")
            self.count[pfn] -= 1
            if not self.count[pfn]:
                to_free.append(pfn)
        if to_free:
            self.allocator.pagevec_free(to_free, cold)

    def pagevec_strip(self, pfns: Sequence[int]) -> None:
        """In 2.6 new, because buffer heads are scarce when buffers are many: let go of the buffers of pages that have them. None here have.

        kernel: mm/swap.c:pagevec_strip
        """
        for pfn in pfns:
            if self.flags[pfn] & PRIVATE:
                raise KernelBug("pagevec_strip", f"frame {pfn} has buffers", "buffers")

    # -- for people ---------------------------------------------------------------------------

    def kind(self, pfn: int) -> str:
        """In 2.6 flags say it, because page->mapping of an anonymous page is its anon_vma; before that the mapping did."""
        if self.flags[pfn] & SWAPCACHE:
            return "swap"
        ident = self.kernel.mem.mapping[pfn]
        return "anon" if ident & ANON else super().kind(pfn)

    def active(self) -> list[int]:
        """In 2.6 zone after zone, because each has a list of its own; before that one list. Frames, head first."""
        return [pfn for zone in self.kernel.zones for pfn in self.lru.walk(cast("Zone26", zone).active_list)]

    def inactive(self) -> list[int]:
        """In 2.6 zone after zone, because each has a list of its own; before that one list. Frames, head first."""
        return [pfn for zone in self.kernel.zones for pfn in self.lru.walk(cast("Zone26", zone).inactive_list)]
