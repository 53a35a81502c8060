"""Endurance: processes, files, shared memory, and swap areas that come and go."""

from __future__ import annotations

from collections.abc import Callable

from ..mm.errno import EINVAL, ENOMEM
from ..mm.vm import MADV_DONTNEED, VM_LOCKED
from .endurance_base import TMPFS
from .endurance_maps import HEAP, Maps
from .shadow import PAGE, ZERO, Backing, Difference, ShadowPage, ShadowProcess

__all__ = ["Calls"]

CAP_IPC_LOCK = 14
MAX_FILES, MAX_FILE, MAX_SEGMENTS = 12, 120 * PAGE, 6
O_RDWR, O_CREAT = 2, 0o100
Step = Callable[[ShadowProcess], None]


class Calls(Maps):
    """Everything that can be done to a machine and its shadow."""

    # -- processes --------------------------------------------------------------------------------

    def spawn(self) -> None:
        """A new process."""
        self.step += 1
        try:
            process = self.machine.spawn(f"p{self.step}")
        except OSError:
            self.bury()
            return
        task = process.task
        task.cap_effective = 1 << CAP_IPC_LOCK
        p = ShadowProcess(process.pid)
        p.brk = HEAP
        self.procs[p.pid] = p
        for page, prot in self.rights(p).items():
            p.pages[page], p.prot[page] = ShadowPage(ZERO), prot
        p.stack_low = min(p.pages)
        self.bury()

    def fork(self, p: ShadowProcess) -> None:
        """A child that shares everything."""
        if len(self.procs) >= self.most or self.mapped() + len(p.pages) > 1.3 * self.limit:
            return
        pid = self.call(p, "fork")
        if pid > 0:
            self.forks += 1
            self.procs[pid] = p.fork(pid)
        self.bury()

    def exit(self, p: ShadowProcess) -> None:
        """A process ends."""
        self.step += 1
        self.machine.exit(p.pid)
        del self.procs[p.pid]
        self.bury()

    # -- advice and locks -------------------------------------------------------------------------

    def madvise(self, p: ShadowProcess) -> None:
        """MADV_DONTNEED loses private pages; the rest is only advice."""
        first, n = self.somewhere(p)
        advice = self.rng.choice((0, 1, 2, 3, MADV_DONTNEED, MADV_DONTNEED))
        ret = self.call(p, "madvise", first << 12, n << 12, advice)
        if advice == MADV_DONTNEED and p.pid in self.machine.sched.tasks:
            due = 0
            for page in range(first, first + n):
                if page in p.locked:
                    due = -EINVAL
                    break
                if page in p.pages:
                    p.pages[page] = p.pages[page].forgotten()
                else:
                    due = -ENOMEM
            if ret != due:
                raise Difference(f"madvise(DONTNEED) of {first:#x}, {n} pages says {ret}, not {due}")
        self.bury()

    def mlock(self, p: ShadowProcess) -> None:
        """Keep a few pages in memory, never too many."""
        first, n = self.somewhere(p)
        if sum(len(q.locked) for q in self.procs.values()) + n > self.ram_pages // 16:
            self.munlock(p)
            return
        if self.call(p, "mlock", first << 12, n << 12) == 0:
            p.locked.update(range(first, first + n))
        else:
            self._relock(p)
        self.resolve(p, range(first, first + n))
        self.bury()

    def munlock(self, p: ShadowProcess) -> None:
        """Let them go again."""
        first, n = self.somewhere(p)
        if p.locked and self.rng.random() < 0.7:
            first, n = self.rng.choice(sorted(p.locked)), 20
        if self.call(p, "munlock", first << 12, n << 12) == 0:
            p.locked.difference_update(range(first, first + n))
        else:
            self._relock(p)
        self.bury()

    def _relock(self, p: ShadowProcess) -> None:
        """After a failure half way: see what is locked."""
        task = self.machine.sched.tasks.get(p.pid)
        if task is not None and task.mm is not None:
            p.locked = {q for vma in task.mm.areas() if vma.vm_flags & VM_LOCKED for q in range(vma.vm_start >> 12, vma.vm_end >> 12)}

    def msync(self, p: ShadowProcess) -> None:
        """Write shared pages back: nothing that anybody reads changes."""
        first, n = self.somewhere(p)
        self.call(p, "msync", first << 12, n << 12, self.rng.choice((1, 4)))
        self.bury()

    # -- files ------------------------------------------------------------------------------------

    def opened(self, p: ShadowProcess) -> tuple[int, Backing] | None:
        """(descriptor, file) of some file, made if there are few; None when that failed."""
        rng = self.rng
        if len(self.files) < MAX_FILES and rng.random() < 0.2 or not self.files:
            self.named += 1
            number = self.named
            name = f"{TMPFS}/file{number}" if number % 2 else f"file{number}"
        else:
            name = rng.choice(list(self.files))
        fd = self.call(p, "open", name, O_RDWR | O_CREAT)
        if fd < 0:
            return None
        return fd, self.files.setdefault(name, Backing(name, is_file=True))

    def write_file(self, p: ShadowProcess) -> None:
        """write(2) of a few bytes or pages, within the file, at its end, or beyond it."""
        rng = self.rng
        found = self.opened(p)
        if found is not None:
            fd, backing = found
            offset = rng.randrange(min(backing.size + 3 * PAGE, MAX_FILE))
            data = rng.randbytes(rng.choice((1, 10, 100, PAGE, 3 * PAGE)))
            if self.call(p, "lseek", fd, offset) == offset:
                ret = self.call(p, "write", fd, data.hex())
                if ret > 0:
                    backing.write(offset, data[:ret])
            self.call(p, "close", fd)
        self.bury()

    def read_file(self, p: ShadowProcess) -> None:
        """read(2), compared."""
        found = self.opened(p)
        if found is not None:
            fd, backing = found
            offset, n = self.rng.randrange(backing.size + PAGE), self.rng.choice((1, 100, PAGE, 5 * PAGE))
            if self.call(p, "lseek", fd, offset) == offset:
                ret = self.call(p, "read", fd, n)
                if ret >= 0:
                    self.same(backing, offset, self.data, backing.read(offset, n))
            self.call(p, "close", fd)
        self.bury()

    def same(self, backing: Backing, offset: int, found: bytes, due: bytes) -> None:
        """Raise Difference unless read(2) gave what is due."""
        if found != due:
            at = next((i for i, (a, b) in enumerate(zip(found, due, strict=False)) if a != b), min(len(found), len(due)))
            here, there = found[at : at + 8].hex(), due[at : at + 8].hex()
            raise Difference(f"{backing.name}, byte {offset + at}: {here}, not {there}; {len(found)} of {len(due)} bytes")

    def read_into(self, p: ShadowProcess) -> None:
        """read(2) and write(2) to and from the process's own pages: the kernel takes the faults."""
        rng = self.rng
        first, n = self.somewhere(p)
        n, into = min(n, 4), rng.random() < 0.5
        pages = range(first, first + n)
        if any(p.signal(page, into) for page in pages):
            return
        found = self.opened(p)
        if found is None:
            self.bury()
            return
        fd, backing = found
        mine = [p.pages[page] for page in pages]
        mine_ok = all(here.backing is not backing and not (into and here.shared and here.backing and here.backing.is_file) for here in mine)
        offset = rng.randrange(backing.size + PAGE) if backing.size < MAX_FILE else 0
        if mine_ok and self.call(p, "lseek", fd, offset) == offset:
            if into:
                data = backing.read(offset, n * PAGE)
                ret = self.call(p, "read_to", fd, first << 12, n * PAGE)
                if 0 <= ret < len(data) and p.pid in self.machine.sched.tasks:
                    raise Difference(f"read of {len(data)} bytes of {backing.name} to page {first:#x} says {ret}")
                for i in range(0, max(ret, 0), PAGE):
                    p.store(first + i // PAGE, 0, data[i : min(i + PAGE, ret)])
            else:
                data = b"".join(here.contents() for here in mine)
                ret = self.call(p, "write_from", fd, first << 12, len(data))
                if ret > 0:
                    backing.write(offset, data[:ret])
        self.call(p, "close", fd)
        self.bury()

    def truncate(self, p: ShadowProcess) -> None:
        """ftruncate(2): shorter or longer; mappings beyond the end are gone."""
        found = self.opened(p)
        if found is not None:
            fd, backing = found
            size = self.rng.randrange(min(2 * backing.size + PAGE, MAX_FILE))
            if self.call(p, "ftruncate", fd, size) == 0:
                shorter = size < backing.size
                backing.truncate(size)
                for q in self.procs.values() if shorter else ():
                    q.forget_copies(backing)
            self.call(p, "close", fd)
        self.bury()

    def fsync(self, p: ShadowProcess) -> None:
        """fsync(2)"""
        found = self.opened(p)
        if found is not None:
            ret = self.call(p, "fsync", found[0])
            if ret and p.pid in self.machine.sched.tasks:
                raise Difference(f"fsync of {found[1].name} says {ret}")
            self.call(p, "close", found[0])
        self.bury()

    def remove(self, p: ShadowProcess) -> None:
        """A file's name goes; who has mapped it goes on reading it."""
        names = [name for name in self.files if not name.startswith(TMPFS)]
        if len(names) < 3:
            return
        self.step += 1
        self.made["unlink"] += 1
        name = self.rng.choice(names)
        if self.machine.remove_file(name):
            raise Difference(f"{name} cannot be removed")
        del self.files[name]
        self.bury()

    def compare_file(self, name: str, backing: Backing) -> None:
        """A whole file through read(2), by a process made for it."""
        process = self.machine.spawn("reader")
        p = self.procs[process.pid] = ShadowProcess(process.pid)
        fd = self.call(p, "open", name, 0)
        for offset in range(0, backing.size, PAGE):
            self.call(p, "read", fd, PAGE)
            self.same(backing, offset, self.data, backing.read(offset, PAGE))
            self.compared += 1
        self.exit(p)

    # -- System V shared memory, swap -------------------------------------------------------------

    def shm(self, p: ShadowProcess) -> None:
        """A segment made, attached, detached or removed."""
        rng = self.rng
        what = rng.random()
        if what < 0.2 and len(self.segments) < MAX_SEGMENTS:
            n = rng.choice((1, 10, 60))
            ident = self.call(p, "shmget", 0, n * PAGE, 0o1600)
            if ident >= 0:
                self.segments[ident] = Backing(f"segment {ident}", n * PAGE)
        elif what < 0.6 and self.segments:
            ident, backing = rng.choice(list(self.segments.items()))
            ret = self.call(p, "shmat", ident, 0, 0)
            if ret >= 0:
                first = ret >> 12
                if any(page in p.pages for page in range(first, first + backing.npages)):
                    raise Difference(f"shmat chose {first:#x}, where something is")
                p.map(first, [ShadowPage(None, backing, i, True) for i in range(backing.npages)], 3)
        elif what < 0.95:
            attached = [(page, here) for page, here in p.pages.items() if here.backing is not None and here.backing.name[:3] == "seg"]
            if attached:
                page, here = rng.choice(attached)
                base = page - here.number
                gone = [q for q, there in attached if q - there.number == base]
                if self.call(p, "shmdt", base << 12) == 0:
                    for q in gone:
                        p.unmap(q, 1)
                else:
                    self.settle(p, min(gone), max(gone) - min(gone) + 1, dict.fromkeys(gone))
        elif self.segments:
            ident = rng.choice(list(self.segments))
            if self.call(p, "shmctl", ident, 0) == 0:
                del self.segments[ident]
        self.bury()

    def kernel_memory(self, _: ShadowProcess) -> None:
        """vmalloc, kmalloc, time, and how much the kernel promises."""
        rng, m = self.rng, self.machine
        self.step += 1
        self.made["kernel memory"] += 1
        what = rng.random()
        if what < 0.3 and len(self.areas) < 8:
            address = m.vmalloc(rng.randint(1, 12 * PAGE))
            if address:
                self.areas.append(address)
        elif what < 0.5 and self.areas:
            m.vfree(self.areas.pop(rng.randrange(len(self.areas))))
        elif what < 0.7 and len(self.objects) < 60:
            address = m.kmalloc(rng.choice((20, 100, 1000, 5000, 20000)))
            if address:
                self.objects.append(address)
        elif what < 0.9 and self.objects:
            m.kfree(self.objects.pop(rng.randrange(len(self.objects))))
        elif what < 0.95:
            m.tick(rng.randrange(300))
        else:
            m.overcommit(int(rng.random() < 0.8))
        self.bury()

    def swap(self, _: ShadowProcess) -> None:
        """An area is switched off, all of it coming back to memory, or on again."""
        self.step += 1
        name = "swapon" if self.off else "swapoff"
        self.made[name] += 1
        if self.off:
            disk = self.off[0]
            if self.machine.swapon(disk, 0x8000 | self.swaps.index(disk)) == 0:
                self.off.remove(disk)
            else:
                self.failed[name] += 1
        else:
            disk = self.rng.choice(self.swaps)
            if self.machine.swapoff(disk) == 0:
                self.off.append(disk)
            else:
                self.failed[name] += 1
        self.bury()
