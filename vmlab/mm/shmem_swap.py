"""Where a shared page is when it is not in memory: the swap vector of each file, and moving pages to swap and back.

Each file of tmpfs has one swap entry for each page (0: not in swap). The first 16 stand in the
inode; the rest in frames of their own, found through one more frame, ``i_indirect``:

    i_indirect -> slot 0..511     -> 1024 entries each                   (entry 16 on)
                  slot 512..1023  -> 1024 slots -> 1024 entries each     (entry 524304 on)

Slots hold kernel addresses, entries hold swap entries, both as 32-bit words in the frame itself.

kernel: mm/shmem.c
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .errno import EINVAL, ENOMEM, ENOSPC
from .gfp import GFP_USER
from .kernel import Part
from .page_flags import PG_launder, PG_locked, PG_uptodate
from .vfs import I_FREEING, clear_inode, current_time
from .vm import VM_LOCKED

if TYPE_CHECKING:
    from .dcache import Dentry
    from .fs import Inode, SuperBlock
    from .kernel import Kernel

SHMEM_NR_DIRECT = 16
ENTRIES_PER_PAGE = PAGE_SIZE // 4  # an unsigned long each
ENTRIES_PER_PAGEPAGE = ENTRIES_PER_PAGE * ENTRIES_PER_PAGE
BLOCKS_PER_PAGE = PAGE_SIZE // 512
SHMEM_MAX_INDEX = SHMEM_NR_DIRECT + ENTRIES_PER_PAGEPAGE // 2 * (ENTRIES_PER_PAGE + 1)  # pages
SHMEM_MAX_BYTES = SHMEM_MAX_INDEX << PAGE_SHIFT

SGP_READ, SGP_CACHE, SGP_WRITE = range(3)  # within i_size, no new page | within i_size | beyond i_size too

Entry = tuple["array[int]", int]  # where a swap entry is: entry = table[slot]
_UNSWAPPED = array("I", [0])


class ShmemInodeInfo:
    """What shmem keeps of one file. kernel: include/linux/shmem_fs.h:shmem_inode_info"""

    __slots__ = ("dentry", "flags", "i_direct", "indirect", "inode", "link", "names", "next_index", "parent", "swapped")

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.next_index = 0  # one past the highest entry in use
        self.i_direct = array("I", [0]) * SHMEM_NR_DIRECT
        self.indirect = array("I", [0])
        self.swapped = 0  # pages in swap
        self.flags = 0
        self.link: str | None = None  # a short symbolic link's text, kept in the place of all this
        self.names: dict[str, Inode] = {}  # a directory's entries, oldest first
        self.parent = inode  # of a directory: the one it is in
        self.dentry: Dentry | None = None  # of a directory, where there is a dentry cache: its entry

    @property
    def i_indirect(self) -> int:
        """Kernel address of the first frame of slots, 0 while there is none."""
        return self.indirect[0]

    def __repr__(self) -> str:
        return f"<ShmemInodeInfo of {self.inode!r}: {self.swapped} pages in swap, next_index {self.next_index}>"


class ShmemSbInfo:
    """What a mounted tmpfs may use and has left: pages and files. kernel: include/linux/shmem_fs.h:shmem_sb_info"""

    __slots__ = ("free_blocks", "free_inodes", "max_blocks", "max_inodes", "root")

    def __init__(self, max_blocks: int, max_inodes: int) -> None:
        self.root: Inode | None = None
        self.max_blocks = self.free_blocks = max_blocks
        self.max_inodes = self.free_inodes = max_inodes

    def __repr__(self) -> str:
        return f"<ShmemSbInfo {self.free_blocks} of {self.max_blocks} pages and {self.free_inodes} of {self.max_inodes} files left>"


def sb_info(sb: SuperBlock | None) -> ShmemSbInfo:
    """A tmpfs super block's limits. kernel: mm/shmem.c:SHMEM_SB"""
    info = sb.info if sb is not None else None
    if not isinstance(info, ShmemSbInfo):
        raise TypeError("that file is not on a tmpfs")
    return info


def shmem_i(inode: Inode) -> ShmemInodeInfo:
    """A tmpfs inode's record. kernel: include/linux/shmem_fs.h:SHMEM_I"""
    info = inode.info
    if not isinstance(info, ShmemInodeInfo):
        raise TypeError(f"{inode!r} is not on a tmpfs")
    return info


