"""Checksum texts that are kept from dump to dump: only the entries that changed are written anew.

A dump describes thousands of pages and slots of which an operation changes a few. Old and new columns are
compared as whole byte strings, so what stayed the same costs next to nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...mm.page import MemMap

_CHANGED = re.compile(rb"[^\0]")
_BLOCK = 2048  # entries whose text is joined and kept as one


def crc(text: str) -> int:
    """The checksum the traces print."""
    return crc32(text.encode())


def numbers(values: Sequence[int]) -> str:
    """``1,2,3,`` for [1, 2, 3]."""
    return str(values)[1:-1].replace(" ", "") + "," if values else ""


class Kept:
    """A text made of one piece for each entry of some columns; *size* entries, all zero at first.

    ``render(entry)`` gives the piece of an entry, "" for one that is not shown: that of an entry of zeroes must be "".
    """

    def __init__(self, size: int, render: Callable[[int], str]) -> None:
        self.size = size
        self.render = render
        self.pieces = [""] * size
        self.blocks = [""] * -(-size // _BLOCK)
        self.before: list[bytes] = []

    def refresh(self, columns: list[bytes]) -> None:
        """Take the columns' new contents: byte strings of entries of the same width."""
        if not self.before:
            self.before = [bytes(len(column)) for column in columns]
        if columns == self.before:
            return
        for number in range(len(self.blocks)):
            start = number * _BLOCK
            changed: set[int] = set()
            for old, new in zip(self.before, columns, strict=True):
                width = len(new) // self.size
                at, end = start * width, (start + _BLOCK) * width
                was, now = old[at:end], new[at:end]
                if was != now:
                    both = int.from_bytes(was, "little") ^ int.from_bytes(now, "little")
                    changed.update([found.start() // width for found in _CHANGED.finditer(both.to_bytes(len(now), "little"))])
            if changed:
                render, pieces = self.render, self.pieces
                for entry in changed:
                    pieces[start + entry] = render(start + entry)
                self.blocks[number] = "".join(pieces[start : start + _BLOCK])
        self.before = columns

    def text(self) -> str:
        """All pieces."""
        return "".join(self.blocks)


class PageText:
    """``frame,count,flags,mapping,index;`` of every page that *mask* of its flags, or a mapping, makes worth printing."""

    def __init__(self, mem: MemMap, names: dict[int, int], shown: int, never: int) -> None:
        flags, count, mapping, index = mem.flags, mem.count, mem.mapping, mem.index
        self.columns = (flags, count, mapping, index)

        def render(pfn: int) -> str:
            word, of = flags[pfn], mapping[pfn]
            if not (word & shown or of) or word & never or not count[pfn]:
                return ""
            return f"{pfn},{count[pfn]},{word & 0xFFFFFF},{names[of]},{index[pfn] if of else 0};"

        self.kept = Kept(mem.frames, render)

    def text(self) -> str:
        """The text now."""
        self.kept.refresh([column.tobytes() for column in self.columns])
        return self.kept.text()


class SlotText:
    """``slot:count,`` of every slot of a swap area that is not free."""

    def __init__(self) -> None:
        self.kept = Kept(0, str)
        self.counts = b""

    def text(self, raw: bytes) -> tuple[int, str]:
        """(how many, the text) for a swap map of 16-bit counts."""
        if self.kept.size != len(raw) // 2:
            self.kept = Kept(len(raw) // 2, self._render)
        self.counts = raw
        self.kept.refresh([raw])
        text = self.kept.text()
        return text.count(","), text

    def _render(self, slot: int) -> str:
        count = self.counts[2 * slot] | self.counts[2 * slot + 1] << 8
        return f"{slot}:{count}," if count else ""
