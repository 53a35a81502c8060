"""Paths of a tmpfs: walking directories and symbolic links, and who may. kernel: fs/namei.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errno import EACCES, EBUSY, EEXIST, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from .fs import Inode
from .shmem_dir import NAME_MAX
from .shmem_swap import sb_info, shmem_i
from .task import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
from .vfs import S_IFDIR, S_IFLNK, S_IFMT, S_ISVTX

if TYPE_CHECKING:
    from .fs import SuperBlock
    from .kernel import Kernel

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4
MAX_NESTED_LINKS = 5


class TmpfsPaths:
    """The tmpfs mounted as *name*, and what its paths lead to."""

    def __init__(self, kernel: Kernel, name: str = "/dev/shm") -> None:
        self.kernel = kernel
        self.name = name

    @property
    def sb(self) -> SuperBlock:
        """The super block. Raises KeyError when it is no longer mounted."""
        return self.kernel.shmem.mounts[self.name]

    @property
    def root(self) -> Inode:
        """The top directory."""
        root = sb_info(self.sb).root
        assert root is not None
        return root

    def __repr__(self) -> str:
        return f"<tmpfs {self.name}: {sb_info(self.sb)!r}>"

    def permission(self, inode: Inode, mask: int) -> int:
        """0 if the current task may read, write or search it (*mask*: MAY_ bits), else -EACCES. kernel: fs/namei.c:vfs_permission"""
        current = self.kernel.current
        mode = inode.i_mode
        if current.euid == inode.i_uid:
            mode >>= 6
        elif inode.i_gid == current.egid or inode.i_gid in current.groups:
            mode >>= 3
        if mode & mask == mask:
            return 0
        is_dir = inode.i_mode & S_IFMT == S_IFDIR
        if current.capable(CAP_DAC_OVERRIDE) and (not mask & MAY_EXEC or is_dir or inode.i_mode & 0o111):
            return 0
        if current.capable(CAP_DAC_READ_SEARCH) and (mask == MAY_READ or (is_dir and not mask & MAY_WRITE)):
            return 0
        return -EACCES

    def path_walk(self, path: str, follow: bool = True, depth: int = 0) -> Inode | int:
        """The inode at *path*, or -ENOENT, -ENOTDIR, -EACCES, -ELOOP, -ENAMETOOLONG. kernel: fs/namei.c:path_walk, link_path_walk"""
        found = self._parent(path, depth)
        if isinstance(found, int):
            return found
        directory, name = found
        if not name:
            return directory
        inode = self._step(directory, name, follow or path.endswith("/"), depth)
        if isinstance(inode, Inode) and path.endswith("/") and inode.i_mode & S_IFMT != S_IFDIR:
            return -ENOTDIR
        return inode

    def _step(self, directory: Inode, name: str, follow: bool, depth: int) -> Inode | int:
        """One component: what *directory* has under *name*."""
        if directory.i_mode & S_IFMT != S_IFDIR:
            return -ENOTDIR
        if error := self.permission(directory, MAY_EXEC):
            return error
        if len(name.encode()) > NAME_MAX:
            return -ENAMETOOLONG
        if name == ".":
            return directory
        if name == "..":
            return shmem_i(directory).parent
        inode = self.kernel.shmem.lookup(directory, name)
        if inode is None:
            return -ENOENT
        if not follow or inode.i_mode & S_IFMT != S_IFLNK:
            return inode
        if depth >= MAX_NESTED_LINKS:
            return -ELOOP
        target = self.kernel.shmem.shmem_readlink(inode)
        if isinstance(target, int):
            return target
        return self._from(directory, target, depth + 1)

    def _from(self, directory: Inode, path: str, depth: int) -> Inode | int:
        """The inode at *path* as seen from *directory*: what a link's text means."""
        if not path:
            return -ENOENT
        at = self.root if path.startswith("/") else directory
        for part in filter(None, path.split("/")):
            found = self._step(at, part, True, depth)
            if isinstance(found, int):
                return found
            at = found
        return at

    def _parent(self, path: str, depth: int = 0, start: Inode | None = None) -> tuple[Inode, str] | int:
        """The directory that has (or would have) the last component of *path* (as seen from *start*), and that component."""
        if not path:
            return -ENOENT
        parts = [part for part in path.split("/") if part]
        if not parts:
            return self.root, ""
        base = self.root if start is None or path.startswith("/") else start
        directory = self._from(base, "/".join(parts[:-1]) or ".", depth)
        if isinstance(directory, int):
            return directory
        if directory.i_mode & S_IFMT != S_IFDIR:
            return -ENOTDIR
        return directory, parts[-1]

    def _new_name(self, path: str, is_dir: bool = False) -> tuple[Inode, str] | int:
        """Where a new name can be made: its directory and the name. Only a directory's may end in a slash.

        kernel: fs/namei.c:lookup_create, may_create
        """
        found = self._parent(path)
        if isinstance(found, int):
            return found
        directory, name = found
        if name in ("", ".", ".."):
            return -EEXIST
        there = self._step(directory, name, False, 0)
        if isinstance(there, Inode):
            return -EEXIST
        if there != -ENOENT or (path.endswith("/") and not is_dir):
            return there
        return self.permission(directory, MAY_WRITE | MAY_EXEC) or found

    def open_namei_create(self, path: str, exclusive: bool) -> tuple[Inode, str, Inode | None] | int:
        """Directory, name and (if there is one) inode of the file that open(O_CREAT) means: links are followed to their end.

        Returns -EISDIR for a directory, -EEXIST if it had to be new. kernel: fs/namei.c:open_namei
        """
        start: Inode | None = None
        for depth in range(MAX_NESTED_LINKS + 1):
            found = self._parent(path, depth, start)
            if isinstance(found, int):
                return found
            directory, name = found
            if name in ("", ".", "..") or path.endswith("/"):
                return -EISDIR
            inode = self._step(directory, name, False, 0)
            if isinstance(inode, int):
                return (directory, name, None) if inode == -ENOENT else inode
            if exclusive:
                return -EEXIST
            if inode.i_mode & S_IFMT != S_IFLNK:
                return -EISDIR if inode.i_mode & S_IFMT == S_IFDIR else (directory, name, inode)
            text = self.kernel.shmem.shmem_readlink(inode)
            if isinstance(text, int):
                return text
            path, start = text, directory
        return -ELOOP

    def may_delete(self, directory: Inode, victim: Inode, isdir: bool) -> int:
        """Whether the name may be taken away: 0, -EACCES, -EPERM (sticky), -ENOTDIR, -EISDIR, -EBUSY. kernel: fs/namei.c:may_delete"""
        if error := self.permission(directory, MAY_WRITE | MAY_EXEC):
            return error
        current = self.kernel.current
        if directory.i_mode & S_ISVTX and current.euid not in (victim.i_uid, directory.i_uid) and not current.capable(CAP_FOWNER):
            return -EPERM
        if (victim.i_mode & S_IFMT == S_IFDIR) != isdir:
            return -ENOTDIR if isdir else -EISDIR
        return -EBUSY if victim is self.root else 0

    def _existing(self, path: str, special: tuple[int, int, int]) -> tuple[Inode, str, Inode] | int:
        """The directory, name and inode of a name that is to go; *special*: errnos for "/", "." and ".."."""
        found = self._parent(path)
        if isinstance(found, int):
            return found
        directory, name = found
        if name in ("", ".", ".."):
            return -special[("", ".", "..").index(name)]
        inode = self._step(directory, name, False, 0)
        return inode if isinstance(inode, int) else (directory, name, inode)

    def _inside(self, directory: Inode, ancestor: Inode) -> bool:
        while directory is not ancestor:
            if directory is self.root:
                return False
            directory = shmem_i(directory).parent
        return True
