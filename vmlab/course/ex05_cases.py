"""Chapter 5: the cases that code tasks are tried on, how they are judged, and the names of known misunderstandings."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from vmlab.hw.layout import PAGE_SIZE

from . import plain
from .ex05_oracles import alloc_steps, columns, flawed, mark_steps, real_boot
from .exercise import Case, Task, Verdict

Data = dict[str, Any]

# --- reserve and free ---------------------------------------------------------------------------------------------------------------

MARK_FLAWS = {
    "both-outward": "Freeing must round inwards: a page only partly inside the range may hold something else and stays reserved.",
    "both-inward": "Reserving must round outwards: a page that is touched at all, even by one byte, is reserved whole.",
    "from-zero": "A page index counts from the start of the node: subtract bdata.node_boot_start from the address first.",
    "count-pages": "It is the end of the range that is rounded up, not its size: 2 bytes across a page boundary touch two pages.",
    "newly": "Return how many pages were reserved already, not how many were newly reserved.",
    "bool": "Return the number of pages that were reserved already, not only whether there were any.",
    "truth": "Return the number of pages that were reserved already, not only whether there were any.",
    "returns-none": "reserve_bootmem_core has to return a number: how many of the pages were reserved already.",
    "bug-on-twice": "Reserving a page twice is allowed (the kernel only prints a remark); it is freeing a free page that is a BUG.",
    "no-bug": "Some orders must end in BUG(): size 0, an end past the node, a page to be freed that is free already.",
}


RAM_AT = (0, 16 << 20, 64 << 20)


def free_map(r: random.Random, pages: int) -> list[list[int]]:
    free, i = [], r.randrange(1, 4)
    while i < pages:
        end = min(pages, i + r.randrange(2, 10))
        free.append([i, end])
        i = end + r.randrange(1, 4)
    return free


def marks_case(r: random.Random, kind: str) -> Case:
    pages, start = r.randrange(24, 60), r.choice(RAM_AT)
    orders: list[list[Any]] = []
    free: list[list[int]]

    def piece(low: int, high: int) -> list[int]:
        """A byte range that covers pages low to high - 1 and some bytes of the pages beside them."""
        a = start + low * PAGE_SIZE - r.choice((0, 1, r.randrange(1, PAGE_SIZE)))
        b = start + high * PAGE_SIZE + r.choice((0, 1, r.randrange(1, PAGE_SIZE)))
        return [a, b - a]

    if kind in ("reserve", "twice"):
        free = free_map(r, pages) if kind == "twice" else [[0, pages]]
        if kind == "reserve":
            spots = sorted(r.sample(range(2, pages - 4, 4), 3))
            orders = [["reserve", *piece(s, s + r.randrange(2))] for s in spots]
            orders.append(["reserve", start + (pages - 1) * PAGE_SIZE + 7, 100])
            orders = [o for o in orders if o[2] > 0]
        else:
            orders = [["reserve", *piece(s, s + r.randrange(3, 9))] for s in r.sample(range(2, pages - 12), 3)]
    elif kind == "free":
        free = []
        at = 1
        while at < pages - 9:
            n = r.randrange(0, 5)
            orders.append(["free", *piece(at, at + n)])
            at += n + r.randrange(2, 4)
        orders = [o for o in orders if o[2] > 0]
        orders.append(["free", start + (pages - 3) * PAGE_SIZE + r.randrange(1, 9), 3 * PAGE_SIZE - 9])
    else:
        free = [[4, 9], [12, pages]]
        bad: dict[str, list[Any]] = {
            "free-twice": ["free", start + 3 * PAGE_SIZE, 2 * PAGE_SIZE],
            "size-0": [r.choice(["reserve", "free"]), start + PAGE_SIZE, 0],
            "past-end": [r.choice(["reserve", "free"]), start + (pages - 1) * PAGE_SIZE, 2 * PAGE_SIZE],
        }
        orders = [["free", start + 9 * PAGE_SIZE, 2 * PAGE_SIZE], bad[kind]]
    says = {
        "reserve": "reserving parts of pages",
        "twice": "reserving pages that are reserved already",
        "free": "freeing parts of pages",
        "free-twice": "freeing a page that is free",
        "size-0": "a size of 0",
        "past-end": "a range past the end of the node",
    }[kind]
    criteria = {"reserve": ("reserve", "twice"), "twice": ("reserve", "twice"), "free": ("free",)}.get(kind, ("bug",))
    return Case({"start": start, "pages": pages, "free": free, "orders": orders}, says, criteria)


def _order_words(order: list[Any]) -> str:
    return f"{order[0]} {order[2]} bytes at {order[1]:#x}"


def judge_marks(task: Task, case: Case, got: Any) -> Mapping[str, Verdict]:
    """Compare step by step; what reserve returns is a criterion of its own."""
    want = plain.normal(mark_steps(case.data))
    orders = case.data["orders"]
    if not isinstance(got, list):
        got = []
    pairs = list(zip(want, got, strict=False))
    shaped = [(w, g if isinstance(g, list) and len(g) == 2 or g == "BUG" else [None, None]) for w, g in pairs]

    def verdict(ok: bool, step: int, note: str) -> Verdict:
        where = "" if ok or step >= len(orders) else f"First difference: order {step + 1} ({_order_words(orders[step])})."
        return Verdict(ok, want, got, "" if ok else note, where)

    maps = next((i for i, (w, g) in enumerate(shaped) if (w if w == "BUG" else w[1]) != (g if g == "BUG" else g[1])), len(pairs))
    same_maps = maps == len(want) == len(got)
    twice = next((i for i, (w, g) in enumerate(shaped) if w == "BUG" or g == "BUG" or not plain.same(w[0], g[0])), len(pairs))
    crash = next((i for i, (w, g) in enumerate(pairs) if (w == "BUG") != (g == "BUG")), len(pairs))
    return {
        "reserve": verdict(same_maps, maps, "The free pages after a reserve_bootmem_core are not the right ones."),
        "free": verdict(same_maps, maps, "The free pages after a free_bootmem_core are not the right ones."),
        "twice": verdict(
            twice == len(want) == len(got), twice, "reserve_bootmem_core must return how many of the pages were reserved already."
        ),
        "bug": verdict(
            crash == len(pairs) and len(got) == len(want),
            crash,
            "BUG() must be called for a size of 0, for an end past the node, and when a page to be freed is free; nowhere else.",
        ),
    }


# --- allocate -----------------------------------------------------------------------------------------------------------------------

FLAWS = {
    "no-merge": "A request whose pages follow directly on the last one's starts in the rest of that last page (partial-page merging).",
    "merge-anywhere": "The rest of the last page may be used only if the pages found start right behind it (last_pos + 1 == start).",
    "page-after-not-needed": "First find pages for the whole request; the last page's rest is used only if they start right behind it.",
    "offset-not-aligned": "Inside the partial page, too, the address must be aligned: round last_offset up to align.",
    "takes-whole-pages": "After a merge only the pages for what does not fit into the rest are taken (none, if everything fits).",
    "size-as-offset": "last_offset is how much of page last_pos is used: after a merge, the aligned old offset plus the size.",
    "merges-large-align": "An alignment of more than a page cannot be met inside a page: then the rest of the last page stays unused.",
    "last-pos-kept": "When a merged request runs on into new pages, last_pos moves to the last of them.",
    "full-page-4096": "A page that is exactly full leaves last_offset 0: nothing can be merged into it.",
    "free-rest": "last_offset counts the bytes used in the last page, not those left.",
    "no-goal": "The search starts at the goal: its index is (goal - node_boot_start) // 4096, counted from the start of the node.",
    "no-restart": "When nothing is found from the goal on, the search starts once more from the beginning of the node.",
    "no-align": "The address must be a multiple of align: round the first page up, and go on in steps of align / 4096 pages.",
    "best-fit": "This allocator is first fit: the first run of free pages that is long enough, not the tightest.",
    "top-down": "The search goes upwards and takes the lowest run that is long enough.",
    "no-base": "Return a physical address: the index is counted from node_boot_start, which has to be added again.",
    "index": "Return an address in bytes, not the index of a page.",
    "round-down": "The size is rounded up to whole pages: 5000 bytes need two.",
    "one-more": "A size that is a whole number of pages needs no page more: round up with (size + 4095) // 4096.",
    "no-mark": "The pages that were taken must be marked in the map (set_bit), or the next request gets them as well.",
    "zero-for-none": "When nothing fits the answer is None; 0 would be the address of the first byte.",
    "no-bug": "A size of 0, or an alignment that is no power of two, must end in BUG().",
}


Request = list[int]


def alloc_case(r: random.Random, kind: str) -> Case:
    start = r.choice(RAM_AT)
    pages = r.randrange(24, 64)
    free = free_map(r, pages)
    requests: list[Request] = []
    small = [r.randrange(10, 1200) | 1 for _ in range(6)]
    if kind == "search":
        requests = [[PAGE_SIZE * r.randrange(1, 5), r.choice((32, PAGE_SIZE)), 0] for _ in range(6)]
    elif kind == "goal":
        requests = [
            [
                PAGE_SIZE * r.randrange(1, 4),
                PAGE_SIZE << r.randrange(4),
                start + r.randrange(-3 if start else 0, pages + 9) * PAGE_SIZE + r.randrange(9),
            ]
            for _ in range(7)
        ]
        requests.insert(0, [2 * PAGE_SIZE, PAGE_SIZE, start + (pages - 1) * PAGE_SIZE])  # no room there: the second search must find it
    elif kind == "large-align":
        free = [[1, pages]]
        requests = [[small[0], 32, 0], [small[1], 8192, 0], [small[2], 32, 0], [small[3], 16384, 0], [small[4], 64, 0]]
    elif kind == "rest":
        free = [[r.randrange(3), 20]]
        requests = [[size, r.choice((4, 32, 64)), 0] for size in small]
    elif kind == "spill":
        requests = [[r.randrange(600, 9000), r.choice((16, 32, 128)), 0] for _ in range(7)]
    elif kind == "exact":
        free = [[2, pages]]
        requests = [
            [small[0], 32, 0],
            [PAGE_SIZE - -(-small[0] // 32) * 32, 32, 0],
            [small[1], 32, 0],
            [PAGE_SIZE - 3, 32, 0],
            [small[2], 64, 0],
            [small[3], 4096, 0],
        ]
    elif kind == "blocked":
        gap = r.randrange(2, 5)
        free = [[0, 1], [gap, gap + 2], [gap + 3, pages]]
        requests = [
            [small[0], 32, 0],
            [small[1], 32, 0],
            [small[2], 64, 0],
            [PAGE_SIZE + 3000, 32, 0],
            [small[3], 32, 0],
            [small[4], 8192, 0],
            [small[5], 32, 0],
        ]
    elif kind == "jump":
        requests = [[r.randrange(10, 5000), 32, r.choice((0, 0, start + r.randrange(pages) * PAGE_SIZE))] for _ in range(9)]
    elif kind == "none":
        longest = max(b - a for a, b in free)
        one = [PAGE_SIZE, 32, 0]
        requests = [one, [(longest + 1) * PAGE_SIZE, 32, start + 5 * PAGE_SIZE], one, [(pages + 3) * PAGE_SIZE, 32, 0], one]
    elif kind == "size-0":
        requests = [[small[0], 32, 0], [0, 32, 0]]
    elif kind == "align":
        requests = [[small[0], 32, 0], [small[1], r.choice((3, 24, 48, 100, 12288)), 0]]
    elif kind == "boot":
        return Case(real_boot(r.randrange(17, 90)), "all requests of a real boot", ("boot",))
    criteria = {"search": "search", "goal": "goal", "none": "refuse", "size-0": "refuse", "align": "refuse"}.get(kind, "merge")
    says = {
        "search": "whole pages, no goal",
        "goal": "goals and alignments",
        "rest": "small requests that share pages",
        "spill": "requests that run on into new pages",
        "exact": "pages that are filled exactly",
        "large-align": "alignments of more than a page",
        "blocked": "reserved pages behind the partial one",
        "jump": "small requests in two places",
        "none": "requests that do not fit",
        "size-0": "a request for 0 bytes",
        "align": "an alignment that is no power of two",
    }[kind]
    return Case({"start": start, "pages": pages, "free": free, "requests": requests}, says, (criteria,))


def judge_alloc(task: Task, case: Case, got: Any) -> Verdict:
    """Compare address, last_pos, last_offset and the map after each request with the core's."""
    want = plain.normal(alloc_steps(case.data))
    if plain.same(want, got):
        return Verdict(True, want, got)
    steps = got if isinstance(got, list) else []
    requests = case.data["requests"]
    i = next((i for i, (w, g) in enumerate(zip(want, steps, strict=False)) if not plain.same(w, g)), min(len(want), len(steps)))
    if i >= len(requests):
        return Verdict(False, want, got, "After the last request, the free pages in the map are not the right ones.")
    w, g = want[i], steps[i] if i < len(steps) else None
    size, align, goal = requests[i]
    at = f"At request {i + 1} ({size} bytes, align {align}, goal {goal}): "
    if not isinstance(w, list) or not isinstance(g, list):
        note = "A request that must end in BUG() did not." if w == "BUG" else "BUG() was called for an ordinary request."
        return Verdict(False, want, got, note, at + f"expected {plain.show(w, 80)}, got {plain.show(g, 80)}.")
    names = ("the address", "last_pos", "last_offset", "the free pages in the map")
    k = next((k for k in range(min(len(w), len(g))) if not plain.same(w[k], g[k])), 0)
    return Verdict(
        False,
        want,
        got,
        f"The first thing to differ is {names[k]}.",
        at + f"{names[k]}: expected {plain.show(w[k], 80)}, got {plain.show(g[k], 80)}.",
    )


