"""High memory: frames above 896 MiB, which the kernel reaches only through windows it maps for a while.

    PKMAP_BASE 0xfe000000: LAST_PKMAP slots      below FIXADDR_TOP 0xffffe000: KM_TYPE_NR slots
    kmap(): kept until the slots run out         kmap_atomic(): one use each, may not sleep

A pkmap slot's count is 0 when it is empty, 1 when nobody uses it but the TLB may remember it, and
n when n - 1 users have it. Slots are looked for in one direction; each time the search passes slot 0
all slots of count 1 are emptied and the whole TLB is flushed, once for a thousand mappings.

kernel: mm/highmem.c, include/asm-i386/highmem.h
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..errors import KernelBug, KernelHang
from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .bounce import BounceBuffers
from .init import FIXADDR_TOP, LAST_PKMAP, LAST_PKMAP_PAE, PKMAP_BASE
from .kernel import Part
from .pgtable import PAGE_KERNEL, mk_pte

if TYPE_CHECKING:
    from .kernel import Kernel

KM_BOUNCE_READ, KM_SKB_SUNRPC_DATA, KM_SKB_DATA_SOFTIRQ, KM_USER0, KM_USER1, KM_BH_IRQ, KM_SOFTIRQ0, KM_SOFTIRQ1 = range(8)
KM_TYPE_NR = 8
KM_TYPE_NAMES = (
    "KM_BOUNCE_READ",
    "KM_SKB_SUNRPC_DATA",
    "KM_SKB_DATA_SOFTIRQ",
    "KM_USER0",
    "KM_USER1",
    "KM_BH_IRQ",
    "KM_SOFTIRQ0",
    "KM_SOFTIRQ1",
)


class Highmem(BounceBuffers, Part):
    """Temporary kernel mappings, and the buffers that stand in for high memory in disk transfers."""

    state_names = ("emergency_bhs", "emergency_pages", "last_pkmap_nr", "pkmap_count", "pkmap_pfn", "virtual")

    def __init__(self) -> None:
        super().__init__()
        self.pkmap_count = array("I")
        self.last_pkmap_nr = 0
        self.pkmap_pfn = 0  # frame of the page table that maps PKMAP_BASE
        self.virtual: dict[int, int] = {}  # page->virtual of high frames that have a pkmap slot

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.kernel = kernel
        self.pae = kernel.config.pae
        self.last_pkmap = LAST_PKMAP_PAE if self.pae else LAST_PKMAP
        self.pkmap_count = array("I", bytes(4 * self.last_pkmap)) if kernel.config.highmem else array("I")

    def is_high(self, pfn: int) -> bool:
        """Whether a frame lies above the direct map. kernel: include/linux/mm.h:PageHighMem"""
        return pfn >= self.kernel.highstart_pfn and self.kernel.config.highmem

    @property
    def pkmap_page_table(self) -> array[int]:
        """The page table of the pkmap slots. kernel: mm/highmem.c:pkmap_page_table"""
        if not self.pkmap_pfn:
            found = self.kernel.pgtable.pmd_lookup(self.kernel.init_mm, PKMAP_BASE)
            assert found is not None
            self.pkmap_pfn = found[0][found[1]] >> PAGE_SHIFT
        return self.kernel.ram.contents[self.pkmap_pfn]

    # -- kmap ---------------------------------------------------------------------------------

    def kmap(self, pfn: int) -> int:
        """Kernel address of a frame; a high one gets a pkmap slot, if need be by waiting. kernel: include/asm-i386/highmem.h:kmap"""
        kernel = self.kernel
        if pfn < kernel.highstart_pfn or not kernel.config.highmem:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        return self.kmap_high(pfn, False)

    def kmap_nonblock(self, pfn: int) -> int:
        """As :meth:`kmap`, but 0 rather than waiting. kernel: include/asm-i386/highmem.h:kmap_nonblock"""
        kernel = self.kernel
        if pfn < kernel.highstart_pfn or not kernel.config.highmem:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        return self.kmap_high(pfn, True)

    def kunmap(self, pfn: int) -> None:
        """Give up one use of a frame's kernel address. kernel: include/asm-i386/highmem.h:kunmap"""
        kernel = self.kernel
        if pfn >= kernel.highstart_pfn and kernel.config.highmem:
            self.kunmap_high(pfn)

    def kmap_high(self, pfn: int, nonblocking: bool) -> int:
        """Address of a high frame: the slot it has, or a new one; 0 when there is none and *nonblocking*. kernel: mm/highmem.c:kmap_high"""
        vaddr = self.virtual.get(pfn, 0)
        if not vaddr:
            vaddr = self.map_new_virtual(pfn, nonblocking)
            if not vaddr:
                return 0
        nr = vaddr - PKMAP_BASE >> PAGE_SHIFT
        self.pkmap_count[nr] += 1
        if self.pkmap_count[nr] < 2:
            raise KernelBug("kmap_high", f"slot {nr} of frame {pfn} has count {self.pkmap_count[nr]}", "count")
        if self.on_event is not None:
            self.on_event(("kmap", pfn, nr, self.pkmap_count[nr]))
        return vaddr

    def map_new_virtual(self, pfn: int, nonblocking: bool) -> int:
        """Map a high frame in an empty slot, sleeping until one is given up if need be: its address, or 0.

        Raises KernelHang when every slot is in use and nobody is left who could give one up.
        kernel: mm/highmem.c:map_new_virtual
        """
        counts, size = self.pkmap_count, self.last_pkmap
        count = size
        while True:
            nr = self.last_pkmap_nr = (self.last_pkmap_nr + 1) & (size - 1)
            if not nr:
                self.flush_all_zero_pkmaps()
                count = size
            if not counts[nr]:
                break
            count -= 1
            if count:
                continue
            if nonblocking:
                return 0
            if self.on_event is not None:
                self.on_event(("kmap_wait", pfn))
            before = counts[:]
            self.kernel.sched.schedule()
            if pfn in self.virtual:
                return self.virtual[pfn]
            if counts == before:
                raise KernelHang("map_new_virtual", f"all {size} pkmap slots are in use and nobody runs who could unmap one")
            count = size
        vaddr = PKMAP_BASE + (nr << PAGE_SHIFT)
        self.pkmap_page_table[nr] = mk_pte(pfn, PAGE_KERNEL)
        counts[nr] = 1
        self.virtual[pfn] = vaddr
        return vaddr

    def kunmap_high(self, pfn: int) -> None:
        """One user of a high frame's slot less; the last leaves it mapped, at count 1, until the next flush.

        Raises KernelBug when the frame is not mapped. kernel: mm/highmem.c:kunmap_high
        """
        vaddr = self.virtual.get(pfn)
        if vaddr is None:
            raise KernelBug("kunmap_high", f"frame {pfn} is not mapped", "virtual")
        nr = vaddr - PKMAP_BASE >> PAGE_SHIFT
        self.pkmap_count[nr] -= 1
        if not self.pkmap_count[nr]:
            raise KernelBug("kunmap_high", f"frame {pfn} is unmapped more often than it was mapped", "count")
        if self.on_event is not None:
            self.on_event(("kunmap", pfn, nr, self.pkmap_count[nr]))

    def flush_all_zero_pkmaps(self) -> None:
        """Empty every slot nobody uses, and flush the TLB. kernel: mm/highmem.c:flush_all_zero_pkmaps"""
        counts, table = self.pkmap_count, self.pkmap_page_table
        freed = 0
        for nr, count in enumerate(counts):
            if count != 1:
                continue
            counts[nr] = 0
            if not table[nr]:
                raise KernelBug("flush_all_zero_pkmaps", f"slot {nr} was in use but maps nothing", "pte")
            del self.virtual[table[nr] >> PAGE_SHIFT]
            table[nr] = 0
            freed += 1
        self.kernel.mmu.flush_tlb_all()
        if self.on_event is not None:
            self.on_event(("kmap_flush", freed))

    # -- kmap_atomic --------------------------------------------------------------------------

    def kmap_atomic(self, pfn: int, km_type: int) -> int:
        """Kernel address of a frame for a moment, in the slot of that purpose (KM_…); whatever was there is gone.

        kernel: include/asm-i386/highmem.h:kmap_atomic
        """
        kernel = self.kernel
        if pfn < kernel.highstart_pfn or not kernel.config.highmem:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        vaddr = FIXADDR_TOP - (km_type << PAGE_SHIFT)
        found = kernel.pgtable.pte_lookup(kernel.init_mm, vaddr)
        assert found is not None
        table, slot = found
        table[slot] = mk_pte(pfn, PAGE_KERNEL)
        kernel.mmu.flush_tlb_one(vaddr)
        if self.on_event is not None:
            self.on_event(("kmap_atomic", pfn, KM_TYPE_NAMES[km_type], vaddr))
        return vaddr

    def kunmap_atomic(self, vaddr: int, km_type: int) -> None:
        """The end of :meth:`kmap_atomic`: nothing to do, the slot keeps its page. kernel: include/asm-i386/highmem.h:kunmap_atomic"""

    # -- whole pages --------------------------------------------------------------------------

    def clear_user_highpage(self, pfn: int, vaddr: int) -> None:
        """Fill with zeroes a page that a process will see at *vaddr*. kernel: include/linux/highmem.h:clear_user_highpage"""
        self.kmap_atomic(pfn, KM_USER0)
        self.kernel.ram.clear_page(pfn)

    def clear_highpage(self, pfn: int) -> None:
        """Fill a page with zeroes. kernel: include/linux/highmem.h:clear_highpage"""
        self.kmap(pfn)
        self.kernel.ram.clear_page(pfn)
        self.kunmap(pfn)

    def memclear_highpage_flush(self, pfn: int, offset: int, size: int) -> None:
        """Fill *size* bytes of a page with zeroes. kernel: include/linux/highmem.h:memclear_highpage_flush"""
        if offset + size > PAGE_SIZE:
            raise KernelBug("memclear_highpage_flush", f"bytes {offset} to {offset + size} are not within one page", "bounds")
        self.kmap(pfn)
        self.kernel.ram.write((pfn << PAGE_SHIFT) + offset, bytes(size))
        self.kunmap(pfn)

    def copy_user_highpage(self, to: int, source: int, vaddr: int) -> None:
        """Copy frame *source* to frame *to*, which a process will see at *vaddr*. kernel: include/linux/highmem.h:copy_user_highpage"""
        self.copy_highpage(to, source)

    def copy_highpage(self, to: int, source: int) -> None:
        """Copy frame *source* to frame *to*. kernel: include/linux/highmem.h:copy_highpage"""
        self.kmap_atomic(source, KM_USER0)
        self.kmap_atomic(to, KM_USER1)
        self.kernel.ram.copy_page(to, source)

    # -- looking ------------------------------------------------------------------------------

    def slot_counts(self) -> dict[int, int]:
        """Count by slot, of those that are not empty."""
        return {nr: count for nr, count in enumerate(self.pkmap_count) if count}

    def nr_free_highpages(self) -> int:
        """Free pages of high memory. kernel: mm/page_alloc.c:nr_free_highpages"""
        return sum(pgdat.node_zones[2].free_pages for pgdat in self.kernel.pgdats)

    def pkmap(self) -> str:
        """The pkmap slots as text: how many are empty, idle and used, and one line for each that is not empty."""
        counts = self.pkmap_count
        idle, used = sum(c == 1 for c in counts), sum(c > 1 for c in counts)
        lines = [f"pkmap: {len(counts)} slots, {len(counts) - idle - used} empty, {idle} idle, {used} used, last {self.last_pkmap_nr}"]
        for nr, count in self.slot_counts().items():
            pfn = self.pkmap_page_table[nr] >> PAGE_SHIFT
            state = f"{count - 1} users" if count > 1 else "idle"
            lines.append(f"{nr:>4} {PKMAP_BASE + (nr << PAGE_SHIFT):#010x} frame {pfn:>7} {state}")
        return "\n".join(lines) + "\n"
