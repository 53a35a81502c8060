"""A program's page references, run on a machine: exact, and fast where nothing happens.

The hardware sets ACCESSED and DIRTY without the kernel; only a fault enters it. Between two faults
hits do nothing but set bits, so their order does not matter. For each block of references the
distinct ones and where they first occur are computed once, from the trace alone; a block whose
pages are all there is one gather and one scatter. A reference that faults is done by the machine
itself, after the bits of those before it were set. When a fault made the machine reclaim memory,
bits may have been cleared and pages taken away: what is left of that block runs one by one.

numpy does the blocks; without it, or with a TLB, a listener, or a part of a student's own that
looks at every access, each reference is one step. The final state is the same.

Source: measurements of the same idea in nine styles, ENGINE notes of the project.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Signalled
from ..mm.gfp import GFP_HIGHUSER, GFP_KERNEL, GFP_ZONEMASK
from ..mm.mmu import Mmu

if TYPE_CHECKING:
    from ..machine import Machine
    from ..mm.task import Task
    from ..process import Process
    from .pagetrace import PageTrace

__all__ = ["TraceRun", "run_in_process", "run_trace"]

BIG = 1 << 16  # references in a block
SMALL = 1 << 11  # in the pieces of a block that was interrupted by reclaim
_READ_HIT, _WRITE_HIT = 0x25, 0x67  # the entry of a page on which a read (write) changes nothing
_READ_OK, _WRITE_OK = 0x05, 0x07  # ... does not fault
_MARGIN = 128  # pages: more than one fault takes, clusters of a file included


class TraceRun(NamedTuple):
    """What running a trace did: accesses, faults by kind, and the signal that ended it early (0 for none)."""

    references: int
    faults: int
    minor: int
    major: int
    signal: int
    fast: bool  # by blocks, or one by one

    @property
    def hits(self) -> int:
        """References that did not fault."""
        return self.references - self.faults

    def __str__(self) -> str:
        ratio = self.faults / self.references if self.references else 0.0
        end = f", ended by signal {self.signal}" if self.signal else ""
        return f"{self.references:,} references, {self.faults:,} faults ({ratio:.4%}: {self.minor:,} minor, {self.major:,} major){end}"


class _Block:
    """The distinct references of one stretch of a trace, in the order of their first occurrence.

    A read of a page that was written before in the same stretch does nothing new and is left out.
    ``parts``: for each page table, (its number, order of the entries, slots, what a hit looks like, what does not fault).
    """

    __slots__ = ("count", "page", "parts", "position", "write")

    def __init__(self, np: Any, refs: Any, pages: Any, shift: int) -> None:
        size = 2 * len(pages)
        first = np.full(size, len(refs), dtype=np.int64)
        first[refs[::-1]] = np.arange(len(refs) - 1, -1, -1)
        seen = np.flatnonzero(first < len(refs))
        reads = seen & 1 == 0
        kept = seen[~reads | (first[seen] < first[np.minimum(seen | 1, size - 1)])]
        kept = kept[np.argsort(first[kept], kind="stable")]
        self.position = first[kept].tolist()
        self.count = len(kept)
        page = pages[kept >> 1]
        write = kept & 1
        self.page = page.tolist()
        self.write = write.tolist()
        table = page >> shift
        slot = page & (1 << shift) - 1
        hit = np.where(write == 1, _WRITE_HIT, _READ_HIT).astype(np.uint64)
        ok = np.where(write == 1, _WRITE_OK, _READ_OK).astype(np.uint64)
        self.parts = []
        for number in np.unique(table).tolist():
            order = np.flatnonzero(table == number)
            self.parts.append((number, order, slot[order], hit[order], ok[order]))


class _Index:
    """The blocks of one trace for one size of page table, made when first needed."""

    def __init__(self, np: Any, trace: PageTrace, shift: int) -> None:
        self.np = np
        self.refs = np.frombuffer(trace.refs, dtype=np.uint32)
        self.pages = np.frombuffer(trace.pages, dtype=np.uint32).astype(np.int64)
        self.shift = shift
        self.blocks: dict[tuple[int, int], _Block] = {}

    def block(self, start: int, stop: int) -> _Block:
        """The block of references [start, stop)."""
        found = self.blocks.get((start, stop))
        if found is None:
            found = self.blocks[start, stop] = _Block(self.np, self.refs[start:stop], self.pages, self.shift)
        return found

    def plain(self, start: int, stop: int) -> list[int]:
        """The references [start, stop) as Mmu.run takes them: page << 1 | write."""
        refs = self.refs[start:stop]
        plain: list[int] = (self.pages[refs >> 1] << 1 | refs & 1).tolist()
        return plain


class _Runner:
    """One run: the task's page tables as numpy sees them, and how far it got."""

    def __init__(self, machine: Machine, task: Task, index: _Index) -> None:
        self.machine = machine
        self.task = task
        self.index = index
        self.np = index.np
        self.views: dict[int, tuple[array[int], Any]] = {}  # page table frame → its array, and numpy's view of it
        self.faults = 0
        self.signal = 0

    def table(self, number: int) -> Any:
        """numpy's view of page table *number* of the task, None where there is none."""
        machine = self.machine
        assert self.task.mm is not None
        found = machine.pgtable.pmd_lookup(self.task.mm, number << machine.pgtable.PMD_SHIFT)
        assert found is not None
        pmd = found[0][found[1]]
        if not pmd:
            return None
        entries = machine.ram.contents[pmd >> 12]
        known = self.views.get(pmd >> 12)
        if known is None or known[0] is not entries:
            view = self.np.frombuffer(entries, dtype=self.np.uint64 if entries.itemsize == 8 else self.np.uint32)
            known = self.views[pmd >> 12] = (entries, view)
        return known[1]

    def look(self, block: _Block) -> tuple[list[int], list[tuple[Any, Any, Any, Any]]]:
        """Entries that would fault as things stand, and the page tables in which bits are to be set for the others."""
        missing: list[int] = []
        todo = []
        for number, order, slots, hits, ok in block.parts:
            view = self.table(number)
            if view is None:
                missing += order.tolist()
                continue
            entries = view[slots]
            if ((entries & hits) == hits).all():
                continue
            good = (entries & ok) == ok
            if not good.all():
                missing += order[~good].tolist()
            todo.append((view, order, slots, hits))
        missing.sort()
        return missing, todo

    def mark(self, todo: list[tuple[Any, Any, Any, Any]], start: int, stop: int) -> None:
        """Set ACCESSED (and DIRTY) for entries [start, stop). A page read and then written comes twice, the write last."""
        for view, order, slots, hits in todo:
            first, end = self.np.searchsorted(order, (start, stop))
            if first < end:
                at = slots[first:end]
                view[at] = (view[at] | hits[first:end]).astype(view.dtype)

    def calm(self) -> bool:
        """Whether the next fault cannot make anybody reclaim: nobody will look at the bits during it."""
        zonelists = self.machine.pgdats[0].node_zonelists
        for wanted in (GFP_HIGHUSER, GFP_KERNEL):
            zone = zonelists[wanted & GFP_ZONEMASK][0]
            if zone.free_pages <= zone.pages_low + _MARGIN:
                return False
        return True

    def fault(self, page: int, write: int) -> bool:
        """One reference done by the machine; True when memory was reclaimed meanwhile, or the run is over."""
        machine, task = self.machine, self.task
        kstat, stat = machine.sched.kstat, machine.stat
        before = (kstat.kswapd_runs, stat.reclaim, kstat.yields)
        took = machine.mmu.touch(task, page << 12, write)
        if took < 0:
            self.signal = -took
        else:
            self.faults += took
        if took:
            machine.sched.end_of_op()
        return self.signal != 0 or task.mm is None or before != (kstat.kswapd_runs, stat.reclaim, kstat.yields)

    def run(self, start: int, stop: int, small: bool = False) -> int:
        """Run references [start, stop), one block; returns how far it came."""
        block = self.index.block(start, stop)
        missing, todo = self.look(block)
        marked = 0
        for entry in missing:
            if not self.calm():
                self.mark(todo, marked, entry)
                marked = entry
            disturbed = self.fault(block.page[entry], block.write[entry])
            if self.over or disturbed:
                self.mark(todo, marked, entry) if not disturbed else None
                done = start + block.position[entry] + (not self.signal)
                return done if self.over else self.rest(done, stop, small)
        self.mark(todo, marked, block.count)
        return stop

    def rest(self, start: int, stop: int, small: bool) -> int:
        """What is left of a disturbed block: to the next small boundary one by one, from there by small blocks."""
        if small:
            return self.scalar(start, stop)
        edge = min(stop, -(-start // SMALL) * SMALL)
        at = self.scalar(start, edge)
        if at < edge or self.over:
            return at
        while at < stop:
            end = min(stop, at + SMALL)
            at = self.run(at, end, small=True)
            if at < end or self.over:
                return at
        return at

    @property
    def over(self) -> bool:
        """Whether the task cannot go on."""
        return self.signal != 0 or self.task.mm is None

    def scalar(self, start: int, stop: int) -> int:
        """References [start, stop) one by one."""
        if start >= stop:
            return start
        ran = self.machine.mmu.run(self.task, self.index.plain(start, stop))
        self.faults += ran.faults
        self.signal = ran.signal
        return start + ran.touches


def _numpy() -> Any:
    """numpy where it is installed, else None."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def run_trace(
    machine: Machine, task: Task, trace: PageTrace, start: int = 0, stop: int | None = None, *, fast: bool | None = None
) -> TraceRun:
    """Let *task* make the references [start, stop) of *trace*; its regions must be mapped.

    fast: None lets the machine choose, False goes one by one, True insists on blocks (ValueError when that
    is impossible). Stops at a signal, or when the task is killed.
    """
    stop = len(trace) if stop is None else min(stop, len(trace))
    if task.mm is None:
        raise ValueError(f"{task} has no user memory")
    numpy = _numpy() if fast is not False else None
    able = numpy is not None and machine.mmu.tlb is None and machine.mmu.on_event is None and type(machine.mmu).touch is Mmu.touch
    if fast and not able:
        raise ValueError("references cannot be run by blocks here: numpy is missing, or a TLB, a listener or a part of yours sees each one")
    minor, major = task.min_flt, task.maj_flt
    if able:
        shift = machine.mmu.hardware.index_bits
        index = trace.index.get(shift)
        if index is None:
            index = trace.index[shift] = _Index(numpy, trace, shift)
        runner = _Runner(machine, task, index)
        at = start
        while at < stop and not runner.over:
            end = min(stop, (at // BIG + 1) * BIG)
            came = runner.run(at, end)
            if came < end:
                at = came
                break
            at = came
        done, faults, signal = at - start, runner.faults, runner.signal
    else:
        pages = trace.pages
        ran = machine.mmu.run(task, (pages[r >> 1] << 1 | r & 1 for r in trace.refs[start:stop]))
        done, faults, signal = ran.touches, ran.faults, ran.signal
    return TraceRun(done, faults, task.min_flt - minor, task.maj_flt - major, signal, able)


_RECORDED = 1 << 14  # references in one recorded operation


def run_in_process(machine: Machine, trace: PageTrace, process: Process | None = None, n: int | None = None) -> TraceRun:
    """What ``machine.run(trace)`` does: a process for the trace if none is given, then its first *n* references.

    Raises OSError when the regions of the trace cannot be mapped, ValueError for a process of another machine.
    """
    if process is None:
        process = machine.spawn(trace.name or "trace")
        for page, length in trace.regions:
            got = process.mmap(length << 12, "rwx", addr=page << 12, fixed=True)
            if got < 0:
                raise OSError(-got, f"the region at {page << 12:#010x}, {length} pages, cannot be mapped: {got!r}")
    elif process.machine is not machine:
        raise ValueError(f"process {process.pid} belongs to another machine")
    task = process.task
    if machine.tape is None:
        return run_trace(machine, task, trace, 0, n)
    # A recording keeps operations with plain arguments: the references themselves, in handfuls.
    minor, major = task.min_flt, task.maj_flt
    done = faults = signal = 0
    stop = len(trace) if n is None else min(n, len(trace))
    for start in range(0, stop, _RECORDED):
        piece = [trace.pages[r >> 1] << 1 | r & 1 for r in trace.refs[start : min(stop, start + _RECORDED)]]
        try:
            faults += machine.touch_list(process.pid, piece)
        except Signalled as error:
            signal = error.signal
            break
        done += len(piece)
        if not process.alive:
            break
    return TraceRun(done, faults, task.min_flt - minor, task.maj_flt - major, signal, False)
