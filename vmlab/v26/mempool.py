"""Memory pools: a reserve for those who cannot do without, so that writing pages out never waits for memory it is to free.

kernel: mm/mempool.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelBug, KernelHang
from ..mm.errno import ENOMEM
from ..mm.fs import Ops
from ..mm.kernel import Part
from .gfp import FS, GFP_KERNEL, IO, NOWARN, WAIT

if TYPE_CHECKING:
    from ..mm.kernel import Kernel

SIZEOF_MEMPOOL = 32  # bytes


class MempoolOps(Ops):
    """In 2.6 new, because of pools: how elements are made and freed. These come from a slab cache, ``pool_data``.

    kernel: mm/mempool.c:mempool_alloc_slab, mempool_free_slab
    """

    name = "mempool_slab"

    def alloc(self, gfp_mask: int, pool_data: Any) -> int:
        """In 2.6 new, because of pools: an element's address, 0 without memory. kernel: mm/mempool.c:mempool_alloc_slab"""
        return int(self.kernel.slab.kmem_cache_alloc(pool_data, gfp_mask))

    def free(self, element: int, pool_data: Any) -> None:
        """In 2.6 new, because of pools: give an element back. kernel: mm/mempool.c:mempool_free_slab"""
        self.kernel.slab.kmem_cache_free(pool_data, element)


class Pool:
    """In 2.6 new: a pool that keeps *min_nr* elements in reserve. kernel: include/linux/mempool.h:mempool_t"""

    def __init__(self, address: int, min_nr: int, ops: MempoolOps, pool_data: Any) -> None:
        self.address = address
        self.min_nr = min_nr
        self.elements_address = 0  # of the array of elements, from kmalloc
        self.elements: list[int] = []  # the last one is taken first
        self.ops = ops
        self.pool_data = pool_data

    @property
    def curr_nr(self) -> int:
        """How many elements it has."""
        return len(self.elements)

    def __repr__(self) -> str:
        return f"<Pool {len(self.elements)} of {self.min_nr} elements>"


class Mempool(Part):
    """In 2.6 new, because deadlocks of writing under memory pressure were each cured by hand before: pools of elements held in reserve."""

    state_names = ("pools",)

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[Pool] = []

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.slab_ops = MempoolOps(kernel)

    def free_pool(self, pool: Pool) -> None:
        """In 2.6 new, because of pools: free the elements, then the pool. kernel: mm/mempool.c:free_pool"""
        while pool.elements:
            pool.ops.free(pool.elements.pop(), pool.pool_data)
        self.kernel.slab.kfree(pool.elements_address)
        self.kernel.slab.kfree(pool.address)

    def mempool_create(self, min_nr: int, pool_data: Any, ops: MempoolOps | None = None) -> Pool | None:
        """In 2.6 new, because of pools: one of *min_nr* elements, made now; None without memory.

        *ops*: how to make and free them; by default from the slab cache *pool_data*. kernel: mm/mempool.c:mempool_create
        """
        slab = self.kernel.slab
        address = slab.kmalloc(SIZEOF_MEMPOOL, GFP_KERNEL)
        if not address:
            return None
        pool = Pool(address, min_nr, ops or self.slab_ops, pool_data)
        pool.elements_address = slab.kmalloc(4 * min_nr, GFP_KERNEL)
        if not pool.elements_address:
            slab.kfree(address)
            return None
        while len(pool.elements) < min_nr:
            element = pool.ops.alloc(GFP_KERNEL, pool_data)
            if not element:
                self.free_pool(pool)
                return None
            pool.elements.append(element)
        self.pools.append(pool)
        return pool

    def mempool_resize(self, pool: Pool, new_min_nr: int, gfp_mask: int = GFP_KERNEL) -> int:
        """In 2.6 new, because of pools: keep *new_min_nr* elements. Returns 0, also when the pool could only grow in part, or -ENOMEM.

        kernel: mm/mempool.c:mempool_resize
        """
        if new_min_nr <= 0:
            raise KernelBug("mempool_resize", f"a pool of {new_min_nr} elements", "new_min_nr")
        if new_min_nr < pool.min_nr:
            while len(pool.elements) > new_min_nr:
                pool.ops.free(pool.elements.pop(), pool.pool_data)
            pool.min_nr = new_min_nr
            return 0
        slab = self.kernel.slab
        address = slab.kmalloc(4 * new_min_nr, gfp_mask)
        if not address:
            return -ENOMEM
        slab.kfree(pool.elements_address)
        pool.elements_address = address
        pool.min_nr = new_min_nr
        while len(pool.elements) < pool.min_nr:
            element = pool.ops.alloc(gfp_mask, pool.pool_data)
            if not element:
                break
            pool.elements.append(element)
        return 0

    def mempool_destroy(self, pool: Pool) -> None:
        """In 2.6 new, because of pools: all elements must be back. kernel: mm/mempool.c:mempool_destroy"""
        if len(pool.elements) != pool.min_nr:
            raise KernelBug("mempool_destroy", f"{pool.min_nr - len(pool.elements)} elements are still in use", "outstanding")
        self.free_pool(pool)
        self.pools.remove(pool)

    def mempool_alloc(self, pool: Pool, gfp_mask: int = GFP_KERNEL) -> int:
        """In 2.6 new, because of pools: an element, if need be from the reserve; 0 only for those who cannot wait.

        First without waiting or disk; with less than half of the reserve left then with all that *gfp_mask* allows; then from the reserve;
        then it waits for one to be freed. Raises KernelHang when none ever will. kernel: mm/mempool.c:mempool_alloc
        """
        nowait = gfp_mask & ~(WAIT | IO)
        sched: Any = self.kernel.sched
        while True:
            element = pool.ops.alloc(nowait | NOWARN, pool.pool_data)
            if element:
                return element
            if gfp_mask & FS and gfp_mask != nowait and len(pool.elements) <= pool.min_nr // 2:
                element = pool.ops.alloc(gfp_mask, pool.pool_data)
                if element:
                    return element
            self.kernel.more_parts["page_writeback"].wakeup_bdflush(0)
            if pool.elements:
                if self.on_event is not None:
                    self.on_event(("mempool_reserve", len(pool.elements) - 1, pool.min_nr))
                return pool.elements.pop()
            if not gfp_mask & WAIT:
                return 0
            if not sched.io_schedule() and not pool.elements:
                raise KernelHang("mempool_alloc", "the pool is empty, and no transfer is under way that could give an element back")

    def mempool_free(self, element: int, pool: Pool) -> None:
        """In 2.6 new, because of pools: an element fills the reserve up first. kernel: mm/mempool.c:mempool_free"""
        if len(pool.elements) < pool.min_nr:
            pool.elements.append(element)
        else:
            pool.ops.free(element, pool.pool_data)
