"""Mapping: mmap, brk, and the decision whether there is memory enough.

``machine.mmap`` is one object with everything of mm/mmap.c; finding and linking areas is in
mmap_areas.py, unmapping in mmap_unmap.py. Addresses and lengths are in bytes, unsigned 32 bits;
errors are negative. kernel: mm/mmap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .errno import EACCES, EAGAIN, EINVAL, ENODEV, ENOMEM
from .fs import FMODE_READ, FMODE_WRITE, SWAPPER_SPACE_ID
from .mmap_areas import U32, Place, can_vma_merge, page_align
from .mmap_unmap import Unmapping
from .mmap_view import maps, tree
from .task import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK
from .vfs import allow_write_access, deny_write_access, fput, get_file
from .vm import (
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    TASK_UNMAPPED_BASE,
    VM_DATA_DEFAULT_FLAGS,
    VM_DENYWRITE,
    VM_GROWSDOWN,
    VM_GROWSUP,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_SHARED,
    VM_WRITE,
    MmStruct,
    VmArea,
    protection_map,
)

if TYPE_CHECKING:
    from .fs import File
    from .kernel import Kernel

__all__ = ["Mmap", "can_vma_merge", "maps", "tree"]

S_APPEND = 8  # Inode.i_flags: the file can only grow
_MAP_TYPE = 0xF


class Mmap(Unmapping):
    """System calls that map, and the policy behind them."""

    state_names = (*Unmapping.state_names, "sysctl_overcommit_memory")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.sysctl_overcommit_memory = 0  # not 0: promise anything

    def vm_enough_memory(self, pages: int) -> bool:
        """Whether *pages* more can be promised: are more pages free or easily freed than that?

        Free are the buddy allocator's pages, the page cache, swap slots, and once more the swap
        cache. A guess, no accounting: what earlier promises still need is not looked at.
        kernel: mm/mmap.c:vm_enough_memory
        """
        if self.sysctl_overcommit_memory:
            return True
        kernel = self.kernel
        free = kernel.filemap.page_cache_size + kernel.page_allocator.nr_free_pages() + kernel.swapfile.nr_swap_pages
        free = free + kernel.mappings[SWAPPER_SPACE_ID].nrpages & U32
        enough: bool = free > pages & U32
        if self.on_event is not None:
            self.on_event(("vm_enough_memory", pages & U32, free, int(enough)))
        return enough

    def sys_brk(self, brk: int) -> int:
        """Move the end of the heap to *brk*. Returns where it is now: the old place when it failed. kernel: mm/mmap.c:sys_brk"""
        task = self.kernel.current
        mm = task.mm
        assert mm is not None
        brk &= U32
        if brk < mm.end_code:
            return mm.brk
        newbrk, oldbrk = page_align(brk), page_align(mm.brk)
        if oldbrk != newbrk:
            if brk <= mm.brk:
                if self.do_munmap(mm, newbrk, oldbrk - newbrk & U32):
                    return mm.brk
            else:
                rlim = task.rlim[RLIMIT_DATA]
                if rlim < RLIM_INFINITY and (brk - mm.start_data & U32) > rlim:
                    return mm.brk
                if self.find_vma_intersection(mm, oldbrk, newbrk + 0x1000 & U32) is not None:  # one free page above stays
                    return mm.brk
                if not self.brk_fits((newbrk - oldbrk & U32) >> 12):
                    return mm.brk
                if self.do_brk(oldbrk, newbrk - oldbrk & U32) != oldbrk:
                    return mm.brk
        mm.brk = brk
        return brk

    def brk_fits(self, pages: int) -> bool:
        """Whether a heap that grows by *pages* may do so. kernel: mm/mmap.c:sys_brk"""
        return self.vm_enough_memory(pages)

    def calc_vm_flags(self, prot: int, flags: int) -> int:
        """VM_ bits for PROT_ and MAP_ bits, which have the same values. kernel: mm/mmap.c:calc_vm_flags"""
        return prot & (PROT_READ | PROT_WRITE | PROT_EXEC) | flags & (MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE)

    def sys_mmap2(self, file: File | None, addr: int, length: int, prot: int, flags: int, pgoff: int) -> int:
        """mmap(2) of the current task: *file* takes the place of the descriptor, *pgoff* is in pages.

        kernel: arch/i386/kernel/sys_i386.c:sys_mmap2, do_mmap2
        """
        flags &= ~(MAP_EXECUTABLE | MAP_DENYWRITE)
        return self.do_mmap_pgoff(None if flags & MAP_ANONYMOUS else file, addr, length, prot, flags, pgoff)

    def do_mmap(self, file: File | None, addr: int, length: int, prot: int, flags: int, offset: int) -> int:
        """As do_mmap_pgoff, *offset* in bytes: a whole number of pages, or -EINVAL. kernel: include/linux/mm.h:do_mmap"""
        if (offset + page_align(length) & U32) < offset or offset & 0xFFF:
            return -EINVAL
        return self.do_mmap_pgoff(file, addr, length, prot, flags, offset >> 12)

    def do_mmap_pgoff(self, file: File | None, addr: int, length: int, prot: int, flags: int, pgoff: int) -> int:
        """Map [addr, addr + length) of the current task to *file* from page *pgoff* on, or to nothing (*file* None).

        Returns the address, or -ENODEV (the file cannot be mapped), -EINVAL, -ENOMEM, -EAGAIN (more
        locked memory than allowed), -EACCES (the file is not open for that), -ETXTBSY.
        A length of 0 succeeds and maps nothing. kernel: mm/mmap.c:do_mmap_pgoff
        """
        task = self.kernel.current
        mm = task.mm
        assert mm is not None
        addr, length, pgoff = addr & U32, length & U32, pgoff & U32
        if file is not None and (file.f_op is None or file.f_op.mmap is None):
            return -ENODEV
        if not length:
            return addr
        length = page_align(length)
        if length > TASK_SIZE or length == 0:
            return -EINVAL
        pages = length >> 12
        if pgoff + pages > U32:
            return -EINVAL
        if mm.map_count > self.max_map_count:
            return -ENOMEM
        addr = self.get_unmapped_area(file, addr, length, pgoff, flags)
        if addr & 0xFFF:
            return addr
        vm_flags = self.calc_vm_flags(prot, flags) | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
        if vm_flags & VM_LOCKED and (mm.locked_vm << 12) + length & U32 > task.rlim[RLIMIT_MEMLOCK]:
            return -EAGAIN
        vm_flags = self._sharing(file, prot, flags, vm_flags)
        if vm_flags < 0:
            return vm_flags
        place = self.find_vma_prepare(mm, addr)
        while place.vma is not None and place.vma.vm_start < addr + length:
            if self.do_munmap(mm, addr, length):
                return -ENOMEM
            place = self.find_vma_prepare(mm, addr)
        if (mm.total_vm << 12) + length & U32 > task.rlim[RLIMIT_AS]:
            return -ENOMEM
        if vm_flags & (VM_SHARED | VM_WRITE) == VM_WRITE and not flags & MAP_NORESERVE and not self.vm_enough_memory(pages):
            return -ENOMEM
        merged = False
        if file is None and not vm_flags & VM_SHARED and place.rb_parent is not None:
            merged = self.vma_merge(mm, place.prev, place.rb_parent, addr, addr + length, vm_flags)
        if not merged:
            addr = self._new_mapping(place, file, (addr, addr + length), flags, vm_flags, pgoff)
            if addr < 0:
                return addr
        mm.total_vm = mm.total_vm + pages & U32
        if self.on_event is not None:
            self.on_event(("mmap", mm.pid, addr, addr + length, vm_flags, pgoff))
        if vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + pages & U32
            self.kernel.memory.make_pages_present(addr, addr + length)
        return addr

    def _sharing(self, file: File | None, prot: int, flags: int, vm_flags: int) -> int:
        """*vm_flags* with the bits of a shared or private mapping, or a negative error."""
        kind = flags & _MAP_TYPE
        if kind not in (MAP_SHARED, MAP_PRIVATE):
            return -EINVAL
        if file is None:
            return vm_flags | VM_SHARED | VM_MAYSHARE if kind == MAP_SHARED else vm_flags & ~(VM_SHARED | VM_MAYSHARE)
        if kind == MAP_SHARED:
            writable = file.f_mode & FMODE_WRITE
            if prot & PROT_WRITE and not writable:
                return -EACCES
            if file.inode.i_flags & S_APPEND and writable:
                return -EACCES
            vm_flags |= VM_SHARED | VM_MAYSHARE
            if not writable:
                vm_flags &= ~(VM_MAYWRITE | VM_SHARED)  # nobody can write: as good as private
        return vm_flags if file.f_mode & FMODE_READ else -EACCES

    def _new_mapping(self, place: Place, file: File | None, extent: tuple[int, int], flags: int, vm_flags: int, pgoff: int) -> int:
        """The part of do_mmap_pgoff that makes a new area for *extent*. Returns its address or a negative error."""
        mm = self.kernel.current.mm
        assert mm is not None
        vma = self.alloc_vma()
        if vma is None:
            return -ENOMEM
        self.init_vma(vma, mm, *extent, vm_flags)
        vma.vm_pgoff = pgoff
        vma.vm_raend = 0
        denied = False
        if file is not None:
            if vm_flags & (VM_GROWSDOWN | VM_GROWSUP):
                self.free_vma(vma)
                return -EINVAL
            if vm_flags & VM_DENYWRITE:
                error = deny_write_access(file)
                if error:
                    self.free_vma(vma)
                    return error
                denied = True
            vma.vm_file = file
            get_file(file)
            assert file.f_op is not None
            error = file.f_op.mmap(file, vma)
            if error:
                if denied:
                    allow_write_access(file)
                vma.vm_file = None
                fput(self.kernel, file)
                self.kernel.memory.zap_page_range(mm, vma.vm_start, vma.vm_end - vma.vm_start)
                self.free_vma(vma)
                return int(error)
        elif flags & MAP_SHARED:
            error = self.kernel.shmem.shmem_zero_setup(vma)
            if error:
                self.free_vma(vma)
                return int(error)
        if vma.vm_start != extent[0]:
            place = self.find_vma_prepare(mm, vma.vm_start)
            if place.vma is not None and place.vma.vm_start < vma.vm_end:
                raise KernelBug("do_mmap_pgoff", f"the file's mmap moved the area to {vma}, over {place.vma}", "buggy mmap")
        self.vma_link(mm, vma, place)
        if denied:
            allow_write_access(file)
        return vma.vm_start

    def init_vma(self, vma: VmArea, mm: MmStruct, start: int, end: int, vm_flags: int) -> None:
        """Fill in a fresh record: an anonymous area until somebody says otherwise."""
        vma.vm_mm = mm
        vma.vm_start, vma.vm_end = start, end
        vma.vm_flags = vm_flags
        vma.vm_page_prot = protection_map[vm_flags & 15]
        vma.vm_ops = None
        vma.vm_pgoff = 0
        vma.vm_file = None
        vma.vm_private_data = None

    def get_unmapped_area(self, file: File | None, addr: int, length: int, pgoff: int, flags: int) -> int:
        """An address for *length* bytes in the current task: *addr* itself with MAP_FIXED.

        Returns it, or -ENOMEM or -EINVAL. kernel: mm/mmap.c:get_unmapped_area
        """
        if flags & MAP_FIXED:
            if addr > (TASK_SIZE - length & U32):
                return -ENOMEM
            return -EINVAL if addr & 0xFFF else addr
        if file is not None and file.f_op is not None and file.f_op.get_unmapped_area is not None:
            return int(file.f_op.get_unmapped_area(file, addr, length, pgoff, flags))
        return self.arch_get_unmapped_area(file, addr, length, pgoff, flags)

    def arch_get_unmapped_area(self, file: File | None, addr: int, length: int, pgoff: int, flags: int) -> int:
        """*addr* if that is free, else the first gap that fits, from TASK_UNMAPPED_BASE up. kernel: mm/mmap.c:arch_get_unmapped_area"""
        mm = self.kernel.current.mm
        assert mm is not None
        if length > TASK_SIZE:
            return -ENOMEM
        if addr:
            addr = page_align(addr)
            vma = self.find_vma(mm, addr)
            if TASK_SIZE - length >= addr and (vma is None or addr + length <= vma.vm_start):
                return addr
        addr = TASK_UNMAPPED_BASE
        vma = self.find_vma(mm, addr)
        while addr <= TASK_SIZE - length:
            if vma is None or addr + length <= vma.vm_start:
                if self.on_event is not None:
                    self.on_event(("unmapped_area", mm.pid, addr, length))
                return addr
            addr = vma.vm_end
            vma = vma.vm_next
        return -ENOMEM

    def do_brk(self, addr: int, length: int) -> int:
        """Map [addr, addr + length) of the current task as plain private memory, a simplified mmap.

        Returns *addr*, -EAGAIN or -ENOMEM. There is no check against TASK_SIZE: the kernel's own bug.
        kernel: mm/mmap.c:do_brk
        """
        task = self.kernel.current
        mm = task.mm
        assert mm is not None
        length = page_align(length)
        if not length:
            return addr
        if mm.def_flags & VM_LOCKED and (mm.locked_vm << 12) + length & U32 > task.rlim[RLIMIT_MEMLOCK]:
            return -EAGAIN
        end = addr + length & U32
        place = self.find_vma_prepare(mm, addr)
        while place.vma is not None and place.vma.vm_start < end:
            if self.do_munmap(mm, addr, length):
                return -ENOMEM
            place = self.find_vma_prepare(mm, addr)
        if (mm.total_vm << 12) + length & U32 > task.rlim[RLIMIT_AS]:
            return -ENOMEM
        if mm.map_count > self.max_map_count:
            return -ENOMEM
        if not self.vm_enough_memory(length >> 12):
            return -ENOMEM
        flags = VM_DATA_DEFAULT_FLAGS | mm.def_flags
        if place.rb_parent is None or not self.vma_merge(mm, place.prev, place.rb_parent, addr, end, flags):
            vma = self.alloc_vma()
            if vma is None:
                return -ENOMEM
            self.init_vma(vma, mm, addr, end, flags)
            self.vma_link(mm, vma, place)
        mm.total_vm = mm.total_vm + (length >> 12) & U32
        if self.on_event is not None:
            self.on_event(("brk", mm.pid, addr, end))
        if flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + (length >> 12) & U32
            self.kernel.memory.make_pages_present(addr, end)
        return addr
