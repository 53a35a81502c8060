"""The i386 memory management unit: how an address becomes a physical one, or a page fault.

    two levels     directory[31:22] → table[21:12] → frame + offset[11:0]      entries of 32 bits
    PAE            pointer[31:30] → directory[29:21] → table[20:12] → ...      entries of 64 bits

The tables are in physical memory. An access sets ACCESSED, a write also DIRTY, in the entry it used.
A fault pushes an error code: bit 0 the page was there, bit 1 a write, bit 2 from user mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .layout import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from .memory import PhysicalMemory

PRESENT, RW, USER, ACCESSED, DIRTY, PSE, GLOBAL = 0x001, 0x002, 0x004, 0x020, 0x040, 0x080, 0x100
BIT_NAMES = {
    PRESENT: "PRESENT",
    RW: "RW",
    USER: "USER",
    0x008: "PWT",
    0x010: "PCD",
    ACCESSED: "ACCESSED",
    DIRTY: "DIRTY",
    PSE: "PSE",
    GLOBAL: "GLOBAL",
}
FAULT_PROTECTION, FAULT_WRITE, FAULT_USER = 1, 2, 4


class Translation(NamedTuple):
    """What a walk ended with: the frame, and the rights of all levels together with the last entry's other bits."""

    frame: int
    bits: int


class Level(NamedTuple):
    """One step of a walk: the entry that was read, and where."""

    name: str
    table_pa: int  # physical address of the table, bytes
    slot: int  # index into the table
    entry_pa: int  # of the entry itself, bytes
    entry: int

    @property
    def present(self) -> bool:
        """Whether the MMU goes on from here."""
        return bool(self.entry & PRESENT)

    @property
    def flags(self) -> list[str]:
        """Names of the bits set, lowest first."""
        return [name for bit, name in BIT_NAMES.items() if self.entry & bit]


class I386Mmu:
    """Walks the tables of one machine. The walk of the directory *pgd* (its entries) is for *address* (bytes)."""

    def __init__(self, ram: PhysicalMemory, pae: bool) -> None:
        self.ram = ram
        self.contents = ram.contents
        self.pae = pae
        self.pmd_shift = 21 if pae else 22  # bytes a page table maps, as a power of two
        self.index_bits = 9 if pae else 10

    def translate(self, pgd: MutableSequence[int], address: int, write: bool, user: bool) -> int:
        """The frame of *address*, ACCESSED and DIRTY set as the access demands; or ~(error code) of the page fault.

        Rights are those that all levels grant. The write protection of read-only pages holds in kernel mode
        too (CR0.WP is set).
        """
        if self.pae:
            pointer = pgd[address >> 30]
            directory = self.contents.get(pointer >> PAGE_SHIFT) if pointer & PRESENT else None
            if directory is None:
                return ~(FAULT_WRITE * write | FAULT_USER * user)
            slot = address >> 21 & 511
        else:
            directory, slot = pgd, address >> 22  # type: ignore[assignment]
        pmd = directory[slot]  # type: ignore[index]
        need = PRESENT | RW * write | USER * user
        if pmd & (PRESENT | PSE) != PRESENT:
            return self._large(directory, slot, address, need) if pmd & PRESENT else ~(FAULT_WRITE * write | FAULT_USER * user)  # type: ignore[arg-type]
        table = self.contents.get(pmd >> PAGE_SHIFT)
        at = address >> PAGE_SHIFT & (511 if self.pae else 1023)
        pte = 0 if table is None else table[at]
        if pmd & pte & need != need:
            return ~(FAULT_PROTECTION * (pte & PRESENT) | FAULT_WRITE * write | FAULT_USER * user)
        if not pmd & ACCESSED:
            directory[slot] = pmd | ACCESSED  # type: ignore[index]
        used = ACCESSED | DIRTY if write else ACCESSED
        if pte & used != used:
            table[at] = pte | used  # type: ignore[index]
        return pte >> PAGE_SHIFT

    def _large(self, directory: MutableSequence[int], slot: int, address: int, need: int) -> int:
        """The same for a 4 MiB (2 MiB with PAE) page: the directory's entry is the last."""
        pmd = directory[slot]
        if pmd & need != need:
            return ~(FAULT_PROTECTION | need & (RW | USER))  # RW and USER have the values of FAULT_WRITE and FAULT_USER
        used = ACCESSED | DIRTY if need & RW else ACCESSED
        if pmd & used != used:
            directory[slot] = pmd | used
        return (pmd >> PAGE_SHIFT) + (address >> PAGE_SHIFT & (1 << self.index_bits) - 1)

    def entries(self, pgd: MutableSequence[int], pgd_pa: int, address: int) -> list[Level]:
        """The entries a walk for *address* reads, top first, up to the first that is not present. Nothing is changed."""
        size = 8 if self.pae else 4
        levels = []
        if self.pae:
            index = address >> 30
            levels.append(Level("pgd", pgd_pa, index, pgd_pa + index * size, pgd[index]))
            pa = pgd[index] >> PAGE_SHIFT << PAGE_SHIFT
            if pgd[index] & PRESENT:
                index = address >> 21 & 511
                levels.append(Level("pmd", pa, index, pa + index * size, self._entry(pa, index)))
        else:
            index = address >> 22
            levels.append(Level("pgd", pgd_pa, index, pgd_pa + index * size, pgd[index]))
        last = levels[-1]
        if len(levels) == (2 if self.pae else 1) and last.present and not last.entry & PSE:
            pa = last.entry >> PAGE_SHIFT << PAGE_SHIFT
            index = address >> PAGE_SHIFT & (1 << self.index_bits) - 1
            levels.append(Level("pte", pa, index, pa + index * size, self._entry(pa, index)))
        return levels

    def _entry(self, table_pa: int, index: int) -> int:
        table = self.contents.get(table_pa >> PAGE_SHIFT)
        if table is None:
            return 0
        if table.itemsize == (8 if self.pae else 4):
            return table[index]
        size = 8 if self.pae else 4
        return int.from_bytes(table.tobytes()[index * size : index * size + size], "little")

    def bits(self, pgd: MutableSequence[int], address: int) -> Translation | None:
        """Frame and combined rights of *address* without any access; None when it is not mapped."""
        levels = self.entries(pgd, 0, address)
        last = levels[-1]
        if not last.present:
            return None
        rights = RW | USER
        for level in levels[1 if self.pae else 0 :]:
            rights &= level.entry
        frame = last.entry >> PAGE_SHIFT
        if last.name != "pte":
            if not last.entry & PSE:
                return None
            frame += address >> PAGE_SHIFT & (1 << self.index_bits) - 1
        return Translation(frame, last.entry & (PAGE_SIZE - 1) & ~(RW | USER) | rights)
