"""Caches that shrink when memory is short, and by how much. kernel: mm/vmscan.c:shrink_slab"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gfp import GFP_KERNEL
from .vmscan_control import SWAP_CLUSTER_MAX

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from .page_state import PageState

SHRINK_BATCH = 128  # objects
SIZEOF_SHRINKER = 20  # bytes
LONG_MAX = 0x7FFFFFFF


class Shrinker:
    """In 2.6 each cache that can shrink says how (a method of a part, called with a number of objects and a gfp mask; 0 objects asks how
    many there are) and how many disk seeks it costs to make an object again, because then all caches age alike; before that reclaim
    called a fixed few.

    kernel: mm/vmscan.c:shrinker
    """

    __slots__ = ("address", "method", "nr", "part", "seeks")

    def __init__(self, part: str, method: str, seeks: int, address: int) -> None:
        self.part = part
        self.method = method
        self.seeks = seeks
        self.nr = 0  # objects that are still to be looked at
        self.address = address

    def __repr__(self) -> str:
        return f"<Shrinker {self.part}.{self.method}, {self.seeks} seeks, {self.nr} pending>"


class Shrinkers:
    """Mixed into reclaim: the list of shrinkers."""

    kernel: Kernel
    page_state: PageState

    def __init__(self) -> None:
        super().__init__()
        self.shrinker_list: list[Shrinker] = []

    def set_shrinker(self, seeks: int, part: str, method: str) -> Shrinker | None:
        """In 2.6 new, because any cache may register: call ``part.method(nr_to_scan, gfp_mask)`` when memory is short. None without memory.

        kernel: mm/vmscan.c:set_shrinker
        """
        address = self.kernel.slab.kmalloc(SIZEOF_SHRINKER, GFP_KERNEL)
        if not address:
            return None
        shrinker = Shrinker(part, method, seeks, address)
        self.shrinker_list.insert(0, shrinker)
        return shrinker

    def remove_shrinker(self, shrinker: Shrinker) -> None:
        """In 2.6 new, because what registered may go away. kernel: mm/vmscan.c:remove_shrinker"""
        self.shrinker_list.remove(shrinker)
        self.kernel.slab.kfree(shrinker.address)

    def shrink_slab(self, scanned: int, gfp_mask: int, lru_pages: int) -> int:
        """In 2.6 caches shrink by the share of the page lists that was scanned, because making a page or an object again costs a seek
        either way; before that each was shrunk by a fraction that depended on the priority only.

        *scanned* of *lru_pages* pages were looked at. kernel: mm/vmscan.c:shrink_slab
        """
        scanned = scanned or SWAP_CLUSTER_MAX
        for shrinker in self.shrinker_list:
            shrink = getattr(getattr(self.kernel, shrinker.part), shrinker.method)
            delta = 4 * scanned // shrinker.seeks * shrink(0, gfp_mask) // (lru_pages + 1)
            shrinker.nr += delta
            if shrinker.nr > LONG_MAX:
                shrinker.nr = LONG_MAX
            total_scan, shrinker.nr = shrinker.nr, 0
            while total_scan >= SHRINK_BATCH:
                if shrink(SHRINK_BATCH, gfp_mask) == -1:
                    break
                self.page_state.slabs_scanned += SHRINK_BATCH
                total_scan -= SHRINK_BATCH
            shrinker.nr += total_scan
        return 0
