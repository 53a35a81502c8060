"""Exercise 2, on paper: the numbers of a machine's zones, reading one struct page, the order of set-up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from vmlab.course import ex02_models as models
from vmlab.course.ex02_models import MIB, clamp
from vmlab.course.exercise import Mistake, calculation, parsons
from vmlab.hw.layout import PAGE_OFFSET, PAGE_SHIFT, SIZEOF_PAGE
from vmlab.mm.mmzone import ZONE_NAMES
from vmlab.mm.page_flags import PAGE_FLAG_NAMES, ZONE_SHIFT, PG_highmem, flag_names

# --- the numbers of two zones


def watermark_inputs(r: random.Random) -> dict[str, Any]:
    """A machine with highmem=, on which one of the two upper zones meets a limit of the watermarks and the other does not."""
    while True:
        floor = r.random() < 0.5  # a small HighMem at the lower limit, or a large Normal at the upper one
        high = r.choice([n for n in range(5, 16) if n != 8]) if floor else r.choice([n for n in range(36, 63)])
        low = r.randrange(66, 200) if floor else r.randrange(150, 420)
        memfrac = r.sample([96, 144, 160, 192, 224, 256] if floor else [40, 48, 56, 72, 80], 3)
        raw = (low * MIB - 4096) // memfrac[1], high * MIB // memfrac[2]
        if raw[1] < 20 < 85 < raw[0] < 250 if floor else raw[0] > 260 and 90 < raw[1] < 250:
            return {"ram_mib": low + high, "highmem_mib": high, "memfrac": memfrac}


def watermark_oracle(q: Any) -> dict[str, Any]:
    part = models.core_zones(ratio=q["memfrac"])
    sizes = part.zones_size(*models.low_and_high(q["ram_mib"], q["highmem_mib"]))
    return {
        "sizes": sizes,
        "normal": list(part.watermarks(1, sizes[1])),
        "highmem": list(part.watermarks(2, sizes[2])),
        "wait": [part.wait_table_size(sizes[1]), part.wait_table_size(sizes[2])],
    }


def _marks(name: str, rule: Callable[[Any, int, int], list[int]]) -> list[tuple[str, Callable[[Any], list[int]]]]:
    """(criterion, wrong answer) for Normal and HighMem under a wrong *rule*(question, zone number, pages)."""

    def of(j: int) -> Callable[[Any], list[int]]:
        return lambda q: rule(q, j, watermark_oracle(q)["sizes"][j])

    return [("normal", of(1)), ("highmem", of(2))]


def _mark_mistakes() -> list[Mistake]:
    rules: list[tuple[str, str, Callable[[Any, int, int], list[int]]]] = [
        (
            "no-clamp",
            "pages_min has limits: whatever the division gives, it is never below 20 nor above 255 pages.",
            lambda q, j, n: [k * (n // q["memfrac"][j]) for k in (1, 2, 3)],
        ),
        (
            "late-clamp",
            "Only pages_min is limited to 20…255; pages_low and pages_high are twice and three times the limited pages_min.",
            lambda q, j, n: [clamp(k * (n // q["memfrac"][j])) for k in (1, 2, 3)],
        ),
        (
            "low-high-unlimited",
            "pages_low and pages_high are multiples of pages_min after it was limited, not of the plain quotient.",
            lambda q, j, n: [clamp(n // q["memfrac"][j]), 2 * (n // q["memfrac"][j]), 3 * (n // q["memfrac"][j])],
        ),
        (
            "default-ratio",
            "This machine boots with memfrac=, so the divisor is not the usual 128.",
            lambda q, j, n: [k * clamp(n // 128) for k in (1, 2, 3)],
        ),
        (
            "first-ratio",
            "memfrac= gives one divisor a zone, in the order DMA, Normal, HighMem; you used the one for DMA.",
            lambda q, j, n: [k * clamp(n // q["memfrac"][0]) for k in (1, 2, 3)],
        ),
        (
            "quadruple",
            "pages_high is three times pages_min, not four times.",
            lambda q, j, n: [k * clamp(n // q["memfrac"][j]) for k in (1, 2, 4)],
        ),
        (
            "whole-zone",
            "The divisor divides the zone's own pages, not all the pages of the machine.",
            lambda q, j, n: [k * clamp(q["ram_mib"] * MIB // q["memfrac"][j]) for k in (1, 2, 3)],
        ),
    ]
    return [Mistake(name, says, gives=gives, criterion=criterion) for name, says, rule in rules for criterion, gives in _marks(name, rule)]


def _wait(rule: Callable[[int], int]) -> Callable[[Any], list[int]]:
    return lambda q: [rule(n) for n in watermark_oracle(q)["sizes"][1:]]


def _low(q: Any) -> int:
    return int(q["ram_mib"] - q["highmem_mib"]) * MIB


WATERMARKS = calculation(
    "watermarks",
    "Zones, watermarks and wait tables of one machine",
    4,
    answer="watermarks",
    inputs=watermark_inputs,
    oracle=watermark_oracle,
    text=lambda q: (
        f"A PC has {q['ram_mib']} MiB of RAM (count all of it as RAM, from address 0) and boots with highmem={q['highmem_mib']}M "
        f"memfrac={','.join(map(str, q['memfrac']))}. Give the pages of DMA, Normal and HighMem; the watermarks "
        "[pages_min, pages_low, pages_high] of Normal and of HighMem; and how many wait queues Normal and HighMem get."
    ),
    parts={
        "sizes": (1, "pages of DMA, Normal and HighMem"),
        "normal": (1, "the watermarks of Normal"),
        "highmem": (1, "the watermarks of HighMem"),
        "wait": (1, "the wait tables of Normal and HighMem"),
    },
    mistakes=[
        Mistake(
            "mib",
            "Sizes are counted in pages of 4 KiB (256 to a MiB), not in MiB.",
            criterion="sizes",
            gives=lambda q: [16, q["ram_mib"] - q["highmem_mib"] - 16, q["highmem_mib"]],
        ),
        Mistake(
            "kib",
            "Sizes are counted in pages of 4 KiB, not in KiB.",
            criterion="sizes",
            gives=lambda q: [16384, 4 * _low(q) - 16384, 1024 * q["highmem_mib"]],
        ),
        Mistake(
            "end-not-size",
            "The size of Normal is where it ends less where it begins: the first 16 MiB belong to DMA.",
            criterion="sizes",
            gives=lambda q: [4096, _low(q), q["highmem_mib"] * MIB],
        ),
        Mistake(
            "no-highmem",
            "The parameter highmem= takes its part from the top of RAM, on a small machine too, and Normal ends below it.",
            criterion="sizes",
            gives=lambda q: [4096, q["ram_mib"] * MIB - 4096, 0],
        ),
        Mistake(
            "high-twice",
            "highmem= does not add memory: what HighMem gets, Normal loses.",
            criterion="sizes",
            gives=lambda q: [4096, q["ram_mib"] * MIB - 4096, q["highmem_mib"] * MIB],
        ),
        *_mark_mistakes(),
        Mistake(
            "wait-plain", "The hash needs a power of two: round size/256 up to one.", criterion="wait", gives=_wait(lambda n: n // 256)
        ),
        Mistake(
            "wait-down",
            "Round up to the next power of two, not down.",
            criterion="wait",
            gives=_wait(lambda n: models.below_power(n // 256)),
        ),
        Mistake(
            "wait-pages",
            "One wait queue serves 256 pages: divide the size by 256 before rounding up.",
            criterion="wait",
            gives=_wait(models.above_power),
        ),
    ],
    hint="Low memory is what highmem= leaves; the limits of pages_min are 20 and 255.",
)


# --- page->flags


def flags_inputs(r: random.Random) -> dict[str, Any]:
    """A struct page on a machine with two nodes: its flags word, its address, and where each zone's map and memory begin."""
    node_sizes = [[4096, MIB * r.randrange(24, 60), MIB * r.randrange(10, 40)], [0, MIB * r.randrange(30, 90), MIB * r.randrange(10, 40)]]
    table: dict[int, dict[str, int]] = {}
    sizes: dict[int, int] = {}
    pfn, at = 0, PAGE_OFFSET + 0x1000020
    for node, zones in enumerate(node_sizes):
        for j, size in enumerate(zones):
            if size:
                table[node * 3 + j] = {"zone_mem_map": at, "zone_start_paddr": pfn << PAGE_SHIFT}
                sizes[node * 3 + j] = size
            at += size * SIZEOF_PAGE
            pfn += size
        at += SIZEOF_PAGE * r.randrange(1000, 5000)  # what else the node keeps before the next node's map
    index = r.choice([1, 2, 4, 5])
    bits = r.sample([0, 1, 2, 3, 4, 6, 7, 8, 14, 15], r.randrange(3, 5)) + ([PG_highmem] if index % 3 == 2 else [])
    page = table[index]["zone_mem_map"] + SIZEOF_PAGE * r.randrange(100, sizes[index] - 100)
    return {"page": page, "flags": index << ZONE_SHIFT | sum(1 << b for b in bits), "sizeof_page": SIZEOF_PAGE, "zone_table": table}


