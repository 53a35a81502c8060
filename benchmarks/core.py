"""How fast the core is: CPU time, the minimum of five, and each figure as a ratio to bare dict work in the same run.

    python benchmarks/core.py

Machines are shared and noisy, so the ratios are what to compare; no test depends on any of it.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import vmlab
from vmlab import GFP_KERNEL

OPERATIONS = 200_000
RUNS = 5


def cpu(work: Callable[[], Any]) -> float:
    """Seconds of CPU time of one call, garbage collection off."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    work()
    taken = time.process_time() - start
    gc.enable()
    return taken


def best(make: Callable[[], Callable[[], Any]]) -> float:
    """Minimum of RUNS; *make* prepares a run outside the clock."""
    return min(cpu(make()) for _ in range(RUNS))


def dict_pairs() -> None:
    """The yardstick: insert a key into a dict and pop it again, OPERATIONS times."""
    table: dict[int, None] = {}
    for i in range(OPERATIONS):
        table[i] = None
        table.popitem()


def churn_steps(seed: int = 1) -> list[int]:
    """Order to allocate (0 to 5), or -1 - i to free the i-th live block; up to 2,000 blocks live."""
    rng = random.Random(seed)
    steps, live = [], 0
    for _ in range(OPERATIONS):
        if live > 2000 or (live and rng.random() < 0.5):
            steps.append(-1 - int(rng.random() * live))
            live -= 1
        else:
            steps.append(int(rng.random() * 6))
            live += 1
    return steps


def churn(machine: vmlab.Machine, steps: list[int]) -> None:
    """Run the steps through the public API."""
    live: list[Any] = []
    alloc, free = machine.alloc_pages, machine.free_pages
    for step in steps:
        if step >= 0:
            live.append(alloc(GFP_KERNEL, step))
        else:
            at = -1 - step
            live[at], live[-1] = live[-1], live[at]
            free(live.pop())


def main() -> None:
    """Measure everything and print one table."""
    steps = churn_steps()
    gib = vmlab.boot(ram="1G")
    pair = best(lambda: dict_pairs) / OPERATIONS

    def unrecorded() -> Callable[[], None]:
        machine = gib.copy()
        return lambda: churn(machine, steps)

    quiet = best(unrecorded) / OPERATIONS

    tapes: list[vmlab.Tape] = []

    def recorded() -> Callable[[], None]:
        machine = gib.copy()
        tapes[:] = [machine.record()]
        return lambda: churn(machine, steps)

    recording = best(recorded) / OPERATIONS
    rows = [
        ("dict insert + popitem (the yardstick)", f"{pair * 1e9:.0f} ns", ""),
        ("buddy churn, orders 0–5, 1 GiB", f"{1 / quiet:,.0f} operations/s", f"1/{quiet / pair:.1f} of the yardstick"),
        ("the same while recording", f"{1 / recording:,.0f} operations/s", f"{recording / quiet:.2f}× slower"),
    ]
    for ram in ("64M", "1G", "4G"):
        rows.append((f"boot {ram}", f"{best(lambda ram=ram: lambda: vmlab.boot(ram=ram)) * 1e3:.1f} ms", ""))
    rows.append(("boot 64G (PAE)", f"{best(lambda: lambda: vmlab.boot(ram='64G', pae=True)) * 1e3:.0f} ms", ""))
    worn = gib.copy()
    churn(worn, steps)
    maps = sum(len(a.map) for z in worn.zones for a in z.free_area)
    rows.append(("state per frame", f"{worn.mem.bytes_per_frame() + maps / worn.mem.frames:.1f} bytes", "columns and pair maps"))
    rows.append(("copy of a 1 GiB machine", f"{best(lambda: worn.copy) * 1e3:.2f} ms", ""))

    machine = gib.copy()
    tape = machine.record()
    seed = 2
    while len(tape) < 1_000_000:
        churn(machine, churn_steps(seed)[: OPERATIONS // 2])
        seed += 1
    tape.stop()
    rng = random.Random(3)
    seeks = sorted(cpu(partial(tape.seek, int(rng.random() * len(tape)))) for _ in range(200))
    rows.append((f"seek, {len(tape):,} events", f"{seeks[190] * 1e3:.1f} ms (95th percentile)", f"median {seeks[100] * 1e3:.1f} ms"))
    rows.append(("that recording", f"{tape.nbytes / 1e6:.0f} MB", f"{tape.n_ops:,} operations, {len(tape._keys)} key frames"))
    width = max(len(r[0]) for r in rows)
    for name, figure, note in rows:
        print(f"{name:<{width}}  {figure:<28} {note}")


if __name__ == "__main__":
    main()
