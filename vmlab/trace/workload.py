"""Workloads: reproducible sequences of allocations and frees, and running one on a machine.

A step is ``("alloc", gfp_mask, order, id)`` or ``("free", id)``; ids are whole numbers that
the workload gives out, so that the same steps can be run on any allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from ..errors import KernelHang
from ..machine import Machine
from ..mm.gfp import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_USER
from ..mm.page import Page

__all__ = ["WORKLOADS", "RunResult", "Step", "run", "workload"]

Step = tuple[Any, ...]


class RunResult(NamedTuple):
    """What a run did: counts of steps, and the blocks still allocated (id → page)."""

    allocs: int
    frees: int
    failures: int  # requests that got no memory
    waits: int  # of those, requests for which the kernel would have waited for ever
    live: dict[int, Page]

    def __repr__(self) -> str:
        failed = f"{self.failures} failed ({self.waits} would wait)"
        return f"<RunResult {self.allocs} allocated, {self.frees} freed, {failed}, {len(self.live)} live>"


def _churn(rng: Random, n: int, live_target: int, pick: Callable[[Random], tuple[int, int]]) -> Iterator[Step]:
    """Allocate until about *live_target* blocks are live, then free a random one about as often as allocating."""
    live: list[int] = []
    next_id = 0
    for _ in range(n):
        if live and rng.random() < (0.5 if len(live) >= live_target else 0.15):
            at = int(rng.random() * len(live))
            live[at], live[-1] = live[-1], live[at]
            yield ("free", live.pop())
        else:
            gfp, order = pick(rng)
            yield ("alloc", gfp, order, next_id)
            live.append(next_id)
            next_id += 1


def _small_order(rng: Random, largest: int) -> int:
    """Orders 0 to *largest*, each half as likely as the one below."""
    order = 0
    while order < largest and rng.random() < 0.5:
        order += 1
    return order


def _mixed(rng: Random, n: int) -> Iterator[Step]:
    kinds = (GFP_KERNEL, GFP_USER, GFP_HIGHUSER, GFP_ATOMIC)
    return _churn(rng, n, 400, lambda r: (kinds[int(r.random() * 4)], _small_order(r, 5)))


def _pages(rng: Random, n: int) -> Iterator[Step]:
    return _churn(rng, n, 1000, lambda r: (GFP_USER, 0))


def _devices(rng: Random, n: int) -> Iterator[Step]:
    return _churn(rng, n, 60, lambda r: (GFP_KERNEL | GFP_DMA if r.random() < 0.5 else GFP_ATOMIC, _small_order(r, 4)))


def _checkerboard(rng: Random, n: int) -> Iterator[Step]:
    """Allocate single pages, free every second one, then ask for larger blocks: fragmentation on purpose."""
    third = n // 3
    for i in range(third):
        yield ("alloc", GFP_ATOMIC, 0, i)
    for i in range(0, third, 2):
        yield ("free", i)
    for i in range(third, n - third // 2):
        yield ("alloc", GFP_ATOMIC, _small_order(rng, 3), i)


def _fill(rng: Random, n: int) -> Iterator[Step]:
    """Only allocate, order 0 to 3, with requests that cannot wait: until memory is gone."""
    for i in range(n):
        yield ("alloc", GFP_ATOMIC, _small_order(rng, 3), i)


WORKLOADS: dict[str, tuple[Callable[[Random, int], Iterator[Step]], str]] = {
    "mixed": (_mixed, "kernel and user requests, orders 0 to 5, about 400 blocks live"),
    "pages": (_pages, "single user pages, about 1,000 live"),
    "devices": (_devices, "drivers: DMA and atomic buffers, orders 0 to 4"),
    "checkerboard": (_checkerboard, "fill with single pages, free every second one, then ask for more: fragmentation"),
    "fill": (_fill, "allocate and never free"),
}


def workload(name: str, seed: int = 1, n: int = 1000) -> Iterator[Step]:
    """The first *n* steps of the workload *name* with *seed*: the same on every machine.

    Raises ValueError for an unknown name; ``vmlab.WORKLOADS`` lists them.
    """
    if name not in WORKLOADS:
        raise ValueError(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    if n < 0:
        raise ValueError(f"n={n}: a number of steps is not negative")
    return WORKLOADS[name][0](Random(seed), n)


def run(
    machine: Machine, steps: Iterable[Step], n: int | None = None, on_step: Callable[[int, Step, Page | None], None] | None = None
) -> RunResult:
    """Carry out *steps* on *machine*; ``on_step(i, step, page)`` is called after each.

    A request that fails leaves its id without a page, and freeing that id does nothing. A
    request for which the kernel would wait for ever counts as failed.
    """
    live: dict[int, Page] = {}
    allocs = frees = failures = waits = 0
    for i, step in enumerate(steps if n is None else islice(steps, n)):
        page: Page | None = None
        if step[0] == "alloc":
            try:
                page = machine.alloc_pages(step[1], step[2])
            except KernelHang:
                waits += 1
            if page is None:
                failures += 1
            else:
                allocs += 1
                live[step[3]] = page
        elif step[0] == "free":
            page = live.pop(step[1], None)
            if page is not None:
                frees += 1
                machine.free_pages(page)
        else:
            raise ValueError(f"step {i} is {step!r}: a step is ('alloc', gfp, order, id) or ('free', id)")
        if on_step is not None:
            on_step(i, step, page)
    return RunResult(allocs, frees, failures, waits, live)
