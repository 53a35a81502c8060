"""Chapter 6, the code tasks: what `Allocating` and `Freeing` are tried on, and how their decisions are judged."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from vmlab.course import plain
from vmlab.course.ex06_bench import Bench, State, churned, claims, truth
from vmlab.course.exercise import Case, Task, Verdict

ODD_STARTS = (37, 1021, 4099, 32769 + 262)  # zones that do not begin at a multiple of anything, as highmem= can make them

# What each criterion looks at.
LOOKS: Mapping[str, tuple[str, ...]] = {
    "expand": ("returned", "lists", "bits"), "frame": ("returned",), "lists": ("lists",), "bits": ("bits",),
    "account": ("free_pages", "counts"), "none": ("returned", "lists", "free_pages"), "single": ("lists", "bits"), "merge": ("lists",),
    "pages": ("free_pages",), "top": ("returned", "lists", "bits"), "relative": ("returned", "lists", "bits"),
}
WORDS = {"returned": "the frame returned", "lists": "the free lists", "bits": "the pair bits that are 1", "free_pages": "zone.free_pages",
         "counts": "the page counts that were set"}

BUGS = {
    "not-listed": "list_del was asked to take a block off a list it is not on.",
    "no-map": "A pair bit of order 9 was toggled, but order 9 has no bitmap: its blocks are the largest and have no buddy to merge with.",
    "no-pair": "toggle_pair was given a pair that the zone does not have. Pairs are counted from the zone's first frame: the block's index "
               "in the zone (pfn - zone.start_pfn), shifted right by 1 + order.",
    "no-order": "A list was used whose order does not exist. The orders are 0 to 9; MAX_ORDER (10) is how many there are.",
    "listed-twice": "A block was put on a list that it is on already.",
    "no-frame": "Something that is no frame number was put on a list.",
    "endless": "One operation went on changing lists and bits without end: look at what ends the loop.",
}


def judge_decisions(task: Task, case: Case, got: Any) -> Mapping[str, Verdict]:
    """Replay what the student's class decided and compare each operation's outcome with the core's."""
    expected, mine = truth(case.data), claims(case.data, got)
    out: dict[str, Verdict] = {}
    for criterion in case.criteria or tuple(c.id for c in task.criteria):
        if mine is None:
            out[criterion] = Verdict(False, None, None, "The changes your class reports do not fit together: make every change with a "
                                                        "primitive of BuddyBase, and leave self.decisions alone.")
        else:
            out[criterion] = _verdict(case.data["ops"], expected, mine, LOOKS[criterion])
    return out


def _verdict(ops: Sequence[Sequence[Any]], expected: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]],
             looks: Sequence[str]) -> Verdict:
    for number, (op, right) in enumerate(zip(ops, expected, strict=True)):
        call = f"{op[0]}(zone, {', '.join(map(str, op[1:]))})"
        if len(ops) > 1:
            call += f", operation {number + 1} of {len(ops)}"
        if number >= len(mine):
            return Verdict(False, None, None, "The operations were not carried out to the end.")
        have = mine[number]
        if have["bug"]:
            note = BUGS.get(str(have["bug"][0]), "A primitive refused what it was asked for.")
            return Verdict(False, plain.normal(right[looks[0]]), str(have["bug"][1]), note, f"It happened in {call}.")
        for key in looks:
            want, got = plain.normal(right[key]), have[key]
            if not plain.same(want, got):
                return Verdict(False, want, got, _note(key, want, got), f"The first difference is in {WORDS[key]} after {call}.")
    last = plain.normal({WORDS[key]: expected[-1][key] for key in looks})
    return Verdict(True, last, last)


