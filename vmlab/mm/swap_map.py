"""The swap map: for each slot of a swap area, how many use it.

0 is free, 0x8000 bad (never to be used), 0x7fff "too many to count". The kernel keeps it in
vmalloc space; so do we, unless the machine's kernel objects live outside its memory.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from .kernel import Kernel

SWAP_MAP_MAX = 0x7FFF
SWAP_MAP_BAD = 0x8000
SWAPFILE_CLUSTER = 256  # slots

_WINDOW = 2048  # slots looked at in one go


class SwapMap(Protocol):
    """Counts by slot."""

    def __getitem__(self, slot: int, /) -> int: ...
    def __setitem__(self, slot: int, count: int, /) -> None: ...
    def __len__(self) -> int: ...
    def raw(self, first: int, last: int) -> bytes:
        """Slots *first* to *last*, both included, two bytes each."""


class HostSwapMap(array):  # type: ignore[type-arg]
    """A swap map outside the machine's memory; ``host_swap_map`` makes one."""

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> HostSwapMap:
        return HostSwapMap("H", self.tobytes())

    def raw(self, first: int, last: int) -> bytes:
        """Slots *first* to *last*, both included, two bytes each."""
        return memoryview(self)[first : last + 1].tobytes()


def host_swap_map(slots: int) -> HostSwapMap:
    """A swap map outside the machine's memory, all slots free."""
    return HostSwapMap("H", bytes(2 * slots))


class RamSwapMap:
    """A swap map in vmalloc space: *slots* counts at *address*, in the frames behind it.

    The frames are looked at as 16-bit words where they are; nobody replaces the contents of frames in use by vmalloc.
    """

    __slots__ = ("address", "frames", "kernel", "slots", "views")

    def __init__(self, kernel: Kernel, address: int, slots: int, frames: list[int]) -> None:
        self.kernel = kernel
        self.address = address
        self.slots = slots
        self.frames = frames
        self.views = [memoryview(kernel.ram.words(pfn)).cast("B").cast("H") for pfn in frames]

    def __reduce__(self) -> tuple[object, ...]:
        return RamSwapMap, (self.kernel, self.address, self.slots, self.frames)

    def __len__(self) -> int:
        return self.slots

    def __getitem__(self, slot: int) -> int:
        return self.views[slot >> 11][slot & 2047]

    def __setitem__(self, slot: int, count: int) -> None:
        self.views[slot >> 11][slot & 2047] = count

    def raw(self, first: int, last: int) -> bytes:
        """Slots *first* to *last*, both included, two bytes each."""
        low, high = first * 2, last * 2 + 2
        pages = self.frames[low >> PAGE_SHIFT : (high + PAGE_SIZE - 1) >> PAGE_SHIFT]
        start = low & -PAGE_SIZE
        return b"".join(self.kernel.ram.read_page(pfn) for pfn in pages)[low - start : high - start]

    def clear(self) -> None:
        """All slots free."""
        for pfn in self.frames:
            self.kernel.ram.words(pfn)[:] = array("I", bytes(PAGE_SIZE))


def first_free(swap_map: SwapMap, first: int, last: int) -> int | None:
    """The lowest free slot from *first* to *last*; None when all are used."""
    while first <= last:
        end = min(last, first + _WINDOW - 1)
        found = _aligned(swap_map.raw(first, end), b"\0\0")
        if found is not None:
            return first + found
        first = end + 1
    return None


def empty_cluster(swap_map: SwapMap, first: int, last: int) -> int | None:
    """The lowest slot from *first* on that begins SWAPFILE_CLUSTER free ones, none past *last*; None when there is none."""
    if first + SWAPFILE_CLUSTER - 1 > last:
        return None
    found = _aligned(swap_map.raw(first, last), bytes(2 * SWAPFILE_CLUSTER))
    return None if found is None else first + found


def _aligned(data: bytes, pattern: bytes) -> int | None:
    """Slot of *data* where *pattern* begins: a match in the middle of a slot is none."""
    at = data.find(pattern)
    while at & 1 and at > 0:
        at = data.find(pattern, at + 1)
    return None if at < 0 else at >> 1


def used_slots(swap_map: SwapMap) -> list[tuple[int, int]]:
    """(slot, count) of every slot that is not free, by slot."""
    if not len(swap_map):
        return []
    counts = array("H", swap_map.raw(0, len(swap_map) - 1))
    return [(slot, count) for slot, count in enumerate(counts) if count]
