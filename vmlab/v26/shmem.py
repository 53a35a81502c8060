"""Shared memory in 2.6: charged to the commit limit, found in its files' trees, populated for nonlinear mappings.

kernel: mm/shmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EFBIG, EINVAL, EIO, ENOMEM, ENOSPC
from ..mm.fs import FMODE_READ, FMODE_WRITE, NOPAGE_OOM, NOPAGE_SIGBUS, File, Inode, SuperBlock
from ..mm.memory_fault import FAULT_MAJOR, FAULT_MINOR
from ..mm.page_flags import PG_uptodate
from ..mm.shmem import FIRST_FILE_ID, TMPFS_MAGIC, Shmem, ShmemAops, ShmemVmOps
from ..mm.shmem_dir import BOGO_DIRENT_SIZE
from ..mm.shmem_swap import BLOCKS_PER_PAGE, SGP_CACHE, SGP_READ, SHMEM_MAX_BYTES, SHMEM_MAX_INDEX
from ..mm.vfs import ATTR_SIZE, S_IFDIR, S_IFMT, S_IFREG, S_IRWXUGO, Iattr, current_time, fput, inode_change_ok, inode_setattr, new_inode
from ..mm.vm import VM_LOCKED
from .gfp import GFP_ATOMIC, GFP_KERNEL, ZERO
from .page_flags import WRITEBACK
from .shmem_dir import ShmemDir26
from .shmem_swap import SHMEM_PAGEIN, ShmemInodeInfo26, ShmemSbInfo26, info26, limits
from .vm import VM_ACCOUNT

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.vm import VmArea
    from .fs import AddressSpace26
    from .page_alloc import PageAllocator26
    from .swap_state import SwapState26

UPTODATE = 1 << PG_uptodate
SGP_QUICK = -1  # only look into the file's page cache
SIZEOF_SHMEM_INODE_INFO = 376  # bytes, of which 92 before the inode


class ShmemAops26(ShmemAops):
    """In 2.6 pages are not read or removed through this table, because shmem_getpage() does the one and nobody asks for the other.

    kernel: mm/shmem.c:shmem_aops
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.readpage = self.removepage = None


class ShmemVmOps26(ShmemVmOps):
    """In 2.6 with populate, because remap_file_pages() asks for it; before that only faults. kernel: mm/shmem.c:shmem_vm_ops"""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        shmem: Any = kernel.shmem
        self.populate = shmem.shmem_populate


