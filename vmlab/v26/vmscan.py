"""Page reclaim of 2.6: zone by zone, a few pages of each list at a time.

A round at priority 12 looks at 1/4096 of a zone's lists, one at priority 0 at all of them. Each page that is
looked at leaves its list first and is judged by itself: whoever maps it is found by the reverse mapping and
loses it, a swap slot is given to an anonymous page, a dirty page is written, a clean one freed.

kernel: mm/vmscan.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelBug
from ..mm.page_flags import LRU, PG_active, PG_dirty, PG_locked
from .fs import AS_EIO, AS_ENOSPC, AddressSpace26
from .gfp import FS, IO
from .mmzone import DEF_PRIORITY as DEF_PRIORITY
from .page_flags import PRIVATE, RECLAIM, SWAPCACHE, WRITEBACK
from .page_writeback import WRITEPAGE_ACTIVATE
from .rmap import SWAP_AGAIN, SWAP_FAIL
from .swap import PAGEVEC_SIZE
from .task import PF_KSWAPD
from .vmscan_balance import BalanceZones
from .vmscan_control import SWAP_CLUSTER_MAX, ScanControl

if TYPE_CHECKING:
    from .mmzone import Zone26

__all__ = ["DEF_PRIORITY", "SWAP_CLUSTER_MAX", "ScanControl", "Vmscan26"]

ENOSPC = 28
PAGE_KEEP, PAGE_ACTIVATE, PAGE_SUCCESS, PAGE_CLEAN = range(4)  # what pageout() says
_FREE, _FREE_UNCACHED, _KEEP, _KEEP_LOCKED, _ACTIVATE = range(5)  # what becomes of a page

_LOCKED = 1 << PG_locked
_DIRTY = 1 << PG_dirty
_ACTIVE = 1 << PG_active
_UNLOCK = 0xFFFFFFFF ^ _LOCKED
_WRITTEN = WRITEBACK | _DIRTY


class Vmscan26(BalanceZones):
    """Page reclaim and kswapd of 2.6."""

    # -- one page -----------------------------------------------------------------------------

    def mapping_mapped(self, mapping: AddressSpace26) -> bool:
        """In 2.6 a tree and a list are looked at, because areas are found by the page's index; before that two lists of areas.

        Whether somebody maps the file. kernel: include/linux/fs.h:mapping_mapped
        """
        root = mapping.i_mmap
        return root is not None and root.prio_tree_node is not None or bool(mapping.i_mmap_nonlinear)

    def page_mapping_inuse(self, pfn: int) -> bool:
        """In 2.6 a referenced page is kept only if somebody maps it or its file, because a page only read should not push out those of
        programs; before that any referenced page got another round.

        kernel: mm/vmscan.c:page_mapping_inuse
        """
        if self.mapcount[pfn] >= 0 or self.flags[pfn] & SWAPCACHE:
            return True
        mapping = self.filemap.page_mapping(pfn)
        return mapping is not None and self.mapping_mapped(mapping)

    def is_page_cache_freeable(self, pfn: int) -> bool:
        """In 2.6 reclaim has a reference itself, because the page is off its list; before that the list was the second.

        Whether only the cache and we hold the page. kernel: mm/vmscan.c:is_page_cache_freeable
        """
        return self.count[pfn] - (self.flags[pfn] & PRIVATE != 0) == 2

    def may_write_to_queue(self, mapping: AddressSpace26) -> bool:
        """In 2.6 only kswapd waits for a full disk queue, because a task that needs a page can take a clean one; before that everybody did.

        Whether the disk would take a page now: queues are never full here. kernel: mm/vmscan.c:may_write_to_queue
        """
        return True

    def handle_write_error(self, mapping: AddressSpace26, pfn: int, error: int) -> None:
        """In 2.6 the file remembers that a write failed, because who wrote it asks later, with fsync; before that nobody was told.

        kernel: mm/vmscan.c:handle_write_error
        """
        self.filemap.lock_page(pfn)
        if self.filemap.page_mapping(pfn) is mapping:
            mapping.as_flags |= AS_ENOSPC if error == -ENOSPC else AS_EIO
        self.filemap.unlock_page(pfn)

    def pageout(self, pfn: int, mapping: AddressSpace26 | None) -> int:
        """In 2.6 the page is not locked while it is written (PG_writeback says so), because others may use it meanwhile; before that it
        was, and marked PG_launder.

        Write a dirty page that nobody else uses. Returns PAGE_KEEP, PAGE_ACTIVATE (both: locked), PAGE_SUCCESS (written or
        on its way, unlocked) or PAGE_CLEAN (locked).
        kernel: mm/vmscan.c:pageout
        """
        if not self.is_page_cache_freeable(pfn) or mapping is None:
            return PAGE_KEEP
        writepage: Any = mapping.a_ops.writepage
        if writepage is None:
            return PAGE_ACTIVATE
        if not self.may_write_to_queue(mapping):
            return PAGE_KEEP
        if not self.filemap.clear_page_dirty_for_io(pfn):
            return PAGE_CLEAN
        flags = self.flags
        flags[pfn] |= RECLAIM
        if self.on_event is not None:
            self.on_event(("pageout", pfn))
        result = writepage(pfn) or 0
        if result < 0:
            self.handle_write_error(mapping, pfn, result)
        if result == WRITEPAGE_ACTIVATE:
            flags[pfn] &= ~RECLAIM
            return PAGE_ACTIVATE
        if not flags[pfn] & WRITEBACK:
            flags[pfn] &= ~RECLAIM  # it is written already
        return PAGE_SUCCESS

    def try_to_release_page(self, pfn: int, gfp_mask: int) -> bool:
        """In 2.6 the file system is asked, because it may have its own data there; before that buffers were assumed.

        Let go of what is attached to a page. Nothing ever is here. kernel: fs/buffer.c:try_to_release_page
        """
        raise KernelBug("try_to_release_page", f"frame {pfn} has buffers, which nobody here makes", "buffers")

    def _judge(self, pfn: int, sc: ScanControl) -> int:
        """What becomes of the unlisted page, which is locked for it: shrink_list()'s loop up to its labels."""
        flags = self.flags
        word = flags[pfn]
        if word & _LOCKED:
            return _KEEP
        if word & _ACTIVE:
            raise KernelBug("shrink_list", f"frame {pfn} from an inactive list is active", "active")
        flags[pfn] = word | _LOCKED
        mapped = self.mapcount[pfn] >= 0
        sc.nr_scanned += 2 if mapped or word & SWAPCACHE else 1
        if word & WRITEBACK:
            return _KEEP_LOCKED
        rmap = self.rmap
        referenced = rmap.page_referenced(pfn, 1, sc.priority <= 0)
        if referenced and self.page_mapping_inuse(pfn):
            return _ACTIVATE
        if self.mapping[pfn] >> 31 and not flags[pfn] & SWAPCACHE and not self.kernel.swap_state.add_to_swap(pfn):  # type: ignore[attr-defined]
            return _ACTIVATE
        page_mapping = self.filemap.page_mapping
        mapping = page_mapping(pfn)
        if mapping is not None and self.mapcount[pfn] >= 0:
            unmapped = rmap.try_to_unmap(pfn)
            if unmapped == SWAP_FAIL:
                return _ACTIVATE
            if unmapped == SWAP_AGAIN:
                return _KEEP_LOCKED
        word = flags[pfn]
        if word & _DIRTY:
            gfp_mask = sc.gfp_mask
            if referenced or not (gfp_mask & FS or word & SWAPCACHE and gfp_mask & IO) or self.laptop_mode and not sc.may_writepage:
                return _KEEP_LOCKED
            result = self.pageout(pfn, mapping)
            if result == PAGE_KEEP:
                return _KEEP_LOCKED
            if result == PAGE_ACTIVATE:
                return _ACTIVATE
            if result == PAGE_SUCCESS:
                word = flags[pfn]
                if word & (_WRITTEN | _LOCKED):
                    return _KEEP
                flags[pfn] = word | _LOCKED
                mapping = page_mapping(pfn)
        if flags[pfn] & PRIVATE:
            if not self.try_to_release_page(pfn, sc.gfp_mask):
                return _ACTIVATE
            if mapping is None and self.count[pfn] == 1:
                return _FREE_UNCACHED
        if mapping is None or self.count[pfn] != 2 or flags[pfn] & _DIRTY:
            return _KEEP_LOCKED
        return _FREE

    def shrink_list(self, page_list: list[int], sc: ScanControl) -> int:
        """In 2.6 reclaim itself unmaps, swaps out and writes, because it can find who maps a page; before that a clock unmapped pages by
        walking page tables, and reclaim only freed what nobody mapped.

        Free what can be freed of these pages, which are on no list and referenced by us; the others stay in *page_list*, in
        order, those worth keeping marked active. Returns how many were freed.
        kernel: mm/vmscan.c:shrink_list
        """
        flags, count = self.flags, self.count
        release = self.swap.pagevec_release_nonlru
        ev = self.on_event
        kept: list[int] = []
        freed: list[int] = []
        pgactivate = reclaimed = 0
        for pfn in page_list:
            verdict = self._judge(pfn, sc)
            if verdict == _FREE:
                if flags[pfn] & SWAPCACHE:
                    entry = self.private[pfn]
                    self.kernel.swap_state.delete_from_swap_cache_nolock(pfn)
                    self.kernel.swapfile.swap_free(entry)
                else:
                    self.filemap.remove_from_page_cache_nolock(pfn)
                count[pfn] -= 1
            if verdict <= _FREE_UNCACHED:
                flags[pfn] &= _UNLOCK
                if ev is not None:
                    ev(("reclaim_page", pfn))
                reclaimed += 1
                freed.append(pfn)
                if len(freed) == PAGEVEC_SIZE:
                    release(freed, 1)
                    freed = []
                continue
            if verdict != _KEEP:
                if verdict == _ACTIVATE:
                    flags[pfn] |= _ACTIVE
                    pgactivate += 1
                    if ev is not None:
                        ev(("activate", pfn))
                flags[pfn] &= _UNLOCK
            kept.append(pfn)
            if flags[pfn] & LRU:
                raise KernelBug("shrink_list", f"frame {pfn} got on a list meanwhile", "lru")
        page_list[:] = kept
        if freed:
            release(freed, 1)
        self.page_state.pgactivate += pgactivate
        sc.nr_reclaimed += reclaimed
        return reclaimed

    # -- the lists of a zone ------------------------------------------------------------------

    def _isolate(self, head: int, most: int) -> tuple[list[int], int]:
        """Take up to *most* pages off the tail of a list, with a reference each. Returns them, tail first, and how many were looked at.

        A page whose last reference is gone already goes back to the front.
        """
        flags, count = self.flags, self.count
        following, preceding = self.lru.next, self.lru.prev
        taken: list[int] = []
        looked = 0
        while looked < most:
            pfn = preceding[head]
            if pfn == head:
                break
            looked += 1
            if not flags[pfn] & LRU:
                raise KernelBug("shrink_cache", f"frame {pfn} on a page list is not marked so", "lru")
            before = preceding[pfn]
            preceding[head] = before
            following[before] = head
            if not count[pfn]:
                self.lru.add(pfn, head)
                continue
            count[pfn] += 1
            flags[pfn] &= ~LRU
            taken.append(pfn)
        return taken, looked

    def shrink_cache(self, zone: Zone26, sc: ScanControl) -> None:
        """In 2.6 pages are taken off the list 32 at a time and put back if they stay, because the zone's lock is free meanwhile; before
        that each was looked at on the list.

        Look at sc.nr_to_scan inactive pages of *zone*, from the tail, and free what can be freed.
        kernel: mm/vmscan.c:shrink_cache
        """
        kernel, swap, flags = self.kernel, self.swap, self.flags
        page_state, number = self.page_state, zone.zone_num
        kswapd = bool(kernel.current.flags & PF_KSWAPD)
        max_scan = sc.nr_to_scan
        pvec: list[int] = []
        swap.lru_add_drain()
        while max_scan > 0:
            page_list, looked = self._isolate(zone.inactive_list, SWAP_CLUSTER_MAX)
            nr_scan = looked + 1  # the kernel counts one too many
            zone.nr_inactive -= len(page_list)
            zone.pages_scanned += nr_scan
            if not page_list:
                break
            max_scan -= nr_scan
            (page_state.pgscan_kswapd if kswapd else page_state.pgscan_direct)[number] += nr_scan
            nr_freed = self.shrink_list(page_list, sc)
            if kswapd:
                page_state.kswapd_steal += nr_freed
            page_state.pgsteal[number] += nr_freed
            sc.nr_to_reclaim -= nr_freed
            for pfn in page_list:
                flags[pfn] |= LRU
                if flags[pfn] & _ACTIVE:
                    swap.add_page_to_active_list(zone, pfn)
                else:
                    swap.add_page_to_inactive_list(zone, pfn)
                pvec.append(pfn)
                if len(pvec) == PAGEVEC_SIZE:
                    swap.pagevec_release(pvec, 1)
                    pvec = []
        if pvec:
            swap.pagevec_release(pvec, 1)

    def refill_inactive_zone(self, zone: Zone26, sc: ScanControl) -> None:
        """In 2.6 mapped pages are left alone until memory is mostly mapped or reclaim in distress (swappiness weighs that), because a
        program's pages are worth more than files just read; before that the lists knew nothing of it.

        Look at sc.nr_to_scan active pages of *zone*, from the tail, and move what is not in use to its inactive list.
        kernel: mm/vmscan.c:refill_inactive_zone
        """
        swap, flags, mapcount = self.swap, self.flags, self.mapcount
        rmap = self.rmap
        ev = self.on_event
        swap.lru_add_drain()
        held, pgscanned = self._isolate(zone.active_list, sc.nr_to_scan)
        zone.pages_scanned += pgscanned
        zone.nr_active -= len(held)
        distress = 100 >> (zone.prev_priority & 31)
        mapped_ratio = sc.nr_mapped * 100 // self.total_memory
        swap_tendency = mapped_ratio // 2 + distress + self.vm_swappiness
        reclaim_mapped = swap_tendency >= 100
        if ev is not None:
            ev(("refill", zone.index, len(held), mapped_ratio, distress, self.vm_swappiness, swap_tendency, int(reclaim_mapped)))
        no_swap = not self.kernel.swapfile.total_swap_pages
        ignore_token = sc.priority <= 0
        inactive: list[int] = []
        active: list[int] = []
        for pfn in held:
            if mapcount[pfn] >= 0 and (
                not reclaim_mapped or no_swap and self.mapping[pfn] >> 31 or rmap.page_referenced(pfn, 0, ignore_token)
            ):
                active.append(pfn)
            else:
                inactive.append(pfn)
        pvec: list[int] = []
        for pfn in inactive:
            if not flags[pfn] & _ACTIVE:
                raise KernelBug("refill_inactive_zone", f"frame {pfn} from an active list is not active", "active")
            flags[pfn] = flags[pfn] & ~_ACTIVE | LRU
            swap.add_page_to_inactive_list(zone, pfn)
            if ev is not None:
                ev(("deactivate", pfn))
            pvec.append(pfn)
            if len(pvec) == PAGEVEC_SIZE:
                swap.pagevec_release(pvec, 1)
                pvec = []
        for pfn in active:
            if not flags[pfn] & _ACTIVE:
                raise KernelBug("refill_inactive_zone", f"frame {pfn} from an active list is not active", "active")
            flags[pfn] |= LRU
            swap.add_page_to_active_list(zone, pfn)
            if ev is not None:
                ev(("second_chance", pfn))
            pvec.append(pfn)
            if len(pvec) == PAGEVEC_SIZE:
                swap.pagevec_release(pvec, 1)
                pvec = []
        if pvec:
            swap.pagevec_release(pvec, 1)
        self.page_state.pgrefill[zone.zone_num] += pgscanned
        self.page_state.pgdeactivate += len(inactive)
