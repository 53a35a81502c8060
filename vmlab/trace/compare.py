"""What is different between two machines, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from ..machine import Machine
from ..mm import mmap_view
from ..mm.page import BLOCK_FREE, BLOCK_USED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mm.task import Task
    from .compare26 import KernelComparison, Workload

__all__ = ["Diff", "compare"]


@dataclass
class Diff:
    """Differences between two machines of the same shape. False when there are none."""

    free_pages: dict[str, tuple[int, int]] = field(default_factory=dict)  # zone → (first, second)
    lists: dict[tuple[str, int], tuple[list[int], list[int]]] = field(default_factory=dict)  # (zone, order) → blocks head first
    frames: list[tuple[int, str, str]] = field(default_factory=list)  # (first frame, state in the first, in the second)
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    processes: dict[int, list[str]] = field(default_factory=dict)  # pid → what differs, in sentences

    def __bool__(self) -> bool:
        return bool(self.free_pages or self.lists or self.frames or self.counters or self.processes)

    def __str__(self) -> str:
        if not self:
            return "The two machines are in the same state."
        rows = [f"zone {name}: {a} and {b} pages free" for name, (a, b) in self.free_pages.items()]
        for (name, order), (a, b) in self.lists.items():
            only_a, only_b = [p for p in a if p not in set(b)], [p for p in b if p not in set(a)]
            what = f"only first {_few(only_a)}, only second {_few(only_b)}" if only_a or only_b else "the same blocks in another order"
            rows.append(f"zone {name}, order {order}: {len(a)} and {len(b)} blocks ({what})")
        rows += [f"frame {pfn}: {a} | {b}" for pfn, a, b in self.frames[:20]]
        if len(self.frames) > 20:
            rows.append(f"… and {len(self.frames) - 20} more blocks")
        rows += [f"process {pid}: {sentence}" for pid, found in self.processes.items() for sentence in found]
        rows += [f"{name}: {a} and {b}" for name, (a, b) in self.counters.items()]
        return "\n".join(rows)


def _few(blocks: list[int]) -> str:
    return "none" if not blocks else ", ".join(map(str, blocks[:6])) + (" …" if len(blocks) > 6 else "")


def _kind(value: int, owner: str) -> str:
    if value & BLOCK_FREE:
        return f"free order {value & 15}"
    if value & BLOCK_USED:
        return f"allocated order {value & 15}" + (f" ({owner})" if owner else "")
    return "reserved" if value & 0x20 else "hole" if value & 0x10 else "inside a block"


@overload
def compare(first: Machine, second: Machine) -> Diff: ...


@overload
def compare(
    first: Workload,
    *,
    kernels: tuple[str, str] = ("2.4", "2.6"),
    ram: int | str | None = None,
    swap: int | str | None = None,
    samples: int = 200,
    **options: Any,
) -> KernelComparison: ...


def compare(first: Any, second: Machine | None = None, **options: Any) -> Diff | KernelComparison:
    """What differs between two machines; or, given one workload, what differs between two kernels that run it.

    >>> compare(m, m.copy())
    >>> compare("backup", kernels=("2.4", "2.6"))

    For workloads and their options see :func:`vmlab.trace.compare26.compare_kernels`. Raises ValueError for
    machines with different zones, or an unknown workload; TypeError for anything else.
    """
    if isinstance(first, Machine):
        if not isinstance(second, Machine) or options:
            raise TypeError("compare(machine, machine) or compare(workload, kernels=…)")
        return compare_machines(first, second)
    if second is not None:
        raise TypeError("compare(machine, machine) or compare(workload, kernels=…)")
    from .compare26 import compare_kernels

    return compare_kernels(first, **options)


def compare_machines(first: Machine, second: Machine) -> Diff:
    """What differs between two machines. Raises ValueError when they have different zones."""
    shape = [[(z.index, z.start_pfn, z.size) for z in m.zones] for m in (first, second)]
    if shape[0] != shape[1]:
        raise ValueError("only machines with the same zones can be compared; these were booted differently")
    diff = Diff()
    for a, b in zip(first.zones, second.zones, strict=True):
        name = a.name if len(first.pgdats) == 1 else f"{a.name} of node {a.pgdat.nid}"
        if a.free_pages != b.free_pages:
            diff.free_pages[name] = (a.free_pages, b.free_pages)
        for order, (x, y) in enumerate(zip(a.free_area, b.free_area, strict=True)):
            if x.blocks() != y.blocks():
                diff.lists[name, order] = (x.blocks(), y.blocks())
    block_a, block_b = first.mem.block, second.mem.block
    owner_a, owner_b = first.mem.owner, second.mem.owner
    if block_a != block_b or owner_a != owner_b:
        for pfn in range(first.mem.frames):
            if block_a[pfn] != block_b[pfn] or (block_a[pfn] & BLOCK_USED and first.owners[owner_a[pfn]] != second.owners[owner_b[pfn]]):
                diff.frames.append((pfn, _kind(block_a[pfn], first.owners[owner_a[pfn]]), _kind(block_b[pfn], second.owners[owner_b[pfn]])))
    for name, value in first.stat.as_dict().items():
        if value != second.stat[name]:
            diff.counters[name] = (value, second.stat[name])
    if first.more_parts and second.more_parts:
        figures = zip(_figures(first).items(), _figures(second).values(), strict=True)
        diff.counters |= {name: (a, b) for (name, a), b in figures if a != b}
        tasks = [m.sched.tasks for m in (first, second)]
        for pid in sorted({*tasks[0], *tasks[1]}):
            found = _process(first, second, tasks[0].get(pid), tasks[1].get(pid))
            if found:
                diff.processes[pid] = found
    return diff


def _figures(m: Machine) -> dict[str, int]:
    """What a whole machine has besides free pages, in numbers."""
    return {
        "jiffies": m.sched.jiffies,
        "pages cached": m.filemap.page_cache_size,
        "active pages": m.swap.nr_active_pages,
        "inactive pages": m.swap.nr_inactive_pages,
        "free swap pages": m.swapfile.nr_swap_pages,
        "files": len(m.diskfs.files),
    } | {name: getattr(m.sched.kstat, name) for name in ("pswpin", "pswpout", "pgpgin", "pgpgout", "kswapd_runs", "oom_kills")}


def _process(first: Machine, second: Machine, a: Task | None, b: Task | None) -> list[str]:
    """What differs between a process and its twin."""
    if a is None or b is None:
        task = a or b
        assert task is not None
        return [f"{task.comm} is only in the {'first' if b is None else 'second'}"]
    found = []
    for what, x, y in (
        ("name", a.comm, b.comm),
        ("minor faults", a.min_flt, b.min_flt),
        ("major faults", a.maj_flt, b.maj_flt),
        ("open files", len(a.files), len(b.files)),
    ):
        if x != y:
            found.append(f"{what} {x} and {y}")
    if a.mm is None or b.mm is None:
        return found
    for what, column in (("mapped", "total_vm"), ("resident", "rss"), ("locked", "locked_vm")):
        x, y = getattr(a.mm, column), getattr(b.mm, column)
        if x != y:
            found.append(f"{x} and {y} pages {what}")
    maps = [mmap_view.maps(mm).splitlines() for mm in (a.mm, b.mm)]
    for which, mine, other in (("first", *maps), ("second", maps[1], maps[0])):
        found += [f"region {line} only in the {which}" for line in mine if line not in other][:6]
    entries = [dict(_entries(m, task)) for m, task in ((first, a), (second, b))]
    pages = [address for address in sorted({*entries[0], *entries[1]}) if entries[0].get(address, 0) != entries[1].get(address, 0)]
    if pages:
        others = f" and {len(pages) - 1} more" if len(pages) > 1 else ""
        x, y = (_entry_text(table.get(pages[0], 0)) for table in entries)
        found.append(f"page {pages[0]:#010x}{others}: {x} | {y}")
    return found


def _entries(m: Machine, task: Task) -> Iterator[tuple[int, int]]:
    """The page table entries of a process that are not empty, by address."""
    mm = task.mm
    if mm is None or mm.pgd is None:
        return
    for vma in mm.areas():
        address = vma.vm_start
        while address < vma.vm_end:
            following = min((address & -m.pgtable.PMD_SIZE) + m.pgtable.PMD_SIZE, vma.vm_end)
            at = m.pgtable.pte_lookup(mm, address)
            if at is not None:
                table, slot = at
                for i, entry in enumerate(table[slot : slot + (following - address >> 12)]):
                    if entry:
                        yield address + (i << 12), entry
            address = following


def _entry_text(entry: int) -> str:
    """A page table entry in words."""
    if not entry:
        return "not there"
    if not entry & 0x81:
        return f"swapped out to page {entry >> 8} of area {entry >> 1 & 0x3F}"
    marks = [name for name, bit in (("writable", 2), ("accessed", 0x20), ("dirty", 0x40)) if entry & bit]
    return f"frame {entry >> 12}" + (f" ({', '.join(marks)})" if marks else "")
