import logging
import sys
import warnings

import numpy as np  # not used: must not hurt
from vmlab.course.kit.zones import Zones

print("defining my zones")
warnings.warn("a warning on the way")
logging.getLogger().warning("a log message")

LIMITS = {"least": 20, "most": 255}


class MyZones(Zones):
    def zones_size(self, max_low_pfn, highend_pfn):
        print("zones_size", max_low_pfn, highend_pfn, file=sys.stderr)
        sizes = {"dma": 4096, "normal": max_low_pfn - 4096, "high": highend_pfn - max_low_pfn}
        if max_low_pfn < 4096:
            sizes = {"dma": max_low_pfn, "normal": 0, "high": 0}
        if not self.highmem:
            sizes["high"] = 0
        return tuple(sizes.values())

    def watermarks(self, zone_num, realsize):
        mark = realsize // self.ratio[zone_num]
        if mark < LIMITS["least"]:
            mark = LIMITS["least"]
        elif mark > LIMITS["most"]:
            mark = LIMITS["most"]
        return [mark * k for k in range(1, 4)]

    def wait_table_size(self, pages):
        queues = pages // 256
        return min(4096, 1 << (queues - 1).bit_length()) if queues > 1 else 1

    def build_zonelists(self, sizes):
        warnings.warn("building")
        return {i: [z for z in {0: (1, 0), 1: (0,), 2: (2, 1, 0), 3: (0,)}[i % 4] if sizes[z]] for i in range(16)}.values()
