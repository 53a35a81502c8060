"""The firmware's memory map (BIOS int 15h, function e820): which addresses are RAM."""

from __future__ import annotations

import re
from typing import NamedTuple

from .layout import MAX_PAE_PFN, PAGE_SHIFT

E820_RAM, E820_RESERVED, E820_ACPI, E820_NVS = 1, 2, 3, 4
E820MAX = 32

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class E820Entry(NamedTuple):
    """One range of the firmware's map: start and size in bytes, and what it is."""

    addr: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """First byte after the range."""
        return self.addr + self.size


def parse_size(size: int | str) -> int:
    """Bytes meant by *size*: an int, or text such as ``"64M"``, ``"4 GiB"``, ``"512k"``.

    Raises ValueError when the text is not a size.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(f"a size is an int (bytes) or text such as '64M', not {size!r}")
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?\s*", size, re.IGNORECASE)
    if not found:
        raise ValueError(f"{size!r} is not a size: write a number and K, M or G, such as '64M'")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def pc_map(ram: int | str) -> list[E820Entry]:
    """The map a plain PC reports for *ram* bytes: 639 KiB, the BIOS hole, then the rest from 1 MiB.

    Raises ValueError below 2 MiB, above 64 GiB, or for a size that is not whole pages.
    """
    size = parse_size(ram)
    if not 2 << 20 <= size <= MAX_PAE_PFN << PAGE_SHIFT:
        raise ValueError(f"ram={ram!r}: a PC of this kind has 2 MiB to 64 GiB")
    if size & 4095:
        raise ValueError(f"ram={ram!r}: not a whole number of 4 KiB pages")
    return [
        E820Entry(0, 0x9FC00, E820_RAM),
        E820Entry(0xF0000, 0x10000, E820_RESERVED),
        E820Entry(0x100000, size - 0x100000, E820_RAM),
    ]


def sanitize_e820_map(bios: list[E820Entry]) -> list[E820Entry] | None:
    """Cut overlapping ranges so that each address has one type; where two disagree the larger type wins.

    Returns the new map, or None where the kernel leaves the map alone (fewer than two
    ranges, or one that wraps). kernel: arch/i386/kernel/setup.c:sanitize_e820_map
    """
    if len(bios) < 2 or any(e.end >= 1 << 64 for e in bios):
        return None
    points: list[tuple[int, int, E820Entry]] = []
    for entry in bios:
        if entry.size:
            points += [(entry.addr, 0, entry), (entry.end, 1, entry)]
    points.sort(key=lambda p: p[:2])  # at one address, starts come before ends
    result: list[E820Entry] = []
    overlap: list[E820Entry] = []
    last_type = last_addr = 0
    for addr, is_end, entry in points:
        if is_end:
            overlap.remove(entry)
        else:
            overlap.append(entry)
        current = max((e.type for e in overlap), default=0)
        if current == last_type:
            continue
        if last_type and addr > last_addr:
            result.append(E820Entry(last_addr, addr - last_addr, last_type))
            if len(result) >= E820MAX:
                break
        if current:
            last_addr = addr
        last_type = current
    return result


def copy_e820_map(bios: list[E820Entry]) -> list[E820Entry] | None:
    """Copy the map, taking away RAM that a BIOS claims between 640 KiB and 1 MiB.

    Returns None when the map is not believable (fewer than two ranges).
    kernel: arch/i386/kernel/setup.c:copy_e820_map
    """
    if len(bios) < 2:
        return None
    result: list[E820Entry] = []
    for addr, size, kind in bios:
        end = addr + size
        if end >= 1 << 64:
            return None
        if kind == E820_RAM and addr < 0x100000 and end > 0xA0000:
            if addr < 0xA0000:
                result.append(E820Entry(addr, 0xA0000 - addr, kind))
            if end <= 0x100000:
                continue
            addr, size = 0x100000, end - 0x100000
        result.append(E820Entry(addr, size, kind))
    return result[:E820MAX]
