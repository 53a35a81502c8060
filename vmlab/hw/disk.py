"""Disks, in units of pages: in memory, or on top of a file of the host."""

from __future__ import annotations

from pathlib import Path

from .layout import M32, PAGE_SHIFT, PAGE_SIZE

__all__ = ["Disk", "FileDisk", "NumberedDisk"]

_ZEROES = bytes(PAGE_SIZE)


class Disk:
    """A disk of *npages* pages of 4096 bytes; a page nobody wrote reads as zeroes.

    A page in ``bad_reads`` (or ``bad_writes``) fails every read (write): put numbers in to break the disk there.
    ``low_only`` says that the disk's controller cannot reach high memory: its transfers are bounced.
    """

    def __init__(self, npages: int, name: str = "") -> None:
        if npages < 0:
            raise ValueError(f"a disk of {npages} pages: the size cannot be negative")
        self.npages = npages
        self.name = name
        self.low_only = False
        self.pages: dict[int, bytes] = {}  # what was written, 4096 bytes a page
        self.bad_reads: set[int] = set()
        self.bad_writes: set[int] = set()

    def __getstate__(self) -> dict[str, object]:
        # Pages are saved one by one, beside the disk: those that did not change are then kept once.
        return {**self.__dict__, "pages": {}}

    def _missing(self, page_no: int) -> bytes | None:
        """Contents of a page that was not written here; None for zeroes."""
        return None

    def read_page(self, page_no: int) -> bytes | None:
        """The 4096 bytes of page *page_no*, or None when they are all zero and were never written.

        Raises OSError past the end of the disk and where reads fail.
        """
        if not 0 <= page_no < self.npages or page_no in self.bad_reads:
            raise OSError(f"read error at page {page_no} of {self!r}")
        found = self.pages.get(page_no)
        return self._missing(page_no) if found is None else found

    def write_page(self, page_no: int, data: bytes | None) -> None:
        """Store a page, 4096 bytes; None is a page of zeroes. Raises OSError past the end and where writes fail."""
        if not 0 <= page_no < self.npages or page_no in self.bad_writes:
            raise OSError(f"write error at page {page_no} of {self!r}")
        self.pages[page_no] = _ZEROES if data is None else data

    def read_bytes(self, offset: int, length: int) -> bytes:
        """*length* bytes from byte *offset* on, as they are on the disk."""
        first, last = offset >> PAGE_SHIFT, (offset + length - 1) >> PAGE_SHIFT
        blob = b"".join(self.read_page(n) or _ZEROES for n in range(first, last + 1))
        return blob[offset & (PAGE_SIZE - 1) :][:length]

    def write_bytes(self, offset: int, data: bytes) -> None:
        """Put *data* on the disk from byte *offset* on."""
        at = 0
        while at < len(data):
            page_no, start = divmod(offset + at, PAGE_SIZE)
            n = min(len(data) - at, PAGE_SIZE - start)
            page = bytearray(self.read_page(page_no) or _ZEROES)
            page[start : start + n] = data[at : at + n]
            self.write_page(page_no, bytes(page))
            at += n

    def resize(self, npages: int) -> None:
        """Make the disk *npages* long; what lies beyond is lost."""
        for page_no in [n for n in self.pages if n >= npages]:
            del self.pages[page_no]
        self.npages = npages

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' ' + self.name if self.name else ''}, {self.npages} pages>"


class NumberedDisk(Disk):
    """Page i of a new disk begins with the word *first* + i and is zero else: what the traces' files are made of.

    Past its last page it reads as zeroes and forgets what is written.
    """

    def __init__(self, npages: int, first: int, name: str = "") -> None:
        super().__init__(npages, name)
        self.first = first

    def _missing(self, page_no: int) -> bytes | None:
        return (self.first + page_no & M32).to_bytes(4, "little").ljust(PAGE_SIZE, b"\0")

    def read_page(self, page_no: int) -> bytes | None:
        """As any disk, and zeroes (None) past the end."""
        return None if page_no >= self.npages else super().read_page(page_no)

    def write_page(self, page_no: int, data: bytes | None) -> None:
        """As any disk, and nothing past the end."""
        if page_no < self.npages:
            super().write_page(page_no, data)


class FileDisk(Disk):
    """A disk that begins with the contents of the host's file *path*; a last part page is filled up with zeroes.

    Writes stay in memory, so that going back in time finds what was there; :meth:`commit` puts them into the file.
    A file that was cut meanwhile gives read errors there. Raises OSError when the file cannot be read.
    """

    def __init__(self, path: str | Path, name: str = "") -> None:
        self.path = str(path)
        self.size = Path(path).stat().st_size  # bytes, when the disk was made
        super().__init__((self.size + PAGE_SIZE - 1) >> PAGE_SHIFT, name or Path(path).name)

    def _missing(self, page_no: int) -> bytes | None:
        with open(self.path, "rb") as file:
            file.seek(page_no << PAGE_SHIFT)
            data = file.read(PAGE_SIZE)
        most = max(0, self.size - (page_no << PAGE_SHIFT))
        if len(data) < min(PAGE_SIZE, most):
            raise OSError(f"read error at page {page_no} of {self!r}: the file has become shorter")
        return data[:most].ljust(PAGE_SIZE, b"\0")

    def resize(self, npages: int) -> None:
        """As any disk; what was cut off does not come back from the host's file."""
        super().resize(npages)
        self.size = min(self.size, npages << PAGE_SHIFT)

    def commit(self, keep: bool = False) -> int:
        """Write every page that changed into the host's file; returns how many.

        *keep*: and remember them, for machines that go back in time.
        """
        with open(self.path, "r+b") as file:
            for page_no, data in sorted(self.pages.items()):
                file.seek(page_no << PAGE_SHIFT)
                file.write(data)
        written = len(self.pages)
        if not keep:
            self.pages.clear()
        return written
