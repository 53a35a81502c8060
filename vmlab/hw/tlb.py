"""A translation lookaside buffer: the last translations, so that the tables need not be walked again.

Entries are found by page number in one *set* (page number modulo the number of sets) of a few
*ways*. The i386 has no address space numbers: loading CR3 empties the buffer, but for entries
marked global (the kernel's). When a set is full the entry that goes is the one used (lru) or
filled (fifo) longest ago; nothing is random.
"""

from __future__ import annotations

from typing import NamedTuple

from .layout import PAGE_SHIFT
from .mmu import GLOBAL


class TlbEntry(NamedTuple):
    """A page's frame, and the bits of its entry with the rights of all levels (see hw.mmu)."""

    frame: int
    bits: int


class Tlb:
    """*entries* translations in sets of *ways* (ways = entries: fully associative). The default is a Pentium III's for data.

    Counters: ``hits``, ``misses``, ``evictions``, ``flushes`` (operations) by kind, ``flushed`` (entries).
    """

    def __init__(self, entries: int = 64, ways: int = 4, replacement: str = "lru") -> None:
        if ways < 1 or entries < ways or entries % ways:
            raise ValueError(f"{entries} entries in sets of {ways}: give a whole number of sets")
        if replacement not in ("lru", "fifo"):
            raise ValueError(f"replacement={replacement!r}: 'lru' or 'fifo'")
        self.entries = entries
        self.ways = ways
        self.replacement = replacement
        self.nsets = entries // ways
        self.sets: list[dict[int, TlbEntry]] = [{} for _ in range(self.nsets)]  # page → entry, the next to go first
        self.reset_counters()

    def reset_counters(self) -> None:
        """Count from zero again; the entries stay."""
        self.hits = self.misses = self.evictions = self.flushed = 0
        self.flushes = {"page": 0, "range": 0, "mm": 0, "all": 0}

    # -- looking up and filling ---------------------------------------------------------------

    def lookup(self, page: int) -> TlbEntry | None:
        """The entry of page number *page*, or None; counts a hit or a miss."""
        found = self.sets[page % self.nsets]
        entry = found.get(page)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        if self.replacement == "lru":
            del found[page]
            found[page] = entry
        return entry

    def insert(self, page: int, frame: int, bits: int) -> int | None:
        """Remember a translation; returns the page number whose entry had to go, if one had to."""
        found = self.sets[page % self.nsets]
        gone = None
        if found.pop(page, None) is None and len(found) >= self.ways:
            gone = next(iter(found))
            del found[gone]
            self.evictions += 1
        found[page] = TlbEntry(frame, bits)
        return gone

    # -- flushing -----------------------------------------------------------------------------

    def flush_page(self, page: int) -> int:
        """Forget one page, global or not (invlpg). Returns the entries forgotten."""
        self.flushes["page"] += 1
        return self._drop([page] if page in self.sets[page % self.nsets] else [])

    def flush_range(self, start: int, end: int) -> int:
        """Forget the pages of addresses [start, end) (bytes) one by one, as later processors' kernels do. Returns the entries forgotten."""
        self.flushes["range"] += 1
        first, stop = start >> PAGE_SHIFT, (end + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
        return self._drop([page for page in self.pages() if first <= page < stop])

    def flush_mm(self) -> int:
        """Forget everything that is not global: what loading CR3 does. Returns the entries forgotten."""
        self.flushes["mm"] += 1
        return self._drop([page for s in self.sets for page, entry in s.items() if not entry.bits & GLOBAL])

    def flush_all(self) -> int:
        """Forget everything (switching PGE off and on again). Returns the entries forgotten."""
        self.flushes["all"] += 1
        return self._drop(self.pages())

    def drop(self, page: int) -> None:
        """Forget one page without counting a flush: the entry was found to be of no use."""
        self.sets[page % self.nsets].pop(page, None)

    def _drop(self, pages: list[int]) -> int:
        for page in pages:
            del self.sets[page % self.nsets][page]
        self.flushed += len(pages)
        return len(pages)

    # -- looking at it ------------------------------------------------------------------------

    def pages(self) -> list[int]:
        """Page numbers remembered, set by set."""
        return [page for s in self.sets for page in s]

    def __len__(self) -> int:
        return sum(len(s) for s in self.sets)

    @property
    def reach(self) -> int:
        """Bytes a full buffer translates without a walk."""
        return self.entries << PAGE_SHIFT

    @property
    def hit_ratio(self) -> float:
        """Hits per lookup, 0 to 1; 0 before the first."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0

    def effective_access_time(self, memory: float = 100.0, tlb: float = 1.0, levels: int = 2, hit_ratio: float | None = None) -> float:
        """Mean time of one access, in the unit of *memory* and *tlb* (one access to memory, one lookup).

        A miss reads one entry in each of *levels* tables first. *hit_ratio* defaults to the measured one.
        """
        ratio = self.hit_ratio if hit_ratio is None else hit_ratio
        if not 0 <= ratio <= 1:
            raise ValueError(f"hit_ratio={ratio}: a share from 0 to 1")
        return tlb + memory + (1 - ratio) * levels * memory

    def __repr__(self) -> str:
        return (
            f"<Tlb {len(self)} of {self.entries} entries in {self.nsets} sets of {self.ways} ({self.replacement}), "
            f"{self.hits} hits, {self.misses} misses, {sum(self.flushes.values())} flushes>"
        )
