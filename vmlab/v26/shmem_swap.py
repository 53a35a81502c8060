"""Shared memory's pages in swap, in 2.6: the swap vector, moving pages to swap and back.

The vector is as in 2.4, but its frames may be high, and each frame of entries counts those in swap (page->private,
"nr_swapped"), so that cutting a file skips empty ones. A slot holds the frame's address as if all memory were mapped.

kernel: mm/shmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EINVAL, ENOMEM, ENOSPC
from ..mm.page_flags import PG_locked
from ..mm.shmem_swap import (
    _UNSWAPPED,
    BLOCKS_PER_PAGE,
    ENTRIES_PER_PAGE,
    ENTRIES_PER_PAGEPAGE,
    SGP_READ,
    SGP_WRITE,
    SHMEM_NR_DIRECT,
    Entry,
    ShmemInodeInfo,
    ShmemSbInfo,
    ShmemSwap,
    shmem_i,
)
from ..mm.vfs import clear_inode, current_time
from ..mm.vm import VM_LOCKED, VM_READ, VM_WRITE
from .gfp import ZERO
from .page_writeback import WRITEPAGE_ACTIVATE
from .vm import VM_ACCOUNT

if TYPE_CHECKING:
    from array import array

    from ..mm.fs import Inode
    from ..mm.kernel import Kernel
    from .swap_state import SwapState26

SHMEM_PAGEIN = VM_READ  # in info.flags: pages may have come from swap since the last truncation
SHMEM_TRUNCATE = VM_WRITE  # the file is being cut
_HALF = ENTRIES_PER_PAGE // 2


class ShmemInodeInfo26(ShmemInodeInfo):
    """In 2.6 the pages a file was given are counted (``alloced``), because reclaim may drop clean ones without telling; before that it
    told.

    ``address``: the object of the slab cache that all files of tmpfs come from. kernel: include/linux/shmem_fs.h:shmem_inode_info
    """

    __slots__ = ("address", "alloced", "mlock_user")

    def __init__(self, inode: Inode, address: int = 0) -> None:
        super().__init__(inode)
        self.alloced = 0
        self.address = address
        self.mlock_user: int | None = None


class ShmemSbInfo26(ShmemSbInfo):
    """In 2.6 a tmpfs can be without limits, because the kernel's own need not count; before that the limits were just high.

    kernel: include/linux/shmem_fs.h:shmem_sb_info
    """

    __slots__ = ("unlimited",)

    def __init__(self, max_blocks: int, max_inodes: int) -> None:
        super().__init__(max_blocks, max_inodes)
        self.unlimited = not max_blocks and not max_inodes


def info26(inode: Inode) -> ShmemInodeInfo26:
    """In 2.6 with more fields, because of ``alloced``: a tmpfs inode's record. kernel: include/linux/shmem_fs.h:SHMEM_I"""
    return cast(ShmemInodeInfo26, shmem_i(inode))


def limits(inode: Inode) -> ShmemSbInfo26 | None:
    """In 2.6 None where there are no limits, because of :class:`ShmemSbInfo26`; before that there always were.

    kernel: mm/shmem.c:SHMEM_SB
    """
    info = inode.i_sb.info if inode.i_sb is not None else None
    return None if info is None or info.unlimited else cast(ShmemSbInfo26, info)


