"""Where the pages of a swap area lie on its disk: extents, looked up once when the area is turned on.

kernel: mm/swapfile.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EINVAL, ENOMEM
from ..mm.fs import Inode
from .gfp import GFP_KERNEL
from .swap_info import SIZEOF_SWAP_EXTENT, SwapExtent, SwapInfo26

if TYPE_CHECKING:
    from ..mm.events import Listener
    from ..mm.kernel import Kernel


class SwapExtents26:
    """In 2.6 new, because of extents; before that swap files were mapped by the file system at every transfer."""

    kernel: Kernel
    on_event: Listener | None

    def map_swap_page(self, sis: SwapInfo26, offset: int) -> int:
        """In 2.6 new, because of extents: the block (of a page's size) of the disk on which slot *offset* lies.

        The search goes backwards through the list from where the last one ended. Raises KernelBug when no extent has the slot.
        kernel: mm/swapfile.c:map_swap_page
        """
        se = sis.curr_swap_extent
        if se is None:
            raise KernelBug("map_swap_page", f"slot {offset} of an area that has no extents", "extent")
        if se.start_page <= offset < se.start_page + se.nr_pages:
            return se.start_block + offset - se.start_page
        extents = sis.extent_list
        start = at = extents.index(se)
        while True:
            at = (at or len(extents)) - 1
            se = sis.curr_swap_extent = extents[at]
            if at == start:
                raise KernelBug("map_swap_page", f"slot {offset} is in none of {len(extents)} extents", "extent")
            if se.start_page <= offset < se.start_page + se.nr_pages:
                return se.start_block + offset - se.start_page

    def destroy_swap_extents(self, sis: SwapInfo26) -> None:
        """In 2.6 new, because of extents: free them all. kernel: mm/swapfile.c:destroy_swap_extents"""
        for se in sis.extent_list:
            self.kernel.slab.kfree(se.address)
        sis.extent_list = []

    def add_swap_extent(self, sis: SwapInfo26, start_page: int, nr_pages: int, start_block: int) -> int:
        """In 2.6 new, because of extents: note that *nr_pages* pages from *start_page* on lie at *start_block* on.

        They join an extent that ends there; else a new one goes before the last of those with higher blocks at the list's end.
        Returns 0 or ENOMEM (12). kernel: mm/swapfile.c:add_swap_extent
        """
        extents = sis.extent_list
        for se in extents:
            if se.start_block + se.nr_pages == start_block and se.start_page + se.nr_pages == start_page:
                se.nr_pages += nr_pages
                return 0
        address = self.kernel.slab.kmalloc(SIZEOF_SWAP_EXTENT, GFP_KERNEL)
        if not address:
            return -ENOMEM
        at = len(extents)
        while at and extents[at - 1].start_block <= start_block:
            at -= 1
        # Before the first that is higher, seen from the end; at the end when none is.
        extents.insert(at - 1 if at else len(extents), SwapExtent(address, start_page, nr_pages, start_block))
        if self.on_event is not None:
            self.on_event(("swap_extent", start_page, start_block, len(extents)))
        return 0

    def setup_swap_extents(self, sis: SwapInfo26) -> int:
        """In 2.6 new, because of extents: find those of a disk (one) or of a file, whose blocks are asked for one after the other.

        Only runs of blocks that make up a page, and begin where a page of the disk does, are used; so a file may give fewer slots than it
        has
        pages. Returns 0, EINVAL (22) for holes or no page at all, or ENOMEM (12). kernel: mm/swapfile.c:setup_swap_extents
        """
        if not isinstance(sis.swap_file, Inode):
            error = self.add_swap_extent(sis, 0, sis.max, 0)
            sis.curr_swap_extent = sis.extent_list[-1] if sis.extent_list else None
            return error
        inode = sis.swap_file
        diskfs: Any = self.kernel.diskfs
        blkbits: int = diskfs.blkbits(inode)
        blocks_per_page = PAGE_SIZE >> blkbits
        last_block = inode.i_size >> blkbits
        probe = page_no = 0
        while probe + blocks_per_page <= last_block and page_no < sis.max:
            blocks = [diskfs.bmap_block(inode, probe)]
            while blocks[-1] is not None and len(blocks) < blocks_per_page:
                if blocks[0] % blocks_per_page or blocks[-1] != blocks[0] + len(blocks) - 1:
                    break
                blocks.append(diskfs.bmap_block(inode, probe + len(blocks)))
            if blocks[-1] is None:
                self.kernel.printk(3, "swapon: swapfile has holes")
                return -EINVAL
            if blocks[0] % blocks_per_page or blocks[-1] != blocks[0] + blocks_per_page - 1:
                probe += 1
                continue
            error = self.add_swap_extent(sis, page_no, 1, blocks[0] >> PAGE_SHIFT - blkbits)
            if error:
                return error
            page_no += 1
            probe += blocks_per_page
        sis.max = page_no
        sis.highest_bit = page_no - 1 & 0xFFFFFFFF
        sis.curr_swap_extent = sis.extent_list[-1] if sis.extent_list else None
        return 0 if page_no else -EINVAL
