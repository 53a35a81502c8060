"""Chapter 5: the boot map of one node, and what runs a student's functions on it. No algorithm lives here.

In the notebook the same `BootMap` stands for the bitmap of a machine that boots (see `vmlab.course.plug05`).
"""

from __future__ import annotations

from typing import Any

from vmlab.course.kit import PAGE_SHIFT

MAX_MARKS = 2000  # free ranges reported after a step


class BootBug(RuntimeError):
    """The kernel stops: a state that must never occur."""


def BUG(reason: str = "") -> None:  # the kernel's name for it
    """Stop, as the kernel's BUG() does. *reason* is for people."""
    raise BootBug(reason or "BUG")


class BootMap:
    """The boot map of one node: a bit for each page, 1 = reserved, and where the last allocation ended.

    node_boot_start: physical address of the node's first page, bytes.
    node_low_pfn: frame number one past the node's last page.
    last_pos: index (not address) of the last page of the last allocation.
    last_offset: bytes used in that page; 0 when it is full.
    """

    def __init__(self, node_boot_start: int, node_low_pfn: int, bits: bytearray | None = None) -> None:
        self.node_boot_start = node_boot_start
        self.node_low_pfn = node_low_pfn
        self.last_pos = self.last_offset = 0
        self._bits = bytearray(b"\1") * self.pages if bits is None else bits

    @property
    def pages(self) -> int:
        """Pages of the node: indices 0 to pages - 1."""
        return self.node_low_pfn - (self.node_boot_start >> PAGE_SHIFT)

    def _at(self, i: int) -> int:
        if isinstance(i, bool) or not isinstance(i, int):
            raise TypeError(f"a page index is a whole number, not {i!r}: divide with //")
        if not 0 <= i < self.pages:
            raise IndexError(f"page {i}: the node has pages 0 to {self.pages - 1} (an index counts from the start of the node)")
        return i

    def test_bit(self, i: int) -> int:
        """Bit of page *i*: 1 when it is reserved, 0 when it is free."""
        return self._bits[self._at(i)]

    def set_bit(self, i: int) -> int:
        """Mark page *i* reserved; returns the bit it had."""
        old, self._bits[i] = self._bits[self._at(i)], 1
        return old

    def clear_bit(self, i: int) -> int:
        """Mark page *i* free; returns the bit it had."""
        old, self._bits[i] = self._bits[self._at(i)], 0
        return old

    def free_ranges(self) -> list[list[int]]:
        """Free pages as index ranges [start, end), ascending: what two maps are compared by."""
        found: list[list[int]] = []
        at = self._bits.find(0, 0, self.pages)
        while at >= 0 and len(found) < MAX_MARKS:
            end = self._bits.find(1, at, self.pages)
            end = self.pages if end < 0 else end
            found.append([at, end])
            at = self._bits.find(0, end, self.pages)
        return found

    def __repr__(self) -> str:
        free = ", ".join(f"{a}–{b - 1}" for a, b in self.free_ranges()[:6])
        return f"<BootMap {self.pages} pages, free: {free or 'none'}; last_pos {self.last_pos}, last_offset {self.last_offset}>"


def build(data: dict[str, Any]) -> BootMap:
    """A map from plain data: {"start": bytes, "pages": n, "free": [[start, end), …], "last": [last_pos, last_offset]}."""
    bdata = BootMap(data["start"], (data["start"] >> PAGE_SHIFT) + data["pages"])
    for start, end in data["free"]:
        bdata._bits[start:end] = bytes(end - start)
    bdata.last_pos, bdata.last_offset = data.get("last", [0, 0])
    return bdata


def _report(bdata: BootMap, result: Any) -> list[Any]:
    return [result, bdata.last_pos, bdata.last_offset, bdata.free_ranges()]


def drive_alloc(namespace: dict[str, Any], data: dict[str, Any]) -> list[Any]:
    """Put the requests to the student's `alloc_bootmem_core`; after each one: [address | None | "BUG", last_pos, last_offset, free].

    With "short" in *data* the free ranges are given after the last request only. A BUG ends the run.
    """
    bdata = build(data)
    steps: list[Any] = []
    for size, align, goal in data["requests"]:
        try:
            address = namespace["alloc_bootmem_core"](bdata, size, align, goal)
        except BootBug:
            steps.append("BUG")
            break
        steps.append(_report(bdata, address))
        if data.get("short"):
            steps[-1].pop()
    if data.get("short"):
        steps.append(bdata.free_ranges())
    return steps


def drive_marks(namespace: dict[str, Any], data: dict[str, Any]) -> list[Any]:
    """Put "reserve" and "free" orders to the student's functions; after each one [returned, free ranges], or "BUG", which ends it."""
    bdata = build(data)
    steps: list[Any] = []
    for what, addr, size in data["orders"]:
        name = "reserve_bootmem_core" if what == "reserve" else "free_bootmem_core"
        try:
            result = namespace[name](bdata, addr, size)
        except BootBug:
            steps.append("BUG")
            break
        steps.append([result if what == "reserve" else None, bdata.free_ranges()])
    return steps
