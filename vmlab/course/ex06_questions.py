"""Chapter 6, the seeded questions: the numbers of each student, and the right answers by the core."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

from vmlab.course import ex06_flawed, plain
from vmlab.course.ex06_bench import Bench, Three, churned
from vmlab.course.exercise import Case, Task, Verdict
from vmlab.course.plug06 import Figures, NewestFirst, Policy, measure
from vmlab.mm.gfp import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL

GFP = {"GFP_ATOMIC": GFP_ATOMIC, "GFP_KERNEL": GFP_KERNEL, "GFP_HIGHUSER": GFP_HIGHUSER, "GFP_DMA": GFP_DMA}
ZONES = ("DMA", "Normal", "HighMem")

# --- where a block stands ----------------------------------------------------------------------------------------------------------


def place_inputs(r: random.Random) -> dict[str, Any]:
    """A zone that starts at an unaligned frame; a lower and an upper half of some pairs."""
    order = r.randrange(2, 5)
    start = r.randrange(8, 56) << 12 | r.randrange(1 << 11) << 1 | 1 | 1 << order  # absolute frames lead astray, whatever is done with them
    at = [2 * r.randrange(2, 12), 2 * r.randrange(12, 24) + 1]
    r.shuffle(at)
    return {"start": start, "order": order, "blocks": [start + (n << order) for n in at]}


def place_oracle(q: Mapping[str, Any]) -> dict[str, Any]:
    """Index, pair bit, buddy and merged block of each block, as the core says when it frees them."""
    out: dict[str, list[int]] = {"index": [], "pair": [], "buddy": [], "merged": []}
    order, start = q["order"], q["start"]
    for pfn in q["blocks"]:
        for other in (pfn - (1 << order), pfn + (1 << order)):
            bench = Bench(start, 64 << order)
            bench.give(other, order)
            bench.give(pfn, order)
            merged = bench.told("merge")
            if merged:
                out["index"].append(pfn - bench.zone.start_pfn)
                out["pair"].append(bench.told("map_toggle")[0][3])
                out["buddy"].append(merged[0][4])
                out["merged"].append(bench.told("list_add")[-1][3])
    return out


def place_wrong(q: Mapping[str, Any], key: str, *, absolute: bool = False, plus: bool = False, shift: int = 1) -> list[int]:
    """What somebody with a known misunderstanding writes for `key`."""
    order, base = q["order"], 0 if absolute else q["start"]
    out = []
    for pfn in q["blocks"]:
        at = pfn - base
        buddy = at + (1 << order) if plus else at ^ (1 << order)
        pair = (at >> order) if not shift else at >> order + shift
        out.append({"index": at, "pair": pair, "buddy": base + buddy, "merged": base + (at & -2 << order)}[key])
    return out


# --- watermarks --------------------------------------------------------------------------------------------------------------------


def marks(q: Mapping[str, Any]) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """The zones a request may use, best first, and (pages_min, pages_low) of each zone."""
    three = Three([q["size"][z] for z in ZONES], [0, 0, 0])
    zonelist = three.pgdat.node_zonelists[GFP[q["gfp"]] & 0xF]
    return [z.name for z in zonelist], {z.name: (z.pages_min, z.pages_low) for z in three.zones}


def watermark_inputs(r: random.Random) -> dict[str, Any]:
    """Three zones and a request that is refused by at least one zone, now and then by a hair."""
    q: dict[str, Any] = {"gfp": r.choice(["GFP_ATOMIC", "GFP_HIGHUSER", "GFP_KERNEL"]), "order": r.randrange(2, 6),
                         "size": {"DMA": 4096, "Normal": r.randrange(6000, 60000), "HighMem": r.randrange(500, 24000)}}
    names, levels = marks(q)
    bars = Three([q["size"][z] for z in ZONES], [0, 0, 0]).ask(GFP[q["gfp"]], q["order"])
    first, second = bars["first"], bars["second"]
    serves, late = r.randrange(len(names)), r.random() < 0.5
    if not serves:
        late = True  # otherwise nothing would be refused
    free = {z: r.randrange(30, 900) for z in ZONES}
    for i, name in enumerate(names):
        own = levels[name][1] + (1 << q["order"])
        high = second[i] if late and i < serves else first[i]  # what this zone must not exceed
        if i < serves or late:
            low = second[i] + 1 if late and i == serves else min(own, high)
            free[name] = high if r.random() < 0.4 else r.randint(min(low, high), high)
        elif i == serves:
            free[name] = first[i] + r.randrange(1, 60)
    return q | {"free": free}


def watermark_oracle(q: Mapping[str, Any]) -> dict[str, Any]:
    """The bars of both passes, the zone that serves, and in which pass."""
    return Three([q["size"][z] for z in ZONES], [q["free"][z] for z in ZONES]).ask(GFP[q["gfp"]], q["order"])


def watermark_wrong(q: Mapping[str, Any], key: str, *, sums: bool = True, pages: str = "pages", quarter: str = "each",
                    strict: bool = True) -> Any:
    """What somebody with a known misunderstanding writes for `key`."""
    names, levels = marks(q)
    base = {"pages": 1 << q["order"], "order": q["order"], "none": 0}[pages]
    waits = GFP[q["gfp"]] & 0x10
    bars: dict[str, list[int]] = {"first": [], "second": []}
    for key_, at in (("first", 1), ("second", 0)):
        total = base
        for name in names:
            level = levels[name][at]
            if not at and (quarter == "always" or quarter == "each" and not waits):
                level >>= 2
            total = total + level if sums else base + level
            bars[key_].append(total >> 2 if not at and quarter == "sum" and not waits else total)
    if key in bars:
        return bars[key]
    for number, row in enumerate(bars.values(), 1):
        for name, bar in zip(names, row, strict=True):
            if q["free"][name] > bar or (not strict and q["free"][name] == bar):
                return name if key == "zone" else number
    return "none" if key == "zone" else 0


# --- perform: a small zone -----------------------------------------------------------------------------------------------------------


def zone_of(q: Mapping[str, Any]) -> dict[str, Any]:
    """The whole state of the small zone: a pair bit is 1 where exactly one of the two is free, so the lists say it all."""
    bits = {o: sorted(pfn - q["start"] >> o + 1 for pfn in blocks) for o, blocks in q["lists"].items()}
    pages = sum(len(blocks) << o for o, blocks in q["lists"].items())
    return {"start": q["start"], "size": q["size"], "lists": q["lists"], "bits": bits, "free_pages": pages}


def trace_inputs(r: random.Random) -> dict[str, Any]:
    """A zone of 32 pages, its free lists, and six operations in which enough happens."""
    return _trace_inputs(r.getrandbits(64))


@functools.lru_cache(maxsize=512)
def _trace_inputs(seed: int) -> dict[str, Any]:
    r = random.Random(seed)
    while True:
        bench = churned(r, 32 * r.randrange(0, 9), 32, steps=40, largest=2, share=0.6)
        state, live = bench.state(), bench.live()
        deep = [block for block in live if _merges(state, block) > 1]
        if len(live) < 5 or not deep or len(state["lists"]) < 2 or max(map(len, state["lists"].values())) < 2:
            continue
        for _ in range(10):
            first = r.choice(deep)
            frees = [first, *r.sample([block for block in live if block != first], 2)]
            ops = [["free", *block] for block in frees] + [["alloc", r.choice([0, 0, 1, 1, 2])] for _ in range(3)]
            r.shuffle(ops)
            q: dict[str, Any] = plain.normal({"start": state["start"], "size": 32, "lists": state["lists"], "ops": ops})
            if _rich(q):
                return q


def _merges(state: dict[str, Any], block: tuple[int, int]) -> int:
    bench = Bench.of(state)
    bench.give(*block)
    return len(bench.told("merge"))


def _rich(q: dict[str, Any]) -> bool:
    """Enough happens, not too much, and the common misunderstandings all end in other lists."""
    right = trace_oracle(q)
    if None in right["frames"] or len(right["splits"]) < 2 or not 2 <= len(right["merges"]) <= 5 or len(right["splits"]) > 5:
        return False
    if max(map(len, right["lists"].values())) < 2:
        return False
    wrong = [trace_wrong(q, **knobs) for knobs in ({"keep": "lower"}, {"put": "tail"}, {"take": "lowest"}, {"levels": 1})]
    return all(w is not None and w["lists"] != right["lists"] for w in wrong)


def trace_oracle(q: Mapping[str, Any]) -> dict[str, Any]:
    """Frames returned, blocks cut and blocks merged in order ([first frame, order]), and the lists at the end."""
    bench = Bench.of(zone_of(q))
    out: dict[str, Any] = {"frames": [], "splits": [], "merges": []}
    for op, *arguments in q["ops"]:
        if op == "alloc":
            out["frames"].append(bench.take(*arguments))
            out["splits"] += [[e[3], e[2] + 1] for e in bench.told("expand")]
        else:
            bench.give(*arguments)
            out["merges"] += [[min(e[3], e[4]), e[2] + 1] for e in bench.told("merge")]
    answer: dict[str, Any] = plain.normal(out | {"lists": bench.state()["lists"]})
    return answer


def trace_wrong(q: Mapping[str, Any], **knobs: Any) -> dict[str, Any] | None:
    """Frames and lists as somebody with a known misunderstanding has them; None when it leads to an impossible step."""
    names = {"alloc": "rmqueue", "free": "free_pages_ok"}
    data = {"zone": zone_of(q), "ops": [[names[op], *arguments] for op, *arguments in q["ops"]]}
    steps = ex06_flawed.outcome(data, **knobs)
    if not steps or len(steps) < len(q["ops"]) or steps[-1]["bug"]:
        return None
    frames = [s["returned"] for s, op in zip(steps, q["ops"], strict=True) if op[0] == "alloc"]
    answer: dict[str, Any] = plain.normal({"frames": frames, "lists": steps[-1]["lists"]})
    return answer


def tidy_lists(value: Any) -> Any:
    """Free lists as a student may write them (texts as keys, empty lists kept) in one form."""
    if not isinstance(value, dict):
        return value
    return {int(k) if isinstance(k, str) and k.isdigit() else k: v for k, v in value.items() if v != []}


def trace_judge(task: Task, case: Case, got: Any) -> dict[str, Verdict]:
    """Each part by itself, with a word on what kind of difference it is."""
    right = trace_oracle(case.data)
    out: dict[str, Verdict] = {}
    for part, want in right.items():
        if not isinstance(got, dict):
            out[part] = Verdict(False, want, got, "The answer must be a dict with the keys 'frames', 'splits', 'merges' and 'lists'.")
            continue
        have = got.get(part)
        have = tidy_lists(have) if part == "lists" else have
        note = ""
        if have is None:
            note = f"The entry {part!r} has not been filled in."
        elif part == "lists" and isinstance(have, dict):
            wrong = [o for o in sorted({*want, *(k for k in have if isinstance(k, int))}) if want.get(o) != have.get(o)]
            same = [o for o in wrong if isinstance(have.get(o), list) and sorted(map(str, have[o])) == sorted(map(str, want.get(o, [])))]
            note = f"Look again at order {', '.join(map(str, wrong))}." if wrong else ""
            if wrong and same == wrong:
                note += " The blocks are right, their order is not: the head comes first."
        elif isinstance(have, list) and isinstance(want, list):
            wrong = [i for i, x in enumerate(want) if i >= len(have) or have[i] != x]
            if len(have) != len(want):
                what = {"frames": "allocations", "splits": "splits", "merges": "merges"}[part]
                note = f"There are {'more' if len(have) < len(want) else 'fewer'} {what} than {len(have)}."
            elif wrong:
                note = f"Entry {wrong[0] + 1} is the first that is not right."
        out[part] = Verdict(plain.same(want, have), want, have, note)
    return out


# --- analyse: policies ---------------------------------------------------------------------------------------------------------------


class OldestFirst(Policy):
    """First in, first out."""

    def choose(self, blocks: list[int]) -> int:
        return blocks[-1]


class LowestFirst(Policy):
    """The lowest address."""

    def choose(self, blocks: list[int]) -> int:
        return min(blocks)


@functools.lru_cache(maxsize=512)
def policy_figures(seed: int) -> dict[str, Figures]:
    """What each policy leaves behind."""
    return {name: measure(policy, seed) for name, policy in (("newest", NewestFirst), ("oldest", OldestFirst), ("lowest", LowestFirst))}


def policy_oracle(q: Mapping[str, Any]) -> dict[str, Any]:
    """The measured shares, and the policy that leaves most of the free memory usable."""
    figures = policy_figures(q["seed"])
    best = min(figures, key=lambda name: figures[name].unusable)
    return {name: f.unusable for name, f in figures.items()} | {"best": best}
