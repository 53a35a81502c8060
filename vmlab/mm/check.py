"""What must always be true of the buddy allocator, checked from the outside."""

from __future__ import annotations

from ..errors import KernelBug
from .kernel import Kernel
from .page import BLOCK_FREE, BLOCK_HOLE, BLOCK_PARKED, BLOCK_RESERVED, BLOCK_USED


def check(kernel: Kernel) -> None:
    """No frame lost or listed twice, counts equal lists, pair bits tell the truth, buddies merged."""
    mem = kernel.mem
    for zone in kernel.zones:
        free = bytearray(zone.size)
        for order, area in enumerate(zone.free_area):
            size = 1 << order
            for pfn in area.free_list:
                at = pfn - zone.start_pfn
                if at < 0 or at + size > zone.size or at % size:
                    raise KernelBug("check", f"order-{order} block {pfn} is not inside zone {zone.name} or not aligned")
                if any(free[at : at + size]):
                    raise KernelBug("check", f"order-{order} block {pfn} overlaps another free block")
                free[at : at + size] = b"\1" * size
                if mem.block[pfn] != BLOCK_FREE | order:
                    raise KernelBug("check", f"block column of {pfn} is {mem.block[pfn]:#x}, not free order {order}")
            for pfn in area.free_list if order < zone.orders - 1 else ():
                at = pfn - zone.start_pfn
                pair = at >> (order + 1)
                both = zone.start_pfn + (at ^ size) in area.free_list
                if both:
                    raise KernelBug("check", f"{pfn} and its buddy are both free at order {order} and were not merged")
                if zone.has_maps and area.map[pair] != 1:
                    raise KernelBug("check", f"pair bit {pair} of order {order} is 0, but only {pfn} of the pair is free")
            if area.map and sum(area.map) != len(area.free_list):
                raise KernelBug("check", f"{sum(area.map)} pair bits of order {order} are set, but {len(area.free_list)} blocks are free")
        if sum(free) != zone.free_pages:
            raise KernelBug("check", f"zone {zone.name} counts {zone.free_pages} free pages, its lists hold {sum(free)}")
        for pfn in zone.parked():
            at = pfn - zone.start_pfn
            if not 0 <= at < zone.size or free[at]:
                raise KernelBug("check", f"frame {pfn} on a per-CPU list is not in zone {zone.name}, or free twice")
            free[at] = 1
            if mem.block[pfn] != BLOCK_PARKED:
                raise KernelBug("check", f"block column of {pfn} is {mem.block[pfn]:#x}, but it is on a per-CPU list")
        used = [p for p in range(zone.start_pfn, zone.end_pfn) if mem.block[p] & BLOCK_USED]
        for pfn in used:
            at, size = pfn - zone.start_pfn, 1 << (mem.block[pfn] & 15)
            if any(free[at : at + size]):
                raise KernelBug("check", f"allocated block {pfn} is partly free or overlaps another")
            free[at : at + size] = b"\1" * size
        lost = free.count(0) - sum(1 for p in range(zone.start_pfn, zone.end_pfn) if mem.block[p] in (BLOCK_RESERVED, BLOCK_HOLE))
        if lost:
            raise KernelBug("check", f"zone {zone.name}: {lost} frames are neither free, allocated nor reserved")