class ShmemSwap(Part):
    """The swap vectors."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.shmem_inodes: list[ShmemInodeInfo] = []  # files that can have pages in swap; the search begins at the first

    # -- accounting ---------------------------------------------------------------------------

    def shmem_free_block(self, inode: Inode) -> None:
        """The file has one page less. kernel: mm/shmem.c:shmem_free_block"""
        sbinfo = sb_info(inode.i_sb)
        sbinfo.free_blocks = sbinfo.free_blocks + 1 & M32
        inode.i_blocks -= BLOCKS_PER_PAGE

    def take_block(self, inode: Inode) -> None:
        """The file has one page more. kernel: mm/shmem.c:shmem_swp_alloc, shmem_getpage"""
        sb_info(inode.i_sb).free_blocks -= 1
        inode.i_blocks += BLOCKS_PER_PAGE

    def shmem_removepage(self, pfn: int) -> None:
        """The page cache drops *pfn*: its block is free unless it only moves to swap. kernel: mm/shmem.c:shmem_removepage"""
        mem = self.kernel.mem
        if not mem.flags[pfn] >> PG_launder & 1:
            host = self.kernel.mappings[mem.mapping[pfn]].host
            assert host is not None
            self.shmem_free_block(host)

    # -- the vector ---------------------------------------------------------------------------

    def words(self, address: int) -> array[int]:
        """The frame of slots or entries at a kernel address."""
        return self.kernel.ram.words(address - PAGE_OFFSET >> PAGE_SHIFT)

    def free_page(self, address: int) -> None:
        """Give such a frame back. kernel: mm/page_alloc.c:free_pages"""
        self.kernel.mem.owner[address - PAGE_OFFSET >> PAGE_SHIFT] = 0
        self.kernel.put_page(address - PAGE_OFFSET >> PAGE_SHIFT)

    def shmem_swp_entry(self, info: ShmemInodeInfo, index: int, page: list[int] | None) -> Entry | None:
        """Where the swap entry of page *index* is, or None while the frame for it is missing.

        *page* is a list of one kernel address: a zeroed frame to use where one is missing, set to 0 if it was taken
        (None comes back all the same when the frame that was missing is not the last one on the way).
        kernel: mm/shmem.c:shmem_swp_entry
        """
        if index < SHMEM_NR_DIRECT:
            return info.i_direct, index
        if not info.i_indirect:
            if page is not None:
                info.indirect[0] = page[0]
                page[0] = 0
            return None
        index, offset = divmod(index - SHMEM_NR_DIRECT, ENTRIES_PER_PAGE)
        table = self.words(info.i_indirect)
        if index >= ENTRIES_PER_PAGE // 2:
            slot, index = divmod(index - ENTRIES_PER_PAGE // 2, ENTRIES_PER_PAGE)
            slot += ENTRIES_PER_PAGE // 2
            if not table[slot]:
                if page is not None:
                    table[slot] = page[0]
                    page[0] = 0
                return None
            table = self.words(table[slot])
        if not table[index]:
            if page is None or not page[0]:
                return None
            table[index] = page[0]
            page[0] = 0
        return self.words(table[index]), offset

    def shmem_swp_alloc(self, info: ShmemInodeInfo, index: int, sgp: int) -> Entry | int:
        """Where the swap entry of page *index* is; frames for it are allocated unless *sgp* is SGP_READ.

        Returns -EINVAL beyond the file's end (not for SGP_WRITE), -ENOSPC, -ENOMEM.
        kernel: mm/shmem.c:shmem_swp_alloc
        """
        inode = info.inode
        sbinfo = sb_info(inode.i_sb)
        if sgp != SGP_WRITE and index << PAGE_SHIFT >= inode.i_size:
            return -EINVAL
        page = [0]
        entry: Entry | int | None
        while (entry := self.shmem_swp_entry(info, index, page)) is None:
            if sgp == SGP_READ:
                return _UNSWAPPED, 0
            if sbinfo.free_blocks <= 1:  # 1: the data page needs a block as well
                return -ENOSPC
            self.take_block(inode)
            pfn = self.kernel.alloc_page(GFP_USER)
            if pfn is None:
                self.shmem_free_block(inode)
                return -ENOMEM
            self.kernel.ram.clear_page(pfn)
            self.kernel.mem.owner[pfn] = self.kernel.owner_id("swap vector")
            page[0] = PAGE_OFFSET + (pfn << PAGE_SHIFT)
            if (ev := self.on_event) is not None:
                ev(("shmem_vector_page", inode.i_ino, index, pfn))
            if sgp != SGP_WRITE and index << PAGE_SHIFT >= inode.i_size:  # truncated while we slept
                entry = -EINVAL
                break
            if info.next_index <= index:
                info.next_index = index + 1
        if page[0]:  # the vector grew without us
            self.shmem_free_block(inode)
            self.free_page(page[0])
        if info.next_index <= index and not isinstance(entry, int):
            info.next_index = index + 1
        return entry

    # -- truncating ---------------------------------------------------------------------------

    def shmem_free_swp(self, table: array[int], start: int, end: int) -> int:
        """Free the swap entries in slots *start* to *end* of *table*; return how many there were. kernel: mm/shmem.c:shmem_free_swp"""
        freed = 0
        for slot in range(start, end):
            entry = table[slot]
            if entry:
                self.kernel.swapfile.free_swap_and_cache(entry)
                table[slot] = 0
                freed += 1
        return freed

    def shmem_truncate_direct(self, info: ShmemInodeInfo, base: Entry, start: int, length: int) -> int:
        """Free entries, then frames, of the frame of slots that *base* points to, from page *start* of its *length* on.

        Returns how many blocks that frees. kernel: mm/shmem.c:shmem_truncate_direct
        """
        table, slot = base
        directory = self.words(table[slot])
        freed = 0
        offset = start % ENTRIES_PER_PAGE
        for at in range(start // ENTRIES_PER_PAGE, (length + ENTRIES_PER_PAGE - 1) // ENTRIES_PER_PAGE):
            block = directory[at]
            if block:
                if info.swapped:
                    freed_swp = self.shmem_free_swp(self.words(block), offset, ENTRIES_PER_PAGE)
                    info.swapped -= freed_swp
                    freed += freed_swp
                if not offset:
                    freed += 1
                    self.free_page(block)
                    directory[at] = 0
            offset = 0
        if not start:
            freed += 1
            self.free_page(table[slot])
            table[slot] = 0
        return freed

    def shmem_truncate_indirect(self, info: ShmemInodeInfo, index: int) -> int:
        """Cut the vector to *index* entries, or to the start of its last frame of slots; return blocks freed.

        kernel: mm/shmem.c:shmem_truncate_indirect
        """
        length = info.next_index
        if length <= SHMEM_NR_DIRECT:
            info.next_index = index
            if not info.swapped:
                return 0
            freed = self.shmem_free_swp(info.i_direct, index, length)
            info.swapped -= freed
            return freed
        base: Entry
        if length <= ENTRIES_PER_PAGEPAGE // 2 + SHMEM_NR_DIRECT:
            length -= SHMEM_NR_DIRECT
            base = info.indirect, 0
            baseidx = SHMEM_NR_DIRECT
        else:
            length -= ENTRIES_PER_PAGEPAGE // 2 + SHMEM_NR_DIRECT
            if length > ENTRIES_PER_PAGEPAGE * ENTRIES_PER_PAGE // 2:
                raise KernelBug("shmem_truncate_indirect", f"next_index {info.next_index} is past the largest file", "len")
            baseidx = length - 1
            baseidx -= baseidx % ENTRIES_PER_PAGEPAGE
            base = self.words(info.i_indirect), ENTRIES_PER_PAGE // 2 + baseidx // ENTRIES_PER_PAGEPAGE
            length -= baseidx
            baseidx += ENTRIES_PER_PAGEPAGE // 2 + SHMEM_NR_DIRECT
        if index > baseidx:
            info.next_index = index
            start = index - baseidx
        else:
            info.next_index = baseidx
            start = 0
        return self.shmem_truncate_direct(info, base, start, length) if base[0][base[1]] else 0

    def shmem_truncate(self, inode: Inode) -> None:
        """Cut the swap vector to the file's size; its cached pages are gone already. kernel: mm/shmem.c:shmem_truncate"""
        info = shmem_i(inode)
        inode.i_ctime = inode.i_mtime = current_time(self.kernel)
        index = (inode.i_size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if index >= info.next_index:
            return
        freed = 0
        while index < info.next_index:
            freed += self.shmem_truncate_indirect(info, index)
        if info.swapped > info.next_index:
            raise KernelBug("shmem_truncate", f"{info.swapped} pages in swap, but only {info.next_index} entries", "swapped")
        sbinfo = sb_info(inode.i_sb)
        sbinfo.free_blocks = sbinfo.free_blocks + freed & M32
        inode.i_blocks -= freed * BLOCKS_PER_PAGE
        if (ev := self.on_event) is not None:
            ev(("shmem_truncate", inode.i_ino, index, freed))

    def shmem_delete_inode(self, inode: Inode) -> None:
        """The last reference to a file without a name is gone: free its swap and its blocks. kernel: mm/shmem.c:shmem_delete_inode"""
        sbinfo = sb_info(inode.i_sb)
        if inode.i_op is not None and inode.i_op.truncate is not None:
            self.shmem_inodes.remove(shmem_i(inode))
            inode.i_size = 0
            self.shmem_truncate(inode)
        if inode.i_blocks:
            raise KernelBug("shmem_delete_inode", f"{inode.i_blocks} sectors of {inode!r} are unaccounted for", "i_blocks")
        sbinfo.free_inodes = sbinfo.free_inodes + 1 & M32
        clear_inode(self.kernel, inode)

    # -- from swap, because the swap area goes away ---------------------------------------------

    def shmem_find_swp(self, entry: int, table: array[int], count: int) -> int:
        """Slot of the swap entry among the first *count* of *table*, -1 when it is not there. kernel: mm/shmem.c:shmem_find_swp"""
        try:
            return table.index(entry, 0, count)
        except ValueError:
            return -1

    def shmem_unuse_inode(self, info: ShmemInodeInfo, entry: int, pfn: int) -> bool:
        """If the file has a page in swap at *entry*, give it the page *pfn* that was read from there.

        kernel: mm/shmem.c:shmem_unuse_inode
        """
        kernel = self.kernel
        idx = 0
        table = info.i_direct
        offset = self.shmem_find_swp(entry, table, min(info.next_index, SHMEM_NR_DIRECT))
        if offset < 0:
            for idx in range(SHMEM_NR_DIRECT, info.next_index, ENTRIES_PER_PAGE):
                found = self.shmem_swp_entry(info, idx, None)
                if found is None:
                    continue
                table = found[0]
                offset = self.shmem_find_swp(entry, table, min(info.next_index - idx, ENTRIES_PER_PAGE))
                if offset >= 0:
                    break
            else:
                return False
        idx += offset
        inode = info.inode
        kernel.swap_state.delete_from_swap_cache(pfn)
        # A file that is just being deleted or truncated must not get the page back.
        limit = 0 if inode.i_state & I_FREEING else (inode.i_size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if idx >= limit or kernel.filemap.add_to_page_cache_unique(pfn, inode.i_mapping, idx) == 0:
            table[offset] = 0
            info.swapped -= 1
        elif kernel.swap_state.add_to_swap_cache(pfn, entry) != 0:
            raise KernelBug("shmem_unuse_inode", f"frame {pfn} is neither in the file's cache nor in swap's", "cache")
        kernel.mem.flags[pfn] |= 1 << PG_uptodate
        if (ev := self.on_event) is not None:
            ev(("shmem_unuse", inode.i_ino, idx, pfn, entry))
        kernel.swapfile.swap_free(entry)
        return True

    def shmem_unuse(self, entry: int, pfn: int) -> int:
        """Find the file with a page in swap at *entry* and give it the page: 1, or 0 when none has. kernel: mm/shmem.c:shmem_unuse"""
        for at, info in enumerate(self.shmem_inodes):
            if info.swapped and self.shmem_unuse_inode(info, entry, pfn):
                self.shmem_inodes[:] = self.shmem_inodes[at:] + self.shmem_inodes[:at]  # the next search begins here
                return 1
        return 0

    # -- to swap ------------------------------------------------------------------------------

    def shmem_writepage(self, pfn: int) -> int:
        """Move a page of a file from its page cache to the swap cache; reclaim writes it later. kernel: mm/shmem.c:shmem_writepage"""
        kernel = self.kernel
        mem = kernel.mem
        if not mem.flags[pfn] >> PG_locked & 1:
            raise KernelBug("shmem_writepage", f"frame {pfn} is not locked", "locked")
        if not mem.flags[pfn] >> PG_launder & 1:
            return int(kernel.filemap.fail_writepage(pfn))
        mapping = kernel.mappings[mem.mapping[pfn]]
        index = mem.index[pfn]
        inode = mapping.host
        assert inode is not None
        info = shmem_i(inode)
        if info.flags & VM_LOCKED:
            return int(kernel.filemap.fail_writepage(pfn))
        while True:
            swap: int = kernel.swapfile.get_swap_page()
            if not swap:
                return int(kernel.filemap.fail_writepage(pfn))
            if index >= info.next_index:
                raise KernelBug("shmem_writepage", f"page {index} is past next_index {info.next_index}", "next_index")
            entry = self.shmem_swp_entry(info, index, None)
            if entry is None:
                raise KernelBug("shmem_writepage", f"page {index} has no place for a swap entry", "entry")
            table, slot = entry
            if table[slot]:
                raise KernelBug("shmem_writepage", f"page {index} is in swap already", "entry->val")
            kernel.filemap.remove_inode_page(pfn)
            kernel.put_page(pfn)
            if kernel.swap_state.add_to_swap_cache(pfn, swap) == 0:
                break
            # Readahead has just read that slot: put the page back and take another slot.
            kernel.filemap.add_to_page_cache_locked(pfn, mapping, index)
            kernel.swapfile.swap_free(swap)
        table[slot] = swap
        info.swapped += 1
        mem.flags[pfn] |= 1 << PG_uptodate
        kernel.filemap.set_page_dirty(pfn)
        if (ev := self.on_event) is not None:
            ev(("shmem_to_swap", inode.i_ino, index, pfn, swap))
        kernel.filemap.unlock_page(pfn)
        return 0
