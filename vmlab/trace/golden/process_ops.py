"""The operations of process traces that processes do: mapping, touching, forking, dying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from ...errors import TraceError
from ...mm.errno import EBADF, ENOMEM
from ...mm.gfp import PF_MEMDIE
from ...mm.task import RLIM_NLIMITS
from ...mm.vm import MAP_ANONYMOUS

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator

    from ...machine import Machine
    from ...mm.fs import File
    from ...mm.task import Task
    from ...mm.vm import MmStruct
    from .process_state import StateDump

Line = dict[str, Any]

M32 = 0xFFFFFFFF
_READ_HIT = 0x25  # PRESENT USER ACCESSED: a read by user mode changes nothing
_WRITE_HIT = 0x67  # and RW DIRTY: nor does a write

# How many numbers each operation takes, at least and at most.
PROCESS_OPS = {
    "new": (1, 1),
    "fork": (2, 2),
    "exit": (1, 1),
    "setbrk": (3, 3),
    "stack": (2, 2),
    "caps": (2, 2),
    "rlim": (3, 3),
    "mmap": (7, 7),
    "munmap": (3, 3),
    "mprotect": (4, 4),
    "mremap": (6, 6),
    "brk": (2, 2),
    "mlock": (3, 3),
    "munlock": (3, 3),
    "mlockall": (2, 2),
    "munlockall": (1, 1),
    "madvise": (4, 4),
    "msync": (4, 4),
    "mincore": (3, 3),
    "touch": (4, 5),
    "range": (4, 5),
    "tl": (2, 1 << 20),
    "task": (10, 10),
    "badness": (1, 1),
}


class ProcessOps:
    """Operations whose first number is a process: they run as that process, except ``new``."""

    machine: Machine
    files: dict[int, File]
    dump: StateDump
    written: int

    ABOUT_A_PROCESS = frozenset(PROCESS_OPS) - {"new"}
    SHOWS_A_PROCESS = frozenset(PROCESS_OPS)

    # -- life and death -----------------------------------------------------------------------

    def op_new(self, pid: int) -> Line:
        if pid in self.machine.sched.tasks or not 0 < pid < 1 << 15:
            raise TraceError(f"process {pid} cannot be made: it exists, or the number is none")
        return {"ret": 0 if self.machine.fork.new_task(pid) is not None else -ENOMEM}

    def op_fork(self, task: Task, pid: int) -> Line:
        if pid in self.machine.sched.tasks or not 0 < pid < 1 << 15:
            raise TraceError(f"process {pid} cannot be made: it exists, or the number is none")
        return {"ret": self.machine.fork.do_fork(pid, limits=False)}

    def op_exit(self, task: Task) -> Line:
        self.machine.fork.exit_task(task)
        return {"ret": 0}

    def op_setbrk(self, task: Task, start: int, brk: int) -> Line:
        mm = _mm(task)
        mm.end_code = mm.start_data = mm.end_data = mm.start_brk = start & M32
        mm.brk = brk & M32
        return {"ret": 0}

    def op_stack(self, task: Task, npages: int) -> Line:
        return {"ret": self.machine.fork.setup_arg_pages(npages)}

    def op_caps(self, task: Task, caps: int) -> Line:
        task.cap_effective = caps & M32
        return {"ret": 0}

    def op_rlim(self, task: Task, resource: int, value: int) -> Line:
        if not 0 <= resource < RLIM_NLIMITS:
            raise TraceError(f"there is no limit number {resource}")
        task.rlim[resource] = value & M32
        return {"ret": 0}

    def op_task(self, task: Task, total_vm: int, *values: int) -> Line:
        utime, stime, start_time, nice, uid, euid, caps, memdie = values
        _mm(task).total_vm = total_vm & M32
        task.utime, task.stime, task.start_time = utime & M32, stime & M32, start_time & M32
        task.nice = nice
        task.uid, task.euid, task.cap_effective = uid & M32, euid & M32, caps & M32
        task.flags = task.flags | PF_MEMDIE if memdie else task.flags & ~PF_MEMDIE
        return {"ret": 0}

    def op_badness(self, task: Task) -> Line:
        return {"ret": self.machine.oom_kill.badness(task)}

    # -- address space ------------------------------------------------------------------------

    def op_mmap(self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> Line:
        file = None
        if not flags & MAP_ANONYMOUS:
            file = self.files.get(fd)
            if file is None:
                return {"ret": -EBADF}
        return {"ret": self.machine.mmap.do_mmap_pgoff(file, addr & M32, length & M32, prot & M32, flags & M32, pgoff & M32)}

    def op_munmap(self, task: Task, addr: int, length: int) -> Line:
        return {"ret": self.machine.mmap.sys_munmap(addr & M32, length & M32)}

    def op_mprotect(self, task: Task, addr: int, length: int, prot: int) -> Line:
        return {"ret": self.machine.mprotect.sys_mprotect(addr & M32, length & M32, prot & M32)}

    def op_mremap(self, task: Task, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> Line:
        return {"ret": self.machine.mremap.sys_mremap(addr & M32, old_len & M32, new_len & M32, flags & M32, new_addr & M32)}

    def op_brk(self, task: Task, addr: int) -> Line:
        return {"ret": self.machine.mmap.sys_brk(addr & M32)}

    def op_mlock(self, task: Task, addr: int, length: int) -> Line:
        return {"ret": self.machine.mlock.sys_mlock(addr & M32, length & M32)}

    def op_munlock(self, task: Task, addr: int, length: int) -> Line:
        return {"ret": self.machine.mlock.sys_munlock(addr & M32, length & M32)}

    def op_mlockall(self, task: Task, flags: int) -> Line:
        return {"ret": self.machine.mlock.sys_mlockall(flags & M32)}

    def op_munlockall(self, task: Task) -> Line:
        return {"ret": self.machine.mlock.sys_munlockall()}

    def op_madvise(self, task: Task, addr: int, length: int, advice: int) -> Line:
        return {"ret": self.machine.filemap.sys_madvise(addr & M32, length & M32, advice)}

    def op_msync(self, task: Task, addr: int, length: int, flags: int) -> Line:
        return {"ret": self.machine.filemap.sys_msync(addr & M32, length & M32, flags & M32)}

    def op_mincore(self, task: Task, addr: int, length: int) -> Line:
        vec = bytearray()
        ret = self.machine.filemap.sys_mincore(addr & M32, length & M32, vec)
        return {"ret": ret} if ret else {"ret": ret, "vec": "".join("1" if resident & 1 else "0" for resident in vec)}

    # -- access -------------------------------------------------------------------------------

    def op_touch(self, task: Task, addr: int, write: int, esp: int, value: int = 0) -> Line:
        mmu = self.machine.mmu
        min_flt, maj_flt = task.min_flt, task.maj_flt
        self.written += bool(write)  # counted, though the value stored is the line's own
        ret = mmu.touch(task, addr & M32, int(bool(write)), esp & M32, value & M32)
        got: Line = {"ret": ret}
        if ret >= 0 and not write:
            got["val"] = mmu.loaded
        got["flt"] = [task.min_flt - min_flt, task.maj_flt - maj_flt]
        return got

    def op_range(self, task: Task, addr: int, npages: int, write: int, step: int = 0) -> Line:
        step = (step or 1) << 12
        store = (addr >> 12) + (self.written << 20)
        write = int(bool(write))
        got = self._touch_all(task, ((addr + i * step & M32, write, store + i & M32) for i in range(npages)))
        if write:
            self.written += 1
            del got["rdcrc"]
        return got

    def op_tl(self, task: Task, base: int, *places: int) -> Line:
        return self._touch_all(task, self._listed(base, places))

    def _listed(self, base: int, places: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """The accesses of `tl`; the counter goes up only for stores that are really tried."""
        for x in places:
            write = x & 1
            self.written += write
            yield base + (x >> 1 << 12) & M32, write, self.written & M32

    def _touch_all(self, task: Task, accesses: Iterable[tuple[int, int, int]]) -> Line:
        """Accesses (address, write, value) one after the other, each with its own end-of-operation turn.

        A signal or the task's death stops them. An access that needs no kernel is done here: nothing is then due at its end.
        """
        machine = self.machine
        sched, mmu = machine.sched, machine.mmu
        contents, lookup = machine.ram.contents, machine.pgtable.pte_lookup
        bits, mask = (9, 511) if machine.pgtable.pae else (10, 1023)
        tables: dict[int, array[int]] = {}  # page tables seen since the last time the kernel ran
        min_flt, maj_flt = task.min_flt, task.maj_flt
        faults = 0
        read: list[int] = []
        mm = _mm(task)
        for at, write, value in accesses:
            page = at >> 12
            table = tables.get(page >> bits)
            if table is not None:
                pte = table[page & mask]
                if write:
                    if pte & _WRITE_HIT == _WRITE_HIT:
                        words = contents.get(pte >> 12)
                        if words is None or words.itemsize != 4:
                            words = machine.ram.words(pte >> 12)
                        words[(at & 0xFFC) >> 2] = value
                        continue
                elif pte & _READ_HIT == _READ_HIT:
                    words = contents.get(pte >> 12)
                    if words is not None and words.itemsize != 4:
                        words = machine.ram.words(pte >> 12)
                    read.append(0 if words is None else words[(at & 0xFFC) >> 2])
                    continue
            took = mmu.touch(task, at, write, M32, value)
            if took < 0:
                faults = took
                break
            if not write:
                read.append(mmu.loaded)
            if took:
                faults += took
                tables.clear()
                sched.end_of_op(task)
                if task.mm is not mm:
                    break
            found = lookup(mm, at)
            if found is not None:
                tables[page >> bits] = found[0]
        got: Line = {"ret": faults, "rdcrc": crc32("".join([f"{value}," for value in read]).encode())}
        if sched.tasks.get(task.pid) is task:
            got["flt"] = [task.min_flt - min_flt, task.maj_flt - maj_flt]
        return got


def _mm(task: Task) -> MmStruct:
    if task.mm is None:
        raise TraceError(f"process {task.pid} has no address space")
    return task.mm
