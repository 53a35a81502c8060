"""Files as 2.6's memory manager sees them: the pages of each in a tree of its own, with marks.

kernel: include/linux/fs.h, lib/radix-tree.c
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from ..mm.fs import AddressSpace, AddressSpaceOps, Inode

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.vm import VmArea

ANON = 0x80000000  # in page->mapping: the number of an anon_vma, not of a file's address_space
AS_EIO, AS_ENOSPC = 1, 2  # a write failed and nobody was told yet
VM_MAX_READAHEAD_PAGES = 32  # 128 KiB
_NEAR = 64  # indexes to try one by one before all are looked through


class AddressSpace26(AddressSpace):
    """In 2.6 each file has a tree of its pages by index (here a dict), with marks for dirty pages and pages being written, because the one
    hash table for all needed one lock; before that the pages were also on three lists.

    ``i_mmap`` is the priority tree of the areas that map it, ``i_mmap_nonlinear`` the areas that map it in
    no order. kernel: include/linux/fs.h:address_space
    """

    def __init__(self, kernel: Kernel, host: Inode | None, a_ops: AddressSpaceOps, ident: int = 0) -> None:
        self.id = ident or kernel.new_mapping_id()
        kernel.mappings[self.id] = self
        self.clean_pages = self.dirty_pages = self.locked_pages = 0  # lists that 2.6 does not have
        self.nrpages = 0
        self.a_ops = a_ops
        self.host = host
        self.gfp_mask = 0
        self.page_tree: dict[int, int] = {}  # index → frame
        self.dirty_tags: dict[int, None] = {}  # indexes, in no order
        self.writeback_tags: dict[int, None] = {}
        self.i_mmap: Any = None
        self.i_mmap_shared = []
        self.i_mmap_nonlinear: list[VmArea] = []
        self.i_mmap_writable = 0  # shared mappings
        self.truncate_count = 0  # how often a part was unmapped: 32 bits
        self.as_flags = 0
        self.memory_backed = False  # backing_dev_info: there is nothing to write it to (tmpfs, swap)
        self.ra_pages = VM_MAX_READAHEAD_PAGES

    def insert(self, index: int, pfn: int) -> None:
        """In 2.6 new, because there was no tree. kernel: lib/radix-tree.c:radix_tree_insert"""
        self.page_tree[index] = pfn

    def delete(self, index: int) -> None:
        """In 2.6 new, because there was no tree. kernel: lib/radix-tree.c:radix_tree_delete"""
        del self.page_tree[index]
        self.dirty_tags.pop(index, None)
        self.writeback_tags.pop(index, None)

    def gang_lookup(self, start: int, most: int, tags: dict[int, None] | None = None) -> list[int]:
        """In 2.6 the pages of a file are found in order, a handful at a time, because a tree is sorted; before that lists were walked.

        Frames of at most *most* pages from index *start* on, by index; only those marked in *tags*.
        kernel: lib/radix-tree.c:radix_tree_gang_lookup, radix_tree_gang_lookup_tag
        """
        tree = self.page_tree
        found: list[int] = []
        where: dict[int, Any] = tree if tags is None else tags
        if not where:
            return found
        left = len(where)
        for index in range(start, start + _NEAR):
            if index in where:
                found.append(tree[index])
                left -= 1
                if len(found) == most:
                    return found
        if left:
            after = start + _NEAR
            found += [tree[index] for index in nsmallest(most - len(found), (i for i in where if i >= after))]
        return found


class FileRaState:
    """In 2.6 read-ahead keeps a current window and the one ahead of it, because the next can then be under way before it is needed; before
    that one window was kept in the file itself.

    All in pages; ``size`` 0xFFFFFFFF: read-ahead is off. kernel: include/linux/fs.h:file_ra_state, mm/readahead.c:file_ra_state_init
    """

    __slots__ = ("ahead_size", "ahead_start", "cache_hit", "flags", "mmap_hit", "mmap_miss", "prev_page", "ra_pages", "size", "start")

    def __init__(self, ra_pages: int) -> None:
        self.start = self.size = self.flags = self.cache_hit = 0
        self.prev_page = 0xFFFFFFFF  # the page looked at last
        self.ahead_start = self.ahead_size = 0
        self.ra_pages = ra_pages  # the longest window
        self.mmap_hit = self.mmap_miss = 0  # faults on a mapping that found their page, and that did not

    def copy(self) -> FileRaState:
        """Another one with the same values."""
        new = FileRaState(self.ra_pages)
        new.assign(self)
        return new

    def assign(self, other: FileRaState) -> None:
        """Take over *other*'s values."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def __str__(self) -> str:
        if self.size == 0xFFFFFFFF:
            return f"read-ahead is off since page {self.prev_page} was read out of order"
        ahead = f"pages {self.ahead_start} to {self.ahead_start + self.ahead_size - 1}" if self.ahead_size else "nothing"
        return f"window: pages {self.start} to {self.start + self.size - 1}; ahead of it {ahead}" if self.size else "no window yet"

    def __repr__(self) -> str:
        return f"<FileRaState {self.start}+{self.size}, ahead {self.ahead_start}+{self.ahead_size}>"
