"""The graded exercise of chapter 5, the boot memory allocator: its tasks, cases and judges. Right answers come from the core."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from vmlab.hw.layout import PAGE_SIZE

from .ex05_cases import FLAWS, MARK_FLAWS, alloc_case, judge_alloc, judge_marks, marks_case, public_alloc, requests_inputs, requests_text
from .ex05_oracles import alloc_steps, boot_map, columns, costs, flawed, flawed_marks
from .exercise import Case, Criterion, Drive, Exercise, Mistake, analyse, calculation, code, parsons, perform

ID = "05-bootmem"
Data = dict[str, Any]

# --- 1 the size and place of the boot map -------------------------------------------------------------------------------------------


def _bitmap_inputs(r: random.Random) -> Data:
    while True:
        pages = r.randrange(5000, 229_000)
        if pages // 8 != -(-pages // 8) and -(-pages // 8) % 4:  # both roundings matter
            return {"ram_kib": pages * 4, "kernel_end": r.randrange(0x280000, 0x480000) | 8, "big_mib": r.randrange(1000, 4000, 50)}


def _bitmap_text(q: Data) -> str:
    return (
        f"A PC has {q['ram_kib']} KiB of RAM. Its firmware reports two usable ranges: bytes 0 to 0x9fc00 (639 KiB), and 1 MiB to the "
        f"end of RAM. The kernel image reaches from 1 MiB to {q['kernel_end']:#x} (the first byte after it). "
        f"setup_memory has just finished. (The last part is about another PC, with {q['big_mib']} MiB.)"
    )


def _bm(q: Data) -> int:
    return int(boot_map(q)["bitmap_bytes"])


BITMAP = calculation(
    "boot-map",
    "The boot map of your machine",
    5,
    answer="boot_map",
    inputs=_bitmap_inputs,
    text=_bitmap_text,
    oracle=boot_map,
    parts={
        "bitmap_bytes": (1, "size of the boot map in bytes"),
        "bitmap_pfn": (1, "frame the boot map starts in"),
        "next_free_pfn": (1, "first free frame above the kernel and the boot map"),
        "free_pages": (1, "pages the boot map calls free"),
        "big_bitmap_bytes": (1, "size of the boot map, in bytes, on the larger machine"),
    },
    mistakes=[
        Mistake(
            "byte-a-page",
            "The boot map has one bit for each page, not one byte.",
            gives=lambda q: q["ram_kib"] // 4,
            criterion="bitmap_bytes",
        ),
        Mistake(
            "no-long",
            "After rounding up to whole bytes, the size is rounded up once more, to whole longs (4 bytes).",
            gives=lambda q: (q["ram_kib"] // 4 + 7) // 8,
            criterion="bitmap_bytes",
        ),
        Mistake(
            "floor",
            "The last pages need bits as well: round up, not down.",
            detect=lambda q, got: got["bitmap_bytes"] in (q["ram_kib"] // 32, q["ram_kib"] // 32 // 4 * 4),
            criterion="bitmap_bytes",
        ),
        Mistake(
            "whole-pages",
            "The question is about the bytes of the boot map itself, not about the whole pages it sits in.",
            gives=lambda q: -(-_bm(q) // PAGE_SIZE) * PAGE_SIZE,
            criterion="bitmap_bytes",
        ),
        Mistake(
            "pfn-down",
            "The frame the kernel ends in is partly used: the boot map starts in the next one (PFN_UP, not PFN_DOWN).",
            gives=lambda q: q["kernel_end"] // PAGE_SIZE,
            criterion="bitmap_pfn",
        ),
        Mistake(
            "address",
            "Give the number of the frame (address divided by 4096), not the address.",
            gives=lambda q: -(-q["kernel_end"] // PAGE_SIZE) * PAGE_SIZE,
            criterion="bitmap_pfn",
        ),
        Mistake(
            "round-once",
            "setup_memory adds PAGE_SIZE - 1 to the size and reserve_bootmem rounds up again: one page after the boot map stays reserved.",
            detect=lambda q, got: got["next_free_pfn"] == boot_map(q)["next_free_pfn"] - 1,
            criterion="next_free_pfn",
        ),
        Mistake(
            "no-map",
            "Above the kernel image comes the boot map itself, and it is reserved as well.",
            detect=lambda q, got: got["next_free_pfn"] in (boot_map(q)["bitmap_pfn"], boot_map(q)["bitmap_pfn"] + 1),
            criterion="next_free_pfn",
        ),
        Mistake(
            "frame-0",
            "Frame 0 is RAM, but setup_memory reserves it for the BIOS.",
            gives=lambda q: boot_map(q)["free_pages"] + 1,
            criterion="free_pages",
        ),
        Mistake(
            "half-page",
            "639 KiB are 159 pages and three quarters; a page that is only partly RAM stays reserved.",
            detect=lambda q, got: got["free_pages"] in (boot_map(q)["free_pages"] + 1, boot_map(q)["free_pages"] + 2),
            criterion="free_pages",
        ),
        Mistake(
            "hole",
            "The range from 640 KiB to 1 MiB is no RAM: its bits were set at the start and nobody clears them.",
            detect=lambda q, got: 90 <= got["free_pages"] - boot_map(q)["free_pages"] <= 98,
            criterion="free_pages",
        ),
        Mistake(
            "low-lost",
            "There is free memory below the kernel, too: the first 639 KiB.",
            detect=lambda q, got: -159 <= got["free_pages"] - boot_map(q)["free_pages"] <= -157,
            criterion="free_pages",
        ),
        Mistake(
            "round-once-free",
            "One page after the boot map stays reserved as well, because the size is rounded up twice.",
            gives=lambda q: boot_map(q)["free_pages"] + 1,
            criterion="free_pages",
        ),
        Mistake(
            "high",
            "The boot map covers low memory only: at most 896 MiB, however much RAM there is.",
            detect=lambda q, got: abs(got["big_bitmap_bytes"] - q["big_mib"] * 32) < 8,
            criterion="big_bitmap_bytes",
        ),
    ],
    hint="§5.1 and §5.2 of the lesson: print vmlab.Machine(...).boot_log after the stage setup_memory on a machine of your choice.",
)

# --- 2 reserve and free ---------------------------------------------------------------------------------------------------------------

MARKS = code(
    "marks",
    "Reserve and free",
    ask=Drive("bootmem:drive_marks", "reserve_bootmem_core", "free_bootmem_core"),
    judge=judge_marks,
    seconds=3,
    criteria=[
        Criterion("reserve", 1, "which pages get reserved"),
        Criterion("free", 1, "which pages become free"),
        Criterion("twice", 1, "how many were reserved already"),
        Criterion("bug", 1, "what must stop the kernel"),
    ],
    public=lambda r: [
        Case(
            {
                "start": 0,
                "pages": 16,
                "free": [[0, 16]],
                "orders": [["reserve", 4096, 4096], ["reserve", 12000, 600], ["reserve", 8192, 5000]],
            },
            "reserving parts of pages",
            ("reserve", "twice"),
        ),
        Case(
            {"start": 16 << 20, "pages": 16, "free": [], "orders": [["free", (16 << 20) + 100, 20000], ["free", (16 << 20) + 24600, 4000]]},
            "freeing parts of pages, on a node that starts at 16 MiB",
            ("free",),
        ),
        Case(
            {"start": 0, "pages": 16, "free": [[4, 8]], "orders": [["free", 3 * 4096, 2 * 4096]]}, "freeing a page that is free", ("bug",)
        ),
        Case(
            {"start": 0, "pages": 16, "free": [[4, 8]], "orders": [["reserve", 15 * 4096, 4097]]},
            "a range past the end of the node",
            ("bug",),
        ),
    ],
    hidden=lambda r: [
        marks_case(r, kind) for kind in ("reserve", "reserve", "twice", "twice", "free", "free", "free-twice", "size-0", "past-end")
    ],
    mistakes=[Mistake(flaw, says, gives=partial(flawed_marks, flaw=flaw)) for flaw, says in MARK_FLAWS.items()],
    hint="Draw the byte range across the page boundaries: which pages does it touch, and which does it cover?",
)

# --- 3 perform the algorithm ----------------------------------------------------------------------------------------------------------


KEYS = ("address", "last_pos", "last_offset")


def _column(q: Data, flaw: str, key: str) -> list[Any]:
    return columns(flawed(q, flaw))[key]


REQUESTS = perform(
    "requests",
    "Be the allocator",
    4,
    answer="requests",
    inputs=requests_inputs,
    text=requests_text,
    oracle=lambda q: columns(alloc_steps(q)),
    parts={
        "address": (2, "the address of each request"),
        "last_pos": (1, "last_pos after each request"),
        "last_offset": (1, "last_offset after each request"),
    },
    mistakes=[
        Mistake(f"{flaw}-{key}", FLAWS[flaw], gives=partial(_column, flaw=flaw, key=key), criterion=key)
        for key in KEYS
        for flaw in (
            "no-merge",
            "page-after-not-needed",
            "merge-anywhere",
            "offset-not-aligned",
            "takes-whole-pages",
            "size-as-offset",
            "merges-large-align",
            "last-pos-kept",
            "full-page-4096",
            "free-rest",
            "no-goal",
            "no-align",
            "best-fit",
            "round-down",
        )
    ]
    + [
        Mistake(
            "pages",
            "Give addresses in bytes, not page numbers.",
            detect=lambda q, got: [a // PAGE_SIZE for a in columns(alloc_steps(q))["address"]] == got["address"],
            criterion="address",
        ),
        Mistake(
            "count",
            "One number for each request is needed, in the order of the requests.",
            detect=lambda q, got: any(isinstance(got[k], list) and len(got[k]) != len(q["requests"]) for k in KEYS),
        ),
    ],
    hint="Take the requests one at a time: whole pages first, then see whether they start at last_pos + 1.",
)

# --- 4 and 6 orderings ------------------------------------------------------------------------------------------------------------------

ALLOC_ORDER = parsons(
    "alloc-order",
    "The steps of __alloc_bootmem_core",
    2,
    answer="alloc_order",
    lines={
        "A": "mark the pages from start on as reserved, as many as are still needed",
        "B": "look upwards from the goal for a first page, start, from which enough pages in a row are free",
        "C": "round the size up to whole pages, and the goal up to the alignment",
        "D": "sort the runs of free pages by length and take the shortest that is long enough",
        "E": "if start is last_pos + 1 and that last page has room: begin in its rest; count how many whole pages are still needed",
        "F": "fill the memory with zeroes and return its address",
        "G": "if nothing was found: look once more, from the first page of the node; if there is still nothing, return None",
        "H": "if there is room in page last_pos for the whole request: return its address at once, without any search",
        "I": "remember in last_pos and last_offset where this allocation ends",
        "J": "put the unused rest of the last page on a list of small pieces",
    },
    orders=["CBGEIAF", "CBGEAIF"],
    mistakes=[
        Mistake(
            "best-fit", "Line D is best fit; the boot allocator takes the first run that is long enough.", detect=lambda d, got: "D" in got
        ),
        Mistake(
            "merge-first",
            "Line H would be quicker, but the kernel always searches for whole pages first and merges only afterwards.",
            detect=lambda d, got: "H" in got,
        ),
        Mistake(
            "pieces",
            "Line J belongs to another allocator: bootmem remembers only one partial page, the last.",
            detect=lambda d, got: "J" in got,
        ),
        Mistake(
            "mark-early",
            "How many pages have to be marked is known only after the rest of the last page has been considered (E before A).",
            detect=lambda d, got: got.index("A") < got.index("E"),
        ),
        Mistake(
            "remember-early",
            "last_pos and last_offset describe the previous request until it has been compared with this one (E before I).",
            detect=lambda d, got: got.index("I") < got.index("E"),
        ),
        Mistake(
            "restart-early",
            "The second search (G) is needed only when the first (B) has found nothing.",
            detect=lambda d, got: got.index("G") < got.index("B"),
        ),
    ],
)

RETIRE_ORDER = parsons(
    "retire-order",
    "The steps of retirement",
    2,
    answer="retire_order",
    lines={
        "A": "forget the boot map: its pointer becomes NULL",
        "B": "free the pages the boot map itself occupied, one by one",
        "C": "merge the free pages into the largest possible blocks and put these on the free lists",
        "D": "go through the boot map from the first page of the node to the last",
        "E": "where the bit is 0: clear PG_reserved, set the count to 1 and free that one page to the buddy allocator",
        "F": "where the bit is 1: set the count to 1 and free that one page",
        "G": "do the same for high memory, from its first frame upwards",
        "H": "do the same for high memory, from its last frame downwards",
    },
    orders=["DEBAH"],
    mistakes=[
        Mistake(
            "blocks",
            "Pages are freed one at a time; the merging (C) is what the buddy allocator does by itself as they arrive.",
            detect=lambda d, got: "C" in got,
        ),
        Mistake(
            "bit", "A bit of 1 means reserved: those pages are in use and stay so (line F is wrong).", detect=lambda d, got: "F" in got
        ),
        Mistake(
            "upwards",
            "High memory is freed from the top down (see §5.5: why is its lowest block the first to be handed out?).",
            detect=lambda d, got: "G" in got,
        ),
        Mistake(
            "too-early",
            "The boot map must be read to the end before its own pages can be given away, and they are found through its pointer.",
            detect=lambda d, got: got.index("B") < got.index("D") or got.index("A") < got.index("B"),
        ),
    ],
)

# --- 5 your own allocator ---------------------------------------------------------------------------------------------------------------

KINDS = "search search goal goal rest spill spill exact blocked large-align jump jump none size-0 align boot".split()
ALLOC = code(
    "alloc-core",
    "Your own boot allocator",
    ask=Drive("bootmem:drive_alloc", "alloc_bootmem_core"),
    judge=judge_alloc,
    public=public_alloc,
    hidden=lambda r: [alloc_case(r, kind) for kind in KINDS],
    seconds=5,
    criteria=[
        Criterion("search", 2, "first fit over whole pages"),
        Criterion("goal", 2, "goal, alignment and the second search"),
        Criterion("merge", 3, "partial-page merging"),
        Criterion("refuse", 1, "requests that cannot be met"),
        Criterion("boot", 2, "a whole boot, request by request"),
    ],
    mistakes=[Mistake(flaw, says, gives=partial(flawed, flaw=flaw)) for flaw, says in FLAWS.items()]
    + [
        Mistake(
            "float",
            "Addresses are whole numbers: divide with //.",
            detect=lambda d, got: any(isinstance(x, float) for step in got if isinstance(step, list) for x in step[:3]),
        )
    ],
    hint="The Parsons task above has the steps; the lesson's §5.3 shows each of them on a small map.",
)

# --- 7 measure and decide ---------------------------------------------------------------------------------------------------------------


def _growth_near(q: Data, got: Any, wrong: float) -> bool:
    return isinstance(got["growth"], (int, float)) and abs(got["growth"] - wrong) <= 0.02 * abs(wrong)


SIZES = ((20, 24, 28, 32, 40, 48), (128, 192, 256, 320, 384, 512), (1024, 1280, 1536, 2048, 3072, 4096))  # MiB
COST = analyse(
    "search-cost",
    "What does searching cost?",
    4,
    answer="search_costs",
    inputs=lambda r: {"ram_mib": [r.choice(sizes) for sizes in SIZES]},
    text=lambda q: (
        f"Measure the boots of three machines: {', '.join(str(m) + ' MiB' for m in q['ram_mib'])}. For each: the bits tested with first "
        f"fit from the goal (2.4) and with the last_success hint (2.6), and how many pages more the boot takes without "
        f"partial-page merging (first fit)."
    ),
    oracle=costs,
    tolerance=0.005,
    parts={
        "bits_first_fit": (1, "bits tested from the goal, per machine"),
        "bits_hint": (1, "bits tested with the hint, per machine"),
        "extra_pages": (1, "pages lost without merging, per machine"),
        "growth": (1, "how many times more bits the largest machine tests than the smallest, with first fit"),
    },
    mistakes=[
        Mistake(
            "swapped",
            "These are the numbers of the other policy.",
            detect=lambda q, got: got["bits_first_fit"] == costs(q)["bits_hint"],
            criterion="bits_first_fit",
        ),
        Mistake(
            "swapped-2",
            "These are the numbers of the other policy.",
            detect=lambda q, got: got["bits_hint"] == costs(q)["bits_first_fit"],
            criterion="bits_hint",
        ),
        Mistake(
            "order",
            "The three machines are to be given in the order of the question.",
            detect=lambda q, got: any(
                isinstance(v, list) and v != costs(q)[k] and sorted(v) == sorted(costs(q)[k]) for k, v in got.items() if k in costs(q)
            ),
        ),
        Mistake(
            "total",
            "Asked is the difference: pages without merging minus pages with it.",
            detect=lambda q, got: all(v > 50 for v in got["extra_pages"]),
            criterion="extra_pages",
        ),
        Mistake(
            "ram-growth",
            "That is how much larger the RAM is; asked is how many times more bits are tested.",
            detect=lambda q, got: _growth_near(q, got, q["ram_mib"][-1] / q["ram_mib"][0]),
            criterion="growth",
        ),
        Mistake(
            "inverse",
            "The ratio is the wrong way round: largest machine divided by smallest.",
            detect=lambda q, got: _growth_near(q, got, 1 / costs(q)["growth"]),
            criterion="growth",
        ),
    ],
    hint='plug05.search_cost("64M", policy=…, merging=…) boots a machine and counts.',
)

EXERCISE = Exercise(ID, "Boot memory: a map, a search, a hand-over", (BITMAP, MARKS, REQUESTS, ALLOC_ORDER, ALLOC, RETIRE_ORDER, COST))
