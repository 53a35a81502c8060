"""Turning swap areas on and off, and listing them. kernel: mm/swapfile.c"""

from __future__ import annotations

from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .block import READ
from .errno import EBUSY, EINVAL, ENODEV, ENOENT, ENOMEM, EPERM
from .fs import Inode
from .gfp import GFP_USER
from .swap_header import MAGIC_AT, MAX_SWAP_BADPAGES, SwapHeader, read_header
from .swap_info import MAX_SWAPFILES, SWP_USED, SWP_WRITEOK, SwapInfo, swp_entry
from .swap_map import SWAP_MAP_BAD, RamSwapMap, SwapMap, host_swap_map
from .swap_unuse import SwapUnuse
from .task import CAP_SYS_ADMIN
from .vfs import S_IFMT, S_IFREG

SWAP_FLAG_PREFER = 0x8000
SWAP_FLAG_PRIO_MASK = 0x7FFF
MAX_LAST_PAGE = 0xFFFFFE  # the most a swap entry can number, less one: SWP_OFFSET(SWP_ENTRY(0, ~0)) - 1


class SwapOnOff(SwapUnuse):
    """The system calls swapon and swapoff."""

    def sys_swapon(self, specialfile: int | Inode, swap_flags: int = 0) -> int:
        """Start to swap to a disk (its number) or a file: 0 or a negative errno.

        swap_flags: SWAP_FLAG_PREFER | priority; without it each area ranks below all before it.
        Needs CAP_SYS_ADMIN. EPERM also when 32 areas are in use, ENOENT no such disk, ENODEV it has no medium,
        EBUSY already in use, ENOMEM no memory for the swap map, EINVAL the header is none, or makes no sense.
        kernel: mm/swapfile.c:sys_swapon
        """
        if not self.kernel.current.capable(CAP_SYS_ADMIN):
            return -EPERM
        area = next((i for i in range(self.nr_swapfiles) if not self.swap_info[i].flags & SWP_USED), self.nr_swapfiles)
        if area >= MAX_SWAPFILES:
            return -EPERM
        self.nr_swapfiles = max(self.nr_swapfiles, area + 1)
        p = self.swap_info[area]
        p.flags = SWP_USED
        p.swap_file = p.swap_device = p.swap_map = None
        p.lowest_bit = p.highest_bit = p.cluster_nr = 0  # cluster_next keeps what an earlier area left
        p.next = -1
        if swap_flags & SWAP_FLAG_PREFER:
            p.prio = swap_flags & SWAP_FLAG_PRIO_MASK
        else:
            self.least_priority -= 1
            p.prio = self.least_priority
        error, header_pfn = self._swapon(p, area, specialfile)
        if error:
            swap_map = p.swap_map
            p.swap_file = p.swap_device = p.swap_map = None
            p.flags = 0
            if not swap_flags & SWAP_FLAG_PREFER:
                self.least_priority += 1
            self._free_map(swap_map)
        if header_pfn is not None:
            self.kernel.put_page(header_pfn)
        if self.on_event is not None:
            self.on_event(("swapon", area, p.prio, p.pages if not error else 0, error))
        return error

    def _swapon(self, p: SwapInfo, area: int, specialfile: int | Inode) -> tuple[int, int | None]:
        """Open the area, and start to use it if its header allows: 0 or a negative errno, and the frame the header was read into."""
        size = self._open(p, specialfile)
        if size < 0:
            return size, None
        if any(q is not p and q.swap_file is not None and q.swap_file == specialfile for q in self.swap_info[: self.nr_swapfiles]):
            return -EBUSY, None
        kernel = self.kernel
        pfn = kernel.alloc_page(GFP_USER)
        if pfn is None:
            kernel.printk(None, "Unable to start swapping: out of memory :-)")
            return -ENOMEM, None
        kernel.filemap.lock_page(pfn)
        kernel.page_io.rw_swap_page_nolock(READ, swp_entry(area, 0), PAGE_OFFSET + (pfn << PAGE_SHIFT))
        return self._enable(p, area, size, pfn), pfn

    def _open(self, p: SwapInfo, specialfile: int | Inode) -> int:
        """Size of a disk or file in pages, or a negative errno."""
        if isinstance(specialfile, Inode):
            p.swap_file = specialfile
            return specialfile.i_size >> PAGE_SHIFT if specialfile.i_mode & S_IFMT == S_IFREG else -EINVAL
        disk = self.kernel.block.disks.get(specialfile)
        if disk is None:
            return -ENOENT
        p.swap_file = p.swap_device = specialfile
        return disk.npages or -ENODEV

    def _enable(self, p: SwapInfo, area: int, size: int, pfn: int) -> int:
        """Fill in the area from the header read into frame *pfn*, and put it into the list."""
        kernel = self.kernel
        header = read_header(kernel.ram.read_page(pfn))
        if header.magic == 1:
            kernel.ram.write((pfn << PAGE_SHIFT) + MAGIC_AT, bytes(PAGE_SIZE - MAGIC_AT))
            found = self._map_v1(p, header)
        elif header.magic == 2:
            found = self._map_v2(p, header)
        else:
            kernel.printk(None, "Unable to find swap-space signature")
            return -EINVAL
        if isinstance(found, int):
            return found
        maxpages, good = found
        if size and maxpages > size:
            kernel.printk(4, "Swap area shorter than signature indicates")
            return -EINVAL
        if not good:
            kernel.printk(4, "Empty swap-file")
            return -EINVAL
        assert p.swap_map is not None
        p.swap_map[0] = SWAP_MAP_BAD
        p.max = maxpages
        p.flags = SWP_WRITEOK
        p.pages = good
        self.nr_swap_pages += good
        self.total_swap_pages += good
        kernel.printk(6, f"Adding Swap: {good << PAGE_SHIFT - 10}k swap-space (priority {p.prio})")
        self._insert(p, area)
        return 0

    def _map_v1(self, p: SwapInfo, header: SwapHeader) -> tuple[int, int] | int:
        """Swap map of a bitmap header: (slots, usable ones), or -ENOMEM."""
        usable = header.usable
        p.lowest_bit, p.highest_bit = (usable[0], usable[-1]) if usable else (0, 0)
        maxpages = p.highest_bit + 1
        p.swap_map = swap_map = self._new_map(maxpages)
        if swap_map is None:
            return -ENOMEM
        good = set(usable)
        for slot in range(1, maxpages):
            swap_map[slot] = 0 if slot in good else SWAP_MAP_BAD
        return maxpages, len(usable)

    def _map_v2(self, p: SwapInfo, header: SwapHeader) -> tuple[int, int] | int:
        """Swap map of a version 2 header: (slots, usable ones), or a negative errno."""
        if header.version != 1:
            self.kernel.printk(4, f"Unable to handle swap header version {_signed(header.version)}")
            return -EINVAL
        maxpages = min(MAX_LAST_PAGE, header.last_page)
        p.lowest_bit = 1
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
        return error or (maxpages, _signed(header.last_page - header.nr_badpages - 1))

    def _new_map(self, slots: int) -> SwapMap | None:
        """A swap map with all slots free: in vmalloc space, or outside the machine; None when there is no memory."""
        kernel = self.kernel
        if kernel.config.kernel_objects != "ram":
            return host_swap_map(max(slots, 1))
        address = kernel.vmalloc_space.vmalloc(2 * slots)
        if not address:
            return None
        found = RamSwapMap(kernel, address, slots, kernel.vmalloc_space.frames(address))
        found.clear()
        return found

    def _free_map(self, swap_map: SwapMap | None) -> None:
        if isinstance(swap_map, RamSwapMap):
            self.kernel.vmalloc_space.vfree(swap_map.address)

    def _insert(self, p: SwapInfo, area: int) -> None:
        """Put an area before the first of no higher priority."""
        prev, at = -1, self.swap_list.head
        while at >= 0 and p.prio < self.swap_info[at].prio:
            prev, at = at, self.swap_info[at].next
        p.next = at
        if prev < 0:
            self.swap_list.head = self.swap_list.next = area
        else:
            self.swap_info[prev].next = area

    def sys_swapoff(self, specialfile: int | Inode) -> int:
        """Bring back everything that is in a swap area and stop to use it: 0 or a negative errno.

        Needs CAP_SYS_ADMIN. ENOENT no such disk, EINVAL it is no swap area in use, ENOMEM memory ran out:
        then the area stays in use, with what was not brought back. kernel: mm/swapfile.c:sys_swapoff
        """
        kernel = self.kernel
        if not kernel.current.capable(CAP_SYS_ADMIN):
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
        if prev < 0:
            self.swap_list.head = p.next
        else:
            self.swap_info[prev].next = p.next
        if area == self.swap_list.next:
            self.swap_list.next = self.swap_list.head
        self.nr_swap_pages -= p.pages
        self.total_swap_pages -= p.pages
        p.flags = SWP_USED
        error = self.try_to_unuse(area)
        if error:
            self._insert(p, area)
            self.nr_swap_pages += p.pages
            self.total_swap_pages += p.pages
            p.flags = SWP_WRITEOK
        else:
            swap_map = p.swap_map
            p.swap_file = p.swap_device = p.swap_map = None
            p.max = 0
            p.flags = 0
            self._free_map(swap_map)
        if self.on_event is not None:
            self.on_event(("swapoff", area, error))
        return error

    # -- looking ------------------------------------------------------------------------------

    def get_swaparea_info(self) -> str:
        """What ``/proc/swaps`` shows. (The kernel takes a page for the path names meanwhile; this does not.)

        kernel: mm/swapfile.c:get_swaparea_info
        """
        text = "Filename\t\t\tType\t\tSize\tUsed\tPriority\n"
        for p in self.swap_info[: self.nr_swapfiles]:
            if not p.flags & SWP_USED or p.swap_map is None:
                continue
            path = (p.swap_file.name or f"inode {p.swap_file.i_ino}") if isinstance(p.swap_file, Inode) else f"/dev/disk{p.swap_file}"
            kind = "partition\t" if p.swap_device is not None else "file\t\t"
            used = self._used(p)
            text += f"{path:<31} {kind}{p.pages << PAGE_SHIFT - 10}\t{used << PAGE_SHIFT - 10}\t{p.prio}\n"
        return text

    @staticmethod
    def _used(p: SwapInfo) -> int:
        return sum(count != SWAP_MAP_BAD for _, count in p.used_slots())

    def is_swap_partition(self, disk: int) -> bool:
        """Whether an area in use is on this disk. kernel: mm/swapfile.c:is_swap_partition"""
        return any(p.flags & SWP_USED and p.swap_device == disk for p in self.swap_info[: self.nr_swapfiles])

    def si_swapinfo(self) -> tuple[int, int]:
        """(all swap, free swap) in pages; what swapoff has still to bring back counts as both. kernel: mm/swapfile.c:si_swapinfo"""
        leaving = sum(self._used(p) for p in self.swap_info[: self.nr_swapfiles] if p.flags == SWP_USED)
        return self.total_swap_pages + leaving, self.nr_swap_pages + leaving


def _signed(value: int) -> int:
    """A 32-bit number as a C int."""
    return (value + 0x80000000 & M32) - 0x80000000
