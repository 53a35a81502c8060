"""What every process must read, kept outside the machine: plain bytes and dictionaries, no kernel.

A page of a process is described by a tuple that never changes, so that fork shares everything by
copying a dictionary, and a write replaces one entry: copy-on-write without any machinery.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PAGE", "ZERO", "Backing", "Difference", "ShadowPage", "ShadowProcess"]

PAGE = 4096
ZERO = bytes(PAGE)
SIGBUS, SIGSEGV = 7, 11


class Difference(Exception):
    """The machine did something that the model outside it says it must not."""


class Backing:
    """Bytes that several may share: a file, a shared anonymous mapping, a System V segment. Sizes in bytes."""

    def __init__(self, name: str, size: int = 0, is_file: bool = False) -> None:
        self.name = name
        self.size = size
        self.is_file = is_file
        self.pages: dict[int, bytes] = {}  # by page number; absent: zeroes

    def page(self, index: int) -> bytes:
        """The 4096 bytes of page *index*, beyond the end zeroes."""
        return self.pages.get(index, ZERO)

    @property
    def npages(self) -> int:
        """Pages that can be touched without SIGBUS."""
        return (self.size + PAGE - 1) // PAGE

    def write(self, offset: int, data: bytes) -> None:
        """Put *data* at byte *offset*; the end moves if need be."""
        self.size = max(self.size, offset + len(data))
        at = 0
        while at < len(data):
            index, start = divmod(offset + at, PAGE)
            n = min(PAGE - start, len(data) - at)
            page = self.page(index)
            self.pages[index] = page[:start] + data[at : at + n] + page[start + n :]
            at += n

    def read(self, offset: int, length: int) -> bytes:
        """What read(2) finds: at most *length* bytes, fewer at the end."""
        length = max(0, min(length, self.size - offset))
        first = offset // PAGE
        blob = b"".join(self.page(i) for i in range(first, (offset + length + PAGE - 1) // PAGE))
        return blob[offset - first * PAGE :][:length]

    def truncate(self, size: int) -> None:
        """Cut or lengthen; what lies beyond the new end is zeroes should it ever come back."""
        limit = (size + PAGE - 1) // PAGE
        for index in [i for i in self.pages if i >= limit]:
            del self.pages[index]
        rest = size % PAGE
        if rest and size // PAGE in self.pages:
            self.pages[size // PAGE] = self.pages[size // PAGE][:rest].ljust(PAGE, b"\0")
        self.size = size


class ShadowPage(NamedTuple):
    """One page of an address space: bytes of its own, or page *number* of a backing (both, once a private copy was made)."""

    own: bytes | None
    backing: Backing | None = None
    number: int = 0
    shared: bool = False

    def contents(self) -> bytes:
        """What it reads as."""
        if self.own is not None:
            return self.own
        assert self.backing is not None
        return self.backing.page(self.number)

    def next(self, n: int) -> ShadowPage:
        """The page *n* further on in the same mapping, untouched."""
        return ShadowPage(ZERO if self.backing is None else None, self.backing, self.number + n, self.shared)

    def forgotten(self) -> ShadowPage:
        """The same after MADV_DONTNEED: a private copy is lost."""
        return self.next(0)


class ShadowProcess:
    """The pages of one process by page number: contents, rights (PROT_ bits), and which are locked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pages: dict[int, ShadowPage] = {}
        self.prot: dict[int, int] = {}
        self.locked: set[int] = set()
        self.regions: list[tuple[int, int]] = []  # (first page, pages) mapped at some time: where to look, no truth
        self.brk = 0  # bytes
        self.stack_low = 0  # page

    def fork(self, pid: int) -> ShadowProcess:
        """The child: the same pages, none locked."""
        child = ShadowProcess(pid)
        child.pages, child.prot = dict(self.pages), dict(self.prot)
        child.regions = list(self.regions)
        child.brk, child.stack_low = self.brk, self.stack_low
        return child

    def signal(self, page: int, write: bool) -> int:
        """The signal an access must end in, 0 when it must succeed."""
        here = self.pages.get(page)
        if here is None or not self.prot[page] & (2 if write else 5):
            return SIGSEGV
        if here.own is None and here.backing is not None and here.number >= here.backing.npages:
            return SIGBUS
        return 0

    def store(self, page: int, offset: int, data: bytes) -> None:
        """Write *data* at byte *offset* of a page, not past its end."""
        here = self.pages[page]
        old = here.contents()
        new = old[:offset] + data + old[offset + len(data) :]
        if here.shared:
            assert here.backing is not None
            here.backing.pages[here.number] = new
        else:
            self.pages[page] = here._replace(own=new)

    def unmap(self, first: int, n: int) -> None:
        """Nothing is mapped there any more."""
        for page in range(first, first + n):
            if self.pages.pop(page, None) is not None:
                del self.prot[page]
                self.locked.discard(page)

    def map(self, first: int, pages: list[ShadowPage], prot: int) -> None:
        """Put *pages* there, in place of what is there."""
        for page, what in enumerate(pages, first):
            self.pages[page] = what
            self.prot[page] = prot
            self.locked.discard(page)
        self.regions.append((first, len(pages)))
        if len(self.regions) > 40:
            self.regions = [(a, n) for a, n in self.regions if any(p in self.pages for p in range(a, a + n))][-40:]

    def forget_copies(self, backing: Backing) -> None:
        """*backing* was cut: private copies beyond its end are gone with what they were copies of."""
        limit = backing.npages
        for page, here in self.pages.items():
            if here.backing is backing and here.own is not None and here.number >= limit:
                self.pages[page] = here.forgotten()
