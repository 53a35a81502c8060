"""madvise in 2.6: a part of Filemap26. kernel: mm/madvise.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EAGAIN, EBADF, EINVAL, ENOMEM
from ..mm.filemap_madvise import FileAdvice
from ..mm.mmap_areas import U32, page_align
from ..mm.vm import VM_LOCKED
from .memory_range import ZapDetails
from .vm import VM_HUGETLB, VM_NONLINEAR, VmArea26

if TYPE_CHECKING:
    from ..mm.vm import VmArea
    from .mmap import Mmap26


class Madvise26(FileAdvice):
    """What a program says about its mapped pages."""

    def madvise_behavior(self, vma: VmArea, start: int, end: int, behavior: int) -> int:
        """In 2.6 split_vma cuts the area, because everybody shares it; before that this file cut on its own.

        MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM. Returns 0 or -EAGAIN. kernel: mm/madvise.c:madvise_behavior
        """
        mmap = cast("Mmap26", self.kernel.mmap)
        mm = vma.vm_mm
        assert mm is not None
        area = cast(VmArea26, vma)
        error = mmap.split_vma(mm, area, start, True) if start != area.vm_start else 0
        if not error and end != area.vm_end:
            error = mmap.split_vma(mm, area, end, False)
        if error:
            return -EAGAIN if error == -ENOMEM else error
        self.setup_read_behavior(area, behavior)
        return 0

    def madvise_willneed(self, vma: VmArea, start: int, end: int) -> int:
        """In 2.6 read-ahead is asked for the range, because it limits itself to what memory allows; before that RLIMIT_RSS did.

        Returns 0, or -EBADF without a file. kernel: mm/madvise.c:madvise_willneed
        """
        file = vma.vm_file
        if file is None:
            return -EBADF
        first = (start - vma.vm_start >> 12) + vma.vm_pgoff & U32
        last = (min(end, vma.vm_end) - vma.vm_start >> 12) + vma.vm_pgoff & U32
        pages = self.max_sane_readahead(last - first & U32)  # type: ignore[attr-defined]
        self.force_page_cache_readahead(file.inode.i_mapping, file, first, pages)  # type: ignore[attr-defined]
        return 0

    def madvise_dontneed(self, vma: VmArea, start: int, end: int) -> int:
        """In 2.6 entries that only say which page of the file belongs there stay, because they cannot be found again; before that there
        were none.

        Drop the pages of the range, dirty or not. Returns 0, or -EINVAL for a locked area. kernel: mm/madvise.c:madvise_dontneed
        """
        if vma.vm_flags & (VM_LOCKED | VM_HUGETLB):
            return -EINVAL
        memory = self.kernel.memory
        if vma.vm_flags & VM_NONLINEAR:
            details = ZapDetails(0, 0, U32)
            details.nonlinear_vma = vma
            memory.zap_page_range(vma, start, end - start, details)  # type: ignore[arg-type, call-arg]
        else:
            memory.zap_page_range(vma, start, end - start)  # type: ignore[arg-type]
        return 0

    def sys_madvise(self, start: int, length: int, behavior: int) -> int:
        """In 2.6 a length that rounds up to 0 is refused, because it is a small negative one; before that nothing was done.

        Returns 0 or a negative error as each advice, -ENOMEM when something in the range is not mapped.
        kernel: mm/madvise.c:sys_madvise
        """
        if not start & 0xFFF and length & U32 and not page_align(length & U32):
            return -EINVAL
        return super().sys_madvise(start, length, behavior)
