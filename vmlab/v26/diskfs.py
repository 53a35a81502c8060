"""The simple file system on 2.6: the same files, written under PG_writeback. kernel: none (the VFS side of one)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..mm.block import WRITE
from ..mm.diskfs import DiskFsAops, FakeFileAops
from ..mm.filemap_cache import UPTODATE
from .swap_image import SwapImages

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.kernel import Kernel


class FakeFileAops26(FakeFileAops):
    """In 2.6 without buffers, because a page's state says all; before that too. kernel: mm/page-writeback.c:__set_page_dirty_nobuffers"""

    def writepage(self, pfn: int) -> int:
        """In 2.6 the page is unlocked before the disk is done, because PG_writeback stands for the write; before that at the end.

        Start writing a locked page. Returns 0. kernel: fs/mpage.c:mpage_writepage
        """
        kernel = self.kernel
        inode, index = kernel.diskfs.host(pfn)
        kernel.filemap.set_page_writeback(pfn)  # type: ignore[attr-defined]
        kernel.filemap.unlock_page(pfn)
        return kernel.block.file_io(WRITE, pfn, inode.info.disk, index, inode.label)

    def prepare_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """In 2.6 the page becomes dirty when the write is done, because dirty pages are counted; before that here.

        Make a locked page ready for a write of bytes [start, to). Returns 0. kernel: fs/libfs.c:simple_prepare_write
        """
        kernel = self.kernel
        kernel.highmem.kmap(pfn)
        if not kernel.mem.flags[pfn] & UPTODATE:
            inode, index = kernel.diskfs.host(pfn)
            kernel.block.transfer(0, pfn, inode.info.disk, index)
            kernel.mem.flags[pfn] |= UPTODATE
        return 0

    def commit_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """In 2.6 the page is marked dirty here; before that when the write began. Returns 0. kernel: fs/libfs.c:simple_commit_write"""
        super().commit_write(file, pfn, start, to)
        self.kernel.filemap.set_page_dirty(pfn)
        return 0


class FakeFileAopsNoWrite26(FakeFileAops26):
    """In 2.6 and before, a file that cannot be written back."""

    name = "fake_file_aops_nowrite"
    writepage: Any = None


class DiskFsAops26(DiskFsAops):
    """In 2.6 pages of a file people made are written under PG_writeback, because they can be used meanwhile; before that they were
    locked.
    """

    def writepage(self, pfn: int) -> int:
        """In 2.6 the page is unlocked before the disk is done; before that at the end. Returns 0. kernel: fs/mpage.c:mpage_writepage"""
        kernel = self.kernel
        inode, index = kernel.diskfs.host(pfn)
        disk = kernel.block.disks[inode.info.disk]
        if index >= disk.npages:
            disk.resize(index + 1)
        kernel.filemap.set_page_writeback(pfn)  # type: ignore[attr-defined]
        kernel.filemap.unlock_page(pfn)
        return kernel.block.file_io(WRITE, pfn, inode.info.disk, index, inode.label)


class DiskFs26(SwapImages):
    """All files by name, on 2.6."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.aops = DiskFsAops26(kernel)
        self.fake_aops = FakeFileAops26(kernel)
        self.fake_aops_nowrite = FakeFileAopsNoWrite26(kernel)
