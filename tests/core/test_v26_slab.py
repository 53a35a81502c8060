"""The slab allocator of 2.6: arrays of objects at hand, limits on what is kept, tidying by the clock, pools."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

import vmlab
from vmlab.errors import KernelBug, KernelPanic
from vmlab.mm.errno import EINVAL
from vmlab.mm.gfp import GFP_DMA
from vmlab.mm.slab_cache import SLAB_HWCACHE_ALIGN, SLAB_NO_REAP
from vmlab.v26.gfp import GFP_ATOMIC, GFP_KERNEL
from vmlab.v26.slab import CACHE_SIZES, SlabAllocator26
from vmlab.v26.slab_cache import SLAB_DESTROY_BY_RCU, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT, KmemCache26, cache_estimate


def boot(mem: str = "16M") -> tuple[vmlab.Machine, SlabAllocator26]:
    m = vmlab.Machine(mem, kernel="2.6", kernel_objects="ram").power_on()
    assert isinstance(m.slab, SlabAllocator26)
    return m, m.slab


def a_cache(slab: SlabAllocator26, size: int, flags: int = 0, align: int = 0, name: str = "test") -> KmemCache26:
    cachep = slab.kmem_cache_create(name, size, align, flags)
    assert isinstance(cachep, KmemCache26)
    return cachep


def check(m: vmlab.Machine, slab: SlabAllocator26) -> None:
    """Do the counters say what the lists hold, and is no object in two places?"""
    pages = reclaim = 0
    for cachep in slab.caches():
        assert isinstance(cachep, KmemCache26)
        parked = cachep.array.entries + (cachep.shared.entries if cachep.shared is not None else [])
        assert len(parked) == len(set(parked)) and len(cachep.array.entries) <= cachep.array.limit
        for objp in parked:
            place = slab.find(objp)
            assert place is not None and place.cache is cachep and place.number >= 0
            assert place.number not in place.slab.free_objects()
        free = 0
        for kind, slabs in cachep.lists():
            for one in slabs:
                chain = one.free_objects()
                assert len(chain) == cachep.num - one.inuse
                assert kind == ("full" if not chain else "partial" if one.inuse else "free")
                free += len(chain)
        assert cachep.free_objects == free
        pages += cachep.pages
        reclaim += cachep.pages if cachep.flags & SLAB_RECLAIM_ACCOUNT else 0
    assert m.page_allocator.page_state.nr_slab == pages  # type: ignore[attr-defined]
    assert slab.slab_reclaim_pages == reclaim


@pytest.mark.parametrize("seed", range(5))
def test_objects_are_never_handed_out_twice_and_counters_hold(seed: int) -> None:
    m, slab = boot()
    rng = random.Random(seed)
    before = slab.page_state.nr_slab
    flags = (0, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_DESTROY_BY_RCU, SLAB_NO_REAP)
    caches = [a_cache(slab, rng.choice((8, 60, 250, 600, 1500, 5000)), flag, name=f"c{i}") for i, flag in enumerate(flags)]
    held: dict[int, KmemCache26] = {}
    for step in range(3000):
        cachep = rng.choice(caches)
        if rng.random() < (0.65 if step < 1500 else 0.35):
            objp = slab.kmem_cache_alloc(cachep)
            assert objp and objp not in held
            if cachep.flags & SLAB_HWCACHE_ALIGN:
                assert objp % min(32, cachep.objsize) == 0
            held[objp] = cachep
        elif held:
            objp = rng.choice(list(held)[-40:])
            slab.kmem_cache_free(held.pop(objp), objp)
        if rng.random() < 0.01:
            m.sched.jiffies += rng.choice((500, 2000, 9000))
            assert slab.cache_reap() == 2000
        if step % 250 == 0:
            check(m, slab)
    kinds = Counter(cachep.name for cachep in held.values())
    for cachep in caches:
        assert cachep.active_objs == kinds[cachep.name] + cachep.array.avail
    for objp, cachep in held.items():
        slab.kmem_cache_free(cachep, objp)
    for cachep in caches:
        assert slab.kmem_cache_shrink(cachep) == 0
        assert cachep.pages == 0 and slab.kmem_cache_destroy(cachep) == 0
    check(m, slab)
    for cachep26 in slab.caches():
        slab.kmem_cache_shrink(cachep26)
    assert slab.page_state.nr_slab <= before


def test_the_object_freed_last_is_handed_out_first() -> None:
    _, slab = boot()
    cachep = a_cache(slab, 100)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(5)]
    assert cachep.array.avail == 16 - 5  # a cache not used lately gets 16
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    assert [slab.kmem_cache_alloc(cachep) for _ in range(5)] == objects[::-1]


def test_a_full_array_gives_its_oldest_batch_back() -> None:
    _, slab = boot()
    cachep = a_cache(slab, 1500)
    limit, batch = cachep.limit, cachep.batchcount
    assert (limit, batch) == (24, 12)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(limit + 30)]
    parked = list(cachep.array.entries)
    freed = objects[: limit + 1 - len(parked)]
    for objp in freed:
        slab.kmem_cache_free(cachep, objp)
    assert cachep.array.entries == (parked + freed)[batch:]


def test_a_cache_keeps_only_so_many_free_objects() -> None:
    m, slab = boot()
    cachep = a_cache(slab, 1500)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(400)]
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    assert cachep.free_objects <= cachep.free_limit == 2 * cachep.batchcount + cachep.num
    assert cachep.pages < 40
    check(m, slab)


def test_the_clock_tidies_up() -> None:
    m, slab = boot()
    cachep = a_cache(slab, 1500)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(60)]
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    assert not slab.run_timer()
    pages = cachep.pages
    for _ in range(20):
        m.sched.jiffies += 2000
        assert slab.run_timer()
    assert cachep.pages < pages and cachep.array.avail == 0


def test_sizes_of_kmalloc() -> None:
    _, slab = boot()
    for size in (0, 1, 32, 33, 64, 65, 96, 97, 128, 129, 192, 193, 256, 257, 131072):
        objp = slab.kmalloc(size, GFP_KERNEL)
        place = slab.find(objp)
        assert place is not None and place.cache.name == f"size-{min(s for s in CACHE_SIZES if s >= size)}"
        slab.kfree(objp)
    assert slab.kmalloc(131073) == 0 and slab.kcalloc(1 << 20, 1 << 20) == 0
    dma = slab.kmalloc(500, GFP_KERNEL | GFP_DMA)
    assert dma - 0xC0000000 < 16 << 20
    zeroed = slab.kcalloc(10, 10, GFP_ATOMIC)
    assert slab.read(zeroed, 100) == bytes(100)


def test_requests_that_are_bugs() -> None:
    m, slab = boot()
    dma = slab.state.cache_sizes[0].cs_dmacachep
    for call in (
        lambda: a_cache(slab, 3),
        lambda: a_cache(slab, 131073),
        lambda: a_cache(slab, 100, 0x100),
        lambda: slab.kmem_cache_create("x", 100, 0, 0, None, lambda *_: None),
        lambda: slab.kmem_cache_create("x", 100, 0, SLAB_DESTROY_BY_RCU, lambda *_: None, lambda *_: None),
        lambda: slab.kmem_cache_alloc(a_cache(slab, 64), GFP_KERNEL | GFP_DMA),
        lambda: slab.kmem_cache_alloc(dma, GFP_KERNEL),
        lambda: a_cache(slab, 64, name="size-32"),
        lambda: slab.kfree(0xC0000000),
    ):
        with pytest.raises(KernelBug):
            call()
    assert a_cache(slab, 50, name="after a duplicate the chain can still be used").num
    check_lines = [line for line in m.console if "kernel BUG at mm/slab.c" in line]
    assert "kernel BUG at mm/slab.c:1204!" in check_lines and "kernel BUG at mm/slab.c:1472!" in check_lines


def test_without_memory_a_cache_is_none_or_the_end() -> None:
    m, slab = boot("8M")
    while m.page_allocator.alloc_pages(0x1F0 & ~0x10, 0) is not None:
        pass
    with pytest.raises(KernelPanic):
        for i in range(400):
            slab.kmem_cache_create(f"p{i}", 100, 0, SLAB_PANIC)


def test_a_cache_with_objects_in_use_stays() -> None:
    m, slab = boot()
    cachep = a_cache(slab, 100)
    objp = slab.kmem_cache_alloc(cachep)
    assert slab.kmem_cache_shrink(cachep) == 1
    assert slab.kmem_cache_destroy(cachep) == 1
    assert slab.caches()[0] is cachep and "Can't free all objects" in m.console[-1]
    slab.kmem_cache_free(cachep, objp)
    assert slab.kmem_cache_destroy(cachep) == 0
    with pytest.raises(KernelBug):
        slab.kmem_cache_destroy(cachep)


def test_arrays_can_be_tuned() -> None:
    m, slab = boot()
    cachep = a_cache(slab, 100)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(20)]
    text = "test 10 5 3"
    assert slab.slabinfo_write(text) == len(text)
    assert (cachep.array.limit, cachep.batchcount, cachep.shared and cachep.shared.limit) == (10, 5, 15)
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    assert cachep.shared is not None and cachep.shared.avail == 10
    check(m, slab)
    for wrong in ("test 1 2 0", "test 0 0 0", "nothing 10 5 0", "test 10", "test", "test a b c", "test 10 5 -1"):
        assert slab.slabinfo_write(wrong) == -EINVAL
    line = next(line for line in slab.slabinfo().split("\n") if line.startswith("test "))
    assert line.split()[:6] == ["test", "20", "39", "100", "39", "1"]
    assert "tunables   10    5    3" in line


@pytest.mark.parametrize("flags", [0, 0x80000000])
def test_an_estimate_is_the_most_that_fits(flags: int) -> None:
    for size, align in ((4, 4), (32, 32), (100, 4), (128, 128), (1000, 8), (4096, 4096)):
        for order in (0, 1, 3):
            found = cache_estimate(order, size, align, flags)
            head = (24, 2) if not flags else (0, 0)
            fits = [n for n in range(9000) if n * size + (head[0] + n * head[1] + align - 1 & -align) <= 4096 << order]
            assert found.num == (fits[-1] if fits else 0)


def test_a_pool_gives_from_its_reserve_only_when_memory_is_out() -> None:
    m, slab = boot("8M")
    mempool: Any = m.more_parts["mempool"]
    cachep = a_cache(slab, 2000)
    pool = mempool.mempool_create(4, cachep)
    first = mempool.mempool_alloc(pool)
    assert pool.curr_nr == 4
    with pytest.raises(KernelBug):
        mempool.mempool_destroy(mempool.mempool_create(2, cachep)) if mempool.mempool_resize(pool, 0) else None
    taken = []
    while (pfn := m.page_allocator.alloc_pages(GFP_ATOMIC, 0)) is not None:
        taken.append(pfn)
    got = []
    while element := mempool.mempool_alloc(pool, GFP_ATOMIC):
        got.append(element)
    assert pool.curr_nr == 0
    for element in got[:6]:
        mempool.mempool_free(element, pool)
    assert pool.curr_nr == 4
    for pfn in taken:
        m.put_page(pfn)
    for element in [first, *got[6:]]:
        mempool.mempool_free(element, pool)
    assert mempool.mempool_resize(pool, 9) == 0 and pool.curr_nr == 9
    assert mempool.mempool_resize(pool, 1) == 0 and pool.curr_nr == 1
    mempool.mempool_destroy(pool)
    assert slab.kmem_cache_destroy(cachep) == 0


def test_time_that_passes_tidies_the_caches_of_26_and_not_of_24() -> None:
    m, slab = boot()
    before = slab.state.reap_at
    m.tick(999)
    assert slab.state.reap_at == before
    m.tick(1)
    assert slab.state.reap_at == m.sched.jiffies + 2000
    old = vmlab.Machine("16M").power_on()
    old.tick(5000)
    assert not old.slab.run_timer()
