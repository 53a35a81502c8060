"""The page cache of 2.6 and everything that works on files through it.

    fs            a file's tree of pages, read-ahead windows
    pagecache     in and out, marks, waiting
    writeout      writing dirty pages, waiting for them
    filemap_write write(2)
    readahead     how far to read ahead
    filemap_read  read(2)
    filemap_map   page faults on files, nonlinear areas, msync(2), mincore(2)
    truncate      truncating, invalidating

kernel: mm/filemap.c, mm/readahead.c, mm/truncate.c, mm/page-writeback.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mm.fs import VmOps
from .madvise import Madvise26
from .truncate import Truncate

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.vm import VmArea


class GenericFileVmOps26(VmOps):
    """In 2.6 with populate, because remap_file_pages() asks for it; before that only faults. kernel: mm/filemap.c:generic_file_vm_ops"""

    name = "generic_file_vm_ops"

    def nopage(self, vma: VmArea, address: int, kind: list[int] | None) -> int:
        """kernel: mm/filemap.c:filemap_nopage"""
        filemap: Filemap26 = self.kernel.filemap  # type: ignore[assignment]
        return filemap.filemap_nopage(vma, address, kind)

    def populate(self, vma: VmArea, addr: int, length: int, prot: int, pgoff: int, nonblock: int) -> int:
        """kernel: mm/filemap.c:filemap_populate"""
        filemap: Filemap26 = self.kernel.filemap  # type: ignore[assignment]
        return filemap.filemap_populate(vma, addr, length, prot, pgoff, nonblock)


class Filemap26(Madvise26, Truncate):
    """The whole of it."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        GenericFileVmOps26(kernel)
