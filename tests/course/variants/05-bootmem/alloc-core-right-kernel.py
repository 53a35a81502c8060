# close to the shape of the C
import warnings
from vmlab.course.kit.bootmem import BUG

warnings.warn("this is only a warning")
PAGE_SIZE, PAGE_SHIFT = 4096, 12


def alloc_bootmem_core(bdata, size, align, goal):
    if not size:
        BUG("no size")
    if align & (align - 1):
        BUG("align")
    eidx = bdata.node_low_pfn - (bdata.node_boot_start >> PAGE_SHIFT)
    if goal and goal >= bdata.node_boot_start and goal >> PAGE_SHIFT < bdata.node_low_pfn:
        preferred = goal - bdata.node_boot_start
    else:
        preferred = 0
    preferred = (preferred + align - 1 & ~(align - 1)) >> PAGE_SHIFT
    areasize = (size + PAGE_SIZE - 1) // PAGE_SIZE
    incr = align >> PAGE_SHIFT or 1
    while True:
        start = None
        i = preferred
        while i < eidx:
            if not bdata.test_bit(i):
                for j in range(i + 1, i + areasize):
                    if j >= eidx or bdata.test_bit(j):
                        break
                else:
                    start = i
                    break
            i += incr
        if start is not None or not preferred:
            break
        preferred = 0
    if start is None:
        return None
    if align <= PAGE_SIZE and bdata.last_offset and bdata.last_pos + 1 == start:
        offset = bdata.last_offset + align - 1 & ~(align - 1)
        remaining = PAGE_SIZE - offset
        result = bdata.last_pos * PAGE_SIZE + offset + bdata.node_boot_start
        if size < remaining:
            areasize = 0
            bdata.last_offset = offset + size
        else:
            remaining = size - remaining
            areasize = (remaining + PAGE_SIZE - 1) // PAGE_SIZE
            bdata.last_pos = start + areasize - 1
            bdata.last_offset = remaining
        bdata.last_offset &= PAGE_SIZE - 1
    else:
        bdata.last_pos = start + areasize - 1
        bdata.last_offset = size & PAGE_SIZE - 1
        result = start * PAGE_SIZE + bdata.node_boot_start
    for i in range(start, start + areasize):
        if bdata.set_bit(i):
            BUG("taken twice")
    return result
