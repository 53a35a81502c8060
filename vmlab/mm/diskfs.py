"""A simple file system: flat, every file on a small disk of its own, page n of the file on page n of that disk.

Two kinds of files live here and share their code. Those people make (``create``) keep their data: writing part of a page
reads the rest of it from the disk first, and written pages go to the file's dirty list. The traces' "fake files"
(``fake_file``) do nearly as ramfs does: what a write leaves of a page appears from the disk at once, without a transfer, and
only the page's dirty bit is set, so that fsync does not find it and reclaim alone writes it out.

kernel: none (the VFS side of one; compare fs/ramfs/inode.c)
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import KernelPanic
from ..hw.disk import Disk, FileDisk, NumberedDisk
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .block import READ, WRITE
from .errno import EINVAL, EIO, ENOENT, ENOMEM
from .filemap_cache import DIRTY, ERROR, PAGE_MASK, UPTODATE
from .fs import FMODE_READ, FMODE_WRITE, AddressSpaceOps, File, FileOps, Inode, InodeOps, SuperBlock, SuperOps
from .kernel import Part
from .vfs import Iattr, clear_inode, fput, get_write_access, inode_setattr, iput, new_inode, open_dentry, open_file

if TYPE_CHECKING:
    from pathlib import Path

    from .dcache import Dentry
    from .kernel import Kernel
    from .vm import VmArea

__all__ = ["DiskFs", "FileInfo"]

S_APPEND = 8  # include/linux/fs.h of 2.4.22
MAX_FILE_BYTES = 0x7FFFFFFF

# Mode bits of a fake file beyond FMODE_READ and FMODE_WRITE.
NO_MMAP, NO_WRITEPAGE, APPEND_ONLY = 4, 8, 16


class FileInfo:
    """The file system's record of a file: which disk it is on. kernel: none"""

    def __init__(self, disk: int) -> None:
        self.disk = disk

    def __repr__(self) -> str:
        return f"<FileInfo on disk {self.disk}>"


class FakeFileAops(AddressSpaceOps):
    """Pages of a fake file, and what all files share."""

    name = "fake_file_aops"

    def readpage(self, file: File | None, pfn: int) -> int:
        """Start reading a locked page. Returns 0. kernel: fs/buffer.c:block_read_full_page"""
        inode, index = self.kernel.diskfs.host(pfn)
        return self.kernel.block.file_io(READ, pfn, inode.info.disk, index, inode.label)

    def writepage(self, pfn: int) -> int:
        """Start writing a locked page. Returns 0. kernel: fs/buffer.c:block_write_full_page"""
        inode, index = self.kernel.diskfs.host(pfn)
        return self.kernel.block.file_io(WRITE, pfn, inode.info.disk, index, inode.label)

    def prepare_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """Make a locked page ready for a write of bytes [start, to). Returns 0. kernel: fs/ramfs/inode.c:ramfs_prepare_write"""
        kernel = self.kernel
        kernel.highmem.kmap(pfn)
        if not kernel.mem.flags[pfn] & UPTODATE:
            inode, index = kernel.diskfs.host(pfn)
            kernel.block.transfer(READ, pfn, inode.info.disk, index)
            kernel.mem.flags[pfn] |= UPTODATE
        kernel.mem.flags[pfn] |= DIRTY
        return 0

    def commit_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """The write is done; the file may have grown. Returns 0. kernel: fs/ramfs/inode.c:ramfs_commit_write"""
        kernel = self.kernel
        inode, index = kernel.diskfs.host(pfn)
        kernel.highmem.kunmap(pfn)
        inode.i_size = max(inode.i_size, (index << PAGE_SHIFT) + to)
        return 0


class FakeFileAopsNoWrite(FakeFileAops):
    """A fake file that cannot be written back."""

    name = "fake_file_aops_nowrite"
    writepage: Any = None


