from dataclasses import dataclass
from vmlab.course.kit.bootmem import BUG
%time None


@dataclass
class Search:
    bdata: object
    need: int
    step: int

    def fits(self, page):
        return all(not self.bdata.test_bit(page + k) for k in range(self.need))

    def from_(self, page):
        while page + self.need <= self.bdata.pages:
            if self.fits(page):
                return page
            page += self.step
        return -1


def up(value, to):
    return (value + to - 1) & -to


def alloc_bootmem_core(bdata, size, align, goal):
    assert hasattr(bdata, "last_pos")
    if size == 0 or align & align - 1:
        BUG("a request the kernel does not accept")
    search = Search(bdata, up(size, 4096) >> 12, align >> 12 if align > 4096 else 1)
    inside = goal != 0 and bdata.node_boot_start <= goal and goal >> 12 < bdata.node_low_pfn
    first = up(goal - bdata.node_boot_start, align) >> 12 if inside else 0
    page = search.from_(first)
    if page < 0:
        page = search.from_(0)
    if page < 0:
        return None
    position = page << 12
    if align <= 4096 and bdata.last_offset != 0 and page - 1 == bdata.last_pos:
        position = (bdata.last_pos << 12) + up(bdata.last_offset, align)
    last_byte = position + size - 1
    for k in range(page, (last_byte >> 12) + 1):
        bdata.set_bit(k)
    bdata.last_pos = last_byte >> 12
    bdata.last_offset = (position + size) & 4095
    return bdata.node_boot_start + position
