"""One workload on two kernels, operation by operation: what it cost on each, and where they part.

A workload is a function of a machine; as a generator it says with each ``yield`` that an operation is over
(a label, or a label and how many memory accesses the operation made), so that both machines are in step.
A page trace, its name, the name of a workload of kernel_workloads.py, or steps of ``vmlab.workload()`` do as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..errors import KernelHang, VmlabError
from ..machine import Machine, start
from ..mm.events import EVENTS, Event, describe
from ..mm.vmscan import Vmscan
from .kernel_workloads import KERNEL_WORKLOADS
from .pagetrace import PageTrace, load_trace, shipped

if TYPE_CHECKING:
    from ..mm.mmzone import Zone
    from ..mm.task import Task
    from ..mm.vm import MmStruct, VmArea

__all__ = ["FirstDifference", "KernelComparison", "KernelRun", "compare_kernels"]

Workload = Callable[[Machine], Any] | PageTrace | str | Iterable[tuple[Any, ...]]
OUTCOME = ("minor faults", "major faults", "swapped in", "swapped out", "file reads", "file writes", "kills")
COUNTERS = (
    *OUTCOME,
    "kswapd runs",
    "direct reclaims",
    "pages scanned",
    "entries looked at",
    "pages reclaimed",
    "failed requests",
    "free",
    "active",
    "inactive",
    "swap used",
    "areas",
    "fragmentation",
    "seconds",
)
_MOST_EVENTS = 20_000  # kept of one operation


class CountingVmscan(Vmscan):
    """2.4's reclaim, with a count of the page table entries that the clock passes."""

    entries_looked_at = 0

    def swap_out_pmd(self, mm: MmStruct, vma: VmArea, pmd: int, address: int, end: int, count: int, classzone: Zone) -> int:
        left = super().swap_out_pmd(mm, vma, pmd, address, end, count, classzone)
        if pmd:
            self.entries_looked_at += mm.swap_address - address >> 12
        return left


class FirstDifference(NamedTuple):
    """The first operation that did not do the same on both kernels."""

    number: int  # of the operation, from 0
    label: str
    outcomes: tuple[dict[str, float], dict[str, float]]  # what it did on each: only counters that differ
    events: tuple[list[Event], list[Event]]

    def aligned(self, everything: bool = True) -> list[tuple[str, str]]:
        """The steps of both kernels side by side, by the names of events; "" where the other has no counterpart.

        everything: with the bookkeeping of free lists, per-CPU lists and the TLB, which differs all the time.
        """
        left, right = [[event for event in side if everything or not _bookkeeping(event)] for side in self.events]
        names = [[str(event[0]) for event in side] for side in (left, right)]
        rows: list[tuple[str, str]] = []
        for tag, a, b, c, d in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
            if tag == "equal":
                rows += [(describe(x), describe(y)) for x, y in zip(left[a:b], right[c:d], strict=True)]
            else:
                rows += [(describe(x), "") for x in left[a:b]]
                rows += [("", describe(y)) for y in right[c:d]]
        return rows

    def why(self) -> str:
        """The first steps that the other kernel did not take."""
        rows = self.aligned(everything=False)
        first = next((i for i, row in enumerate(rows) if not all(row)), None)
        if first is None:
            return "both took the same steps, with different pages"
        only = [next((row[side] for row in rows[first:] if row[side] and not row[1 - side]), "") for side in (0, 1)]
        return f"after {first} common steps the first kernel: {only[0] or 'nothing more'}; the second: {only[1] or 'nothing more'}"


def _bookkeeping(event: Event) -> bool:
    """Whether *event* is about free lists or the TLB."""
    spec = EVENTS.get(event[0])
    return spec is None or spec.kernel.startswith(("mm/page_alloc.c", "mm/slab.c", "mm/rmap.c:page_", "include/asm-i386"))


