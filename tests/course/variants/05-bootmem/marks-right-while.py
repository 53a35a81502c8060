%matplotlib inline
import numpy as np
from vmlab.course.kit.bootmem import BUG as stop


def reserve_bootmem_core(bdata, addr, size):
    if size < 1:
        stop()
    page = (addr - bdata.node_boot_start) // 4096
    count = 0
    while bdata.node_boot_start + page * 4096 < addr + size:
        if page >= bdata.pages:
            stop("past the end")
        count = count + 1 if bdata.test_bit(page) == 1 else count
        bdata.set_bit(page)
        page += 1
    return count


def free_bootmem_core(bdata, addr, size):
    if size < 1 or (addr + size) // 4096 > bdata.node_low_pfn:
        stop()
    page = (addr - bdata.node_boot_start + 4095) // 4096
    while bdata.node_boot_start + (page + 1) * 4096 <= addr + size:
        if not bdata.test_bit(page):
            stop("twice")
        bdata.clear_bit(page)
        page += 1
