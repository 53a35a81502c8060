"""Exercise 2: describing physical memory. Zone arithmetic, page->flags, the order of set-up, the running sum, zones of your own, tuning."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from vmlab.course import ex02_models as models
from vmlab.course.ex02_code import ZONES
from vmlab.course.ex02_models import MIB
from vmlab.course.ex02_paper import FLAGS, PARSONS, WATERMARKS
from vmlab.course.exercise import Exercise, Mistake, analyse, perform
from vmlab.mm.mmzone import ZONE_NAMES

ID = "02-zones"


# --- the running sum

REQUESTS = {"GFP_HIGHUSER": 0x1D2, "GFP_KERNEL": 0x1F0, "GFP_ATOMIC": 0x20, "GFP_KERNEL|__GFP_DMA": 0x1F1, "GFP_HIGHUSER|__GFP_DMA": 0x1D3}
Passes = Callable[[Any, int, int], "tuple[list[int], list[Any], bool]"]


def pass_inputs(r: random.Random) -> dict[str, Any]:
    """Zones so nearly out of memory that every popular misunderstanding gives another answer."""
    while True:
        sizes = [4096, r.randrange(8_000, 26_000), r.randrange(4_000, 20_000)]
        zones: dict[str, Any] = {}
        for j, (name, size) in enumerate(zip(ZONE_NAMES, sizes, strict=True)):
            least, low, high = models.core_zones().watermarks(j, size)
            zones[name] = {"free": 0, "min": least, "low": low, "high": high}
        orders = [r.randrange(4), r.randrange(4), r.randrange(3), r.randrange(3), r.randrange(3)]
        requests = [{"gfp": name, "mask": mask, "order": order} for (name, mask), order in zip(REQUESTS.items(), orders, strict=True)]
        z = list(zones.values())
        z[2]["free"] = r.randrange(z[2]["min"], z[2]["low"])
        z[1]["free"] = r.choice(
            [(1 << orders[1]) + z[1]["low"], (1 << orders[2]) + (z[1]["min"] >> 2) + r.randrange(9), r.randrange(z[1]["low"])]
        )
        z[0]["free"] = r.choice(
            [
                (1 << orders[1]) + z[1]["low"] + z[0]["low"],
                (1 << orders[0]) + z[2]["min"] + z[1]["min"] + z[0]["min"] + r.randrange(9),
                r.randrange(z[0]["min"], z[1]["low"] + z[0]["low"] + 40),
            ]
        )
        q = {"zones": zones, "requests": requests}
        right = run_model(q)
        distinct = {tuple(grant) for grant in right["grants"]}
        wrong: list[dict[str, bool]] = [{"per_zone": True}, {"at_least": True}, {"quarter": False}, {"dma_wins": False}]
        told_apart = {str(right["grants"])} | {str(run_model(q, **one)["grants"]) for one in wrong}
        if len(distinct) >= 3 and right["grants"][0] != ["none", 0] and len(told_apart) == 1 + len(wrong):
            return q


def run_model(q: Any, **misunderstood: Any) -> dict[str, Any]:
    """The answer to a question with one thing misunderstood (nothing: the right answer, as a test shows)."""
    return _collect(q, lambda zones, mask, order: models.wrong_passes(zones, mask, order, **misunderstood))


def _collect(q: Any, passes: Passes) -> dict[str, Any]:
    found = [passes(q["zones"], one["mask"], one["order"]) for one in q["requests"]]
    return {"sums": [f[0] for f in found], "grants": [f[1] for f in found], "kswapd": [f[2] for f in found]}


def pass_oracle(q: Any) -> dict[str, Any]:
    return _collect(q, models.first_passes)


def _misread(name: str, says: str, keys: Sequence[str] = ("sums", "grants"), **misunderstood: Any) -> list[Mistake]:
    def of(key: str) -> Callable[[Any], Any]:
        return lambda q: run_model(q, **misunderstood)[key]

    return [Mistake(name, says, gives=of(key), criterion=key) for key in keys]


PASSES = perform(
    "running-sum",
    "Who gets a page, from where",
    4,
    answer="running_sum",
    inputs=pass_inputs,
    oracle=pass_oracle,
    text=lambda q: (
        "Five requests, each made when the zones have the free pages and watermarks shown (nothing changes in between, and there is always "
        "a block of the right order). 'sums': for each request, what free_pages must exceed in the first pass, zone by zone along its "
        "zonelist. 'grants': for each request [zone, pass] with the zone's name and 1 or 2, or ['none', 0] when neither of the first two "
        "passes finds a page. 'kswapd': for each request, True if it wakes kswapd. The task has no PF_ flags."
    ),
    parts={
        "sums": (1.5, "the thresholds of the first pass"),
        "grants": (2, "which zone grants each request, in which pass"),
        "kswapd": (0.5, "which requests wake kswapd"),
    },
    mistakes=[
        *_misread(
            "per-zone",
            "The thresholds add up along the zonelist: a fallback must leave the watermarks of every zone it passed, too.",
            per_zone=True,
        ),
        *_misread("dma-highmem", "__GFP_DMA beats __GFP_HIGHMEM: with both, only ZONE_DMA is in the list.", dma_wins=False),
        *_misread("order-ignored", "The threshold starts at 2^order pages, not at 0.", ("sums",), count_order=False),
        *_misread("pages-high", "The first pass adds up pages_low; pages_high is where kswapd stops.", ("sums",), mark="high"),
        *_misread("pages-min", "The first pass adds up pages_low; pages_min is for the second.", ("sums",), mark="min"),
        *_misread(
            "at-least",
            "The comparison is strict: free_pages must be greater than the threshold; equal is not enough.",
            ("grants",),
            at_least=True,
        ),
        *_misread(
            "no-quarter",
            "A request without __GFP_WAIT may go down to a quarter of each pages_min in the second pass.",
            ("grants",),
            quarter=False,
        ),
        Mistake(
            "kswapd-on-failure",
            "kswapd is woken as soon as the first pass fails, even if the second one then finds a page.",
            criterion="kswapd",
            gives=lambda q: [grant[1] == 0 for grant in pass_oracle(q)["grants"]],
        ),
        Mistake(
            "kswapd-second",
            "A request that neither pass can satisfy has woken kswapd as well.",
            criterion="kswapd",
            gives=lambda q: [grant[1] == 2 for grant in pass_oracle(q)["grants"]],
        ),
        Mistake(
            "kswapd-atomic",
            "Whether the request may wait does not matter here: any request that fails the first pass wakes kswapd.",
            criterion="kswapd",
            gives=lambda q: [w and bool(x["mask"] & 16) for w, x in zip(pass_oracle(q)["kswapd"], q["requests"], strict=True)],
        ),
        Mistake(
            "kswapd-fallback",
            "A fallback to another zone within the first pass wakes nobody.",
            criterion="kswapd",
            gives=lambda q: [
                grant[1] != 1 or len(s) > 1 and grant[0] != ZONE_NAMES[len(s) - 1]
                for grant, s in zip(pass_oracle(q)["grants"], pass_oracle(q)["sums"], strict=True)
            ],
        ),
    ],
    hint="Start at 1 << order and add pages_low of each zone on the way: that zone must have more free pages than the sum so far.",
)


# --- tune a machine


def tuning_inputs(r: random.Random) -> dict[str, Any]:
    """A machine, four ways to boot it besides the plain one, and a burst that the plain one cannot serve."""
    ram = 96 + 8 * r.randrange(6)
    options = {
        "A": {},
        "B": {"memfrac": "64,64,64"},
        "C": {"highmem_pages": (ram - 72) * MIB},
        "D": {"highmem_pages": (ram - 56) * MIB},
        "E": {"memfrac": "64,64,64", "highmem_pages": (ram - 72) * MIB},
    }
    return {"ram_mib": ram, "burst": r.randrange(3 * ram - 20, 560), "options": options}  # the plain kernel keeps about 3 pages a MiB


def tuning_oracle(q: Any) -> dict[str, Any]:
    found = {name: models.measured(q["ram_mib"], option) for name, option in q["options"].items()}
    good = [name for name, (_, atomic) in found.items() if atomic >= q["burst"]]
    return {
        "users": {n: f[0] for n, f in found.items()},
        "atomic": {n: f[1] for n, f in found.items()},
        "choice": max(good, key=lambda n: (found[n][0], -ord(n))),
    }


TUNING = analyse(
    "tuning",
    "Tune a machine for its network card",
    3,
    answer="tuning",
    inputs=tuning_inputs,
    oracle=tuning_oracle,
    text=lambda q: (
        f"A machine with {q['ram_mib']} MiB fills up with pages of programs (GFP_HIGHUSER). Then its network card asks for {q['burst']} "
        "single GFP_ATOMIC pages before anything is reclaimed. For each way to boot it (A to E), measure how many user pages it "
        "grants before one "
        "would have to wait, and how many atomic pages after that. Choose the one that serves the burst and leaves the programs most."
    ),
    parts={
        "users": (1, "user pages granted, for each way to boot"),
        "atomic": (1, "atomic pages granted after that"),
        "choice": (1, "the way to boot that serves the burst at the least cost"),
    },
    mistakes=[
        Mistake(
            "too-generous",
            "That one serves the burst, but another does too and leaves the programs more pages.",
            criterion="choice",
            detect=lambda q, got: tuning_oracle(q)["atomic"][got["choice"]] >= q["burst"],
        ),
        Mistake(
            "too-little",
            "With that one the card gets fewer atomic pages than its burst needs.",
            criterion="choice",
            detect=lambda q, got: tuning_oracle(q)["atomic"][got["choice"]] < q["burst"],
        ),
        Mistake(
            "same-machine",
            "The atomic pages are counted on a machine whose user pages have been taken first, not on a fresh one.",
            criterion="atomic",
            detect=lambda q, got: all(got["atomic"][n] > 5000 for n in q["options"]),
        ),
        Mistake(
            "d-not-ignored",
            "Measure D again: highmem= is ignored when less than 64 MiB of low memory would remain.",
            detect=lambda q, got: any(
                got[k]["D"] != tuning_oracle(q)[k]["D"] and got[k]["A"] == tuning_oracle(q)[k]["A"] for k in ("users", "atomic")
            ),
        ),
        Mistake(
            "by-one",
            "Off by one: count the pages that were granted, not the request that failed.",
            criterion="users",
            gives=lambda q: {n: v + 1 for n, v in tuning_oracle(q)["users"].items()},
        ),
    ],
    hint='Boot each with vmlab.boot(f"{ram}M", kernel_objects=None, **option): there a request that would have to wait'
    " raises vmlab.KernelHang.",
)


EXERCISE = Exercise(ID, "Describing physical memory", (WATERMARKS, FLAGS, PARSONS, PASSES, ZONES, TUNING))
