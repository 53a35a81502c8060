"""GFP flags: what an allocation may do to be satisfied, and PF flags of the task that asks.

    bit   0 DMA   1 HIGHMEM   (0-3 choose the zonelist)
          4 WAIT  5 HIGH      6 IO   7 HIGHIO   8 FS

kernel: include/linux/mm.h, include/linux/sched.h
"""

from __future__ import annotations

__GFP_DMA = 0x01
__GFP_HIGHMEM = 0x02
__GFP_WAIT = 0x10
__GFP_HIGH = 0x20
__GFP_IO = 0x40
__GFP_HIGHIO = 0x80
__GFP_FS = 0x100
GFP_ZONEMASK = 0x0F

GFP_NOHIGHIO = __GFP_HIGH | __GFP_WAIT | __GFP_IO
GFP_NOIO = __GFP_HIGH | __GFP_WAIT
GFP_NOFS = __GFP_HIGH | __GFP_WAIT | __GFP_IO | __GFP_HIGHIO
GFP_ATOMIC = __GFP_HIGH
GFP_USER = __GFP_WAIT | __GFP_IO | __GFP_HIGHIO | __GFP_FS
GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM
GFP_KERNEL = __GFP_HIGH | __GFP_WAIT | __GFP_IO | __GFP_HIGHIO | __GFP_FS
GFP_NFS = GFP_KERNEL
GFP_KSWAPD = __GFP_WAIT | __GFP_IO | __GFP_HIGHIO | __GFP_FS
GFP_DMA = __GFP_DMA

PF_MEMALLOC = 0x00000800
PF_MEMDIE = 0x00001000
PF_FREE_PAGES = 0x00002000

# Classes mangle names with two leading underscores, so methods use these.
WAIT, DMA, HIGHMEM = __GFP_WAIT, __GFP_DMA, __GFP_HIGHMEM

_BITS = [
    ("__GFP_DMA", __GFP_DMA),
    ("__GFP_HIGHMEM", __GFP_HIGHMEM),
    ("__GFP_WAIT", __GFP_WAIT),
    ("__GFP_HIGH", __GFP_HIGH),
    ("__GFP_IO", __GFP_IO),
    ("__GFP_HIGHIO", __GFP_HIGHIO),
    ("__GFP_FS", __GFP_FS),
]
_NAMED = {
    "GFP_ATOMIC": GFP_ATOMIC,
    "GFP_NOIO": GFP_NOIO,
    "GFP_NOHIGHIO": GFP_NOHIGHIO,
    "GFP_NOFS": GFP_NOFS,
    "GFP_USER": GFP_USER,
    "GFP_HIGHUSER": GFP_HIGHUSER,
    "GFP_KERNEL": GFP_KERNEL,
}


def more_bits(bits: tuple[tuple[str, int], ...]) -> None:
    """Learn the names of bits that another kernel has beyond these."""
    _BITS.extend(bit for bit in bits if bit not in _BITS)


def gfp_name(gfp_mask: int) -> str:
    """A mask as a person writes it: ``GFP_KERNEL``, ``GFP_KERNEL|__GFP_DMA``, ``__GFP_WAIT|__GFP_IO``."""
    for name, value in _NAMED.items():
        if gfp_mask & ~__GFP_DMA == value:
            return name + ("|__GFP_DMA" if gfp_mask & __GFP_DMA else "")
    if gfp_mask == __GFP_DMA:
        return "GFP_DMA"
    names = [name for name, bit in _BITS if gfp_mask & bit]
    rest = gfp_mask & ~sum(bit for _, bit in _BITS)
    return "|".join(names + ([hex(rest)] if rest else [])) or "0"
