"""What changed between Linux 2.4.22 and now, one sentence a row of the picture."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """A row's title, how 2.4.22 does it, and the sentence on what changed since."""

    title: str
    then: str
    since: str


CHANGES: dict[str, Change] = {
    "orders": Change(
        "Free blocks by order",
        "Orders 0 to 9: the largest block is 512 pages, 2 MiB.",
        "2.6 added order 10 (4 MiB blocks); the constant was MAX_ORDER = 11 for twenty years, then 6.4 made MAX_ORDER the last "
        "order itself, 10, and 6.8 renamed it MAX_PAGE_ORDER, with NR_PAGE_ORDERS = 11 for how many there are.",
    ),
    "zones": Change(
        "Zones",
        "DMA below 16 MiB, Normal to 896 MiB, HighMem above.",
        "A 64-bit kernel maps all memory, so HighMem is gone; DMA32 (below 4 GiB, 2.6.15) serves devices with 32-bit addresses, "
        "Movable (2.6.23) holds only pages that can be moved away, Device (4.3) is for memory that lives on a device.",
    ),
    "size": Change(
        "Zone size",
        "One number, size, with the holes counted in; the watermarks use the size without the holes that were declared.",
        "Three numbers now: spanned (with holes), present (RAM), and since 3.8 managed, what the allocator was really given; "
        "watermarks and reserves are computed from managed.",
    ),
    "watermarks": Change(
        "Watermarks",
        "min is size/128, but between 20 and 255 pages; low is twice and high three times that.",
        "2.6 derives all zones' min from one number, min_free_kbytes (about 4 × √(low memory in KiB)), shared out by zone size, "
        "and low and high came closer, at 5/4 and 3/2 of min; since 4.6 each step above min is the larger of min/4 and "
        "watermark_scale_factor (0.1 %) of the zone.",
    ),
    "protection": Change(
        "Reserve against higher zones",
        "No table: the running sum. A request that falls back must leave the watermarks of every zone it passed, added up.",
        "2.6 replaced the sum by an array in each zone (protection, later lowmem_reserve): entry j is what a request for zone j "
        "must leave here, the managed pages of the zones above, up to j, divided by lowmem_reserve_ratio.",
    ),
    "pagesets": Change(
        "Pages kept by each CPU",
        "None: every page comes from and goes to the zone's lists, under the zone's lock.",
        "2.6 gives each CPU its own small lists of free pages in every zone, filled and emptied batch pages at a time; two lists "
        "(hot and cold) until 2.6.25, blocks up to order 3 as well since 5.14, and their size tunes itself between high_min and "
        "high_max since 6.7.",
    ),
    "kinds": Change(
        "Kinds of pages",
        "None: a page that can never move may land in the middle of a free 2 MiB.",
        "2.6.24 splits each free list by migrate type, so that unmovable, reclaimable and movable pages gather in page blocks of "
        "their own and large blocks stay whole.",
    ),
    "pairs": Change(
        "Finding the buddy",
        "One bit per pair of buddies, in a bitmap for each order below 9.",
        "The bitmaps went in 2.6.11: a free block's order is written in its own struct page, and the buddy is free if it says so.",
    ),
}
