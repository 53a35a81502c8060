"""Open files: where their structures come from and go to; and memory for path names.

A ``struct file`` (slab cache "filp") is never given back to the slab: it goes to a free list, of which the last ten
are root's. A path name is copied from user space into a page of the slab cache "names_cache" for the time of a system call.
kernel: fs/file_table.c, fs/dcache.c:vfs_caches_init
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SIZE
from .gfp import GFP_ATOMIC, GFP_KERNEL
from .kernel import Part
from .slab_cache import SLAB_HWCACHE_ALIGN, KmemCache, function_name

if TYPE_CHECKING:
    from .fs import File
    from .kernel import Kernel

__all__ = ["FileTable"]

SIZEOF_BUFFER_HEAD, SIZEOF_FILE, SIZEOF_VFSMOUNT = 88, 104, 60  # bytes
SIZEOF_BLOCK_DEVICE, SIZEOF_CHAR_DEVICE, SIZEOF_KIOBUF = 52, 36, 52
PATH_MAX = 4096
NR_FILE = 8192  # the least that max_files can be
NR_RESERVED_FILES = 10  # for root


def init_buffer_head(address: int, cachep: KmemCache, flags: int) -> None:
    """The constructor of a buffer head; its contents are not kept in the machine's memory. kernel: fs/dcache.c:init_buffer_head"""


def init_once(address: int, cachep: KmemCache, flags: int) -> None:
    """The constructor of block and character devices. kernel: fs/block_dev.c:init_once"""


for _function in (init_buffer_head, init_once):
    function_name(_function)  # so that a saved machine finds it


class FileTable(Part):
    """Structures of open files."""

    state_names = ("buffer_hash_pfn", "free_list", "max_files", "mount_hash_pfn", "nr_files", "nr_free_files", "old_max")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.max_files = NR_FILE
        self.nr_files = self.nr_free_files = 0
        self.old_max = 0  # the limit that was reported last
        self.free_list: list[int] = []  # addresses; the *last* is the list's head
        self.buffer_hash_pfn = 0  # first frame of the buffer cache's hash table
        self.mount_hash_pfn = 0

    def vfs_caches_init(self, mempages: int) -> None:
        """Make the slab caches and hash tables of the file layer. kernel: fs/dcache.c:vfs_caches_init"""
        kernel, slab = self.kernel, self.kernel.slab
        slab.keep_cache("buffer_head", SIZEOF_BUFFER_HEAD, SLAB_HWCACHE_ALIGN, init_buffer_head)
        slab.keep_cache("names_cache", PATH_MAX, SLAB_HWCACHE_ALIGN)
        slab.keep_cache("filp", SIZEOF_FILE, SLAB_HWCACHE_ALIGN)
        kernel.dcache.dcache_init(mempages)
        kernel.icache.inode_init(mempages)
        self.files_init(mempages)
        self.mnt_init(mempages)
        slab.keep_cache("bdev_cache", SIZEOF_BLOCK_DEVICE, SLAB_HWCACHE_ALIGN, init_once)
        slab.keep_cache("cdev_cache", SIZEOF_CHAR_DEVICE, SLAB_HWCACHE_ALIGN, init_once)
        slab.keep_cache("kiobuf", SIZEOF_KIOBUF, SLAB_HWCACHE_ALIGN)

    def files_init(self, mempages: int) -> None:
        """At most a tenth of memory for files, at a kilobyte each. kernel: fs/file_table.c:files_init"""
        self.max_files = max(NR_FILE, mempages * (PAGE_SIZE // 1024) // 10)

    def mnt_init(self, mempages: int) -> None:
        """The cache and the hash table of mounted file systems, and the root of ours. kernel: fs/namespace.c:mnt_init"""
        from .dcache import hash_table

        kernel = self.kernel
        cachep = kernel.slab.keep_cache("mnt_cache", SIZEOF_VFSMOUNT, SLAB_HWCACHE_ALIGN)
        self.mount_hash_pfn, _ = hash_table(kernel, "Mount cache", mempages, 16)
        kernel.slab.kmem_cache_alloc(cachep, GFP_KERNEL)
        kernel.diskfs.mount_root()

    def buffer_init(self, mempages: int) -> None:
        """The hash table of the buffer cache, a pointer for each 16384 pages of memory, but counted as pages.

        kernel: fs/buffer.c:buffer_init
        """
        order = 0
        while 1 << order < (mempages >> 14) * 4:
            order += 1
        pfn = self.kernel.page_allocator.alloc_pages(GFP_ATOMIC, order)
        while pfn is None and order > 1:
            order -= 1
            pfn = self.kernel.page_allocator.alloc_pages(GFP_ATOMIC, order)
        size = PAGE_SIZE << order
        self.kernel.printk(6, f"Buffer cache hash table entries: {size // 4} (order: {order}, {size} bytes)")
        self.buffer_hash_pfn = pfn or 0

    # -- open files ---------------------------------------------------------------------------

    def get_empty_filp(self) -> int:
        """Address of an unused struct file; 0 when there are too many open files, or no memory. kernel: fs/file_table.c:get_empty_filp"""
        kernel = self.kernel
        if self.nr_free_files > NR_RESERVED_FILES or (self.nr_free_files and not kernel.current.euid):
            self.nr_free_files -= 1
            return self.free_list.pop()
        if self.nr_files < self.max_files:
            address: int = kernel.slab.kmem_cache_alloc(kernel.slab.state.named["filp"], GFP_KERNEL)
            if address:
                self.nr_files += 1
                return address
            kernel.printk(4, "VFS: filp allocation failed")
        elif self.max_files > self.old_max:
            kernel.printk(6, f"VFS: file-max limit {self.max_files} reached")
            self.old_max = self.max_files
        return 0

    def put(self, file: File) -> None:
        """The structure of a closed file is free, and the name it was opened by is let go. kernel: fs/file_table.c:fput"""
        dentry, file.f_dentry = file.f_dentry, None
        if file.address:
            self.free_list.append(file.address)
            self.nr_free_files += 1
            file.address = 0
        self.kernel.dcache.dput(dentry)

    def put_filp(self, address: int) -> None:
        """The same for one that was never opened. kernel: fs/file_table.c:put_filp"""
        self.free_list.append(address)
        self.nr_free_files += 1

    # -- path names ---------------------------------------------------------------------------

    def getname(self) -> int:
        """A page for a path name: its address; 0 without memory, and on a machine without a file layer. kernel: fs/namei.c:getname"""
        cachep = self.kernel.slab.state.named.get("names_cache")
        return 0 if cachep is None else int(self.kernel.slab.kmem_cache_alloc(cachep, GFP_KERNEL))

    def putname(self, address: int) -> None:
        """Give it back. kernel: include/linux/fs.h:putname"""
        if address:
            self.kernel.slab.kmem_cache_free(self.kernel.slab.state.named["names_cache"], address)

    def file_nr(self) -> str:
        """The text of /proc/sys/fs/file-nr: structures, free ones, the most there may be."""
        return f"{self.nr_files}\t{self.nr_free_files}\t{self.max_files}\n"

    def __repr__(self) -> str:
        return f"<FileTable {self.nr_files} structures, {self.nr_free_files} of them free>"
