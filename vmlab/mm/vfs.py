"""Files and inodes coming and going: reference counts, and what happens at the last one.

On a machine without the file layer's caches (``vfs=False``) there is no dcache. Where the kernel's directory entry pins
an inode, the reference is counted in ``i_count`` then: one for each name, one for each open file. With them, dcache.py,
icache.py and file_table.py do this work.

kernel: fs/file_table.c, fs/inode.c, fs/attr.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .errno import ENFILE, EPERM, ETXTBSY
from .fs import FMODE_WRITE, AddressSpaceOps, File, FileOps, Inode, SuperBlock
from .gfp import GFP_HIGHUSER
from .task import CAP_CHOWN, CAP_FOWNER, CAP_FSETID, HZ

if TYPE_CHECKING:
    from .dcache import Dentry
    from .kernel import Kernel
    from .task import Task

S_IFMT, S_IFLNK, S_IFREG, S_IFDIR = 0o170000, 0o120000, 0o100000, 0o040000
S_ISUID, S_ISGID, S_ISVTX, S_IXGRP, S_IRWXUGO = 0o4000, 0o2000, 0o1000, 0o010, 0o777

I_FREEING = 16
I_CLEAR = 32

ATTR_MODE, ATTR_UID, ATTR_GID, ATTR_SIZE = 1, 2, 4, 8


class Iattr:
    """Attributes to change, those whose ATTR_ bit is in ``ia_valid``. kernel: include/linux/fs.h:iattr"""

    def __init__(self, ia_valid: int, ia_size: int = 0, ia_mode: int = 0, ia_uid: int = 0, ia_gid: int = 0) -> None:
        self.ia_valid = ia_valid
        self.ia_size = ia_size  # bytes
        self.ia_mode = ia_mode
        self.ia_uid = ia_uid
        self.ia_gid = ia_gid


def current_time(kernel: Kernel) -> int:
    """Seconds since power-on: this machine has no clock but jiffies. kernel: include/linux/sched.h:CURRENT_TIME"""
    jiffies: int = kernel.sched.jiffies
    return jiffies // HZ


def new_inode(kernel: Kernel, ino: int, mode: int, a_ops: AddressSpaceOps, sb: SuperBlock | None = None) -> Inode:
    """An inode with an empty page cache of its own. kernel: fs/inode.c:new_inode, alloc_inode"""
    inode = Inode(ino, mode)
    inode.i_sb = sb
    inode.i_mapping = kernel.address_space(kernel, inode, a_ops)
    inode.i_mapping.gfp_mask = GFP_HIGHUSER
    return inode


def clear_inode(kernel: Kernel, inode: Inode) -> None:
    """The inode is dead; its page cache must be empty.

    Raises KernelBug when pages are left.
    kernel: fs/inode.c:clear_inode
    """
    mapping = inode.i_mapping
    if mapping.nrpages:
        raise KernelBug("clear_inode", f"{mapping.nrpages} pages of {inode!r} are still cached", "nrpages")
    inode.i_state = I_CLEAR
    kernel.mappings.pop(mapping.id, None)
    for head in (mapping.clean_pages, mapping.dirty_pages, mapping.locked_pages):
        if head:  # 2.6 has no such lists
            kernel.mem.list.drop_head(head)


def iput(kernel: Kernel, inode: Inode) -> None:
    """Drop a reference; the last one of an inode without names deletes the file and frees its pages.

    kernel: fs/inode.c:iput
    """
    if inode.address:
        kernel.icache.iput(inode)
        return
    if inode.i_state == I_CLEAR:
        raise KernelBug("iput", f"{inode!r} is already dead", "clear")
    s_op = inode.i_sb.s_op if inode.i_sb is not None else None
    if s_op is not None and s_op.put_inode is not None:
        s_op.put_inode(inode)
    inode.i_count -= 1
    if inode.i_count or inode.i_nlink:
        return  # still in use, or kept in the inode cache
    inode.i_state |= I_FREEING
    if inode.i_mapping.nrpages:
        kernel.filemap.truncate_inode_pages(inode.i_mapping, 0)
    if s_op is not None and s_op.delete_inode is not None:
        s_op.delete_inode(inode)
    else:
        clear_inode(kernel, inode)
    if inode.i_state != I_CLEAR:
        raise KernelBug("iput", f"delete_inode left {inode!r} alive", "not clear")


def force_delete(inode: Inode) -> None:
    """File systems without a disk forget a file with its last reference. kernel: fs/inode.c:force_delete"""
    if inode.i_count == 1:
        inode.i_nlink = 0


def get_file(file: File) -> None:
    """Take a reference. kernel: include/linux/file.h:get_file"""
    file.f_count += 1


def fput(kernel: Kernel, file: File) -> None:
    """Drop a reference; the last one closes the file. kernel: fs/file_table.c:fput"""
    file.f_count -= 1
    if file.f_count:
        return
    if file.f_mode & FMODE_WRITE:
        put_write_access(file.inode)
    if file.f_dentry is not None:
        kernel.file_table.put(file)
    else:
        iput(kernel, file.inode)


def get_write_access(inode: Inode) -> int:
    """Someone opens the file for writing: 0, or ETXTBSY (26) while a program runs from it. kernel: fs/namei.c:get_write_access"""
    if inode.i_writecount < 0:
        return -ETXTBSY
    inode.i_writecount += 1
    return 0


def put_write_access(inode: Inode) -> None:
    """A writer is gone. kernel: include/linux/fs.h:put_write_access"""
    inode.i_writecount -= 1


def deny_write_access(file: File) -> int:
    """Nobody may write the file from now on: 0, or ETXTBSY (26) when somebody does. kernel: fs/namei.c:deny_write_access"""
    if file.inode.i_writecount > 0:
        return -ETXTBSY
    file.inode.i_writecount -= 1
    return 0


def allow_write_access(file: File | None) -> None:
    """Undo deny_write_access. kernel: include/linux/fs.h:allow_write_access"""
    if file is not None:
        file.inode.i_writecount += 1


def open_file(inode: Inode, f_mode: int, f_op: FileOps | None, f_flags: int = 0) -> File:
    """An open file that holds a reference of *inode*. kernel: fs/open.c:dentry_open"""
    inode.i_count += 1
    return File(inode, f_mode, f_op, f_flags)


def open_dentry(kernel: Kernel, dentry: Dentry, f_mode: int, f_flags: int = 0) -> File | int:
    """An open file of a name that exists; the caller's reference of the entry becomes the file's, or is dropped.

    Returns -ENFILE (23) when there are too many open files, -ETXTBSY (26) for writing to a running program.
    kernel: fs/open.c:dentry_open
    """
    inode = dentry.d_inode
    assert inode is not None
    error = -ENFILE
    address = kernel.file_table.get_empty_filp()
    if address:
        error = get_write_access(inode) if f_mode & FMODE_WRITE else 0
        if not error:
            file = File(inode, f_mode, inode.i_fop, f_flags)
            file.address, file.f_dentry = address, dentry
            return file
        kernel.file_table.put_filp(address)
    kernel.dcache.dput(dentry)
    return error


def inode_change_ok(task: Task, inode: Inode, attr: Iattr) -> int:
    """Whether *task* may change these attributes: 0 or EPERM (1). kernel: fs/attr.c:inode_change_ok"""
    owner = task.uid == inode.i_uid or task.capable(CAP_FOWNER)
    if attr.ia_valid & ATTR_UID and not (attr.ia_uid == inode.i_uid and task.uid == inode.i_uid) and not task.capable(CAP_CHOWN):
        return -EPERM
    if attr.ia_valid & ATTR_GID and not owner:
        return -EPERM
    if attr.ia_valid & ATTR_MODE and not owner:
        return -EPERM
    return 0


def inode_setattr(kernel: Kernel, inode: Inode, attr: Iattr) -> int:
    """Change the attributes; a change of size goes through vmtruncate. Returns 0 or an errno. kernel: fs/attr.c:inode_setattr"""
    if attr.ia_valid & ATTR_SIZE:
        error: int = kernel.memory.vmtruncate(inode, attr.ia_size)
        if error:
            return error
    if attr.ia_valid & ATTR_UID:
        inode.i_uid = attr.ia_uid
    if attr.ia_valid & ATTR_GID:
        inode.i_gid = attr.ia_gid
    if attr.ia_valid & ATTR_MODE:
        inode.i_mode = (inode.i_mode & S_IFMT) | (attr.ia_mode & 0o7777)
    return 0


def notify_change(kernel: Kernel, inode: Inode, attr: Iattr) -> int:
    """Change the attributes as the inode's file system wants it done. Returns 0 or an errno. kernel: fs/attr.c:notify_change"""
    if inode.i_op is not None and inode.i_op.setattr is not None:
        return int(inode.i_op.setattr(inode, attr))
    return inode_change_ok(kernel.current, inode, attr) or inode_setattr(kernel, inode, attr)


def remove_suid(task: Task, inode: Inode) -> None:
    """Writing takes a file's set-user-id bits away. kernel: mm/filemap.c:remove_suid"""
    mode = S_ISUID | (S_ISGID if inode.i_mode & S_IXGRP else 0)
    if inode.i_mode & mode and not task.capable(CAP_FSETID):
        inode.i_mode &= ~mode
