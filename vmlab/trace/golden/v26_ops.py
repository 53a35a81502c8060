"""The operations of 2.6 process traces that 2.4's have not, or that take other numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...errors import TraceError
from ...mm.errno import ENOMEM
from ...mm.gfp import GFP_ATOMIC, GFP_KERNEL, PF_MEMALLOC, PF_MEMDIE
from ...mm.swap_header import write_header
from ...v26.gfp import from_native
from ...v26.mmzone import Zone26
from ...v26.swapops import pte_to_swp_entry, swp_entry, swp_entry_to_pte, swp_offset, swp_type
from ...v26.task import HZ, PF_EXITING, PF_SWAPOFF
from ...v26.vmscan_control import SWAP_CLUSTER_MAX, ScanControl
from .process_devices import DEVICE_OPS, DONE, M32, DeviceOps
from .process_ops import PROCESS_OPS, ProcessOps, _mm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...mm.fs import Inode
    from ...mm.task import Task
    from ...v26.mmzone import PgData26
    from ...v26.page_alloc import PageAllocator26
    from .v26_state import StateDump26

Line = dict[str, Any]
MAX_ORDER = 11
TIF_MEMDIE, EXITING, SWAPOFF = 1, 2, 4  # bits of op `task`

# How many numbers each operation takes, at least and at most.
PROCESS_OPS26 = {
    **PROCESS_OPS,
    "new": (1, 2),
    "remapfp": (6, 6),
    "task": (11, 11),
    "badness": (2, 2),
    "vme": (3, 3),
}
_GONE = frozenset(
    "grabh fwrite shmalloc shmwhere shmget shmtrunc shmstate shmmax shrink_caches swap_out need_balance kmalloc kfree vme".split()
)
DEVICE_OPS26 = {
    **{name: takes for name, takes in DEVICE_OPS.items() if name not in _GONE},
    "grab": (1, 2),
    "mkswapfile": (3, 1 << 20),
    "mapswap": (2, 2),
    "swpenc": (2, 2),
    "swappiness": (1, 1),
    "refill": (3, 3),
    "shrink_cache": (3, 3),
    "shrink_zone": (2, 2),
    "try_free": (2, 2),
    "kswapd": (1, 1),
    "drain": (0, 0),
    "setprio": (3, 3),
    "committed": (1, 1),
    "overcommit": (1, 2),
}


class ProcessOps26(ProcessOps):
    """What processes do."""

    ABOUT_A_PROCESS = frozenset(PROCESS_OPS26) - {"new"}
    SHOWS_A_PROCESS = frozenset(PROCESS_OPS26)

    def op_new(self, pid: int, legacy: int = 0) -> Line:
        if pid in self.machine.sched.tasks or not 0 < pid < 1 << 15:
            raise TraceError(f"process {pid} cannot be made: it exists, or the number is none")
        fork: Any = self.machine.fork
        return {"ret": 0 if fork.new_task(pid, legacy=bool(legacy)) is not None else -ENOMEM}

    def op_remapfp(self, task: Task, start: int, size: int, prot: int, pgoff: int, flags: int) -> Line:
        fremap: Any = self.machine.more_parts["fremap"]
        return {"ret": fremap.sys_remap_file_pages(start & M32, size & M32, prot & M32, pgoff & M32, flags & M32)}

    def op_task(self, task: Task, total_vm: int, *values: int) -> Line:
        utime, stime, start_time, nice, uid, euid, caps, oomkilladj, bits = values
        _mm(task).total_vm = total_vm & M32
        task.utime, task.stime, task.start_time = utime & M32, stime & M32, start_time * HZ
        task.nice = nice
        task.uid, task.euid, task.cap_effective = uid & M32, euid & M32, caps & M32
        cast(Any, task).oomkilladj = oomkilladj
        for bit, flag in ((TIF_MEMDIE, PF_MEMDIE), (EXITING, PF_EXITING), (SWAPOFF, PF_SWAPOFF)):
            task.flags = task.flags | flag if bits & bit else task.flags & ~flag
        return DONE

    def op_badness(self, task: Task, uptime: int) -> Line:  # type: ignore[override]
        oom_kill: Any = self.machine.oom_kill
        return {"points": oom_kill.badness(task, uptime), "ret": 0}

    def op_vme(self, task: Task, pages: int, cap_sys_admin: int) -> Line:
        mmap: Any = self.machine.mmap
        return {"ret": mmap.vm_enough_memory(pages, cap_sys_admin)}

    def _touch_all(self, task: Task, accesses: Iterable[tuple[int, int, int]]) -> Line:
        """As in 2.4's traces; the faults are told even if the process died."""
        min_flt, maj_flt = task.min_flt, task.maj_flt
        got = super()._touch_all(task, accesses)
        return got | {"flt": [task.min_flt - min_flt, task.maj_flt - maj_flt]}


