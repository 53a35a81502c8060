"""The page cache and everything that works on files through it; the pieces are in the filemap_*.py beside this file.

    filemap_cache    the page hash, lookups, page locks
    filemap_sync     dirty pages, writing out, truncating, invalidating
    filemap_read     read(2) and read-ahead
    filemap_write    write(2)
    filemap_map      page faults on files, msync(2)
    filemap_madvise  madvise(2), mincore(2)
    filemap_send     sendfile(2)

kernel: mm/filemap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .filemap_read import ReadDescriptor
from .filemap_send import FileSend
from .fs import VmOps
from .vfs import fput

if TYPE_CHECKING:
    from .fs import File
    from .kernel import Kernel
    from .vm import VmArea

__all__ = ["Filemap", "GenericFileVmOps", "ReadDescriptor"]


class GenericFileVmOps(VmOps):
    """``generic_file_vm_ops``: what an ordinary file gives its mappings. kernel: mm/filemap.c:generic_file_vm_ops"""

    name = "generic_file_vm_ops"

    def nopage(self, vma: VmArea, address: int, unused: int) -> int:
        """kernel: mm/filemap.c:filemap_nopage"""
        return self.kernel.filemap.filemap_nopage(vma, address, unused)


class Filemap(FileSend):
    """The whole of mm/filemap.c."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        GenericFileVmOps(kernel)

    def fput(self, file: File) -> None:
        """Drop a reference of an open file; the last one closes it. kernel: fs/file_table.c:fput"""
        fput(self.kernel, file)