def _note(key: str, want: Any, got: Any) -> str:
    """What kind of difference it is, without giving hidden data away."""
    if key == "returned":
        if got is None:
            return "No frame was returned, although there was a block to give."
        if want is None:
            return "A frame was returned although no free block is large enough: the answer is None."
        if not isinstance(got, int) or isinstance(got, bool):
            return "What was returned is not a frame number."
        return "Another frame was returned than the kernel takes."
    if key == "lists":
        orders = [o for o in range(10) if sorted(want.get(o, [])) != sorted(got.get(o, []))]
        if not orders:
            return "The right blocks are on the lists, but not in the kernel's order."
        return f"{_the('free list', orders)} other blocks than in the kernel."
    if key == "bits":
        orders = [o for o in range(10) if sorted(want.get(o, [])) != sorted(got.get(o, []))]
        return f"{_the('bitmap', orders)} other bits than in the kernel."
    if key == "counts":
        return "set_page_count must be called once by rmqueue: for the first frame of the block it returns, with 1."
    return f"zone.free_pages is {'too high' if isinstance(got, int) and got > want else 'too low'}." if isinstance(got, (int, float)) \
        else "zone.free_pages is no longer a number."


def _the(what: str, orders: Sequence[int]) -> str:
    numbers = ", ".join(map(str, orders))
    return f"The {what} of order {numbers} holds" if len(orders) == 1 else f"The {what}s of order {numbers} hold"


# --- cases: Allocating -------------------------------------------------------------------------------------------------------------

BASIC = ("frame", "lists", "bits", "account")


def _case(state: State, ops: Sequence[Sequence[Any]], says: str, *criteria: str) -> Case:
    return Case(plain.normal({"zone": state, "ops": ops}), says, criteria)


def _whole(start: int, size: int) -> Bench:
    bench = Bench(start, size)
    for frame in range(start, start + size):
        bench.give(frame, 0)
    return bench


def _crowded(r: random.Random, start: int, size: int, share: float = 0.6) -> Bench:
    """A churned zone in which some list of order 0 to 2 holds several blocks, so that head, tail and lowest are different blocks."""
    while True:
        bench = churned(r, start, size, steps=size, share=share)
        lists = [area.blocks() for area in bench.zone.free_area[:3]]
        if any(len(x) > 2 and min(x) != x[0] != x[-1] for x in lists):
            return bench


def _expand(r: random.Random) -> Case:
    """The block to cut stands beside one of the same size that is free but for a few pages, so that no list is empty for certain."""
    while True:
        high = r.randrange(3, 8)
        low = r.randrange(0, high - 1)
        where = r.randrange(2) << high
        bench = Bench(0, 2 << high)
        for frame in range((1 << high) - where, (2 << high) - where):
            bench.give(frame, 0)
        for _ in range(r.randrange(1, 4)):
            bench.take(r.randrange(2))
        if any(area.free_list for area in bench.zone.free_area[low:high]):
            return _case(bench.state(), [["expand", where, low, high]], "a block cut down beside other free blocks", "expand")


def _exact(r: random.Random) -> Case:
    bench = _crowded(r, 0, 64)
    orders = [o for o in range(3) if len(bench.zone.free_area[o].free_list) > 1]
    return _case(bench.state(), [["rmqueue", r.choice(orders)]], "a zone with several free blocks of the order asked for", *BASIC)


def _splitting(r: random.Random) -> Case:
    bench = _whole(0, 1 << r.randrange(4, 8))
    return _case(bench.state(), [["rmqueue", r.randrange(0, 2)]], "one large free block, a small request", *BASIC)


def _series(r: random.Random) -> Case:
    bench = _crowded(r, 0, 128)
    return _case(bench.state(), [["rmqueue", r.randrange(3)] for _ in range(6)], "six requests in a row in a busy zone", *BASIC)


def _none(r: random.Random) -> Case:
    bench = churned(r, 0, 64, steps=80, share=0.8)
    order = max((o for o, area in enumerate(bench.zone.free_area) if area.free_list), default=-1) + r.randrange(1, 3)
    return _case(bench.state(), [["rmqueue", min(order, 9)]], "a request larger than any free block", "none")


def _top(r: random.Random) -> list[Case]:
    bench = _whole(0, 1536)
    ops = [["rmqueue", r.randrange(7, 9)], ["rmqueue", 9]]
    return [_case(bench.state(), [["rmqueue", 9]], "a request for a block of order 9", "top"),
            _case(bench.state(), ops, "a zone whose free blocks are all of order 9", "top")]


