"""Files to swap to: where the file system put each of their blocks. A mixin of the 2.6 file system.

kernel: fs/inode.c
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..hw.disk import Disk
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.block import READ
from ..mm.diskfs import DiskFs, FileInfo
from ..mm.vfs import new_inode

if TYPE_CHECKING:
    from ..mm.fs import Inode


class SwapFileInfo(FileInfo):
    """In 2.6 a file's blocks may lie anywhere on a disk it shares, because extents are about that; before that each file had a disk for
    itself.

    *blocks*: for each block of the file the block of the disk, 0 for a hole; a block has 1 << *blkbits* bytes. kernel: none
    """

    def __init__(self, disk: int, blkbits: int, blocks: Sequence[int]) -> None:
        super().__init__(disk)
        self.blkbits = blkbits
        self.blocks = tuple(blocks)

    def __repr__(self) -> str:
        return f"<SwapFileInfo on disk {self.disk}: {len(self.blocks)} blocks of {1 << self.blkbits} bytes>"


class SwapImages(DiskFs):
    """In 2.6 a swap file is asked for its blocks when swapping to it begins, because of extents; before that for a page at a time."""

    def swap_file(self, number: int, blkbits: int, blocks: Sequence[int]) -> Inode:
        """In 2.6 new, because of extents: a regular file whose blocks are *blocks* of disk *number*, which it has made.

        Raises ValueError when a block is not of 512 to 4096 bytes. kernel: none
        """
        if not 9 <= blkbits <= PAGE_SHIFT:
            raise ValueError(f"blocks of 1 << {blkbits} bytes: a file system has blocks of 512 to 4096 bytes")
        name = chr(ord("A") + number) if number < 26 else f"swapfile{number}"
        pages = (max(blocks, default=0) >> PAGE_SHIFT - blkbits) + 1
        self.kernel.block.add_disk(number, Disk(pages, name))
        inode = new_inode(self.kernel, self.next_ino, 0o100600, self.fake_aops, self.sb)
        self.next_ino += 1
        inode.name = name
        inode.i_size = len(blocks) << blkbits
        inode.i_fop = self.file_ops
        inode.info = SwapFileInfo(number, blkbits, blocks)
        return inode

    def write_swap_header(self, inode: Inode, page: bytes) -> None:
        """In 2.6 new, because of extents: write *page* as the file's first, block by block where bmap says; what falls into holes is lost.

        kernel: none
        """
        info = inode.info
        if not isinstance(info, SwapFileInfo):
            self.kernel.block.disks[info.disk].write_page(0, page)
            return
        size = 1 << info.blkbits
        for at in range(min(PAGE_SIZE // size, len(info.blocks))):
            if info.blocks[at]:
                self.kernel.block.disks[info.disk].write_bytes(info.blocks[at] * size, page[at * size : (at + 1) * size])

    def read_first_page(self, inode: Inode, pfn: int) -> bool:
        """In 2.6 swapon reads the header as a page of the file, because the extents are not known yet; before that as a page of swap.

        Whether it could be read into the frame. kernel: mm/filemap.c:read_cache_page
        """
        info = inode.info
        if not isinstance(info, SwapFileInfo):
            return self.kernel.block.transfer(READ, pfn, info.disk, 0)
        size = 1 << info.blkbits
        page = b""
        try:
            for block in info.blocks[: PAGE_SIZE // size]:
                page += self.kernel.block.disks[info.disk].read_bytes(block * size, size) if block else bytes(size)
        except OSError:
            return False
        self.kernel.ram.write_page(pfn, page.ljust(PAGE_SIZE, b"\0"))
        return True

    def blkbits(self, inode: Inode) -> int:
        """In 2.6 new, because extents are put together from blocks: log2 of a block's size. kernel: include/linux/fs.h:inode"""
        info = inode.info
        return info.blkbits if isinstance(info, SwapFileInfo) else PAGE_SHIFT

    def bmap_block(self, inode: Inode, block: int) -> int | None:
        """In 2.6 in the file system's blocks, because extents are put together from them; before that in pages.

        The block of the disk that *block* of the file lies on; None for a hole (the kernel says 0). kernel: fs/inode.c:bmap
        """
        info = inode.info
        if isinstance(info, SwapFileInfo):
            return (info.blocks[block] or None) if block < len(info.blocks) else None
        where = self.bmap(inode, block)
        return None if where is None else where[1]
