"""A page-table walk as people read it."""

from __future__ import annotations

from typing import NamedTuple

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..hw.mmu import FAULT_PROTECTION, FAULT_USER, FAULT_WRITE, PRESENT, PSE, RW, USER, Level


class Walk(NamedTuple):
    """The entries between an address and its frame.

    ``access`` has FAULT_WRITE and FAULT_USER set for the access one asks about; ``error_code`` is what the
    processor would push, None if it would go through.
    """

    address: int  # bytes
    pae: bool
    levels: tuple[Level, ...]
    access: int

    @property
    def indices(self) -> dict[str, int]:
        """The address cut up: index into each level's table, and the offset in the page (bytes)."""
        if self.pae:
            cut = {"pgd": self.address >> 30, "pmd": self.address >> 21 & 511, "pte": self.address >> 12 & 511}
        else:
            cut = {"pgd": self.address >> 22, "pte": self.address >> 12 & 1023}
        if self._large:
            del cut["pte"]
        return cut | {"offset": self.address & (self._page_bytes - 1)}

    @property
    def _large(self) -> bool:
        last = self.levels[-1]
        return last.name != "pte" and last.entry & (PRESENT | PSE) == PRESENT | PSE

    @property
    def _page_bytes(self) -> int:
        return (2 << 20 if self.pae else 4 << 20) if self._large else PAGE_SIZE

    @property
    def rights(self) -> int:
        """RW and USER, as far as every level grants them."""
        rights = RW | USER
        for level in self.levels:
            if level.name != "pgd" or not self.pae:
                rights &= level.entry
        return rights

    @property
    def error_code(self) -> int | None:
        """The page fault's error code (bit 0 protection, 1 write, 2 user), None without a fault."""
        last = self.levels[-1]
        if not last.present or not (last.name == "pte" or self._large):
            return self.access
        need = (RW if self.access & FAULT_WRITE else 0) | (USER if self.access & FAULT_USER else 0)
        return None if self.rights & need == need else self.access | FAULT_PROTECTION

    @property
    def physical(self) -> int | None:
        """The physical address (bytes), None when nothing is mapped."""
        last = self.levels[-1]
        if not last.present or not (last.name == "pte" or self._large):
            return None
        return (last.entry >> PAGE_SHIFT << PAGE_SHIFT) + (self.address & (self._page_bytes - 1))

    @property
    def why(self) -> str:
        """Why the access would fault, "" if it would not."""
        code = self.error_code
        if code is None:
            return ""
        last = self.levels[-1]
        if not code & FAULT_PROTECTION:
            if last.name != "pte":
                return "there is no page table for this address"
            if not last.entry:
                return "the entry is empty: this page was never touched, or was unmapped"
            if last.entry & PSE:
                return "the page is mapped without any right (PROT_NONE)"
            return f"the page is in swap: area {last.entry >> 1 & 0x3F}, slot {(last.entry & 0xFFFFFFFF) >> 8}"
        if code & FAULT_USER and not self.rights & USER:
            return "the page is the kernel's"
        return "the page is read-only"

    def __str__(self) -> str:
        lines = [f"address {self.address:#010x} = " + ", ".join(f"{name} {value}" for name, value in self.indices.items())]
        width = 16 if self.pae else 8
        for level in self.levels:
            flags = list(level.flags)
            if level.name == "pte" and not level.present:
                flags = ["PROTNONE"] if level.entry & PSE else ["swap"] if level.entry else ["empty"]
            elif not level.entry:
                flags = ["empty"]
            where = f"frame {level.entry >> PAGE_SHIFT:>7}" if level.present else " " * 13
            lines.append(f"{level.name}  {level.slot:>4} at {level.entry_pa:#011x}: {level.entry:0{width}x}  {where}  {' '.join(flags)}")
        how = ("user " if self.access & FAULT_USER else "kernel ") + ("write" if self.access & FAULT_WRITE else "read")
        code = self.error_code
        if code is None:
            lines.append(f"{how}: physical {self.physical:#010x}")
        else:
            lines.append(f"{how}: page fault, error code {code}: {self.why}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        end = f"→ {self.physical:#x}" if self.error_code is None else f"faults: {self.why}"
        return f"<Walk {self.address:#010x} {end}>"
