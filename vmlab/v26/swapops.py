"""What a page table entry holds when no page is mapped: a slot of swap, or a page of a file.

    bit  31               8 7 6 5      1 0
        +------------------+-+-+--------+-+
        | offset           |0|0| type   |0|   in swap
        | pgoff, bits 5-28 |0|1| pgoff  |0|   in the area's file (a nonlinear mapping)
        +------------------+-+-+--------+-+

In 2.6 the kernel's own code has one form of a swap entry for all processors, type << 27 | offset, which
only these functions turn into an i386 entry and back; before that it was the entry itself.
kernel: include/linux/swapops.h, include/asm-i386/pgtable-2level.h
"""

from __future__ import annotations

_PAGE_FILE = 0x40  # DIRTY, where PRESENT is clear
PTE_FILE_MAX_BITS = 29
SWP_TYPE_SHIFT = 27  # 32 types
_OFFSET = (1 << SWP_TYPE_SHIFT) - 1
_U32 = 0xFFFFFFFF


def swp_entry(kind: int, offset: int) -> int:
    """In 2.6 the same on every processor, because the swap cache's index should not depend on page tables; before that a page table entry.

    The entry for slot *offset* of area number *kind*. kernel: include/linux/swapops.h:swp_entry
    """
    return kind << SWP_TYPE_SHIFT | offset & _OFFSET


def swp_type(entry: int) -> int:
    """In 2.6 the top five bits, because of :func:`swp_entry`; before that bits 1 to 6.

    The area of an entry. kernel: include/linux/swapops.h:swp_type
    """
    return entry >> SWP_TYPE_SHIFT


def swp_offset(entry: int) -> int:
    """In 2.6 the low 27 bits, because of :func:`swp_entry`; before that from bit 8 up.

    The slot of an entry. kernel: include/linux/swapops.h:swp_offset
    """
    return entry & _OFFSET


def pte_to_swp_entry(pte: int) -> int:
    """In 2.6 a conversion, because entries have a form of their own; before that the entry was the page table's word.

    kernel: include/linux/swapops.h:pte_to_swp_entry, include/asm-i386/pgtable-2level.h:__swp_type, __swp_offset
    """
    return (pte >> 1 & 0x1F) << SWP_TYPE_SHIFT | pte >> 8 & _OFFSET


def swp_entry_to_pte(entry: int) -> int:
    """In 2.6 a conversion, because entries have a form of their own; before that the entry was the page table's word.

    kernel: include/linux/swapops.h:swp_entry_to_pte, include/asm-i386/pgtable-2level.h:__swp_entry
    """
    return ((entry >> SWP_TYPE_SHIFT) << 1 | (entry & _OFFSET) << 8) & _U32


def pte_file(pte: int) -> bool:
    """In 2.6 an empty entry can say which page of the file belongs there, because remap_file_pages() maps in any order; before that the
    address alone told it.

    Whether the entry, known not to be present, names a page of the file. kernel: include/asm-i386/pgtable.h:pte_file
    """
    return pte & _PAGE_FILE != 0


def pte_to_pgoff(pte: int) -> int:
    """In 2.6 new, because of :func:`pte_file`; before that no entry named a page of a file.

    kernel: include/asm-i386/pgtable-2level.h:pte_to_pgoff
    """
    return (pte >> 1 & 0x1F) + (pte >> 8 << 5)


def pgoff_to_pte(pgoff: int) -> int:
    """In 2.6 new, because of :func:`pte_file`; before that no entry named a page of a file.

    kernel: include/asm-i386/pgtable-2level.h:pgoff_to_pte
    """
    return ((pgoff & 0x1F) << 1) + (pgoff >> 5 << 8) + _PAGE_FILE & _U32
