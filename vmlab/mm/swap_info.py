"""A swap area, the chain of areas, and swap entries, which say where a page of swap is.

    a swap entry, as it stands in a page table    31                  8 7    6      1  0
    (PRESENT and PROTNONE clear)                 +---------------------+---+---------+---+
                                                 |    slot (offset)    | 0 |  area   | 0 |
                                                 +---------------------+---+---------+---+

kernel: include/linux/swap.h, include/asm-i386/pgtable.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .swap_map import SwapMap, used_slots

if TYPE_CHECKING:
    from .fs import Inode

MAX_SWAPFILES = 32

SWP_USED = 1
SWP_WRITEOK = 3


def swp_entry(area: int, offset: int) -> int:
    """The swap entry of slot *offset* of an area. kernel: include/asm-i386/pgtable.h:SWP_ENTRY"""
    return (area << 1 | offset << 8) & 0xFFFFFFFF


def swp_type(entry: int) -> int:
    """The number of the area an entry is in. kernel: include/asm-i386/pgtable.h:SWP_TYPE"""
    return entry >> 1 & 0x3F


def swp_offset(entry: int) -> int:
    """The slot of an entry. kernel: include/asm-i386/pgtable.h:SWP_OFFSET"""
    return entry >> 8


class SwapInfo:
    """One swap area. Bits, slots and sizes are in pages; ``next`` is the next area by priority, -1 at the end.

    ``lowest_bit`` and ``highest_bit`` bound the free slots; the next slots come from ``cluster_next`` on
    while ``cluster_nr`` are left of the cluster. kernel: include/linux/swap.h:swap_info_struct
    """

    __slots__ = (
        "cluster_next",
        "cluster_nr",
        "flags",
        "highest_bit",
        "lowest_bit",
        "max",
        "next",
        "pages",
        "prio",
        "swap_device",
        "swap_file",
        "swap_map",
    )

    def __init__(self) -> None:
        self.flags = 0
        self.swap_device: int | None = None  # number of the disk
        self.swap_file: int | Inode | None = None  # what was opened: the disk's number, or the file
        self.swap_map: SwapMap | None = None
        self.lowest_bit = self.highest_bit = 0
        self.cluster_next = self.cluster_nr = 0
        self.prio = 0
        self.pages = 0  # slots that can be used
        self.max = 0  # slots in all
        self.next = 0

    def used_slots(self) -> list[tuple[int, int]]:
        """(slot, count) of every slot that is not free."""
        return [] if self.swap_map is None else used_slots(self.swap_map)

    def __repr__(self) -> str:
        if not self.flags:
            return "<SwapInfo, not in use>"
        where = f"disk {self.swap_device}" if self.swap_device is not None else repr(self.swap_file)
        return f"<SwapInfo {where}: {self.pages} pages, priority {self.prio}{'' if self.flags == SWP_WRITEOK else ', no new slots'}>"


class SwapList:
    """The areas by falling priority: ``head`` the first, ``next`` the one to take the next slot from; -1 for none."""

    __slots__ = ("head", "next")

    def __init__(self) -> None:
        self.head = self.next = -1

    def __repr__(self) -> str:
        return f"<SwapList head {self.head}, next {self.next}>"
