"""What the memory manager sees of files: inodes, open files, and the pages cached for them.

kernel: include/linux/fs.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dcache import Dentry
    from .kernel import Kernel
    from .vm import VmArea

READ, WRITE = 0, 1  # directions of a transfer
FMODE_READ = 1
FMODE_WRITE = 2
O_APPEND = 0o2000

SWAPPER_SPACE_ID = 1


class Ops:
    """A table of methods (a_ops, vm_ops, f_op): one object of each class for a machine, found by ``name``.

    A method that a table leaves out is None here, as in the kernel.
    """

    name = ""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        kernel.ops[self.name] = self

    def __repr__(self) -> str:
        return f"<{self.name}>"


class AddressSpaceOps(Ops):
    """``struct address_space_operations``."""

    writepage: Any = None  # (pfn) -> int
    readpage: Any = None  # (file or None, pfn) -> int
    sync_page: Any = None  # (pfn) -> int
    prepare_write: Any = None  # (file, pfn, from, to) -> int
    commit_write: Any = None  # (file, pfn, from, to) -> int
    removepage: Any = None  # (pfn) -> None


class VmOps(Ops):
    """``struct vm_operations_struct``."""

    open: Any = None  # (vma) -> None
    close: Any = None  # (vma) -> None
    nopage: Any = None  # (vma, address, unused) -> frame, NOPAGE_SIGBUS or NOPAGE_OOM; 2.6: the third takes the kind of fault
    populate: Any = None  # 2.6: (vma, address, length, prot, pgoff, nonblock) -> int


class FileOps(Ops):
    """``struct file_operations``."""

    read: Any = None  # (file, buffer address, count) -> int
    write: Any = None
    mmap: Any = None  # (file, vma) -> int
    fsync: Any = None  # (file) -> int
    get_unmapped_area: Any = None  # (file, addr, len, pgoff, flags) -> int


class InodeOps(Ops):
    """``struct inode_operations``, as far as memory management calls it."""

    truncate: Any = None  # (inode) -> None
    setattr: Any = None  # (inode, Iattr) -> int


class SuperOps(Ops):
    """``struct super_operations``."""

    put_inode: Any = None  # (inode) -> None
    delete_inode: Any = None  # (inode) -> None


class SuperBlock:
    """One mounted file system. ``info`` is the file system's own record of it."""

    def __init__(self, s_op: SuperOps | None = None, s_maxbytes: int = 0x7FFFFFFF, s_magic: int = 0) -> None:
        self.s_op = s_op
        self.s_maxbytes = s_maxbytes  # of the largest file
        self.s_magic = s_magic
        self.info: Any = None
        self.s_root: Dentry | None = None  # its "/", where there is a dentry cache


NOPAGE_SIGBUS = 0
NOPAGE_OOM = -1


class AddressSpace:
    """Cached pages of one file (or of swap): ``mem.mapping[frame]`` holds its ``id``.

    The three page lists are heads in ``mem.list``; ``i_mmap`` and ``i_mmap_shared`` hold the
    areas that map it, the kernel's chain order (newest first).
    """

    def __init__(self, kernel: Kernel, host: Inode | None, a_ops: AddressSpaceOps, ident: int = 0) -> None:
        self.id = ident or kernel.new_mapping_id()
        kernel.mappings[self.id] = self
        self.clean_pages = kernel.mem.list.new_head()
        self.dirty_pages = kernel.mem.list.new_head()
        self.locked_pages = kernel.mem.list.new_head()
        self.nrpages = 0
        self.a_ops = a_ops
        self.host = host
        self.i_mmap: list[VmArea] = []
        self.i_mmap_shared: list[VmArea] = []
        self.gfp_mask = 0

    def __repr__(self) -> str:
        return f"<AddressSpace {self.id}, {self.nrpages} pages>"


class Inode:
    """A file on some file system. ``info`` is the file system's own record of it."""

    def __init__(self, ino: int, mode: int = 0o100644) -> None:
        self.i_ino = ino
        self.i_mode = mode
        self.i_size = 0  # bytes
        self.i_count = 1
        self.i_nlink = 1
        self.i_writecount = 0
        self.i_blocks = 0  # of 512 bytes
        self.i_uid = self.i_gid = 0
        self.i_flags = 0
        self.i_state = 0
        self.i_atime = self.i_mtime = self.i_ctime = 0  # seconds
        self.i_sb: SuperBlock | None = None
        self.i_op: InodeOps | None = None
        self.i_mapping: AddressSpace
        self.i_fop: FileOps | None = None
        self.info: Any = None
        self.label: int = -1  # what the traces call this file: its file id
        self.name = ""
        self.address = 0  # of its struct inode; 0: it is not in the inode cache
        self.i_dentry: list[Dentry] = []  # its names in the dentry cache, newest first
        self.i_hashed = False  # whether the inode cache finds it by its number
        self.i_list = ""  # which list of the inode cache it is on

    def __repr__(self) -> str:
        return f"<Inode {self.i_ino}{' ' + self.name if self.name else ''}, {self.i_size} bytes>"


class File:
    """An open file, with its read-ahead window."""

    def __init__(self, inode: Inode, f_mode: int, f_op: FileOps | None, f_flags: int = 0) -> None:
        self.inode = inode
        self.f_mode = f_mode
        self.f_op = f_op
        self.f_flags = f_flags
        self.f_count = 1
        self.f_pos = 0
        self.f_reada = self.f_ramax = self.f_raend = self.f_ralen = self.f_rawin = 0
        self.f_error = 0
        self.ident = -1  # what the traces print for it: the file id
        self.address = 0  # of its struct file; 0: it has none
        self.f_dentry: Dentry | None = None  # the name it was opened by, where there is a dentry cache

    def __repr__(self) -> str:
        return f"<File {self.inode.name or self.inode.i_ino}, mode {self.f_mode}, at {self.f_pos}>"
