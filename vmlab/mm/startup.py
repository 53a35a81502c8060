"""Switching the machine on: the stages of the boot, in the kernel's order. kernel: init/main.c:start_kernel"""

from __future__ import annotations

import importlib
from typing import Any, Self

from ..hw.layout import PAGE_SHIFT, pfn_up
from . import init, setup
from .kernel import BootConsumer, Kernel
from .page import BLOCK_HOLE, BLOCK_RESERVED, BLOCK_USED
from .page_flags import RESERVED
from .page_init import free_boot_pages

BOOT_STAGES = ("setup_memory_region", "setup_memory", "paging_init", "register_memory", "mem_init")

_SLAB_STAGES = ("kmem_cache_sizes_init", "pgtable_cache_init", "fork_init", "proc_caches_init")
_LAST_STAGES = ("page_cache_init", "swap_setup")
_VFS = "vfs_caches_init"  # only where the configuration says vfs
# What a whole machine goes through, by where its kernel objects live.
WHOLE_STAGES = {
    "ram": (*BOOT_STAGES[:-1], "kmem_cache_init", "mem_init", *_SLAB_STAGES, "buffer_init", *_LAST_STAGES, "init_emergency_pool"),
    "vm-only": (*BOOT_STAGES[:3], "kmem_cache_init", "mem_init", *_SLAB_STAGES, *_LAST_STAGES),
    "outside": (*BOOT_STAGES[:3], "kmem_cache_init", "mem_init", *_SLAB_STAGES, *_LAST_STAGES),
}
# Who takes frames in a stage, where the frames do not say so themselves.
_TAKERS = dict.fromkeys((*_SLAB_STAGES, _VFS), "slab") | {
    "buffer_init": "buffer hash table",
    "page_cache_init": "page hash table",
    "init_emergency_pool": "bounce pool",
}
_READY = {"mem_init", "boot_nodes", *_SLAB_STAGES, _VFS, "buffer_init", *_LAST_STAGES, "init_emergency_pool"}


def _other() -> Any:
    """The stages of Linux 2.6, found by name: vmlab.mm knows no other kernel."""
    return importlib.import_module("vmlab.v26.startup")