class DeviceOps26(DeviceOps):
    """Files, swap, reclaim, the OOM killer."""

    dump: StateDump26
    swap_files: dict[int, Inode]

    # -- memory and swap ----------------------------------------------------------------------

    def op_grab(self, n: int, gfp: int | None = None) -> Line:
        mask = GFP_ATOMIC if gfp is None else from_native(gfp)
        return {"ret": sum(self.machine.page_allocator.alloc_pages(mask, 0) is not None for _ in self._requests(n))}

    def op_mkswapfile(self, number: int, blkbits: int, *blocks: int) -> Line:
        if not 9 <= blkbits <= 12 or number in self.machine.block.disks:
            raise TraceError(f"no swap file {number} with blocks of 2^{blkbits} bytes can be made")
        diskfs: Any = self.machine.diskfs
        self.swap_files[number] = diskfs.swap_file(number, blkbits, blocks)
        return DONE

    def _put_header(self, number: int, page: bytes) -> None:
        if number not in self.swap_files:
            super()._put_header(number, page)
            return
        diskfs: Any = self.machine.diskfs
        diskfs.write_swap_header(self.swap_files[number], page)

    def op_mkswapn(self, number: int, magic: int, version: int, last_page: int, nr: int) -> Line:
        self._put_header(number, write_header(magic, version, last_page, (), nr))
        return DONE

    def op_swapon(self, number: int, flags: int = 0) -> Line:
        self.dump.swapons += 1
        return {"ret": self.machine.swapfile.sys_swapon(self.swap_files.get(number, number), flags)}

    def op_swapoff(self, number: int) -> Line:
        return {"ret": self.machine.swapfile.sys_swapoff(self.swap_files.get(number, number))}

    def op_mapswap(self, area: int, offset: int) -> Line:
        swapfile: Any = self.machine.swapfile
        if not 0 <= area < len(swapfile.swap_info) or not swapfile.swap_info[area].extent_list:
            raise TraceError(f"there is no swap area {area}")
        return {"ret": swapfile.map_swap_page(swapfile.swap_info[area], offset)}

    def op_swpenc(self, kind: int, offset: int) -> Line:
        val = swp_entry(kind & M32, offset & M32) & M32
        pte = swp_entry_to_pte(val)
        back = pte_to_swp_entry(pte)
        return {"val": val, "pte": pte, "back": [back, swp_type(back), swp_offset(back)], "ret": 0}

    def op_swappiness(self, n: int) -> Line:
        reclaim: Any = self.machine.reclaim
        reclaim.vm_swappiness = n
        return DONE

    # -- files --------------------------------------------------------------------------------

    def op_fread(self, fd: int, pos: int, count: int) -> Line:
        got = super().op_fread(fd, pos, count)
        filemap: Any = self.machine.filemap
        ra = filemap.ra_state(self._file(fd))
        shown = [ra.start, ra.size, ra.flags, ra.cache_hit, ra.prev_page, ra.ahead_start, ra.ahead_size, ra.mmap_hit]
        return got | {"ra": [value & M32 for value in shown]}

    def op_invalidate(self, fd: int) -> Line:
        filemap: Any = self.machine.filemap
        return {"ret": filemap.invalidate_inode_pages(self._file(fd).inode)}

    def op_share(self, fd: int) -> Line:
        inode = self._file(fd).inode
        mapping: Any = inode.i_mapping
        mmap: Any = self.machine.mmap
        return {
            "i_mmap": [vma.vm_start for vma in mmap.vma_prio_tree_foreach(mapping, 0, M32)],
            "nonlinear": [vma.vm_start for vma in mapping.i_mmap_nonlinear],
            "writable": mapping.i_mmap_writable,
            "writecount": inode.i_writecount,
            "ret": 0,
        }

    # -- reclaim ------------------------------------------------------------------------------

    def _scan_control(self, priority: int, nr_to_scan: int = 0) -> ScanControl:
        sc = ScanControl(GFP_KERNEL, cast("PageAllocator26", self.machine.page_allocator).page_state.nr_mapped)
        sc.priority = priority
        sc.nr_to_scan = nr_to_scan & M32
        sc.nr_to_reclaim = SWAP_CLUSTER_MAX
        return sc

    def _low_zone(self, number: int) -> Zone26:
        return cast(Zone26, self._zone(number))

    def op_refill(self, zone: int, n: int, priority: int) -> Line:  # type: ignore[override]
        reclaim: Any = self.machine.reclaim
        with self.machine.running(self.machine.sched.kswapd_task):
            reclaim.refill_inactive_zone(self._low_zone(zone), self._scan_control(_priority(priority), n))
        return DONE

    def op_shrink_cache(self, zone: int, n: int, priority: int) -> Line:  # type: ignore[override]
        reclaim: Any = self.machine.reclaim
        sc = self._scan_control(_priority(priority), n)
        with self.machine.running(self.machine.sched.kswapd_task):
            reclaim.shrink_cache(self._low_zone(zone), sc)
        return {"scanned": sc.nr_scanned, "ret": sc.nr_reclaimed}

    def op_shrink_zone(self, zone: int, priority: int) -> Line:
        reclaim: Any = self.machine.reclaim
        sc = self._scan_control(_priority(priority))
        with self.machine.running(self.machine.sched.kswapd_task):
            reclaim.shrink_zone(self._low_zone(zone), sc)
        return {"scanned": sc.nr_scanned, "ret": sc.nr_reclaimed}

    def op_try_free(self, zonelist: int, order: int) -> Line:  # type: ignore[override]
        reclaim: Any = self.machine.reclaim
        zonelists = self.machine.pgdats[0].node_zonelists
        if not 0 <= zonelist < len(zonelists):
            raise TraceError(f"there is no zonelist {zonelist}")
        _order(order)
        task = self.machine.current
        before = task.flags & PF_MEMALLOC
        task.flags |= PF_MEMALLOC
        try:
            return {"ret": int(reclaim.try_to_free_pages(zonelists[zonelist], GFP_KERNEL, order))}
        finally:
            task.flags = task.flags & ~PF_MEMALLOC | before

    def op_kswapd(self, order: int) -> Line:
        cast("PgData26", self.machine.pgdats[0]).kswapd_max_order = _order(order)
        self.machine.sched.run_kswapd()
        return DONE

    def op_drain(self) -> Line:
        cast(Any, self.machine.swap).lru_add_drain()
        return DONE

    def op_setprio(self, number: int, prev: int, temp: int) -> Line:
        zone = self._low_zone(number)
        zone.prev_priority, zone.temp_priority = _priority(prev), _priority(temp)
        return DONE

    # -- the OOM killer, overcommit -----------------------------------------------------------

    def op_selbad(self) -> Line:
        chosen: Any = self.machine.oom_kill.select_bad_process()
        return {"ret": chosen if isinstance(chosen, int) else 0 if chosen is None else chosen.pid}

    def op_isqrt(self, x: int) -> Line:
        return {"root": self.machine.oom_kill.int_sqrt(x & M32), "ret": 0}

    def _out_of_memory(self) -> None:
        oom_kill: Any = self.machine.oom_kill
        oom_kill.out_of_memory(GFP_KERNEL)

    def op_committed(self, n: int) -> Line:
        cast(Any, self.machine.mmap).vm_committed_space = n
        return DONE

    def op_overcommit(self, value: int, ratio: int | None = None) -> Line:
        mmap: Any = self.machine.mmap
        mmap.sysctl_overcommit_memory = value
        if ratio is not None:
            mmap.sysctl_overcommit_ratio = ratio
        return DONE


def _priority(value: int) -> int:
    if not 0 <= value <= 12:
        raise TraceError(f"a priority is 0 to 12, not {value}")
    return value


def _order(value: int) -> int:
    if not 0 <= value <= MAX_ORDER:
        raise TraceError(f"an order is 0 to {MAX_ORDER}, not {value}")
    return value