class KernelRun:
    """One kernel's half: the machine, its counters after every sample, and what it did in all."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.kernel = name
        self.series: dict[str, list[float]] = {name: [] for name in COUNTERS}
        self.operations: list[int] = []  # done when each sample was taken
        self.accesses = 0
        self.ended = ""  # why the workload ended early
        self.steps: list[Event] = []  # of this operation
        self._tasks: dict[int, Task] = {}
        machine.on_event = self._note

    def _note(self, event: Event) -> None:
        if len(self.steps) < _MOST_EVENTS:
            self.steps.append(event)

    def counters(self) -> dict[str, float]:
        """All of COUNTERS, now."""
        m = self.machine
        stat = m.sched.kstat
        self._tasks |= {id(task): task for task in m.sched.tasks.values()}
        got: dict[str, float] = {
            "minor faults": sum(task.min_flt for task in self._tasks.values()),
            "major faults": sum(task.maj_flt for task in self._tasks.values()),
            "file reads": m.block.file_reads,
            "file writes": m.block.file_writes,
            "kills": stat.oom_kills,
            "kswapd runs": stat.kswapd_runs,
            "failed requests": m.stat.fail,
            "free": m.nr_free_pages(),
            "active": m.swap.nr_active_pages,
            "inactive": m.swap.nr_inactive_pages,
            "swap used": m.swapfile.total_swap_pages - m.swapfile.nr_swap_pages,
            "areas": sum(task.mm.map_count for task in m.sched.tasks.values() if task.mm is not None),
            "fragmentation": m.fragmentation(max(m.zones, key=lambda zone: zone.size), 4),
            "seconds": m.sched.jiffies / (1000 if self.kernel == "2.6" else 100),
        }
        if self.kernel == "2.6":
            state = cast(Any, m.page_allocator).page_state
            got |= {
                "swapped in": state.pswpin,
                "swapped out": state.pswpout,
                "direct reclaims": state.allocstall,
                "pages scanned": sum(state.pgscan_kswapd) + sum(state.pgscan_direct),
                "entries looked at": cast(Any, m).rmap.entries_looked_at,
                "pages reclaimed": sum(state.pgsteal),
            }
        else:
            vmscan = cast(CountingVmscan, m.reclaim)
            got |= {
                "swapped in": stat.pswpin,
                "swapped out": stat.pswpout,
                "direct reclaims": m.stat.reclaim,
                "pages scanned": vmscan.scanned,
                "entries looked at": vmscan.entries_looked_at,
                "pages reclaimed": vmscan.reclaimed,
            }
        return got

    def sample(self, operations: int) -> None:
        """Note the counters after so many operations."""
        self.operations.append(operations)
        for name, value in self.counters().items():
            self.series[name].append(value)

    @property
    def totals(self) -> dict[str, float]:
        """The counters at the end, and the ratios that follow from them."""
        last = {name: values[-1] for name, values in self.series.items()}
        looked = last["pages scanned"] + last["entries looked at"]
        faults = last["minor faults"] + last["major faults"]
        return last | {
            "accesses": self.accesses,
            "miss ratio": last["major faults"] / (self.accesses or faults or 1),
            "scan efficiency": last["pages reclaimed"] / looked if looked else 1.0,
            "mean fragmentation": sum(self.series["fragmentation"]) / len(self.series["fragmentation"]),
        }


class KernelComparison:
    """What :func:`compare_kernels` found. Prints as a table; ``vmlab.views.kernels.plot(it, "free")`` draws counters over time."""

    def __init__(self, workload: str, runs: tuple[KernelRun, KernelRun], first: FirstDifference | None, operations: int) -> None:
        self.workload = workload
        self.runs = runs
        self.first = first
        self.operations = operations

    @property
    def kernels(self) -> tuple[str, str]:
        """The kernels' names."""
        return self.runs[0].kernel, self.runs[1].kernel

    def series(self, counter: str) -> tuple[list[float], list[float]]:
        """A counter over time on both kernels; the operations done by then are in ``runs[0].operations``. Raises KeyError."""
        return self.runs[0].series[counter], self.runs[1].series[counter]

    def rows(self) -> list[tuple[str, float, float]]:
        """(counter, on the first, on the second), ratios at the end."""
        first, second = (run.totals for run in self.runs)
        return [(name, value, second[name]) for name, value in first.items()]

    def __str__(self) -> str:
        names = self.kernels
        rows = [f"{self.workload}: {self.operations:,} operations", f"{'':22}{names[0]:>14}{names[1]:>14}"]
        rows += [f"{name:22}{_number(a):>14}{_number(b):>14}" for name, a, b in self.rows()]
        rows += [f"{run.kernel} ended early: {run.ended}" for run in self.runs if run.ended]
        if self.first is None:
            rows.append("No operation had another outcome.")
        else:
            pairs = zip(self.first.outcomes[0].items(), self.first.outcomes[1].values(), strict=True)
            what = ", ".join(f"{name} {_number(a)} and {_number(b)}" for (name, a), b in pairs)
            rows.append(f"First different: operation {self.first.number} ({self.first.label}): {what}; {self.first.why()}")
        return "\n".join(rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{name}</th>" for name in ("", *self.kernels))
        body = "".join(f"<tr><th scope='row'>{name}</th><td>{_number(a)}</td><td>{_number(b)}</td></tr>" for name, a, b in self.rows())
        return f"<table><caption>{self.workload}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4f}"


# -- running ----------------------------------------------------------------------------------


def _of_trace(trace: PageTrace, pieces: int) -> Callable[[Machine], Iterator[tuple[str, int]]]:
    """A page trace as a workload of so many operations."""

    def work(m: Machine) -> Iterator[tuple[str, int]]:
        process = m.spawn(trace.name or "trace")
        for page, length in trace.regions:
            process.mmap(length << 12, "rwx", addr=page << 12, fixed=True)
        size = max(1, -(-len(trace) // pieces))
        for at in range(0, len(trace), size):
            piece = [trace.pages[r >> 1] << 1 | r & 1 for r in trace.refs[at : at + size]]
            m.touch_list(process.pid, piece)
            yield f"references {at:,} to {at + len(piece):,}", len(piece)

    return work


def _of_steps(steps: list[tuple[Any, ...]]) -> Callable[[Machine], Iterator[str]]:
    """Steps of vmlab.workload() as a workload."""

    def work(m: Machine) -> Iterator[str]:
        live: dict[int, Any] = {}
        for step in steps:
            if step[0] == "alloc":
                try:
                    page = m.alloc_pages(step[1], step[2])
                except KernelHang:
                    page = None
                if page is not None:
                    live[step[3]] = page
                yield f"2^{step[2]} pages: {'given' if page is not None else 'refused'}"
            else:
                page = live.pop(step[1], None)
                if page is not None:
                    m.free_pages(page)
                yield "free"

    return work


def _resolve(workload: Workload, pieces: int) -> tuple[str, Callable[[Machine], Any], dict[str, Any]]:
    """(name, function of a machine, options of the machines) of whatever describes a workload."""
    if isinstance(workload, str):
        if workload in KERNEL_WORKLOADS:
            known = KERNEL_WORKLOADS[workload]
            return workload, known.run, dict(known.options)
        if workload not in shipped():
            raise ValueError(f"no workload {workload!r}; there are {', '.join((*KERNEL_WORKLOADS, *shipped()))}")
        workload = load_trace(workload)
    if isinstance(workload, PageTrace):
        return workload.name or "page trace", _of_trace(workload, pieces), {}
    if callable(workload):
        return getattr(workload, "__name__", "workload"), workload, {}
    return "allocations", _of_steps(list(workload)), {}


def _machine(kernel: str, ram: int | str, swap: int | str | None, options: dict[str, Any]) -> Machine:
    parts = dict(options.pop("parts", {}))
    if kernel == "2.6":
        from .counting26 import CountingRmap

        parts.setdefault("rmap", CountingRmap)
    else:
        options.setdefault("reclaim", CountingVmscan)
    return start(Machine(ram, kernel=kernel, parts=parts, **options), swap)


def _steps(work: Callable[[Machine], Any], machine: Machine) -> Iterator[Any]:
    if inspect.isgeneratorfunction(work):
        yield from work(machine)
        return
    got = work(machine)
    if isinstance(got, Iterator):
        yield from got
    else:
        yield "all of it"


def _advance(run: KernelRun, steps: Iterator[Any]) -> tuple[str, bool]:
    """One operation; returns its label and whether there was one."""
    if run.ended:
        return "", False
    try:
        step = next(steps)
    except StopIteration:
        return "", False
    except VmlabError as error:
        run.ended = str(error)
        return "", False
    label, accesses = step if isinstance(step, tuple) else (step, 0)
    run.accesses += accesses
    return str(label), True


def compare_kernels(
    workload: Workload,
    kernels: tuple[str, str] = ("2.4", "2.6"),
    *,
    ram: int | str | None = None,
    swap: int | str | None = None,
    samples: int = 200,
    **options: Any,
) -> KernelComparison:
    """Run *workload* on both *kernels*, operation by operation in step.

    ram, swap, options: of both machines (see :func:`vmlab.boot`); where the workload has its own sizes those are used.
    samples: about how often the counters are noted. Raises ValueError for an unknown workload or kernel.
    """
    if len(kernels) != 2:
        raise ValueError(f"kernels={kernels!r}: two kernels are compared")
    name, work, given = _resolve(workload, samples)
    sizes = {"ram": ram or given.pop("ram", "32M"), "swap": swap if swap is not None else given.pop("swap", "64M")}
    given.pop("ram", None), given.pop("swap", None)
    runs = [KernelRun(_machine(kernel, options=given | options, **sizes), kernel) for kernel in kernels]
    streams = [_steps(work, run.machine) for run in runs]
    first: FirstDifference | None = None
    outcomes = [run.counters() for run in runs]
    for run in runs:
        run.sample(0)
    every, done = 1, 0
    while True:
        for run in runs:
            run.steps = []
        went = [_advance(run, steps) for run, steps in zip(runs, streams, strict=True)]
        if not any(alive for _, alive in went):
            break
        if first is None:
            now = [run.counters() for run in runs]
            did = [{key: after[key] - before[key] for key in OUTCOME} for before, after in zip(outcomes, now, strict=True)]
            outcomes = now
            differing = [key for key in OUTCOME if did[0][key] != did[1][key]]
            labels = went[0][0] or went[1][0]
            if differing or went[0] != went[1]:
                shown = ({key: did[0][key] for key in differing}, {key: did[1][key] for key in differing})
                first = FirstDifference(done, labels, shown, (runs[0].steps, runs[1].steps))
                for run in runs:
                    run.machine.on_event = None  # a machine nobody listens to is faster
        done += 1
        if done % every == 0:
            for run in runs:
                run.sample(done)
            if len(runs[0].operations) >= 2 * samples:  # twice too many: every second one will do
                every *= 2
                for run in runs:
                    run.operations = run.operations[::2]
                    run.series = {key: values[::2] for key, values in run.series.items()}
    for run in runs:
        if run.operations[-1] != done:
            run.sample(done)
        run.machine.on_event = None
    return KernelComparison(name, (runs[0], runs[1]), first, done)
