"""``mem_map``: one row for each page frame, kept in columns, and the row as people read it.

Columns are ``array``s and ``bytearray``s indexed by frame number: a copy of the whole map is
a few memcpys, which is what makes stepping backwards cheap.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..hw.layout import MAXMEM_PFN, PAGE_OFFSET, PAGE_SHIFT
from .holders import holder, mapped_by
from .lists import NIL, ListColumns
from .page_flags import ZONE_SHIFT, PG_reserved

if TYPE_CHECKING:
    from .kernel import Kernel
    from .mmzone import PgData, Zone

# What ``block`` says of a frame. The kernel does not keep this: it is for pictures and for people.
BLOCK_FREE = 0x80  # | order: first frame of a free block
BLOCK_USED = 0x40  # | order: first frame of an allocated block
BLOCK_RESERVED = 0x20  # a frame nobody may allocate
BLOCK_HOLE = 0x10  # no RAM here
BLOCK_PARKED = 0x01  # free, on a per-CPU list (2.6)

MAX_OWNERS = 251


class MemMap:
    """Columns of ``struct page``, and two of our own (``block``, ``owner``), *frames* long."""

    __slots__ = ("_extra", "_list", "_lru", "_mapping", "_next_hash", "block", "count", "flags", "frames", "index", "owner")

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.flags = array("I", bytes(4 * frames))
        self.count = array("i", bytes(4 * frames))
        self.index = array("I", bytes(4 * frames))
        self.block = bytearray([BLOCK_HOLE]) * frames
        self.owner = bytearray(frames)
        # Columns that only a machine with processes needs; made when first asked for.
        self._mapping: array[int] | None = None
        self._next_hash: array[int] | None = None
        self._list: ListColumns | None = None
        self._lru: ListColumns | None = None
        self._extra: dict[str, array[int]] = {}

    def column(self, name: str, typecode: str = "I", fill: int = 0) -> array[int]:
        """A column of another kernel's struct page, called *name*; made when first asked for, full of *fill*."""
        found = self._extra.get(name)
        if found is None:
            found = self._extra[name] = array(typecode, [fill]) * self.frames
        return found

    @property
    def mapping(self) -> array[int]:
        """Id of the address_space each page is cached for (kernel.mappings), 0 for none."""
        if self._mapping is None:
            self._mapping = array("I", bytes(4 * self.frames))
        return self._mapping

    @property
    def next_hash(self) -> array[int]:
        """The next page in the same chain of the page hash, NIL at the end."""
        if self._next_hash is None:
            self._next_hash = array("I", [NIL]) * self.frames
        return self._next_hash

    @property
    def list(self) -> ListColumns:
        """``page->list``: the clean, dirty and locked lists of an address_space."""
        if self._list is None:
            self._list = ListColumns(self.frames)
        return self._list

    @property
    def lru(self) -> ListColumns:
        """``page->lru``: the active and inactive lists."""
        if self._lru is None:
            self._lru = ListColumns(self.frames)
        return self._lru

    def copy(self) -> MemMap:
        """An independent copy of every column."""
        other = MemMap.__new__(MemMap)  # no use filling columns that are replaced at once
        other.frames = self.frames
        other.flags = self.flags[:]
        other.count = self.count[:]
        other.index = self.index[:]
        other.block = self.block[:]
        other.owner = self.owner[:]
        other._mapping = None if self._mapping is None else self._mapping[:]
        other._next_hash = None if self._next_hash is None else self._next_hash[:]
        other._list = None if self._list is None else self._list.copy()
        other._lru = None if self._lru is None else self._lru.copy()
        other._extra = {name: column[:] for name, column in self._extra.items()}
        return other

    def drop_new_heads(self, original: MemMap) -> None:
        """Forget list heads that were made since this was copied from *original*: a copied machine's parts make some as they start."""
        for mine, theirs in ((self._list, original._list), (self._lru, original._lru)):
            if mine is not None and theirs is not None:
                del mine.next[len(theirs.next) :], mine.prev[len(theirs.prev) :]
                mine.free_heads[:] = theirs.free_heads

    def bytes_per_frame(self) -> int:
        """Bytes of state kept for each frame."""
        extra = sum(4 for column in (self._mapping, self._next_hash) if column is not None)
        extra += sum(column.itemsize for column in self._extra.values())
        extra += sum(8 for column in (self._list, self._lru) if column is not None)
        return self.flags.itemsize + self.count.itemsize + self.index.itemsize + 2 + extra


