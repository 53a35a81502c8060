"""How fast address spaces, faults and real programs' references run, beside the real kernel and libcachesim.

    python -m benchmarks memory

CPU time, the minimum of RUNS, all in one run. The real kernel's figures are those of the genuine 2.4.22 C in user
space on a quiet machine of the same kind (ENGINE notes); libcachesim runs here, on the same traces.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vmlab
from benchmarks.core import best, cpu
from vmlab.trace.fastpath import run_trace
from vmlab.trace.pagetrace import PageTrace, load_trace, shipped

REAL = {"write fault": 0.74e6, "touch": 35e6, "mmap": 3.9e6, "thrash": 0.345e6, "kmem": 1e9 / 11}
MIB = 1 << 20


def whole(ram: str = "256M", **options: Any) -> vmlab.Machine:
    """A whole machine that never refuses to map."""
    machine = vmlab.boot(ram=ram, **options)
    machine.overcommit(1)
    return machine


def pages(address: int, count: int, write: int = 1) -> list[int]:
    """References to *count* pages from *address* on, as touch_list takes them."""
    return [(address >> 12) + i << 1 | write for i in range(count)]


def write_faults(count: int = 30_000) -> float:
    """Anonymous write faults a second."""

    def prepare() -> Callable[[], Any]:
        machine = whole()
        process = machine.spawn()
        references = pages(process.mmap(count << 12), count)
        return lambda: machine.touch_list(process.pid, references)

    return count / best(prepare)


def resident_touches(count: int = 400_000) -> float:
    """Touches a second of pages that are there, one by one."""
    machine = whole()
    process = machine.spawn()
    references = pages(process.mmap(16 * MIB), 4096)
    machine.touch_list(process.pid, references)
    many = references * (count // 4096)
    return len(many) / best(lambda: lambda: machine.touch_list(process.pid, many))


def map_pairs(count: int = 5_000) -> tuple[float, float]:
    """mmap + munmap pairs a second: through Process, and the kernel's functions alone."""
    machine = whole()
    process = machine.spawn()

    def outside() -> None:
        for _ in range(count):
            process.munmap(process.mmap(8192), 8192)

    def inside() -> None:
        mmap = machine.mmap
        with machine.running(process.task):
            for _ in range(count):
                mmap.sys_munmap(mmap.do_mmap_pgoff(None, 0, 8192, 3, 0x22, 0), 8192)

    return count / best(lambda: outside), count / best(lambda: inside)


def fork_time() -> float:
    """Seconds to fork a process with 64 MiB in memory."""

    def prepare() -> Callable[[], Any]:
        machine = whole()
        process = machine.spawn()
        machine.touch_list(process.pid, pages(process.mmap(64 * MIB), 64 * 256))
        return process.fork

    return best(prepare)


def walk_time() -> float:
    """Seconds for a page walk and its table in words."""
    machine = whole()
    process = machine.spawn()
    address = process.mmap(4 * MIB)
    process.write(address, b"x")
    return best(lambda: lambda: [str(process.walk(address + i * 4096)) for i in range(100)]) / 100


def thrash(laps: int = 2) -> float:
    """Touches a second of 88 MiB cycled through 64 MiB, writing, with swap."""

    def prepare() -> Callable[[], Any]:
        machine = whole("64M", swap="128M")
        process = machine.spawn()
        references = pages(process.mmap(88 * MIB), 88 * 256)
        machine.touch_list(process.pid, references)
        return lambda: machine.touch_list(process.pid, references * laps)

    return 88 * 256 * laps / best(prepare)


def slab_pairs(count: int = 50_000) -> tuple[float, float]:
    """kmem_cache alloc + free pairs a second, and kmalloc + kfree of 100 bytes."""
    slab = whole("64M").slab
    cache = slab.kmem_cache_create("bench", 128, 0, 0, None, None)

    def objects() -> None:
        for _ in range(count):
            slab.kmem_cache_free(cache, slab.kmem_cache_alloc(cache, vmlab.GFP_KERNEL))

    def sizes() -> None:
        for _ in range(count):
            slab.kfree(slab.kmalloc(100, vmlab.GFP_KERNEL))

    return count / best(lambda: objects), count / best(lambda: sizes)


