"""The bits of ``page->flags``.

     31        24 23           17 16 15 14 13 12 11 10  9  8  7  6  5  4  3  2  1  0
    +------------+---------------+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
    | zone index |    (unused)   |fs|la|re|ar|ch|hi|sk|  |sl|ac|lr|un|di|up|rf|er|lo|
    +------------+---------------+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+

kernel: include/linux/mm.h
"""

from __future__ import annotations

PG_locked = 0
PG_error = 1
PG_referenced = 2
PG_uptodate = 3
PG_dirty = 4
PG_unused = 5
PG_lru = 6
PG_active = 7
PG_slab = 8
PG_skip = 10
PG_highmem = 11
PG_checked = 12
PG_arch_1 = 13
PG_reserved = 14
PG_launder = 15
PG_fs_1 = 16
ZONE_SHIFT = 24  # BITS_PER_LONG - 8: the top byte is the index into zone_table

PAGE_FLAG_NAMES = {
    PG_locked: "locked",
    PG_error: "error",
    PG_referenced: "referenced",
    PG_uptodate: "uptodate",
    PG_dirty: "dirty",
    PG_unused: "unused",
    PG_lru: "lru",
    PG_active: "active",
    PG_slab: "slab",
    PG_skip: "skip",
    PG_highmem: "highmem",
    PG_checked: "checked",
    PG_arch_1: "arch_1",
    PG_reserved: "reserved",
    PG_launder: "launder",
    PG_fs_1: "fs_1",
}

# Masks used on every allocation and free.
RESERVED = 1 << PG_reserved
ACCESS_BITS = 1 << PG_referenced | 1 << PG_dirty  # cleared when a page is freed
FORBIDDEN_WHEN_FREED = 1 << PG_locked | 1 << PG_active
LRU = 1 << PG_lru
LRU_OR_ACTIVE = 1 << PG_lru | 1 << PG_active
ZONE_BITS = 0xFF << ZONE_SHIFT


def flag_names(flags: int) -> list[str]:
    """Names of the PG_ bits set in *flags*, lowest bit first."""
    return [name for bit, name in PAGE_FLAG_NAMES.items() if flags >> bit & 1]
