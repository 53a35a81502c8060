"""exec: a fresh address space with a program's code, data, bss, heap and stack.

         0x08048000        end_data  brk                                      0xC0000000
    ----|---code---|--data--|--bss--|→ heap      mmap area from 0x40000000     ← stack|

Code and data are mapped from the file (demand paged: nothing is read yet), bss and heap are anonymous,
the stack holds the arguments and the environment. kernel: fs/exec.c, fs/binfmt_elf.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errno import E2BIG, ENOEXEC, ENOMEM
from .exec_image import PF_R, PF_W, PF_X, Image, Segment
from .gfp import GFP_HIGHUSER
from .kernel import Part
from .mmap_areas import PAGE_MASK, U32, page_align
from .task import SIGKILL
from .vfs import allow_write_access, deny_write_access, fput, get_file
from .vm import (
    MAP_DENYWRITE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_PRIVATE,
    PAGE_COPY,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TASK_SIZE,
    VM_STACK_FLAGS,
    protection_map,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .fs import File
    from .kernel import Kernel

MAX_ARG_PAGES = 32
STACK_TOP = TASK_SIZE
ELF_ET_DYN_BASE = TASK_SIZE // 3 * 2
ELF_PLATFORM = b"i686\0"
ELF_HWCAP = 0x0383FBFF  # x86_capability[0] of a Pentium III
_PHENT = 32
AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17


class LinuxBinprm:
    """Arguments on their way to the new stack. kernel: include/linux/binfmts.h:linux_binprm"""

    def __init__(self, file: File) -> None:
        self.file = file
        self.p = MAX_ARG_PAGES * 4096 - 4  # offset of the lowest byte used, bytes
        self.page: list[int | None] = [None] * MAX_ARG_PAGES  # frames
        self.argc = self.envc = 0


class Exec(Part):
    """Loading programs; the base of Fork."""

    kernel: Kernel

    # -- arguments -----------------------------------------------------------------------------

    def copy_strings(self, strings: Sequence[bytes], bprm: LinuxBinprm) -> int:
        """Put *strings*, last first, below what is there already. Returns 0, -E2BIG (over 128 KiB) or -ENOMEM.

        kernel: fs/exec.c:copy_strings, copy_strings_kernel
        """
        for string in reversed(strings):
            data = string + b"\0"
            if bprm.p < len(data):
                return -E2BIG
            bprm.p -= len(data)
            at = bprm.p
            while data:
                index, offset = divmod(at, 4096)
                piece, data = data[: 4096 - offset], data[4096 - offset :]
                if not self._fill_page(bprm, index, offset, piece):
                    return -ENOMEM
                at += len(piece)
        return 0

    def _fill_page(self, bprm: LinuxBinprm, index: int, offset: int, piece: bytes) -> bool:
        """Write *piece* into one argument page; a new page is zeroed around it."""
        kernel = self.kernel
        pfn = bprm.page[index]
        new = pfn is None
        if pfn is None:
            pfn = kernel.alloc_page(GFP_HIGHUSER)
            if pfn is None:
                return False
            bprm.page[index] = pfn
        kernel.highmem.kmap(pfn)
        if new:
            piece = bytes(offset) + piece
            piece, offset = piece.ljust(4096, b"\0"), 0
        kernel.ram.write((pfn << 12) + offset, piece)
        kernel.highmem.kunmap(pfn)
        return True

    def put_dirty_page(self, pfn: int, address: int) -> None:
        """Map argument page *pfn* at *address* of the current task; it is dirty. kernel: fs/exec.c:put_dirty_page"""
        kernel = self.kernel
        task = kernel.current
        mm = task.mm
        assert mm is not None
        found = kernel.pgtable.pte_alloc(mm, address)
        if found is None or found[0][found[1]]:
            kernel.put_page(pfn)
            kernel.sched.force_sig(SIGKILL, task)
            return
        kernel.swap.lru_cache_add(pfn)
        vma = kernel.mmap.find_vma(mm, address)
        prot = vma.vm_page_prot if vma is not None else PAGE_COPY
        found[0][found[1]] = pfn << 12 | prot | 0x42  # dirty, writable
        mm.rss += 1

    def setup_arg_pages(self, npages: int = 0, bprm: LinuxBinprm | None = None) -> int:
        """Make the stack area of the current task: *npages* pages, or as many as *bprm*'s arguments need, which it then holds.

        ``total_vm`` becomes its size. Returns its lowest address or -ENOMEM. kernel: fs/exec.c:setup_arg_pages
        """
        kernel = self.kernel
        mm = kernel.current.mm
        assert mm is not None
        base = STACK_TOP - MAX_ARG_PAGES * 4096
        start = STACK_TOP - npages * 4096
        if bprm is not None:
            bprm.p += base
            start = bprm.p & PAGE_MASK
        vma = kernel.mmap.alloc_vma()
        if vma is None:
            return -ENOMEM
        kernel.mmap.init_vma(vma, mm, start, STACK_TOP, VM_STACK_FLAGS)
        vma.vm_page_prot = protection_map[VM_STACK_FLAGS & 7]
        kernel.mmap.insert_vm_struct(mm, vma)
        mm.total_vm = STACK_TOP - start >> 12
        if bprm is not None:
            for index, pfn in enumerate(bprm.page):
                if pfn is not None:
                    bprm.page[index] = None
                    self.put_dirty_page(pfn, base + index * 4096)
        return start

    # -- the new address space -----------------------------------------------------------------

    def exec_mmap(self) -> int:
        """Give the current task an empty address space: its own emptied, or a new one if others use that too.

        Returns 0 or -ENOMEM. kernel: fs/exec.c:exec_mmap
        """
        kernel = self.kernel
        fork = kernel.fork
        task = kernel.current
        old_mm = task.mm
        if self.on_event is not None:
            self.on_event(("exec_mmap", task.pid))
        if old_mm is not None and old_mm.mm_users == 1:
            kernel.mmap.exit_mmap(old_mm)
            return 0
        mm = fork.mm_alloc(task.pid)
        if mm is None:
            return -ENOMEM
        fork.mmlist.insert(0, mm)
        task.mm = task.active_mm = mm
        if old_mm is not None:
            fork.mmput(old_mm)
        return 0

    def do_execve(
        self, file: File, image: Image, argv: Sequence[str] = (), envp: Sequence[str] = (), interp: tuple[File, Image] | None = None
    ) -> int:
        """The current task becomes the program *image* in *file*; *interp* is its dynamic linker.

        Afterwards ``task.eip`` and ``task.esp`` are where it begins. Returns 0, or -ETXTBSY (the file is open
        for writing), -ENOEXEC (it cannot be mapped), -E2BIG, -ENOMEM. kernel: fs/exec.c:do_execve
        """
        error = deny_write_access(file)
        if error:
            return error
        get_file(file)
        bprm = LinuxBinprm(file)
        bprm.argc, bprm.envc = len(argv), len(envp)
        name = (file.inode.name or "program").encode()
        for strings in ([name], [s.encode() for s in envp], [s.encode() for s in argv]):
            error = error or self.copy_strings(strings, bprm)
        if not error:
            error = self.load_elf_binary(bprm, image, interp)
        allow_write_access(file)
        fput(self.kernel, file)
        if error:
            for pfn in bprm.page:
                if pfn is not None:
                    self.kernel.put_page(pfn)
        return error

    def load_elf_binary(self, bprm: LinuxBinprm, image: Image, interp: tuple[File, Image] | None) -> int:
        """Map the program's segments and what belongs to them. Returns 0 or an error; the old program may be gone by then.

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
        mm = task.mm
        assert mm is not None
        task.comm = (bprm.file.inode.name or task.comm).rsplit("/", 1)[-1][:15]
        mm.start_data = mm.end_data = mm.end_code = 0
        mm.mmap = None
        mm.rss = 0
        if self.setup_arg_pages(bprm=bprm) < 0:
            kernel.sched.send_sig(SIGKILL, task)
            return -ENOMEM
        mm.start_stack = bprm.p
        load_addr, bias, elf_bss, elf_brk = self._map_program(bprm.file, image)
        entry = image.entry + bias & U32
        interp_addr = 0
        if interp is not None:
            interp_addr, entry = self.load_elf_interp(*interp)
            allow_write_access(interp[0])
        task.esp = self.create_elf_tables(bprm, image, load_addr, bias, interp_addr)
        mm.start_brk = mm.brk = elf_brk
        ends = [s.p_vaddr + s.p_filesz + bias & U32 for s in image.segments]
        mm.start_code = min(s.p_vaddr for s in image.segments) + bias & U32
        mm.start_data = max(s.p_vaddr for s in image.segments) + bias & U32
        mm.end_code = max((e for e, s in zip(ends, image.segments, strict=True) if s.p_flags & PF_X), default=0)
        mm.end_data = max(ends)
        mm.start_stack = task.esp
        self.set_brk(elf_bss, elf_brk)
        self.padzero(elf_bss)
        task.eip = entry
        return 0

    def _map_program(self, file: File, image: Image) -> tuple[int, int, int, int]:
        """Map all segments. Returns (load address, bias, end of file data, end of bss), in bytes."""
        bias = load_addr = elf_bss = elf_brk = 0
        placed = False
        for segment in image.segments:
            if elf_brk > elf_bss:  # the one before had a bss
                self.set_brk(elf_bss + bias & U32, elf_brk + bias & U32)
                rest = -elf_bss & 0xFFF
                if rest:
                    self.kernel.fault.clear_user(elf_bss + bias & U32, min(rest, elf_brk - elf_bss))
            flags = MAP_PRIVATE | MAP_DENYWRITE | MAP_EXECUTABLE
            if not image.dynamic or placed:
                flags |= MAP_FIXED
            else:
                bias = ELF_ET_DYN_BASE - segment.p_vaddr & PAGE_MASK
            address = self.elf_map(file, bias + segment.p_vaddr & U32, segment, flags)
            if address < 0 or address > TASK_SIZE:
                continue
            if not placed:
                placed = True
                load_addr = segment.p_vaddr - segment.p_offset
                if image.dynamic:
                    bias = bias + address - (bias + segment.p_vaddr & PAGE_MASK) & U32
                    load_addr += bias
            elf_bss = max(elf_bss, segment.p_vaddr + segment.p_filesz)
            elf_brk = max(elf_brk, segment.p_vaddr + segment.p_memsz)
        return load_addr & U32, bias, elf_bss + bias & U32, elf_brk + bias & U32

    def elf_map(self, file: File, address: int, segment: Segment, flags: int) -> int:
        """Map the pages of the file that a segment touches. Returns the address or an error. kernel: fs/binfmt_elf.c:elf_map"""
        prot = sum(bit for flag, bit in ((PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)) if segment.p_flags & flag)
        inside = segment.p_vaddr & 0xFFF
        length = segment.p_filesz + inside
        if self.on_event is not None:
            self.on_event(("exec_segment", self.kernel.current.pid, address & PAGE_MASK, (address & PAGE_MASK) + length, prot))
        return self.kernel.mmap.do_mmap(file, address & PAGE_MASK, length, prot, flags, segment.p_offset - inside & U32)

    def load_elf_interp(self, file: File, image: Image) -> tuple[int, int]:
        """Map the dynamic linker where there is room. Returns (its load address, its entry point).

        kernel: fs/binfmt_elf.c:load_elf_interp
        """
        load_addr = elf_bss = last_bss = 0
        placed = False
        for segment in image.segments:
            flags = MAP_PRIVATE | MAP_DENYWRITE | (MAP_FIXED if placed or not image.dynamic else 0)
            address = self.elf_map(file, load_addr + segment.p_vaddr & U32, segment, flags)
            if address < 0 or address > TASK_SIZE:
                return 0, 0
            if not placed and image.dynamic:
                load_addr = address - (segment.p_vaddr & PAGE_MASK)
                placed = True
            elf_bss = max(elf_bss, load_addr + segment.p_vaddr + segment.p_filesz)
            last_bss = max(last_bss, load_addr + segment.p_vaddr + segment.p_memsz)
        self.padzero(elf_bss)
        elf_bss = page_align(elf_bss)
        if last_bss > elf_bss:
            self.kernel.mmap.do_brk(elf_bss, last_bss - elf_bss)
        return load_addr, image.entry + load_addr

    def set_brk(self, start: int, end: int) -> None:
        """Anonymous pages from the first whole page after *start* up to *end*. kernel: fs/binfmt_elf.c:set_brk"""
        start, end = page_align(start), page_align(end)
        if end > start:
            self.kernel.mmap.do_brk(start, end - start)

    def padzero(self, elf_bss: int) -> None:
        """Zero the rest of the page in which the file's data ends. kernel: fs/binfmt_elf.c:padzero"""
        if elf_bss & 0xFFF:
            self.kernel.fault.clear_user(elf_bss, -elf_bss & 0xFFF)

    def create_elf_tables(self, bprm: LinuxBinprm, image: Image, load_addr: int, bias: int, interp_addr: int) -> int:
        """Write argc, the argv and envp pointers and the auxiliary vector below the strings. Returns the stack pointer.

        kernel: fs/binfmt_elf.c:create_elf_tables
        """
        kernel = self.kernel
        task = kernel.current
        mm = task.mm
        assert mm is not None
        fault = kernel.fault
        p = bprm.p
        platform = p - len(ELF_PLATFORM)
        fault.copy_to_user(platform, ELF_PLATFORM)
        auxv = [
            *((AT_HWCAP, ELF_HWCAP), (AT_PAGESZ, 4096), (AT_CLKTCK, 100), (AT_PHDR, load_addr + image.phoff & U32), (AT_PHENT, _PHENT)),
            *((AT_PHNUM, len(image.segments)), (AT_BASE, interp_addr), (AT_FLAGS, 0), (AT_ENTRY, image.entry + bias & U32)),
            *((AT_UID, task.uid), (AT_EUID, task.euid), (AT_GID, task.gid), (AT_EGID, task.egid)),
            *((AT_PLATFORM, platform), (AT_NULL, 0)),
        ]
        argv: list[int] = []
        envp: list[int] = []
        ends: list[int] = []
        mm.arg_start = p
        for count, pointers in ((bprm.argc, argv), (bprm.envc, envp)):
            for _ in range(count):
                pointers.append(p)
                p += fault.strnlen_user(p, MAX_ARG_PAGES * 4096)
            ends.append(p)
        mm.arg_end = mm.env_start = ends[0]
        mm.env_end = ends[1]
        below = 4 * (2 * len(auxv) + len(envp) + 1 + len(argv) + 1 + 3)  # bytes
        sp = (platform & ~15) - below & ~15
        pointers_at = sp + 12
        words = [len(argv), pointers_at, pointers_at + 4 * (len(argv) + 1), *argv, 0, *envp, 0]
        words += [word for pair in auxv for word in pair]
        for at in range(len(words) - 1, -1, -1):  # the kernel fills it from the top down
            fault.put_user(words[at], sp + 4 * at)
        return sp
