"""Memory as a program uses it: each access walks the running task's page tables, and faults where they end.

``touch`` is one access; ``run`` many, fast. The kernel's hooks for TLB and caches are here too: on
the i386 those for caches do nothing, those for the TLB act on ``kernel.mmu.tlb`` when there is one
(a hw.tlb.Tlb; by default there is none, and every access walks).

kernel: include/asm-i386/pgtable.h, pgalloc.h, mmu_context.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..hw.layout import PAGE_SHIFT
from ..hw.mmu import FAULT_USER, FAULT_WRITE, I386Mmu
from .fault import Regs
from .kernel import Part
from .mmu_walk import Walk
from .task import SIGKILL

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from ..hw.tlb import Tlb
    from .kernel import Kernel
    from .task import Task
    from .vm import MmStruct, VmArea

_M32 = 0xFFFFFFFF
_READ_HIT = 0x25  # PRESENT USER ACCESSED: a read by user mode changes nothing
_WRITE_HIT = 0x67  # and RW DIRTY: nor does a write


class Run(NamedTuple):
    """What :meth:`Mmu.run` did. ``signal`` is the one that ended it, 0 if none did."""

    touches: int  # accesses that succeeded
    faults: int  # page faults taken
    signal: int


class Mmu(Part):
    """The processor's view of memory, and the kernel's calls that keep TLB and caches right."""

    state_names = ("loaded_mm", "tlb")

    def __init__(self) -> None:
        super().__init__()
        self.loaded = 0  # the word that the last read touch loaded: a result, read at once, and no state
        self.tlb: Tlb | None = None
        self.loaded_mm: MmStruct | None = None  # whose directory CR3 points to; followed only when there is a TLB

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.contents = kernel.ram.contents
        self.hardware = I386Mmu(kernel.ram, kernel.config.pae)

    # -- translating --------------------------------------------------------------------------

    def translate(self, mm: MmStruct, address: int, write: bool, user: bool) -> int:
        """The frame of *address* (bytes) for this access, or ~(error code) of its page fault. ACCESSED and DIRTY are set."""
        if self.tlb is None:
            return self.hardware.translate(mm.pgd.table, address, write, user)
        return self._translate_tlb(self.tlb, mm, address, write, user)

    def _translate_tlb(self, tlb: Tlb, mm: MmStruct, address: int, write: bool, user: bool) -> int:
        """The same through the TLB: a stale entry is believed, as the hardware does."""
        self.switch_mm(mm)
        page = address >> PAGE_SHIFT
        need = _WRITE_HIT & ~4 if write else _READ_HIT & ~4
        if user:
            need |= 4
        entry = tlb.lookup(page)
        if entry is not None:
            if entry.bits & need == need:
                if self.on_event is not None:
                    self.on_event(("tlb_hit", address, entry.frame))
                return entry.frame
            tlb.drop(page)  # a first write, or a right that is missing: the tables must say
        frame = self.hardware.translate(mm.pgd.table, address, write, user)
        if self.on_event is not None:
            self.on_event(("tlb_miss", address))
        if frame >= 0:
            now = self.hardware.bits(mm.pgd.table, address)
            if now is not None:
                tlb.insert(page, now.frame, now.bits)
        return frame

    def touch(self, task: Task, address: int, write: int = 0, esp: int | None = None, value: int | None = None) -> int:
        """One access of *task* in user mode to the word at *address* (bytes): a store of *value*, or a load.

        What a load found is in ``self.loaded``. *esp* is the stack pointer, which says how far below the stack an
        access may be (None: anywhere). A store of None changes no memory. Returns the page faults it took, or
        -(the signal) that ended it: SIGSEGV, SIGBUS (``task.siginfo`` tells why), SIGKILL for lack of memory.
        Kswapd and disks have their turn at the end of the operation, not here.
        """
        mm = task.mm
        if mm is None:
            raise ValueError(f"{task} has no user memory to touch")
        address &= _M32
        kernel = self.kernel
        before, kernel.current = kernel.current, task
        faults = 0
        try:
            while True:
                frame = self.translate(mm, address, bool(write), True)
                if frame >= 0:
                    break
                faults += 1
                signal = kernel.fault.do_page_fault(address, ~frame, Regs(0, 0 if esp is None else esp))
                if signal:
                    if signal != SIGKILL:  # a handler would run now; whoever made the access decides instead
                        task.pending.discard(signal)
                    return -signal
                if task.pending and kernel.sched.dying(task):
                    return -SIGKILL  # killed while it waited for memory: it never comes back to the instruction
        finally:
            kernel.current = before
        words = self.contents.get(frame)
        if write:
            if value is not None:
                if words is None or words.itemsize != 4:
                    words = kernel.ram.words(frame)
                words[(address & 0xFFC) >> 2] = value & _M32
        elif words is None:
            self.loaded = 0
        else:
            if words.itemsize != 4:
                words = kernel.ram.words(frame)
            self.loaded = words[(address & 0xFFC) >> 2]
        if self.on_event is not None:
            self.on_event(("access", task.pid, address, int(bool(write)), frame))
        return faults

    def run(self, task: Task, references: Iterable[int], base: int = 0, stamp: int | None = None) -> Run:
        """Touch many pages: each reference is page number * 2 + (1 for a write), counted from the page of address *base*.

        With *stamp*, the first write stores stamp, the next stamp + 1, ... at the start of its page. Whatever a
        fault set going (kswapd, disks, kills) has its turn right after it. Stops at a signal, or when the task is
        gone. The same as ``touch`` for each reference, only faster where nothing happens.
        """
        tables: dict[int, array[int]] = {}  # page tables seen since the last fault
        bits = self.hardware.index_bits
        mask = (1 << bits) - 1
        first = base >> PAGE_SHIFT
        contents = self.contents
        slow = self.tlb is not None or self.on_event is not None
        touches = faults = 0
        pte = 0
        for reference in references:
            page = first + (reference >> 1)
            if not slow:
                try:
                    pte = tables[page >> bits][page & mask]
                except KeyError:
                    pte = 0
            if reference & 1:
                if pte & _WRITE_HIT == _WRITE_HIT:
                    if stamp is not None:
                        try:
                            contents[pte >> PAGE_SHIFT][0] = stamp & _M32
                        except KeyError:
                            self.kernel.ram.words(pte >> PAGE_SHIFT)[0] = stamp & _M32
                        stamp += 1
                    touches += 1
                    continue
            elif pte & _READ_HIT == _READ_HIT:
                touches += 1
                continue
            took = self.touch(task, page << PAGE_SHIFT, reference & 1, None, stamp)
            if took:
                tables.clear()
                self.kernel.sched.end_of_op(task)
                if took < 0:
                    return Run(touches, faults, -took)
                faults += took
            touches += 1
            if reference & 1 and stamp is not None:
                stamp += 1
            if task.mm is None:
                break
            if not slow:
                found = self.kernel.pgtable.pte_lookup(task.mm, page << PAGE_SHIFT & _M32)
                if found is not None:
                    tables[page >> bits] = found[0]
        return Run(touches, faults, 0)

    def kernel_access(self, address: int, write: bool, insn: int) -> int:
        """An access by the kernel instruction *insn* to *address* (bytes): its frame, or -1 when it ended at its fixup.

        Raises KernelBug when the instruction has no fixup: an oops.
        """
        kernel = self.kernel
        task = kernel.current
        mm = task.mm or task.active_mm or kernel.init_mm
        while True:
            frame = self.translate(mm, address, write, False)
            if frame >= 0:
                return frame
            regs = Regs(insn)
            kernel.fault.do_page_fault(address, ~frame, regs)
            if regs.eip != insn:
                return -1

    def walk(self, mm: MmStruct, address: int, write: bool = False, user: bool = True) -> Walk:
        """How the MMU would find *address* in *mm*, entry by entry; ``print`` it. Nothing is changed."""
        if not 0 <= address <= _M32:
            raise ValueError(f"address {address:#x}: an i386 address has 32 bits")
        levels = self.hardware.entries(mm.pgd.table, mm.pgd.pa, address)
        code = FAULT_WRITE * write | FAULT_USER * user
        return Walk(address, self.hardware.pae, tuple(levels), code)

    # -- whose tables are loaded --------------------------------------------------------------

    def switch_mm(self, mm: MmStruct) -> None:
        """Point CR3 to *mm*'s directory, which empties the TLB of all but global entries.

        A kernel thread has no mm and goes on with the one that was loaded (lazy TLB): nothing is switched for it.
        kernel: include/asm-i386/mmu_context.h:switch_mm, activate_mm
        """
        if self.tlb is None or mm is self.loaded_mm:
            return
        self.loaded_mm = mm
        flushed = self.tlb.flush_mm()
        if self.on_event is not None:
            self.on_event(("switch_mm", mm.pid, flushed))

    def leave_mm(self, mm: MmStruct) -> None:
        """*mm*'s directory is about to be freed: if CR3 still points to it (a kernel thread borrows it), load swapper_pg_dir.

        kernel: arch/i386/kernel/smp.c:leave_mm
        """
        if mm is self.loaded_mm:
            self.switch_mm(self.kernel.init_mm)

    def enter_lazy_tlb(self, mm: MmStruct, task: Task) -> None:
        """A task without user memory borrows *mm*: nothing to do on one processor. kernel: include/asm-i386/mmu_context.h:enter_lazy_tlb"""

    def _active(self, mm: MmStruct | None) -> bool:
        """Whether *mm* is ``current->active_mm``."""
        running = self.kernel.current.mm
        if running is not None:
            self.switch_mm(running)
        return mm is self.loaded_mm

    def flush_tlb(self) -> None:
        """Forget the loaded address space's translations. kernel: include/asm-i386/pgalloc.h:flush_tlb, __flush_tlb, local_flush_tlb"""
        flushed = 0 if self.tlb is None else self.tlb.flush_mm()
        if self.on_event is not None:
            self.on_event(("flush_tlb_mm", flushed))

    def flush_tlb_page(self, vma: VmArea, address: int) -> None:
        """One page's entry changed. kernel: include/asm-i386/pgalloc.h:flush_tlb_page, __flush_tlb_one, __flush_tlb_single"""
        if self.tlb is not None and self._active(vma.vm_mm):
            self.tlb.flush_page(address >> PAGE_SHIFT)
        if self.on_event is not None:
            self.on_event(("flush_tlb_page", address))

    def flush_tlb_one(self, address: int) -> None:
        """One kernel page's entry changed. kernel: include/asm-i386/pgtable.h:__flush_tlb_one"""
        if self.tlb is not None:
            self.tlb.flush_page(address >> PAGE_SHIFT)
        if self.on_event is not None:
            self.on_event(("flush_tlb_page", address))

    def flush_tlb_range(self, mm: MmStruct, start: int, end: int) -> None:
        """Entries of a range changed: the i386 kernel reloads CR3. kernel: include/asm-i386/pgalloc.h:flush_tlb_range"""
        flushed = self.tlb.flush_mm() if self.tlb is not None and self._active(mm) else 0
        if self.on_event is not None:
            self.on_event(("flush_tlb_range", start, end, flushed))

    def flush_tlb_mm(self, mm: MmStruct) -> None:
        """Any entry of *mm* may have changed. kernel: include/asm-i386/pgalloc.h:flush_tlb_mm"""
        flushed = self.tlb.flush_mm() if self.tlb is not None and self._active(mm) else 0
        if self.on_event is not None:
            self.on_event(("flush_tlb_mm", flushed))

    def flush_tlb_all(self) -> None:
        """Kernel mappings changed: forget global entries too.

        kernel: include/asm-i386/pgalloc.h:flush_tlb_all, include/asm-i386/pgtable.h:__flush_tlb_all, __flush_tlb_global
        """
        flushed = 0 if self.tlb is None else self.tlb.flush_all()
        if self.on_event is not None:
            self.on_event(("flush_tlb_all", flushed))

    def flush_tlb_pgtables(self, mm: MmStruct, start: int, end: int) -> None:
        """Page tables of a range are freed. kernel: include/asm-i386/pgalloc.h:flush_tlb_pgtables"""
        self.flush_tlb_mm(mm)

    # -- call points that do nothing on an i386, whose caches are tagged with physical addresses ------------------

    def flush_cache_all(self) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_cache_all"""

    def flush_cache_mm(self, mm: MmStruct) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_cache_mm"""

    def flush_cache_range(self, mm: MmStruct, start: int, end: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_cache_range"""

    def flush_cache_page(self, vma: VmArea, address: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_cache_page"""

    def flush_page_to_ram(self, pfn: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_page_to_ram"""

    def flush_dcache_page(self, pfn: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_dcache_page"""

    def flush_icache_range(self, start: int, end: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_icache_range"""

    def flush_icache_page(self, vma: VmArea, pfn: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_icache_page"""

    def flush_icache_user_range(self, vma: VmArea, pfn: int, address: int, length: int) -> None:
        """kernel: include/asm-i386/pgtable.h:flush_icache_user_range"""

    def update_mmu_cache(self, vma: VmArea, address: int, pte: int) -> None:
        """A new entry is in place: hardware walks find it by themselves. kernel: include/asm-i386/pgtable.h:update_mmu_cache"""
