import bisect

from vmlab.course.kit import zones as kit

POWERS = [1 << n for n in range(13)]


class Base(kit.Zones):
    def wait_table_size(self, pages):
        return POWERS[min(bisect.bisect_left(POWERS, pages // 256), 12)]


class MyZones(Base):
    def __init__(self):
        self.seen = []

    def zones_size(self, max_low_pfn, highend_pfn):
        self.seen.append(max_low_pfn)
        out = [0, 0, 0]
        edges = [0, kit.MAX_DMA_PFN, max_low_pfn, highend_pfn]
        if max_low_pfn < kit.MAX_DMA_PFN:
            out[kit.ZONE_DMA] = max_low_pfn
            return out
        for zone in range(3):
            out[zone] = edges[zone + 1] - edges[zone]
        if self.highmem is False:
            out[kit.ZONE_HIGHMEM] = 0
        return out

    def watermarks(self, zone_num, realsize):
        mark = sorted([20, realsize // self.ratio[zone_num], 255])[1]
        return mark, 2 * mark, 3 * mark

    def build_zonelists(self, sizes):
        present = [zone for zone in (2, 1, 0) if sizes[zone] > 0]
        highest = []
        for i in range(16):
            top = 1 + bool(i & kit.WANTS_HIGHMEM)
            if i & kit.WANTS_DMA:
                top = 0
            highest.append(top)
        return [[zone for zone in present if zone <= top] for top in highest]
