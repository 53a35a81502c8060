"""Chapter 6: a machine that boots with an allocator of your own, and policies to compare.

    from vmlab.course.plug06 import boot_with
    m = boot_with(MyBuddy, ram="64M")          # MyBuddy: a subclass of vmlab.course.kit.buddy.BuddyBase

Everything but the three methods of the class stays the kernel's: zones, zonelists, watermarks, reclaim.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import vmlab
from vmlab.course.kit.buddy import BuddyBase, BuddyBug
from vmlab.errors import KernelBug
from vmlab.machine import Machine
from vmlab.mm.gfp import GFP_ATOMIC, PF_FREE_PAGES
from vmlab.mm.kernel import Kernel
from vmlab.mm.mmzone import MAX_ORDER, Zone
from vmlab.mm.page import BLOCK_FREE, BLOCK_USED
from vmlab.mm.page_alloc import _UNSOUND_FREE, PageAllocator
from vmlab.mm.page_flags import ACCESS_BITS, ZONE_SHIFT, flag_names
from vmlab.trace.workload import Step

# --- your allocator on the machine -------------------------------------------------------------------------------------------------


class _OnMachine(BuddyBase):
    """The primitives of BuddyBase, working on the machine's own zones; mixed in front of the student's class."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel
        self.emit: Any = None
        self.first_order = -1  # order of the first list a block was taken from, in this operation
        self.unlinked = 0  # blocks taken off lists, in this operation

    def _area(self, zone: Any, order: int) -> Any:
        if not isinstance(order, int) or not 0 <= order < MAX_ORDER:
            raise BuddyBug("no-order", f"there is no free list of order {order!r}: orders go from 0 to {MAX_ORDER - 1}")
        return zone.free_area[order]

    def list_empty(self, zone: Any, order: int) -> bool:
        return not self._area(zone, order).free_list

    def list_first(self, zone: Any, order: int) -> int | None:
        return next(reversed(self._area(zone, order).free_list), None)

    def blocks(self, zone: Any, order: int) -> list[int]:
        found: list[int] = self._area(zone, order).blocks()
        return found

    def list_add(self, zone: Any, order: int, pfn: int) -> None:
        free_list = self._area(zone, order).free_list
        if not isinstance(pfn, int) or not zone.start_pfn <= pfn < zone.end_pfn:
            raise BuddyBug("no-frame", f"list_add: {pfn!r} is not a frame of zone {zone.name} ({zone.start_pfn} to {zone.end_pfn - 1})")
        if pfn in free_list:
            raise BuddyBug("listed-twice", f"list_add: block {pfn} is on the order-{order} list already")
        free_list[pfn] = None
        self.kernel.mem.block[pfn] = BLOCK_FREE | order
        if self.emit is not None:
            self.emit(("list_add", zone.index, order, pfn))

    def list_add_tail(self, zone: Any, order: int, pfn: int) -> None:
        self.list_add(zone, order, pfn)
        free_list = self._area(zone, order).free_list
        others = [p for p in free_list if p != pfn]  # oldest first: a dict grows at the end, which is the list's head
        free_list.clear()
        free_list.update(dict.fromkeys([pfn, *others]))

    def list_del(self, zone: Any, order: int, pfn: int) -> None:
        free_list = self._area(zone, order).free_list
        if pfn not in free_list:
            raise BuddyBug("not-listed", f"list_del: block {pfn} is not on the order-{order} list of zone {zone.name}")
        del free_list[pfn]
        self.kernel.mem.block[pfn] = 0
        self.first_order = order if self.first_order < 0 else self.first_order
        self.unlinked += 1
        if self.emit is not None:
            self.emit(("list_del", zone.index, order, pfn))

    def toggle_pair(self, zone: Any, order: int, pair: int) -> int:
        bits = self._area(zone, order).map
        if not bits:
            raise BuddyBug("no-map", f"toggle_pair: order {order} has no bitmap, its blocks have no buddies")
        if not isinstance(pair, int) or not 0 <= pair < len(bits):
            raise BuddyBug("no-pair", f"toggle_pair: order {order} of {zone.name} has the pairs 0 to {len(bits) - 1}, not {pair!r}")
        was: int = bits[pair]
        bits[pair] = 1 - was
        if self.emit is not None:
            self.emit(("map_toggle", zone.index, order, pair, 1 - was))
        return was

    def set_page_count(self, pfn: int, count: int) -> None:
        self.kernel.mem.count[pfn] = count


