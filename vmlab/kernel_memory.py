"""The kernel's own addresses, as people use them: vmap, vread, kmap_atomic, and bytes behind any kernel address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .mm.highmem import KM_TYPE_NAMES
from .mm.page import Page
from .process import Address
from .system import System, op, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["KernelMemory"]


class KernelMemory(System):
    """Operations on vmalloc space, on high memory, and on what kernel addresses hold."""

    def _frame(self, page: Page | int) -> int:
        return self._me().page(page.pfn if isinstance(page, Page) else page).pfn

    # -- vmalloc space -------------------------------------------------------------------------

    @op
    def vmalloc_dma(self, size: int) -> int:
        """*size* bytes in frames below 16 MiB; 0 on failure. kernel: include/linux/vmalloc.h:vmalloc_dma"""
        return Address(self.vmalloc_space.vmalloc_dma(whole(size, "size")))

    @op
    def vmalloc_32(self, size: int) -> int:
        """*size* bytes in frames of low memory; 0 on failure. kernel: include/linux/vmalloc.h:vmalloc_32"""
        return Address(self.vmalloc_space.vmalloc_32(whole(size, "size")))

    def vmap(self, pages: Sequence[Page | int]) -> int:
        """Map *pages* one after the other into vmalloc space; each gets a reference. Returns the address, 0 on failure.

        kernel: mm/vmalloc.c:vmap
        """
        return self.vmap_frames([self._frame(page) for page in pages])

    @op
    def vmap_frames(self, frames: list[int]) -> int:
        """:meth:`vmap` as it is recorded: by frame numbers."""
        return Address(self.vmalloc_space.vmap([self._frame(pfn) for pfn in frames]))

    @op
    def vunmap(self, address: int) -> None:
        """Undo :meth:`vmap`. Of any other address the kernel only complains on the console. kernel: include/linux/vmalloc.h:vunmap"""
        self.vmalloc_space.vunmap(whole(address, "address"))

    def vread(self, address: int, count: int) -> bytes:
        """Up to *count* bytes of vmalloc space; gaps read as zeroes, and nothing is read past the last area. kernel: mm/vmalloc.c:vread"""
        if whole(count, "count") < 0 or not 0 <= whole(address, "address") < 1 << 32:
            raise ValueError(f"vread({address:#x}, {count}): an address of 32 bits, and a count from 0 on")
        return self.vmalloc_space.vread(address, count)

    @op
    def vwrite(self, data: bytes, address: int) -> int:
        """Store *data* into vmalloc space but for what falls into gaps; returns how much of it was used. kernel: mm/vmalloc.c:vwrite"""
        if not 0 <= whole(address, "address") < 1 << 32:
            raise ValueError(f"address {address:#x}: an i386 address has 32 bits")
        return self.vmalloc_space.vwrite(bytes(data), address)

    # -- high memory ---------------------------------------------------------------------------

    @op
    def kmap_atomic(self, page: Page | int, km_type: str | int = "KM_USER0") -> int:
        """A kernel address for a moment, in the slot of *km_type*: what was there before is gone.

        kernel: include/asm-i386/highmem.h:kmap_atomic
        """
        return Address(self.highmem.kmap_atomic(self._frame(page), self._km_type(km_type)))

    @op
    def kunmap_atomic(self, address: int, km_type: str | int = "KM_USER0") -> None:
        """The end of :meth:`kmap_atomic`: without CONFIG_DEBUG_HIGHMEM nothing happens. kernel: include/asm-i386/highmem.h:kunmap_atomic"""
        self.highmem.kunmap_atomic(whole(address, "address"), self._km_type(km_type))

    def _km_type(self, km_type: str | int) -> int:
        known = KM_TYPE_NAMES.index(km_type) if km_type in KM_TYPE_NAMES else km_type
        if not isinstance(known, int) or not 0 <= known < len(KM_TYPE_NAMES):
            raise ValueError(f"km_type={km_type!r}: one of {', '.join(KM_TYPE_NAMES)}")
        return known

    # -- bytes ---------------------------------------------------------------------------------

    def kernel_read(self, address: int, length: int) -> bytes:
        """*length* bytes at a kernel *address*: of the direct map, vmalloc space, or a kmap. Raises ValueError where nothing is mapped."""
        return b"".join(self.ram.read(physical, n) for physical, n in self._pieces(address, length))

    def kernel_write(self, address: int, data: bytes) -> None:
        """Store *data* at a kernel *address*; nothing checks whose it is. Raises ValueError where nothing is mapped."""
        pieces = list(self._pieces(address, len(data)))  # all of it is mapped, or nothing is stored
        done = 0
        for physical, n in pieces:
            self._me().write(physical, data[done : done + n])
            done += n

    def _pieces(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """(physical address, bytes) behind a range of kernel addresses."""
        direct = PAGE_OFFSET + (self.max_low_pfn << PAGE_SHIFT)
        if not PAGE_OFFSET <= whole(address, "address") or whole(length, "length") < 0 or address + length > 1 << 32:
            raise ValueError(f"{length} bytes at {address:#x}: kernel addresses go from {PAGE_OFFSET:#x} to 0xffffffff")
        end = address + length
        while address < end:
            if address < direct:
                n = min(end, direct) - address
                yield address - PAGE_OFFSET, n
            else:
                n = min(end - address, PAGE_SIZE - (address & PAGE_SIZE - 1))
                found = self.pgtable.pte_lookup(self.init_mm, address) if self.more_parts else None
                pte = 0 if found is None else found[0][found[1]]
                if not pte & 1:
                    raise ValueError(f"{address:#x}: the kernel's page tables map nothing there")
                yield (pte >> PAGE_SHIFT << PAGE_SHIFT) + (address & PAGE_SIZE - 1), n
            address += n
