"""Shared memory: files that live in the page cache and, when memory is short, in swap. tmpfs is made of them,
shared anonymous mappings and System V segments are such files without a name.

A page of such a file is in exactly one of three places: in the file's page cache; in swap, the file's
swap vector naming the slot (a page on its way is in the swap cache); or nowhere, a hole that reads as zeroes.

kernel: mm/shmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from .errno import EACCES, EFBIG, EINVAL, EIO, ENFILE, ENOMEM, ENOSPC
from .fs import (
    FMODE_READ,
    FMODE_WRITE,
    NOPAGE_OOM,
    NOPAGE_SIGBUS,
    AddressSpaceOps,
    File,
    FileOps,
    Inode,
    InodeOps,
    SuperBlock,
    SuperOps,
    VmOps,
)
from .page_flags import PG_dirty, PG_uptodate
from .shmem_dir import BOGO_DIRENT_SIZE, ShmemDir
from .shmem_swap import (
    SGP_CACHE,
    SGP_READ,
    SHMEM_MAX_BYTES,
    SHMEM_MAX_INDEX,
    ShmemInodeInfo,
    ShmemSbInfo,
    sb_info,
    shmem_i,
)
from .vfs import (
    ATTR_SIZE,
    S_IFDIR,
    S_IFMT,
    S_IFREG,
    S_IRWXUGO,
    Iattr,
    clear_inode,
    current_time,
    force_delete,
    fput,
    inode_change_ok,
    inode_setattr,
    new_inode,
)
from .vm import VM_LOCKED

if TYPE_CHECKING:
    from .kernel import Kernel
    from .vm import VmArea

TMPFS_MAGIC = 0x01021994
ULONG_MAX = M32
PAGE_CACHE_MASK = ~(PAGE_SIZE - 1) & M32
FIRST_FILE_ID = 1000  # of the files that nobody opened by name

UPTODATE, DIRTY = 1 << PG_uptodate, 1 << PG_dirty


class ShmemAops(AddressSpaceOps):
    """kernel: mm/shmem.c:shmem_aops"""

    name = "shmem_aops"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        part = kernel.shmem
        self.removepage = part.shmem_removepage
        self.writepage = part.shmem_writepage
        self.readpage = part.shmem_readpage
        self.prepare_write = part.shmem_prepare_write
        self.commit_write = part.shmem_commit_write


class ShmemFileOps(FileOps):
    """kernel: mm/shmem.c:shmem_file_operations"""

    name = "shmem_file_operations"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        part = kernel.shmem
        self.mmap = part.shmem_mmap
        self.read = part.shmem_file_read
        self.write = part.shmem_file_write
        self.fsync = part.shmem_sync_file


class ShmemInodeOps(InodeOps):
    """kernel: mm/shmem.c:shmem_inode_operations"""

    name = "shmem_inode_operations"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.truncate = kernel.shmem.shmem_truncate
        self.setattr = kernel.shmem.shmem_notify_change


class ShmemDirOps(InodeOps):
    """Directories and short symbolic links: no pages. kernel: mm/shmem.c:shmem_dir_inode_operations, shmem_symlink_inline_operations"""

    name = "shmem_dir_inode_operations"


class ShmemSymlinkOps(InodeOps):
    """kernel: mm/shmem.c:shmem_symlink_inode_operations"""

    name = "shmem_symlink_inode_operations"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.truncate = kernel.shmem.shmem_truncate


class ShmemSuperOps(SuperOps):
    """kernel: mm/shmem.c:shmem_ops"""

    name = "shmem_ops"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.delete_inode = kernel.shmem.shmem_delete_inode
        self.put_inode = force_delete


class ShmemVmOps(VmOps):
    """kernel: mm/shmem.c:shmem_vm_ops"""

    name = "shmem_vm_ops"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.nopage = kernel.shmem.shmem_nopage


class Shmem(ShmemDir):
    """tmpfs below its directories, and files without a name."""

    state_names = ("last_ino", "mounts", "nr_filps", "shm_mnt", "shmem_inodes")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.last_ino = 0
        self.mounts: dict[str, SuperBlock] = {}  # by the name they were given
        self.nr_filps = 0  # file structures handed out by get_empty_filp
        self.aops = ShmemAops(kernel)
        self.file_ops = ShmemFileOps(kernel)
        self.inode_ops = ShmemInodeOps(kernel)
        self.dir_ops = ShmemDirOps(kernel)
        self.symlink_ops = ShmemSymlinkOps(kernel)
        self.super_ops = ShmemSuperOps(kernel)
        self.vm_ops = ShmemVmOps(kernel)
        self.init_tmpfs()

    def init_tmpfs(self) -> None:
        """Mount the internal instance, which has no limits: its files are those without names. kernel: mm/shmem.c:init_tmpfs"""
        self.shm_mnt = self.new_super(ULONG_MAX, ULONG_MAX)

    def new_super(self, blocks: int, inodes: int) -> SuperBlock:
        """A super block for at most *blocks* pages and *inodes* files. kernel: mm/shmem.c:shmem_read_super"""
        sb = SuperBlock(self.super_ops, SHMEM_MAX_BYTES, TMPFS_MAGIC)
        sb.info = ShmemSbInfo(blocks, inodes)
        return sb

    def shmem_get_inode(self, sb: SuperBlock, mode: int) -> Inode | None:
        """A new file, directory or link; None when the file system may have no more. kernel: mm/shmem.c:shmem_get_inode"""
        sbinfo = sb_info(sb)
        if not sbinfo.free_inodes:
            return None
        sbinfo.free_inodes -= 1
        self.last_ino += 1
        inode = new_inode(self.kernel, self.last_ino, mode, self.aops, sb)
        if self.kernel.config.vfs and not self.kernel.icache.new_inode(inode):
            sbinfo.free_inodes += 1
            clear_inode(self.kernel, inode)
            return None
        inode.i_uid = self.kernel.current.euid
        inode.i_gid = self.kernel.current.egid
        inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(self.kernel)
        info = inode.info = ShmemInodeInfo(inode)
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

    def shmem_getpage(self, inode: Inode, idx: int, sgp: int, locked: int | None = None) -> tuple[int, int | None]:
        """The page *idx* of a file, from its page cache, from swap, or new, with a reference for the caller.

        *sgp*: SGP_READ gives the zero page for a hole, SGP_CACHE a new page within the file's size, SGP_WRITE beyond it
        too. *locked*, if given, is the file's page (in the cache, locked, perhaps not up to date) that is to be filled.
        Returns (0, frame), or (-errno, None): EINVAL beyond the end, EFBIG, ENOSPC, ENOMEM, EIO.
        kernel: mm/shmem.c:shmem_getpage
        """
        if idx >= SHMEM_MAX_INDEX:
            return -EFBIG, None
        filemap, mem = self.kernel.filemap, self.kernel.mem
        filepage: int | None = locked
        while True:
            if filepage is None:
                filepage = filemap.find_lock_page(inode.i_mapping, idx)
            if filepage is not None and mem.flags[filepage] & UPTODATE:
                break
            entry = self.shmem_swp_alloc(shmem_i(inode), idx, sgp)
            if isinstance(entry, int):
                return self._failed(entry, locked, filepage)
            table, slot = entry
            if table[slot]:
                error, filepage, again = self._swap_in(inode, idx, sgp, filepage, entry)
            elif sgp == SGP_READ and filepage is None:
                filepage = filemap.find_get_page(inode.i_mapping, idx)
                error, again = 0, False
                if filepage is not None and (not mem.flags[filepage] & UPTODATE or filemap.try_lock_page(filepage)):
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
        if filepage is None:
            if (ev := self.on_event) is not None:
                ev(("shmem_hole", inode.i_ino, idx))
            return 0, self.kernel.empty_zero_page
        filemap.unlock_page(filepage)
        return 0, filepage

    def _failed(self, error: int, locked: int | None, filepage: int | None) -> tuple[int, None]:
        """Let go of a page that we found ourselves."""
        if filepage is not None and filepage != locked:
            self.kernel.filemap.unlock_page(filepage)
            self.kernel.put_page(filepage)
        return error, None

    def _swap_in(self, inode: Inode, idx: int, sgp: int, filepage: int | None, entry: tuple[Any, int]) -> tuple[int, int | None, bool]:
        """The page is in swap: read it, and move it from the swap cache to the file's. Returns (errno, page, whether to start again)."""
        kernel, info = self.kernel, shmem_i(inode)
        filemap, swap_state, mem = kernel.filemap, kernel.swap_state, kernel.mem
        table, slot = entry
        swap: int = table[slot]
        swappage: int | None = swap_state.lookup_swap_cache(swap)
        if swappage is None:
            kernel.memory.swapin_readahead(swap)
            swappage = swap_state.read_swap_cache_async(swap)
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
        if not mem.flags[swappage] & UPTODATE:
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            return -EIO, filepage, False
        swap_state.delete_from_swap_cache(swappage)
        if filepage is not None:
            table[slot] = 0
            info.swapped -= 1
            kernel.highmem.copy_highpage(filepage, swappage)
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
        elif filemap.add_to_page_cache_unique(swappage, inode.i_mapping, idx) == 0:
            table[slot] = 0
            info.swapped -= 1
            filepage = swappage
        else:
            if swap_state.add_to_swap_cache(swappage, swap) != 0:
                raise KernelBug("shmem_getpage", f"frame {swappage} is neither in the file's cache nor in swap's", "cache")
            mem.flags[swappage] |= UPTODATE | DIRTY
            filemap.unlock_page(swappage)
            kernel.put_page(swappage)
            return 0, None, True
        mem.flags[filepage] |= UPTODATE | DIRTY
        kernel.swapfile.swap_free(swap)
        if (ev := self.on_event) is not None:
            ev(("shmem_from_swap", inode.i_ino, idx, filepage, swap))
        return 0, filepage, False

    def _new_page(self, inode: Inode, idx: int, sgp: int, filepage: int | None) -> tuple[int, int | None, bool]:
        """The page is nowhere: a new one (or *filepage*) full of zeroes. Returns (errno, page, whether to start again)."""
        kernel = self.kernel
        if sb_info(inode.i_sb).free_blocks == 0:
            return -ENOSPC, filepage, False
        self.take_block(inode)
        if filepage is None:
            filepage = kernel.filemap.page_cache_alloc(inode.i_mapping)
            if filepage is None:
                self.shmem_free_block(inode)
                return -ENOMEM, None, False
            # The allocation may have slept: the file may have been cut, the page swapped out or made by another.
            entry = self.shmem_swp_alloc(shmem_i(inode), idx, sgp)
            error = entry if isinstance(entry, int) else 0
            if isinstance(entry, int) or entry[0][entry[1]] or kernel.filemap.add_to_page_cache_unique(filepage, inode.i_mapping, idx) != 0:
                kernel.put_page(filepage)
                self.shmem_free_block(inode)
                return error, None, True
        kernel.highmem.clear_highpage(filepage)
        kernel.mem.flags[filepage] |= UPTODATE
        if (ev := self.on_event) is not None:
            ev(("shmem_new_page", inode.i_ino, idx, filepage))
        return 0, filepage, False

    # -- mapping ------------------------------------------------------------------------------

    def shmem_nopage(self, vma: VmArea, address: int, unused: int = 0) -> int:
        """The page for a fault at *address*, or NOPAGE_OOM, or NOPAGE_SIGBUS beyond the file's end. kernel: mm/shmem.c:shmem_nopage"""
        assert vma.vm_file is not None
        idx = (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff
        error, page = self.shmem_getpage(vma.vm_file.inode, idx, SGP_CACHE)
        if page is None:
            return NOPAGE_OOM if error == -ENOMEM else NOPAGE_SIGBUS
        self.kernel.filemap.mark_page_accessed(page)
        return page

    def shmem_mmap(self, file: File, vma: VmArea) -> int:
        """Map a file: 0, or -EACCES for what is no regular file. kernel: mm/shmem.c:shmem_mmap"""
        if file.inode.i_mode & S_IFMT != S_IFREG:
            return -EACCES
        file.inode.i_atime = current_time(self.kernel)
        vma.vm_ops = self.vm_ops
        return 0

    def shmem_lock(self, file: File, lock: bool) -> None:
        """Keep the file's pages out of swap, or no longer. kernel: mm/shmem.c:shmem_lock"""
        info = shmem_i(file.inode)
        info.flags = info.flags | VM_LOCKED if lock else info.flags & ~VM_LOCKED

    def shmem_notify_change(self, inode: Inode, attr: Iattr) -> int:
        """Change size, owner or mode. Returns 0 or an errno. kernel: mm/shmem.c:shmem_notify_change"""
        page = None
        if attr.ia_valid & ATTR_SIZE and attr.ia_size < inode.i_size and attr.ia_size & PAGE_SIZE - 1:
            # The last page is cleared from the new end on: hold it in memory until that is done.
            _, page = self.shmem_getpage(inode, attr.ia_size >> PAGE_SHIFT, SGP_READ)
        error = inode_change_ok(self.kernel.current, inode, attr)
        if not error:
            error = inode_setattr(self.kernel, inode, attr)
        if page is not None:
            self.kernel.put_page(page)
        return error

    # -- files without a name -------------------------------------------------------------------

    def shmem_file_setup(self, name: str, size: int) -> File | int:
        """An open file of *size* bytes that is in no directory; *name* is for people.

        Returns -EINVAL when it is too large for any file, -ENOMEM when it would overcommit memory, -ENOSPC.
        kernel: mm/shmem.c:shmem_file_setup
        """
        if size > SHMEM_MAX_BYTES:
            return -EINVAL
        # PAGE_CACHE_MASK is a 32-bit mask: of a size beyond 4 GiB the kernel looks at the low 32 bits only.
        if not self.kernel.mmap.vm_enough_memory((size + PAGE_SIZE - 1 & PAGE_CACHE_MASK) >> PAGE_SHIFT):
            return -ENOMEM
        ident = FIRST_FILE_ID + self.nr_filps
        self.nr_filps += 1
        root, address = self.shm_mnt.s_root, 0
        dentry = None
        if root is not None:
            dentry = self.kernel.dcache.d_alloc(root, name)
            address = self.kernel.file_table.get_empty_filp() if dentry is not None else 0
            if not address:
                self.kernel.dcache.dput(dentry)
                return -ENOMEM if dentry is None else -ENFILE
        inode = self.shmem_get_inode(self.shm_mnt, S_IFREG | S_IRWXUGO)
        if inode is None:
            if dentry is not None:
                self.kernel.file_table.put_filp(address)
                self.kernel.dcache.dput(dentry)
            return -ENOSPC
        inode.name = name
        inode.label = ident
        inode.i_size = size
        inode.i_nlink = 0
        file = File(inode, FMODE_READ | FMODE_WRITE, self.file_ops)
        file.ident = ident
        if dentry is not None:
            self.kernel.dcache.d_instantiate(dentry, inode)
            file.address, file.f_dentry = address, dentry
        if (ev := self.on_event) is not None:
            ev(("shmem_file", inode.i_ino, size, name))
        return file

    def shmem_zero_setup(self, vma: VmArea) -> int:
        """Give a shared anonymous mapping its file: 0 or an errno. kernel: mm/shmem.c:shmem_zero_setup"""
        file = self.shmem_file_setup("dev/zero", vma.vm_end - vma.vm_start)
        if isinstance(file, int):
            return file
        if vma.vm_file is not None:
            fput(self.kernel, vma.vm_file)
        vma.vm_file = file
        vma.vm_ops = self.vm_ops
        return 0