class ShmemSwap26(ShmemSwap):
    """The swap vectors."""

    shmem_swaplist: list[ShmemInodeInfo26]

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.private: array[int] = kernel.mem.column("private")
        self.shmem_swaplist = []

    # -- accounting ---------------------------------------------------------------------------

    def shmem_acct_size(self, flags: int, size: int) -> int:
        """In 2.6 new, because memory is promised: a file of fixed *size* is charged at once. 0 or an errno.

        kernel: mm/shmem.c:shmem_acct_size
        """
        mmap: Any = self.kernel.mmap
        return int(mmap.security_vm_enough_memory(vm_acct(size))) if flags & VM_ACCOUNT else 0

    def shmem_unacct_size(self, flags: int, size: int) -> None:
        """In 2.6 new, because of :meth:`shmem_acct_size`. kernel: mm/shmem.c:shmem_unacct_size"""
        if flags & VM_ACCOUNT:
            mmap: Any = self.kernel.mmap
            mmap.vm_unacct_memory(vm_acct(size))

    def shmem_acct_block(self, flags: int) -> int:
        """In 2.6 new, because tmpfs files may be sparse: they are charged page by page. 0 or an errno.

        kernel: mm/shmem.c:shmem_acct_block
        """
        mmap: Any = self.kernel.mmap
        return 0 if flags & VM_ACCOUNT else int(mmap.security_vm_enough_memory(1))

    def shmem_unacct_blocks(self, flags: int, pages: int) -> None:
        """In 2.6 new, because of :meth:`shmem_acct_block`. kernel: mm/shmem.c:shmem_unacct_blocks"""
        if not flags & VM_ACCOUNT:
            mmap: Any = self.kernel.mmap
            mmap.vm_unacct_memory(pages)

    def shmem_free_blocks(self, inode: Inode, pages: int) -> None:
        """In 2.6 many at a time, because of truncation in one go; before that one by one. kernel: mm/shmem.c:shmem_free_blocks"""
        sbinfo = limits(inode)
        if sbinfo is not None:
            sbinfo.free_blocks = sbinfo.free_blocks + pages & M32
            inode.i_blocks -= pages * BLOCKS_PER_PAGE

    def shmem_recalc_inode(self, inode: Inode) -> None:
        """In 2.6 new, because reclaim frees clean pages without telling: give back what the file no longer has.

        kernel: mm/shmem.c:shmem_recalc_inode
        """
        info = info26(inode)
        freed = info.alloced - info.swapped - inode.i_mapping.nrpages
        if freed > 0:
            info.alloced -= freed
            self.shmem_unacct_blocks(info.flags, freed)
            self.shmem_free_blocks(inode, freed)

    # -- the vector ---------------------------------------------------------------------------

    def frame_at(self, address: int) -> int:
        """In 2.6 high frames too, because they are only mapped while in use; before that low ones. The frame a slot leads to."""
        return (address - PAGE_OFFSET & M32) >> PAGE_SHIFT

    def words(self, address: int) -> array[int]:
        """In 2.6 high frames too, because of :meth:`frame_at`; before that low ones. The frame of slots or entries at an address."""
        return self.kernel.ram.words(self.frame_at(address))

    def free_page(self, address: int) -> None:
        """In 2.6 high frames too, because of :meth:`frame_at`; before that low ones. kernel: mm/shmem.c:shmem_dir_free"""
        self.kernel.put_page(self.frame_at(address))

    def _frame_of_entries(self, info: ShmemInodeInfo, index: int) -> int:
        """The frame that holds the entry of page *index*, which is not one of the first 16."""
        index = (index - SHMEM_NR_DIRECT) // ENTRIES_PER_PAGE
        table = self.words(info.i_indirect)
        if index >= _HALF:
            slot, index = divmod(index - _HALF, ENTRIES_PER_PAGE)
            table = self.words(table[_HALF + slot])
        return self.frame_at(table[index])

    def shmem_swp_set(self, info: ShmemInodeInfo, entry: Entry, index: int, value: int) -> None:
        """In 2.6 new, because frames count their entries: set the entry of page *index* to *value*. kernel: mm/shmem.c:shmem_swp_set"""
        step = 1 if value else -1
        entry[0][entry[1]] = value
        info.swapped += step
        if index >= SHMEM_NR_DIRECT:
            self.private[self._frame_of_entries(info, index)] += step

    def shmem_swp_alloc(self, info: ShmemInodeInfo, index: int, sgp: int) -> Entry | int:
        """In 2.6 the frames may be high and come zeroed, because the allocator can do that; before that they were cleared here.

        Where the swap entry of page *index* is; frames for it are allocated unless *sgp* is SGP_READ. Returns -EINVAL beyond the
        file's end (not for SGP_WRITE), -ENOSPC, -ENOMEM. kernel: mm/shmem.c:shmem_swp_alloc
        """
        inode = info.inode
        sbinfo = limits(inode)
        if sgp != SGP_WRITE and index << PAGE_SHIFT >= inode.i_size:
            return -EINVAL
        page = [0]
        entry: Entry | int | None
        while (entry := self.shmem_swp_entry(info, index, page)) is None:
            if sgp == SGP_READ:
                return _UNSWAPPED, 0
            if sbinfo is not None:
                if sbinfo.free_blocks <= 1:  # 1: the data page needs a block as well
                    return -ENOSPC
                sbinfo.free_blocks -= 1
                inode.i_blocks += BLOCKS_PER_PAGE
            pfn = self.kernel.alloc_page(inode.i_mapping.gfp_mask | ZERO)
            if pfn is None:
                self.shmem_free_blocks(inode, 1)
                return -ENOMEM
            self.private[pfn] = 0
            page[0] = PAGE_OFFSET + (pfn << PAGE_SHIFT) & M32
            if (ev := self.on_event) is not None:
                ev(("shmem_vector_page", inode.i_ino, index, pfn))
            if sgp != SGP_WRITE and index << PAGE_SHIFT >= inode.i_size:  # truncated while we slept
                entry = -EINVAL
                break
            if info.next_index <= index:
                info.next_index = index + 1
        if page[0]:  # the vector grew without us
            self.shmem_free_blocks(inode, 1)
            self.free_page(page[0])
        if info.next_index <= index and not isinstance(entry, int):
            info.next_index = index + 1
        return entry

    # -- truncating ---------------------------------------------------------------------------

    def shmem_truncate(self, inode: Inode) -> None:
        """In 2.6 in one walk from the new end to the old one, because walking back took quadratic time; before that back from the end.

        Cut the swap vector to the file's size; its cached pages are gone already. The frames freed go last first.
        kernel: mm/shmem.c:shmem_truncate
        """
        info = info26(inode)
        inode.i_ctime = inode.i_mtime = current_time(self.kernel)
        first = (inode.i_size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if first >= info.next_index:
            return
        info.flags |= SHMEM_TRUNCATE
        limit = info.next_index
        info.next_index = first
        pages_to_free: list[int] = []  # oldest first
        topdir = info.i_indirect
        if topdir and first <= SHMEM_NR_DIRECT:
            info.indirect[0] = 0
            pages_to_free.append(topdir)
        swaps = 0
        if info.swapped and first < SHMEM_NR_DIRECT:
            swaps = self.shmem_free_swp(info.i_direct, first, min(limit, SHMEM_NR_DIRECT))
        if topdir:
            if limit <= SHMEM_NR_DIRECT:
                raise KernelBug("shmem_truncate", f"next_index {limit} needs no frames, but there are some", "limit")
            swaps += self._truncate_frames(topdir, max(first - SHMEM_NR_DIRECT, 0), limit - SHMEM_NR_DIRECT, pages_to_free)
        if inode.i_mapping.nrpages and info.flags & SHMEM_PAGEIN:
            self.kernel.filemap.truncate_inode_pages(inode.i_mapping, inode.i_size)
        info.flags &= ~SHMEM_TRUNCATE
        info.swapped -= swaps
        if pages_to_free:
            self.shmem_free_blocks(inode, len(pages_to_free))
        self.shmem_recalc_inode(inode)
        for address in reversed(pages_to_free):
            self.free_page(address)
        if (ev := self.on_event) is not None:
            ev(("shmem_truncate", inode.i_ino, first, len(pages_to_free)))

    def _truncate_frames(self, topdir: int, first: int, limit: int, pages_to_free: list[int]) -> int:
        """Free the swap entries *first* to *limit* of the frames below *topdir*, and take empty frames out.

        Both count from the first entry that is in a frame. Returns how many slots of swap that freed.
        """
        swaps = 0
        offset = first % ENTRIES_PER_PAGE
        idx = first - offset
        top = self.words(topdir)
        stage = ENTRIES_PER_PAGEPAGE // 2  # where the next frame of slots begins
        table, at = top, idx // ENTRIES_PER_PAGE
        if idx >= stage:
            slot = _HALF + (idx - stage) // ENTRIES_PER_PAGEPAGE
            while stage <= idx:
                stage += ENTRIES_PER_PAGEPAGE
            middir = top[slot]
            if middir:
                table = self.words(middir)
                at = (idx - ENTRIES_PER_PAGEPAGE // 2) % ENTRIES_PER_PAGEPAGE // ENTRIES_PER_PAGE
                if not at and not offset:
                    top[slot] = 0
                    pages_to_free.append(middir)
            else:
                at = offset = 0
                idx = stage
        while idx < limit:
            if idx == stage:
                slot = _HALF + idx // ENTRIES_PER_PAGEPAGE
                while not top[slot]:
                    slot += 1
                    idx += ENTRIES_PER_PAGEPAGE
                    if idx >= limit:
                        return swaps
                stage = idx + ENTRIES_PER_PAGEPAGE
                pages_to_free.append(top[slot])
                table, at = self.words(top[slot]), 0
                top[slot] = 0
            subdir = table[at]
            if subdir and self.private[self.frame_at(subdir)]:
                freed = self.shmem_free_swp(self.words(subdir), offset, min(limit - idx, ENTRIES_PER_PAGE))
                swaps += freed
                left = self.private[self.frame_at(subdir)] - freed
                if not 0 <= left <= offset:
                    raise KernelBug("shmem_truncate", f"{left} pages in swap counted below {offset} entries", "nr_swapped")
                self.private[self.frame_at(subdir)] = left
            if offset:
                offset = 0
            elif subdir:
                table[at] = 0
                pages_to_free.append(subdir)
            idx += ENTRIES_PER_PAGE
            at += 1
        return swaps

    def shmem_delete_inode(self, inode: Inode) -> None:
        """In 2.6 what was promised is given back, because memory is accounted; before that only blocks and swap.

        The last reference to a file without a name is gone. kernel: mm/shmem.c:shmem_delete_inode, shmem_destroy_inode
        """
        info = info26(inode)
        if inode.i_op is not None and inode.i_op.truncate is not None:
            self.shmem_unacct_size(info.flags, inode.i_size)
            inode.i_size = 0
            self.shmem_truncate(inode)
            self.shmem_inodes.remove(info)
            if info in self.shmem_swaplist:
                self.shmem_swaplist.remove(info)
        sbinfo = limits(inode)
        if sbinfo is not None:
            if inode.i_blocks:
                raise KernelBug("shmem_delete_inode", f"{inode.i_blocks} sectors of {inode!r} are unaccounted for", "i_blocks")
            sbinfo.free_inodes = sbinfo.free_inodes + 1 & M32
        clear_inode(self.kernel, inode)
        if info.address:
            slab = self.kernel.slab
            slab.kmem_cache_free(slab.state.named["shmem_inode_cache"], info.address)

    # -- from swap, because the swap area goes away ---------------------------------------------

    def _entry_frames(self, info: ShmemInodeInfo, limit: int) -> Any:
        """(index of the first page, frame) of each frame of entries with pages in swap, below page *limit*."""
        top = self.words(info.i_indirect)
        stage = SHMEM_NR_DIRECT + ENTRIES_PER_PAGEPAGE // 2
        table, at, idx = top, 0, SHMEM_NR_DIRECT
        while idx < limit:
            if idx == stage:
                slot = _HALF + idx // ENTRIES_PER_PAGEPAGE
                while not top[slot]:
                    slot += 1
                    idx += ENTRIES_PER_PAGEPAGE
                    if idx >= limit:
                        return
                stage = idx + ENTRIES_PER_PAGEPAGE
                table, at = self.words(top[slot]), 0
            subdir = table[at]
            if subdir and self.private[self.frame_at(subdir)]:
                yield idx, subdir
            idx += ENTRIES_PER_PAGE
            at += 1

    def shmem_unuse_inode(self, info: ShmemInodeInfo, entry: int, pfn: int) -> bool:
        """In 2.6 frames without pages in swap are skipped, because they count them; before that all were searched.

        If the file has a page in swap at *entry*, give it the page *pfn* that was read from there. kernel: mm/shmem.c:shmem_unuse_inode
        """
        limit = info.next_index
        idx = 0
        table = info.i_direct
        offset = self.shmem_find_swp(entry, table, min(limit, SHMEM_NR_DIRECT))
        if offset < 0:
            if not info.i_indirect:
                return False
            for idx, subdir in self._entry_frames(info, limit):
                table = self.words(subdir)
                offset = self.shmem_find_swp(entry, table, min(limit - idx, ENTRIES_PER_PAGE))
                if offset >= 0:
                    break
            else:
                return False
        idx += offset
        inode = info.inode
        state = cast("SwapState26", self.kernel.swap_state)
        if not state.move_from_swap_cache(pfn, idx, inode.i_mapping):
            info.flags |= SHMEM_PAGEIN
            self.shmem_swp_set(info, (table, offset), idx, 0)
        if (ev := self.on_event) is not None:
            ev(("shmem_unuse", inode.i_ino, idx, pfn, entry))
        self.kernel.swapfile.swap_free(entry)
        return True

    def shmem_unuse(self, entry: int, pfn: int) -> int:
        """In 2.6 only files that had pages in swap are searched, because the list holds no others; before that all files.

        Find the file with a page in swap at *entry* and give it the page: 1, or 0 when none has. kernel: mm/shmem.c:shmem_unuse
        """
        files = self.shmem_swaplist
        at = 0
        while at < len(files):
            info = files[at]
            if not info.swapped:
                del files[at]
            elif self.shmem_unuse_inode(info, entry, pfn):
                files[:] = files[at:] + files[:at]  # the next search begins here
                return 1
            else:
                at += 1
        return 0

    # -- to swap ------------------------------------------------------------------------------

    def shmem_writepage(self, pfn: int, wbc: object = None) -> int:
        """In 2.6 reclaim is told to activate a page that cannot move, because it would be met again at once; before that it was just dirty.

        Move a page of a file from its page cache to the swap cache; reclaim writes it later. Returns 0 or WRITEPAGE_ACTIVATE.
        kernel: mm/shmem.c:shmem_writepage
        """
        kernel = self.kernel
        mem = kernel.mem
        if not mem.flags[pfn] >> PG_locked & 1 or kernel.more_parts["rmap"].page_mapped(pfn):
            raise KernelBug("shmem_writepage", f"frame {pfn} is not locked, or is mapped", "locked")
        index = mem.index[pfn]
        inode = kernel.mappings[mem.mapping[pfn]].host
        assert inode is not None
        info = info26(inode)
        swap = 0 if info.flags & VM_LOCKED else kernel.swapfile.get_swap_page()
        if swap:
            self.shmem_recalc_inode(inode)
            if index < info.next_index:
                entry = self.shmem_swp_entry(info, index, None)
                if entry is None or entry[0][entry[1]]:
                    raise KernelBug("shmem_writepage", f"page {index} has no place for a swap entry, or is in swap already", "entry")
                if not cast("SwapState26", kernel.swap_state).move_to_swap_cache(pfn, swap):
                    self.shmem_swp_set(info, entry, index, swap)
                    if info not in self.shmem_swaplist:
                        self.shmem_swaplist.append(info)
                    if (ev := self.on_event) is not None:
                        ev(("shmem_to_swap", inode.i_ino, index, pfn, swap))
                    kernel.filemap.unlock_page(pfn)
                    return 0
            elif not info.flags & SHMEM_TRUNCATE:
                raise KernelBug("shmem_writepage", f"page {index} is past next_index {info.next_index}", "next_index")
            kernel.swapfile.swap_free(swap)
        kernel.filemap.set_page_dirty(pfn)
        return WRITEPAGE_ACTIVATE


def vm_acct(size: int) -> int:
    """In 2.6 new, because memory is promised in pages: pages of *size* bytes, of which 32 bits count. kernel: mm/shmem.c:VM_ACCT"""
    return (size + PAGE_SIZE - 1 & (M32 ^ (PAGE_SIZE - 1))) >> PAGE_SHIFT