def public_alloc(r: random.Random) -> list[Case]:
    return [
        Case(
            {"start": 0, "pages": 12, "free": [[1, 3], [5, 12]], "requests": [[4096, 4096, 0], [12288, 4096, 0], [4000 + 96, 32, 0]]},
            "whole pages, no goal",
            ("search",),
        ),
        Case(
            {
                "start": 16 << 20,
                "pages": 16,
                "free": [[1, 16]],
                "requests": [[4096, 8192, 0], [4096, 4096, (16 << 20) + 40000], [4096, 4096, 4096], [16384, 16384, (16 << 20) + 61440]],
            },
            "goals and alignments, on a node that starts at 16 MiB",
            ("goal",),
        ),
        Case(
            {
                "start": 0,
                "pages": 8,
                "free": [[1, 2], [3, 8]],
                "requests": [[100, 32, 0], [50, 32, 0], [100, 32, 0], [4096, 32, 0], [3872, 32, 0], [10, 32, 0]],
            },
            "small requests that share pages",
            ("merge",),
        ),
        Case(
            {"start": 0, "pages": 8, "free": [[1, 2], [3, 5]], "requests": [[12288, 32, 0], [100, 32, 0], [0, 32, 0]]},
            "requests that cannot be met",
            ("refuse",),
        ),
        Case(real_boot(64), "all requests of a real boot, 64 MiB", ("boot",)),
    ]