def flags_oracle(q: Any) -> dict[str, Any]:
    index = q["flags"] >> ZONE_SHIFT
    return {"zone": ZONE_NAMES[index % 3], "node": index // 3, "flags": flag_names(q["flags"]), "paddr": _paddr(q)}


def _paddr(q: Any, sizeof: int = SIZEOF_PAGE, shift: int = PAGE_SHIFT, start: bool = True) -> int:
    zone = q["zone_table"][q["flags"] >> ZONE_SHIFT]
    return int((zone["zone_start_paddr"] if start else 0) + ((q["page"] - zone["zone_mem_map"]) // sizeof << shift))


def _names_from_bit(q: Any, base: int) -> list[str]:
    return [PAGE_FLAG_NAMES[b + base] for b in range(17) if q["flags"] >> b & 1 and b + base in PAGE_FLAG_NAMES]


FLAGS = calculation(
    "page-flags",
    "Read one struct page",
    3,
    answer="page",
    inputs=flags_inputs,
    oracle=flags_oracle,
    text=lambda q: (
        f"On a machine with two nodes, the struct page at {q['page']:#x} has flags {q['flags']:#010x}. zone_table says where each zone's "
        "part of mem_map (zone_mem_map, a virtual address) and its memory (zone_start_paddr, a physical address) begin. Say in which "
        "zone (its name) and node the page frame is, which flags are set (names without PG_, lowest bit first), and the physical "
        "address of the frame in bytes."
    ),
    parts={
        "zone": (0.5, "the zone"),
        "node": (0.5, "the node"),
        "flags": (1, "the flags that are set"),
        "paddr": (1, "the physical address of the frame"),
    },
    mistakes=[
        Mistake(
            "index-as-node",
            "The top byte is an index into zone_table, node × 3 + zone; it is not the node itself.",
            criterion="node",
            gives=lambda q: q["flags"] >> 24,
        ),
        Mistake(
            "zone-as-number",
            "Give the zone's name: 'DMA', 'Normal' or 'HighMem'.",
            criterion="zone",
            detect=lambda q, got: isinstance(got["zone"], int),
        ),
        Mistake(
            "node-forgotten",
            "Each node has three entries in zone_table: the zone is the index modulo 3.",
            criterion="zone",
            detect=lambda q, got: got["zone"] != ZONE_NAMES[(q["flags"] >> 24) % 3] and got["zone"] == ZONE_NAMES[min(q["flags"] >> 24, 2)],
        ),
        Mistake("bit-from-one", "Bits are counted from 0: PG_locked is bit 0.", criterion="flags", gives=lambda q: _names_from_bit(q, -1)),
        Mistake(
            "highest-first",
            "The names are asked for from the lowest bit up.",
            criterion="flags",
            gives=lambda q: flag_names(q["flags"])[::-1],
        ),
        Mistake(
            "prefix",
            "Write the names without PG_: 'locked', not 'PG_locked'.",
            criterion="flags",
            gives=lambda q: ["PG_" + name for name in flag_names(q["flags"])],
        ),
        Mistake(
            "frame-number",
            "That is the frame's number; its address in bytes is 4096 times that.",
            criterion="paddr",
            gives=lambda q: flags_oracle(q)["paddr"] >> PAGE_SHIFT,
        ),
        Mistake(
            "virtual",
            "That is the kernel's virtual address; the physical one is 0xc0000000 less.",
            criterion="paddr",
            gives=lambda q: flags_oracle(q)["paddr"] + PAGE_OFFSET,
        ),
        Mistake(
            "zone-start",
            "A frame's place in zone_mem_map is counted from the start of its zone: add zone_start_paddr.",
            criterion="paddr",
            gives=lambda q: _paddr(q, start=False),
        ),
        Mistake(
            "bytes-as-pages",
            "Divide the distance by the size of a struct page (48 bytes) before you count frames.",
            criterion="paddr",
            gives=lambda q: _paddr(q, sizeof=1),
        ),
        Mistake(
            "not-scaled",
            "One struct page stands for a frame of 4096 bytes: multiply the number of frames by 4096.",
            criterion="paddr",
            gives=lambda q: _paddr(q, shift=0),
        ),
    ],
    hint="page_zone() is zone_table[flags >> 24]; the frame follows from the page's place in its zone's part of mem_map.",
)


# --- the order of set-up

LINES = {
    "A": "for each zone that has pages: put every page on the free list of order 0",
    "B": "for each zone that has pages: choose the size of its wait table and take the table from boot memory",
    "C": "when all zones of the node stand: fill the node's 16 zonelists",
    "D": "take (total + 1) × sizeof(struct page) bytes from boot memory for mem_map, and align its start",
    "E": "for each zone that has pages: take a pair bitmap for each order from 0 to 8 from boot memory",
    "F": "for each zone that has pages: take a pair bitmap for order 9 from boot memory",
    "G": "for each zone that has pages: mark its pages reserved, count 0, with the zone's index in the top byte of flags",
    "H": "add up the sizes of the node's zones",
    "I": "for each zone that has pages: fill the zonelists that begin with it",
    "J": "for each zone that has pages: set pages_min, pages_low and pages_high",
}
# Within one zone only boot memory ties the steps: the wait table is taken before the bitmaps. The rest may go in any order.
MIDDLES = [a + b + c + d for a in "BJGE" for b in "BJGE" for c in "BJGE" for d in "BJGE" if len({a, b, c, d}) == 4]
ORDERS = sorted((m for m in MIDDLES if m.index("B") < m.index("E")), key=lambda m: m != "BJGE")


def _after(first: str, second: str) -> Callable[[Any, Any], bool]:
    """Detects an answer with both lines, *first* not before *second*."""
    return lambda q, got: list(got).index(first) > list(got).index(second)


PARSONS = parsons(
    "set-up",
    "The steps of free_area_init_core",
    2,
    answer="set_up",
    lines=LINES,
    orders=[f"HD{m}C" for m in ORDERS],
    mistakes=[
        Mistake(
            "free-at-once",
            "No page is free yet: all start reserved, and only the retiring boot allocator (chapter 5) frees them.",
            detect=lambda q, got: "A" in got,
        ),
        Mistake("order-9", "Blocks of the largest order never merge, so order 9 needs no pair bitmap.", detect=lambda q, got: "F" in got),
        Mistake(
            "lists-early",
            "Zonelists are filled once, after the last zone: a list names several zones, and must know which are empty.",
            detect=lambda q, got: "I" in got,
        ),
        Mistake(
            "no-total", "mem_map covers the whole node: its size must be added up before memory for it is taken.", detect=_after("H", "D")
        ),
        Mistake(
            "map-late",
            "The zones' pages are marked in mem_map, so mem_map must be there before the first zone.",
            detect=lambda q, got: any(_after("D", x)(q, got) for x in "BJGE" if x in got),
        ),
        Mistake(
            "lists-before-zones",
            "The zonelists leave empty zones out, so they come last, when every zone has its size.",
            detect=lambda q, got: any(_after(x, "C")(q, got) for x in "BJGE" if x in got),
        ),
        Mistake(
            "bitmaps-first",
            "Both come from boot memory, and the kernel takes the wait table first: the addresses depend on it.",
            detect=_after("B", "E"),
        ),
    ],
    hint="Whatever takes boot memory happens in the kernel's order; what only fills in fields of one zone may be exchanged. "
    "Three lines do not belong.",
)
