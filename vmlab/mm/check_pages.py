"""Invariants of the page cache and the LRU lists."""

from __future__ import annotations

from collections.abc import Iterator

from .check_areas import bad
from .kernel import Kernel
from .lists import NIL, ListColumns
from .page_flags import RESERVED, PG_active, PG_locked, PG_lru, flag_names

__all__ = ["check_cache", "check_lru"]

_LRU, _ACTIVE, _LOCKED = 1 << PG_lru, 1 << PG_active, 1 << PG_locked


def _walk(columns: ListColumns, head: int, what: str) -> Iterator[int]:
    """Entries of a list, first to last; its links must agree in both directions."""
    at, steps = head, 0
    while True:
        following = columns.next[at]
        if following == NIL or following >= len(columns.next) or columns.prev[following] != at:
            bad("list", f"{what}: entry {following} follows {at}, but does not point back")
        if following == head:
            return
        steps += 1
        if steps > columns.frames or following >= columns.frames:
            bad("list", f"{what} runs in a ring, or into another list at {following}")
        yield following
        at = following


def check_lru(kernel: Kernel) -> None:
    """The flags of every page say which list it is on, and the counters how many there are."""
    swap, flags = kernel.swap, kernel.mem.flags
    total = 0
    for name, head, count, wanted in (
        ("active list", swap.active_list, swap.nr_active_pages, _LRU | _ACTIVE),
        ("inactive list", swap.inactive_list, swap.nr_inactive_pages, _LRU),
    ):
        length = 0
        for pfn in _walk(kernel.mem.lru, head, f"the {name}"):
            length += 1
            if flags[pfn] & (_LRU | _ACTIVE) != wanted:
                bad("lru flags", f"frame {pfn} is on the {name}, its flags are {'|'.join(flag_names(flags[pfn])) or 'none'}")
        if length != count:
            bad("lru count", f"the {name} has {length} pages, its counter says {count}")
        total += length
    marked = sum(1 for word in flags if word & _LRU)
    if marked != total:
        bad("lru flags", f"{marked} pages have PG_lru, but {total} are on the lists")


def check_cache(kernel: Kernel) -> None:
    """Pages, the lists of their files, the chains of the hash, and the counters tell the same story."""
    cache, mem = kernel.filemap, kernel.mem
    hashed = bytearray(mem.frames)
    total = 0
    for slot, first in enumerate(cache.page_hash_table):
        pfn = first
        while pfn != NIL:
            if pfn >= mem.frames or hashed[pfn]:
                bad("hash", f"chain {slot} of the page hash runs into frame {pfn}, which is on a chain already or does not exist")
            hashed[pfn] = 1
            total += 1
            mapping = kernel.mappings.get(mem.mapping[pfn])
            if mapping is None:
                bad("hash", f"frame {pfn} is on chain {slot} of the page hash, but its mapping {mem.mapping[pfn]} does not exist")
            if cache.page_hashfn(mapping, mem.index[pfn]) != slot:
                bad("hash", f"frame {pfn}, page {mem.index[pfn]} of {mapping!r}, is on chain {slot} of the page hash: the wrong one")
            pfn = mem.next_hash[pfn]
    if total != cache.page_cache_size:
        bad("page_cache_size", f"the page hash has {total} pages, page_cache_size says {cache.page_cache_size}")
    _lists(kernel, hashed)


def _lists(kernel: Kernel, hashed: bytearray) -> None:
    mem = kernel.mem
    listed = 0
    for mapping in kernel.mappings.values():
        mine = 0
        seen: set[int] = set()
        for name in ("clean_pages", "dirty_pages", "locked_pages"):
            for pfn in _walk(mem.list, getattr(mapping, name), f"{name} of {mapping!r}"):
                mine += 1
                if mem.mapping[pfn] != mapping.id:
                    bad("mapping list", f"frame {pfn} is on {name} of {mapping!r}, but belongs to mapping {mem.mapping[pfn]}")
                if not hashed[pfn]:
                    bad("hash", f"frame {pfn} of {mapping!r} is on no chain of the page hash")
                if mem.index[pfn] in seen:
                    bad("mapping list", f"{mapping!r} caches page {mem.index[pfn]} twice, once in frame {pfn}")
                seen.add(mem.index[pfn])
                if not mem.flags[pfn] & (_LRU | RESERVED):
                    bad("lru flags", f"frame {pfn} is cached for {mapping!r}, but on neither LRU list")
        if mine != mapping.nrpages:
            bad("nrpages", f"{mapping!r} has nrpages {mapping.nrpages}, its lists have {mine} pages")
        listed += mine
    cached = sum(1 for ident in mem.mapping if ident)
    if cached != listed:
        bad("mapping list", f"{cached} frames have a mapping, but {listed} are on the lists of mappings")
    if not kernel.block.queue:
        stuck = next((pfn for pfn, word in enumerate(mem.flags) if word & _LOCKED), None)
        if stuck is not None:
            bad("locked", f"frame {stuck} is locked, though no transfer is under way")
