"""Mapping in 2.6: mmap, brk, stack growth, and whether there is memory enough for a promise.

Overcommit has three modes (``sysctl_overcommit_memory``): 0 refuses only what is plainly too much, 1 promises
anything, 2 promises no more than swap and ``sysctl_overcommit_ratio`` percent of RAM. kernel: mm/mmap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EAGAIN, EINVAL, ENODEV, ENOMEM, EPERM
from ..mm.mmap import Mmap
from ..mm.mmap_areas import PAGE_MASK, U32, Place, page_align
from ..mm.task import CAP_IPC_LOCK, CAP_SYS_ADMIN, RLIMIT_AS, RLIMIT_MEMLOCK, RLIMIT_STACK
from ..mm.vfs import allow_write_access, deny_write_access, fput, get_file
from ..mm.vm import (
    MAP_LOCKED,
    MAP_NORESERVE,
    TASK_SIZE,
    VM_DENYWRITE,
    VM_GROWSDOWN,
    VM_GROWSUP,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_SHARED,
    VM_WRITE,
)
from .mmap_unmap import Unmapping26
from .vm import MAP_NONBLOCK, MAP_POPULATE, VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, MmStruct26, VmArea26

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.kernel import Kernel
    from ..mm.task import Task
    from ..mm.vm import VmArea

OVERCOMMIT_GUESS, OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER = range(3)


def can_do_mlock(task: Task) -> bool:
    """In 2.6 anybody may lock memory up to RLIMIT_MEMLOCK, because the limit suffices; before that only CAP_IPC_LOCK allowed it.

    kernel: include/linux/mm.h:can_do_mlock
    """
    return task.capable(CAP_IPC_LOCK) or task.rlim[RLIMIT_MEMLOCK] != 0


class Mmap26(Unmapping26, Mmap):
    """System calls that map, and the policy behind them."""

    state_names: tuple[str, ...] = (*Unmapping26.state_names, "sysctl_overcommit_memory", "sysctl_overcommit_ratio")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.sysctl_overcommit_memory = OVERCOMMIT_GUESS
        self.sysctl_overcommit_ratio = 50  # percent of RAM that mode 2 promises

    # -- promises ------------------------------------------------------------------------------

    def vm_enough_memory(self, pages: int, cap_sys_admin: bool = False) -> int:  # type: ignore[override]
        """In 2.6 what is promised is also counted, because mode 2 never promises too much; before that it was only guessed.

        Counts *pages* as promised and returns 0, or -ENOMEM. kernel: mm/mmap.c:__vm_enough_memory
        """
        self.vm_acct_memory(pages)
        mode = self.sysctl_overcommit_memory
        if mode == OVERCOMMIT_ALWAYS:
            return 0
        if mode == OVERCOMMIT_GUESS:
            available = self._obtainable(pages & U32, cap_sys_admin)
            enough = available > pages & U32
        else:
            available = self.commit_limit(cap_sys_admin)
            enough = self.vm_committed_space & U32 < available
        if self.on_event is not None:
            self.on_event(("vm_commit", pages, self.vm_committed_space, available, int(enough)))
        if enough:
            return 0
        self.vm_unacct_memory(pages)
        return -ENOMEM

    def _obtainable(self, pages: int, cap_sys_admin: bool) -> int:
        """Pages that could be had: page cache, swap and reclaimable slabs; if *pages* need them, free ones too. Root gets the last 3%."""
        kernel = self.kernel
        slabs = getattr(kernel.slab, "slab_reclaim_pages", 0)
        free = self.get_page_cache_size() + kernel.swapfile.nr_swap_pages + slabs & U32
        if not cap_sys_admin:
            free -= free // 32
        if free <= pages:
            more = kernel.page_allocator.nr_free_pages()
            free = free + (more if cap_sys_admin else more - more // 32) & U32
        return free

    def get_page_cache_size(self) -> int:
        """In 2.6 pages of swap are counted once, because one counter has them too; before that they were added a second time.

        kernel: include/linux/pagemap.h:get_page_cache_size
        """
        cached: int = self.kernel.page_allocator.page_state.nr_pagecache  # type: ignore[attr-defined]
        return max(cached, 0)

    def commit_limit(self, cap_sys_admin: bool = False) -> int:
        """In 2.6 new, because of mode 2: the pages that may be promised to all, as the current task sees it.

        kernel: mm/mmap.c:__vm_enough_memory
        """
        kernel = self.kernel
        hugetlb = kernel.more_parts.get("hugetlb")
        huge = hugetlb.hugetlb_total_pages() if hugetlb is not None else 0
        allowed = ((kernel.totalram_pages - huge) * self.sysctl_overcommit_ratio & U32) // 100
        if not cap_sys_admin:
            allowed -= allowed // 32
        mm = kernel.current.mm
        return allowed + kernel.swapfile.total_swap_pages - (mm.total_vm // 32 if mm is not None else 0) & U32

    def security_vm_enough_memory(self, pages: int) -> int:
        """In 2.6 the last pages are root's, because others would lock it out; before that all were equal. Returns 0 or -ENOMEM.

        kernel: include/linux/security.h:security_vm_enough_memory, security/commoncap.c:cap_vm_enough_memory
        """
        return self.vm_enough_memory(pages, self.kernel.current.capable(CAP_SYS_ADMIN))

    def _too_much_locked(self, mm: MmStruct26, length: int) -> bool:
        """Whether *length* more locked bytes are beyond the current task's limit."""
        task = self.kernel.current
        return (mm.locked_vm << 12) + length & U32 > task.rlim[RLIMIT_MEMLOCK] and not task.capable(CAP_IPC_LOCK)

    # -- mapping -------------------------------------------------------------------------------

    def brk_fits(self, pages: int) -> bool:
        """In 2.6 do_brk checks the memory, because it accounts for it; before that brk did so as well. kernel: mm/mmap.c:sys_brk"""
        return True

    def calc_vm_flags(self, prot: int, flags: int) -> int:
        """In 2.6 MAP_LOCKED locks, because it has a bit of its own; before that it was passed over.

        kernel: include/linux/mman.h:calc_vm_prot_bits, calc_vm_flag_bits
        """
        return super().calc_vm_flags(prot, flags) | flags & MAP_LOCKED  # the same bit as VM_LOCKED

    def do_mmap_pgoff(self, file: File | None, addr: int, length: int, prot: int, flags: int, pgoff: int) -> int:
        """In 2.6 areas of files merge too, MAP_LOCKED and MAP_POPULATE work, and promises are counted, because areas know more; before that
        only anonymous areas merged.

        Map [addr, addr + length) of the current task to *file* from page *pgoff* on, or to nothing. Returns the address, or
        -ENODEV, -EPERM (locking), -EINVAL, -ENOMEM, -EAGAIN, -EACCES, -ETXTBSY. A length of 0 maps nothing.
        kernel: mm/mmap.c:do_mmap_pgoff
        """
        task = self.kernel.current
        mm = cast(MmStruct26, task.mm)
        addr, length, pgoff = addr & U32, length & U32, pgoff & U32
        accountable = not self.is_file_hugepages(file)
        if file is not None and (file.f_op is None or file.f_op.mmap is None):
            return -ENODEV
        if not length:
            return addr
        length = page_align(length)
        if not length or length > TASK_SIZE or pgoff + (length >> 12) > U32:
            return -EINVAL
        if mm.map_count > self.max_map_count:
            return -ENOMEM
        addr = self.get_unmapped_area(file, addr, length, pgoff, flags)
        if addr & 0xFFF:
            return addr
        vm_flags = self.calc_vm_flags(prot, flags) | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
        if flags & MAP_LOCKED and not can_do_mlock(task):
            return -EPERM
        if vm_flags & VM_LOCKED and self._too_much_locked(mm, length):
            return -EAGAIN
        vm_flags = self._sharing(file, prot, flags, vm_flags)
        if vm_flags < 0:
            return vm_flags
        if file is None and not vm_flags & VM_SHARED:
            pgoff = addr >> 12
        place = self._make_room(mm, addr, length)
        if place is None or self._beyond_limit(mm, length):
            return -ENOMEM
        charged = 0
        if accountable and (not flags & MAP_NORESERVE or self.sysctl_overcommit_memory == OVERCOMMIT_NEVER):
            if vm_flags & VM_SHARED:
                vm_flags |= VM_ACCOUNT
            elif vm_flags & VM_WRITE:
                charged = length >> 12
                if self.security_vm_enough_memory(charged):
                    return -ENOMEM
                vm_flags |= VM_ACCOUNT
        if file is not None or vm_flags & VM_SHARED or self.vma_merge(mm, place.prev, addr, addr + length, vm_flags, pgoff=pgoff) is None:
            made = self._map_new(place, file, (addr, addr + length), vm_flags, pgoff)
            if isinstance(made, int):
                if charged:
                    self.vm_unacct_memory(charged)
                return made
            addr, pgoff, vm_flags, file = made
        return self._mapped(mm, file, (addr, length), flags, vm_flags, pgoff)

    def _make_room(self, mm: MmStruct26, addr: int, length: int) -> Place | None:
        """Unmap what is in the way and say where the new area belongs; None when that failed."""
        place = self.find_vma_prepare(mm, addr)
        while place.vma is not None and place.vma.vm_start < addr + length:
            if self.do_munmap(mm, addr, length):
                return None
            place = self.find_vma_prepare(mm, addr)
        return place

    def _beyond_limit(self, mm: MmStruct26, length: int) -> bool:
        return (mm.total_vm << 12) + length & U32 > self.kernel.current.rlim[RLIMIT_AS]

    def _map_new(
        self, place: Place, file: File | None, extent: tuple[int, int], vm_flags: int, pgoff: int
    ) -> tuple[int, int, int, File | None] | int:
        """The part of do_mmap_pgoff that makes an area. Returns its address, offset, flags and file, or a negative error.

        It may turn out mergeable only once the file's own mmap has filled it in.
        """
        mm = self.kernel.current.mm
        assert mm is not None
        vma = cast("VmArea26 | None", self.alloc_vma())
        if vma is None:
            return -ENOMEM
        self.init_vma(vma, mm, *extent, vm_flags)
        vma.vm_pgoff = pgoff
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
            error = int(file.f_op.mmap(file, vma))
            if error:
                if denied:
                    allow_write_access(file)
                vma.vm_file = None
                fput(self.kernel, file)
                self.kernel.memory.zap_page_range(vma, vma.vm_start, vma.vm_end - vma.vm_start)  # type: ignore[arg-type]
                self.free_vma(vma)
                return error
        elif vm_flags & VM_SHARED:
            error = int(self.kernel.shmem.shmem_zero_setup(vma))
            if error:
                self.free_vma(vma)
                return error
        if vm_flags & (VM_SHARED | VM_ACCOUNT) == VM_SHARED | VM_ACCOUNT:
            vma.vm_flags &= ~VM_ACCOUNT  # the tmpfs object was charged, not the area
        made = vma.vm_start, vma.vm_pgoff, vma.vm_flags
        merged = file is not None and self.vma_merge(mm, place.prev, vma.vm_start, vma.vm_end, vma.vm_flags, None, file, vma.vm_pgoff)
        if not merged:
            self.vma_link(mm, vma, place)
            file = vma.vm_file
        if denied:
            allow_write_access(file)
        if merged:
            fput(self.kernel, cast("File", file))
            self.free_vma(vma)
        return *made, file

    def _mapped(self, mm: MmStruct26, file: File | None, extent: tuple[int, int], flags: int, vm_flags: int, pgoff: int) -> int:
        """The end of do_mmap_pgoff: accounts, and pages that must be there at once. Returns the address."""
        addr, length = extent
        mm.total_vm = mm.total_vm + (length >> 12) & U32
        self.vm_stat_account(mm, vm_flags, file, length >> 12)
        if self.on_event is not None:
            self.on_event(("mmap", mm.pid, addr, addr + length, vm_flags, pgoff))
        if vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + (length >> 12) & U32
            self.kernel.memory.make_pages_present(addr, addr + length)
        if flags & MAP_POPULATE:
            self.kernel.fremap.sys_remap_file_pages(addr, length, 0, pgoff, flags & MAP_NONBLOCK)  # type: ignore[attr-defined]
        self.update_mem_hiwater()
        return addr

    def do_brk(self, addr: int, length: int) -> int:
        """In 2.6 the heap is checked against TASK_SIZE and not executable, because do_brk could map the kernel's space before.

        Map [addr, addr + length) of the current task as plain private memory. Returns *addr*, -EINVAL, -EAGAIN
        or -ENOMEM. kernel: mm/mmap.c:do_brk
        """
        mm = cast(MmStruct26, self.kernel.current.mm)
        length = page_align(length)
        if not length:
            return addr
        end = addr + length
        if end > TASK_SIZE:
            return -EINVAL
        if mm.def_flags & VM_LOCKED and self._too_much_locked(mm, length):
            return -EAGAIN
        place = self._make_room(mm, addr, length)
        if place is None or self._beyond_limit(mm, length) or mm.map_count > self.max_map_count:
            return -ENOMEM
        if self.security_vm_enough_memory(length >> 12):
            return -ENOMEM
        flags = VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | mm.def_flags
        if self.vma_merge(mm, place.prev, addr, end, flags, pgoff=addr >> 12) is None:
            vma = self.alloc_vma()
            if vma is None:
                self.vm_unacct_memory(length >> 12)
                return -ENOMEM
            self.init_vma(vma, mm, addr, end, flags)
            vma.vm_pgoff = addr >> 12
            self.vma_link(mm, vma, place)
        mm.total_vm = mm.total_vm + (length >> 12) & U32
        if self.on_event is not None:
            self.on_event(("brk", mm.pid, addr, end))
        if flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + (length >> 12) & U32
            self.kernel.memory.make_pages_present(addr, end)
        self.update_mem_hiwater()
        return addr

    # -- the stack -----------------------------------------------------------------------------

    def acct_stack_growth(self, vma: VmArea26, size: int, grow: int) -> int:
        """In 2.6 a growing stack is checked like any mapping, because it takes memory too; before that only two limits counted.

        *size* in bytes, *grow* in pages. Returns 0 or -ENOMEM. kernel: mm/mmap.c:acct_stack_growth
        """
        mm = cast(MmStruct26, vma.vm_mm)
        task = self.kernel.current
        if mm.total_vm + grow & U32 > task.rlim[RLIMIT_AS] >> 12 or size > task.rlim[RLIMIT_STACK]:
            return -ENOMEM
        locked = vma.vm_flags & VM_LOCKED
        if locked and mm.locked_vm + grow & U32 > task.rlim[RLIMIT_MEMLOCK] >> 12 and not task.capable(CAP_IPC_LOCK):
            return -ENOMEM
        if self.security_vm_enough_memory(grow):
            return -ENOMEM
        mm.total_vm = mm.total_vm + grow & U32
        if locked:
            mm.locked_vm = mm.locked_vm + grow & U32
        self.vm_stat_account(mm, vma.vm_flags, vma.vm_file, grow)
        self.update_mem_hiwater()
        return 0

    def expand_stack(self, vma: VmArea, address: int) -> int:
        """In 2.6 the area gets its list of anonymous pages first, because its lock guards the start; before that another did.

        Let *vma* begin at the page of *address*. Returns 0 or -ENOMEM. kernel: mm/mmap.c:expand_stack
        """
        if self.kernel.rmap.anon_vma_prepare(vma):  # type: ignore[attr-defined]
            return -ENOMEM
        address &= PAGE_MASK
        if address >= vma.vm_start:
            return 0
        grow = vma.vm_start - address >> 12
        error = self.acct_stack_growth(cast(VmArea26, vma), vma.vm_end - address, grow)
        if not error:
            vma.vm_start = address
            vma.vm_pgoff = vma.vm_pgoff - grow & U32
            if self.on_event is not None and vma.vm_mm is not None:
                self.on_event(("expand_stack", vma.vm_mm.pid, address, grow))
        return error
