"""Turning swap areas on and off in 2.6, and listing them. kernel: mm/swapfile.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..hw.layout import M32, PAGE_SHIFT
from ..mm.block import READ
from ..mm.errno import EBUSY, EINVAL, ENOENT, ENOMEM, EPERM
from ..mm.fs import Inode
from ..mm.swap_header import MAX_SWAP_BADPAGES, read_header
from ..mm.swap_info import MAX_SWAPFILES, SWP_USED, SWP_WRITEOK, SwapInfo
from ..mm.swap_map import SWAP_MAP_BAD
from ..mm.swapfile_on import MAX_LAST_PAGE, SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK
from ..mm.task import CAP_SYS_ADMIN
from ..mm.vfs import S_IFMT, S_IFREG
from .gfp import COLD, GFP_HIGHUSER
from .swap_extents import SwapExtents26
from .swap_info import SwapInfo26
from .swap_unuse import SwapUnuse26
from .task import PF_SWAPOFF

if TYPE_CHECKING:
    from ..mm.swap_map import SwapMap

S_SWAPFILE = 256  # inode flag: a swap file, do not truncate


class SwapOnOff26(SwapExtents26, SwapUnuse26):
    """The system calls swapon and swapoff."""

    least_priority: int
    swap_overflow: int

    if TYPE_CHECKING:

        def _new_map(self, slots: int) -> SwapMap | None: ...
        def _free_map(self, swap_map: SwapMap | None) -> None: ...
        def _insert(self, p: SwapInfo, area: int) -> None: ...

    # -- on -----------------------------------------------------------------------------------

    def sys_swapon(self, specialfile: int | Inode, swap_flags: int = 0) -> int:
        """In 2.6 a file's blocks are looked up here, once, because the file system may need memory to tell; before that at each transfer.

        Start to swap to a disk (its number) or a file: 0 or a negative errno. swap_flags: SWAP_FLAG_PREFER | priority; without it
        each area ranks below all before it. EPERM without CAP_SYS_ADMIN or with 32 areas in use, ENOENT no such disk, EBUSY already in
        use, ENOMEM, EINVAL the header is none (the old bitmap of "SWAP-SPACE" is no longer read), makes no sense, or the file has holes.
        kernel: mm/swapfile.c:sys_swapon
        """
        if not self.kernel.current.capable(CAP_SYS_ADMIN):
            return -EPERM
        area = next((i for i in range(self.nr_swapfiles) if not self.swap_info[i].flags & SWP_USED), self.nr_swapfiles)
        if area >= MAX_SWAPFILES:
            return -EPERM
        self.nr_swapfiles = max(self.nr_swapfiles, area + 1)
        p = self.swap_info[area]
        assert isinstance(p, SwapInfo26)
        p.extent_list = []
        p.flags = SWP_USED
        p.swap_file = p.swap_device = p.swap_map = None
        p.lowest_bit = p.highest_bit = p.cluster_nr = p.inuse_pages = 0
        p.next = -1
        if swap_flags & SWAP_FLAG_PREFER:
            p.prio = swap_flags & SWAP_FLAG_PRIO_MASK
        else:
            self.least_priority -= 1
            p.prio = self.least_priority
        error, done = self._swapon26(p, area, specialfile)
        if not done:
            swap_map = p.swap_map
            p.swap_file = p.swap_device = p.swap_map = None
            p.flags = 0
            if not swap_flags & SWAP_FLAG_PREFER:
                self.least_priority += 1
            self.destroy_swap_extents(p)
            self._free_map(swap_map)
        elif isinstance(specialfile, Inode):
            specialfile.i_flags |= S_SWAPFILE
        if self.on_event is not None:
            self.on_event(("swapon", area, p.prio, p.pages if done else 0, error))
        return error

    def _swapon26(self, p: SwapInfo26, area: int, specialfile: int | Inode) -> tuple[int, bool]:
        """Open the area, read its header into a page, and let :meth:`_enable26` judge it: (errno, whether the area is in use now)."""
        kernel = self.kernel
        if not isinstance(specialfile, Inode) and specialfile not in kernel.block.disks:
            return -ENOENT, False
        p.swap_file = specialfile
        if any(q is not p and q.swap_file is not None and q.swap_file == specialfile for q in self.swap_info[: self.nr_swapfiles]):
            return -EBUSY, False
        if isinstance(specialfile, Inode):
            if specialfile.i_mode & S_IFMT != S_IFREG:
                return -EINVAL, False
            if specialfile.i_flags & S_SWAPFILE:
                return -EBUSY, False
            p.bdev = specialfile.info.disk
            size = specialfile.i_size >> PAGE_SHIFT
            unread = -EINVAL
        else:
            p.bdev = p.swap_device = specialfile
            size = kernel.block.disks[specialfile].npages
            unread = 0  # the kernel says 0 when a disk's header cannot be read, and does not use the area
        # The kernel reads the header through the page cache; here the cache is emptied again when swapon is done.
        pfn = kernel.alloc_page(GFP_HIGHUSER | COLD)
        if pfn is None:
            return -ENOMEM, False
        kernel.mem.index[pfn] = 0  # page 0 of the disk, and a page keeps its index after it has left the cache
        lru: Any = kernel.swap
        lru.lru_cache_add(pfn)
        try:
            if not self._read_header(p, specialfile, pfn):
                return unread, False
            error = self._enable26(p, area, size, kernel.ram.read_page(pfn), self._name(specialfile))
            return error, not error
        finally:
            if not self.kernel.interrupted:
                lru.pagevec_release([pfn])

    def _read_header(self, p: SwapInfo26, specialfile: int | Inode, pfn: int) -> bool:
        """Read the first page of a disk or file; whether that went well. kernel: mm/filemap.c:read_cache_page"""
        kernel = self.kernel
        if isinstance(specialfile, Inode):
            diskfs: Any = kernel.diskfs
            return bool(diskfs.read_first_page(specialfile, pfn))
        if not kernel.block.disks[specialfile].npages:
            kernel.ram.clear_page(pfn)  # past the end of the disk
            return True
        return kernel.block.transfer(READ, pfn, specialfile, 0)

    @staticmethod
    def _name(specialfile: int | Inode) -> str:
        """What messages call the area: the traces' disks are A, B, C …"""
        if isinstance(specialfile, Inode):
            return specialfile.name or f"inode {specialfile.i_ino}"
        return chr(ord("A") + specialfile) if specialfile < 26 else f"disk{specialfile}"

    def _enable26(self, p: SwapInfo26, area: int, size: int, page: bytes, name: str) -> int:
        """Fill in the area from its header *page*, and put it into the list; 0 or a negative errno."""
        kernel = self.kernel
        header = read_header(page)
        if header.magic == 1:
            kernel.printk(3, f"version 0 swap is no longer supported. Use mkswap -v1 {name}")
            return -EINVAL
        if header.magic != 2:
            kernel.printk(None, "Unable to find swap-space signature")
            return -EINVAL
        if header.version != 1:
            kernel.printk(4, f"Unable to handle swap header version {_signed(header.version)}")
            return -EINVAL
        p.lowest_bit = 1
        maxpages = min(MAX_LAST_PAGE, header.last_page)
        p.highest_bit = maxpages - 1 & M32
        if header.nr_badpages > MAX_SWAP_BADPAGES:
            return -EINVAL
        p.swap_map = swap_map = self._new_map(maxpages)
        if swap_map is None:
            return -ENOMEM
        error = 0
        for bad in header.badpages:
            if bad <= 0 or bad >= header.last_page:
                error = -EINVAL
            elif bad < maxpages:
                swap_map[bad] = SWAP_MAP_BAD
        if error:
            return error
        good = _signed(header.last_page - header.nr_badpages - 1)
        if size and maxpages > size:
            kernel.printk(4, "Swap area shorter than signature indicates")
            return -EINVAL
        if not good:
            kernel.printk(4, "Empty swap-file")
            return -EINVAL
        swap_map[0] = SWAP_MAP_BAD
        p.max = maxpages
        p.pages = good
        error = self.setup_swap_extents(p)
        if error:
            return error
        p.flags = SWP_WRITEOK
        self.nr_swap_pages += good
        self.total_swap_pages += good
        kernel.printk(6, f"Adding {good << PAGE_SHIFT - 10}k swap on {name}.  Priority:{p.prio} extents:{p.nr_extents}")
        self._insert(p, area)
        return 0

    # -- off ----------------------------------------------------------------------------------

    def sys_swapoff(self, specialfile: int | Inode) -> int:
        """In 2.6 refused when what is swapped out would not fit, because the commit limit counts swap; before that it was tried.

        Bring back everything that is in a swap area and stop to use it: 0 or a negative errno. Needs CAP_SYS_ADMIN. ENOENT no such disk,
        EINVAL it is no swap area in use, ENOMEM memory would not do or ran out, EINTR (4) killed meanwhile.
        kernel: mm/swapfile.c:sys_swapoff
        """
        kernel = self.kernel
        task = kernel.current
        if not task.capable(CAP_SYS_ADMIN):
            return -EPERM
        if not isinstance(specialfile, Inode) and specialfile not in kernel.block.disks:
            return -ENOENT
        prev, area = -1, self.swap_list.head
        while area >= 0:
            p = self.swap_info[area]
            if p.flags & SWP_WRITEOK == SWP_WRITEOK and p.swap_file == specialfile:
                break
            prev, area = area, p.next
        else:
            return -EINVAL
        assert isinstance(p, SwapInfo26)
        mmap: Any = kernel.mmap
        if mmap.security_vm_enough_memory(p.pages):
            return -ENOMEM
        mmap.vm_unacct_memory(p.pages)
        if prev < 0:
            self.swap_list.head = p.next
        else:
            self.swap_info[prev].next = p.next
        if area == self.swap_list.next:
            self.swap_list.next = self.swap_list.head
        self.nr_swap_pages -= p.pages
        self.total_swap_pages -= p.pages
        p.flags = SWP_USED
        task.flags |= PF_SWAPOFF
        error = self.try_to_unuse(area)
        task.flags &= ~PF_SWAPOFF
        if error:
            self._insert(p, area)
            self.nr_swap_pages += p.pages
            self.total_swap_pages += p.pages
            p.flags = SWP_WRITEOK
        else:
            self.drain_mmlist()
            swap_map = p.swap_map
            p.swap_file = p.swap_device = p.swap_map = None
            p.max = 0
            p.flags = 0
            self.destroy_swap_extents(p)
            self._free_map(swap_map)
            if isinstance(specialfile, Inode):
                specialfile.i_flags &= ~S_SWAPFILE
        if self.on_event is not None:
            self.on_event(("swapoff", area, error))
        return error

    # -- looking ------------------------------------------------------------------------------

    def get_swaparea_info(self) -> str:
        """In 2.6 with wider columns, because seq_file pads the names; before that by hand. What ``/proc/swaps`` shows.

        kernel: mm/swapfile.c:swap_show
        """
        text = "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n"
        for p in self.swap_info[: self.nr_swapfiles]:
            if not p.flags & SWP_USED or p.swap_map is None:
                continue
            path = (p.swap_file.name or f"inode {p.swap_file.i_ino}") if isinstance(p.swap_file, Inode) else f"/dev/disk{p.swap_file}"
            kind = "partition" if p.swap_device is not None else "file\t"
            pad = " " * max(1, 40 - len(path))
            text += f"{path}{pad}{kind}\t{p.pages << PAGE_SHIFT - 10}\t{self._used(p) << PAGE_SHIFT - 10}\t{p.prio}\n"
        return text

    @staticmethod
    def _used(p: SwapInfo) -> int:
        return p.inuse_pages if isinstance(p, SwapInfo26) else 0


def _signed(value: int) -> int:
    """A 32-bit number as a C int."""
    return (value + 0x80000000 & M32) - 0x80000000
