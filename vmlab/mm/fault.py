"""What the kernel does when the processor raises a page fault.

The processor pushes an error code: bit 0 the page was there but not the right, bit 1 it was a
write, bit 2 it came from user mode. ``do_page_fault`` finds the area of the address and either has
``handle_mm_fault`` bring the page in, or sends a signal, or (for the kernel's own accesses) goes
on at the fixup of the instruction that faulted, or dies with an oops.

kernel: arch/i386/mm/fault.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .extable import EXCEPTION_TABLE, ExceptionEntry
from .memory_fault import FAULT_MAJOR, FAULT_MINOR, FAULT_SIGBUS
from .pgtable import _PAGE_PRESENT, _PAGE_PROTNONE
from .task import SIGBUS, SIGKILL, SIGSEGV
from .uaccess import Uaccess
from .vm import TASK_SIZE, VM_EXEC, VM_GROWSDOWN, VM_READ, VM_WRITE

if TYPE_CHECKING:
    from .kernel import Kernel
    from .task import Task
    from .vm import MmStruct, VmArea

PF_PROT, PF_WRITE, PF_USER = 1, 2, 4  # the error code
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR = 1, 2, 2
KERN_ALERT = 1
_M32 = 0xFFFFFFFF
_PAGE_MASK = 0xFFFFF000


class Regs:
    """The registers a fault handler looks at. kernel: include/asm-i386/ptrace.h:pt_regs"""

    __slots__ = ("eip", "esp")

    def __init__(self, eip: int = 0, esp: int = 0) -> None:
        self.eip = eip
        self.esp = esp


class SigInfo(NamedTuple):
    """Why a SIGSEGV or SIGBUS was sent. ``code``: SEGV_MAPERR, SEGV_ACCERR or BUS_ADRERR. kernel: include/asm-i386/siginfo.h:siginfo_t"""

    signo: int
    code: int
    address: int  # bytes
    error_code: int  # what the processor pushed
    reason: str

    def __str__(self) -> str:
        name = {SIGSEGV: "SIGSEGV", SIGBUS: "SIGBUS"}.get(self.signo, str(self.signo))
        code = "BUS_ADRERR" if self.signo == SIGBUS else "SEGV_MAPERR" if self.code == SEGV_MAPERR else "SEGV_ACCERR"
        return f"{name} ({code}) at {self.address:#010x}: {self.reason}"


class Fault(Uaccess):
    """``do_page_fault``, and (in uaccess.py) the kernel's access to user memory."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def do_page_fault(self, address: int, error_code: int, regs: Regs) -> int:
        """The page fault exception at *address* (bytes; what CR2 holds) in the running task.

        Returns 0 when the access is to be tried again (or, from kernel mode, to go on at ``regs.eip``: at a
        fixup when that changed), else the signal sent: SIGSEGV, SIGBUS, or SIGKILL for a task that must die for
        lack of memory. Raises KernelBug for an oops. kernel: arch/i386/mm/fault.c:do_page_fault
        """
        kernel = self.kernel
        ev = self.on_event
        task = kernel.current
        if ev is not None:
            ev(("page_fault", task.pid, address, error_code))
        if address >= TASK_SIZE and not error_code & (PF_USER | PF_PROT):
            return self.vmalloc_fault(address, error_code, regs)
        mm = task.mm
        if mm is None:
            return self.no_context(address, error_code, regs)
        vma = kernel.mmap.find_vma(mm, address)
        if vma is None:
            return self.bad_area(address, error_code, regs, SEGV_MAPERR, "no area at or above it")
        if vma.vm_start > address:
            why = self._grow_stack(vma, address, error_code, regs)
            if why:
                return self.bad_area(address, error_code, regs, SEGV_MAPERR, why)
        write = 0
        if error_code & PF_WRITE:
            if not vma.vm_flags & VM_WRITE:
                return self.bad_area(address, error_code, regs, SEGV_ACCERR, "the area may not be written")
            write = 1
        elif error_code & PF_PROT:
            return self.bad_area(address, error_code, regs, SEGV_ACCERR, "the page is there, but not for user mode")
        elif not vma.vm_flags & (VM_READ | VM_EXEC):
            return self.bad_area(address, error_code, regs, SEGV_ACCERR, "the area may not be read")
        while True:
            fault = kernel.memory.handle_mm_fault(mm, vma, address, write)
            if fault == FAULT_MINOR:
                task.min_flt += 1
            elif fault == FAULT_MAJOR:
                task.maj_flt += 1
            elif fault == FAULT_SIGBUS:
                return self.do_sigbus(address, error_code, regs)
            elif task.pid == 1:  # init must survive
                kernel.sched.yield_()
                continue
            else:
                return self.out_of_memory(address, error_code, regs)
            if ev is not None:
                ev(("fault_done", task.pid, address, fault))
            return 0

    def _grow_stack(self, vma: VmArea, address: int, error_code: int, regs: Regs) -> str:
        """Grow the area above *address* down to it, if it is a stack. Returns "", or why not."""
        if not vma.vm_flags & VM_GROWSDOWN:
            return "between two areas, and the one above is no stack"
        if error_code & PF_USER and (address + 32 & _M32) < regs.esp:
            # "pusha" and the like store up to 32 bytes below %esp before they move it.
            return f"more than 32 bytes below the stack pointer {regs.esp:#x}"
        if self.kernel.mmap.expand_stack(vma, address):
            return "the stack may not grow that far (RLIMIT_STACK or RLIMIT_AS)"
        if self.on_event is not None:
            self.on_event(("stack_grows", address, vma.vm_start))
        return ""

    # -- how it ends badly --------------------------------------------------------------------

    def bad_area(self, address: int, error_code: int, regs: Regs, code: int, reason: str) -> int:
        """Nothing the process may touch there: SIGSEGV in user mode. kernel: arch/i386/mm/fault.c:do_page_fault (bad_area)"""
        task = self.kernel.current
        if self.on_event is not None:
            self.on_event(("bad_area", task.pid, address, reason))
        if error_code & PF_USER:
            task.siginfo = SigInfo(SIGSEGV, code, address, error_code, reason)
            self.kernel.sched.force_sig_info(SIGSEGV, task)
            return SIGSEGV
        return self.no_context(address, error_code, regs)

    def do_sigbus(self, address: int, error_code: int, regs: Regs) -> int:
        """The area is right, but nothing is behind the page: a file that is shorter.

        kernel: arch/i386/mm/fault.c:do_page_fault (do_sigbus)
        """
        task = self.kernel.current
        reason = "no such page in what is mapped there"
        if self.on_event is not None:
            self.on_event(("bad_area", task.pid, address, reason))
        task.siginfo = SigInfo(SIGBUS, BUS_ADRERR, address, error_code, reason)
        self.kernel.sched.force_sig_info(SIGBUS, task)
        if not error_code & PF_USER:
            return self.no_context(address, error_code, regs)
        return SIGBUS

    def out_of_memory(self, address: int, error_code: int, regs: Regs) -> int:
        """No frame to be had: the process is killed. kernel: arch/i386/mm/fault.c:do_page_fault (out_of_memory)"""
        task = self.kernel.current
        self.kernel.printk(None, f"VM: killing process {task.comm}")
        if error_code & PF_USER:
            self.kernel.sched.do_exit(task)
            return SIGKILL
        return self.no_context(address, error_code, regs)

    def no_context(self, address: int, error_code: int, regs: Regs) -> int:
        """The kernel itself faulted: go on at the instruction's fixup, or oops.

        kernel: arch/i386/mm/fault.c:do_page_fault (no_context), fixup_exception
        """
        fixup = self.search_exception_table(regs.eip)
        if fixup:
            if self.on_event is not None:
                self.on_event(("fixup", address, regs.eip, fixup))
            regs.eip = fixup
            return 0
        self.oops(address, error_code, regs)
        raise KernelBug("do_page_fault", self._oops_text(address), "oops")

    def _oops_text(self, address: int) -> str:
        kind = "NULL pointer dereference" if address < PAGE_SIZE else "paging request"
        return f"Unable to handle kernel {kind} at virtual address {address:08x}"

    def oops(self, address: int, error_code: int, regs: Regs) -> None:
        """Report a fault that the kernel was not prepared for, and let the task die.

        kernel: arch/i386/mm/fault.c:do_page_fault, arch/i386/kernel/traps.c:die
        """
        kernel = self.kernel
        task = kernel.current
        kernel.printk(KERN_ALERT, self._oops_text(address))
        kernel.printk(None, " printing eip:")
        kernel.printk(None, f"{regs.eip:08x}")
        pgd_pa = self._loaded_mm().pgd.pa
        pde = self._word(pgd_pa + (address >> 22 << 2))
        kernel.printk(KERN_ALERT, f"*pde = {pde:08x}")
        if pde & _PAGE_PRESENT:
            # The kernel reads every machine's tables as if they had two levels.
            pte = self._word((pde & _PAGE_MASK) + ((address & 0x003FF000) >> PAGE_SHIFT << 2))
            kernel.printk(KERN_ALERT, f"*pte = {pte:08x}")
        kernel.printk(None, f"Oops: {error_code:04x}")
        if task is not kernel.init_task:
            kernel.sched.do_exit(task)

    def _word(self, address: int) -> int:
        """The word at physical *address*, 0 outside memory."""
        if address >> PAGE_SHIFT >= self.kernel.ram.frames:
            return 0
        return int.from_bytes(self.kernel.ram.read(address, 4), "little")

    def _loaded_mm(self) -> MmStruct:
        """The address space whose directory CR3 points to."""
        task: Task = self.kernel.current
        return task.mm or task.active_mm or self.kernel.init_mm

    # -- kernel addresses ---------------------------------------------------------------------

    def vmalloc_fault(self, address: int, error_code: int, regs: Regs) -> int:
        """The kernel touched a vmalloc address this process's directory does not know yet: copy the entry from init_mm's.

        kernel: arch/i386/mm/fault.c:do_page_fault (vmalloc_fault)
        """
        kernel = self.kernel
        pgtable = kernel.pgtable
        mm, init_mm = self._loaded_mm(), kernel.init_mm
        if pgtable.pae:
            at = address >> 30
            entry = init_mm.pgd.table[at]
            if not entry & _PAGE_PRESENT:
                return self.no_context(address, error_code, regs)
            mm.pgd.table[at] = entry
        found, reference = pgtable.pmd_lookup(mm, address), pgtable.pmd_lookup(init_mm, address)
        if found is None or reference is None:
            return self.no_context(address, error_code, regs)
        (table, slot), (master, at) = found, reference
        if not pgtable.pae:
            table[slot] = master[at]  # set_pgd(): the folded level stores before it looks
        if not master[at] & _PAGE_PRESENT:
            return self.no_context(address, error_code, regs)
        table[slot] = master[at]
        if self.on_event is not None:
            self.on_event(("vmalloc_fault", address, master[at]))
        pte = pgtable.pte_lookup(init_mm, address)
        if pte is None or not pte[0][pte[1]] & (_PAGE_PRESENT | _PAGE_PROTNONE):
            return self.no_context(address, error_code, regs)
        return 0

    # -- the exception table ------------------------------------------------------------------

    def search_exception_table(self, address: int) -> int:
        """Where to go on after a fault of the kernel instruction at *address*; 0 when it has no fixup.

        kernel: arch/i386/mm/extable.c:search_exception_table
        """
        return self.search_one_table(EXCEPTION_TABLE, 0, len(EXCEPTION_TABLE) - 1, address)

    def search_one_table(self, table: tuple[ExceptionEntry, ...], first: int, last: int, value: int) -> int:
        """Binary search among entries sorted by instruction. kernel: arch/i386/mm/extable.c:search_one_table"""
        while first <= last:
            mid = (last - first) // 2 + first
            diff = table[mid].insn - value
            if diff == 0:
                return table[mid].fixup
            if diff < 0:
                first = mid + 1
            else:
                last = mid - 1
        return 0

    # -- processors that ignore read-only in kernel mode --------------------------------------

    def verify_write(self, address: int, size: int) -> int:
        """Have *size* bytes at *address* writable before the kernel writes there: what an i386 proper needs. 1 if they are, else 0.

        Later processors fault on a kernel write to a read-only page too, so that nobody calls this.
        kernel: arch/i386/mm/fault.c:__verify_write
        """
        kernel = self.kernel
        mm = kernel.current.mm
        if not size:
            return 1
        vma: VmArea | None = None if mm is None else kernel.mmap.find_vma(mm, address)
        if mm is None or vma is None:
            return 0
        if vma.vm_start > address and (not vma.vm_flags & VM_GROWSDOWN or kernel.mmap.expand_stack(vma, address)):
            return 0
        if not vma.vm_flags & VM_WRITE:
            return 0
        pages = (size - 1 + (address & PAGE_SIZE - 1)) >> PAGE_SHIFT
        start = address & _PAGE_MASK
        while True:
            fault = kernel.memory.handle_mm_fault(mm, vma, start, 1)
            if fault < 0 and kernel.current.pid == 1:
                kernel.sched.yield_()
                continue
            if fault <= 0:
                return 0
            if not pages:
                return 1
            pages -= 1
            start += PAGE_SIZE
            if start < vma.vm_end:
                continue
            vma = vma.vm_next
            if vma is None or vma.vm_start != start or not vma.vm_flags & VM_WRITE:
                return 0
