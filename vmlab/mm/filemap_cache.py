"""The page cache proper: finding the page of a file at an index, putting one in, taking one out, locking it.

Every cached page is on a chain of the page hash, and on one of the three lists of its file (address_space):
clean, dirty (to be written), locked (being written). The cache holds one reference of each.

kernel: mm/filemap.c, include/linux/pagemap.h
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..errors import KernelBug, KernelHang, KernelPanic
from ..hw.layout import PAGE_SIZE
from .gfp import GFP_ATOMIC
from .kernel import Part
from .lists import NIL
from .page_flags import (
    ZONE_SHIFT,
    PG_arch_1,
    PG_checked,
    PG_dirty,
    PG_error,
    PG_launder,
    PG_locked,
    PG_referenced,
    PG_uptodate,
)

if TYPE_CHECKING:
    from .fs import AddressSpace
    from .kernel import Kernel

LOCKED, ERROR, REFERENCED, UPTODATE = 1 << PG_locked, 1 << PG_error, 1 << PG_referenced, 1 << PG_uptodate
DIRTY, LAUNDER = 1 << PG_dirty, 1 << PG_launder
PAGE_MASK = PAGE_SIZE - 1  # the offset within a page (the kernel's ~PAGE_CACHE_MASK)
GOLDEN_RATIO_PRIME = 0x9E370001  # 2^31 + 2^29 - 2^25 + 2^22 - 2^19 - 2^16 + 1

_FRESH = ~(UPTODATE | ERROR | DIRTY | REFERENCED | 1 << PG_arch_1 | 1 << PG_checked) & 0xFFFFFFFF
_U32 = 0xFFFFFFFF
_PTR = 4  # bytes of a pointer: one slot of the hash table

# Where an address_space stands in kernel memory only decides which chain its pages are on. Inodes are 480 bytes,
# of which the kernel's hash function uses the lowest set bit, 32: neighbouring inodes are 15 apart.
_INODE_BASE, _INODE_STEP = 0xC1000000 // 32, 480 // 32


class PageCache(Part):
    """The page hash, the lists of each file, and page locks."""

    state_names: tuple[str, ...] = ("page_cache_size", "page_hash_bits", "page_hash_pfn", "page_hash_table")

    def __init__(self) -> None:
        super().__init__()
        self.page_cache_size = 0  # pages in the hash
        self.page_hash_bits = 0
        self.page_hash_pfn = 0  # first frame of the table
        self.page_hash_table = array("I", [NIL])  # first page of each chain, NIL when empty

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping
        self.next_hash = kernel.mem.next_hash
        self.list = kernel.mem.list

    def page_cache_init(self, mempages: int) -> None:
        """Allocate the page hash: one slot for each of *mempages* pages, less if no block that large is free.

        Raises KernelPanic when not even one page is left. kernel: mm/filemap.c:page_cache_init
        """
        order = 0
        while PAGE_SIZE << order < mempages * _PTR:
            order += 1
        while True:
            self.page_hash_bits = ((PAGE_SIZE << order) // _PTR).bit_length() - 1
            pfn = self.kernel.page_allocator.alloc_pages(GFP_ATOMIC, order)
            if pfn is not None:
                break
            order -= 1
            if order <= 0:
                break
        self.kernel.printk(None, f"Page-cache hash table entries: {1 << self.page_hash_bits} (order: {order}, {PAGE_SIZE << order} bytes)")
        if pfn is None:
            raise KernelPanic("Failed to allocate page hash table\n")
        self.page_hash_pfn = pfn
        for frame in range(pfn, pfn + (1 << order)):
            self.kernel.ram.clear_page(frame)
        self.page_hash_table = array("I", [NIL]) * (1 << self.page_hash_bits)

    # -- the hash -----------------------------------------------------------------------------

    def page_hashfn(self, mapping: AddressSpace, index: int) -> int:
        """The chain of page *index* of *mapping*. kernel: include/linux/pagemap.h:_page_hashfn, page_hash"""
        x = (_INODE_BASE + _INODE_STEP * mapping.id + index) & _U32
        return (x + (x >> self.page_hash_bits)) & ((1 << self.page_hash_bits) - 1)

    def add_page_to_hash_queue(self, pfn: int, mapping: AddressSpace, index: int) -> None:
        """Put the page at the front of its chain. kernel: mm/filemap.c:add_page_to_hash_queue"""
        slot = self.page_hashfn(mapping, index)
        self.next_hash[pfn] = self.page_hash_table[slot]
        self.page_hash_table[slot] = pfn
        self.page_cache_size += 1

    def remove_page_from_hash_queue(self, pfn: int, mapping: AddressSpace) -> None:
        """Take the page out of its chain. kernel: mm/filemap.c:remove_page_from_hash_queue"""
        slot = self.page_hashfn(mapping, self.index[pfn])
        following = self.next_hash
        at = self.page_hash_table[slot]
        if at == pfn:
            self.page_hash_table[slot] = following[pfn]
        else:
            while at != NIL and following[at] != pfn:
                at = following[at]
            if at == NIL:
                raise KernelBug("remove_page_from_hash_queue", f"frame {pfn} is not on chain {slot} of the page hash", "unhashed")
            following[at] = following[pfn]
        following[pfn] = NIL
        self.page_cache_size -= 1

    def add_page_to_inode_queue(self, mapping: AddressSpace, pfn: int) -> None:
        """The page is now cached for *mapping*, and clean. kernel: mm/filemap.c:add_page_to_inode_queue"""
        mapping.nrpages += 1
        self.list.add(pfn, mapping.clean_pages)
        self.mapping[pfn] = mapping.id

    def remove_page_from_inode_queue(self, pfn: int) -> None:
        """The page no longer belongs to its file. kernel: mm/filemap.c:remove_page_from_inode_queue"""
        mapping = self.kernel.mappings[self.mapping[pfn]]
        if mapping.a_ops.removepage is not None:
            mapping.a_ops.removepage(pfn)
        self.list.del_(pfn)
        self.mapping[pfn] = 0
        mapping.nrpages -= 1

    def remove_inode_page_nolock(self, pfn: int) -> None:
        """Take the page out of the cache; its reference is the caller's to drop. kernel: mm/filemap.c:__remove_inode_page"""
        mapping = self.kernel.mappings[self.mapping[pfn]]
        ev = self.on_event
        if ev is not None:
            ev(("page_cache_remove", pfn, mapping.id, self.index[pfn]))
        self.remove_page_from_inode_queue(pfn)
        self.remove_page_from_hash_queue(pfn, mapping)

    def remove_inode_page(self, pfn: int) -> None:
        """The same for a locked page. Raises KernelBug when it is not locked. kernel: mm/filemap.c:remove_inode_page"""
        if not self.flags[pfn] & LOCKED:
            raise KernelBug("remove_inode_page", f"frame {pfn} is not locked", "unlocked")
        self.remove_inode_page_nolock(pfn)

    def _enter(self, pfn: int, mapping: AddressSpace, index: int) -> None:
        self.index[pfn] = index
        self.count[pfn] += 1
        self.add_page_to_inode_queue(mapping, pfn)
        self.add_page_to_hash_queue(pfn, mapping, index)
        ev = self.on_event
        if ev is not None:
            ev(("page_cache_add", pfn, mapping.id, index))

    def add_to_page_cache_locked(self, pfn: int, mapping: AddressSpace, index: int) -> None:
        """Cache a page whose flags are right already. Raises KernelBug when it is not locked.

        kernel: mm/filemap.c:add_to_page_cache_locked
        """
        if not self.flags[pfn] & LOCKED:
            raise KernelBug("add_to_page_cache_locked", f"frame {pfn} is not locked", "unlocked")
        self._enter(pfn, mapping, index)
        self.kernel.swap.lru_cache_add(pfn)

    def add_to_page_cache_nolock(self, pfn: int, mapping: AddressSpace, index: int) -> None:
        """Cache a new page: locked, neither up to date nor dirty nor referenced; not yet on an LRU list.

        kernel: mm/filemap.c:__add_to_page_cache
        """
        self.flags[pfn] = self.flags[pfn] & _FRESH | LOCKED
        self._enter(pfn, mapping, index)

    def add_to_page_cache(self, pfn: int, mapping: AddressSpace, index: int) -> None:
        """Cache a new page and put it on the inactive list. kernel: mm/filemap.c:add_to_page_cache"""
        self.add_to_page_cache_nolock(pfn, mapping, index)
        self.kernel.swap.lru_cache_add(pfn)

    def add_to_page_cache_unique(self, pfn: int, mapping: AddressSpace, index: int) -> int:
        """The same unless there is one already: then 1 is returned, else 0. kernel: mm/filemap.c:add_to_page_cache_unique"""
        if self.find_page_nolock(mapping, index) is not None:
            return 1
        self.add_to_page_cache_nolock(pfn, mapping, index)
        self.kernel.swap.lru_cache_add(pfn)
        return 0

    # -- looking up ---------------------------------------------------------------------------

    def find_page_nolock(self, mapping: AddressSpace, index: int) -> int | None:
        """The cached page at *index*, or None; no reference is taken. kernel: mm/filemap.c:__find_page_nolock"""
        ident = mapping.id
        bits = self.page_hash_bits
        x = (_INODE_BASE + _INODE_STEP * ident + index) & _U32
        pfn = self.page_hash_table[(x + (x >> bits)) & ((1 << bits) - 1)]
        while pfn != NIL:
            if self.mapping[pfn] == ident and self.index[pfn] == index:
                return pfn
            pfn = self.next_hash[pfn]
        return None

    def find_get_page(self, mapping: AddressSpace, index: int) -> int | None:
        """The cached page with a reference taken, or None. kernel: mm/filemap.c:__find_get_page, include/linux/pagemap.h:find_get_page"""
        pfn = self.find_page_nolock(mapping, index)
        if pfn is not None:
            self.count[pfn] += 1
        return pfn

    def find_trylock_page(self, mapping: AddressSpace, index: int) -> int | None:
        """The cached page, locked, without a reference; None when absent or locked by another. kernel: mm/filemap.c:find_trylock_page"""
        pfn = self.find_page_nolock(mapping, index)
        if pfn is not None and self.try_lock_page(pfn):
            return None
        return pfn

    def find_lock_page(self, mapping: AddressSpace, index: int) -> int | None:
        """The cached page, locked and with a reference; sleeps for the lock. None when absent.

        kernel: mm/filemap.c:__find_lock_page, __find_lock_page_helper, include/linux/pagemap.h:find_lock_page
        """
        while True:
            pfn = self.find_page_nolock(mapping, index)
            if pfn is None:
                return None
            self.kernel.get_page(pfn)
            if not self.try_lock_page(pfn):
                return pfn
            self.lock_page(pfn)
            if self.mapping[pfn] == mapping.id and self.index[pfn] == index:
                return pfn
            self.unlock_page(pfn)  # it went to another use while we slept
            self.kernel.put_page(pfn)

    def find_or_create_page(self, mapping: AddressSpace, index: int, gfp_mask: int) -> int | None:
        """As find_lock_page, with a new page made when there is none; None when memory is short.

        kernel: mm/filemap.c:find_or_create_page
        """
        pfn = self.find_lock_page(mapping, index)
        if pfn is not None:
            return pfn
        new = self.kernel.alloc_page(gfp_mask)
        if new is None:
            return None
        pfn = self.find_lock_page(mapping, index)
        if pfn is not None:
            self.kernel.put_page(new)
            return pfn
        self.add_to_page_cache_nolock(new, mapping, index)
        self.kernel.swap.lru_cache_add(new)
        return new

    def grab_cache_page(self, mapping: AddressSpace, index: int) -> int | None:
        """The page at *index*, locked, made when absent; None when memory is short. kernel: include/linux/pagemap.h:grab_cache_page"""
        return self.find_or_create_page(mapping, index, mapping.gfp_mask)

    def grab_cache_page_nowait(self, mapping: AddressSpace, index: int) -> int | None:
        """The same, None instead of waiting for a lock. kernel: mm/filemap.c:grab_cache_page_nowait"""
        pfn = self.find_get_page(mapping, index)
        if pfn is not None:
            if not self.try_lock_page(pfn):
                if self.mapping[pfn] == mapping.id and self.index[pfn] == index:
                    return pfn
                self.unlock_page(pfn)
            self.kernel.put_page(pfn)
            return None
        pfn = self.page_cache_alloc(mapping)
        if pfn is None:
            return None
        if self.add_to_page_cache_unique(pfn, mapping, index):
            self.kernel.put_page(pfn)
            return None
        return pfn

    def page_cache_alloc(self, mapping: AddressSpace) -> int | None:
        """A page of the kind *mapping* wants. kernel: include/linux/pagemap.h:page_cache_alloc"""
        return self.kernel.alloc_page(mapping.gfp_mask)

    # -- page locks ---------------------------------------------------------------------------

    def try_lock_page(self, pfn: int) -> bool:
        """Lock the page; True when it was locked already (so the caller did not get it). kernel: include/linux/mm.h:TryLockPage"""
        if self.flags[pfn] & LOCKED:
            return True
        self.flags[pfn] |= LOCKED
        return False

    def lock_page(self, pfn: int) -> None:
        """Lock the page, waiting until whoever holds it lets go. kernel: mm/filemap.c:lock_page, __lock_page"""
        if not self.try_lock_page(pfn):
            return
        while True:
            if self.flags[pfn] & LOCKED:
                self._sleep_on(pfn, "lock_page")
            if not self.try_lock_page(pfn):
                return

    def unlock_page(self, pfn: int) -> None:
        """Release the lock and wake who waits. Raises KernelBug when it was not locked.

        kernel: mm/filemap.c:unlock_page, include/linux/mm.h:UnlockPage
        """
        flags = self.flags[pfn] & ~LAUNDER
        self.flags[pfn] = flags & ~LOCKED
        if not flags & LOCKED:
            raise KernelBug("unlock_page", f"frame {pfn} is not locked", "unlocked")

    def wait_on_page(self, pfn: int) -> None:
        """Sleep until the page is unlocked; the caller holds a reference.

        kernel: include/linux/pagemap.h:wait_on_page, mm/filemap.c:___wait_on_page
        """
        while self.flags[pfn] & LOCKED:
            self._sleep_on(pfn, "___wait_on_page")

    def _sleep_on(self, pfn: int, function: str) -> None:
        """Start the I/O the page may be waiting for, and give up the processor."""
        ev = self.on_event
        if ev is not None:
            ev(("wait_on_page", pfn))
        self.sync_page(pfn)
        self.kernel.sched.schedule()
        if self.flags[pfn] & LOCKED and not self.kernel.block.queue:
            raise KernelHang(function, f"frame {pfn} is locked and no transfer is under way that would unlock it")

    def sync_page(self, pfn: int) -> int:
        """Let the page's file system start pending transfers. Returns 0. kernel: mm/filemap.c:sync_page"""
        mapping = self.kernel.mappings.get(self.mapping[pfn])
        if mapping is not None and mapping.a_ops.sync_page is not None:
            ret: int = mapping.a_ops.sync_page(pfn)
            return ret
        return 0

    def page_waitqueue(self, pfn: int) -> int:
        """Which of the zone's wait queues sleepers for the page use. kernel: mm/filemap.c:page_waitqueue, wakeup_page_waiters"""
        kernel = self.kernel
        zone = kernel.zone_table[self.flags[pfn] >> ZONE_SHIFT]
        base = zone.pgdat.node_mem_map_pa or 0
        address = 0xC0000000 + base + (pfn - zone.pgdat.node_start_pfn) * kernel.config.sizeof_page
        return (address * GOLDEN_RATIO_PRIME & _U32) >> zone.wait_table_shift

    def mark_page_accessed(self, pfn: int) -> None:
        """Note that the page is in use: the second time it becomes active. kernel: mm/filemap.c:mark_page_accessed"""
        self.kernel.swap.mark_page_accessed(pfn)

    def cached_pages(self, mapping: AddressSpace) -> list[int]:
        """Frames cached for *mapping*, by index."""
        lists = (mapping.clean_pages, mapping.dirty_pages, mapping.locked_pages)
        return sorted((pfn for head in lists for pfn in self.list.walk(head)), key=lambda pfn: self.index[pfn])

    def page_lists(self, mapping: AddressSpace) -> dict[str, list[int]]:
        """The frames of *mapping*'s lists by name, head first."""
        heads = {"clean": mapping.clean_pages, "dirty": mapping.dirty_pages, "locked": mapping.locked_pages}
        return {name: list(self.list.walk(head)) for name, head in heads.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.page_cache_size} pages cached, {1 << self.page_hash_bits} hash chains>"