class Startup(Kernel):
    """A kernel that can boot."""

    tape: Any = None  # what records operations, if anything does

    @property
    def ready(self) -> bool:
        """Whether the buddy allocator is up."""
        return self.boot_stage in (_READY if self.config.kernel == "2.4" else _other().READY26)

    def power_on(self, until: str | None = None) -> Self:
        """Boot: firmware map → boot memory → zones → buddy allocator → caches, processes, page cache. Returns self.

        A machine that stands in the middle of its boot (a branch of a recorded one) goes on from there. *until* names
        the stage to stop after, where a machine has it. kernel: init/main.c:start_kernel
        """
        if not self._stages_left():
            raise ValueError("this machine is on already; make a new one with vmlab.boot()")
        for stage in self._stages_left():
            self.boot_step(stage)
            if stage == until:
                break
        return self

    def _stages_left(self) -> list[str]:
        """Stages of the boot that are still to come."""
        stages = list(self.boot_stages())
        return stages[stages.index(self.boot_stage) + 1 :] if self.boot_stage in stages else stages

    def boot_stages(self) -> tuple[str, ...]:
        """All stages of this machine's boot, in order."""
        if self.config.kernel != "2.4":
            other = _other()
            stages: tuple[str, ...] = other.NODE_STAGES if self.config.nodes else other.STAGES26[self.config.kernel_objects]
            return stages
        stages = ("boot_nodes",) if self.config.nodes else WHOLE_STAGES.get(self.config.kernel_objects or "", BOOT_STAGES)
        if self.config.vfs:
            at = stages.index("buffer_init")
            stages = (*stages[:at], _VFS, *stages[at:])
        return stages

    def boot_step(self, stage: str) -> None:
        """Run the next stage of the boot: BOOT_STAGES in order; a NUMA machine has only boot_nodes.

        Raises ValueError for any other stage.
        """
        if stage not in self._stages_left()[:1]:
            left = self._stages_left()
            raise ValueError(f"no boot stage {stage!r} now: " + (f"the next one is {left[0]!r}" if left else "the machine is on"))
        if self.tape is not None:
            self.tape.begin("boot_step", (stage,))
        self.emit("boot_stage", stage)
        self.boot_stage = stage
        if self.config.kernel != "2.4" and self._other_stage(stage):
            return
        if stage == "setup_memory_region":
            if self.config.memfrac is not None:
                self.zone_balance_ratio = self.zone_setup.setup_mem_frac(self.config.memfrac)
            setup.setup_memory_region(self)
        elif stage == "setup_memory":
            setup.setup_memory(self)
        elif stage == "paging_init":
            init.paging_init(self)
        elif stage == "register_memory":
            setup.register_memory(self)
        elif stage == "mem_init":
            init.mem_init(self)
            self._mark_owners()
        elif stage == "boot_nodes":
            for nid in self.config.node_init_order:
                self.init_node(nid)
            for nid in self.config.node_init_order:
                self.retire_node(nid)
            self._mark_owners()
        else:
            self._late_stage(stage)

    def _other_stage(self, stage: str) -> bool:
        """Run *stage* as another kernel does it; whether it does it in its own way."""
        before = self.mem.block[:] if self.ready and stage not in ("mem_init", "boot_nodes") else None
        allocated = self.stat.alloc
        if not _other().run_stage(self, stage):
            return False
        if stage in ("mem_init", "boot_nodes"):
            self._mark_owners()
        elif before is not None and self.stat.alloc != allocated:
            self._log_frames(stage, before)
        return True

    def _late_stage(self, stage: str) -> None:
        """A stage that works with the buddy allocator; who takes frames in it goes into the boot log."""
        before = self.stat.alloc
        alloc = self.mem.block[:] if self.ready else None
        if stage == "kmem_cache_init":
            self.slab.kmem_cache_init()
        elif stage == "kmem_cache_sizes_init":
            self.slab.kmem_cache_sizes_init()
        elif stage == "pgtable_cache_init":
            self.pgtable.pgtable_cache_init()
        elif stage == "fork_init":
            self.fork.fork_init(self.num_physpages)
        elif stage == "proc_caches_init":
            self.slab.proc_caches_init()
        elif stage == "vfs_caches_init":
            self.file_table.vfs_caches_init(self.num_physpages)
        elif stage == "buffer_init":
            if self.config.vfs:
                self.file_table.buffer_init(self.num_physpages)
            elif self.config.highmem:
                self.slab.buffer_init()
        elif stage == "page_cache_init":
            self.filemap.page_cache_init(self.num_physpages)
            self.swap_state.init()
        elif stage == "swap_setup":
            self.swap.swap_setup()
        elif stage == "init_emergency_pool":
            self.slab.kmem_cpucache_init()  # an initcall like the other, and linked before it
            if self.totalhigh_pages:
                self.highmem.init_emergency_pool()
            if self.config.vfs:
                self.shmem.init_root()
        if alloc is not None and self.stat.alloc != before:
            self._log_frames(stage, alloc)

    def _log_frames(self, stage: str, before: bytearray) -> None:
        """Note the frames that *stage* took from the buddy allocator, as runs of the same owner."""
        block, owner = self.mem.block, self.mem.owner
        pfn = 0
        while pfn < self.mem.frames:
            if not pfn & 1023 and block[pfn : pfn + 1024] == before[pfn : pfn + 1024]:
                pfn += 1024
                continue
            if block[pfn] == before[pfn] or not block[pfn] & BLOCK_USED:
                pfn += 1
                continue
            start = pfn
            label = owner[pfn] or self.owner_id(_TAKERS[stage])  # some put their name on their frames themselves
            while pfn < self.mem.frames and block[pfn] & BLOCK_USED and block[pfn] != before[pfn] and owner[pfn] in (0, label):
                owner[pfn] = label
                pfn += 1 << (block[pfn] & 15)
            self.boot_log.append(BootConsumer(self.owners[label], start << PAGE_SHIFT, pfn - start << PAGE_SHIFT, stage))

    def init_node(self, nid: int) -> None:
        """Boot memory and zones of node *nid*. kernel: mm/bootmem.c:init_bootmem_node, mm/numa.c:free_area_init_node"""
        start, dma, normal, high, reserved, hole = self.config.nodes[nid]
        pgdat = self.pgdats[nid]
        end = start + dma + normal
        mapsize = self.bootmem.init_bootmem_core(pgdat, start + reserved, start, end)
        self.bootmem.free_bootmem_core(pgdat.bdata, start << PAGE_SHIFT, end - start - hole << PAGE_SHIFT)
        self.bootmem.reserve_bootmem_core(pgdat.bdata, start << PAGE_SHIFT, (reserved << PAGE_SHIFT) + mapsize)
        holes = None if not hole else [hole, 0, 0] if dma else [0, hole, 0]
        self.zone_setup.free_area_init_node(pgdat, [dma, normal, high], start, holes)

    def retire_node(self, nid: int) -> int:
        """Hand node *nid*'s boot memory to its buddy lists, then its high memory from the top down.

        Returns the pages freed from boot memory.
        """
        pgdat = self.pgdats[nid]
        freed = self.bootmem.free_all_bootmem_core(pgdat)
        high = pgdat.node_zones[2]
        if high.size:
            free_boot_pages(self, high.start_pfn, high.end_pfn, descending=True, highmem=True)
        self.totalram_pages += freed
        return freed

    def _mark_owners(self) -> None:
        """Label the frames that boot took, for the pictures."""
        owner, flags = self.mem.owner, self.mem.flags
        if not self.config.nodes:
            hole = bytes([self.owner_id("BIOS hole")])
            at = 0
            for start, end in init.ram_frames(self, 0, self.mem.frames):
                owner[at:start] = hole * (start - at)
                # The kernel frees its boot bitmap's pages even where the map has a hole: those are free, not a hole.
                self.mem.block[at:start] = self.mem.block[at:start].replace(bytes([BLOCK_RESERVED]), bytes([BLOCK_HOLE]))
                at = end
        for name, start_pa, size, _ in self.boot_log:
            label = self.owner_id("wait tables" if name.startswith("wait table") else "buddy bitmaps" if name.startswith("buddy") else name)
            for pfn in range(start_pa >> PAGE_SHIFT, pfn_up(start_pa + size)):
                if flags[pfn] & RESERVED and not owner[pfn]:
                    owner[pfn] = label
