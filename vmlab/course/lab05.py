"""Chapter 5's bench: a boot map small enough to draw, to put requests to by hand and to take them back.

    toy = Toy(free=[(1, 3), (4, 12)])
    toy.ask(100)                      # prints address, last_pos, last_offset and the map
    bench(toy)                        # the same with buttons and a picture

The allocator is the machine's own; nothing here decides where anything goes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import ipywidgets as widgets

from vmlab.errors import KernelBug, KernelHang
from vmlab.hw.layout import PAGE_SHIFT, PAGE_SIZE
from vmlab.mm.bootmem import BootmemAllocator
from vmlab.mm.mmzone import PgData

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


# Colours of the pictures in views/palette.py, each with a letter: never colour alone.
_STYLE = {"reserved": ("#0072B2", "R", "#ffffff"), "free": ("#009E73", "F", "#000000"), "allocated": ("#fff3d6", "A", "#000000")}
_USED = "#E69F00"


def picture(toy: Toy) -> str:
    """The map as HTML: a box a page, filled from below as far as it is used; the text alternative is its label."""
    boxes = []
    for i, (state, used) in enumerate(toy.cells()):
        colour, letter, ink = _STYLE[state]
        level = round(100 * used / PAGE_SIZE)
        fill = f"linear-gradient(0deg,{_USED} 0 {level}%,{colour} {level}% 100%)" if state == "allocated" else colour
        last = i == toy.bdata.last_pos and any(r.address is not None for r in toy.requests)
        border = "4px solid #D55E00" if last else "1px solid #333"
        style = f"width:52px;height:64px;box-sizing:border-box;border:{border};background:{fill};color:{ink};font-weight:bold"
        below = f"{used} B" if state == "allocated" else "&nbsp;"
        boxes.append(
            f'<div style="text-align:center;font-size:12px;line-height:1.4"><div style="{style}">{letter}</div>{i}<br>{below}</div>'
        )
    label = html.escape(toy.text_alternative, quote=True)
    return f'<div role="img" aria-label="{label}" style="display:flex;flex-wrap:wrap;gap:3px;padding:4px 0">{"".join(boxes)}</div>'


class Bench(widgets.VBox):  # type: ignore[misc]
    """Put requests to a toy map by hand: size, alignment and goal, a button, and the map after each."""

    def __init__(self, toy: Toy | None = None) -> None:
        self.toy = Toy() if toy is None else toy
        narrow = widgets.Layout(width="220px")
        self.size = widgets.BoundedIntText(value=100, min=1, max=1 << 20, description="Size, bytes", layout=narrow)
        self.align = widgets.Dropdown(options=[1 << i for i in range(2, 15)], value=32, description="Align", layout=narrow)
        goals = [("none", 0)] + [(f"page {i}", self.toy.start + i * PAGE_SIZE) for i in range(1, self.toy.pages)]
        self.goal = widgets.Dropdown(options=goals, value=0, description="Goal", layout=narrow)
        self.go = widgets.Button(description="Allocate", button_style="primary", tooltip="Put this request to the allocator")
        self.back = widgets.Button(description="Take back", tooltip="Undo the last request")
        self.again = widgets.Button(description="Start again", tooltip="The map before the first request")
        self.map = widgets.HTML()
        self.outcome = widgets.HTML()
        self.go.on_click(lambda _: self.request())
        self.back.on_click(lambda _: self._redo(self.toy.undo))
        self.again.on_click(lambda _: self._redo(self.toy.reset))
        super().__init__(
            [
                widgets.HBox([self.size, self.align, self.goal], layout=widgets.Layout(flex_flow="row wrap")),
                widgets.HBox([self.go, self.back, self.again]),
                self.map,
                self.outcome,
            ]
        )
        self._show("No request yet.")

    @property
    def text_alternative(self) -> str:
        """The map in words."""
        return self.toy.text_alternative

    def request(self) -> None:
        """What the button does."""
        try:
            address = self.toy.alloc(self.size.value, self.align.value, self.goal.value)
        except (KernelBug, KernelHang) as error:
            self._show(f"The kernel stops: {error}")
            return
        if address is None:
            self._show(f"{self.size.value} bytes: nothing fits, the answer is None.")
            return
        merged = ", in the rest of a page that was in use" if self.toy.requests[-1].merged else ""
        self._show(f"{self.size.value} bytes at address {address}: page {address // PAGE_SIZE}, offset {address % PAGE_SIZE}{merged}.")

    def _redo(self, change: Any) -> None:
        change()
        self._show(f"{len(self.toy.requests)} requests so far.")

    def _show(self, sentence: str) -> None:
        bdata = self.toy.bdata
        asked = sum(r.size for r in self.toy.requests if r.address is not None)
        taken = sum(state == "allocated" for state, _ in self.toy.cells())
        self.map.value = picture(self.toy)
        self.outcome.value = (
            f'<div role="status" aria-live="polite">{html.escape(sentence)}<br>last_pos <b>{bdata.last_pos}</b> (thick frame), '
            f"last_offset <b>{bdata.last_offset}</b>. {asked} bytes asked for, {taken} pages taken.</div>"
        )

    def __repr__(self) -> str:
        return f"<Bench: {self.text_alternative}>"


def bench(toy: Toy | None = None) -> Bench:
    """A bench for *toy* (a fresh map of 12 free pages when left out)."""
    return Bench(toy)
