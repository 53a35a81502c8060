"""Chapter 5's sockets: boot a machine with boot-memory functions of your own, and measure what a boot's searches cost.

m = boot_with(alloc_bootmem_core, ram="64M")    # your function serves every request of the boot
print(boot_report(m))                           # beside the kernel's own
search_cost("64M", policy="last_success")       # bits tested, pages used
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from vmlab.errors import KernelBug
from vmlab.hw.layout import M32, PAGE_SHIFT, PAGE_SIZE, pfn_up
from vmlab.machine import Machine
from vmlab.mm.bootmem import BootmemAllocator
from vmlab.mm.mmzone import BootmemData
from vmlab.mm.startup import BOOT_STAGES

from .kit.bootmem import BootBug, BootMap

Alloc = Callable[[BootMap, int, int, int], int | None]
Mark = Callable[[BootMap, int, int], Any]


def _lend(bdata: BootmemData, function: str) -> BootMap:
    """The kit's view of a node's map: the same bits, not a copy."""
    if bdata.map is None:
        raise KernelBug(function, "there is no boot bitmap: before init_bootmem, or after retirement")
    lent = BootMap(bdata.node_boot_start, bdata.node_low_pfn, bdata.map)
    lent.last_pos, lent.last_offset = bdata.last_pos, bdata.last_offset
    return lent


class StudentBootmem(BootmemAllocator):
    """The boot allocator with some of its steps replaced by plain functions on a `BootMap`."""

    alloc: Alloc | None = None
    reserve: Mark | None = None
    free: Mark | None = None

    def alloc_bootmem_core(self, bdata: BootmemData, size: int, align: int, goal: int) -> int | None:
        function = type(self).alloc
        if function is None:
            return super().alloc_bootmem_core(bdata, size, align, goal)
        lent = _lend(bdata, "__alloc_bootmem_core")
        before = bytes(lent._bits)
        try:
            address = function(lent, size, align, goal)
        except BootBug as bug:
            raise KernelBug("alloc_bootmem_core", str(bug)) from None
        bdata.last_pos, bdata.last_offset = lent.last_pos, lent.last_offset
        if address is None:
            return None
        first = (address if isinstance(address, int) else -1) - bdata.node_boot_start >> PAGE_SHIFT
        if not 0 <= first < lent.pages:
            raise KernelBug("alloc_bootmem_core", f"the function returned {address!r}, which is no address of this node")
        if self.on_event is not None:
            self.on_event(("bootmem_alloc", self._node(bdata), address, size, align, goal, before[first]))
        return address

    def reserve_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> int:
        function = type(self).reserve
        if function is None:
            return super().reserve_bootmem_core(bdata, addr, size)
        try:
            twice = function(_lend(bdata, "reserve_bootmem_core"), addr, size)
        except BootBug as bug:
            raise KernelBug("reserve_bootmem_core", str(bug)) from None
        if self.on_event is not None:
            base = bdata.node_boot_start >> PAGE_SHIFT
            self.on_event(("bootmem_reserve", self._node(bdata), (addr >> PAGE_SHIFT) - base, pfn_up(addr + size) - base, int(twice or 0)))
        return int(twice or 0)

    def free_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> None:
        function = type(self).free
        if function is None:
            super().free_bootmem_core(bdata, addr, size)
            return
        try:
            function(_lend(bdata, "free_bootmem_core"), addr, size)
        except BootBug as bug:
            raise KernelBug("free_bootmem_core", str(bug)) from None
        if self.on_event is not None:
            first, end = pfn_up(addr), addr + size >> PAGE_SHIFT
            base = bdata.node_boot_start >> PAGE_SHIFT
            self.on_event(("bootmem_free", self._node(bdata), first - base, max(first, end) - base))


def boot_with(
    alloc_bootmem_core: Alloc | None = None,
    ram: int | str = "64M",
    *,
    reserve: Mark | None = None,
    free: Mark | None = None,
    **options: Any,
) -> Machine:
    """Boot a machine whose boot memory is served by your functions.

    *alloc_bootmem_core(bdata, size, align, goal)* returns a physical address or None; *reserve* and *free* are
    `reserve_bootmem_core` and `free_bootmem_core` (bdata, addr, size); what is left out is the kernel's own. *bdata* is a kit `BootMap`.
    *options* go to ``vmlab.boot``. Raises KernelBug where the kernel would stop.
    """
    given = {"alloc": alloc_bootmem_core, "reserve": reserve, "free": free}
    for name, function in given.items():
        if function is not None and not callable(function):
            raise TypeError(f"boot_with takes functions; {name} is {function!r}")
    names: dict[str, Any] = {name: staticmethod(function) for name, function in given.items() if function is not None}
    return Machine(ram, bootmem=type("YourBootmem", (StudentBootmem,), names), **options).power_on()


def boot_report(m: Machine) -> str:
    """In words: how the boot of *m* compares with the same machine booted by the kernel's own allocator."""
    twin = m.twin()
    twin.bootmem = BootmemAllocator()
    twin.bootmem.attach(twin)
    twin.power_on()
    logs = [[c for c in machine.boot_log if c.stage in BOOT_STAGES] for machine in (m, twin)]  # those of boot memory
    pairs = list(zip(*logs, strict=False))
    same = sum(a == b for a, b in pairs)
    lines = [f"{same} of {len(logs[1])} boot consumers are where the kernel puts them."]
    for mine, kernels in pairs:
        if mine != kernels:
            lines.append(
                f"  First difference: {kernels.name} ({kernels.size} bytes): the kernel's {kernels.start_pa:#x}, yours {mine.start_pa:#x}."
            )
            break
    if m.buddyinfo() == twin.buddyinfo() and m.nr_free_pages() == twin.nr_free_pages():
        lines.append(f"The buddy lists start alike: {m.nr_free_pages()} pages free.")
    else:
        lines.append(f"The buddy lists differ: {m.nr_free_pages()} pages free, the kernel has {twin.nr_free_pages()}.")
    try:
        m.check()
    except KernelBug as bug:
        lines.append(f"And the machine is not sound: {bug}")
    return "\n".join(lines)