class PluggedAllocator(PageAllocator):
    """The kernel's page allocator with `rmqueue` and `free_pages_ok` done by a student's class (`plugged` makes the subclass)."""

    student_class: type[BuddyBase] = BuddyBase

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        mixed = type(self.student_class.__name__, (_OnMachine, self.student_class), {})
        student = mixed()
        assert isinstance(student, _OnMachine)
        student.kernel = kernel
        self.student: _OnMachine = student

    def _begin(self) -> Any:
        student = self.student
        student.first_order, student.unlinked, student.emit = -1, 0, self.on_event
        return student

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        """Let the student's class take a block; count it and label it for the pictures."""
        student = self._begin()
        pfn: int | None = student.rmqueue(zone, order)
        if pfn is None:
            return None
        name = type(student).__name__
        if not isinstance(pfn, int) or not zone.start_pfn <= pfn < zone.end_pfn:
            raise KernelBug("rmqueue", f"{name}.rmqueue returned {pfn!r}, which is not a frame of zone {zone.name}")
        if (pfn - zone.start_pfn) % (1 << order) or self.block[pfn] & (BLOCK_FREE | BLOCK_USED):
            raise KernelBug("rmqueue", f"{name}.rmqueue(order={order}) returned frame {pfn}, which is not a block it may give away")
        self.block[pfn] = BLOCK_USED | order
        self.stat.alloc += 1
        self.stat.split += max(student.first_order - order, 0)
        if self.on_event is not None:
            self.on_event(("alloc", pfn, order, zone.index))
        return pfn

    def free_pages_ok(self, pfn: int, order: int) -> None:
        """The kernel's own checks, then the student's class. kernel: mm/page_alloc.c:__free_pages_ok"""
        flags = self.flags[pfn]
        if flags & _UNSOUND_FREE:
            raise KernelBug("__free_pages_ok", f"frame {pfn} is freed while {'|'.join(flag_names(flags & _UNSOUND_FREE))}")
        self.flags[pfn] = flags & ~ACCESS_BITS
        current = self.kernel.current
        if current.flags & PF_FREE_PAGES and not current.nr_local_pages:
            self._keep_local(pfn, order)
            return
        zone = self.zone_table[flags >> ZONE_SHIFT]
        student = self._begin()
        if self.on_event is not None:
            self.on_event(("free", pfn, order, zone.index))
        self.block[pfn] = 0
        self.stat.free += 1
        student.free_pages_ok(zone, pfn, order)
        self.stat.merge += student.unlinked


def plugged(buddy: type[BuddyBase]) -> type[PageAllocator]:
    """A page allocator for `vmlab.boot(page_allocator=…)` made of a subclass of BuddyBase. Raises TypeError for anything else."""
    if not isinstance(buddy, type) or not issubclass(buddy, BuddyBase):
        raise TypeError(f"boot_with takes a class derived from BuddyBase, not {buddy!r}")
    return type(f"{buddy.__name__}Allocator", (PluggedAllocator,), {"student_class": buddy})


def boot_with(buddy: type[BuddyBase], ram: int | str = "64M", **options: Any) -> Machine:
    """Boot a machine whose blocks are split and merged by `buddy`; *ram* and the options are those of `vmlab.boot`."""
    return vmlab.boot(ram=ram, page_allocator=plugged(buddy), **options)


# --- policies ----------------------------------------------------------------------------------------------------------------------


class Policy(PageAllocator):
    """The kernel's allocator, but for which block of a free list it takes. Subclass it and write `choose`."""

    def __init__(self) -> None:
        super().__init__()
        self.offered = 0  # blocks `choose` was shown: what it costs at most to compare them all

    def choose(self, blocks: list[int]) -> int:
        """Pick one of the free blocks of one order (first frames; the one freed last comes first)."""
        raise NotImplementedError("choose is yours to write")

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        """Bring the chosen block to the head of its list; the kernel's code takes it from there."""
        for area in zone.free_area[order:]:
            if area.free_list:
                blocks = area.blocks()
                self.offered += len(blocks)
                chosen = self.choose(blocks)
                if chosen not in area.free_list:
                    raise ValueError(f"choose returned {chosen!r}, which is none of the {len(blocks)} blocks it was shown")
                del area.free_list[chosen]
                area.free_list[chosen] = None
                break
        return super().rmqueue(zone, order)


class NewestFirst(Policy):
    """The kernel's own policy: the block that was freed last (last in, first out)."""

    def choose(self, blocks: list[int]) -> int:
        return blocks[0]


class Figures(NamedTuple):
    """What a policy left behind in zone Normal after a workload."""

    unusable: float  # unusable free space index for blocks of `order`: 0 (all free memory usable) to 1 (none)
    free_pages: int  # free pages of the zone
    served: int  # requests of `order` that succeed now, one after another, until one fails
    offered: int  # blocks the policy was shown: what comparing them all costs

    def __repr__(self) -> str:
        return f"unusable {self.unusable:.4f}, free_pages {self.free_pages:,}, served {self.served}, offered {self.offered:,}"


def policy_workload(seed: int) -> list[Step]:
    """Small requests: memory fills up, half the load goes away at random, and then blocks come and go for a long time."""
    rng = Random(seed)
    steps: list[Step] = []
    live: list[int] = []

    def alloc() -> None:
        order = 0 if rng.random() < 0.8 else 1 + int(rng.random() * 2)
        live.append(len(steps))
        steps.append(("alloc", GFP_ATOMIC, order, len(steps)))

    def free() -> None:
        at = int(rng.random() * len(live))
        live[at], live[-1] = live[-1], live[at]
        steps.append(("free", live.pop()))

    while len(live) < 2600:
        alloc()
    while len(live) > 1300:
        free()
    for _ in range(6000):
        if rng.random() < (0.5 if len(live) >= 1300 else 0.4):
            free()
        else:
            alloc()
    return steps


def measure(policy: type[Policy], seed: int, order: int = 4) -> Figures:
    """Boot a machine of 32 MiB with `policy`, run the workload of `seed`, and measure zone Normal for blocks of 2^order pages."""
    m = vmlab.boot(ram="32M", kernel_objects=None, page_allocator=policy)
    m.run(policy_workload(seed))
    zone = m.pgdats[0].node_zones[1]
    allocator = m.page_allocator
    assert isinstance(allocator, Policy)
    unusable, free_pages, offered = m.fragmentation(zone, order), zone.free_pages, allocator.offered
    served = 0
    while allocator.rmqueue(zone, order) is not None:
        served += 1
    return Figures(unusable, free_pages, served, offered)
