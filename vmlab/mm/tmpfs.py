"""A mounted tmpfs, by path: what programs do with it, with the errno the kernel gives.

    tmp = tmpfs.mount(machine, "size=1M")
    tmp.mkdir("/a")
    file = tmp.open("/a/b", O_CREAT | O_RDWR)
    tmp.write(file, b"hello")

Every call runs as ``kernel.current`` and checks its rights. Calls return 0 (or what they are asked for), or a
negative errno. kernel: fs/namei.c, fs/open.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .errno import EBADF, EBUSY, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY
from .fs import FMODE_READ, FMODE_WRITE, File, Inode
from .shmem_dir import StatFs
from .shmem_swap import shmem_i
from .tmpfs_walk import MAY_EXEC, MAY_READ, MAY_WRITE, TmpfsPaths
from .vfs import (
    ATTR_GID,
    ATTR_MODE,
    ATTR_SIZE,
    ATTR_UID,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    Iattr,
    fput,
    get_write_access,
    inode_change_ok,
    inode_setattr,
    iput,
    open_dentry,
    open_file,
)

if TYPE_CHECKING:
    from .kernel import Kernel

O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE = 0, 1, 2, 3
O_CREAT, O_EXCL, O_TRUNC = 0o100, 0o200, 0o1000
O_LARGEFILE = 0o100000
SEEK_SET, SEEK_CUR, SEEK_END = range(3)


class Stat(NamedTuple):
    """What stat(2) tells. kernel: include/asm-i386/stat.h:stat"""

    st_ino: int
    st_mode: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blocks: int
    st_atime: int
    st_mtime: int
    st_ctime: int


def mount(kernel: Kernel, options: str = "", name: str = "/dev/shm") -> Tmpfs | int:
    """Mount a tmpfs with ``size=``, ``nr_blocks=``, ``nr_inodes=``, ``mode=``, ``uid=``, ``gid=``; *name* tells it from others.

    Returns -EINVAL for bad options, -EBUSY for a name that is taken.
    """
    if name in kernel.shmem.mounts:
        return -EBUSY
    sb = kernel.shmem.shmem_read_super(options)
    if isinstance(sb, int):
        return sb
    kernel.shmem.mounts[name] = sb
    return Tmpfs(kernel, name)


class Tmpfs(TmpfsPaths):
    """A handle on the tmpfs mounted as *name*; it finds the file system again after the machine was restored."""

    # -- names --------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int = 0o755) -> int:
        """Make a directory. kernel: fs/namei.c:sys_mkdir, vfs_mkdir"""
        found = self._new_name(path, is_dir=True)
        return found if isinstance(found, int) else self.kernel.shmem.shmem_mkdir(*found, mode & 0o1777)

    def create(self, path: str, mode: int = 0o644) -> int:
        """Make an empty file. kernel: fs/namei.c:vfs_create"""
        found = self._new_name(path)
        return found if isinstance(found, int) else self.kernel.shmem.shmem_create(*found, mode & 0o7777)

    def symlink(self, target: str, path: str) -> int:
        """Make a symbolic link at *path* that says *target*. kernel: fs/namei.c:sys_symlink, vfs_symlink"""
        if not target:
            return -ENOENT
        found = self._new_name(path)
        return found if isinstance(found, int) else self.kernel.shmem.shmem_symlink(*found, target)

    def link(self, old: str, new: str) -> int:
        """Give a file one more name. kernel: fs/namei.c:sys_link, vfs_link"""
        inode = self.path_walk(old, follow=False)
        if isinstance(inode, int):
            return inode
        found = self._new_name(new)
        return found if isinstance(found, int) else self.kernel.shmem.shmem_link(inode, *found)

    def unlink(self, path: str) -> int:
        """Take a file's name away. kernel: fs/namei.c:sys_unlink, vfs_unlink"""
        found = self._existing(path, (EISDIR, EISDIR, EISDIR))
        if isinstance(found, int):
            return found
        directory, name, inode = found
        if path.endswith("/"):
            return -EISDIR if inode.i_mode & S_IFMT == S_IFDIR else -ENOTDIR
        return self.may_delete(directory, inode, False) or self.kernel.shmem.shmem_unlink(directory, name)

    def rmdir(self, path: str) -> int:
        """Remove an empty directory. kernel: fs/namei.c:sys_rmdir, vfs_rmdir"""
        found = self._existing(path, (EBUSY, EINVAL, ENOTEMPTY))
        if isinstance(found, int):
            return found
        directory, name, inode = found
        return self.may_delete(directory, inode, True) or self.kernel.shmem.shmem_rmdir(directory, name)

    def rename(self, old: str, new: str) -> int:
        """Move a name; a file or an empty directory that has the new one goes. kernel: fs/namei.c:sys_rename, vfs_rename"""
        found = self._parent(old), self._parent(new)
        for place in found:
            if isinstance(place, int):
                return place
        for place in found:
            if not isinstance(place, int) and place[1] in ("", ".", ".."):
                return -EBUSY
        source = self._existing(old, (EBUSY, EBUSY, EBUSY))
        if isinstance(source, int) or isinstance(found[1], int):
            return source if isinstance(source, int) else -ENOENT
        old_dir, old_name, inode = source
        new_dir, new_name = found[1]
        isdir = inode.i_mode & S_IFMT == S_IFDIR
        if not isdir and (old.endswith("/") or new.endswith("/")):
            return -ENOTDIR
        target = self._step(new_dir, new_name, False, 0)
        if isinstance(target, int) and target != -ENOENT:
            return target
        if isdir and self._inside(new_dir, inode):
            return -EINVAL
        if isinstance(target, Inode) and target.i_mode & S_IFMT == S_IFDIR and self._inside(old_dir, target):
            return -ENOTEMPTY
        if target is inode:
            return 0
        error = self.may_delete(old_dir, inode, isdir)
        if not error and isinstance(target, Inode):
            error = self.may_delete(new_dir, target, isdir)
        elif not error:
            error = self.permission(new_dir, MAY_WRITE | MAY_EXEC)
        if not error and isdir and new_dir is not old_dir:
            error = self.permission(inode, MAY_WRITE)  # its ".." changes
        return error or self.kernel.shmem.shmem_rename(old_dir, old_name, new_dir, new_name)

    def readlink(self, path: str) -> str | int:
        """What a symbolic link says; -EINVAL for anything else. kernel: fs/stat.c:sys_readlink"""
        inode = self.path_walk(path, follow=False)
        if isinstance(inode, int):
            return inode
        return self.kernel.shmem.shmem_readlink(inode) if inode.i_mode & S_IFMT == S_IFLNK else -EINVAL

    def listdir(self, path: str = "/") -> list[str] | int:
        """The names in a directory, newest first as the kernel lists them. kernel: fs/readdir.c:dcache_readdir"""
        inode = self.path_walk(path)
        if isinstance(inode, int):
            return inode
        if inode.i_mode & S_IFMT != S_IFDIR:
            return -ENOTDIR
        return self.permission(inode, MAY_READ) or [".", "..", *reversed(shmem_i(inode).names)]

    def tree(self) -> str:
        """Everything in the file system, one line each, for people."""
        lines: list[str] = []
        self._tree(self.root, "", lines)
        return "\n".join(lines)

    def _tree(self, directory: Inode, prefix: str, lines: list[str]) -> None:
        for name, inode in shmem_i(directory).names.items():
            kind = inode.i_mode & S_IFMT
            where = "" if kind != S_IFREG else f", {inode.i_mapping.nrpages} pages cached, {shmem_i(inode).swapped} in swap"
            arrow = f" -> {self.kernel.shmem.shmem_readlink(inode)}" if kind == S_IFLNK else ""
            lines.append(f"{prefix}{name}{'/' if kind == S_IFDIR else ''}{arrow}  ({inode.i_size} bytes{where})")
            if kind == S_IFDIR:
                self._tree(inode, prefix + "    ", lines)

    # -- files --------------------------------------------------------------------------------

    def open(self, path: str, flags: int = O_RDONLY, mode: int = 0o644) -> File | int:
        """Open a file, made if O_CREAT says so. kernel: fs/open.c:sys_open, dentry_open, fs/namei.c:open_namei"""
        inode: Inode | int | None
        if flags & O_CREAT:
            found = self.open_namei_create(path, bool(flags & O_EXCL))
            if isinstance(found, int):
                return found
            directory, name, inode = found
            if inode is None:
                error = self.permission(directory, MAY_WRITE | MAY_EXEC)
                error = error or self.kernel.shmem.shmem_create(directory, name, mode & 0o7777)
                return error or self._opened(shmem_i(directory).names[name], flags)
        else:
            inode = self.path_walk(path)
        if isinstance(inode, int):
            return inode
        wanted = {O_RDONLY: MAY_READ, O_WRONLY: MAY_WRITE}.get(flags & O_ACCMODE, MAY_READ | MAY_WRITE)
        wanted |= MAY_WRITE if flags & O_TRUNC else 0
        if inode.i_mode & S_IFMT == S_IFDIR and wanted & MAY_WRITE:
            return -EISDIR
        if error := self.permission(inode, wanted):
            return error
        if flags & O_TRUNC and (error := self._truncate(inode, 0)):
            return error
        return self._opened(inode, flags)

    def _opened(self, inode: Inode, flags: int) -> File | int:
        f_mode = (flags + 1) & O_ACCMODE
        if self.kernel.config.vfs:
            dcache = self.kernel.dcache
            dentry = shmem_i(inode).dentry
            dentry = dcache.d_find_alias(inode) if dentry is None else dcache.dget(dentry)
            assert dentry is not None
            return open_dentry(self.kernel, dentry, f_mode, flags | O_LARGEFILE)
        if f_mode & FMODE_WRITE and (error := get_write_access(inode)):
            return error
        return open_file(inode, f_mode, inode.i_fop, flags | O_LARGEFILE)

    def close(self, file: File) -> int:
        """Close an open file. kernel: fs/open.c:filp_close"""
        fput(self.kernel, file)
        return 0

    def read(self, file: File, count: int, buf: int | None = None) -> bytes | int:
        """Read at the file's position: the bytes, or (with a user address *buf*) their number. kernel: fs/read_write.c:sys_read"""
        if not file.f_mode & FMODE_READ:
            return -EBADF
        if file.f_op is None or file.f_op.read is None:
            return -EISDIR
        target: int | bytearray = bytearray() if buf is None else buf
        done: int = file.f_op.read(file, target, count)
        return bytes(target) if isinstance(target, bytearray) and done >= 0 else done

    def write(self, file: File, data: int | bytes, count: int | None = None) -> int:
        """Write *data* (or *count* bytes at that user address) at the file's position. kernel: fs/read_write.c:sys_write"""
        if not file.f_mode & FMODE_WRITE:
            return -EBADF
        if file.f_op is None or file.f_op.write is None:
            return -EINVAL
        done: int = file.f_op.write(file, data, len(data) if isinstance(data, bytes) else count)
        return done

    def lseek(self, file: File, offset: int, whence: int = SEEK_SET) -> int:
        """Move the file's position; returns it. kernel: fs/read_write.c:default_llseek"""
        if whence not in (SEEK_SET, SEEK_CUR, SEEK_END):
            return -EINVAL
        position = offset + (0, file.f_pos, file.inode.i_size)[whence]
        if position < 0:
            return -EINVAL
        if position != file.f_pos:
            file.f_pos = position
            file.f_reada = 0
        return position

    def truncate(self, path: str, size: int) -> int:
        """Cut a file to *size* bytes, or extend it with a hole. kernel: fs/open.c:sys_truncate, do_truncate"""
        if size < 0:
            return -EINVAL
        inode = self.path_walk(path)
        if isinstance(inode, int):
            return inode
        kind = inode.i_mode & S_IFMT
        if kind == S_IFDIR:
            return -EISDIR
        return self.permission(inode, MAY_WRITE) or self._truncate(inode, size)

    def ftruncate(self, file: File, size: int) -> int:
        """The same for an open file; -EINVAL unless it is open for writing. kernel: fs/open.c:sys_ftruncate"""
        return -EINVAL if size < 0 or not file.f_mode & FMODE_WRITE else self._truncate(file.inode, size)

    def _truncate(self, inode: Inode, size: int) -> int:
        return self.kernel.shmem.shmem_notify_change(inode, Iattr(ATTR_SIZE, ia_size=size))

    def chmod(self, path: str, mode: int) -> int:
        """Change the rights. kernel: fs/open.c:sys_chmod"""
        return self._change(path, Iattr(ATTR_MODE, ia_mode=mode))

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Change the owner. kernel: fs/open.c:sys_chown"""
        return self._change(path, Iattr(ATTR_UID | ATTR_GID, ia_uid=uid, ia_gid=gid))

    def _change(self, path: str, attr: Iattr) -> int:
        inode = self.path_walk(path)
        if isinstance(inode, int):
            return inode
        return inode_change_ok(self.kernel.current, inode, attr) or inode_setattr(self.kernel, inode, attr)

    def stat(self, path: str, follow: bool = True) -> Stat | int:
        """What there is to know about a file. kernel: fs/stat.c:sys_stat, sys_lstat"""
        inode = self.path_walk(path, follow)
        if isinstance(inode, int):
            return inode
        times = inode.i_atime, inode.i_mtime, inode.i_ctime
        return Stat(inode.i_ino, inode.i_mode, inode.i_nlink, inode.i_uid, inode.i_gid, inode.i_size, inode.i_blocks, *times)

    # -- the whole ----------------------------------------------------------------------------

    def statfs(self) -> StatFs:
        """How much there is, and how much of it is free. kernel: fs/open.c:sys_statfs"""
        return self.kernel.shmem.shmem_statfs(self.sb)

    def remount(self, options: str) -> int:
        """Change the limits; -EINVAL when more is in use already. kernel: mm/shmem.c:shmem_remount_fs"""
        return self.kernel.shmem.shmem_remount_fs(self.sb, options)

    def umount(self) -> int:
        """Throw everything away; -EBUSY while a file is open. kernel: fs/super.c:do_umount, fs/dcache.c:d_genocide"""
        if self._busy(self.root):
            return -EBUSY
        self._genocide(self.root)
        root = shmem_i(self.root).dentry
        if root is None:
            iput(self.kernel, self.root)
        else:
            self.kernel.dcache.shrink_dcache_parent(root)
            self.kernel.dcache.dput(root)
        del self.kernel.shmem.mounts[self.name]
        return 0

    def _files(self, directory: Inode) -> list[Inode]:
        found = []
        for inode in shmem_i(directory).names.values():
            found.append(inode)
            if inode.i_mode & S_IFMT == S_IFDIR:
                found += self._files(inode)
        return found

    def _busy(self, root: Inode) -> bool:
        files = self._files(root)
        if shmem_i(root).dentry is not None:
            return any(d.d_count > 1 + len(d.d_subdirs) for inode in (root, *files) for d in inode.i_dentry)
        return any(inode.i_count > sum(other is inode for other in files) for inode in files)

    def _genocide(self, directory: Inode) -> None:
        for name, inode in list(shmem_i(directory).names.items()):
            if inode.i_mode & S_IFMT == S_IFDIR:
                self._genocide(inode)
            self.kernel.shmem.shmem_unlink(directory, name)
