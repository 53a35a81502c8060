"""A shortcut of ours for the clock: stretches of page tables in which it would change nothing.

The clock passes every page of every process again and again, and most of them are active and old: it
leaves those alone. Looking at each of them costs Python far more than it cost a 486, so a stretch of
entries where nothing was to be done is remembered, and passed over while it stays as it is: while its
entries are the same words, and none of its pages has left the active list. No result depends on it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STRETCH = 128  # entries


class SettledStretches:
    """Stretches by key (table frame * 8 + number in the table): their entries as bytes, and who relies on which page.

    A table all of whose stretches are settled is kept in ``tables`` too, by the key of its first.
    """

    __slots__ = ("entries", "home", "tables")

    def __init__(self, frames: int) -> None:
        self.entries: dict[int, bytes] = {}
        self.tables: dict[int, bytes] = {}
        self.home = array("I", bytes(4 * frames))  # by frame: the one stretch, if any, that is settled only while it is active

    def settle(self, key: int, entries: bytes, pages: Iterable[int]) -> None:
        """Nothing is to be done about these *entries* while all of *pages* stay active."""
        home = self.home
        for pfn in pages:
            other = home[pfn]
            if other != key:
                if other:  # a page shared by two stretches can vouch for one only
                    self.unsettle(pfn)
                home[pfn] = key
        self.entries[key] = entries

    def unsettle(self, pfn: int) -> None:
        """The page is not active any more."""
        key = self.home[pfn]
        self.home[pfn] = 0
        self.entries.pop(key, None)
        self.tables.pop(key & ~7, None)

    def clear(self) -> None:
        """Forget everything: the machine was put into another state."""
        self.entries.clear()
        self.tables.clear()
        self.home = array("I", bytes(4 * len(self.home)))
