"""Endurance: the calls that change what is mapped."""

from __future__ import annotations

from ..mm.vm import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, TASK_SIZE
from .endurance_base import ARENA, Base
from .shadow import PAGE, ZERO, Backing, Difference, ShadowPage, ShadowProcess

__all__ = ["Maps"]

PROTS = (0, 1, 3, 3, 3, 5, 7)
HEAP = 0x0804A000


class Maps(Base):
    """mmap and what comes after it."""

    def a_file(self) -> Backing | None:
        """Some file, to map; None when there is none yet."""
        return self.rng.choice(list(self.files.values())) if self.files else None

    def mapped(self) -> int:
        """Pages mapped by all processes."""
        return sum(len(p.pages) for p in self.procs.values())

    def _mmap(self, p: ShadowProcess, addr: int, n: int, prot: int, flags: int, backing: Backing | None, index: int) -> int | None:
        """mmap(2) of *n* pages; returns the first page, None when it failed. *addr*: page, 0 for anywhere."""
        fd = -1
        if backing is not None:
            fd = self.call(p, "open", backing.name, 2)
            if fd < 0:
                self.bury()
                return None
        ret = self.call(p, "mmap", addr << 12, n << 12, prot, flags, fd, index << 12)
        first = ret >> 12
        shared = bool(flags & MAP_SHARED)
        if ret >= 0:
            if flags & MAP_FIXED and first != addr:
                raise Difference(f"MAP_FIXED at {addr:#x} went to {first:#x}")
            if not flags & MAP_FIXED and any(page in p.pages for page in range(first, first + n)):
                raise Difference(f"mmap chose {first:#x}, where something is")
            if first + n > TASK_SIZE >> 12:
                raise Difference(f"mmap gave {first:#x}, {n} pages: not below TASK_SIZE")
            if backing is None and shared:
                backing = Backing("anonymous", n << 12)
            base = ShadowPage(ZERO if backing is None else None, backing, index, shared)
            p.unmap(first, n)
            p.map(first, [base.next(i) for i in range(n)], prot)
        elif flags & MAP_FIXED:
            self.settle(p, addr, n, dict.fromkeys(range(addr, addr + n)))
        if fd >= 0:
            self.call(p, "close", fd)
        self.bury()
        return first if ret >= 0 else None

    def hog(self, p: ShadowProcess) -> None:
        """A process that wants a lot and writes to all of it."""
        n = self.rng.randrange(self.ram_pages // 8, self.ram_pages // 2)
        first = self._mmap(p, 0, n, 3, MAP_PRIVATE | MAP_ANONYMOUS, None, 0)
        if first is not None:
            for page in range(first, first + n):
                if p.pid not in self.procs:
                    return
                self.touch(p, page, True)

    def mmap(self, p: ShadowProcess) -> None:
        """Anonymous or of a file, private or shared, anywhere or exactly there."""
        rng = self.rng
        n = rng.choice((1, 2, 5, 16, 40, 150, self.ram_pages // 16, self.ram_pages // 8))
        if self.mapped() + n > self.limit:
            self.munmap(p)
            return
        backing = self.a_file() if n < 100 and rng.random() < 0.4 else None
        flags = MAP_SHARED if rng.random() < (0.5 if backing else 0.2) else MAP_PRIVATE
        flags |= 0 if backing else MAP_ANONYMOUS
        addr = 0
        if rng.random() < 0.4:
            addr = ARENA + rng.randrange(2048)
            flags |= MAP_FIXED
        self._mmap(p, addr, n, rng.choice(PROTS), flags, backing, rng.randrange(30) if backing else 0)

    def munmap(self, p: ShadowProcess) -> None:
        """Holes and whole regions."""
        first, n = self.somewhere(p)
        ret = self.call(p, "munmap", first << 12, n << 12)
        if ret == 0:
            p.unmap(first, n)
        else:
            self.settle(p, first, n, {})
        self.bury()

    def mprotect(self, p: ShadowProcess) -> None:
        """Other rights; up to a hole when there is one."""
        first, n = self.somewhere(p)
        prot = self.rng.choice(PROTS)
        ret = self.call(p, "mprotect", first << 12, n << 12, prot)
        if ret == 0:
            for page in range(first, first + n):
                if page not in p.prot:
                    raise Difference(f"mprotect of {first:#x}, {n} pages succeeded over a hole at {page:#x}")
                p.prot[page] = prot
        else:
            self.settle(p, first, n, dict.fromkeys(range(first, first + n), prot))
        self.bury()

    def mremap(self, p: ShadowProcess) -> None:
        """Longer, shorter, elsewhere."""
        rng = self.rng
        first, n = self.somewhere(p)
        new_n = n if rng.random() < 0.3 else max(1, n + rng.randint(-n, n + 5))
        flags, to = rng.choice((0, 1, 1, 1)), 0
        if rng.random() < 0.3 and new_n >= n:
            flags, to = 3, ARENA + rng.randrange(2048)
        ret = self.call(p, "mremap", first << 12, n << 12, new_n << 12, flags, to << 12)
        at = ret >> 12
        if ret < 0:
            # The target of MREMAP_FIXED is unmapped before anything else is looked at; a shorter length is cut at once.
            gone = dict.fromkeys([*range(to, to + new_n), *range(first + new_n, first + n)] if flags & 2 else [])
            low, high = (min(first, to), max(first + n, to + new_n)) if flags & 2 else (first, first + n)
            self.settle(p, low, high - low, gone)
        elif at == first:
            p.unmap(first + new_n, n - new_n)
            if new_n > n:
                self._grow(p, first, n, first, new_n)
        else:
            if to and at != to:
                raise Difference(f"MREMAP_FIXED to {to:#x} went to {at:#x}")
            if to:
                p.unmap(to, new_n)
            self._grow(p, first, n, at, new_n)
        self.bury()

    def _grow(self, p: ShadowProcess, first: int, n: int, at: int, new_n: int) -> None:
        """The *n* pages from *first* on are now at *at*, and *new_n* of them."""
        if any(first + i not in p.pages for i in range(n)):
            raise Difference(f"mremap of {first:#x}, {n} pages succeeded over a hole")
        pages = [p.pages[first + i] for i in range(n)]
        prot, locked = p.prot[first], first in p.locked
        pages += [pages[-1].next(i) for i in range(1, new_n - n + 1)]
        if at != first:
            p.unmap(first, n)
        if any(at + i in p.pages for i in range(0 if at != first else n, new_n)):
            raise Difference(f"mremap put {new_n} pages at {at:#x}, where something is")
        p.map(at, pages, prot)
        if locked:
            p.locked.update(range(at, at + new_n))
            self.resolve(p, range(at, at + new_n))

    def brk(self, p: ShadowProcess) -> None:
        """The heap grows and shrinks."""
        wanted = HEAP + self.rng.randrange(0, 64 * PAGE)
        old, new = p.brk + PAGE - 1 >> 12, wanted + PAGE - 1 >> 12
        ret = self.call(p, "brk", wanted)
        if ret == wanted:
            if new < old:
                p.unmap(new, old - new)
            elif new > old:
                p.unmap(old, new - old)
                p.map(old, [ShadowPage(ZERO)] * (new - old), 7)
            p.brk = wanted
        elif ret != p.brk:
            raise Difference(f"brk({wanted:#x}) says {ret:#x}; it was {p.brk:#x}")
        self.bury()

    def stack(self, p: ShadowProcess) -> None:
        """An access below the stack makes it grow."""
        page = p.stack_low - self.rng.randint(0, 3)
        if page < (TASK_SIZE >> 12) - 200:
            return
        if any(q in p.pages for q in range(page, p.stack_low)) or p.prot.get(p.stack_low) != 7:
            return
        if page < p.stack_low:
            for grown in range(page, p.stack_low):
                p.pages[grown], p.prot[grown] = ShadowPage(ZERO), 7
            p.stack_low = page
        self.touch(p, page, True)
