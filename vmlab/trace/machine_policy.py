"""A whole machine as a replacement policy: how many page faults a program takes in so much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..hw.layout import PAGE_SHIFT
from ..mm.gfp import GFP_ATOMIC
from .fastpath import run_in_process
from .policies import PolicyRun

if TYPE_CHECKING:
    from ..machine import Machine
    from .pagetrace import PageTrace

_OWN = 6  # frames a process takes for itself: directory, task_struct, stack, slabs

__all__ = ["kernel_run", "squeezed_machine"]


def squeezed_machine(frames: int, swap_pages: int, kernel: str = "2.4", **options: Any) -> Machine:
    """A machine with *frames* frames left for programs before kswapd wakes (at pages_low; it then frees up to pages_high).

    The rest of its memory is taken away for good, as a driver might. Swap has *swap_pages* pages or more.
    """
    from ..machine import boot

    if frames < 8:
        raise ValueError(f"frames={frames}: a kernel needs a few more than that to work in")
    ram = max(16 << 20, -(-(frames + 2048) >> 8) << 20)
    machine = boot(ram=ram, kernel=kernel, swap=max(40 << 10, swap_pages + 64 << PAGE_SHIFT), **options)
    reserve = sum(zone.pages_low for zone in machine.zones)
    while machine.nr_free_pages() > frames + reserve:
        if machine.page_allocator.alloc_pages(GFP_ATOMIC, 0) is None:
            break
    return machine


def written_first(trace: PageTrace) -> PageTrace:
    """The same trace with the first reference to each page a write."""
    refs = trace.refs[:]
    waiting = set(range(len(trace.pages)))
    for i, ref in enumerate(refs):
        if ref >> 1 in waiting:
            refs[i] = ref | 1
            waiting.discard(ref >> 1)
            if not waiting:
                break
    return type(trace)(trace.pages, refs, name=trace.name, command=trace.command, regions=trace.regions)


def kernel_run(trace: PageTrace, frames: int, kernel: str = "2.4") -> PolicyRun:
    """Page faults of *trace* in a machine with *frames* frames for its pages (page tables and the like come on top): its misses.

    The first reference to each page is made a write: a page that was only read would be the page of zeroes and take
    no frame, which no other policy could match.
    """
    tables = len({page >> 10 for page in trace.pages})
    machine = squeezed_machine(frames + tables + _OWN, len(trace.pages), kernel)
    machine.overcommit(1)
    run = run_in_process(machine, written_first(trace))
    if run.references != len(trace):
        raise ValueError(f"the program was killed after {run.references} references: it needs more than {frames} frames")
    return PolicyRun(kernel, frames, run.references, run.faults)
