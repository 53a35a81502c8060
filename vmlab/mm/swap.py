"""The active and inactive lists: which pages were used lately, roughly. kernel: mm/swap.c, include/linux/swap.h

Every page that can be thrown out, because it is cached for a file or for swap or mapped by a
process, is on one of two lists. New pages go to the head of the *inactive* list and reclaim looks
at its tail; a page that is used again while there moves to the head of the *active* list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .fs import SWAPPER_SPACE_ID
from .kernel import Part
from .page_flags import PG_active, PG_lru, PG_referenced, flag_names
from .vmscan_hints import SettledStretches

if TYPE_CHECKING:
    from .kernel import Kernel

SWAP_CLUSTER_MAX = 32  # pages reclaim tries to free at a time

_LRU = 1 << PG_lru
_ACTIVE = 1 << PG_active
_BOTH = _LRU | _ACTIVE
_REFERENCED = 1 << PG_referenced


class LruCache(Part):
    """The two lists (``active_list`` and ``inactive_list`` are heads in ``mem.lru``) and their lengths in pages."""

    state_names: tuple[str, ...] = (
        "active_list",
        "inactive_list",
        "nr_active_pages",
        "nr_inactive_pages",
        "page_cluster",
        "pager_daemon",
        "settled_at",
    )

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.lru = kernel.mem.lru
        self.following, self.preceding = self.lru.next, self.lru.prev
        self.settled = SettledStretches(kernel.mem.frames)
        self.active_list = self.lru.new_head()
        self.inactive_list = self.lru.new_head()
        self.nr_active_pages = 0
        self.nr_inactive_pages = 0
        self.page_cluster = 0  # 2^n pages are read from swap, or for a fault from a file, at a time
        self.pager_daemon = [512, SWAP_CLUSTER_MAX, 8]  # tries_base, tries_min, swap_cluster: only the sysctl looks at them

    @property
    def settled_at(self) -> None:
        """Nothing to save of the clock's shortcut; setting it, as a restored state does, clears it."""

    @settled_at.setter
    def settled_at(self, _: None) -> None:
        self.settled.clear()

    def swap_setup(self) -> None:
        """Read smaller clusters on a machine below 16 MiB. kernel: mm/swap.c:swap_setup"""
        megabytes = self.kernel.num_physpages >> 8
        self.page_cluster = 2 if megabytes < 16 else 3

    def _debug_page(self, pfn: int, wanted: int, what: str) -> None:
        """Raise KernelBug unless the page is on the list it is to leave, or on none. kernel: include/linux/swap.h:DEBUG_LRU_PAGE"""
        flags = self.flags[pfn]
        if flags & _BOTH != wanted:
            raise KernelBug(what, f"frame {pfn} is {'|'.join(flag_names(flags & _BOTH)) or 'on neither list'}", "lru")

    # The list operations are written out here (list_add, list_del): no page is mapped, read or freed without them.

    def add_page_to_active_list(self, pfn: int) -> None:
        """To the head of the active list. kernel: include/linux/swap.h:add_page_to_active_list"""
        flags = self.flags[pfn]
        if flags & _BOTH != _LRU:
            self._debug_page(pfn, _LRU, "add_page_to_active_list")
        self.flags[pfn] = flags | _ACTIVE
        head, following, preceding = self.active_list, self.following, self.preceding
        first = following[head]
        preceding[pfn] = head
        following[pfn] = first
        preceding[first] = following[head] = pfn
        self.nr_active_pages += 1

    def add_page_to_inactive_list(self, pfn: int) -> None:
        """To the head of the inactive list. kernel: include/linux/swap.h:add_page_to_inactive_list"""
        if self.flags[pfn] & _BOTH != _LRU:
            self._debug_page(pfn, _LRU, "add_page_to_inactive_list")
        head, following, preceding = self.inactive_list, self.following, self.preceding
        first = following[head]
        preceding[pfn] = head
        following[pfn] = first
        preceding[first] = following[head] = pfn
        self.nr_inactive_pages += 1

    def del_page_from_active_list(self, pfn: int) -> None:
        """Off the active list. kernel: include/linux/swap.h:del_page_from_active_list"""
        after, before = self.following[pfn], self.preceding[pfn]
        self.following[before] = after
        self.preceding[after] = before
        self.flags[pfn] &= ~_ACTIVE
        self.nr_active_pages -= 1
        if self.settled.home[pfn]:
            self.settled.unsettle(pfn)

    def del_page_from_inactive_list(self, pfn: int) -> None:
        """Off the inactive list. kernel: include/linux/swap.h:del_page_from_inactive_list"""
        after, before = self.following[pfn], self.preceding[pfn]
        self.following[before] = after
        self.preceding[after] = before
        self.nr_inactive_pages -= 1

    def activate_page(self, pfn: int) -> None:
        """Move a page from the inactive list to the head of the active one. kernel: mm/swap.c:activate_page, activate_page_nolock"""
        if self.flags[pfn] & _BOTH == _LRU:
            self.del_page_from_inactive_list(pfn)
            self.add_page_to_active_list(pfn)
            if self.on_event is not None:
                self.on_event(("activate", pfn))

    def lru_cache_add(self, pfn: int) -> None:
        """Put a page that is on no list at the head of the inactive list. kernel: mm/swap.c:lru_cache_add"""
        if not self.flags[pfn] & _LRU:
            self.flags[pfn] |= _LRU
            self.add_page_to_inactive_list(pfn)
            if self.on_event is not None:
                self.on_event(("lru_add", pfn))

    def lru_cache_del(self, pfn: int) -> None:
        """Take a page off its list, if it is on one. kernel: mm/swap.c:lru_cache_del, __lru_cache_del"""
        flags = self.flags[pfn]
        if flags & _LRU:
            self.flags[pfn] = flags & ~_LRU
            if flags & _ACTIVE:
                self.del_page_from_active_list(pfn)
            else:
                self.del_page_from_inactive_list(pfn)
            if self.on_event is not None:
                self.on_event(("lru_del", pfn))

    def mark_page_accessed(self, pfn: int) -> None:
        """The page was used: note it, and if that was noted already, activate it. kernel: mm/filemap.c:mark_page_accessed"""
        flags = self.flags[pfn]
        if flags & _REFERENCED and not flags & _ACTIVE:
            self.activate_page(pfn)
            self.flags[pfn] &= ~_REFERENCED
        else:
            self.flags[pfn] = flags | _REFERENCED

    def kind(self, pfn: int) -> str:
        """What a listed page is: "file", "shmem", "swap" (in the swap cache) or "anon"."""
        ident = self.kernel.mem.mapping[pfn]
        if ident == SWAPPER_SPACE_ID:
            return "swap"
        if not ident:
            return "anon"
        return "shmem" if self.kernel.mappings[ident].a_ops is self.kernel.shmem.aops else "file"

    def active(self) -> list[int]:
        """Frames on the active list, head first."""
        return list(self.lru.walk(self.active_list))

    def inactive(self) -> list[int]:
        """Frames on the inactive list, head first."""
        return list(self.lru.walk(self.inactive_list))

    def __repr__(self) -> str:
        return f"<LruCache {self.nr_active_pages} active, {self.nr_inactive_pages} inactive>"
