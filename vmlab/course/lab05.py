"""Chapter 5's bench: a boot map small enough to draw, to put requests to by hand and to take them back.

    toy = Toy(free=[(1, 3), (4, 12)])
    toy.ask(100)                      # prints address, last_pos, last_offset and the map
    bench(toy)                        # the same with buttons and a picture

The allocator is the machine's own; nothing here decides where anything goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import anywidget
import traitlets

from vmlab.errors import KernelBug, KernelHang
from vmlab.hw.layout import PAGE_SHIFT, PAGE_SIZE
from vmlab.mm.bootmem import BootmemAllocator
from vmlab.mm.mmzone import PgData

STATIC = Path(__file__).parent / "static"

__all__ = ["Bench", "Request", "Toy", "bench"]


class Request(NamedTuple):
    """One request and what came of it: ``address`` in bytes (None: nothing fitted); ``merged``: begun in a partly used page."""

    size: int
    align: int
    goal: int
    address: int | None
    merged: bool


class Toy:
    """One node's boot map with the kernel's allocator on it.

    free: page ranges (start, end) that are RAM; the others stay reserved. pages: size of the node.
    start: physical address of the node's first page, in bytes.
    """

    def __init__(self, free: Sequence[tuple[int, int]] = ((0, 12),), pages: int = 12, start: int = 0) -> None:
        self.free_at_first = [tuple(r) for r in free]
        self.pages, self.start = pages, start
        self.reset()

    def reset(self) -> None:
        """Back to the map before the first request."""
        self.bootmem = BootmemAllocator()
        self.bootmem.attach(cast(Any, SimpleNamespace(pgdat_list=[])))
        pgdat = PgData(0)
        first = self.start >> PAGE_SHIFT
        self.bootmem.init_bootmem_core(pgdat, first, first, first + self.pages)
        self.bdata = pgdat.bdata
        for low, high in self.free_at_first:
            self.bootmem.free_bootmem_core(self.bdata, self.start + low * PAGE_SIZE, (high - low) * PAGE_SIZE)
        self.requests: list[Request] = []

    def alloc(self, size: int, align: int = 32, goal: int = 0) -> int | None:
        """One request to ``__alloc_bootmem_core``; returns the address in bytes, or None."""
        before = bytes(self.bdata.map or b"")
        address = self.bootmem.alloc_bootmem_core(self.bdata, size, align, goal)
        merged = address is not None and bool(before[(address - self.start) >> PAGE_SHIFT])
        self.requests.append(Request(size, align, goal, address, merged))
        return address

    def ask(self, size: int, align: int = 32, goal: int = 0) -> None:
        """One request, printed: what came back, and what the allocator remembers now."""
        address = self.alloc(size, align, goal)
        got = "nothing fits: None" if address is None else f"address {address} = page {address // PAGE_SIZE} + {address % PAGE_SIZE}"
        print(f"{size} bytes, align {align}" + (f", goal {goal}" if goal else "") + f"  →  {got}")
        print(self, end="\n\n")

    def undo(self) -> None:
        """Take the last request back, by making the others again."""
        again = self.requests[:-1]
        self.reset()
        for request in again:
            self.alloc(request.size, request.align, request.goal)

    def cells(self) -> list[tuple[str, int]]:
        """For each page what it is ("reserved", "free", "allocated") and how many of its bytes the requests use."""
        bits = self.bdata.map or bytearray()
        at_first = {i for low, high in self.free_at_first for i in range(low, high)}
        used = [0] * self.pages
        for size, _, _, address, _ in self.requests:
            if address is not None:
                low = address - self.start
                for i in range(low // PAGE_SIZE, (low + size - 1) // PAGE_SIZE + 1):
                    used[i] += min(low + size, (i + 1) * PAGE_SIZE) - max(low, i * PAGE_SIZE)
        states = ["free" if not bits[i] else "allocated" if i in at_first else "reserved" for i in range(self.pages)]
        return list(zip(states, used, strict=True))

    def __str__(self) -> str:
        letters = {"reserved": "R", "free": "·", "allocated": "A"}
        row = " ".join(f"{letters[state]:>2}" for state, _ in self.cells())
        numbers = " ".join(f"{i:>2}" for i in range(self.pages))
        return f"   page {numbers}\n        {row}   last_pos {self.bdata.last_pos}, last_offset {self.bdata.last_offset}"

    @property
    def text_alternative(self) -> str:
        """The map in words, from the data."""
        parts = []
        for i, (state, used) in enumerate(self.cells()):
            parts.append(f"page {i} {state}" + (f", {used} bytes used" if state == "allocated" else ""))
        return "; ".join(parts) + f". last_pos {self.bdata.last_pos}, last_offset {self.bdata.last_offset}."


class Bench(anywidget.AnyWidget):
    """Put requests to a toy map by hand: size, alignment and goal, a button, and the map after each."""

    _esm = STATIC / "bench05.js"
    _css = STATIC / "course.css"
    cells: Any = traitlets.List(help="For each page what it is and how many bytes of it are used.").tag(sync=True)
    start = traitlets.Int(0, help="Address of the first page, bytes.").tag(sync=True)
    last = traitlets.Int(-1, help="Page last_pos; -1 before the first allocation.").tag(sync=True)
    requests = traitlets.Int(0, help="Requests so far.").tag(sync=True)
    outcome = traitlets.Unicode(help="What came of the last request.").tag(sync=True)
    numbers = traitlets.Unicode(help="What the allocator remembers.").tag(sync=True)
    text_alternative = traitlets.Unicode(help="The map in words.").tag(sync=True)
    serial = traitlets.Int(0, help="Goes up by one with each change that was sent.").tag(sync=True)

    def __init__(self, toy: Toy | None = None) -> None:
        super().__init__()
        self.toy = Toy() if toy is None else toy
        self.on_msg(self._on_message)
        self._show("No request yet.")

    def _on_message(self, _: Any, message: dict[str, Any], __: Any) -> None:
        what = message.get("do")
        if what == "ask":
            numbers = [message.get(name) for name in ("size", "align", "goal")]
            if all(isinstance(n, int) and 0 <= n < 1 << 32 for n in numbers):
                self.ask(*cast(list[int], numbers))
            else:
                self._show("A size is a whole number of bytes, below 4 GiB.")
        elif what == "undo":
            self.undo()
        elif what == "reset":
            self.reset()

    def ask(self, size: int, align: int = 32, goal: int = 0) -> None:
        """One request, all three in bytes."""
        try:
            address = self.toy.alloc(size, align, goal)
        except (KernelBug, KernelHang) as error:
            self._show(f"The kernel stops: {error}")
            return
        if address is None:
            self._show(f"{size} bytes: nothing fits, the answer is None.")
            return
        merged = ", in the rest of a page that was in use" if self.toy.requests[-1].merged else ""
        self._show(f"{size} bytes at address {address}: page {address // PAGE_SIZE}, offset {address % PAGE_SIZE}{merged}.")

    def undo(self) -> None:
        """Take the last request back."""
        self.toy.undo()
        self._show(f"Taken back. Requests so far: {len(self.toy.requests)}.")

    def reset(self) -> None:
        """The map before the first request."""
        self.toy.reset()
        self._show("No request yet.")

    def _show(self, sentence: str) -> None:
        bdata, cells = self.toy.bdata, self.toy.cells()
        done = [r.size for r in self.toy.requests if r.address is not None]
        taken = sum(state == "allocated" for state, _ in cells)
        with self.hold_sync():
            self.cells = [list(cell) for cell in cells]
            self.start = self.toy.start
            self.last = bdata.last_pos if done else -1
            self.requests = len(self.toy.requests)
            self.outcome = sentence
            self.numbers = (
                f"last_pos {bdata.last_pos}, last_offset {bdata.last_offset}; bytes asked for: {sum(done)}, pages taken: {taken}."
            )
            self.text_alternative = self.toy.text_alternative
            self.serial += 1

    def __repr__(self) -> str:
        return f"<Bench: {self.text_alternative}>"


def bench(toy: Toy | None = None) -> Bench:
    """A bench for *toy* (a fresh map of 12 free pages when left out)."""
    return Bench(toy)
