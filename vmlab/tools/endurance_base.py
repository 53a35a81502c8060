"""The ground of an endurance run: a machine beside its shadow, accesses to memory that are compared, and who was killed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import Signalled
from ..hw.disk import FileDisk
from ..hw.e820 import parse_size
from ..hw.tlb import Tlb
from ..machine import Machine
from ..mm.errno import ESRCH
from ..mm.swap_header import mkswap
from .shadow import PAGE, Backing, Difference, ShadowProcess

__all__ = ["ARENA", "TMPFS", "Base"]

SIGKILL = 9
ARENA, ARENA_PAGES = 0x50000000 >> 12, 0x10000  # where MAP_FIXED and MREMAP_FIXED put things: four page tables' worth is used
TMPFS = "/dev/shm"


class Base:
    """A machine with its shadow, and everything that can be done to both."""

    def __init__(
        self,
        seed: int,
        directory: Path,
        *,
        ram: str = "24M",
        swap: str = "12M",
        most: int = 8,
        demand: float = 1.2,
        burst_share: float = 0.5,
        pae: bool = False,
        io_mode: int = 0,
        highmem_pages: int = -1,
        tlb: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.most, self.burst_share = most, burst_share
        self.machine = Machine(ram, kernel_objects="ram", pae=pae, io_mode=io_mode, highmem_pages=highmem_pages).power_on()
        if tlb:
            self.machine.mmu.tlb = Tlb(64, 4)
        self.machine.overcommit(1)
        self.machine.mount_tmpfs("size=64m", TMPFS)
        self.swaps: list[int] = []
        for n in range(2):
            path = directory / f"swap{n}"
            path.write_bytes(mkswap(parse_size(swap) >> 12).ljust(parse_size(swap), b"\0"))
            disk = self.machine.add_swap(path=str(path), priority=n)
            if disk < 0:
                raise OSError(-disk, f"no swap on {path}: {disk!r}")
            self.swaps.append(disk)
        self.ram_pages = self.machine.totalram_pages
        self.limit = int(demand * (self.ram_pages + 2 * (parse_size(swap) >> 12)))  # pages mapped in all
        self.procs: dict[int, ShadowProcess] = {}
        self.files: dict[str, Backing] = {}
        self.segments: dict[int, Backing] = {}
        self.named = 0  # files made so far
        self.areas: list[int] = []  # of vmalloc
        self.objects: list[int] = []  # of kmalloc
        self.off: list[int] = []  # swap areas that are switched off
        self.step = self.touches = self.checks = self.forks = self.kills = self.compared = 0
        self.check_every = self.next_check = 1000
        self.stamp = 0
        self.data = b""  # what the last call gave besides its number
        self.made: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.signals: Counter[int] = Counter()
        self.said: set[int] = set()  # whom the machine says it killed

    # -- keeping shadow and machine together ------------------------------------------------------

    def call(self, p: ShadowProcess, name: str, *args: object) -> int:
        """A system call, counted; -ESRCH when the process did not survive the one before."""
        sched = self.machine.sched
        if p.pid not in sched.tasks:
            return -ESRCH
        self.step += 1
        self.made[name] += 1
        ret = self.machine.syscall(p.pid, name, *args)
        self.said.update(sched.killed, sched.selfkill)
        value = ret[0] if isinstance(ret, tuple) else ret
        self.data = ret[1] if isinstance(ret, tuple) else b""
        if value < 0:
            self.failed[name] += 1
        return value

    def bury(self) -> None:
        """After each step, when shadow and machine should agree: forget who was killed, and check everything if it is time."""
        if len(self.machine.sched.tasks) != len(self.procs):
            self._forget_dead()
        if self.step >= self.next_check:
            self.next_check = self.step + self.check_every
            self.check()

    def _forget_dead(self) -> None:
        """Those whom the machine killed, if it says so; nobody else may be missing."""
        sched = self.machine.sched
        self.said.update(sched.killed, sched.selfkill)
        for pid in [pid for pid in self.procs if pid not in sched.tasks]:
            if pid not in self.said:
                raise Difference(f"process {pid} vanished without a signal")
            del self.procs[pid]
            self.kills += 1
        if len(sched.tasks) != len(self.procs):
            raise Difference(f"processes {sorted(set(sched.tasks) - set(self.procs))} came from nowhere")
        self.said.clear()

    def check(self) -> None:
        """Every invariant of the machine, and the shadow's maps against its areas."""
        self.machine.check(held=())
        self.checks += 1
        for p in self.procs.values():
            self.compare_map(p)
        for disk in self.swaps:
            swapfile = self.machine.block.disks[disk]
            if isinstance(swapfile, FileDisk):
                swapfile.commit()  # what is swapped in from now on comes from the file

    def settle(self, p: ShadowProcess, first: int, n: int, new: dict[int, int | None]) -> None:
        """A call failed in the middle: each page has its old rights or what *new* says (None: unmapped). See which."""
        if p.pid not in self.procs or p.pid not in self.machine.sched.tasks:
            return
        now = self.rights(p)
        for page in range(first, first + n):
            is_now = now.get(page)
            if is_now == p.prot.get(page):
                continue
            if page not in new or is_now != new[page]:
                raise Difference(
                    f"after an error page {page:#x} of {p.pid} has rights {is_now}, not {p.prot.get(page)} nor {new.get(page)}"
                )
            if is_now is None:
                p.unmap(page, 1)
            else:
                p.prot[page] = is_now

    def rights(self, p: ShadowProcess) -> dict[int, int]:
        """PROT_ bits by page, from the machine's areas."""
        mm = self.machine.sched.tasks[p.pid].mm
        assert mm is not None
        found: dict[int, int] = {}
        for vma in mm.areas():
            found.update(dict.fromkeys(range(vma.vm_start >> 12, vma.vm_end >> 12), vma.vm_flags & 7))
        return found

    def resolve(self, p: ShadowProcess, pages: Iterable[int]) -> None:
        """Locking writable pages of a private mapping copies them, as many as it comes to: see which have a copy now."""
        m = self.machine
        task = m.sched.tasks.get(p.pid)
        if task is None or task.mm is None:
            return
        for page in pages:
            here = p.pages.get(page)
            if here is None or here.own is not None or here.shared:
                continue
            found = m.pgtable.pte_lookup(task.mm, page << 12)
            pte = 0 if found is None else found[0][found[1]]
            host = m.mappings[m.mem.mapping[pte >> 12]].host if pte & 0x81 and m.mem.mapping[pte >> 12] > 1 else None
            if pte and host is None and (pte & 0x81 == 0 or pte >> 12 != m.empty_zero_page):
                p.pages[page] = here._replace(own=here.contents())

    def compare_map(self, p: ShadowProcess) -> None:
        """The areas of a process cover exactly the shadow's pages, with their rights."""
        if self.rights(p) != p.prot:
            now = self.rights(p)
            wrong = sorted(page for page in {*now, *p.prot} if now.get(page) != p.prot.get(page))
            raise Difference(f"process {p.pid}: page {wrong[0]:#x} has rights {now.get(wrong[0])}, not {p.prot.get(wrong[0])}")

    # -- memory -----------------------------------------------------------------------------------

    def touch(self, p: ShadowProcess, page: int, write: bool) -> None:
        """One access to a word, compared."""
        self.step += 1
        self.touches += 1
        here = p.pages.get(page)
        offset = self.rng.randrange(0, PAGE, 4)
        if write and here is not None and here.shared and here.backing is not None and here.backing.is_file:
            room = here.backing.size - here.number * PAGE  # what is stored past the end of a file may or may not stay
            if 4 <= room < PAGE:
                offset = min(offset, room - 4 & ~3)
            elif 0 < room < 4:
                write = False
        self.stamp = self.stamp + 1 & 0xFFFFFFFF
        expected = p.signal(page, write)
        m = self.machine
        try:
            m.touch(p.pid, page << 12 | offset, int(write), self.stamp)
        except Signalled as signal:
            if signal.signal == SIGKILL:
                if p.pid in m.sched.tasks:
                    raise Difference(f"process {p.pid} was killed at page {page:#x} and lives") from None
            elif signal.signal != expected:
                raise Difference(f"process {p.pid}, page {page:#x}, write {write}: {signal}; {expected or 'no signal'} was due") from None
            self.signals[signal.signal] += 1
        else:
            if expected:
                raise Difference(f"process {p.pid}, page {page:#x}, write {write}: signal {expected} was due and did not come")
            if write:
                p.store(page, offset, self.stamp.to_bytes(4, "little"))
            else:
                due = p.pages[page].contents()[offset : offset + 4]
                if m.mmu.loaded.to_bytes(4, "little") != due:
                    raise Difference(f"process {p.pid} reads {m.mmu.loaded:#010x} at {page << 12 | offset:#x}, not {due.hex()} (reversed)")
        self.bury()

    def somewhere(self, p: ShadowProcess) -> tuple[int, int]:
        """(first page, pages) of a range to do something to: mostly one that was mapped."""
        rng = self.rng
        if not p.regions or rng.random() < 0.02:
            return ARENA + rng.randrange(2048), rng.randint(1, 20)
        first, n = rng.choice(p.regions)
        start = rng.randrange(n)
        return first + start, min(n - start, rng.choice((1, 1, 2, 5, 20, 100)))

    def burst(self, p: ShadowProcess) -> None:
        """A run of accesses, most of them near one place, a few just outside of what is mapped."""
        rng = self.rng
        if not p.regions:
            return
        first, n = rng.choice(p.regions)
        at = next((page for page in (first + rng.randrange(n) for _ in range(8)) if not p.signal(page, False)), first)
        if p.signal(at, False) and rng.random() < 0.8:
            return
        near = rng.choice((2.0, 20.0, 200.0))
        for _ in range(rng.choice((5, 20, 100))):
            page, write = first + (at - first + int(rng.expovariate(1.0 / near))) % n, rng.random() < 0.4
            if p.signal(page, write) and rng.random() < 0.9:
                page, write = at, False
            self.touch(p, page, write)
            if p.pid not in self.procs:
                return

    def read_page(self, p: ShadowProcess, page: int) -> None:
        """All 4096 bytes of a page that must be readable."""
        self.step += 1
        due = p.pages[page].contents()
        try:
            found = self.machine.user_read(p.pid, page << 12, PAGE)
        except Signalled as signal:
            if signal.signal != SIGKILL:
                raise Difference(f"process {p.pid}, page {page:#x}: {signal}; it must be readable") from None
        else:
            self.compared += 1
            if found != due:
                at = next(i for i in range(PAGE) if found[i] != due[i])
                raise Difference(f"process {p.pid}, page {page:#x}, byte {at}: {found[at : at + 8].hex()}, not {due[at : at + 8].hex()}")
        self.bury()

    def whole_page(self, p: ShadowProcess) -> None:
        """Compare a few pages in full."""
        first, n = self.somewhere(p)
        for page in range(first, first + min(n, 5)):
            if p.pid in self.procs and not p.signal(page, False):
                self.read_page(p, page)
