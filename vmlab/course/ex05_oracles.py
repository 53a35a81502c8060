"""Chapter 5's right answers, all from the core, and the wrong ones that known misunderstandings give.

The core decides; `flawed` exists only so that a wrong answer can be named.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any, cast

from vmlab.errors import KernelBug
from vmlab.hw.layout import PAGE_SHIFT, PAGE_SIZE
from vmlab.machine import Machine
from vmlab.mm.bootmem import BootmemAllocator
from vmlab.mm.mmzone import BootmemData, PgData
from vmlab.mm.page import MemMap

from .plug05 import search_cost

Data = dict[str, Any]
Steps = list[Any]


def core_map(data: Data) -> tuple[BootmemAllocator, BootmemData]:
    """The kernel's allocator on a map made from a case's plain data (see kit/bootmem.py:build)."""
    bootmem = BootmemAllocator()
    bootmem.attach(cast(Any, SimpleNamespace(pgdat_list=[])))
    pgdat = PgData(0)
    first = data["start"] >> PAGE_SHIFT
    bootmem.init_bootmem_core(pgdat, first, first, first + data["pages"])
    bdata = pgdat.bdata
    assert bdata.map is not None
    for start, end in data["free"]:
        bdata.map[start:end] = bytes(end - start)
    bdata.last_pos, bdata.last_offset = data.get("last", [0, 0])
    return bootmem, bdata


def free_ranges(bdata: BootmemData) -> list[list[int]]:
    """Free pages as index ranges, as the kit reports them."""
    base = bdata.node_boot_start >> PAGE_SHIFT
    return [[a - base, b - base] for a, b in bdata.ranges()]


def alloc_steps(data: Data) -> Steps:
    """What `alloc_bootmem_core` must do with the requests of a case, in the form kit/bootmem.py:drive_alloc reports it."""
    bootmem, bdata = core_map(data)
    steps: Steps = []
    for size, align, goal in data["requests"]:
        try:
            address = bootmem.alloc_bootmem_core(bdata, size, align, goal)
        except KernelBug:
            steps.append("BUG")
            break
        state = [address, bdata.last_pos, bdata.last_offset]
        steps.append(state if data.get("short") else [*state, free_ranges(bdata)])
    if data.get("short"):
        steps.append(free_ranges(bdata))
    return steps


def mark_steps(data: Data) -> Steps:
    """What the reserve and free orders of a case do, in the form kit/bootmem.py:drive_marks reports it."""
    bootmem, bdata = core_map(data)
    steps: Steps = []
    for what, addr, size in data["orders"]:
        twice = None
        try:
            if what == "reserve":
                twice = bootmem.reserve_bootmem_core(bdata, addr, size)
            else:
                bootmem.free_bootmem_core(bdata, addr, size)
        except KernelBug:
            steps.append("BUG")
            break
        steps.append([twice, free_ranges(bdata)])
    return steps


def after_setup(ram: int, kernel_end: int) -> Machine:
    """A machine just after setup_memory (no memory for its frames is used)."""
    m = Machine(ram, kernel_end=kernel_end, mem=MemMap(0))
    m.boot_step("setup_memory_region")
    m.boot_step("setup_memory")
    return m


def boot_map(q: Data) -> dict[str, int]:
    """The right answer to the calculation."""
    m = after_setup(q["ram_kib"] << 10, q["kernel_end"])
    consumer = next(c for c in m.boot_log if c.name == "bootmem bitmap")
    ranges = m.pgdats[0].bdata.ranges()
    big = after_setup(q["big_mib"] << 20, q["kernel_end"])
    return {
        "bitmap_bytes": consumer.size,
        "bitmap_pfn": consumer.start_pa >> PAGE_SHIFT,
        "next_free_pfn": ranges[-1][0],
        "free_pages": sum(end - start for start, end in ranges),
        "big_bitmap_bytes": next(c for c in big.boot_log if c.name == "bootmem bitmap").size,
    }


@functools.lru_cache(maxsize=64)
def _boot_requests(ram_mib: int) -> tuple[tuple[int, tuple[tuple[int, int], ...]], tuple[tuple[int, int, int], ...]]:
    requests: list[tuple[int, int, int]] = []

    def listen(event: tuple[Any, ...]) -> None:
        if event[0] == "bootmem_alloc":
            requests.append(event[3:6])

    m = Machine(f"{ram_mib}M")
    m.boot_step("setup_memory_region")
    m.boot_step("setup_memory")
    free = tuple(m.pgdats[0].bdata.ranges())
    m.on_event = listen
    m.boot_step("paging_init")
    m.boot_step("register_memory")
    return (m.max_low_pfn, free), tuple(requests)


def real_boot(ram_mib: int) -> Data:
    """The map and the requests of a real boot, as a case. On this machine: after setup_memory, before the first request."""
    (pages, free), requests = _boot_requests(ram_mib)
    return {"start": 0, "pages": pages, "free": [list(r) for r in free], "requests": [list(r) for r in requests], "short": True}


def costs(q: Data) -> dict[str, Any]:
    """The right answer to the measuring task."""
    rams = [f"{mib}M" for mib in q["ram_mib"]]
    first_fit = [search_cost(ram).bits_tested for ram in rams]
    return {
        "bits_first_fit": first_fit,
        "bits_hint": [search_cost(ram, "last_success").bits_tested for ram in rams],
        "extra_pages": [search_cost(ram, merging=False).pages - search_cost(ram).pages for ram in rams],
        "growth": first_fit[-1] / first_fit[0],
    }


# --- wrong on purpose ------------------------------------------------------------------------------------------------------------


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def flawed(data: Data, flaw: str) -> Steps:
    """The steps of somebody with one misunderstanding. "" is none."""
    base = data["start"]
    eidx = data["pages"]
    bits = bytearray(b"\1") * eidx
    for start, end in data["free"]:
        bits[start:end] = bytes(end - start)
    pos, used = data.get("last", [0, 0])
    steps: Steps = []

    def runs() -> list[tuple[int, int]]:
        found, i = [], 0
        while i < eidx:
            if bits[i]:
                i += 1
                continue
            end = bits.find(1, i)
            end = eidx if end < 0 else end
            found.append((i, end))
            i = end
        return found

    def search(first: int, step: int, pages: int) -> int | None:
        for i in range(first, eidx, step):
            if i + pages <= eidx and not any(bits[i : i + pages]):
                return i
        return None

    def state(result: int | None) -> list[Any]:
        whole = [result, pos, used]
        return whole if data.get("short") else [*whole, [list(r) for r in runs()]]

    for size, align, goal in data["requests"]:
        if (not size or align & (align - 1)) and flaw != "no-bug":
            steps.append("BUG")
            break
        pages = -(-size // PAGE_SIZE)
        if flaw == "round-down":
            pages = max(size // PAGE_SIZE, 1)
        elif flaw == "one-more":
            pages = size // PAGE_SIZE + 1
        step = align // PAGE_SIZE or 1
        wanted = goal - base if goal >= base and goal >> PAGE_SHIFT < base // PAGE_SIZE + eidx else 0
        first = _up(wanted, align) // PAGE_SIZE
        if flaw == "no-goal":
            first = 0
        elif flaw == "no-align":
            first, step = wanted // PAGE_SIZE, 1
        start = search(first, step, pages)
        if start is None and first and flaw != "no-restart":
            start = search(0, step, pages)
        if flaw == "best-fit":
            fitting = [(b - a, a) for a, b in runs() if b - a >= pages]
            start = min(fitting)[1] if fitting else None
        elif flaw == "top-down":
            start = next((i for i in range(eidx - pages, first - 1, -1) if not any(bits[i : i + pages])), None)
        merge = start is not None and (align <= PAGE_SIZE or flaw == "merges-large-align") and used and pos + 1 == start
        if flaw == "no-merge":
            merge = False
        elif flaw == "merge-anywhere":
            merge = bool(used) and align <= PAGE_SIZE
        elif flaw == "page-after-not-needed" and used and align <= PAGE_SIZE:
            rest = max(size - (PAGE_SIZE - _up(used, align)), 0)
            if first <= pos + 1 and not any(bits[pos + 1 : pos + 1 + -(-rest // PAGE_SIZE)]):
                merge, start = True, pos + 1
        if start is None:
            steps.append(state(0 if flaw == "zero-for-none" else None))
            continue
        if merge:
            offset = used if flaw == "offset-not-aligned" else _up(used, align)
            room = PAGE_SIZE - offset
            address = base + pos * PAGE_SIZE + offset
            if size < room:
                taken = pages if flaw == "takes-whole-pages" else 0
                used = size if flaw == "size-as-offset" else offset + size
                if flaw == "takes-whole-pages":
                    pos = start + taken - 1
            else:
                rest = size - room
                taken = pages if flaw == "takes-whole-pages" else -(-rest // PAGE_SIZE)
                if flaw != "last-pos-kept":
                    pos = start + taken - 1
                used = rest
        else:
            taken, used, pos = pages, size, start + pages - 1
            address = base + start * PAGE_SIZE
        used = _offset(used, flaw)
        if flaw == "no-base":
            address -= base
        elif flaw == "index":
            address = start
        if flaw != "no-mark":
            bits[start : start + taken] = b"\1" * taken
        steps.append(state(address))
    if data.get("short"):
        steps.append([list(r) for r in runs()])
    return steps


def _offset(used: int, flaw: str) -> int:
    """last_offset from the bytes used: 0 for a full page, unless that is what is misunderstood."""
    if flaw == "full-page-4096":
        return used % PAGE_SIZE or PAGE_SIZE
    if flaw == "free-rest":
        return -used % PAGE_SIZE
    return used % PAGE_SIZE


def columns(steps: Steps) -> dict[str, list[Any]]:
    """Steps as the "perform" task asks for them: address, last_pos and last_offset after each request."""
    return {
        name: [step[i] for step in steps if isinstance(step, list) and len(step) > 2]
        for i, name in enumerate(("address", "last_pos", "last_offset"))
    }


def flawed_marks(data: Data, flaw: str) -> Steps:
    """The steps of somebody with one misunderstanding about reserving and freeing. "" is none."""
    base, eidx = data["start"], data["pages"]
    bits = bytearray(b"\1") * eidx
    for start, end in data["free"]:
        bits[start:end] = bytes(end - start)
    steps: Steps = []
    for what, addr, size in data["orders"]:
        outward = what == "reserve"
        if flaw == "both-outward":
            outward = True
        elif flaw == "both-inward":
            outward = False
        low, high = addr - base, addr + size - base
        if flaw == "from-zero":
            low, high = addr, addr + size
        a, b = (low // PAGE_SIZE, -(-high // PAGE_SIZE)) if outward else (-(-low // PAGE_SIZE), high // PAGE_SIZE)
        if flaw == "count-pages" and what == "reserve":  # size rounded up on its own, not the end
            b = a + -(-size // PAGE_SIZE)
        outside = b > eidx
        already = [i for i in range(a, min(b, eidx)) if bits[i] == (what == "reserve")]
        bug = not size or outside or (what == "free" and bool(already))
        if (bug and flaw != "no-bug") or (flaw == "bug-on-twice" and what == "reserve" and already):
            steps.append("BUG")
            break
        bits[a:b] = bytes([what == "reserve"]) * max(b - a, 0)
        twice = len(already) if what == "reserve" else None
        if flaw == "newly" and what == "reserve":
            twice = b - a - len(already)
        elif flaw == "returns-none":
            twice = None
        elif flaw in ("bool", "truth") and what == "reserve":
            twice = bool(already) if flaw == "truth" else int(bool(already))
        ranges = BootmemData()
        ranges.map, ranges.node_boot_start, ranges.node_low_pfn = bits, base, (base >> PAGE_SHIFT) + eidx
        steps.append([twice, free_ranges(ranges)])
    return steps