class DiskFsAops(FakeFileAops):
    """Pages of a file people made."""

    name = "diskfs_aops"

    def readpage(self, file: File | None, pfn: int) -> int:
        """Start reading a locked page; a hole at the end of the file is zeroes at once. Returns 0.

        kernel: fs/buffer.c:block_read_full_page
        """
        kernel = self.kernel
        inode, index = kernel.diskfs.host(pfn)
        if index < kernel.block.disks[inode.info.disk].npages:
            return super().readpage(file, pfn)
        kernel.diskfs.zero_page(pfn)
        kernel.filemap.unlock_page(pfn)
        return 0

    def writepage(self, pfn: int) -> int:
        """Start writing a locked page, giving the file room for it if it has none yet. Returns 0.

        kernel: fs/buffer.c:block_write_full_page
        """
        inode, index = self.kernel.diskfs.host(pfn)
        disk = self.kernel.block.disks[inode.info.disk]
        if index >= disk.npages:
            disk.resize(index + 1)
        return super().writepage(pfn)

    def sync_page(self, pfn: int) -> int:
        """kernel: fs/buffer.c:block_sync_page"""
        return self.kernel.block.sync_page(pfn)

    def prepare_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """Read what the write will not replace. Returns 0, or EIO (5). kernel: fs/buffer.c:block_prepare_write"""
        kernel = self.kernel
        filemap = kernel.filemap
        inode, index = kernel.diskfs.host(pfn)
        if kernel.mem.flags[pfn] & UPTODATE:
            return 0
        if start == 0 and to == PAGE_SIZE or index << PAGE_SHIFT >= inode.i_size:
            kernel.diskfs.zero_page(pfn)
            return 0
        self.readpage(file, pfn)
        filemap.wait_on_page(pfn)
        filemap.lock_page(pfn)
        if kernel.mem.flags[pfn] & UPTODATE:
            return 0
        kernel.mem.flags[pfn] &= ~ERROR
        return -EIO

    def commit_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """The page is dirty now, and the file may have grown. Returns 0. kernel: fs/buffer.c:generic_commit_write"""
        kernel = self.kernel
        inode, index = kernel.diskfs.host(pfn)
        kernel.filemap.set_page_dirty(pfn)
        inode.i_size = max(inode.i_size, (index << PAGE_SHIFT) + to)
        kernel.icache.mark_inode_dirty(inode)
        return 0


class DiskFsFileOps(FileOps):
    """An open file: everything by the generic functions."""

    name = "diskfs_file_operations"

    def read(self, file: File, buf: int | bytearray | None, count: int) -> int:
        """kernel: mm/filemap.c:generic_file_read"""
        return self.kernel.filemap.generic_file_read(file, buf, count)

    def write(self, file: File, buf: int | bytes | None, count: int) -> int:
        """kernel: mm/filemap.c:generic_file_write"""
        return self.kernel.filemap.generic_file_write(file, buf, count)

    def mmap(self, file: File, vma: VmArea) -> int:
        """kernel: mm/filemap.c:generic_file_mmap"""
        return self.kernel.filemap.generic_file_mmap(file, vma)

    def fsync(self, file: File) -> int:
        """Nothing beyond the data pages, which the caller writes. Returns 0. kernel: fs/buffer.c:file_fsync"""
        return 0


class FakeFileOpsNoMmap(DiskFsFileOps):
    """An open file that cannot be mapped."""

    name = "fake_file_operations_nommap"
    mmap: Any = None


class DiskFsInodeOps(InodeOps):
    """What changes of size mean on the disk."""

    name = "diskfs_inode_operations"

    def truncate(self, inode: Inode) -> None:
        """Give back, or add, pages of the file's disk; what is cut from the last page is zeroed. kernel: none"""
        self.kernel.icache.mark_inode_dirty(inode)
        disk = self.kernel.block.disks[inode.info.disk]
        disk.resize((inode.i_size + PAGE_MASK) >> PAGE_SHIFT)
        rest = inode.i_size & PAGE_MASK
        if rest:
            with suppress(OSError):  # a page that cannot be read is of no use anyway
                disk.write_bytes(inode.i_size, bytes(PAGE_SIZE - rest))


