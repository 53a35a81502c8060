"""Parsers of /proc/buddyinfo, /proc/zoneinfo and /proc/pagetypeinfo, from Linux 2.6 to today.

The files grow with every few releases: a line that is not understood is kept when it is a name
and a number, and passed over when it is not. A file without a single zone in it raises ValueError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_ZONE = re.compile(r"Node\s+(\d+),\s*zone\s+(\S+?)(?:,|\s|$)")
_PAIR = re.compile(r"\s*(\w+(?: \w+)*?):?\s+(\d+)\b")
_CPU = re.compile(r"\s*cpu:\s*(\d+)(?:\s+pcp:\s*(\d+))?")


class OrderRow(NamedTuple):
    """Free blocks of one zone: ``counts[order]`` of them."""

    node: int
    zone: str
    counts: tuple[int, ...]

    @property
    def free_pages(self) -> int:
        """Pages in all these blocks."""
        return sum(n << order for order, n in enumerate(self.counts))


class MigrateRow(NamedTuple):
    """Free blocks of one zone that hold one kind of page. ``capped``: a count was given only as "more than"."""

    node: int
    zone: str
    kind: str
    counts: tuple[int, ...]
    capped: bool = False

    @property
    def free_pages(self) -> int:
        """Pages in all these blocks."""
        return sum(n << order for order, n in enumerate(self.counts))


@dataclass
class ZoneRow:
    """One zone of /proc/zoneinfo; sizes and watermarks in pages.

    ``fields`` has every name with a number (free, min, low, high, spanned, present, managed, start_pfn,
    nr_… counters); ``protection`` the reserve against each higher zone; ``pagesets`` one dict per CPU
    (two per CPU, hot and cold, before 2.6.25).
    """

    node: int
    zone: str
    fields: dict[str, int] = field(default_factory=dict)
    protection: tuple[int, ...] = ()
    pagesets: list[dict[str, int]] = field(default_factory=list)

    def get(self, name: str) -> int | None:
        """A field by name, or None where this kernel does not print it."""
        return self.fields.get(name)

    @property
    def pages(self) -> int:
        """Pages the allocator looks after: managed, or what came nearest in older kernels."""
        for name in ("managed", "present", "spanned"):
            if name in self.fields:
                return self.fields[name]
        return 0


class PageTypes(NamedTuple):
    """/proc/pagetypeinfo: free blocks by kind of page, and how many page blocks belong to each kind."""

    block_order: int
    pages_per_block: int
    rows: list[MigrateRow]
    blocks: dict[tuple[int, str], dict[str, int]]


def parse_buddyinfo(text: str) -> list[OrderRow]:
    """Rows of /proc/buddyinfo. Raises ValueError when there is none."""
    rows = []
    for line in text.splitlines():
        found = _ZONE.match(line)
        if found:
            counts = re.findall(r"\d+", line[found.end() :])
            rows.append(OrderRow(int(found[1]), found[2], tuple(int(n) for n in counts)))
    if not rows:
        raise ValueError("this is not a /proc/buddyinfo: no line of it begins with 'Node 0, zone …'")
    return rows


def parse_zoneinfo(text: str) -> list[ZoneRow]:
    """Zones of /proc/zoneinfo, empty ones included. Raises ValueError when there is none."""
    rows: list[ZoneRow] = []
    section = ""
    for line in text.splitlines():
        found = _ZONE.match(line)
        if found:
            rows.append(ZoneRow(int(found[1]), found[2]))
            section = "zone"
            continue
        if not rows:
            continue
        row = rows[-1]
        word = line.strip()
        if word == "per-node stats":
            section = "node"  # counters of the whole node, printed inside its first zone
        elif word.startswith("pages free"):
            section = "zone"
            row.fields["free"] = _number(word)
        elif word.startswith("protection:"):
            row.protection = tuple(int(n) for n in re.findall(r"\d+", word))
        elif word == "pagesets":
            section = "pagesets"
        elif cpu := _CPU.match(line):
            section = "pagesets"
            row.pagesets.append({"cpu": int(cpu[1])} | ({"pcp": int(cpu[2])} if cpu[2] else {}))
        elif pair := _PAIR.match(line):
            name = pair[1]
            if section == "pagesets" and row.pagesets and line.startswith("   "):
                row.pagesets[-1][name] = int(pair[2])
            elif section != "node":
                row.fields.setdefault(name, int(pair[2]))
    if not rows:
        raise ValueError("this is not a /proc/zoneinfo: no line of it begins with 'Node 0, zone …'")
    return rows


def parse_pagetypeinfo(text: str) -> PageTypes:
    """Rows of /proc/pagetypeinfo. Raises ValueError when there is none."""
    rows: list[MigrateRow] = []
    blocks: dict[tuple[int, str], dict[str, int]] = {}
    kinds: list[str] = []
    block_order = pages_per_block = 0
    for line in text.splitlines():
        if line.startswith("Page block order"):
            block_order = _number(line)
        elif line.startswith("Pages per block"):
            pages_per_block = _number(line)
        elif line.startswith("Number of blocks type"):
            kinds = line.removeprefix("Number of blocks type").split()
        elif found := _ZONE.match(line):
            node, zone, rest = int(found[1]), found[2], line[found.end() :]
            kind = re.match(r"\s*type\s+(\S+)", rest)
            if kind:
                rest = rest[kind.end() :]
                rows.append(MigrateRow(node, zone, kind[1], tuple(int(n) for n in re.findall(r"\d+", rest)), ">" in rest))
            elif kinds:
                numbers = [int(n) for n in re.findall(r"\d+", rest)]
                blocks[node, zone] = dict(zip(kinds, numbers, strict=False))
    if not rows:
        raise ValueError("this is not a /proc/pagetypeinfo: no line of it begins with 'Node 0, zone …, type …'")
    return PageTypes(block_order, pages_per_block, rows, blocks)


def _number(line: str) -> int:
    found = re.search(r"\d+", line)
    if not found:
        raise ValueError(f"a number is missing in {line.strip()!r}")
    return int(found[0])
