import logging

from vmlab.course.kit.bootmem import BUG

log = logging.getLogger("marks")
PAGE_SHIFT = 12
MASK = (1 << PAGE_SHIFT) - 1


def pages(bdata, low, high):
    base = bdata.node_boot_start >> PAGE_SHIFT
    if high > bdata.node_low_pfn:
        BUG()
    return range(low - base, high - base)


def reserve_bootmem_core(bdata, addr, size):
    if not size:
        BUG()
    twice = 0
    for i in pages(bdata, addr >> PAGE_SHIFT, addr + size + MASK >> PAGE_SHIFT):
        if bdata.set_bit(i):
            log.warning("hm, page %d reserved twice", i)
            twice += 1
    return twice


def free_bootmem_core(bdata, addr, size):
    if not size:
        BUG()
    for i in pages(bdata, addr + MASK >> PAGE_SHIFT, addr + size >> PAGE_SHIFT):
        if bdata.clear_bit(i) == 0:
            BUG("free already")