class DiskFsSuperOps(SuperOps):
    """The end of a file."""

    name = "diskfs_super_operations"

    def delete_inode(self, inode: Inode) -> None:
        """The last name and the last user are gone: the disk space is free. kernel: none"""
        self.kernel.block.remove_disk(inode.info.disk)
        clear_inode(self.kernel, inode)


class DiskFs(Part):
    """All files by name, and the calls to make, open and remove them.

    Numbers returned are 0 or negative errnos, as from a system call, unless a method says otherwise.
    """

    state_names = ("files", "next_ino", "sb")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.files: dict[str, Inode] = {}
        self.next_ino = 1
        self.file_ops: FileOps = DiskFsFileOps(kernel)
        self.nommap_ops: FileOps = FakeFileOpsNoMmap(kernel)
        self.inode_ops: InodeOps = DiskFsInodeOps(kernel)
        self.aops: AddressSpaceOps = DiskFsAops(kernel)
        self.fake_aops: AddressSpaceOps = FakeFileAops(kernel)
        self.fake_aops_nowrite: AddressSpaceOps = FakeFileAopsNoWrite(kernel)
        self.sb = SuperBlock(DiskFsSuperOps(kernel), MAX_FILE_BYTES)

    # -- for the address_space operations -----------------------------------------------------

    def host(self, pfn: int) -> tuple[Inode, int]:
        """The file and the page of it that a cached frame holds."""
        mem = self.kernel.mem
        inode = self.kernel.mappings[mem.mapping[pfn]].host
        assert inode is not None
        return inode, mem.index[pfn]

    def zero_page(self, pfn: int) -> None:
        """Fill the page with zeroes: that is its right contents. kernel: fs/ramfs/inode.c:ramfs_readpage"""
        self.kernel.highmem.clear_highpage(pfn)
        self.kernel.mem.flags[pfn] |= UPTODATE

    def bmap(self, inode: Inode, page: int) -> tuple[int, int] | None:
        """Where page *page* of the file is: (disk, page on it), None beyond its end. kernel: fs/inode.c:bmap"""
        disk: int = inode.info.disk
        return (disk, page) if page < self.kernel.block.disks[disk].npages else None

    # -- the users' calls ---------------------------------------------------------------------

    def create(self, name: str, data: bytes | int = b"", disk: Disk | None = None) -> Inode:
        """Make a file called *name* that holds *data* (or so many zero bytes), or the contents of *disk*.

        Raises ValueError for an empty name, one that exists, or too much data.
        """
        if not name or name in self.files:
            raise ValueError(f"{name!r}: a new file needs a name that is not taken yet")
        size = data if isinstance(data, int) else len(data)
        if not 0 <= size <= MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes: a file has 0 to {MAX_FILE_BYTES} bytes")
        if disk is None:
            disk = Disk((size + PAGE_MASK) >> PAGE_SHIFT, name)
            if isinstance(data, bytes):
                disk.write_bytes(0, data)
        else:
            size = disk.npages << PAGE_SHIFT
        inode = self._new_inode(name, size, disk, self.aops)
        self.files[name] = inode
        if self.kernel.config.vfs:
            inode.i_count = 0  # it is on the disk now, but not in memory
            self._forget(name)
        return inode

    def create_from_host(self, name: str, path: str | Path) -> Inode:
        """Make a file with the contents of the host's file *path*, whose size it has. The host's file is only read.

        Raises OSError when it cannot be read, ValueError for a name that is taken.
        """
        from pathlib import Path as HostPath

        inode = self.create(name, disk=FileDisk(path, name))
        inode.i_size = HostPath(path).stat().st_size
        return inode

    def _new_inode(self, name: str, size: int, disk: Disk, a_ops: AddressSpaceOps) -> Inode:
        inode = new_inode(self.kernel, self.next_ino, 0o100644, a_ops, self.sb)
        self.next_ino += 1
        inode.name = name
        inode.i_size = size
        inode.i_fop = self.file_ops
        inode.info = FileInfo(self.kernel.block.add_file_disk(disk))
        if a_ops is self.aops:
            inode.i_op = self.inode_ops
        return inode

    def lookup(self, name: str) -> Inode | None:
        """The file called *name*, or None."""
        return self.files.get(name)

    def open(self, name: str, f_mode: int = FMODE_READ, f_flags: int = 0) -> File | int:
        """Open a file: FMODE_READ, FMODE_WRITE or both. Returns a File, or ENOENT (2), ETXTBSY (26) negated.

        kernel: fs/open.c:dentry_open
        """
        if self.kernel.config.vfs:
            dentry = self.path_lookup(name)
            return dentry if isinstance(dentry, int) else open_dentry(self.kernel, dentry, f_mode, f_flags)
        inode = self.files.get(name)
        if inode is None:
            return -ENOENT
        if f_mode & FMODE_WRITE:
            error = get_write_access(inode)
            if error:
                return error
        return open_file(inode, f_mode, inode.i_fop, f_flags)

    def close(self, file: File) -> None:
        """Close an open file (mappings of it keep it alive). kernel: fs/open.c:filp_close"""
        fput(self.kernel, file)

    def read(self, file: File, count: int) -> bytes | int:
        """Up to *count* bytes from the file's position, or a negative errno. kernel: fs/read_write.c:sys_read"""
        if not file.f_mode & FMODE_READ or file.f_op is None or file.f_op.read is None:
            return -EINVAL
        buf = bytearray()
        ret: int = file.f_op.read(file, buf, count)
        return bytes(buf) if ret >= 0 else ret

    def write(self, file: File, data: bytes) -> int:
        """Write at the file's position; returns the bytes written or a negative errno. kernel: fs/read_write.c:sys_write"""
        if not file.f_mode & FMODE_WRITE or file.f_op is None or file.f_op.write is None:
            return -EINVAL
        ret: int = file.f_op.write(file, data, len(data))
        return ret

    def lseek(self, file: File, offset: int) -> int:
        """Set the file's position, in bytes from its start; returns it, or EINVAL. kernel: fs/read_write.c:generic_file_llseek"""
        if not 0 <= offset <= MAX_FILE_BYTES:
            return -EINVAL
        if offset != file.f_pos:
            file.f_pos = offset
            file.f_reada = 0
        return offset

    def truncate(self, name: str, size: int) -> int:
        """Make the file *size* bytes long. Returns 0, ENOENT, EINVAL or EFBIG. kernel: fs/open.c:do_sys_truncate"""
        inode = self.files.get(name)
        dentry = self.path_lookup(name) if self.kernel.config.vfs else None
        if isinstance(dentry, int):
            return dentry
        if inode is None:
            return -ENOENT
        error = -EINVAL if size < 0 else inode_setattr(self.kernel, inode, Iattr(8, size))
        self.kernel.dcache.dput(dentry)
        return error

    def fsync(self, file: File) -> int:
        """Write the file's dirty pages and wait for them. Returns 0 or a negative errno. kernel: fs/buffer.c:sys_fsync"""
        filemap = self.kernel.filemap
        mapping = file.inode.i_mapping
        ret = filemap.filemap_fdatasync(mapping)
        if file.f_op is not None and file.f_op.fsync is not None:
            err: int = file.f_op.fsync(file)
            ret = ret or err
        waited = filemap.filemap_fdatawait(mapping)
        return ret or waited

    def unlink(self, name: str) -> int:
        """Take the name away; the file lives on while it is open or mapped. Returns 0 or ENOENT. kernel: fs/namei.c:vfs_unlink"""
        if self.kernel.config.vfs:
            dentry = self.path_lookup(name)
            if isinstance(dentry, int):
                return dentry
            self.files.pop(name).i_nlink = 0
            self.kernel.dcache.d_delete(dentry)
            self.kernel.dcache.dput(dentry)
            return 0
        inode = self.files.pop(name, None)
        if inode is None:
            return -ENOENT
        inode.i_nlink = 0
        iput(self.kernel, inode)
        return 0

    # -- names, where there is a dentry cache -------------------------------------------------

    def mount_root(self) -> None:
        """Make "/", the only directory. kernel: fs/super.c:mount_root"""
        kernel = self.kernel
        root = new_inode(kernel, self.next_ino, 0o040755, self.aops, self.sb)
        self.next_ino += 1
        root.name = "/"
        if not kernel.icache.new_inode(root):
            raise KernelPanic("VFS: Unable to mount root fs")
        self.sb.s_root = kernel.dcache.d_alloc_root(root)

    def vfs_create(self, name: str) -> int:
        """A new empty file: its entry, negative until now, gets an inode. Returns 0 or -ENOMEM. kernel: fs/namei.c:vfs_create"""
        kernel = self.kernel
        if not kernel.config.vfs:
            self.create(name)
            return 0
        dcache, root = kernel.dcache, self.sb.s_root
        assert root is not None
        dentry = dcache.d_lookup(root, name)
        if dentry is None:
            dentry = dcache.d_alloc(root, name)
            if dentry is None:
                return -ENOMEM
            dcache.d_rehash(dentry)
        inode = self._new_inode(name, 0, Disk(0, name), self.aops)
        error = -ENOMEM
        if kernel.icache.new_inode(inode):
            kernel.icache.insert_inode_hash(inode)
            kernel.icache.mark_inode_dirty(inode)
            self.files[name] = inode
            dcache.d_instantiate(dentry, inode)
            error = 0
        else:
            kernel.block.remove_disk(inode.info.disk)
        dcache.dput(dentry)
        return error

    def path_lookup(self, name: str) -> Dentry | int:
        """The entry of a file that exists, with a reference for the caller; -ENOENT (a negative entry stays), -ENOMEM.

        kernel: fs/namei.c:path_lookup, cached_lookup, real_lookup
        """
        kernel, dcache, root = self.kernel, self.kernel.dcache, self.sb.s_root
        assert root is not None
        dentry = dcache.d_lookup(root, name)
        if dentry is None:
            dentry = dcache.d_alloc(root, name)
            if dentry is None:
                return -ENOMEM
            inode = self.files.get(name)
            if inode is not None and not kernel.icache.iget(inode):
                dcache.dput(dentry)
                return -ENOMEM
            dcache.d_add(dentry, inode)
        if dentry.d_inode is None:
            dcache.dput(dentry)
            return -ENOENT
        return dentry

    def _forget(self, name: str) -> None:
        """Somebody put a file on the disk from outside: a negative entry that says there is none must go."""
        dcache, root = self.kernel.dcache, self.sb.s_root
        dentry = dcache.find(root, name) if root is not None else None
        if dentry is not None:
            dcache.dget(dentry)
            dcache.d_drop(dentry)
            dcache.dput(dentry)

    def listing(self) -> list[tuple[str, int, int]]:
        """(name, bytes, pages cached) of every file, in the order they were made."""
        return [(name, inode.i_size, inode.i_mapping.nrpages) for name, inode in self.files.items()]

    def __repr__(self) -> str:
        return f"<DiskFs {len(self.files)} files: {', '.join(self.files)}>"

    # -- the traces' files --------------------------------------------------------------------

    def fake_file(self, fd: int, npages: int, size: int, mode: int) -> File:
        """The traces' ``file`` operation: a file of *size* bytes on a disk of *npages* pages.

        Page i of the disk begins with the word 0x46000000 + fd * 0x10000 + i.

        *mode* is FMODE_READ | FMODE_WRITE, plus 4: cannot be mapped, 8: no writepage, 16: append only.
        """
        disk = NumberedDisk(npages, 0x46000000 + fd * 0x10000, f"file {fd}")
        inode = self._new_inode(f"file {fd}", size, disk, self.fake_aops_nowrite if mode & NO_WRITEPAGE else self.fake_aops)
        inode.label = fd
        if mode & NO_MMAP:
            inode.i_fop = self.nommap_ops
        if mode & APPEND_ONLY:
            inode.i_flags |= S_APPEND
        file = File(inode, mode & (FMODE_READ | FMODE_WRITE), inode.i_fop)
        file.ident = fd
        return file
