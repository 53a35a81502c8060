"""`vmlab hostdiff`: the same random mmap, munmap, mprotect, mremap and brk calls on a real process and on the model.

After every call both must have returned the same (address or errno), and both must have the same pages mapped with the
same rights; every so often each page is really read and written in both. Between Linux 2.4 and the Linux of today
some things changed on purpose: the calls that would show them are not made, or their answers are brought together,
and EXCEPTIONS names each.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from . import hostchild
from .hosted import HEAP, HEAP_PAGES, PAGE, WINDOWS, HostProcess, ModelProcess, NotHere, Result, Run, clip, merge
from .shadow import Difference

__all__ = ["EXCEPTIONS", "HostDiff", "main"]

EXCEPTIONS: dict[str, tuple[str, str]] = {
    # name: (2.4 and today, how the comparison deals with it)
    "mmap-zero": ("mmap of length 0 returns the address and maps nothing in 2.4; EINVAL since 2.6.12", "length 0 is not asked for"),
    "3-gib": ("user addresses end at 3 GiB in 2.4 on i386, at 128 TiB on a 64-bit host", "all addresses and lengths stay far below"),
    "low-addresses": ("a process may not map below vm.mmap_min_addr since 2.6.23", "the windows lie above"),
    "search": (
        "2.4 looks for room upwards from 0x40000000; today downwards from the stack, at a random distance",
        "MAP_32BIT and a personality without randomisation give the old search; where a sandbox forbids that, and for mremap, "
        "which has no such flag, the host's mapping is moved to the model's address",
    ),
    "hint": (
        "a wish that is no multiple of the page size is rounded up in 2.4, down since 2.6.24",
        "only addresses with MAP_FIXED are ever odd: EINVAL in both",
    ),
    "huge-pages": ("anonymous mappings of 2 MiB and more are aligned to 2 MiB since 6.7", "mappings without a fixed address stay below"),
    "merging": (
        "which neighbouring areas become one differs (2.4 merges only anonymous private ones)",
        "neighbours of equal rights count as one; mremap is asked of ranges inside one area of both, or inside none of either",
    ),
    "mremap-unmapped": (
        "mremap to the same or a smaller length looks at nothing in 2.4, not even whether anything is mapped; EFAULT today",
        "only asked where both have an area",
    ),
    "mremap-target": (
        "MREMAP_FIXED unmaps the target before it looks at the source in 2.4; a source that is not mapped is found first today",
        "only asked where the source is good",
    ),
    "mremap-fixed-shrink": (
        "MREMAP_FIXED to a smaller length cuts the tail and then fails with EFAULT in 2.4 (a bug, later mended)",
        "MREMAP_FIXED never shrinks",
    ),
    "mremap-zero": ("a new length 0 unmaps in 2.4, EINVAL today; an old length 0 duplicates shared mappings today", "neither is asked for"),
    "mremap-dontunmap": ("the flag 4 is MREMAP_DONTUNMAP since 5.7, EINVAL in 2.4", "8 is the unknown flag we ask for"),
    "map-type-3": ("MAP_SHARED|MAP_PRIVATE is MAP_SHARED_VALIDATE since 4.15, EINVAL in 2.4", "0 is the bad type we ask for"),
    "growsdown": ("areas that grow down keep a gap of 1 MiB free below them since 4.11", "MAP_GROWSDOWN is not asked for"),
    "write-only": (
        "a first read of a page mapped with PROT_WRITE alone is SIGSEGV in 2.4 and succeeds today",
        "whether such pages can be read is not compared",
    ),
    "execute-only": (
        "PROT_EXEC alone makes a page unreadable today where the processor has protection keys",
        "whether such pages can be read is not compared",
    ),
    "heap-exec": ("the heap is executable in 2.4", "of the heap only reading and writing are compared"),
    "brk-start": (
        "where the heap begins is random today, and the host's malloc uses it too",
        "breaks are compared as distances from a base",
    ),
    "memory": ("limits and promises of memory differ (overcommit, map_count, RLIMIT_AS)", "sizes stay small; the model's overcommit is 1"),
}


class HostDiff:
    """One run: a real process, a process of the model, and random calls from one seed."""

    def __init__(self, seed: int, directory: Path, probe_every: int = 250) -> None:
        self.rng = random.Random(seed)
        self.model = ModelProcess()
        self.host = HostProcess(directory)
        self.probe_every = probe_every
        self.calls = self.probed = self.moved = self.rebased = 0
        self.made: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.odd: list[tuple[int, int, int]] = []  # pages whose reading is not compared
        self.say: list[str] = []  # the last calls, to show with a difference

    def run(self, calls: int) -> None:
        """Make so many calls. Raises Difference at the first that differs."""
        steps = ((self.mmap, 40), (self.munmap, 18), (self.mprotect, 24), (self.mremap, 18), (self.brk, 6))
        kinds, weights = [kind for kind, _ in steps], [weight for _, weight in steps]
        while self.calls < calls:
            self.rng.choices(kinds, weights)[0]()
            self.compare_maps()
            if self.calls % self.probe_every == 0:
                self.compare_pages()
            if self.model_top() > WINDOWS[1][0] + (WINDOWS[1][1] - 2048) * PAGE:
                self.both("munmap", WINDOWS[1][0], WINDOWS[1][1] * PAGE)
        self.compare_pages()

    def model_top(self) -> int:
        """Where the highest mapping in the second window ends."""
        runs = clip(self.model.areas(), *WINDOWS[1])
        return runs[-1][1] if runs else 0

    def differ(self, why: str) -> Difference:
        """A Difference that shows the calls before it."""
        return Difference(f"call {self.calls}: {why}\nthe last calls:\n" + "\n".join(self.say[-6:]))

    # -- making calls -----------------------------------------------------------------------------

    def both(self, name: str, *args: int | str | None) -> tuple[Result, Result]:
        """The call in both processes; errors must be the same."""
        self.calls += 1
        self.made[name] += 1
        ours, theirs = self.model.call(name, *args), self.host.call(name, *args)
        shown = ", ".join(hex(a) if isinstance(a, int) else str(a) for a in args)
        self.say.append(f"{name}({shown}): model {ours}, host {theirs}")
        del self.say[:-6]
        self.failed[name] += bool(ours.errno)
        if ours.errno != theirs.errno:
            raise self.differ(f"{self.say[-1]}")
        return ours, theirs

    def place(self) -> tuple[int, int]:
        """(address, pages) somewhere in the windows."""
        rng = self.rng
        first, pages = WINDOWS[rng.random() < 0.35]
        n = rng.choice((1, 1, 2, 3, 8, 30, 100))
        return first + rng.randrange(min(pages, 1024) - n) * PAGE, n

    def ragged(self, n: int) -> int:
        """A length of *n* pages, or a little less."""
        return n * PAGE - (self.rng.randrange(PAGE) if self.rng.random() < 0.2 else 0)

    def mmap(self) -> None:
        """Anonymous or a file, with a fixed address, a wish, or none; now and then with something wrong."""
        rng = self.rng
        address, n = self.place()
        flags, fd, offset = rng.choice((1, 2, 2)), None, 0
        prot = rng.choice((0, 1, 2, 3, 3, 3, 4, 5, 6, 7))
        if rng.random() < 0.3:
            fd, offset, prot = rng.choice(("ro", "rw", "rw", "wo")), rng.randrange(7) * PAGE, prot & 3
        else:
            flags |= 0x20
        wish = rng.random()
        if wish < 0.6:
            flags |= 0x10
        elif wish < 0.8:
            address = 0
        if flags & 0x10 and rng.random() < 0.03:
            address += rng.randrange(1, PAGE)
        if rng.random() < 0.01:
            flags &= ~3
        if fd and rng.random() < 0.02:
            offset += 1
        if fd and rng.random() < 0.02:
            fd = "bad"
        ours, theirs = self.both("mmap", address, self.ragged(n), prot, flags, fd, offset)
        if ours.errno:
            return
        if prot in (2, 4):
            self.odd.append((ours.value, ours.value + n * PAGE, prot))
        if ours.value != theirs.value:
            if self.host.exact or flags & 0x10:
                raise self.differ(self.say[-1])
            self.bring(theirs.value, n * PAGE, ours.value)

    def bring(self, at: int, length: int, to: int) -> None:
        """Exception "search": move what the host has at *at* to where the model has it."""
        ret = self.host.call("mremap", at, length, length, 3, to)
        self.moved += 1
        if ret.errno or ret.value != to:
            raise self.differ(f"the host's mapping at {at:#x} could not be moved to {to:#x}: {ret}")

    def munmap(self) -> None:
        """Whatever is there, or nothing."""
        address, n = self.place()
        length = self.ragged(n)
        if self.rng.random() < 0.03:
            address, length = self.rng.choice(((address + 1, length), (address, 0)))
        self.both("munmap", address, length)

    def mprotect(self) -> None:
        """Other rights, over holes too."""
        rng = self.rng
        address, n = self.place()
        length, prot = self.ragged(n), rng.choice((0, 1, 2, 3, 3, 5, 7))
        if rng.random() < 0.04:
            address, length, prot = rng.choice(((address + 1, length, prot), (address, 0, prot), (address, length, 0x20)))
        if prot & 4 and self._file_at(address, length):
            prot &= 3  # a file system mounted noexec would refuse
        self.both("mprotect", address, length, prot)
        if prot in (2, 4):
            self.odd.append((address, address + n * PAGE, prot))

    def _file_at(self, address: int, length: int) -> bool:
        return any(vma.vm_file is not None and vma.vm_end > address and vma.vm_start < address + length for vma in self.model.process.areas)

    def inside(self, runs: list[Run], address: int, length: int) -> bool:
        """Whether a range lies in one area."""
        return any(start <= address and address + length <= end for start, end, _ in runs)

    def mremap(self) -> None:
        """Longer, shorter, moved by the kernel, moved to a place we say."""
        rng = self.rng
        address, n = self.place()
        ours, theirs = self.model.areas(), self.host.areas()
        if rng.random() < 0.8 and (near := clip(ours, *WINDOWS[rng.random() < 0.4])):
            start, end, _ = rng.choice(near)
            n = min(n, (end - start) // PAGE)
            address = rng.choice((start, end - n * PAGE, start + rng.randrange((end - start) // PAGE - n + 1) * PAGE))
        length = n * PAGE
        good, also = self.inside(ours, address, length), self.inside(theirs, address, length)
        if good != also:
            return  # "merging"
        new_n = max(1, n + rng.choice((-20, -3, -1, 0, 1, 1, 5, 30)))
        flags, to = rng.choice((0, 1, 1, 1)), 0
        if good and new_n >= n and rng.random() < 0.3:
            flags, to = 3, self.place()[0]
        if not good and new_n <= n:
            return  # "mremap-unmapped"
        if rng.random() < 0.05:
            address, flags, to = rng.choice(((address + 1, flags, to), (address, 8, 0), (address, 2, to), (address, 3, to + 1)))
            if flags in (2, 3) and not good:
                return  # "mremap-target"
        mine, real = self.both("mremap", address, length, new_n * PAGE, flags, to)
        if not mine.errno:
            if rights := next((rights for start, end, rights in ours if start <= address < end), 0) & 7:
                if rights in (2, 4):
                    self.odd.append((mine.value, mine.value + new_n * PAGE, rights))
            if mine.value != real.value:
                if flags & 2:
                    raise self.differ(self.say[-1])
                self.bring(real.value, new_n * PAGE, mine.value)

    def brk(self) -> None:
        """The heap, in bytes from its base."""
        self.calls += 1
        self.made["brk"] += 1
        offset = self.rng.randrange(HEAP_PAGES // 2 * PAGE)
        theirs = self.host.brk(offset)
        if theirs.errno == hostchild.MOVED:
            self.model.brk(0)
            self.rebased += 1
            return
        ours = self.model.brk(offset)
        self.say.append(f"brk(base + {offset:#x}): model {ours}, host {theirs}")
        if ours != theirs:
            raise self.differ(self.say[-1])

    # -- comparing --------------------------------------------------------------------------------

    def compare_maps(self) -> None:
        """Both have the same pages with the same rights."""
        ours, theirs = self.model.areas(), self.host.areas()
        for window in WINDOWS:
            mine, real = merge(clip(ours, *window)), merge(clip(theirs, *window))
            if mine != real:
                wrong = next((a, b) for a, b in zip([*mine, None], [*real, None], strict=False) if a != b)
                raise self.differ(
                    "maps differ: model {}, host {}".format(*(run and f"{run[0]:#x}-{run[1]:#x} {run[2]:03b}" for run in wrong))
                )
        heaps = self.heaps(ours, theirs)
        if heaps[0] != heaps[1] and self.host.break_moved():
            self.model.brk(0)  # "brk-start"
            self.rebased += 1
            heaps = self.heaps(self.model.areas(), self.host.areas())
        if heaps[0] != heaps[1]:
            raise self.differ(f"heaps differ: model {heaps[0]}, host {heaps[1]}")

    def heaps(self, ours: list[Run], theirs: list[Run]) -> list[list[Run]]:
        """What both have above the base of their breaks, as distances from it; without the right to execute ("heap-exec")."""
        both = ((clip(runs, base, HEAP_PAGES), base) for runs, base in ((ours, HEAP), (theirs, self.host.heap)))
        return [merge([(a - base, b - base, rights & 3) for a, b, rights in runs]) for runs, base in both]

    def compare_pages(self) -> None:
        """Read and write every page for real."""
        for first, pages in ((WINDOWS[0][0], WINDOWS[0][1]), (WINDOWS[1][0], 1024)):
            ours, theirs = self.model.probe(first, pages), self.host.probe(first, pages)
            self.probed += pages
            for i in range(pages) if ours != theirs else ():
                if ours[i] != theirs[i] and (ours[i] ^ theirs[i] != 1 or not self._odd(first + i * PAGE)):
                    rights = ("nothing", "read", "write", "read and write")
                    raise self.differ(f"page {first + i * PAGE:#x}: the model allows {rights[ours[i]]}, the host {rights[theirs[i]]}")
        areas = self.model.areas()
        self.odd = [(a, b, rights) for a, b, rights in areas if rights in (2, 4)]

    def _odd(self, address: int) -> bool:
        """Exceptions "write-only" and "execute-only"."""
        return any(start <= address < end and rights in (2, 4) for start, end, rights in self.model.areas())

    def report(self) -> str:
        """The figures of the run."""
        each = ", ".join(f"{name} {n} ({self.failed[name]} failed alike)" for name, n in sorted(self.made.items()))
        chosen = "the same addresses chosen" if self.host.exact else "addresses chosen by the kernel not compared (no personality here)"
        return (
            f"{self.calls} calls: {each}\n{self.probed} pages read and written in both\n"
            f"{chosen}; {self.moved} moved mappings brought together; the base of the break moved {self.rebased} times\n"
            f"0 differences; {len(EXCEPTIONS)} documented exceptions"
        )


def main(argv: Sequence[str]) -> int:
    """`vmlab hostdiff`: 0 when nothing differed, 1 with the call that did, 2 where there is no Linux to compare with."""
    parser = argparse.ArgumentParser(prog="vmlab hostdiff", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--probe-every", type=int, default=250, metavar="CALLS", help="read and write every page so often")
    parser.add_argument("--exceptions", action="store_true", help="list what is known to differ, and stop")
    options = parser.parse_args(argv)
    if options.exceptions:
        for name, (what, how) in EXCEPTIONS.items():
            print(f"{name}: {what}.\n    Here: {how}.")
        return 0
    with tempfile.TemporaryDirectory(prefix="vmlab-hostdiff-") as directory:
        try:
            run = HostDiff(options.seed, Path(directory), options.probe_every)
        except NotHere as error:
            print(f"vmlab hostdiff: {error}", file=sys.stderr)
            return 2
        began = time.monotonic()
        try:
            run.run(options.calls)
        except Difference as error:
            print(f"seed {options.seed}: {error}", file=sys.stderr)
            return 1
        finally:
            run.host.close()
        print(run.report())
        print(f"{time.monotonic() - began:.1f} s")
    return 0
