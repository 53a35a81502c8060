"""Nodes, zones and free areas: the shapes chapter 2 describes. No algorithm lives here.

kernel: include/linux/mmzone.h
"""

from __future__ import annotations

from ..hw.layout import PAGE_SHIFT

MAX_ORDER = 10  # orders 0..9; the largest block is 512 pages = 2 MiB
MAX_NR_ZONES = 3
ZONE_DMA, ZONE_NORMAL, ZONE_HIGHMEM = 0, 1, 2
ZONE_NAMES = ("DMA", "Normal", "HighMem")


class FreeArea:
    """Free blocks of one order in one zone (free_area_t).

    ``free_list`` is a dict used as the kernel's doubly linked list: the newest entry is
    the list head, so ``popitem()`` takes the head and deleting from the middle is O(1).
    ``map`` has one byte (0 or 1) for each pair of buddies: 1 when exactly one of the two
    is free. The kernel packs them into bits (see :meth:`packed_map`); order 9 has none.
    """

    __slots__ = ("free_list", "map", "map_pa")

    def __init__(self) -> None:
        self.free_list: dict[int, None] = {}
        self.map = bytearray()
        self.map_pa: int | None = None  # physical address (bytes) of the bitmap; None for order 9

    def blocks(self) -> list[int]:
        """First frames of the free blocks, list head first."""
        return list(reversed(self.free_list))

    def packed_map(self) -> bytes:
        """The pair bitmap as the kernel stores it: little-endian bits, whole longs."""
        if not self.map:
            return b""
        return pack_bits(self.map)

    def __repr__(self) -> str:
        return f"<FreeArea {len(self.free_list)} blocks: {self.blocks()[:8]}{' …' if len(self.free_list) > 8 else ''}>"


_ASCII = bytes([48, 49]) + bytes(254)


def pack_bits(cells: bytearray | bytes) -> bytes:
    """Bytes that are 0 or 1, packed eight to a byte, first cell in the lowest bit."""
    if not cells:
        return b""
    return int(bytes(cells).translate(_ASCII)[::-1], 2).to_bytes((len(cells) + 7) // 8, "little")


class Zone:
    """One zone of one node (zone_t). Sizes and watermarks are in pages, addresses in bytes."""

    __slots__ = (
        "end_pfn",
        "free_area",
        "free_pages",
        "index",
        "name",
        "need_balance",
        "page_bits",
        "pages_high",
        "pages_low",
        "pages_min",
        "pgdat",
        "realsize",
        "size",
        "start_pfn",
        "wait_table_pa",
        "wait_table_shift",
        "wait_table_size",
        "zone_num",
        "zone_start_mapnr",
    )

    more_state: tuple[str, ...] = ()  # attributes of a subclass that a copy of the machine must have
    orders = MAX_ORDER
    has_maps = True  # a bitmap of pairs for each order but the last

    def __init__(self, pgdat: PgData, zone_num: int) -> None:
        self.pgdat = pgdat
        self.zone_num = zone_num  # 0 DMA, 1 Normal, 2 HighMem
        self.index = pgdat.nid * MAX_NR_ZONES + zone_num  # in zone_table
        self.page_bits = self.index << 24  # what page->flags must hold in its top byte
        self.name = ZONE_NAMES[zone_num]
        self.size = 0
        self.realsize = 0  # size less the holes that were declared
        self.start_pfn = 0
        self.end_pfn = 0
        self.zone_start_mapnr = 0
        self.free_pages = 0
        self.pages_min = 0
        self.pages_low = 0
        self.pages_high = 0
        self.need_balance = 0
        self.wait_table_size = 0
        self.wait_table_shift = 0
        self.wait_table_pa: int | None = None
        self.free_area = [FreeArea() for _ in range(self.orders)]

    @property
    def zone_start_paddr(self) -> int:
        """Physical address (bytes) of the zone's first frame."""
        return self.start_pfn << PAGE_SHIFT

    def nr_free(self) -> list[int]:
        """Length of each free list, from order 0 up."""
        return [len(area.free_list) for area in self.free_area]

    def parked(self) -> list[int]:
        """Free frames that are on none of the lists: 2.6 keeps some per processor."""
        return []

    def __repr__(self) -> str:
        if not self.size:
            return f"<Zone {self.name} (empty)>"
        return (
            f"<Zone {self.name} frames {self.start_pfn}–{self.end_pfn - 1}, {self.free_pages} of {self.size} pages free, "
            f"min/low/high {self.pages_min}/{self.pages_low}/{self.pages_high}>"
        )


Zonelist = list[Zone]


class BootmemData:
    """The boot memory allocator's state for one node (bootmem_data_t).

    ``map`` has one byte (1 = reserved) for each page from ``node_boot_start`` (bytes) up to frame
    ``node_low_pfn``; it is None before initialisation and after retirement.
    """

    __slots__ = ("last_offset", "last_pos", "map", "map_pa", "node_boot_start", "node_low_pfn")

    def __init__(self) -> None:
        self.node_boot_start = 0
        self.node_low_pfn = 0
        self.map: bytearray | None = None
        self.map_pa = 0
        self.last_offset = 0
        self.last_pos = 0

    def ranges(self) -> list[tuple[int, int]]:
        """Free ranges as absolute frames [start, end)."""
        if self.map is None:
            return []
        base = self.node_boot_start >> PAGE_SHIFT
        limit = self.node_low_pfn - base
        found: list[tuple[int, int]] = []
        at = self.map.find(0, 0, limit)
        while at >= 0:
            end = self.map.find(1, at, limit)
            if end < 0:
                end = limit
            found.append((base + at, base + end))
            at = self.map.find(0, end, limit)
        return found

    def __repr__(self) -> str:
        if self.map is None:
            return "<BootmemData (no bitmap)>"
        return (
            f"<BootmemData frames {self.node_boot_start >> PAGE_SHIFT}–{self.node_low_pfn - 1}, {self.map.count(0)} free, "
            f"last_pos {self.last_pos}, last_offset {self.last_offset}>"
        )


class PgData:
    """One node (pg_data_t): its zones, its zonelists, its share of mem_map."""

    zone_class: type[Zone] = Zone
    more_state: tuple[str, ...] = ()

    def __init__(self, nid: int = 0) -> None:
        self.nid = nid
        self.node_id = 0  # the kernel's own field: set once the node's zones stand
        self.node_zones = [self.zone_class(self, j) for j in range(MAX_NR_ZONES)]
        self.node_zonelists: list[Zonelist] = [[] for _ in range(16)]
        self.nr_zones = 0
        self.node_size = 0  # pages
        self.node_start_pfn = 0
        self.node_mem_map_pa: int | None = None
        self.node_start_mapnr = 0
        self.valid_addr_bitmap_pa: int | None = None
        self.bdata = BootmemData()

    @property
    def node_start_paddr(self) -> int:
        """Physical address (bytes) of the node's first frame."""
        return self.node_start_pfn << PAGE_SHIFT

    def __repr__(self) -> str:
        zones = ", ".join(f"{z.name} {z.size}" for z in self.node_zones if z.size)
        return f"<PgData node {self.nid}: {zones or 'no zones yet'}>"
