"""A swap area of 2.6: as before, and a list of where its pages lie on the disk.

kernel: include/linux/swap.h
"""

from __future__ import annotations

from collections.abc import Iterator

from ..mm.swap_info import SwapInfo

SIZEOF_SWAP_EXTENT = 20  # bytes


class SwapExtent:
    """In 2.6 a stretch of pages that lie together on the disk, because asking the file system for each page may need memory; before that
    it was asked whenever a page was read or written.

    Pages *start_page* on, *nr_pages* of them, are at *start_block* on, in units of pages. ``address``: its slab object.
    kernel: include/linux/swap.h:swap_extent
    """

    __slots__ = ("address", "nr_pages", "start_block", "start_page")

    def __init__(self, address: int, start_page: int, nr_pages: int, start_block: int) -> None:
        self.address = address
        self.start_page = start_page
        self.nr_pages = nr_pages
        self.start_block = start_block

    def __iter__(self) -> Iterator[int]:
        return iter((self.start_page, self.nr_pages, self.start_block))

    def __repr__(self) -> str:
        return f"<SwapExtent pages {self.start_page}+{self.nr_pages} at {self.start_block}>"


class SwapInfo26(SwapInfo):
    """In 2.6 disks and files are the same once they are in use, because both are extents of a disk; before that a file was asked each time.

    ``bdev`` is the number of the disk, ``extent_list`` its extents in the order of the kernel's list, ``curr_swap_extent`` the one
    found last, ``inuse_pages`` the number of slots in use. kernel: include/linux/swap.h:swap_info_struct
    """

    __slots__ = ("bdev", "curr_swap_extent", "extent_list", "inuse_pages")

    def __init__(self) -> None:
        super().__init__()
        self.bdev = -1
        self.extent_list: list[SwapExtent] = []
        self.curr_swap_extent: SwapExtent | None = None
        self.inuse_pages = 0

    @property
    def nr_extents(self) -> int:
        """How many extents there are."""
        return len(self.extent_list)
