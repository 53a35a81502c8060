"""Reading, writing and the directories of tmpfs in 2.6. kernel: mm/shmem.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EINVAL, ENOSPC
from ..mm.shmem_dir import MountOptions, ShmemDir
from ..mm.shmem_io import ShmemIo
from ..mm.shmem_swap import SGP_READ, sb_info, shmem_i
from ..mm.vfs import S_IFDIR, S_IFMT, S_ISGID, current_time
from .shmem_swap import ShmemSbInfo26, ShmemSwap26, limits

if TYPE_CHECKING:
    from ..mm.filemap_read import ReadDescriptor
    from ..mm.fs import File, Inode, SuperBlock


class ShmemIo26(ShmemSwap26, ShmemIo):
    """File operations."""

    def mark_written(self, page: int) -> None:
        """In 2.6 a written page is dirty in its file's tree and may become active, as any page that is used; before that two bits were set.

        kernel: mm/shmem.c:shmem_file_write
        """
        filemap: Any = self.kernel.filemap
        filemap.set_page_dirty(page)
        filemap.mark_page_accessed(page)

    def shmem_commit_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """In 2.6 the page is dirty in its file's tree, because each file has one; before that only its bit was set.

        Bytes up to *to* of the page were written: the file may have grown. kernel: fs/libfs.c:simple_commit_write
        """
        inode = self._host(pfn)
        inode.i_size = max(inode.i_size, (self.kernel.mem.index[pfn] << PAGE_SHIFT) + to)
        self.kernel.filemap.set_page_dirty(pfn)
        return 0

    def do_shmem_file_read(self, file: File, desc: ReadDescriptor) -> None:
        """In 2.6 reading the beginning of a page is what counts as its use, because rereading was counted too much; before that also a
        first read anywhere.

        Copy pages from the file's position on to where *desc* says, and move the position. kernel: mm/shmem.c:do_shmem_file_read
        """
        kernel, inode = self.kernel, file.inode
        index, offset = divmod(file.f_pos, PAGE_SIZE)
        while self._bytes_on(inode, index) > offset:
            error, page = self.shmem_getpage(inode, index, SGP_READ)
            if error:
                desc.error = 0 if error == -EINVAL else error
                break
            size = self._bytes_on(inode, index) - offset  # once more: the file may have been cut meanwhile
            if size <= 0:
                if page is not None:
                    kernel.put_page(page)
                break
            if page is None:
                page = kernel.empty_zero_page
            elif not offset:
                kernel.filemap.mark_page_accessed(page)
            done = kernel.filemap.file_read_actor(desc, page, offset, size)
            index, offset = divmod((index << PAGE_SHIFT) + offset + done, PAGE_SIZE)
            kernel.put_page(page)
            if done != size or not desc.count:
                break
        file.f_pos = (index << PAGE_SHIFT) + offset
        inode.i_atime = current_time(kernel)


class ShmemDir26(ShmemIo26, ShmemDir):
    """Operations on directories; each returns 0 or an errno."""

    def shmem_mknod(self, directory: Inode, name: str, mode: int) -> int:
        """In 2.6 a set-group-id directory hands its group down, because every other file system did so; before that not.

        A new file or directory called *name*. kernel: mm/shmem.c:shmem_mknod
        """
        error = super().shmem_mknod(directory, name, mode)
        if not error:
            self._inherit_group(directory, shmem_i(directory).names[name])
        return error

    @staticmethod
    def _inherit_group(directory: Inode, inode: Inode) -> None:
        if directory.i_mode & S_ISGID:
            inode.i_gid = directory.i_gid
            if inode.i_mode & S_IFMT == S_IFDIR:
                inode.i_mode |= S_ISGID

    def shmem_symlink(self, directory: Inode, name: str, target: str) -> int:
        """In 2.6 the directory's group goes to the link, because of :meth:`shmem_mknod`; before that not.

        kernel: mm/shmem.c:shmem_symlink
        """
        error = super().shmem_symlink(directory, name, target)
        if not error:
            self._inherit_group(directory, shmem_i(directory).names[name])
        return error

    def shmem_link(self, inode: Inode, directory: Inode, name: str) -> int:
        """In 2.6 a name counts as a file, because its directory entry is pinned in memory; before that names were free.

        One more name for a file; -EPERM for a directory, -ENOSPC. kernel: mm/shmem.c:shmem_link
        """
        sbinfo = limits(inode) if inode.i_mode & S_IFMT != S_IFDIR else None
        if sbinfo is not None:
            if not sbinfo.free_inodes:
                return -ENOSPC
            sbinfo.free_inodes -= 1
        return super().shmem_link(inode, directory, name)

    def shmem_unlink(self, directory: Inode, name: str) -> int:
        """In 2.6 a name counts as a file, because of :meth:`shmem_link`; before that names were free.

        Take a name away; the file goes with its last name, once nobody has it open. kernel: mm/shmem.c:shmem_unlink
        """
        inode = shmem_i(directory).names[name]
        sbinfo = limits(inode)
        if inode.i_nlink > 1 and inode.i_mode & S_IFMT != S_IFDIR and sbinfo is not None:
            sbinfo.free_inodes = sbinfo.free_inodes + 1 & M32
        return super().shmem_unlink(directory, name)

    # -- the file system as a whole -----------------------------------------------------------

    def shmem_read_super(self, options: str) -> SuperBlock | int:
        """In 2.6 at most half of memory for pages, but low memory's pages for files, because inodes lie there; before that half for both.

        A new tmpfs; size=0,nr_inodes=0: without limits. -EINVAL for bad options. kernel: mm/shmem.c:shmem_fill_super
        """
        kernel = self.kernel
        half = kernel.totalram_pages // 2
        given = MountOptions(half, min(half, kernel.totalram_pages - kernel.totalhigh_pages), kernel.current.euid, kernel.current.egid)
        if not self.shmem_parse_options(options, given):
            return -EINVAL
        sb = self.new_super(given.blocks, given.inodes)
        root = self.shmem_get_inode(sb, S_IFDIR | given.mode)
        if root is None:
            return -EINVAL
        root.i_uid, root.i_gid = given.uid, given.gid
        root.name = "/"
        sb_info(sb).root = root
        return sb

    def shmem_remount_fs(self, sb: SuperBlock, options: str) -> int:
        """In 2.6 limits cannot come or go, because what is used would have to be counted; before that there always were limits.

        Change the limits. kernel: mm/shmem.c:shmem_remount_fs
        """
        info = sb_info(sb)
        assert isinstance(info, ShmemSbInfo26)
        given = MountOptions(info.max_blocks, info.max_inodes)
        if not self.shmem_parse_options(options, given):
            return -EINVAL
        if bool(given.blocks or given.inodes) == info.unlimited:
            return -EINVAL
        return 0 if info.unlimited else self.shmem_set_size(info, given.blocks, given.inodes)