def _relative(r: random.Random) -> list[Case]:
    odd = _crowded(r, r.choice(ODD_STARTS), 100)
    even = _crowded(r, 4096, 64)
    ops = [["rmqueue", r.randrange(2)] for _ in range(5)]
    return [_case(odd.state(), ops, "a zone that starts at an odd frame number", "relative"),
            _case(even.state(), ops, "a zone that starts at frame 4096", "relative")]


def allocating_public(r: random.Random) -> list[Case]:
    """What students see: one of each kind."""
    return [_expand(r), _exact(r), _splitting(r), _series(r), _none(r), *_top(r), *_relative(r)]


def allocating_hidden(r: random.Random) -> list[Case]:
    """The same kinds, more of them, with other numbers."""
    return [_expand(r), _expand(r), _expand(r), _exact(r), _exact(r), _splitting(r), _series(r), _series(r), _none(r), _none(r),
            *_top(r), *_relative(r)]


# --- cases: Freeing ----------------------------------------------------------------------------------------------------------------


def _merges(state: State, pfn: int, order: int) -> int:
    bench = Bench.of(state)
    bench.give(pfn, order)
    return len(bench.told("merge"))


def _one(r: random.Random, wanted: range, says: str, *criteria: str) -> Case:
    """A busy zone and one block whose freeing merges as often as wanted."""
    while True:
        bench = _crowded(r, 0, 64)
        state = bench.state()
        found = [b for b in bench.live() if _merges(state, *b) in wanted]
        if found:
            pfn, order = r.choice(found)
            return _case(state, [["free_pages_ok", pfn, order]], says, *criteria)


def _all(r: random.Random, start: int, size: int, says: str, *criteria: str) -> Case:
    """Everything in use is freed, in random order: the zone ends whole again."""
    bench = _crowded(r, start, size, share=0.8)
    live = bench.live()
    r.shuffle(live)
    return _case(bench.state(), [["free_pages_ok", *block] for block in live[:9]], says, *criteria)


def _summit(r: random.Random) -> list[Case]:
    bench = _whole(0, 1024)
    block = bench.take(9)
    whole = _case(bench.state(), [["free_pages_ok", block, 9]], "a block of order 9 is freed", "top")
    bench = _whole(0, 1024)
    pages = [bench.take(0) for _ in range(r.randrange(2, 6))]
    r.shuffle(pages)
    ops = [["free_pages_ok", pfn, 0] for pfn in pages]
    return [whole, _case(bench.state(), ops, "the last page missing of a block of order 9 is freed", "top")]


def freeing_public(r: random.Random) -> list[Case]:
    """What students see: one of each kind."""
    return [_one(r, range(1), "a block whose buddy is in use", "single", "bits", "pages"),
            _one(r, range(1, 2), "a block whose buddy is free", "merge", "bits", "pages"),
            _one(r, range(2, 9), "a block that merges over several orders", "merge", "bits", "pages"),
            _all(r, 0, 64, "block after block of a busy zone is freed", "merge", "bits", "pages"),
            *_summit(r), *_relative_frees(r)]


def _relative_frees(r: random.Random) -> list[Case]:
    return [_all(r, r.choice(ODD_STARTS), 100, "a zone that starts at an odd frame number", "relative"),
            _all(r, 4096, 64, "a zone that starts at frame 4096", "relative")]


def freeing_hidden(r: random.Random) -> list[Case]:
    """The same kinds, more of them, with other numbers."""
    ones = [_one(r, range(1), "a block whose buddy is in use", "single", "bits", "pages") for _ in range(3)]
    few = [_one(r, range(1, 9), "a block whose buddy is free", "merge", "bits", "pages") for _ in range(3)]
    return [*ones, *few, _all(r, 0, 128, "block after block of a busy zone is freed", "merge", "bits", "pages"), *_summit(r),
            *_relative_frees(r)]