class Shmem26(ShmemDir26, Shmem):
    """tmpfs below its directories, and files without a name."""

    state_names = (*Shmem.state_names, "shmem_swaplist")  # type: ignore[assignment]

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state
        self.aops = ShmemAops26(kernel)
        self.vm_ops = ShmemVmOps26(kernel)

    def init_tmpfs(self) -> None:
        """In 2.6 the internal instance counts nothing, because it has no limits; before that its limits were high.

        kernel: mm/shmem.c:init_tmpfs
        """
        self.shm_mnt = self.new_super(0, 0)

    def shmem_init(self) -> None:
        """In 2.6 a slab cache for the inodes of tmpfs, because they are larger than others; before that the record was inside the inode.

        kernel: mm/shmem.c:init_inodecache
        """
        self.kernel.slab.keep_cache("shmem_inode_cache", SIZEOF_SHMEM_INODE_INFO, 0)

    def new_super(self, blocks: int, inodes: int) -> SuperBlock:
        """In 2.6 without limits when both are 0, because the internal instance is so; before that they were numbers.

        A super block for at most *blocks* pages and *inodes* files. kernel: mm/shmem.c:shmem_fill_super
        """
        sb = SuperBlock(self.super_ops, SHMEM_MAX_BYTES, TMPFS_MAGIC)
        sb.info = ShmemSbInfo26(blocks, inodes)
        return sb

    def shmem_get_inode(self, sb: SuperBlock, mode: int) -> Inode | None:
        """In 2.6 from a slab cache of its own, because of :meth:`shmem_init`; before that any inode would do.

        A new file, directory or link; None when the file system may have no more, or without memory. kernel: mm/shmem.c:shmem_get_inode
        """
        kernel = self.kernel
        sbinfo: ShmemSbInfo26 | None = None if sb.info.unlimited else sb.info
        if sbinfo is not None and not sbinfo.free_inodes:
            return None
        slab = kernel.slab
        cachep = slab.state.named.get("shmem_inode_cache")
        address = slab.kmem_cache_alloc(cachep, GFP_KERNEL) if cachep is not None else 0
        if cachep is not None and not address:
            return None
        if sbinfo is not None:
            sbinfo.free_inodes -= 1
        self.last_ino += 1
        inode = new_inode(kernel, self.last_ino, mode, self.aops, sb)
        space = cast("AddressSpace26", inode.i_mapping)
        space.memory_backed, space.ra_pages = True, 0
        inode.i_uid = kernel.current.euid
        inode.i_gid = kernel.current.egid
        inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(kernel)
        info = inode.info = ShmemInodeInfo26(inode, address)
        kind = mode & S_IFMT
        if kind == S_IFREG:
            inode.i_op = self.inode_ops
            inode.i_fop = self.file_ops
            self.shmem_inodes.append(info)
        elif kind == S_IFDIR:
            inode.i_nlink += 1
            inode.i_size = 2 * BOGO_DIRENT_SIZE
            inode.i_op = self.dir_ops
        return inode

    # -- a page of a file ---------------------------------------------------------------------

    def shmem_getpage(
        self, inode: Inode, idx: int, sgp: int, locked: int | None = None, kind: list[int] | None = None
    ) -> tuple[int, int | None]:
        """In 2.6 a new page is charged, and a hole that is read has no page at all, because the caller knows the zero page; before that the
        zero page came back.

        The page *idx* of a file, from its page cache, from swap, or new, with a reference for the caller. *sgp*: SGP_QUICK only looks,
        SGP_READ makes no page, SGP_CACHE one within the file's size, SGP_WRITE beyond it too. *locked*, if given, is the file's page (in
        the cache, locked, perhaps not up to date) that is to be filled. *kind*, if given, becomes [FAULT_MAJOR] when the page is read.
        Returns (0, frame or None), or (-errno, None): EINVAL beyond the end, EFBIG, ENOSPC, ENOMEM, EIO. kernel: mm/shmem.c:shmem_getpage
        """
        if idx >= SHMEM_MAX_INDEX:
            return -EFBIG, None
        filemap: Any = self.kernel.filemap
        flags = self.kernel.mem.flags
        filepage: int | None = locked
        while True:
            if filepage is None:
                filepage = filemap.find_lock_page(inode.i_mapping, idx)
            if filepage is not None and flags[filepage] & UPTODATE:
                break
            if sgp == SGP_QUICK:
                return self._failed(0, locked, filepage)
            self.shmem_recalc_inode(inode)
            entry = self.shmem_swp_alloc(info26(inode), idx, sgp)
            if isinstance(entry, int):
                return self._failed(entry, locked, filepage)
            if entry[0][entry[1]]:
                error, filepage, again = self._swap_in26(inode, idx, sgp, filepage, entry, kind)
            elif sgp == SGP_READ and filepage is None:
                filepage = filemap.find_get_page(inode.i_mapping, idx)
                error, again = 0, False
                if filepage is not None and (not flags[filepage] & UPTODATE or filemap.try_lock_page(filepage)):
                    filemap.wait_on_page(filepage)
                    self.kernel.put_page(filepage)
                    filepage, again = None, True
            else:
                error, filepage, again = self._new_page(inode, idx, sgp, filepage)
            if error:
                return self._failed(error, locked, filepage)
            if not again:
                break
        if locked is not None:
            return 0, locked
        if filepage is not None:
            filemap.unlock_page(filepage)
        elif (ev := self.on_event) is not None:
            ev(("shmem_hole", inode.i_ino, idx))
        return 0, filepage

    def _swap_in26(
        self, inode: Inode, idx: int, sgp: int, filepage: int | None, entry: tuple[Any, int], kind: list[int] | None
    ) -> tuple[int, int | None, bool]:
        """The page is in swap: read it, and move it from the swap cache to the file's. Returns (errno, page, whether to start again)."""
        kernel, info = self.kernel, info26(inode)
        filemap: Any = kernel.filemap
        memory: Any = kernel.memory
        state = cast("SwapState26", kernel.swap_state)
        flags = kernel.mem.flags
        swap: int = entry[0][entry[1]]
        swappage = state.lookup_swap_cache(swap)
        if swappage is None:
            if kind is not None and kind[0] == FAULT_MINOR:
                self.page_state.pgmajfault += 1
                kind[0] = FAULT_MAJOR
            memory.swapin_readahead(swap)
            swappage = state.read_swap_cache_async(swap)
            if swappage is None:  # no memory, or somebody else was faster
                now = self.shmem_swp_alloc(info, idx, sgp)
                error = now if isinstance(now, int) else -ENOMEM if now[0][now[1]] == swap else 0
                return error, filepage, True
            filemap.wait_on_page(swappage)
            kernel.put_page(swappage)
            return 0, filepage, True
        if filemap.try_lock_page(swappage):
            filemap.wait_on_page(swappage)
            kernel.put_page(swappage)
            return 0, filepage, True
        if flags[swappage] & WRITEBACK:
            filemap.wait_on_page_writeback(swappage)
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            return 0, filepage, True
        if not flags[swappage] & UPTODATE:
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            return -EIO, filepage, False
        if filepage is not None:
            self.shmem_swp_set(info, entry, idx, 0)
            state.delete_from_swap_cache(swappage)
            kernel.highmem.copy_highpage(filepage, swappage)
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            flags[filepage] |= UPTODATE
            filemap.set_page_dirty(filepage)
        elif not state.move_from_swap_cache(swappage, idx, inode.i_mapping):
            info.flags |= SHMEM_PAGEIN
            self.shmem_swp_set(info, entry, idx, 0)
            filepage = swappage
        else:
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            return 0, None, True
        kernel.swapfile.swap_free(swap)
        if (ev := self.on_event) is not None:
            ev(("shmem_from_swap", inode.i_ino, idx, filepage, swap))
        return 0, filepage, False

    def _new_page(self, inode: Inode, idx: int, sgp: int, filepage: int | None) -> tuple[int, int | None, bool]:
        """The page is nowhere: a new one (or *filepage*) full of zeroes. Returns (errno, page, whether to start again)."""
        kernel, info = self.kernel, info26(inode)
        sbinfo = limits(inode)
        if sbinfo is not None and not sbinfo.free_blocks or self.shmem_acct_block(info.flags):
            return -ENOSPC, filepage, False
        if sbinfo is not None:
            sbinfo.free_blocks -= 1
            inode.i_blocks += BLOCKS_PER_PAGE
        if filepage is None:
            filepage = kernel.alloc_page(inode.i_mapping.gfp_mask | ZERO)
            if filepage is None:
                self._give_back(inode, info)
                return -ENOMEM, None, False
            # The allocation may have slept: the file may have been cut, the page swapped out or made by another.
            entry = self.shmem_swp_alloc(info, idx, sgp)
            error = entry if isinstance(entry, int) else 0
            filemap: Any = kernel.filemap
            if (
                isinstance(entry, int)
                or entry[0][entry[1]]
                or filemap.add_to_page_cache_lru(filepage, inode.i_mapping, idx, GFP_ATOMIC) != 0
            ):
                kernel.put_page(filepage)
                self._give_back(inode, info)
                return error, None, True
            info.flags |= SHMEM_PAGEIN
        info.alloced += 1
        kernel.mem.flags[filepage] |= UPTODATE
        if (ev := self.on_event) is not None:
            ev(("shmem_new_page", inode.i_ino, idx, filepage))
        return 0, filepage, False

    def _give_back(self, inode: Inode, info: ShmemInodeInfo26) -> None:
        self.shmem_unacct_blocks(info.flags, 1)
        self.shmem_free_blocks(inode, 1)

    # -- mapping ------------------------------------------------------------------------------

    def shmem_nopage(self, vma: VmArea, address: int, kind: Any = None) -> int:
        """In 2.6 it says whether the disk was needed, because that makes the fault a major one; before that every one was.

        The page for a fault at *address*, or NOPAGE_OOM, or NOPAGE_SIGBUS beyond the file's end. kernel: mm/shmem.c:shmem_nopage
        """
        assert vma.vm_file is not None
        inode = vma.vm_file.inode
        idx = (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff & 0xFFFFFFFF
        if idx << PAGE_SHIFT >= inode.i_size:
            return NOPAGE_SIGBUS
        error, page = self.shmem_getpage(inode, idx, SGP_CACHE, None, kind)
        if page is None:
            return NOPAGE_OOM if error == -ENOMEM else NOPAGE_SIGBUS
        self.kernel.filemap.mark_page_accessed(page)
        return page

    def shmem_populate(self, vma: VmArea, addr: int, length: int, prot: int, pgoff: int, nonblock: int) -> int:
        """In 2.6 new, because remap_file_pages() maps pages at once: *length* bytes at *addr*, from page *pgoff* of the file on.

        With *nonblock* a page that is not in memory only gets an entry that names it. Returns 0 or an errno: EINVAL beyond the file's end.
        kernel: mm/shmem.c:shmem_populate
        """
        assert vma.vm_file is not None
        kernel = self.kernel
        fremap: Any = kernel.more_parts["fremap"]
        inode, mm = vma.vm_file.inode, vma.vm_mm
        size = (inode.i_size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if pgoff >= size or pgoff + (length >> PAGE_SHIFT) > size:
            return -EINVAL
        for _ in range((length + PAGE_SIZE - 1) >> PAGE_SHIFT):
            error, page = self.shmem_getpage(inode, pgoff, SGP_QUICK if nonblock else SGP_CACHE)
            if error:
                return error
            if page is not None:
                kernel.filemap.mark_page_accessed(page)
                error = int(fremap.install_page(mm, vma, addr, page, prot))
                if error:
                    kernel.put_page(page)
                    return error
            elif nonblock:
                error = int(fremap.install_file_pte(mm, vma, addr, pgoff, prot))
                if error:
                    return error
            addr += PAGE_SIZE
            pgoff += 1
        return 0

    def shmem_mmap(self, file: File, vma: VmArea) -> int:
        """In 2.6 nothing is refused, because only regular files have this method; before that a check. Returns 0.

        kernel: mm/shmem.c:shmem_mmap
        """
        file.inode.i_atime = current_time(self.kernel)
        vma.vm_ops = self.vm_ops
        return 0

    def shmem_lock(self, file: File, lock: bool, user: int | None = None) -> int:  # type: ignore[override]
        """In 2.6 locked shared memory is charged to a *user* (by number), because anybody may lock up to a limit; before that only root
        could.

        Keep the file's pages out of swap, or no longer. Returns 0 or -ENOMEM. kernel: mm/shmem.c:shmem_lock
        """
        inode = file.inode
        info = info26(inode)
        mlock: Any = self.kernel.mlock
        if lock and not info.flags & VM_LOCKED:
            user = self.kernel.current.uid if user is None else user
            if not mlock.user_shm_lock(inode.i_size, user):
                return -ENOMEM
            info.flags |= VM_LOCKED
            info.mlock_user = user
        elif not lock and info.flags & VM_LOCKED:
            user = info.mlock_user if user is None else user
            if user is not None:
                mlock.user_shm_unlock(inode.i_size, user)
                info.flags &= ~VM_LOCKED
        return 0

    def shmem_notify_change(self, inode: Inode, attr: Iattr) -> int:
        """In 2.6 it notes that pages may come from swap while the file is cut, because truncation then looks again; before that it did not.

        Change size, owner or mode. Returns 0 or an errno. kernel: mm/shmem.c:shmem_notify_change
        """
        if attr.ia_valid & ATTR_SIZE and 0 < attr.ia_size < inode.i_size:
            page = None
            if attr.ia_size & PAGE_SIZE - 1:
                _, page = self.shmem_getpage(inode, attr.ia_size >> PAGE_SHIFT, SGP_READ)
            info26(inode).flags &= ~SHMEM_PAGEIN
            error = self._change(inode, attr)
            if page is not None:
                self.kernel.put_page(page)
            return error
        return self._change(inode, attr)

    def _change(self, inode: Inode, attr: Iattr) -> int:
        return inode_change_ok(self.kernel.current, inode, attr) or inode_setattr(self.kernel, inode, attr)

    # -- files without a name -------------------------------------------------------------------

    def shmem_file_setup(self, name: str, size: int, flags: int = VM_ACCOUNT) -> File | int:
        """In 2.6 charged at once with VM_ACCOUNT in *flags*, else page by page, because memory is promised; before that only checked.

        An open file of *size* bytes that is in no directory; *name* is for people. Returns -EINVAL when it is too large for any file,
        -ENOMEM when it would overcommit memory, -ENOSPC. kernel: mm/shmem.c:shmem_file_setup
        """
        if not 0 <= size <= SHMEM_MAX_BYTES:
            return -EINVAL
        if self.shmem_acct_size(flags, size):
            return -ENOMEM
        ident = FIRST_FILE_ID + self.nr_filps
        self.nr_filps += 1
        inode = self.shmem_get_inode(self.shm_mnt, S_IFREG | S_IRWXUGO)
        if inode is None:
            self.shmem_unacct_size(flags, size)
            return -ENOSPC
        info26(inode).flags = flags & VM_ACCOUNT
        inode.name = name
        inode.label = ident
        inode.i_size = size
        inode.i_nlink = 0
        file = File(inode, FMODE_READ | FMODE_WRITE, self.file_ops)
        file.ident = ident
        if (ev := self.on_event) is not None:
            ev(("shmem_file", inode.i_ino, size, name))
        return file

    def shmem_zero_setup(self, vma: VmArea) -> int:
        """In 2.6 the area's VM_ACCOUNT goes to the file, because the file's pages are what is promised; before that there was none.

        Give a shared anonymous mapping its file: 0 or an errno. kernel: mm/shmem.c:shmem_zero_setup
        """
        file = self.shmem_file_setup("dev/zero", vma.vm_end - vma.vm_start, vma.vm_flags)
        if isinstance(file, int):
            return file
        if vma.vm_file is not None:
            fput(self.kernel, vma.vm_file)
        vma.vm_file = file
        vma.vm_ops = self.vm_ops
        return 0
