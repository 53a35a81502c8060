"""sendfile(2): from one file to another without passing through user memory. kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT
from .errno import EBADF, EINVAL
from .filemap_madvise import FileAdvice
from .filemap_read import ReadDescriptor
from .fs import FMODE_READ, FMODE_WRITE

if TYPE_CHECKING:
    from .fs import File


class SendDescriptor(ReadDescriptor):
    """A read whose data goes into the open file *out*."""

    def __init__(self, count: int, out: File) -> None:
        super().__init__(count, None)
        self.out = out


class FileSend(FileAdvice):
    """Copying between files."""

    def file_send_actor(self, desc: ReadDescriptor, pfn: int, offset: int, size: int) -> int:
        """Write *size* bytes at *offset* of the page to the other file; returns how many went. kernel: mm/filemap.c:file_send_actor"""
        assert isinstance(desc, SendDescriptor) and desc.out.f_op is not None
        size = min(size, desc.count)
        self.kernel.highmem.kmap(pfn)
        written: int = desc.out.f_op.write(desc.out, self.kernel.ram.read((pfn << PAGE_SHIFT) + offset, size), size)
        self.kernel.highmem.kunmap(pfn)
        if written < 0:
            desc.error = written
            written = 0
        desc.count -= written
        desc.written += written
        return written

    def sys_sendfile(self, out_file: File, in_file: File, offset: int | None, count: int) -> tuple[int, int]:
        """Send *count* bytes of *in_file*, from byte *offset* on (None: from its own position, which then moves), to *out_file*.

        Returns (bytes sent or a negative errno, the position after them): EBADF for a file not open that way, EINVAL for one that
        cannot do it. kernel: mm/filemap.c:sys_sendfile, sys_sendfile64, common_sendfile
        """
        pos = in_file.f_pos if offset is None else offset
        if not in_file.f_mode & FMODE_READ:
            return -EBADF, pos
        if in_file.inode.i_mapping.a_ops.readpage is None:
            return -EINVAL, pos
        if not out_file.f_mode & FMODE_WRITE:
            return -EBADF, pos
        if out_file.f_op is None or out_file.f_op.write is None:
            return -EINVAL, pos
        if not count:
            return 0, pos
        desc = SendDescriptor(count, out_file)
        pos = self.do_generic_file_read(in_file, pos, desc, self.file_send_actor)
        if offset is None:
            in_file.f_pos = pos
        return desc.written or desc.error, pos
