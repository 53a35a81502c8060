"""The bits of ``page->flags`` that 2.6 added: numbered after 2.4's, which keep their places.

``to_native`` gives a word of flags the numbers that 2.6.11 uses. kernel: include/linux/page-flags.h
"""

from __future__ import annotations

from ..mm import page_flags as flags24
from ..mm.page_flags import (
    LRU,
    RESERVED,
    PG_active,
    PG_arch_1,
    PG_checked,
    PG_dirty,
    PG_error,
    PG_highmem,
    PG_locked,
    PG_lru,
    PG_referenced,
    PG_reserved,
    PG_slab,
    PG_uptodate,
)

__all__ = ["LRU", "RESERVED"]

PG_private = 5  # PG_unused in 2.4: page->private means something
PG_writeback = 9  # free in 2.4: being written to disk, not locked meanwhile
PG_nosave = 17
PG_compound = 18  # part of a block whose pages all know its head
PG_swapcache = 19
PG_mappedtodisk = 20
PG_reclaim = 21  # reclaim wants it back as soon as it is written
PG_nosave_free = 22

PRIVATE = 1 << PG_private
WRITEBACK = 1 << PG_writeback
COMPOUND = 1 << PG_compound
SWAPCACHE = 1 << PG_swapcache
RECLAIM = 1 << PG_reclaim
MAPPEDTODISK = 1 << PG_mappedtodisk

# What a page may not have when it is freed, when it is handed out, and what it loses when it is handed out.
BAD_WHEN_FREED = 1 << PG_lru | PRIVATE | 1 << PG_locked | 1 << PG_active | RECLAIM | 1 << PG_slab | SWAPCACHE | WRITEBACK
BAD_WHEN_NEW = 1 << PG_lru | PRIVATE | 1 << PG_locked | 1 << PG_active | RECLAIM | 1 << PG_dirty | SWAPCACHE | WRITEBACK
FIXED_UP = PRIVATE | 1 << PG_locked | 1 << PG_lru | 1 << PG_active | 1 << PG_dirty | SWAPCACHE | WRITEBACK  # what bad_page() clears
OLD_MEMORIES = 1 << PG_uptodate | 1 << PG_error | 1 << PG_referenced | 1 << PG_arch_1 | 1 << PG_checked | MAPPEDTODISK

_NATIVE = (
    (PG_locked, 0),
    (PG_error, 1),
    (PG_referenced, 2),
    (PG_uptodate, 3),
    (PG_dirty, 4),
    (PG_lru, 5),
    (PG_active, 6),
    (PG_slab, 7),
    (PG_highmem, 8),
    (PG_checked, 9),
    (PG_arch_1, 10),
    (PG_reserved, 11),
    (PG_private, 12),
    (PG_writeback, 13),
    (PG_nosave, 14),
    (PG_compound, 15),
    (PG_swapcache, 16),
    (PG_mappedtodisk, 17),
    (PG_reclaim, 18),
    (PG_nosave_free, 19),
)
ZONES_SHIFT_NATIVE = 29  # 2.6 keeps the zone in the top three bits: node << 2 | zone, with one node


def to_native(word: int) -> int:
    """The PG_ bits of *word* as 2.6.11 numbers them, without the zone."""
    return sum(1 << native for ours, native in _NATIVE if word >> ours & 1)


PAGE_FLAG_NAMES26 = {
    **{bit: name for bit, name in flags24.PAGE_FLAG_NAMES.items() if name not in ("unused", "skip", "launder", "fs_1")},
    PG_private: "private",
    PG_writeback: "writeback",
    PG_nosave: "nosave",
    PG_compound: "compound",
    PG_swapcache: "swapcache",
    PG_mappedtodisk: "mappedtodisk",
    PG_reclaim: "reclaim",
    PG_nosave_free: "nosave_free",
}


def flag_names26(flags: int) -> list[str]:
    """Names of the bits set in *flags*, in 2.6's words, lowest bit first."""
    return [name for bit, name in sorted(PAGE_FLAG_NAMES26.items()) if flags >> bit & 1]