# --- what a search costs -----------------------------------------------------------------------------------------------------------

POLICIES = ("first fit", "last_success")


class Cost(NamedTuple):
    """What boot memory cost until the boot had made its last request."""

    requests: int
    bits_tested: int  # bits of the boot map looked at by all searches together
    pages: int  # pages the requests took from the map
    bytes_asked: int


class _Measured(BootmemAllocator):
    """The kernel's allocator, counting; with the hint of 2.6 or without merging if told so. Placement is the core's."""

    hint = False
    merging = True

    def attach(self, kernel: Any) -> None:
        super().attach(kernel)
        self.last_success = 0  # bytes from the start of the node
        self.requests = self.bits_tested = self.pages = self.bytes_asked = 0

    def alloc_bootmem_core(self, bdata: BootmemData, size: int, align: int, goal: int) -> int | None:
        if not self.merging:
            bdata.last_offset = 0
        bitmap = self._map(bdata, "__alloc_bootmem_core", 0)
        base = bdata.node_boot_start
        if self.hint and goal and goal >= base and goal >> PAGE_SHIFT < bdata.node_low_pfn:
            goal = max(goal, base + self.last_success)
        first = goal - base if goal >= base and goal >> PAGE_SHIFT < bdata.node_low_pfn else 0
        first = ((first + align - 1 & M32) & ~(align - 1)) >> PAGE_SHIFT
        before = bytes(bitmap)
        free = before.count(0)
        pages, incr, eidx = (size + PAGE_SIZE - 1) // PAGE_SIZE, align >> PAGE_SHIFT or 1, bdata.node_low_pfn - (base >> PAGE_SHIFT)
        found = self._count(before, first, eidx, pages, incr)
        if found is None and first:
            found = self._count(before, 0, eidx, pages, incr)
        address = super().alloc_bootmem_core(bdata, size, align, goal)
        if found is not None:
            self.last_success = found << PAGE_SHIFT
        self.requests += 1
        self.bytes_asked += size
        self.pages += free - bitmap.count(0)
        return address

    def _count(self, bits: bytes, first: int, eidx: int, pages: int, incr: int) -> int | None:
        """Count the bits one scan tests, one by one as 2.4 does; returns where it ends, None if nowhere."""
        i = first
        while i < eidx:
            at = bits.find(0, i, eidx)
            at = eidx if at < 0 else i + -(-(at - i) // incr) * incr
            self.bits_tested += (min(at, eidx) - i + incr - 1) // incr  # reserved pages passed on the way
            if at >= eidx:
                return None
            self.bits_tested += 1
            i = at
            if bits[i]:
                i += incr
                continue
            taken = bits.find(1, i + 1, min(i + pages, eidx)) if pages > 1 else -1
            if taken < 0 and i + pages <= eidx:
                self.bits_tested += pages - 1
                return i
            self.bits_tested += (taken if taken >= 0 else eidx - 1) - i
            i += incr
        return None


@functools.lru_cache(maxsize=256)
def search_cost(ram: int | str = "64M", policy: str = "first fit", merging: bool = True) -> Cost:
    """What the boot of a machine with *ram* asks of boot memory, under a search policy.

    "first fit" searches from the goal each time (2.4); "last_success" starts where the last search
    succeeded when that is higher (2.6). *merging* False gives every request pages of its own.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy={policy!r}: {' or '.join(map(repr, POLICIES))}")
    part = type("_Policy", (_Measured,), {"hint": policy == "last_success", "merging": merging})()
    m = Machine(ram, bootmem=part)
    for stage in ("setup_memory_region", "setup_memory", "paging_init", "register_memory"):
        m.boot_step(stage)
    return Cost(part.requests, part.bits_tested, part.pages, part.bytes_asked)