# --- perform ------------------------------------------------------------------------------------------------------------------------


def features(q: Data) -> tuple[str, ...]:
    """Which features a series of requests shows: rest, spill, blocked, goal, align."""
    steps = alloc_steps(q)
    found: set[str] = set()
    used = 0
    for (size, align, goal), step in zip(q["requests"], steps, strict=True):
        if step[0] is None:
            return ()
        if step[0] % PAGE_SIZE:
            found.add("spill" if step[0] % PAGE_SIZE + size > PAGE_SIZE else "rest")
        elif used and align <= PAGE_SIZE and not goal:
            found.add("blocked")
        if align > PAGE_SIZE:
            found.add("align")
        if goal:
            found.add("goal")
        used = step[2]
    return tuple(sorted(found))


def requests_inputs(r: random.Random) -> Data:
    while True:
        pages = 24
        free = free_map(r, pages)
        requests: list[list[int]] = []
        for _ in range(6):
            kind = r.randrange(8)
            size = r.choice((r.randrange(100, 2000), r.randrange(100, 2000), r.randrange(2000, 9000)))
            align = r.choice((32, 32, 64, 256)) if kind else 8192
            requests.append([size, align, r.randrange(6, 18) * PAGE_SIZE if kind == 1 else 0])
        q = {"start": 0, "pages": pages, "free": free, "requests": requests}
        if len(features(q)) == 5:
            answers = [
                columns(flawed(q, flaw)) for flaw in ("no-merge", "offset-not-aligned", "page-after-not-needed", "takes-whole-pages")
            ]
            if columns(alloc_steps(q)) not in answers:
                return q


def requests_text(q: Data) -> str:
    free = ", ".join(f"{a} to {b - 1}" for a, b in q["free"])
    asked = "; ".join(
        f"{size} bytes, align {align}, " + (f"goal {goal} (page {goal // PAGE_SIZE})" if goal else "no goal")
        for size, align, goal in q["requests"]
    )
    return (
        f"A node starts at address 0 and has {q['pages']} pages. Free are pages {free}; last_pos and last_offset are 0. "
        f"These requests arrive one after the other: {asked}. Give the address (in bytes), last_pos and last_offset after each."
    )
