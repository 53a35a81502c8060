"""exec in 2.6: the layout is chosen anew, the stack is promised memory, argument pages are anonymous pages like any others.

Programs count as built with a non-executable stack (PT_GNU_STACK): PROT_READ does not imply PROT_EXEC.
kernel: fs/exec.c, fs/binfmt_elf.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EFAULT, ENOEXEC, ENOMEM
from ..mm.exec import MAX_ARG_PAGES, STACK_TOP, Exec, LinuxBinprm
from ..mm.exec_image import PF_X, Image
from ..mm.mmap_areas import PAGE_MASK, U32, page_align
from ..mm.task import SIGKILL, SIGSEGV
from ..mm.vfs import allow_write_access, deny_write_access
from ..mm.vm import TASK_SIZE, protection_map
from .vm import VM_STACK_FLAGS, MmStruct26

if TYPE_CHECKING:
    from ..mm.fs import File
    from .mmap import Mmap26

_WRITE_DIRTY = 0x42  # _PAGE_RW | _PAGE_DIRTY


class Exec26(Exec):
    """Loading programs; a base of Fork26."""

    def put_dirty_page(self, pfn: int, address: int) -> None:
        """In 2.6 an argument page enters the reverse mapping and the active list, because it is an anonymous page; before that it entered
        the inactive list.

        Map argument page *pfn* at *address* of the current task. kernel: fs/exec.c:install_arg_page
        """
        kernel = self.kernel
        task = kernel.current
        mm = task.mm
        assert mm is not None
        vma = kernel.mmap.find_vma(mm, address)
        assert vma is not None
        rmap = kernel.rmap  # type: ignore[attr-defined]
        found = None if rmap.anon_vma_prepare(vma) else kernel.pgtable.pte_alloc(mm, address)
        if found is None or found[0][found[1]]:
            kernel.put_page(pfn)
            kernel.sched.force_sig(SIGKILL, task)
            return
        mm.rss += 1
        kernel.swap.lru_cache_add_active(pfn)  # type: ignore[attr-defined]
        found[0][found[1]] = pfn << 12 | vma.vm_page_prot | _WRITE_DIRTY
        rmap.page_add_anon_rmap(pfn, vma, address)

    def setup_arg_pages(self, npages: int = 0, bprm: LinuxBinprm | None = None) -> int:
        """In 2.6 the stack is promised memory and not executable by default, because attackers put code there; before that neither.

        Make the stack area of the current task: *npages* pages, or as many as *bprm*'s arguments need, which it
        then holds. Returns its lowest address or -ENOMEM. kernel: fs/exec.c:setup_arg_pages
        """
        kernel = self.kernel
        mmap = cast("Mmap26", kernel.mmap)
        mm = cast(MmStruct26, kernel.current.mm)
        base = STACK_TOP - MAX_ARG_PAGES * 4096
        size = npages * 4096
        if bprm is not None:
            bprm.p += base
            mm.arg_start = bprm.p
            size = STACK_TOP - (bprm.p & PAGE_MASK)
        vma = mmap.alloc_vma()
        if vma is None:
            return -ENOMEM
        if mmap.security_vm_enough_memory(size >> 12):
            mmap.free_vma(vma)
            return -ENOMEM
        mmap.init_vma(vma, mm, STACK_TOP - size, STACK_TOP, VM_STACK_FLAGS | mm.def_flags)
        vma.vm_page_prot = protection_map[vma.vm_flags & 7]
        error = mmap.insert_vm_struct(mm, vma)
        if error:
            mmap.free_vma(vma)
            return error
        mm.stack_vm = mm.total_vm = size >> 12
        if bprm is not None:
            for index, pfn in enumerate(bprm.page):
                if pfn is not None:
                    bprm.page[index] = None
                    self.put_dirty_page(pfn, base + index * 4096)
        return vma.vm_start

    def exec_mmap(self) -> int:
        """In 2.6 always a new address space, because another process may be reading the old one; before that the only user's was emptied.

        Returns 0 or -ENOMEM. kernel: fs/exec.c:exec_mmap
        """
        kernel = self.kernel
        task = kernel.current
        old_mm = task.mm
        if self.on_event is not None:
            self.on_event(("exec_mmap", task.pid))
        mm = cast("MmStruct26 | None", kernel.fork.mm_alloc(task.pid))
        if mm is None:
            return -ENOMEM
        task.mm = task.active_mm = mm
        cast("Mmap26", kernel.mmap).arch_pick_mmap_layout(mm)
        if old_mm is not None:
            kernel.fork.mmput(old_mm)
        return 0

    def load_elf_binary(self, bprm: LinuxBinprm, image: Image, interp: tuple[File, Image] | None) -> int:
        """In 2.6 the bss is made before the dynamic linker is mapped, because that could land in its place; before that at the end.

        Map the program's segments and what belongs to them. Returns 0 or an error; the old program may be gone by then.
        kernel: fs/binfmt_elf.c:load_elf_binary
        """
        kernel = self.kernel
        task = kernel.current
        if bprm.file.f_op is None or bprm.file.f_op.mmap is None or not image.segments:
            return -ENOEXEC
        if interp is not None:
            error = deny_write_access(interp[0])
            if error:
                return int(error)
        error = self.exec_mmap()
        if error:
            return error
        mm = cast(MmStruct26, task.mm)
        task.comm = (bprm.file.inode.name or task.comm).rsplit("/", 1)[-1][:15]
        mm.free_area_cache = mm.mmap_base
        if self.setup_arg_pages(bprm=bprm) < 0:
            kernel.sched.send_sig(SIGKILL, task)
            return -ENOMEM
        mm.start_stack = bprm.p
        load_addr, bias, elf_bss, elf_brk = self._map_program(bprm.file, image)
        self.set_brk(elf_bss, elf_brk)
        mm.start_brk = mm.brk = page_align(elf_brk)
        if elf_bss & 0xFFF and kernel.fault.clear_user(elf_bss, -elf_bss & 0xFFF):
            kernel.sched.send_sig(SIGSEGV, task)
            return -EFAULT
        entry = image.entry + bias & U32
        interp_addr = 0
        if interp is not None:
            interp_addr, entry = self.load_elf_interp(*interp)
            if entry > TASK_SIZE:
                kernel.sched.force_sig(SIGSEGV, task)
                return -ENOEXEC
            allow_write_access(interp[0])
        task.esp = self.create_elf_tables(bprm, image, load_addr, bias, interp_addr)
        ends = [s.p_vaddr + s.p_filesz + bias & U32 for s in image.segments]
        mm.start_code = min(s.p_vaddr for s in image.segments) + bias & U32
        mm.start_data = max(s.p_vaddr for s in image.segments) + bias & U32
        mm.end_code = max((e for e, s in zip(ends, image.segments, strict=True) if s.p_flags & PF_X), default=0)
        mm.end_data = max(ends)
        mm.start_stack = task.esp
        task.eip = entry
        return 0
