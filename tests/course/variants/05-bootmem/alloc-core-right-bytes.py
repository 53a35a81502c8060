import logging, sys
from itertools import chain
from vmlab.course.kit.bootmem import BUG

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


def alloc_bootmem_core(bdata, size, align, goal):
    """Thinks in bytes from the start of the node: an allocation is the byte range [at, at + size)."""
    if size <= 0 or bin(align).count("1") != 1:
        BUG()
    P, base = 4096, bdata.node_boot_start
    whole = (size + P - 1) // P
    reserved = [bdata.test_bit(i) for i in range(bdata.pages)]
    stride = max(align, P)
    begin = goal - base if goal and base <= goal < bdata.node_low_pfn * P else 0
    begin = (begin + align - 1) // align * align // P * P
    for at in chain(range(begin, bdata.pages * P, stride), range(0, bdata.pages * P, stride)):
        page = at // P
        if page + whole <= bdata.pages and sum(reserved[page:page + whole]) == 0:
            break
    else:
        logging.warning("nothing fits")
        return None
    follows = bdata.last_offset > 0 and page == bdata.last_pos + 1 and align <= P
    if follows:
        at = bdata.last_pos * P + (bdata.last_offset + align - 1) // align * align
    end = at + size
    for i in range(page, (end + P - 1) // P):
        bdata.set_bit(i)
    bdata.last_pos, bdata.last_offset = (end + P - 1) // P - 1, end % P
    print("took", at, end)
    return base + at
