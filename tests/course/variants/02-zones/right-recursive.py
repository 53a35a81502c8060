%matplotlib inline
from vmlab import GFP_DMA, GFP_KERNEL
from vmlab.course.kit.zones import MAX_DMA_PFN, Zones


def clamp(n, lo, hi):
    return lo if n < lo else hi if n > hi else n


def next_power(n):
    return 1 if n <= 1 else 2 * next_power((n + 1) // 2)


class MyZones(Zones):
    def zones_size(self, max_low_pfn, highend_pfn):
        dma = min(max_low_pfn, MAX_DMA_PFN)
        if dma < MAX_DMA_PFN:
            return [dma] + [0] * 2
        return [dma, max_low_pfn - dma, (highend_pfn - max_low_pfn) * bool(self.highmem)]

    def watermarks(self, zone_num, realsize):
        m = clamp(int(realsize / self.ratio[zone_num]), 20, 255)
        return m, m + m, m + m + m

    def wait_table_size(self, pages):
        return clamp(next_power(pages >> 8), 1, 4096)

    def fallback(self, zone, sizes):
        if zone < 0:
            return []
        return ([zone] if sizes[zone] else []) + self.fallback(zone - 1, sizes)

    def build_zonelists(self, sizes):
        lists = []
        for gfp in range(0x10):
            lists.append(self.fallback(0 if gfp & GFP_DMA else 2 if gfp & 2 else 1, sizes))
        return lists
