"""What a student's code can import where it is judged, and in the notebook: shapes and primitives, no algorithm.

Each chapter adds a module here (`kit/bootmem.py`, `kit/buddy.py`, …). Standard library only, and nothing of vmlab: these files are
copied into the sandbox. Public constants defined here are also what `from vmlab import NAME` finds in judged code.
"""

PAGE_SHIFT = 12
PAGE_SIZE = 4096  # bytes
MAX_ORDER = 10  # orders 0–9
MAX_NR_ZONES = 3
ZONE_DMA, ZONE_NORMAL, ZONE_HIGHMEM = 0, 1, 2
GFP_ATOMIC, GFP_KERNEL, GFP_USER, GFP_HIGHUSER, GFP_DMA = 0x20, 0x1F0, 0x1D0, 0x1D2, 0x1
