"""Replay of highmem-* traces: kmap and kmap_atomic, without processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from ...errors import KernelHang, TraceError
from ...hw.e820 import pc_map
from ...hw.layout import PAGE_SHIFT
from ...machine import Machine
from ...mm.highmem import KM_TYPE_NR
from ...mm.init import FIXADDR_TOP, FIXED_ADDRESSES, PKMAP_BASE
from ...mm.mmu import Mmu
from ...mm.reclaim import ScriptedReclaim
from ...mm.sched import Sched
from .common import free_pages, integer, need_balance

Line = dict[str, Any]

STAGES = ("setup_memory_region", "setup_memory", "paging_init", "register_memory", "kmem_cache_init", "mem_init")
_INPUTS = ("op", "pfn", "type", "vaddr", "kunmap")


class _QueuedSched(Sched):
    """Others run when a task sleeps: each time the next queued frame is unmapped."""

    def __init__(self) -> None:
        super().__init__()
        self.unmaps: list[int] = []
        self.slept = 0

    def schedule(self) -> None:
        """Unmap the next queued frame."""
        if not self.unmaps:
            raise KernelHang("schedule", "nobody is left to run")
        self.slept += 1
        self.kernel.highmem.kunmap(self.unmaps.pop(0))


class _CountingMmu(Mmu):
    """Counts TLB flushes."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.one = 0

    def flush_tlb_all(self) -> None:
        """Count it."""
        self.all += 1
        super().flush_tlb_all()

    def flush_tlb_one(self, address: int) -> None:
        """Count it."""
        self.one += 1
        super().flush_tlb_one(address)


class HighmemReplay:
    """Keeps one machine; a ``trace`` line boots a fresh one."""

    def __init__(self, header: Line) -> None:
        self.machine: Machine | None = None
        self.sched = _QueuedSched()
        self.mmu = _CountingMmu()

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        if self.machine is None:
            raise TraceError("a trace line must come first")
        handler: Callable[[Machine, Line], Line] | None = getattr(self, f"_op_{op}", None) if isinstance(op, str) else None
        if handler is None:
            raise TraceError(f"unknown operation {op!r}")
        return {k: line[k] for k in _INPUTS if k in line} | handler(self.machine, line)

    def _op_kmap(self, machine: Machine, line: Line) -> Line:
        self.sched.slept = 0
        try:
            vaddr = machine.highmem.kmap(self._frame(machine, line["pfn"]))
        except KernelHang:
            return {"r": "block", "fp": free_pages(machine), "nb": need_balance(machine)}
        return {"r": vaddr, "slot": self._slot(machine, vaddr), "slept": self.sched.slept} | self._state(machine)

    def _op_kmap_nb(self, machine: Machine, line: Line) -> Line:
        vaddr = machine.highmem.kmap_nonblock(self._frame(machine, line["pfn"]))
        got: Line = {"r": vaddr, "slot": self._slot(machine, vaddr)} if vaddr else {"r": None}
        return got | self._state(machine)

    def _op_kunmap(self, machine: Machine, line: Line) -> Line:
        machine.highmem.kunmap(self._frame(machine, line["pfn"]))
        return self._state(machine)

    def _op_onsched(self, machine: Machine, line: Line) -> Line:
        self.sched.unmaps += [self._frame(machine, pfn) for pfn in line["kunmap"]]
        return {}

    def _op_kmap_atomic(self, machine: Machine, line: Line) -> Line:
        pfn, km_type = self._frame(machine, line["pfn"]), self._km_type(line)
        before = self.mmu.one
        vaddr = machine.highmem.kmap_atomic(pfn, km_type)
        got: Line = {"r": vaddr, "tlb_one": self.mmu.one - before}
        return (
            got | {"fixmap_idx": FIXADDR_TOP - vaddr >> PAGE_SHIFT, "pte": self._pte(machine, vaddr)}
            if machine.highmem.is_high(pfn)
            else got
        )

    def _op_kunmap_atomic(self, machine: Machine, line: Line) -> Line:
        km_type = self._km_type(line)
        machine.highmem.kunmap_atomic(integer(line, "vaddr"), km_type)
        return {"pte": self._pte(machine, FIXADDR_TOP - (km_type << PAGE_SHIFT))}

    def _op_kmsnap(self, machine: Machine, line: Line) -> Line:
        highmem = machine.highmem
        table = highmem.pkmap_page_table
        return {"counts": [[nr, count, table[nr] >> PAGE_SHIFT] for nr, count in highmem.slot_counts().items()]} | self._state(machine)

    @staticmethod
    def _frame(machine: Machine, pfn: object) -> int:
        if type(pfn) is not int or not 0 <= pfn < machine.mem.frames:
            raise TraceError(f"frame {pfn} does not exist")
        return pfn

    @staticmethod
    def _km_type(line: Line) -> int:
        km_type = integer(line, "type")
        if not 0 <= km_type < KM_TYPE_NR:
            raise TraceError(f"there is no kmap_atomic slot {km_type}")
        return km_type

    @staticmethod
    def _slot(machine: Machine, vaddr: int) -> int | None:
        return vaddr - PKMAP_BASE >> PAGE_SHIFT if vaddr >= PKMAP_BASE else None

    @staticmethod
    def _pte(machine: Machine, vaddr: int) -> int:
        found = machine.pgtable.pte_lookup(machine.init_mm, vaddr)
        if found is None:
            raise TraceError(f"no page table maps {vaddr:#x}")
        return found[0][found[1]]

    def _state(self, machine: Machine) -> Line:
        highmem = machine.highmem
        counts = highmem.slot_counts()
        idle = sum(count == 1 for count in counts.values())
        return {
            "last": highmem.last_pkmap_nr,
            "n0": highmem.last_pkmap - len(counts),
            "n1": idle,
            "used": len(counts) - idle,
            "crc": f"{zlib.crc32(''.join(f'{nr}:{count},' for nr, count in counts.items()).encode()):08x}",
            "tlb_all": self.mmu.all,
        }

    def _boot(self, line: Line) -> Line:
        self.sched, self.mmu = _QueuedSched(), _CountingMmu()
        machine = Machine(
            e820=pc_map(integer(line, "mib") << 20),
            sanitize_e820=False,
            highmem_pages=integer(line, "highmem_param"),
            kernel_objects="ram",
            vfs=False,
            reclaim=ScriptedReclaim,
            parts={"sched": self.sched, "mmu": self.mmu},
        )
        for stage in STAGES:
            machine.boot_step(stage)
        self.machine = machine
        highmem = machine.highmem
        return {
            **{k: line[k] for k in ("op", "name", "mib", "seed", "highmem_param") if k in line},
            "highstart_pfn": machine.highstart_pfn,
            "highend_pfn": machine.highend_pfn,
            "info": {
                "pkmap_base": PKMAP_BASE,
                "last_pkmap": highmem.last_pkmap,
                "fix_kmap_begin": 0,
                "fix_kmap_end": FIXED_ADDRESSES - 1,
                "km_type_nr": KM_TYPE_NR,
                "fixaddr_top": FIXADDR_TOP,
                "fixaddr_start": FIXADDR_TOP - (FIXED_ADDRESSES << PAGE_SHIFT),
                "highmem_start_pfn": machine.highstart_pfn,
                "pkmap_table_pa": highmem.pkmap_pfn << PAGE_SHIFT if highmem.pkmap_page_table else 0,
            },
        }