def vmalloc_time() -> float:
    """Seconds for vmalloc and vfree of 4 MiB."""
    machine = whole()
    return best(lambda: lambda: machine.vfree(machine.vmalloc(4 * MIB)))


def trace_speed(trace: PageTrace, fast: bool, ram: str = "64M") -> float:
    """References a second of a program that starts with nothing in memory."""

    def prepare() -> Callable[[], Any]:
        machine = whole(ram, swap="64M")
        process = machine.spawn(trace.name)
        for page, length in trace.regions:
            process.mmap(length << 12, "rwx", addr=page << 12, fixed=True)
        return lambda: run_trace(machine, process.task, trace, fast=fast)

    return len(trace) / best(prepare)


def peers(trace: PageTrace) -> dict[str, float]:
    """References a second of libcachesim's LRU and Clock with room for all pages; empty where it is not installed."""
    try:
        import libcachesim
    except ImportError:
        return {}
    rows = np.zeros(len(trace), dtype=[("time", "<u4"), ("page", "<u8"), ("size", "<u4"), ("next", "<i8")])
    rows["page"] = np.frombuffer(trace.pages, dtype=np.uint32)[np.frombuffer(trace.refs, dtype=np.uint32) >> 1]
    rows["size"], rows["next"] = 1, -2
    speed = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.oracleGeneral"
        path.write_bytes(rows.tobytes())
        for name in ("LRU", "Clock"):

            def prepare(name: str = name) -> Callable[[], Any]:
                reader = libcachesim.open_trace(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
                cache = getattr(libcachesim, name)(len(trace.pages))
                return lambda: cache.process_trace(reader)

            speed[name] = len(trace) / best(prepare)
    return speed


def main() -> None:
    """Measure everything and print one table."""
    kmem, kmalloc = slab_pairs()
    outside, inside = map_pairs()
    rows = [
        ("anonymous write faults", f"{(n := write_faults()):,.0f}/s", f"real kernel {REAL['write fault'] / n:.1f}× faster"),
        ("resident touches, one by one", f"{(n := resident_touches()) / 1e6:.1f} M/s", f"real kernel {REAL['touch'] / n:.1f}×"),
        ("mmap + munmap (Process)", f"{outside:,.0f} pairs/s", ""),
        ("mmap + munmap (kernel functions)", f"{inside:,.0f} pairs/s", f"real kernel {REAL['mmap'] / inside:.0f}×"),
        ("fork of 64 MiB resident", f"{fork_time() * 1e3:.1f} ms", ""),
        ("page walk, in words", f"{walk_time() * 1e3:.3f} ms", ""),
        ("88 MiB cycled through 64 MiB, writing", f"{(n := thrash()):,.0f} touches/s", f"real kernel {REAL['thrash'] / n:.1f}×"),
        ("kmem_cache alloc + free", f"{kmem:,.0f} pairs/s", f"real kernel {REAL['kmem'] / kmem:.0f}×"),
        ("kmalloc + kfree", f"{kmalloc:,.0f} pairs/s", ""),
        ("vmalloc + vfree of 4 MiB", f"{vmalloc_time() * 1e3:.1f} ms", ""),
    ]
    for name in shipped():
        trace = load_trace(name)
        first = cpu(lambda trace=trace: trace_speed_once(trace))
        fast, slow, other = trace_speed(trace, True), trace_speed(trace, False), peers(trace)
        note = ", ".join(f"libcachesim {peer} {speed / 1e6:.0f} ({fast / speed:.0f}×)" for peer, speed in other.items())
        figure = f"{fast / 1e6:.0f} Mref/s by blocks, {slow / 1e6:.1f} one by one"
        rows.append((f"trace {name}: {len(trace) / 1e6:.1f} Mref", figure, f"{note}; first run {len(trace) / first / 1e6:.0f} Mref/s"))
    width = max(len(row[0]) for row in rows)
    for label, figure, note in rows:
        print(f"{label:<{width}}  {figure:<44} {note}")


def trace_speed_once(trace: PageTrace) -> None:
    """One run of a trace that was never run: the index is made on the way."""
    trace.index.clear()
    machine = whole("64M")
    machine.run(trace)


if __name__ == "__main__":
    main()
