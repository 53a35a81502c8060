from vmlab.course.kit.bootmem import BUG
import sys
import warnings

warnings.warn("a warning is no mistake")
print("nor is a line on stderr", file=sys.stderr)


def touched(bdata, addr, size):
    return {(byte - bdata.node_boot_start) >> 12 for byte in (*range(addr, addr + size, 4096), addr + size - 1)}


def reserve_bootmem_core(bdata, addr, size):
    if size == 0 or addr + size > bdata.node_low_pfn * 4096:
        BUG("outside")
    already = {i for i in touched(bdata, addr, size) if bdata.test_bit(i)}
    for i in touched(bdata, addr, size):
        bdata.set_bit(i)
    print("reserved already:", already)
    return len(already)


def free_bootmem_core(bdata, addr, size):
    if size == 0 or addr + size > bdata.node_low_pfn * 4096:
        BUG("outside")
    offset = addr - bdata.node_boot_start
    whole = [i for i in touched(bdata, addr, size) if i * 4096 >= offset and (i + 1) * 4096 <= offset + size]
    if not all(bdata.test_bit(i) for i in whole):
        BUG("free already")
    for i in whole:
        bdata.clear_bit(i)
    return whole
