"""The operations of process traces that no process does: files, shared memory, swap, reclaim, the OOM killer.

They run as the idle task, which has every capability; reclaim runs as kswapd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import TraceError
from ...mm.filemap_read import ReadDescriptor
from ...mm.gfp import GFP_ATOMIC, GFP_HIGHUSER, GFP_KSWAPD, PF_MEMALLOC, PF_MEMDIE
from ...mm.page_flags import PG_referenced
from ...mm.shmem_swap import SHMEM_MAX_INDEX, shmem_i
from ...mm.swap_header import write_header
from ...mm.vfs import ATTR_SIZE, Iattr, fput

if TYPE_CHECKING:
    from ...machine import Machine
    from ...mm.fs import File, Inode
    from ...mm.mmzone import Zone
    from .process_state import StateDump

Line = dict[str, Any]

M32 = 0xFFFFFFFF
PAGE_SHIFT, PAGE_OFFSET = 12, 0xC0000000
DONE: Line = {"ret": 0}

# How many numbers each operation takes, at least and at most.
DEVICE_OPS = {
    "grab": (1, 1),
    "grabh": (2, 2),
    "mkdisk": (2, 2),
    "mkswap": (4, 1 << 16),
    "mkswapn": (5, 5),
    "swapon": (1, 2),
    "swapoff": (1, 1),
    "gsp": (0, 0),
    "sdup": (1, 1),
    "sfree": (1, 1),
    "vsh": (1, 1),
    "setmap": (3, 3),
    "pagecluster": (1, 1),
    "setnrswap": (1, 1),
    "file": (4, 4),
    "writecount": (2, 2),
    "fread": (3, 3),
    "fwrite": (3, 3),
    "ftrunc": (2, 2),
    "fsync": (1, 1),
    "invalidate": (1, 1),
    "share": (1, 1),
    "shmfile": (2, 2),
    "shmalloc": (3, 3),
    "shmwhere": (2, 2),
    "shmget": (4, 4),
    "shmtrunc": (2, 2),
    "shmstate": (1, 1),
    "fclose": (1, 1),
    "shmmax": (0, 0),
    "refill": (1, 1),
    "shrink_cache": (3, 3),
    "shrink_caches": (3, 3),
    "swap_out": (2, 2),
    "try_free": (1, 1),
    "kswapd": (1, 1),
    "need_balance": (1, 1),
    "activate": (1, 1),
    "accessed": (1, 1),
    "selbad": (0, 0),
    "isqrt": (1, 1),
    "oom": (0, 0),
    "jiffies": (1, 1),
    "tick": (1, 1),
    "vme": (1, 1),
    "overcommit": (1, 1),
    "setmax": (1, 1),
    "kmalloc": (2, 2),
    "kfree": (1, 1),
    "state": (1, 2),
}


class DeviceOps:
    """Operations that are not a process's own."""

    machine: Machine
    files: dict[int, File]
    dump: StateDump

    def _file(self, fd: int) -> File:
        file = self.files.get(fd)
        if file is None:
            raise TraceError(f"there is no file {fd}")
        return file

    def _shm_inode(self, fd: int) -> Inode:
        inode = self._file(fd).inode
        if inode.i_sb is not self.machine.shmem.shm_mnt:
            raise TraceError(f"file {fd} is not in tmpfs")
        return inode

    def _zone(self, number: int) -> Zone:
        if not 0 <= number < len(self.dump.zones):
            raise TraceError(f"there is no zone {number}")
        return self.dump.zones[number]

    def _frame(self, pfn: int) -> int:
        if not 0 <= pfn < self.machine.mem.frames:
            raise TraceError(f"there is no frame {pfn}")
        return pfn

    def op_state(self, mask: int, pid: int = 0) -> Line:
        return self.dump.dump(mask, self.machine.sched.tasks.get(pid)) | DONE

    # -- memory -------------------------------------------------------------------------------

    def _requests(self, n: int) -> range:
        """*n* requests for memory; many more than there are frames are a mistake."""
        if not 0 <= n <= 4 * self.machine.mem.frames:
            raise TraceError(f"{n} requests on a machine of {self.machine.mem.frames} frames")
        return range(n)

    def op_grab(self, n: int) -> Line:
        return {"ret": sum(self.machine.page_allocator.alloc_pages(GFP_ATOMIC, 0) is not None for _ in self._requests(n))}

    def op_grabh(self, n: int, order: int) -> Line:
        return {"ret": sum(self.machine.page_allocator.alloc_pages(GFP_HIGHUSER, order) is not None for _ in self._requests(n))}

    def op_kmalloc(self, size: int, gfp: int) -> Line:
        return {"ret": self.machine.slab.kmalloc(size, gfp)}

    def op_kfree(self, address: int) -> Line:
        self.machine.slab.kfree(address & M32)
        return DONE

    # -- swap ---------------------------------------------------------------------------------

    def op_mkdisk(self, number: int, npages: int) -> Line:
        self.machine.block.add_disk(number, npages)
        return DONE

    def op_mkswap(self, number: int, magic: int, version: int, last_page: int, *bad: int) -> Line:
        self._put_header(number, write_header(magic, version, last_page, bad))
        return DONE

    def op_mkswapn(self, number: int, magic: int, version: int, last_page: int, nr: int) -> Line:
        self._put_header(number, write_header(magic, version, last_page, (), nr))
        return DONE

    def _put_header(self, number: int, page: bytes) -> None:
        disk = self.machine.block.disks.get(number)
        if disk is None:
            raise TraceError(f"there is no disk {number}")
        disk.write_page(0, page)

    def op_swapon(self, number: int, flags: int = 0) -> Line:
        return {"ret": self.machine.swapfile.sys_swapon(number, flags)}

    def op_swapoff(self, number: int) -> Line:
        return {"ret": self.machine.swapfile.sys_swapoff(number)}

    def op_gsp(self) -> Line:
        return {"ret": self.machine.swapfile.get_swap_page()}

    def op_sdup(self, entry: int) -> Line:
        return {"ret": int(self.machine.swapfile.swap_duplicate(entry & M32))}

    def op_sfree(self, entry: int) -> Line:
        self.machine.swapfile.swap_free(entry & M32)
        return DONE

    def op_vsh(self, entry: int) -> Line:
        count, offset = self.machine.swapfile.valid_swaphandles(entry & M32)
        return {"off": offset, "ret": count}

    def op_setmap(self, area: int, offset: int, value: int) -> Line:
        swap_map = self.machine.swapfile.swap_info[area].swap_map
        if swap_map is None or not 0 <= offset < len(swap_map):
            raise TraceError(f"there is no slot {offset} in swap area {area}")
        swap_map[offset] = value & 0xFFFF
        return DONE

    def op_pagecluster(self, n: int) -> Line:
        self.machine.swap.page_cluster = n
        return DONE

    def op_setnrswap(self, n: int) -> Line:
        self.machine.swapfile.nr_swap_pages = n
        return DONE

    # -- files --------------------------------------------------------------------------------

    def op_file(self, fd: int, npages: int, size: int, mode: int) -> Line:
        self.files[fd] = self.machine.diskfs.fake_file(fd, npages, size, mode)
        return DONE

    def op_writecount(self, fd: int, count: int) -> Line:
        self._file(fd).inode.i_writecount = count
        return DONE

    def op_fread(self, fd: int, pos: int, count: int) -> Line:
        file = self._file(fd)
        desc = ReadDescriptor(count & M32, None)
        self.machine.filemap.do_generic_file_read(file, pos, desc, self.machine.filemap.file_read_actor)
        ra = [file.f_raend, file.f_ralen, file.f_ramax, file.f_rawin]
        return {"ra": ra, "ret": desc.written or desc.error}

    def op_fwrite(self, fd: int, pos: int, count: int) -> Line:
        file = self._file(fd)
        file.f_pos = pos
        return {"ret": self.machine.filemap.generic_file_write(file, None, count)}

    def op_ftrunc(self, fd: int, size: int) -> Line:
        return {"ret": self.machine.memory.vmtruncate(self._file(fd).inode, size)}

    def op_fsync(self, fd: int) -> Line:
        mapping = self._file(fd).inode.i_mapping
        error = self.machine.filemap.filemap_fdatasync(mapping)
        return {"ret": self.machine.filemap.filemap_fdatawait(mapping) or error}

    def op_invalidate(self, fd: int) -> Line:
        self.machine.filemap.invalidate_inode_pages(self._file(fd).inode)
        return DONE

    def op_share(self, fd: int) -> Line:
        inode = self._file(fd).inode
        mapping = inode.i_mapping
        return {
            "i_mmap": [vma.vm_start for vma in mapping.i_mmap],
            "i_mmap_shared": [vma.vm_start for vma in mapping.i_mmap_shared],
            "writecount": inode.i_writecount,
            "ret": 0,
        }

    def op_fclose(self, fd: int) -> Line:
        file = self._file(fd)
        del self.files[fd]
        fput(self.machine, file)
        return DONE

    # -- shared memory ------------------------------------------------------------------------

    def op_shmmax(self) -> Line:
        return {"ret": SHMEM_MAX_INDEX}

    def op_shmfile(self, fd: int, size: int) -> Line:
        file = self.machine.shmem.shmem_file_setup("shmem", size)
        if isinstance(file, int):
            return {"ret": file}
        self.files[fd] = file
        return DONE

    def op_shmalloc(self, fd: int, index: int, sgp: int) -> Line:
        inode = self._shm_inode(fd)
        entry = self.machine.shmem.shmem_swp_alloc(shmem_i(inode), index, sgp)
        return self._where(inode, index) | self._shm(inode) | {"ret": entry if isinstance(entry, int) else 0}

    def op_shmwhere(self, fd: int, index: int) -> Line:
        return self._where(self._shm_inode(fd), index) | DONE

    def op_shmget(self, fd: int, index: int, sgp: int, dirty: int) -> Line:
        machine = self.machine
        inode = self._shm_inode(fd)
        error, pfn = machine.shmem.shmem_getpage(inode, index, sgp)
        if pfn is not None:
            if sgp == 2 and (index + 1) << PAGE_SHIFT > inode.i_size:
                inode.i_size = (index + 1) << PAGE_SHIFT
            if dirty:
                machine.filemap.set_page_dirty(pfn)
                machine.mem.flags[pfn] |= 1 << PG_referenced
            else:
                machine.swap.mark_page_accessed(pfn)
            if pfn != machine.empty_zero_page:
                machine.put_page(pfn)
        return self._where(inode, index) | self._shm(inode) | {"ret": error if pfn is None else pfn}

    def op_shmtrunc(self, fd: int, size: int) -> Line:
        inode = self._shm_inode(fd)
        ret = self.machine.shmem.shmem_notify_change(inode, Iattr(ATTR_SIZE, size))
        return self._shm(inode) | {"ret": ret}

    def op_shmstate(self, fd: int) -> Line:
        return self._shm(self._shm_inode(fd)) | DONE

    def _where(self, inode: Inode, index: int) -> Line:
        """Where the swap entry of a page is: which vector, and the places on the way."""
        entry = self.machine.shmem.shmem_swp_entry(shmem_i(inode), index, None) if index < SHMEM_MAX_INDEX else None
        if entry is None:
            return {"where": None}
        table, slot = entry
        if index < 16:
            where = [0, slot]
        else:
            first, slot = divmod(index - 16, 1024)
            where = [1, first, slot] if first < 512 else [2, 512 + (first - 512 >> 10), first - 512 & 1023, slot]
        return {"where": where, "val": table[slot]}

    def _shm(self, inode: Inode) -> Line:
        info = shmem_i(inode)
        return {
            "shm": {
                "next_index": info.next_index,
                "swapped": info.swapped,
                "blocks": inode.i_blocks,
                "nrpages": inode.i_mapping.nrpages,
                "size": inode.i_size,
                "indirect": (info.i_indirect - PAGE_OFFSET) >> PAGE_SHIFT if info.i_indirect else -1,
            }
        }

    # -- reclaim ------------------------------------------------------------------------------

    def op_refill(self, n: int) -> Line:
        self.machine.vmscan.refill_inactive(n)
        return DONE

    def op_shrink_cache(self, nr: int, zone: int, priority: int) -> Line:
        with self.machine.running(self.machine.sched.kswapd_task):
            return {"ret": self.machine.vmscan.shrink_cache(nr, self._zone(zone), GFP_KSWAPD, _priority(priority))}

    def op_shrink_caches(self, nr: int, zone: int, priority: int) -> Line:
        with self.machine.running(self.machine.sched.kswapd_task):
            return {"ret": self.machine.vmscan.shrink_caches(self._zone(zone), _priority(priority), GFP_KSWAPD, nr)}

    def op_swap_out(self, zone: int, priority: int) -> Line:
        with self.machine.running(self.machine.sched.kswapd_task):
            return {"ret": self.machine.vmscan.swap_out(_priority(priority), GFP_KSWAPD, self._zone(zone))}

    def op_try_free(self, zone: int) -> Line:
        with self.machine.running(self.machine.sched.kswapd_task):
            return {"ret": self.machine.vmscan.try_to_free_pages_zone(self._zone(zone), GFP_KSWAPD)}

    def op_kswapd(self, zone: int) -> Line:
        self._zone(zone).need_balance = 1
        self.machine.sched.run_kswapd()
        return DONE

    def op_need_balance(self, zone: int) -> Line:
        return {"ret": self.machine.vmscan.check_classzone_need_balance(self._zone(zone))}

    def op_activate(self, pfn: int) -> Line:
        self.machine.swap.activate_page(self._frame(pfn))
        return DONE

    def op_accessed(self, pfn: int) -> Line:
        self.machine.swap.mark_page_accessed(self._frame(pfn))
        return DONE

    # -- the OOM killer -----------------------------------------------------------------------

    def op_selbad(self) -> Line:
        chosen = self.machine.oom_kill.select_bad_process()
        return {"ret": 0 if chosen is None else chosen.pid}

    def op_isqrt(self, x: int) -> Line:
        return {"ret": self.machine.oom_kill.int_sqrt(x & M32)}

    def op_oom(self) -> Line:
        """One call; who was sent a signal is noted and forgiven."""
        machine = self.machine
        tasks = list(machine.sched.tasks.values())
        machine.sched.reaping = False
        try:
            self._out_of_memory()
        finally:
            machine.sched.reaping = True
        sent = []
        for task in tasks:
            if task.pending:
                sent += [[task.pid, sig] for sig in sorted(task.pending)]
                task.pending.clear()
                task.flags &= ~(PF_MEMDIE | PF_MEMALLOC)
        return {"j": machine.sched.jiffies, "sig": sent, "ret": 0}

    def _out_of_memory(self) -> None:
        self.machine.oom_kill.out_of_memory()

    def op_jiffies(self, value: int) -> Line:
        self.machine.sched.jiffies = value & M32
        return DONE

    def op_tick(self, n: int) -> Line:
        self.machine.sched.jiffies += n
        return DONE

    def op_vme(self, pages: int) -> Line:
        return {"ret": int(self.machine.mmap.vm_enough_memory(pages))}

    def op_overcommit(self, value: int) -> Line:
        self.machine.mmap.sysctl_overcommit_memory = value
        return DONE

    def op_setmax(self, count: int) -> Line:
        self.machine.mmap.max_map_count = count
        return DONE


def _priority(value: int) -> int:
    if value < 1:
        raise TraceError(f"a priority is 1 or more, not {value}: reclaim divides by it")
    return value
