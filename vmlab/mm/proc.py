"""What /proc of 2.4 shows of memory, as text without the last line end; and three summaries of our own.

    print(proc.meminfo(machine))
    print(proc.status(machine, task))

kernel: fs/proc/proc_misc.c, fs/proc/array.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..hw.layout import PAGE_SHIFT
from .fs import SWAPPER_SPACE_ID
from .page_flags import PG_dirty, PG_launder, PG_locked, PG_referenced, PG_reserved
from .pgtable import pte_dirty, pte_none, pte_page, pte_present, pte_young
from .task import HZ
from .vm import VM_EXEC, VM_EXECUTABLE, VM_GROWSDOWN, VM_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .kernel import Kernel
    from .task import Task
    from .vm import MmStruct, VmArea

_LIBRARIES = 0x60000000  # bytes: statm takes what lies above for libraries


def _kb(pages: int) -> int:
    return pages << PAGE_SHIFT - 10


def meminfo(kernel: Kernel) -> str:
    """``/proc/meminfo``: bytes in the old table, kB below it. kernel: fs/proc/proc_misc.c:meminfo_read_proc"""
    total, free = kernel.totalram_pages, kernel.page_allocator.nr_free_pages()
    high, high_free = kernel.totalhigh_pages, kernel.page_allocator.nr_free_highpages()
    swap_total, swap_free = kernel.swapfile.si_swapinfo()
    cached = kernel.filemap.page_cache_size  # swap cache included; this machine has no buffer cache
    swap_cached = kernel.mappings[SWAPPER_SPACE_ID].nrpages
    rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemShared", 0),
        ("Buffers", 0),
        ("Cached", cached - swap_cached),
        ("SwapCached", swap_cached),
        ("Active", kernel.swap.nr_active_pages),
        ("Inactive", kernel.swap.nr_inactive_pages),
        ("HighTotal", high),
        ("HighFree", high_free),
        ("LowTotal", total - high),
        ("LowFree", free - high_free),
        ("SwapTotal", swap_total),
        ("SwapFree", swap_free),
    ]
    table = [
        "        total:    used:    free:  shared: buffers:  cached:",
        "Mem:  " + " ".join(f"{pages << PAGE_SHIFT:8d}" for pages in (total, total - free, free, 0, 0, cached)),
        "Swap: " + " ".join(f"{pages << PAGE_SHIFT:8d}" for pages in (swap_total, swap_total - swap_free, swap_free)),
    ]
    return "\n".join(table + [f"{name + ':':<13} {_kb(pages):8d} kB" for name, pages in rows])


def meminfo_ram(kernel: Kernel) -> str:
    """The rows of ``/proc/meminfo`` that a page allocator alone can fill, in kB. kernel: fs/proc/proc_misc.c:meminfo_read_proc"""
    total, high = kernel.totalram_pages, kernel.totalhigh_pages
    free, high_free = kernel.page_allocator.nr_free_pages(), kernel.page_allocator.nr_free_highpages()
    rows = [("MemTotal", total), ("MemFree", free), ("HighTotal", high), ("HighFree", high_free)]
    rows += [("LowTotal", total - high), ("LowFree", free - high_free)]
    return "\n".join(f"{name + ':':<13} {_kb(pages):8d} kB" for name, pages in rows)


def swaps(kernel: Kernel) -> str:
    """``/proc/swaps``: the areas in use, sizes in kB. kernel: fs/proc/proc_misc.c:swaps_read_proc"""
    return kernel.swapfile.get_swaparea_info().rstrip("\n")


def stat(kernel: Kernel) -> str:
    """Lines of ``/proc/stat``: ``page`` (kB read and written) and ``swap`` (pages). kernel: fs/proc/proc_misc.c:kstat_read_proc"""
    kstat = kernel.sched.kstat
    # They are counted in sectors of 512 bytes and shown in kB.
    lines = [
        f"page {kstat.pgpgin >> 1} {kstat.pgpgout >> 1}",
        f"swap {kstat.pswpin} {kstat.pswpout}",
        f"processes {kernel.sched.last_pid}",
    ]
    return "\n".join(lines)


def uptime(kernel: Kernel) -> str:
    """``/proc/uptime``, without the idle time: seconds since power-on. kernel: fs/proc/proc_misc.c:uptime_read_proc"""
    seconds, hundredths = divmod(kernel.sched.jiffies, HZ)
    return f"{seconds}.{hundredths:02d}"


# -- of one process -------------------------------------------------------------------------------


class TaskMem(NamedTuple):
    """The memory of a process, in kB. kernel: fs/proc/array.c:task_mem"""

    VmSize: int
    VmLck: int
    VmRSS: int
    VmData: int
    VmStk: int
    VmExe: int
    VmLib: int


def task_mem(mm: MmStruct) -> TaskMem:
    """Sizes by kind: what has no file is data (or stack), what is executable and read-only is program or library.

    kernel: fs/proc/array.c:task_mem
    """
    data = stack = executable = lib = 0
    for vma in mm.areas():
        length = (vma.vm_end - vma.vm_start) >> 10
        if vma.vm_file is None:
            data += length
            if vma.vm_flags & VM_GROWSDOWN:
                stack += length
        elif not vma.vm_flags & VM_WRITE and vma.vm_flags & VM_EXEC:
            executable += length
            if not vma.vm_flags & VM_EXECUTABLE:
                lib += length
    return TaskMem(_kb(mm.total_vm), _kb(mm.locked_vm), _kb(mm.rss), data - stack, stack, executable - lib, lib)


def status(kernel: Kernel, task: Task) -> str:
    """``/proc/PID/status``, as far as this machine's tasks have it.

    kernel: fs/proc/array.c:proc_pid_status, task_state, task_sig, task_cap
    """
    running = task is kernel.current
    pending = sum(1 << signal - 1 for signal in task.pending)
    lines = [
        f"Name:\t{task.comm}",
        f"State:\t{'R (running)' if running else 'S (sleeping)'}",
        f"Tgid:\t{task.pid}",
        f"Pid:\t{task.pid}",
        f"Uid:\t{task.uid}\t{task.euid}\t{task.euid}\t{task.euid}",
        f"Gid:\t{task.gid}\t{task.egid}\t{task.egid}\t{task.egid}",
        "Groups:\t" + "".join(f"{group} " for group in task.groups),
    ]
    if task.mm is not None:
        lines += [f"{name}:\t{size:8d} kB" for name, size in task_mem(task.mm)._asdict().items()]
    lines += [f"SigPnd:\t{pending:016x}", f"CapEff:\t{task.cap_effective:016x}"]
    return "\n".join(lines)


class Statm(NamedTuple):
    """``/proc/PID/statm``, in pages. kernel: fs/proc/array.c:proc_pid_statm"""

    size: int  # entries that are not empty, in memory or in swap
    resident: int
    share: int  # resident pages with more than one reference
    trs: int  # of the program
    lrs: int  # of libraries: areas that end above 1.5 GiB
    drs: int  # data and stack
    dt: int  # dirty


def statm(kernel: Kernel, task: Task) -> Statm:
    """Counts from the page tables themselves. A task without memory has zeroes. kernel: fs/proc/array.c:proc_pid_statm, statm_pgd_range"""
    size = resident = share = trs = lrs = drs = dt = 0
    if task.mm is None:
        return Statm(0, 0, 0, 0, 0, 0, 0)
    mem = kernel.mem
    for vma in task.mm.areas():
        pages = 0
        for pte in _ptes(kernel, task.mm, vma):
            size += 1
            pfn = pte_page(pte)
            if not pte_present(pte) or pfn >= kernel.max_mapnr or mem.flags[pfn] >> PG_reserved & 1:
                continue
            pages += 1
            dt += pte_dirty(pte)
            share += mem.count[pfn] > 1
        resident += pages
        if vma.vm_flags & VM_EXECUTABLE:
            trs += pages
        elif vma.vm_flags & VM_GROWSDOWN or vma.vm_end <= _LIBRARIES:
            drs += pages
        else:
            lrs += pages
    return Statm(size, resident, share, trs, lrs, drs, dt)


def _ptes(kernel: Kernel, mm: MmStruct, vma: VmArea) -> Iterator[int]:
    """The entries of an area that are not empty, by address."""
    pgtable = kernel.pgtable
    address = vma.vm_start
    while address < vma.vm_end:
        following = min((address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE, vma.vm_end)
        found = pgtable.pte_lookup(mm, address)
        if found is not None:
            table, slot = found
            for pte in table[slot : slot + (following - address >> PAGE_SHIFT)]:
                if not pte_none(pte):
                    yield pte
        address = following


# -- our own --------------------------------------------------------------------------------------


def page_tables(kernel: Kernel, task: Task) -> str:
    """What a process's page tables say, area by area: pages present, dirty, young, in swap, and never touched."""
    if task.mm is None:
        return f"task {task.pid} has no memory of its own"
    lines = [f"{'area':<17} {'pages':>7} {'present':>7} {'dirty':>7} {'young':>7} {'swap':>7} {'none':>7}"]
    for vma in task.mm.areas():
        ptes = list(_ptes(kernel, task.mm, vma))
        here = [pte for pte in ptes if pte_present(pte)]
        pages = vma.vm_end - vma.vm_start >> PAGE_SHIFT
        counts = (pages, len(here), sum(map(pte_dirty, here)), sum(map(pte_young, here)), len(ptes) - len(here), pages - len(ptes))
        lines.append(f"{vma.vm_start:08x}-{vma.vm_end:08x} " + " ".join(f"{count:7d}" for count in counts))
    return "\n".join(lines)


