"""What an allocation may do to be satisfied, in 2.6: the masks of 2.4, and bits that say more.

The numbers are vmlab's: 2.4's bits keep their places and 2.6's new ones follow, so that a mask made for
one kernel means the same to the other. ``to_native`` and ``from_native`` translate to 2.6.11's own numbers.

    bit   0 DMA  1 HIGHMEM  4 WAIT  5 HIGH  6 IO  (7 HIGHIO, 2.4 only)  8 FS
          9 COLD  10 NOWARN  11 REPEAT  12 NOFAIL  13 NORETRY  14 NO_GROW  15 COMP  16 ZERO

kernel: include/linux/gfp.h
"""

from __future__ import annotations

from ..mm import gfp as gfp24
from ..mm.gfp import __GFP_FS as FS
from ..mm.gfp import __GFP_HIGH as HIGH
from ..mm.gfp import __GFP_HIGHIO as HIGHIO
from ..mm.gfp import __GFP_IO as IO
from ..mm.gfp import DMA, HIGHMEM, WAIT

__all__ = ["DMA", "FS", "HIGH", "HIGHIO", "HIGHMEM", "IO", "WAIT"]

COLD = 0x200  # a page that is not in the processor's cache will do
NOWARN = 0x400  # no message when it fails
REPEAT = 0x800  # try again when it fails
NOFAIL = 0x1000  # it cannot fail: retry for ever
NORETRY = 0x2000  # fail rather than retry
NO_GROW = 0x4000  # slab: do not make a new slab
COMP = 0x8000  # note in every page of the block where the block begins
ZERO = 0x10000  # fill with zeroes

GFP_ZONEMASK = 0x03
GFP_ZONETYPES = (GFP_ZONEMASK + 1) // 2 + 1  # zonelists of a node: none for DMA and HIGHMEM together

GFP_ATOMIC = HIGH
GFP_NOIO = WAIT
GFP_NOFS = WAIT | IO
GFP_KERNEL = GFP_USER = WAIT | IO | FS
GFP_HIGHUSER = GFP_USER | HIGHMEM
GFP_LEVEL_MASK = WAIT | HIGH | IO | FS | COLD | NOWARN | REPEAT | NOFAIL | NORETRY | NO_GROW | COMP

_LOW = 0x7F  # the bits that both kernels number alike


def from_native(mask: int) -> int:
    """vmlab's number of a mask that 2.6.11 would write as *mask*."""
    return mask & _LOW | (mask & ~_LOW) << 1


def to_native(mask: int) -> int:
    """The number 2.6.11 has for *mask*. A mask of 2.4 with __GFP_HIGHIO loses that, and __GFP_HIGH, which GFP_KERNEL no longer has."""
    if mask & HIGHIO:
        mask &= ~(HIGHIO | HIGH)
    return mask & _LOW | (mask & ~0xFF) >> 1


_MORE = (
    ("__GFP_COLD", COLD),
    ("__GFP_NOWARN", NOWARN),
    ("__GFP_REPEAT", REPEAT),
    ("__GFP_NOFAIL", NOFAIL),
    ("__GFP_NORETRY", NORETRY),
    ("__GFP_NO_GROW", NO_GROW),
    ("__GFP_COMP", COMP),
    ("__GFP_ZERO", ZERO),
)
gfp24.more_bits(_MORE)
_NAMED = {GFP_KERNEL: "GFP_KERNEL", GFP_HIGHUSER: "GFP_HIGHUSER", GFP_NOFS: "GFP_NOFS", GFP_NOIO: "GFP_NOIO"}


def gfp_name(mask: int) -> str:
    """A mask as a person writes it: ``GFP_HIGHUSER|__GFP_COLD``."""
    more = [name for name, bit in _MORE if mask & bit]
    rest = mask & ~sum(bit for _, bit in _MORE)
    return "|".join([_NAMED.get(rest) or gfp24.gfp_name(rest), *more]) if rest or not more else "|".join(more)
