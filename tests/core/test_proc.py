"""The texts of /proc."""

from __future__ import annotations

import vmlab
from vmlab.mm import proc
from vmlab.mm.task import SIGBUS, SIGKILL, Task
from vmlab.mm.vm import (
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_EXECUTABLE,
)

from .processes import machine, new_task
from .test_shmem import SLOTS, a_file, boot, store

PAGE = 4096
RW = PROT_READ | PROT_WRITE


def numbers(text: str) -> dict[str, int]:
    """The tagged lines of a /proc text, in kB."""
    return {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith(" kB")}


def test_meminfo_to_the_letter() -> None:
    m = machine()
    total, free = m.totalram_pages, m.nr_free_pages()
    assert proc.meminfo(m).splitlines() == [
        "        total:    used:    free:  shared: buffers:  cached:",
        f"Mem:  {total * PAGE:8d} {(total - free) * PAGE:8d} {free * PAGE:8d}        0        0        0",
        "Swap:        0        0        0",
        f"MemTotal:     {total * 4:8d} kB",
        f"MemFree:      {free * 4:8d} kB",
        "MemShared:           0 kB",
        "Buffers:             0 kB",
        "Cached:              0 kB",
        "SwapCached:          0 kB",
        "Active:              0 kB",
        "Inactive:            0 kB",
        "HighTotal:           0 kB",
        "HighFree:            0 kB",
        f"LowTotal:     {total * 4:8d} kB",
        f"LowFree:      {free * 4:8d} kB",
        "SwapTotal:           0 kB",
        "SwapFree:            0 kB",
    ]


def test_meminfo_under_pressure() -> None:
    m = boot(pages=250)
    file = a_file(m, 400)
    for index in range(400):
        store(m, file, index, b"x" * PAGE)
    shown = numbers(proc.meminfo(m))
    assert shown["SwapTotal"] == (SLOTS - 1) * 4
    assert shown["SwapTotal"] - shown["SwapFree"] > 400
    assert shown["Cached"] == file.inode.i_mapping.nrpages * 4
    assert shown["SwapCached"] == m.swap_state.swapper_space.nrpages * 4
    assert shown["Active"] + shown["Inactive"] == shown["Cached"] + shown["SwapCached"], "every page is on a list"
    assert proc.stat(m).splitlines()[1] == f"swap {m.sched.kstat.pswpin} {m.sched.kstat.pswpout}" and m.sched.kstat.pswpout > 100
    read, written = map(int, proc.stat(m).splitlines()[0].split()[1:])
    assert (read, written) == (m.sched.kstat.pswpin * 4, m.sched.kstat.pswpout * 4), "in kB"
    name, kind, size, used, priority = proc.swaps(m).splitlines()[1].split()
    assert (kind, int(size), int(priority)) == ("partition", (SLOTS - 1) * 4, -1)
    assert int(used) == shown["SwapTotal"] - shown["SwapFree"] and name


def test_highmem_is_shown_apart() -> None:
    m = vmlab.Machine("80M", kernel_objects="ram", highmem_pages=16 << 8).power_on()
    shown = numbers(proc.meminfo(m))
    assert shown["HighTotal"] == 16384 and shown["HighTotal"] + shown["LowTotal"] == shown["MemTotal"]
    assert shown["HighFree"] + shown["LowFree"] == shown["MemFree"]


def areas(m: vmlab.Machine, task: Task) -> dict[str, int]:
    """Map one area of each kind; returns their addresses."""
    file = a_file(m, 40)
    with m.running(task):
        mapped = {
            "data": m.mmap.do_mmap_pgoff(None, 0x08100000, 10 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0),
            "stack": m.mmap.do_mmap_pgoff(None, 0xBFFF0000, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, 0),
            "text": m.mmap.do_mmap_pgoff(file, 0x08048000, 5 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0),
            "lib": m.mmap.do_mmap_pgoff(file, 0x60000000, 7 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0),
            "shared": m.mmap.do_mmap_pgoff(file, 0x50000000, 8 * PAGE, RW, MAP_SHARED, 20),
        }
    assert task.mm is not None
    vma = m.mmap.find_vma(task.mm, mapped["text"])
    assert vma is not None
    vma.vm_flags |= VM_EXECUTABLE
    return mapped


