"""Counters, the swap map, and the page lists page by page, as text.

    print(proc_lists.vmstat(machine))
    print(proc_lists.swap_map(machine, 0))
    print(proc_lists.lru_pages(machine, "inactive"))
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from .holders import holder, kind_of
from .swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["lru_pages", "swap_map", "vmstat"]

_ROW = 64  # slots in a line


def _bit(kernel: Kernel, name: str) -> int:
    """The number of a PG_ bit, which is not the same in every kernel."""
    return next(bit for bit in range(24) if kernel.page_flag_names(1 << bit) == [name])


def counters(kernel: Kernel) -> dict[str, int]:
    """Counters of memory management by the names of /proc/vmstat, which 2.4 does not have yet: pages now, then events since power-on."""
    mem, stat, kstat = kernel.mem, kernel.stat, kernel.sched.kstat
    dirty, slab, lru = (_bit(kernel, name) for name in ("dirty", "slab", "lru"))
    flags, labels = mem.flags, [kernel.owners[o] for o in mem.owner]
    tasks = kernel.sched.tasks.values()
    found = {
        "nr_free_pages": kernel.page_allocator.nr_free_pages(),
        "nr_active": kernel.swap.nr_active_pages,
        "nr_inactive": kernel.swap.nr_inactive_pages,
        "nr_anon_pages": sum(1 for pfn, word in enumerate(flags) if word >> lru & 1 and kind_of(kernel, pfn) == "anonymous"),
        "nr_file_pages": kernel.filemap.page_cache_size,
        "nr_dirty": sum(word >> dirty & 1 for word in flags),
        "nr_slab": sum(word >> slab & 1 for word in flags),
        "nr_page_table_pages": labels.count("page table") + labels.count("page directory"),
        "nr_free_swap": kernel.swapfile.nr_swap_pages,
        "pgpgin": kstat.pgpgin >> 1,
        "pgpgout": kstat.pgpgout >> 1,
        "pswpin": kstat.pswpin,
        "pswpout": kstat.pswpout,
        "pgalloc": stat.alloc,
        "pgfree": stat.free,
        "allocstall": stat.reclaim,
        "kswapd_wakes": kstat.kswapd_wakes,
        "kswapd_runs": kstat.kswapd_runs,
        "pgfault_living": sum(task.min_flt + task.maj_flt for task in tasks),
        "pgmajfault_living": sum(task.maj_flt for task in tasks),
        "oom_kill": kstat.oom_kills,
    }
    if kernel.config.kernel == "2.4":
        cache = kernel.swap_state
        found |= {"swap_cache_add": cache.add_total, "swap_cache_del": cache.del_total}
        found |= {"swap_cache_find_total": cache.find_total, "swap_cache_find_success": cache.find_success}
    return found


def vmstat(kernel: Kernel) -> str:
    """:func:`counters`, one a line. pgpgin and pgpgout are in kB, faults those of the processes that live."""
    return "\n".join(f"{name} {value}" for name, value in counters(kernel).items())


def _mark(count: int) -> str:
    if count & SWAP_MAP_BAD:
        return "X"
    return "." if not count else str(count) if count < 10 else "*" if count < SWAP_MAP_MAX else "!"


def swap_map(kernel: Kernel, area: int) -> str:
    """The slots of swap area *area*, 64 a line: ``.`` free, 1 to 9 users, ``*`` more, ``!`` too many to count, ``X`` never used.

    Lines that are all alike after one another are left out. Raises ValueError when there is no such area.
    """
    areas = kernel.swapfile.swap_info
    info = areas[area] if 0 <= area < len(areas) else None
    if info is None or not info.flags or info.swap_map is None:
        raise ValueError(f"area {area!r}: no such swap area is in use")
    marks = "".join(_mark(info.swap_map[slot]) for slot in range(info.max))
    free = marks.count(".")
    lines = [f"area {area}: {info.max} slots, {free} free, lowest {info.lowest_bit}, highest {info.highest_bit}, next {info.cluster_next}"]
    rows = [(at, marks[at : at + _ROW]) for at in range(0, len(marks), _ROW)]
    for _, same in groupby(rows, key=lambda row: row[1]):
        run = list(same)
        lines.append(f"{run[0][0]:>7} {run[0][1]}")
        if len(run) > 2:
            lines.append(f"        … {len(run) - 2} more lines like it")
        if len(run) > 1:
            lines.append(f"{run[-1][0]:>7} {run[-1][1]}")
    return "\n".join(lines)


def lru_pages(kernel: Kernel, which: str, most: int) -> str:
    """The first *most* pages of the active or inactive list, head (the youngest) first, one a line: frame, who, references, flags."""
    if which not in ("active", "inactive"):
        raise ValueError(f"which={which!r}: 'active' or 'inactive'")
    frames = kernel.swap.active() if which == "active" else kernel.swap.inactive()
    lines = [f"{which} list: {len(frames)} pages, head first"]
    hide = {"lru", "active", "highmem"}
    for place, pfn in enumerate(frames[:most]):
        names = "|".join(name for name in kernel.page_flag_names(kernel.mem.flags[pfn]) if name not in hide)
        lines.append(f"{place:>6} frame {pfn:>7}  {holder(kernel, pfn):<28} count {kernel.mem.count[pfn]:>3}  {names or '-'}")
    if len(frames) > most:
        lines.append(f"       … {len(frames) - most} more; the tail, which goes next, is frame {frames[-1]} ({holder(kernel, frames[-1])})")
    return "\n".join(lines)
