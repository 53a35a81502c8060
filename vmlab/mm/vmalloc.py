"""Memory that is contiguous for the kernel but scattered in RAM.

Above the direct map lies a stretch of kernel addresses without fixed meaning. An area of it is
reserved (with an empty page at its end, so that running past it is noticed), page tables are
filled with whatever frames are free, and the kernel uses it as one piece. Only init_mm's page
tables are changed; a process learns of them when it first faults there.

    high_memory   VMALLOC_START                                   VMALLOC_END
    | 8–16 MiB gap | area | guard | area        | guard |   …     | 2 pages | pkmap or fixmap

kernel: mm/vmalloc.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .errno import ENOMEM
from .gfp import GFP_DMA, GFP_KERNEL, HIGHMEM
from .init import FIXADDR_TOP, PKMAP_BASE
from .kernel import Part
from .page_flags import RESERVED
from .pgtable import PAGE_KERNEL, mk_pte, pte_present

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .kernel import Kernel

VM_IOREMAP = 1
VM_ALLOC = 2
VMALLOC_OFFSET = 8 << 20  # bytes: the least gap above the direct map
SIZEOF_VM_STRUCT = 16  # bytes

_OFFSET_MASK = PAGE_SIZE - 1


class VmStruct:
    """One area: kernel addresses [addr, addr + size), the last page of which is the guard. Sizes in bytes.

    kernel: include/linux/vmalloc.h:vm_struct
    """

    __slots__ = ("addr", "address", "flags", "size")

    def __init__(self, flags: int, addr: int, size: int, address: int) -> None:
        self.flags = flags
        self.addr = addr
        self.size = size
        self.address = address  # of the struct itself, in the slab cache size-32

    def __repr__(self) -> str:
        kind = {VM_IOREMAP: "ioremap", VM_ALLOC: "vmalloc"}.get(self.flags, f"flags {self.flags:#x}")
        return f"<VmStruct {self.addr:#x}-{self.addr + self.size - PAGE_SIZE:#x} {kind}>"


class VmallocSpace(Part):
    """The areas by address, and the page tables behind them."""

    state_names = ("vmlist",)

    def __init__(self) -> None:
        super().__init__()
        self.vmlist: list[VmStruct] = []  # by address

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags

    @property
    def high_memory(self) -> int:
        """The kernel address where the direct map ends. kernel: arch/i386/mm/init.c:high_memory"""
        return PAGE_OFFSET + (self.kernel.max_low_pfn << PAGE_SHIFT)

    @property
    def VMALLOC_START(self) -> int:
        """First address an area can have. kernel: include/asm-i386/pgtable.h:VMALLOC_START"""
        return (self.high_memory + 2 * VMALLOC_OFFSET - 1) & -VMALLOC_OFFSET

    @property
    def VMALLOC_END(self) -> int:
        """Where areas must end. kernel: include/asm-i386/pgtable.h:VMALLOC_END"""
        return (PKMAP_BASE if self.kernel.config.highmem else FIXADDR_TOP) - 2 * PAGE_SIZE

    # -- page tables --------------------------------------------------------------------------

    def _chunks(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """(address, bytes) of the parts of a range that one page table each maps; at least one page each.

        As the kernel does it: all in 32 bits, so a range that runs past 4 GiB ends early (with two
        levels after its first part, with three at 4 GiB).
        """
        pgtable = self.kernel.pgtable
        pgdir_size, pmd_size = 1 << pgtable.PGDIR_SHIFT, pgtable.PMD_SIZE
        end = address + size & M32
        while True:
            base = address & -pgdir_size
            at = address - base
            stop = min(at + (end - address) & M32, pgdir_size)
            while True:
                offset = at & (pmd_size - 1)
                yield base + at, min(offset + (stop - at & M32) & M32, pmd_size) - offset
                at += pmd_size - offset
                if at >= stop:
                    break
            address = base + pgdir_size & M32
            if not address or address >= end:
                return

    def vmalloc_area_pages(
        self, address: int, size: int, gfp_mask: int, prot: int = PAGE_KERNEL, pages: Sequence[int | None] | None = None
    ) -> int:
        """Put a frame behind every page of [address, address + size): new ones, or *pages* in order.

        Returns 0, or -ENOMEM with part of it filled. Given frames get a reference each.
        kernel: mm/vmalloc.c:vmalloc_area_pages, __vmalloc_area_pages, alloc_area_pmd, alloc_area_pte
        """
        kernel = self.kernel
        alloc_pages, owner, label = kernel.page_allocator.alloc_pages, kernel.mem.owner, kernel.owner_id("vmalloc")
        given = iter(pages) if pages is not None else None
        for at, length in self._chunks(address, size):
            found = kernel.pgtable.pte_alloc_kernel(at)
            if found is None:
                return -ENOMEM
            table, slot = found
            for i in range(slot, slot + max(length + _OFFSET_MASK >> PAGE_SHIFT, 1)):
                if given is None:
                    pfn = alloc_pages(gfp_mask, 0)
                    if pfn is not None:
                        owner[pfn] = label
                else:
                    pfn = next(given, None)
                    if pfn is not None:
                        kernel.get_page(pfn)
                if table[i]:
                    kernel.printk(3, "alloc_area_pte: page already exists")
                if pfn is None:
                    return -ENOMEM
                table[i] = mk_pte(pfn, prot)
                if self.on_event is not None:
                    self.on_event(("vmalloc_page", at + (i - slot << PAGE_SHIFT), pfn))
        return 0

    def vmfree_area_pages(self, address: int, size: int) -> None:
        """Clear the page tables of [address, address + size) and drop a reference to each frame.

        kernel: mm/vmalloc.c:vmfree_area_pages, free_area_pmd, free_area_pte
        """
        kernel = self.kernel
        max_mapnr, owner, label = kernel.max_mapnr, kernel.mem.owner, kernel.owner_id("vmalloc")
        for at, length in self._chunks(address, size):
            found = kernel.pgtable.pte_lookup(kernel.init_mm, at)
            if found is None:
                continue
            table, slot = found
            for i in range(slot, slot + max(length + _OFFSET_MASK >> PAGE_SHIFT, 1)):
                pte = table[i]
                table[i] = 0
                if not pte:
                    continue
                if not pte_present(pte):
                    kernel.printk(2, "Whee.. Swapped out page in kernel page table")
                    continue
                pfn = pte >> PAGE_SHIFT
                if pfn < max_mapnr and not self.flags[pfn] & RESERVED:
                    if owner[pfn] == label:
                        owner[pfn] = 0
                    kernel.put_page(pfn)
        kernel.mmu.flush_tlb_all()

    # -- areas --------------------------------------------------------------------------------

    def get_vm_area(self, size: int, flags: int = VM_IOREMAP) -> VmStruct | None:
        """Reserve *size* bytes of addresses and a guard page: the lowest gap that holds them; None when there is none.

        The end of the space is looked at only when an area is in the way: into an empty list goes anything.
        kernel: mm/vmalloc.c:get_vm_area
        """
        slab = self.kernel.slab
        address = slab.kmalloc(SIZEOF_VM_STRUCT, GFP_KERNEL)
        if not address:
            return None
        size = size + PAGE_SIZE & M32
        at = self._find_gap(size) if size else None
        if at is None:
            slab.kfree(address)
            return None
        addr, place = at
        area = VmStruct(flags, addr, size, address)
        self.vmlist.insert(place, area)
        if self.on_event is not None:
            self.on_event(("vm_area", addr, size))
        return area

    def _find_gap(self, size: int) -> tuple[int, int] | None:
        """(address, place in vmlist) for *size* bytes."""
        addr, limit = self.VMALLOC_START, self.VMALLOC_END - size & M32
        for place, area in enumerate(self.vmlist):
            if size + addr > M32:
                return None
            if size + addr <= area.addr:
                return addr, place
            addr = max(addr, area.size + area.addr & M32)
            if addr > limit:
                return None
        return addr, len(self.vmlist)

    def vmalloc_pages(self, size: int, gfp_mask: int, prot: int = PAGE_KERNEL) -> int:
        """*size* bytes in frames of the kind *gfp_mask* asks for: their kernel address, 0 on failure. kernel: mm/vmalloc.c:__vmalloc"""
        size = size + _OFFSET_MASK & -PAGE_SIZE & M32
        if not size or size >> PAGE_SHIFT > self.kernel.num_physpages:
            return 0
        area = self.get_vm_area(size, VM_ALLOC)
        if area is None:
            return 0
        if self.vmalloc_area_pages(area.addr, size, gfp_mask, prot):
            self.vfree(area.addr)
            return 0
        return area.addr

    def vmalloc(self, size: int) -> int:
        """*size* bytes, in any frames. kernel: include/linux/vmalloc.h:vmalloc"""
        return self.vmalloc_pages(size, GFP_KERNEL | HIGHMEM)

    def vmalloc_dma(self, size: int) -> int:
        """*size* bytes, in frames that ISA devices reach. kernel: include/linux/vmalloc.h:vmalloc_dma"""
        return self.vmalloc_pages(size, GFP_KERNEL | GFP_DMA)

    def vmalloc_32(self, size: int) -> int:
        """*size* bytes, in low memory. kernel: include/linux/vmalloc.h:vmalloc_32"""
        return self.vmalloc_pages(size, GFP_KERNEL)

    def vmap(self, pages: Sequence[int | None], flags: int = VM_ALLOC, prot: int = PAGE_KERNEL) -> int:
        """Map the frames *pages* one after the other: their kernel address, 0 on failure. kernel: mm/vmalloc.c:vmap"""
        size = len(pages) << PAGE_SHIFT & M32
        if not size or size > self.kernel.max_mapnr << PAGE_SHIFT & M32:
            return 0
        area = self.get_vm_area(size, flags)
        if area is None:
            return 0
        if self.vmalloc_area_pages(area.addr, size, 0, prot, pages):
            self.vfree(area.addr)
            return 0
        return area.addr

    def vfree(self, addr: int) -> None:
        """Free the area at *addr*: its frames, its page table entries, its addresses. 0 is nothing to free.

        kernel: mm/vmalloc.c:vfree
        """
        if not addr:
            return
        if addr & _OFFSET_MASK:
            self.kernel.printk(3, f"Trying to vfree() bad address ({addr:08x})")
            return
        for place, area in enumerate(self.vmlist):
            if area.addr == addr:
                del self.vmlist[place]
                self.vmfree_area_pages(addr, area.size)
                self.kernel.slab.kfree(area.address)
                if self.on_event is not None:
                    self.on_event(("vfree", addr, area.size))
                return
        self.kernel.printk(3, f"Trying to vfree() nonexistent vm area ({addr:08x})")

    def vunmap(self, addr: int) -> None:
        """The other end of :meth:`vmap`. kernel: include/linux/vmalloc.h:vunmap"""
        self.vfree(addr)

    # -- reading and writing ------------------------------------------------------------------

    def vread(self, addr: int, count: int) -> bytes:
        """Up to *count* bytes from *addr* on; gaps before an area read as zeroes, nothing is read past the last area.

        Raises KernelBug where an area has no frame. kernel: mm/vmalloc.c:vread
        """
        out = bytearray()
        for gap, at, length in self._spans(addr, count):
            out += bytes(gap)
            for pa, n in self._pieces(at, length, "vread"):
                out += self.kernel.ram.read(pa, n)
        return bytes(out)

    def vwrite(self, data: bytes, addr: int) -> int:
        """Store *data* from *addr* on, leaving out what falls into gaps; returns how many bytes of it were used.

        Raises KernelBug where an area has no frame. kernel: mm/vmalloc.c:vwrite
        """
        done = 0
        for gap, at, length in self._spans(addr, len(data)):
            done += gap
            for pa, n in self._pieces(at, length, "vwrite"):
                self.kernel.ram.write(pa, data[done : done + n])
                done += n
        return done

    def _spans(self, addr: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(bytes before the area, address, bytes in the area) for each area that a request of *count* bytes meets."""
        count = min(count, (1 << 32) - addr)
        for area in self.vmlist:
            end = area.addr + area.size - PAGE_SIZE
            if addr >= end:
                continue
            gap = min(max(area.addr - addr, 0), count)
            count -= gap
            addr += gap
            length = min(end - addr, count) if addr >= area.addr else 0
            yield gap, addr, length
            count -= length
            addr += length
            if not count:
                return

    def _pieces(self, addr: int, length: int, function: str) -> Iterator[tuple[int, int]]:
        """(physical address, bytes) of [addr, addr + length), page by page."""
        while length:
            n = min(PAGE_SIZE - (addr & _OFFSET_MASK), length)
            found = self.kernel.pgtable.pte_lookup(self.kernel.init_mm, addr)
            pte = 0 if found is None else found[0][found[1]]
            if not pte_present(pte):
                raise KernelBug(function, f"nothing is mapped at {addr:#x}", "fault")
            yield (pte >> PAGE_SHIFT << PAGE_SHIFT) + (addr & _OFFSET_MASK), n
            addr, length = addr + n, length - n

    # -- looking ------------------------------------------------------------------------------

    def frames(self, addr: int) -> list[int]:
        """Frames behind the area at *addr*, in address order, without the guard; [] when there is no such area."""
        kernel = self.kernel
        found: list[int] = []
        for area in self.vmlist:
            if area.addr == addr and area.size > PAGE_SIZE:
                for at, length in self._chunks(addr & -PAGE_SIZE, area.size - PAGE_SIZE & -PAGE_SIZE):
                    place = kernel.pgtable.pte_lookup(kernel.init_mm, at)
                    if place is not None:
                        table, slot = place
                        entries = table[slot : slot + (length >> PAGE_SHIFT)]
                        found += [pte >> PAGE_SHIFT for pte in entries if pte_present(pte)]
        return found

    def vmalloc_map(self) -> str:
        """The areas as text, one line each: addresses, bytes without the guard, kind, frames."""
        lines = [f"{self.VMALLOC_START:#010x}-{self.VMALLOC_END:#010x} the whole space, {len(self.vmlist)} areas"]
        for area in self.vmlist:
            size = area.size - PAGE_SIZE
            kind = {VM_IOREMAP: "ioremap", VM_ALLOC: "vmalloc"}.get(area.flags, f"flags={area.flags:#x}")
            frames = self.frames(area.addr)
            shown = ", ".join(map(str, frames[:8])) + (f", … {frames[-1]}" if len(frames) > 8 else "")
            lines.append(
                f"{area.addr:#010x}-{area.addr + size:#010x} {size:>9} {kind} pages={len(frames)}" + (f" frames {shown}" if frames else "")
            )
        return "\n".join(lines) + "\n"