def test_status_counts_by_kind() -> None:
    m = machine()
    task = new_task(m)
    mapped = areas(m, task)
    m.mmu.touch(task, mapped["data"], 1)
    task.pending |= {SIGKILL, SIGBUS}
    task.cap_effective = 5
    assert proc.task_mem(task.mm) == (33 * 4, 0, 4, 40, 12, 20, 28)  # type: ignore[arg-type]
    lines = proc.status(m, task).splitlines()
    assert "VmSize:\t     132 kB" in lines and "VmRSS:\t       4 kB" in lines and "VmLib:\t      28 kB" in lines
    assert "SigPnd:\t0000000000000140" in lines and "CapEff:\t0000000000000005" in lines
    assert "State:\tS (sleeping)" in lines
    assert not any(line.startswith("Vm") for line in proc.status(m, m.current).splitlines()), "the idle task has no memory"


def test_statm_counts_page_table_entries() -> None:
    m = machine()
    task = new_task(m)
    mapped = areas(m, task)
    for page in range(6):
        m.mmu.touch(task, mapped["data"] + page * PAGE, page % 2)  # three are the zero page, which is reserved
    m.mmu.touch(task, mapped["stack"], 1)
    m.mmu.touch(task, mapped["lib"])
    m.mmu.touch(task, mapped["text"])
    m.mmu.touch(task, mapped["shared"], 1)
    m.mmu.touch(task, mapped["shared"] + PAGE)
    got = proc.statm(m, task)
    assert (got.size, got.resident, got.dt) == (11, 8, 5)
    assert (got.trs, got.lrs, got.drs) == (1, 1, 6), "the page below 1.5 GiB counts as data, whatever it is"
    assert got.share == 4, "pages of files have the cache's reference too"
    assert proc.statm(m, m.current) == (0,) * 7


def test_page_tables_tell_where_pages_are() -> None:
    m = boot(pages=250)
    task = new_task(m)
    m.mmap.sysctl_overcommit_memory = 1
    with m.running(task):
        base = m.mmap.do_mmap_pgoff(None, 0, 400 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    for page in range(350):
        m.mmu.touch(task, base + page * PAGE, 1, None, page)
        m.sched.end_of_op()
    row = proc.page_tables(m, task).splitlines()[1].split()
    pages, present, dirty, young, swap, none = map(int, row[1:])
    assert (pages, none) == (400, 50) and present + swap == 350 and swap > 50
    assert present == task.mm.rss and dirty <= present and young <= present  # type: ignore[union-attr]


def test_the_lists_by_kind() -> None:
    m = boot(pages=250)
    task = new_task(m)
    file = a_file(m, 100)
    for index in range(100):
        store(m, file, index, b"x")
    with m.running(task):
        base = m.mmap.do_mmap_pgoff(None, 0, 300 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    for page in range(200):
        m.mmu.touch(task, base + page * PAGE, 1, None, page)
        m.sched.end_of_op()
    rows = [row.split() for row in proc.lru(m).splitlines()]
    totals = [sum(int(row[column]) for row in rows[1:]) for column in range(1, 6)]
    assert totals[0] == m.swap.nr_active_pages + m.swap.nr_inactive_pages == sum(totals[1:])
    assert totals[2] == file.inode.i_mapping.nrpages and totals[3] == m.swap_state.swapper_space.nrpages
    letters = "".join(line[9:] for line in proc.lru_line(m, 10_000).splitlines())
    assert [letters.upper().count(letter) for letter in "FTSA"] == totals[1:]


def test_uptime() -> None:
    m = machine()
    m.sched.jiffies = 12345
    assert proc.uptime(m) == "123.45"