def lru(kernel: Kernel) -> str:
    """The two page lists: how long they are, what is on them, and how it is marked."""
    lines = [
        f"{'list':<9} {'pages':>7} {'file':>7} {'shmem':>7} {'swap':>7} {'anon':>7} {'dirty':>7} {'refd':>7} {'locked':>7} {'launder':>7}"
    ]
    flags = kernel.mem.flags
    for name, frames in (("active", kernel.swap.active()), ("inactive", kernel.swap.inactive())):
        kinds = {"file": 0, "shmem": 0, "swap": 0, "anon": 0}
        for pfn in frames:
            kinds[kernel.swap.kind(pfn)] += 1
        marks = [sum(flags[pfn] >> bit & 1 for pfn in frames) for bit in (PG_dirty, PG_referenced, PG_locked, PG_launder)]
        lines.append(f"{name:<9} " + " ".join(f"{count:7d}" for count in (len(frames), *kinds.values(), *marks)))
    return "\n".join(lines)


def lru_line(kernel: Kernel, width: int = 72) -> str:
    """Both lists as rows of letters, head first: F file, T tmpfs, S swap cache, A anonymous; small when not referenced."""
    rows = []
    for name, frames in (("active", kernel.swap.active()), ("inactive", kernel.swap.inactive())):
        letters = "".join(_letter(kernel, pfn) for pfn in frames[:width])
        rows.append(f"{name:<9}{letters}{f' … {len(frames) - width} more' if len(frames) > width else ''}")
    return "\n".join(rows)


def _letter(kernel: Kernel, pfn: int) -> str:
    letter = {"anon": "A", "swap": "S", "shmem": "T", "file": "F"}[kernel.swap.kind(pfn)]
    return letter if kernel.mem.flags[pfn] >> PG_referenced & 1 else letter.lower()
