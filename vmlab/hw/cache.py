"""A level-1 data cache: which accesses miss, and why.

An address picks a set (its line number modulo the number of sets); the set holds *ways* lines, the
one used longest ago goes first. A miss is *cold* when the line was never in the cache, *capacity*
when even a cache of the same size without sets would have lost it, and *conflict* when only the
sets are to blame: too many lines in use fall on the same one. Slab colouring is about the last.
"""

from __future__ import annotations

HIT, COLD, CAPACITY, CONFLICT = "hit", "cold", "capacity", "conflict"


class L1Cache:
    """*size* bytes in lines of *line* bytes, *ways* lines in a set, physical addresses. The default is a Pentium III's data cache."""

    def __init__(self, size: int = 16 << 10, ways: int = 4, line: int = 32) -> None:
        if line < 1 or line & line - 1:
            raise ValueError(f"line={line}: a power of two, in bytes")
        if ways < 1 or size < ways * line or size % (ways * line):
            raise ValueError(f"{size} bytes in sets of {ways} lines of {line} bytes: give a whole number of sets")
        self.size = size
        self.ways = ways
        self.line = line
        self.nsets = size // (ways * line)
        self.nlines = size // line
        self.sets: list[dict[int, None]] = [{} for _ in range(self.nsets)]  # line numbers, the next to go first
        self.ideal: dict[int, None] = {}  # what a cache without sets would hold
        self.seen: set[int] = set()
        self.reset_counters()

    def reset_counters(self) -> None:
        """Count from zero again; the lines stay."""
        self.hits = self.cold = self.capacity = self.conflict = 0
        self.misses_by_set = [0] * self.nsets

    def access(self, address: int) -> str:
        """Touch the line at physical *address* (bytes). Returns ``hit``, ``cold``, ``capacity`` or ``conflict``."""
        line = address // self.line
        at = line % self.nsets
        lines, ideal = self.sets[at], self.ideal
        in_ideal = line in ideal
        if in_ideal:
            del ideal[line]
        elif len(ideal) >= self.nlines:
            del ideal[next(iter(ideal))]
        ideal[line] = None
        if line in lines:
            del lines[line]
            lines[line] = None
            self.hits += 1
            return HIT
        if len(lines) >= self.ways:
            del lines[next(iter(lines))]
        lines[line] = None
        self.misses_by_set[at] += 1
        if line not in self.seen:
            self.seen.add(line)
            self.cold += 1
            return COLD
        if in_ideal:
            self.conflict += 1
            return CONFLICT
        self.capacity += 1
        return CAPACITY

    def access_range(self, address: int, size: int) -> int:
        """Touch every line of [address, address + size); returns the misses."""
        first, last = address // self.line, (address + size - 1) // self.line
        return sum(self.access(line * self.line) != HIT for line in range(first, last + 1))

    def set_of(self, address: int) -> int:
        """The set that *address* falls on."""
        return address // self.line % self.nsets

    @property
    def misses(self) -> int:
        """Accesses that were no hits."""
        return self.cold + self.capacity + self.conflict

    @property
    def miss_ratio(self) -> float:
        """Misses per access, 0 to 1; 0 before the first."""
        accesses = self.hits + self.misses
        return self.misses / accesses if accesses else 0.0

    def flush(self) -> None:
        """Empty the cache; lines once seen are not cold any more."""
        self.ideal.clear()
        for lines in self.sets:
            lines.clear()

    def __repr__(self) -> str:
        return (
            f"<L1Cache {self.size} bytes, {self.nsets} sets of {self.ways} lines of {self.line} bytes: "
            f"{self.hits} hits, {self.cold} cold, {self.capacity} capacity, {self.conflict} conflict misses>"
        )
