"""What an allocator of your own stands on: zones, free lists, pair bits, and the primitives that change them.

`BuddyBase` knows how to put a block on a list, take it off and toggle a bit. *Which* block, which list and which bit is the algorithm:
that is yours. The same class runs here on small zones and, through `vmlab.course.plug06.boot_with`, on the whole machine.

Blocks are known by their first frame number (`pfn`), lists by their order (0 to 9), bits by the number of the pair.
"""

from __future__ import annotations

from typing import Any

from vmlab.course.kit import MAX_ORDER

PATIENCE = 1000  # primitives in one operation; the longest honest one needs about 40


class BuddyBug(RuntimeError):
    """A primitive was asked for something impossible, where a kernel would have corrupted itself. `kind` says what, in one word."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class FreeArea:
    """Free blocks of one order: a list of first frames, head first, and one bit (a byte here) for each pair of buddies."""

    def __init__(self, pairs: int) -> None:
        self.blocks: list[int] = []
        self.map = bytearray(pairs)  # empty for order 9, whose blocks have no buddy


class Zone:
    """`size` pages from frame `start_pfn` on, `free_pages` of them free. Keeping `free_pages` right is your business."""

    def __init__(self, start_pfn: int, size: int, name: str = "Toy") -> None:
        self.name = name
        self.start_pfn = start_pfn
        self.size = size
        self.free_pages = 0
        self.free_area = [FreeArea((size - 1 >> order + 1) + 1 if order < MAX_ORDER - 1 else 0) for order in range(MAX_ORDER)]

    def __repr__(self) -> str:
        lists = ", ".join(f"{order}: {area.blocks}" for order, area in enumerate(self.free_area) if area.blocks)
        return f"<Zone {self.name} from frame {self.start_pfn}, {self.free_pages} of {self.size} pages free; {lists or 'nothing free'}>"


class BuddyBase:
    """Primitives for a buddy allocator. Subclass it and write `expand`, `rmqueue` and `free_pages_ok` with them."""

    def __init__(self) -> None:
        self.decisions: list[list[Any]] = []  # every change that was made, in order: what the judge looks at

    # -- looking --------------------------------------------------------------------------------

    def list_empty(self, zone: Zone, order: int) -> bool:
        """Whether no block of this order is free."""
        return not self._area(zone, order).blocks

    def list_first(self, zone: Zone, order: int) -> int | None:
        """First frame of the block at the head of the list, which stays there; None when the list is empty."""
        area = self._area(zone, order)
        return area.blocks[0] if area.blocks else None

    def blocks(self, zone: Zone, order: int) -> list[int]:
        """First frames of all free blocks of this order, head first (a copy)."""
        return list(self._area(zone, order).blocks)

    # -- changing -------------------------------------------------------------------------------

    def list_add(self, zone: Zone, order: int, pfn: int) -> None:
        """Put the block at the head of a list. kernel: include/linux/list.h:list_add"""
        self._fresh(zone, order, pfn).insert(0, pfn)
        self._note("list_add", order, pfn)

    def list_add_tail(self, zone: Zone, order: int, pfn: int) -> None:
        """Put the block at the tail of a list. kernel: include/linux/list.h:list_add_tail"""
        self._fresh(zone, order, pfn).append(pfn)
        self._note("list_add_tail", order, pfn)

    def list_del(self, zone: Zone, order: int, pfn: int) -> None:
        """Take the block off its list, wherever it stands. kernel: include/linux/list.h:list_del"""
        blocks = self._area(zone, order).blocks
        if pfn not in blocks:
            raise BuddyBug("not-listed", f"list_del: block {pfn} is not on the order-{order} list {blocks}")
        blocks.remove(pfn)
        self._note("list_del", order, pfn)

    def toggle_pair(self, zone: Zone, order: int, pair: int) -> int:
        """Toggle the bit of one pair of buddies and return what it was *before*: 1 if exactly one of the two was free.

        kernel: include/asm-i386/bitops.h:__test_and_change_bit
        """
        area = self._area(zone, order)
        if not area.map:
            raise BuddyBug("no-map", f"toggle_pair: order {order} has no bitmap, its blocks have no buddies")
        if not isinstance(pair, int) or not 0 <= pair < len(area.map):
            raise BuddyBug("no-pair", f"toggle_pair: the order-{order} bitmap has the pairs 0 to {len(area.map) - 1}, not {pair!r}")
        was = area.map[pair]
        area.map[pair] = 1 - was
        self._note("toggle_pair", order, pair)
        return was

    def set_page_count(self, pfn: int, count: int) -> None:
        """Set the reference count of the page at frame `pfn`. kernel: include/linux/mm.h:set_page_count"""
        self._note("set_page_count", count, pfn)

    # -- yours ----------------------------------------------------------------------------------

    def expand(self, zone: Zone, pfn: int, low: int, high: int) -> int:
        """Cut the block at `pfn` from order `high` down to order `low`; return the first frame of what is kept."""
        raise NotImplementedError("expand is yours to write")

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        """Take a block of 2^order pages out of the zone; return its first frame, or None."""
        raise NotImplementedError("rmqueue is yours to write")

    def free_pages_ok(self, zone: Zone, pfn: int, order: int) -> None:
        """Give a block of 2^order pages back to the zone, merging it with its buddies."""
        raise NotImplementedError("free_pages_ok is yours to write")

    # -- inside ---------------------------------------------------------------------------------

    def _area(self, zone: Zone, order: int) -> FreeArea:
        if not isinstance(order, int) or not 0 <= order < MAX_ORDER:
            raise BuddyBug("no-order", f"there is no free list of order {order!r}: orders go from 0 to {MAX_ORDER - 1}")
        return zone.free_area[order]

    def _fresh(self, zone: Zone, order: int, pfn: int) -> list[int]:
        blocks = self._area(zone, order).blocks
        if not isinstance(pfn, int):
            raise BuddyBug("no-frame", f"list_add: {pfn!r} is not a frame number")
        if pfn in blocks:
            raise BuddyBug("listed-twice", f"list_add: block {pfn} is on the order-{order} list already")
        return blocks

    def _note(self, what: str, order: int, number: int) -> None:
        self.decisions.append([what, order, number])
        if len(self.decisions) > PATIENCE:
            raise BuddyBug("endless", f"one operation made more than {PATIENCE} changes: this loop does not end")


def make_zone(data: dict[str, Any]) -> Zone:
    """A zone in a given state: `start`, `size`, `free_pages`, `lists` {order: blocks, head first}, `bits` {order: pairs whose bit is 1}."""
    zone = Zone(data["start"], data["size"])
    zone.free_pages = data["free_pages"]
    for order, blocks in data["lists"].items():
        zone.free_area[int(order)].blocks[:] = blocks
    for order, pairs in data["bits"].items():
        for pair in pairs:
            zone.free_area[int(order)].map[pair] = 1
    return zone


def _drive(name: str, namespace: dict[str, Any], data: dict[str, Any]) -> list[dict[str, Any]]:
    """Carry out `data["ops"]` with a student's class; return, for each, what it returned and every change it made."""
    buddy, zone = namespace[name](), make_zone(data["zone"])
    done: list[dict[str, Any]] = []
    for op, *arguments in data["ops"]:
        buddy.decisions = []
        result, bug = None, None
        try:
            result = getattr(buddy, op)(zone, *arguments)
        except BuddyBug as error:
            bug = [error.kind, str(error)]
        done.append({"returned": result, "did": buddy.decisions, "free_pages": zone.free_pages, "bug": bug})
        if bug:
            break
    return done


def drive_allocating(namespace: dict[str, Any], data: dict[str, Any]) -> Any:
    """Run `Allocating` on one zone. Runs in the child."""
    return _drive("Allocating", namespace, data)


def drive_freeing(namespace: dict[str, Any], data: dict[str, Any]) -> Any:
    """Run `Freeing` on one zone. Runs in the child."""
    return _drive("Freeing", namespace, data)
