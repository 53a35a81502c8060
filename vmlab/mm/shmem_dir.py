"""The directories of tmpfs: names, links, limits, mount options.

Names are kept in memory only, so a directory has no pages; it pretends to be 20 bytes long for each name.
An entry holds a reference of its inode. kernel: mm/shmem.c
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import KernelBug, KernelPanic
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from .errno import EINVAL, ENAMETOOLONG, ENOSPC, ENOTEMPTY, EPERM
from .page_flags import PG_dirty
from .shmem_io import ShmemIo
from .shmem_swap import SGP_READ, SGP_WRITE, ShmemSbInfo, sb_info, shmem_i
from .vfs import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_IRWXUGO, S_ISVTX, current_time, iput

if TYPE_CHECKING:
    from .dcache import Dentry
    from .fs import Inode, InodeOps, SuperBlock

BOGO_DIRENT_SIZE = 20  # bytes that a name adds to its directory's size
SIZEOF_SHMEM_INODE_INFO = 92  # bytes; shorter link texts are kept in its place
NAME_MAX = 255
TMPFS_MAGIC = 0x01021994


class StatFs(NamedTuple):
    """What statfs(2) tells; blocks are pages. kernel: include/asm-i386/statfs.h:statfs"""

    f_type: int
    f_bsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_namelen: int


class MountOptions:
    """What ``mount -o`` said."""

    def __init__(self, blocks: int, inodes: int, uid: int = 0, gid: int = 0) -> None:
        self.blocks, self.inodes = blocks, inodes
        self.mode = S_IRWXUGO | S_ISVTX
        self.uid, self.gid = uid, gid


class ShmemDir(ShmemIo):
    """Operations on directories; each returns 0 or an errno."""

    if TYPE_CHECKING:

        def shmem_get_inode(self, sb: SuperBlock, mode: int) -> Inode | None:
            """In shmem.py."""

        def new_super(self, blocks: int, inodes: int) -> SuperBlock:
            """In shmem.py."""

        symlink_ops: InodeOps
        shm_mnt: SuperBlock
        mounts: dict[str, SuperBlock]

    # -- names --------------------------------------------------------------------------------

    def _touch(self, *inodes: Inode) -> None:
        now = current_time(self.kernel)
        for inode in inodes:
            inode.i_ctime = inode.i_mtime = now

    def shmem_mknod(self, directory: Inode, name: str, mode: int) -> int:
        """A new file or directory called *name*. kernel: mm/shmem.c:shmem_mknod"""
        sb = directory.i_sb
        assert sb is not None
        inode = self.shmem_get_inode(sb, mode)
        if inode is None:
            return -ENOSPC
        inode.name = name
        self._enter(directory, name, inode)
        return 0

    def lookup(self, directory: Inode, name: str) -> Inode | None:
        """What *directory* has under *name*; where there is a dentry cache, by the cache, which remembers that there is nothing too.

        kernel: mm/shmem.c:shmem_lookup, fs/namei.c:cached_lookup, real_lookup
        """
        parent = shmem_i(directory).dentry
        if parent is None:
            return shmem_i(directory).names.get(name)
        dcache = self.kernel.dcache
        dentry = dcache.d_lookup(parent, name) or self._negative(parent, name)
        if dentry is None:
            return None
        dcache.dput(dentry)
        return dentry.d_inode

    def _negative(self, parent: Dentry, name: str) -> Dentry | None:
        dentry = self.kernel.dcache.d_alloc(parent, name)
        if dentry is not None:
            self.kernel.dcache.d_add(dentry, None)
        return dentry

    def _instantiate(self, directory: Inode, name: str, inode: Inode) -> None:
        """The entry of a new name; it is pinned, for it is all there is of the name. kernel: mm/shmem.c:shmem_mknod"""
        parent = shmem_i(directory).dentry
        if parent is None:
            return
        dcache = self.kernel.dcache
        dentry = dcache.find(parent, name)
        dentry = self._negative(parent, name) if dentry is None else dcache.dget(dentry)
        if dentry is None:
            raise KernelPanic(f"tmpfs: no memory for the directory entry of {name}")
        dcache.d_instantiate(dentry, inode)
        if inode.i_mode & S_IFMT == S_IFDIR:
            shmem_i(inode).dentry = dentry

    def init_root(self) -> None:
        """The top of the internal instance, where there is a dentry cache. kernel: mm/shmem.c:init_tmpfs, shmem_read_super"""
        root = self.shmem_get_inode(self.shm_mnt, S_IFDIR | S_IRWXUGO)
        if root is not None:
            self.shm_mnt.s_root = shmem_i(root).dentry = self.kernel.dcache.d_alloc_root(root)

    def _enter(self, directory: Inode, name: str, inode: Inode, moved: bool = False) -> None:
        if not moved:
            self._instantiate(directory, name, inode)
        directory.i_size += BOGO_DIRENT_SIZE
        self._touch(directory)
        shmem_i(directory).names[name] = inode
        if inode.i_mode & S_IFMT == S_IFDIR:
            shmem_i(inode).parent = directory

    def shmem_mkdir(self, directory: Inode, name: str, mode: int) -> int:
        """kernel: mm/shmem.c:shmem_mkdir"""
        error = self.shmem_mknod(directory, name, mode | S_IFDIR)
        if not error:
            directory.i_nlink += 1
        return error

    def shmem_create(self, directory: Inode, name: str, mode: int) -> int:
        """kernel: mm/shmem.c:shmem_create"""
        return self.shmem_mknod(directory, name, mode | S_IFREG)

    def shmem_link(self, inode: Inode, directory: Inode, name: str) -> int:
        """One more name for a file; -EPERM for a directory. kernel: mm/shmem.c:shmem_link"""
        if inode.i_mode & S_IFMT == S_IFDIR:
            return -EPERM
        inode.i_nlink += 1
        inode.i_count += 1
        inode.i_ctime = current_time(self.kernel)
        self._enter(directory, name, inode)
        return 0

    def shmem_empty(self, inode: Inode | None) -> bool:
        """Whether there is nothing in it (there is nothing in a file). kernel: mm/shmem.c:shmem_empty"""
        return inode is None or not shmem_i(inode).names

    def shmem_unlink(self, directory: Inode, name: str) -> int:
        """Take a name away; the file goes with its last name, once nobody has it open. kernel: mm/shmem.c:shmem_unlink"""
        inode = shmem_i(directory).names.pop(name)
        directory.i_size -= BOGO_DIRENT_SIZE
        inode.i_ctime = current_time(self.kernel)
        self._touch(directory)
        inode.i_nlink -= 1
        parent = shmem_i(directory).dentry
        if parent is None:
            iput(self.kernel, inode)
            return 0
        dcache = self.kernel.dcache
        dentry = dcache.find(parent, name)
        if dentry is None:
            raise KernelBug("shmem_unlink", f"{name!r} has no directory entry", "dentry")
        if inode.i_mode & S_IFMT == S_IFDIR:
            dcache.shrink_dcache_parent(dentry)  # what vfs_rmdir does
            dcache.d_drop(dentry)
        dcache.d_delete(dentry)
        dcache.dput(dentry)
        return 0

    def shmem_rmdir(self, directory: Inode, name: str) -> int:
        """Remove an empty directory; -ENOTEMPTY. kernel: mm/shmem.c:shmem_rmdir"""
        inode = shmem_i(directory).names[name]
        if not self.shmem_empty(inode):
            return -ENOTEMPTY
        directory.i_nlink -= 1
        return self.shmem_unlink(directory, name)

    def shmem_rename(self, old_dir: Inode, old_name: str, new_dir: Inode, new_name: str) -> int:
        """Move a name; what has the new name already is unlinked, unless it has entries. kernel: mm/shmem.c:shmem_rename"""
        inode = shmem_i(old_dir).names[old_name]
        target = shmem_i(new_dir).names.get(new_name)
        they_are_dirs = inode.i_mode & S_IFMT == S_IFDIR
        if not self.shmem_empty(target):
            return -ENOTEMPTY
        if target is not None:
            if they_are_dirs:
                old_dir.i_nlink -= 1
            self.shmem_unlink(new_dir, new_name)
        elif they_are_dirs:
            old_dir.i_nlink -= 1
            new_dir.i_nlink += 1
        del shmem_i(old_dir).names[old_name]
        old_dir.i_size -= BOGO_DIRENT_SIZE
        inode.name = new_name
        self._move_entry(old_dir, old_name, new_dir, new_name)
        self._enter(new_dir, new_name, inode, moved=True)
        self._touch(old_dir)
        inode.i_ctime = current_time(self.kernel)
        return 0

    def _move_entry(self, old_dir: Inode, old_name: str, new_dir: Inode, new_name: str) -> None:
        """The entry goes with the name; the one that had the new name is no more. kernel: fs/namei.c:vfs_rename"""
        old_parent, new_parent = shmem_i(old_dir).dentry, shmem_i(new_dir).dentry
        if old_parent is None or new_parent is None:
            return
        dcache = self.kernel.dcache
        dentry = dcache.find(old_parent, old_name)
        target = dcache.find(new_parent, new_name)
        target = self._negative(new_parent, new_name) if target is None else dcache.dget(target)
        if dentry is None or target is None:
            raise KernelPanic(f"tmpfs: no directory entry to move {old_name} to {new_name}")
        dcache.d_move(dentry, target)
        dcache.dput(target)

    # -- symbolic links -------------------------------------------------------------------------

    def shmem_symlink(self, directory: Inode, name: str, target: str) -> int:
        """A symbolic link: a short text stays in the inode, a long one takes a page. kernel: mm/shmem.c:shmem_symlink"""
        kernel, sb = self.kernel, directory.i_sb
        assert sb is not None
        text = target.encode() + b"\0"
        if len(text) > PAGE_SIZE:
            return -ENAMETOOLONG
        inode = self.shmem_get_inode(sb, S_IFLNK | S_IRWXUGO)
        if inode is None:
            return -ENOSPC
        inode.name = name
        inode.i_size = len(text) - 1
        if len(text) <= SIZEOF_SHMEM_INODE_INFO:
            shmem_i(inode).link = target
        else:
            error, page = self.shmem_getpage(inode, 0, SGP_WRITE)
            if page is None:
                iput(kernel, inode)
                return error
            inode.i_op = self.symlink_ops
            self.shmem_inodes.append(shmem_i(inode))
            kernel.highmem.kmap(page)
            kernel.ram.write(page << PAGE_SHIFT, text)
            kernel.highmem.kunmap(page)
            kernel.mem.flags[page] |= 1 << PG_dirty
            kernel.put_page(page)
        self._enter(directory, name, inode)
        return 0

    def shmem_readlink(self, inode: Inode) -> str | int:
        """A link's text, or an errno. kernel: mm/shmem.c:shmem_readlink, shmem_readlink_inline, shmem_follow_link"""
        link = shmem_i(inode).link
        if link is not None:
            return link
        kernel = self.kernel
        error, page = self.shmem_getpage(inode, 0, SGP_READ)
        if page is None:
            return error
        kernel.highmem.kmap(page)
        text = kernel.ram.read(page << PAGE_SHIFT, inode.i_size)
        kernel.highmem.kunmap(page)
        kernel.filemap.mark_page_accessed(page)
        kernel.put_page(page)
        return text.decode()

    # -- the file system as a whole -------------------------------------------------------------

    def shmem_read_super(self, options: str) -> SuperBlock | int:
        """A new tmpfs, by default at most half of memory; -EINVAL for bad options. kernel: mm/shmem.c:shmem_read_super"""
        kernel = self.kernel
        half = kernel.totalram_pages // 2
        given = MountOptions(half, half, kernel.current.euid, kernel.current.egid)
        if not self.shmem_parse_options(options, given):
            return -EINVAL
        sb = self.new_super(given.blocks, given.inodes)
        root = self.shmem_get_inode(sb, S_IFDIR | given.mode)
        if root is None:
            return -EINVAL
        root.i_uid, root.i_gid = given.uid, given.gid
        root.name = "/"
        sb_info(sb).root = root
        if kernel.config.vfs:
            sb.s_root = shmem_i(root).dentry = kernel.dcache.d_alloc_root(root)
        return sb

    def shmem_set_size(self, info: ShmemSbInfo, max_blocks: int, max_inodes: int) -> int:
        """New limits: 0, or -EINVAL when more is in use than they allow. kernel: mm/shmem.c:shmem_set_size"""
        blocks = info.max_blocks - info.free_blocks
        inodes = info.max_inodes - info.free_inodes
        if max_blocks < blocks or max_inodes < inodes:
            return -EINVAL
        info.max_blocks, info.free_blocks = max_blocks, max_blocks - blocks
        info.max_inodes, info.free_inodes = max_inodes, max_inodes - inodes
        return 0

    def shmem_remount_fs(self, sb: SuperBlock, options: str) -> int:
        """Change the limits. kernel: mm/shmem.c:shmem_remount_fs"""
        info = sb_info(sb)
        given = MountOptions(info.max_blocks, info.max_inodes)
        if not self.shmem_parse_options(options, given):
            return -EINVAL
        return self.shmem_set_size(info, given.blocks, given.inodes)

    def shmem_statfs(self, sb: SuperBlock) -> StatFs:
        """kernel: mm/shmem.c:shmem_statfs"""
        info = sb_info(sb)
        free = info.free_blocks
        return StatFs(TMPFS_MAGIC, PAGE_SIZE, info.max_blocks, free, free, info.max_inodes, info.free_inodes, NAME_MAX)

    def shmem_parse_options(self, options: str, given: MountOptions) -> bool:
        """Read ``size=10M,nr_inodes=1k,mode=700…`` into *given*; False, and a message, when something in it is wrong.

        ``size`` is in bytes (K, M, G) or ``%`` of memory, ``nr_blocks`` in pages. kernel: mm/shmem.c:shmem_parse_options
        """
        for option in filter(None, options.split(",")):
            key, equals, value = option.partition("=")
            if not equals:
                self.kernel.printk(3, f"tmpfs: No value for mount option '{key}'\n")
                return False
            if key not in ("size", "nr_blocks", "nr_inodes", "mode", "uid", "gid"):
                self.kernel.printk(3, f"tmpfs: Bad mount option {key}\n")
                return False
            number, rest = (
                memparse(value) if key in ("size", "nr_blocks", "nr_inodes") else simple_strtoul(value, 8 if key == "mode" else 0)
            )
            if key == "size":
                if rest.startswith("%"):
                    number = (number << PAGE_SHIFT) * self.kernel.totalram_pages // 100
                    rest = rest[1:]
                number >>= PAGE_SHIFT
            if rest:
                self.kernel.printk(3, f"tmpfs: Bad value '{value}' for mount option '{key}'\n")
                return False
            setattr(given, {"size": "blocks", "nr_blocks": "blocks", "nr_inodes": "inodes"}.get(key, key), number & M32)
        return True


def simple_strtoul(text: str, base: int = 0) -> tuple[int, str]:
    """The number *text* begins with (0 without one) and what follows it. kernel: lib/vsprintf.c:simple_strtoul, simple_strtoull"""
    if base == 0:
        base = 10
        if text[:1] == "0":
            base = 8
            if text[1:2] == "x" and re.match("[0-9a-fA-F]", text[2:]):
                base, text = 16, text[2:]
    digits = re.match({8: "[0-7]*", 10: "[0-9]*", 16: "[0-9a-fA-F]*"}[base], text)
    assert digits is not None
    return int(digits.group() or "0", base), text[digits.end() :]


def memparse(text: str) -> tuple[int, str]:
    """A number with K, M or G behind it, and what follows. kernel: lib/cmdline.c:memparse"""
    number, rest = simple_strtoul(text)
    shift = {"K": 10, "M": 20, "G": 30}.get(rest[:1].upper(), 0)
    return (number << shift) & 0xFFFFFFFFFFFFFFFF, rest[1:] if shift else rest