class Page:
    """One ``struct page`` as people read it: a frame number and the machine it belongs to."""

    __slots__ = ("_kernel", "pfn")

    def __init__(self, kernel: Kernel, pfn: int) -> None:
        self._kernel = kernel
        self.pfn = pfn

    @property
    def flags(self) -> int:
        """The raw ``page->flags`` word, zone index in its top byte."""
        return self._kernel.mem.flags[self.pfn]

    @property
    def flag_names(self) -> list[str]:
        """Names of the PG_ bits that are set."""
        return self._kernel.page_flag_names(self.flags)

    @property
    def count(self) -> int:
        """Reference count; 0 when free."""
        return self._kernel.mem.count[self.pfn]

    @property
    def zone(self) -> Zone | None:
        """The zone the frame is in, or None for a hole between nodes. kernel: include/linux/mm.h:page_zone"""
        zone = self._kernel.zone_table.get(self.flags >> ZONE_SHIFT)
        return zone if zone is not None and zone.start_pfn <= self.pfn < zone.end_pfn else None

    @property
    def node(self) -> PgData | None:
        """The node the frame is in."""
        zone = self.zone
        return zone.pgdat if zone else None

    @property
    def address(self) -> int:
        """Physical address in bytes."""
        return self.pfn << PAGE_SHIFT

    @property
    def virtual(self) -> int | None:
        """Kernel virtual address, or None in high memory. kernel: include/linux/mm.h:page_address, include/asm-i386/page.h:__va"""
        zone = self.zone
        if zone is None or zone.zone_num == 2 or self.pfn >= MAXMEM_PFN:
            return None
        return PAGE_OFFSET + self.address

    @property
    def head(self) -> int:
        """First frame of the block this frame is part of (itself, when it stands alone)."""
        block = self._kernel.mem.block
        for order in range(11):
            head = self.pfn - (self.pfn - self._base()) % (1 << order)
            kind = block[head]
            if kind & (BLOCK_FREE | BLOCK_USED) and head + (1 << (kind & 15)) > self.pfn:
                return head
        return self.pfn

    def _base(self) -> int:
        zone = self.zone
        return zone.start_pfn if zone else 0

    @property
    def order(self) -> int:
        """Order of the block this frame is part of; 0 for a reserved frame."""
        kind = self._kernel.mem.block[self.head]
        return kind & 15 if kind & (BLOCK_FREE | BLOCK_USED) else 0

    @property
    def state(self) -> str:
        """``free``, ``allocated``, ``reserved`` or ``hole``."""
        kind = self._kernel.mem.block[self.head]
        if kind & BLOCK_FREE or kind == BLOCK_PARKED:
            return "free"
        if kind & BLOCK_USED:
            return "allocated"
        if self.zone is None or kind & BLOCK_HOLE:
            return "hole"
        return "reserved" if self.flags >> PG_reserved & 1 else "allocated"

    @property
    def owner(self) -> str:
        """Who holds the frame: a boot consumer, the ``owner=`` of the allocation, "anonymous", "novel page 3", "slab size-32", …"""
        return holder(self._kernel, self.head) if self.state in ("allocated", "reserved", "hole") else ""

    @property
    def mapped_by(self) -> list[tuple[int, int]]:
        """(process, address) of each page table entry that maps the frame. All page tables are searched for it."""
        return mapped_by(self._kernel, self.pfn)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Page) and other.pfn == self.pfn and other._kernel is self._kernel

    def __hash__(self) -> int:
        return hash((id(self._kernel), self.pfn))

    def __repr__(self) -> str:
        zone = self.zone
        parts = [f"<Page {self.pfn} ({self.address:#x})", zone.name if zone else "no zone", f"{self.state} order {self.order}"]
        parts.append(f"count {self.count}")
        if self.flag_names:
            parts.append("|".join(self.flag_names))
        if self.owner:
            parts.append(f"owner {self.owner}")
        return ", ".join(parts) + ">"
