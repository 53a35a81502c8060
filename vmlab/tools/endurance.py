"""`vmlab endurance`: random system calls and memory accesses for hours, every byte compared with a model kept outside.

Several processes map, write, fork, share, lock, move, truncate, run out of memory and are killed, on a
machine with two swap areas on real files. After each step the machine's answer is compared with the
shadow (shadow.py); every so many steps all its invariants are checked; at the end every page is read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import KernelBug, KernelHang, KernelPanic
from ..hw.e820 import parse_size
from .endurance_calls import Calls, Step
from .shadow import Difference

__all__ = ["Endurance", "main"]


class Endurance(Calls):
    """One run: a machine, its shadow, and random steps from one seed."""

    def table(self) -> tuple[tuple[Step, float], ...]:
        """What can happen, and how often in proportion."""
        return (
            (self.mmap, 12),
            (self.munmap, 6),
            (self.mprotect, 8),
            (self.mremap, 8),
            (self.brk, 4),
            (self.madvise, 6),
            (self.mlock, 3),
            (self.munlock, 3),
            (self.msync, 3),
            (self.fork, 3),
            (self.exit, 1.5),
            (self.stack, 2),
            (self.write_file, 8),
            (self.read_file, 8),
            (self.read_into, 4),
            (self.truncate, 4),
            (self.fsync, 2),
            (self.shm, 3),
            (self.whole_page, 10),
            (self.swap, 0.2),
            (self.hog, 1),
            (self.remove, 1),
            (self.kernel_memory, 2),
        )

    def run(self, steps: int | None = None, seconds: float | None = None, check_every: int = 1000) -> None:
        """Go on for so many steps, or seconds.

        Raises Difference, KernelBug, KernelHang or KernelPanic, with the number of the step in ``self.step``.
        """
        table = self.table()
        self.calls, self.weights = [call for call, _ in table], [weight for _, weight in table]
        stop = None if seconds is None else time.monotonic() + seconds
        self.check_every, self.next_check = check_every, self.step + check_every
        while (steps is None or self.step < steps) and (stop is None or time.monotonic() < stop):
            self.one()

    def one(self) -> None:
        """One random thing."""
        rng = self.rng
        if 2 * len(self.procs) < self.most or (len(self.procs) < self.most and rng.random() < 0.002):
            self.spawn()
            return
        p = rng.choice(list(self.procs.values()))
        if rng.random() < self.burst_share:
            self.burst(p)
            return
        rng.choices(self.calls, self.weights)[0](p)

    def finish(self) -> None:
        """Read everything once more, end all processes, switch swap off: nothing may be left behind."""
        for p in list(self.procs.values()):
            for page in sorted(p.pages):
                if p.pid not in self.procs:
                    break
                if not p.signal(page, False):
                    self.read_page(p, page)
        self.check()
        for name, backing in self.files.items():
            self.compare_file(name, backing)
        for p in list(self.procs.values()):
            self.exit(p)
        for disk in self.swaps:
            if disk not in self.off and self.machine.swapoff(disk):
                raise Difference(f"swapoff of disk {disk} failed though no process is left")
        self.check()

    def report(self) -> str:
        """The figures of the run."""
        m = self.machine
        k = m.sched.kstat
        calls = ", ".join(f"{name} {n} ({self.failed.get(name, 0)} failed)" for name, n in sorted(self.made.items()))
        faults = f"{self.signals[11]} SIGSEGV and {self.signals[7]} SIGBUS, each expected"
        return "\n".join(
            (
                f"{self.step} steps: {self.touches} touches ({faults}), {sum(self.made.values())} calls",
                f"{self.checks} checks of every invariant",
                f"calls: {calls}",
                f"processes: {self.forks} forked, {self.kills} killed for lack of memory, {len(self.procs)} alive",
                f"swap: {k.pswpout} pages out, {k.pswpin} in; kswapd ran {k.kswapd_runs} times; {self.compared} pages compared whole",
                "0 differences",
            )
        )


def main(argv: Sequence[str]) -> int:
    """`vmlab endurance`: 0 when nothing differed, 1 with the seed and step when something did."""
    parser = argparse.ArgumentParser(prog="vmlab endurance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, help="stop after so many accesses and calls")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ram", default="24M", help="memory of the machine")
    parser.add_argument("--swap", default="12M", help="size of each of the two swap files")
    parser.add_argument("--processes", type=int, default=8, help="at most so many at a time")
    parser.add_argument("--demand", type=float, default=1.2, help="memory mapped, as a share of RAM and swap")
    parser.add_argument("--bursts", type=float, default=0.5, help="share of steps that are runs of accesses")
    parser.add_argument("--check-every", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--pae", action="store_true", help="three-level page tables")
    parser.add_argument("--io-mode", type=int, choices=(0, 1), default=0, help="1: disks finish when somebody waits")
    parser.add_argument("--high", default="0", metavar="SIZE", help="how much of the memory is high memory (then --ram at least 64M more)")
    parser.add_argument("--tlb", action="store_true", help="with a TLB of 64 entries: a flush that is missing shows")
    parser.add_argument("--verbose", action="store_true", help="say every minute how far it is")
    options = parser.parse_args(argv)
    if options.steps is None and options.seconds is None:
        options.steps = 100_000
    with tempfile.TemporaryDirectory(prefix="vmlab-endurance-") as directory:
        run = Endurance(
            options.seed,
            Path(directory),
            ram=options.ram,
            swap=options.swap,
            most=options.processes,
            demand=options.demand,
            burst_share=options.bursts,
            pae=options.pae,
            io_mode=options.io_mode,
            highmem_pages=parse_size(options.high) >> 12 or -1,
            tlb=options.tlb,
        )
        began = time.monotonic()
        try:
            if options.verbose:
                _talk(run, options, began)
            else:
                run.run(options.steps, options.seconds, options.check_every)
            run.finish()
        except (Difference, KernelBug, KernelHang, KernelPanic) as error:
            print(f"seed {options.seed}, step {run.step}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(run.report())
        print(f"{time.monotonic() - began:.1f} s")
    return 0


def _talk(run: Endurance, options: argparse.Namespace, began: float) -> None:
    while options.steps is None or run.step < options.steps:
        left = None if options.seconds is None else options.seconds - (time.monotonic() - began)
        if left is not None and left <= 0:
            return
        run.run(options.steps, 60 if left is None else min(60, left), options.check_every)
        print(f"{time.monotonic() - began:.0f} s: step {run.step}, {run.touches} touches, {run.kills} kills", file=sys.stderr, flush=True)
