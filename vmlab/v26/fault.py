"""What the 2.6 kernel does when the processor raises a page fault. kernel: arch/i386/mm/fault.c"""

from __future__ import annotations

from ..mm.fault import PF_PROT, PF_USER, Fault, Regs
from ..mm.vm import TASK_SIZE


class Fault26(Fault):
    """``do_page_fault`` of 2.6."""

    def bad_area(self, address: int, error_code: int, regs: Regs, code: int, reason: str) -> int:
        """In 2.6 a fault on a kernel address is told as a protection fault, because whether a page is there is no program's business;
        before that the processor's word was passed on.

        kernel: arch/i386/mm/fault.c:do_page_fault
        """
        if error_code & PF_USER and address >= TASK_SIZE:
            error_code |= PF_PROT
        return super().bad_area(address, error_code, regs, code, reason)

    def do_sigbus(self, address: int, error_code: int, regs: Regs) -> int:
        """In 2.6 the kernel's own accesses send no SIGBUS, because the system call returns EFAULT; before that both happened.

        kernel: arch/i386/mm/fault.c:do_page_fault (do_sigbus)
        """
        if not error_code & PF_USER:
            return self.no_context(address, error_code, regs)
        return super().do_sigbus(address, error_code, regs)
