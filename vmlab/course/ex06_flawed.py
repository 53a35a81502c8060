"""Buddy allocators with one mistake each: what students commonly write. Used to name a misunderstanding from what it does.

They stand on the kit, so they fail in the same ways a student's class does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmlab.course import ex06_bench, plain
from vmlab.course.kit import MAX_ORDER
from vmlab.course.kit.buddy import BuddyBase, Zone, _drive


class Flawed(BuddyBase):
    """A whole allocator; each attribute below, set to something else, is a mistake."""

    keep = "upper"  # "lower": go on splitting the lower half
    put = "head"  # "tail"
    take = "head"  # "tail", "lowest": which block of a list
    search = "up"  # "down", "exact", "short" (order 9 forgotten): where a block is looked for
    taken_bit = True  # rmqueue toggles the pair of the block it takes
    split_bit = "low"  # "high": the pair of the block before the split; "none"
    charge = "asked"  # "found", "one", "none": by how much free_pages shrinks
    count = "head"  # "none", "all": whose page count is set
    leave = False  # True: the block is not taken off its list
    base = "zone"  # "frames": absolute frame numbers
    pair_shift = 1  # 0: the number of the block instead of the pair
    buddy = "xor"  # "plus", "minus", "frames": that of the absolute frame number
    test = "bit"  # "inverted", "always", "never", "untoggled" (only looks), "list" (no bits at all)
    unlink = True  # the buddy leaves its list
    align = True  # page_idx becomes the start of the merged block
    levels = 99  # how often a block merges at most
    top = MAX_ORDER - 1  # 8: order 9 is never made; 10: order 9 looks for a buddy
    credit = "pages"  # "order", "one", "merged", "none": by how much free_pages grows
    late_order = False  # the block goes to the list of the order it was freed with
    stop_bit = True  # False: the bit that stops the merging is toggled back

    def index(self, zone: Zone, pfn: int) -> int:
        return pfn - zone.start_pfn if self.base == "zone" else pfn

    def pair(self, zone: Zone, pfn: int, order: int) -> int:
        return self.index(zone, pfn) >> order + self.pair_shift

    def put_block(self, zone: Zone, order: int, pfn: int) -> None:
        (self.list_add if self.put == "head" else self.list_add_tail)(zone, order, pfn)

    def expand(self, zone: Zone, pfn: int, low: int, high: int) -> int:
        while high > low:
            if self.split_bit == "high":
                self.toggle_pair(zone, high, self.pair(zone, pfn, high))
            high -= 1
            half = 1 << high
            spare = pfn if self.keep == "upper" else pfn + half
            self.put_block(zone, high, spare)
            if self.split_bit == "low":
                self.toggle_pair(zone, high, self.pair(zone, pfn, high))
            pfn += half if self.keep == "upper" else 0
        return pfn

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        orders = {"up": range(order, MAX_ORDER), "down": range(MAX_ORDER - 1, order - 1, -1), "exact": range(order, order + 1),
                  "short": range(order, MAX_ORDER - 1)}[self.search]
        for found in orders:
            blocks = self.blocks(zone, found)
            if not blocks:
                continue
            pfn = {"head": blocks[0], "tail": blocks[-1], "lowest": min(blocks)}[self.take]
            if not self.leave:
                self.list_del(zone, found, pfn)
            if self.taken_bit and found < self.top:
                self.toggle_pair(zone, found, self.pair(zone, pfn, found))
            zone.free_pages -= {"asked": 1 << order, "found": 1 << found, "one": 1, "order": order, "none": 0}[self.charge]
            pfn = self.expand(zone, pfn, order, found)
            for page in range(pfn, pfn + (1 << order)) if self.count == "all" else [pfn] if self.count == "head" else []:
                self.set_page_count(page, 1)
            return pfn
        return None

    def free_pages_ok(self, zone: Zone, pfn: int, order: int) -> None:
        asked, merged = order, 0
        origin = zone.start_pfn if self.base == "zone" else 0
        while order < self.top:
            pair = self.pair(zone, pfn, order)
            at = pfn - origin
            size = 1 << order
            buddy = origin + {"xor": at ^ size, "plus": at + size, "minus": at - size, "frames": (pfn ^ size) - origin}[self.buddy]
            free = buddy in self.blocks(zone, order)
            if self.test == "untoggled":
                bit = self.toggle_pair(zone, order, pair)
                self.toggle_pair(zone, order, pair)
            elif self.test == "list":
                bit = int(free)
            else:
                bit = self.toggle_pair(zone, order, pair)
            go = {"inverted": not bit, "always": True, "never": False}.get(self.test, bool(bit))
            if not go or merged >= self.levels:
                if not self.stop_bit:
                    self.toggle_pair(zone, order, pair)
                break
            if self.unlink:
                self.list_del(zone, order, buddy)
            order += 1
            merged += 1
            if self.align:
                pfn = origin + (at & -1 << order)
        self.put_block(zone, asked if self.late_order else order, pfn)
        zone.free_pages += {"pages": 1 << asked, "order": asked, "one": 1, "merged": 1 << order, "none": 0}[self.credit]


def flawed(**knobs: Any) -> type[Flawed]:
    """An allocator with these mistakes."""
    return type("Flawed", (Flawed,), knobs)


_outcomes: dict[tuple[tuple[str, Any], ...], list[dict[str, Any]] | None] = {}  # for the data in _of[0] only
_of: list[Any] = []


def outcome(data: dict[str, Any], **knobs: Any) -> list[dict[str, Any]] | None:
    """What an allocator with these mistakes makes of `data`, in the form of `ex06_bench.claims`."""
    if not (_of and _of[0] is data):
        _of[:] = [data]
        _outcomes.clear()
    key = tuple(sorted(knobs.items()))
    if key not in _outcomes:
        _outcomes[key] = ex06_bench._replay(data, plain.normal(_drive("it", {"it": flawed(**knobs)}, data)))
    return _outcomes[key]


def looks_like(**knobs: Any) -> Callable[[Any, Any], bool]:
    """A detector for Mistake: the answer is just what an allocator with these mistakes gives."""

    def detect(data: Any, got: Any) -> bool:
        theirs = ex06_bench.claims(data, got)
        mine = outcome(data, **knobs)
        if not mine or not theirs or len(mine) != len(theirs):
            return False
        return all(_same(a, b) for a, b in zip(mine, theirs, strict=True))

    return detect


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    bug_a, bug_b = (x["bug"][0] if x["bug"] else None for x in (a, b))
    if bug_a or bug_b:
        return bool(bug_a == bug_b) and a["lists"] == b["lists"] and a["bits"] == b["bits"]
    return all(plain.same(plain.normal(a[k]), plain.normal(b[k])) for k in ("returned", "lists", "bits", "free_pages", "counts"))
