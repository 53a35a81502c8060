"""The slab allocator: layout of slabs, objects and lists, creating and destroying caches, kmalloc."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, KernelBug, KernelHang, Machine
from vmlab.hw.layout import PAGE_OFFSET, PAGE_SIZE
from vmlab.mm.page_flags import PG_slab
from vmlab.mm.slab import CACHE_SIZES, SlabAllocator
from vmlab.mm.slab_cache import (
    BUFCTL_END,
    CFLGS_OFF_SLAB,
    SLAB_CACHE_DMA,
    SLAB_CTOR_ATOMIC,
    SLAB_CTOR_CONSTRUCTOR,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_GROW,
    SLAB_POISON,
    kmem_cache_estimate,
)

from .slabs import create, fill, lengths, start

# -- layout -----------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(4, 131072), st.booleans())
def test_estimate_fills_the_slab(order: int, size: int, off_slab: bool) -> None:
    num, left_over = kmem_cache_estimate(order, size, CFLGS_OFF_SLAB if off_slab else 0)
    base, extra = (0, 0) if off_slab else (24, 4)

    def need(n: int) -> int:
        return n * size + (base + n * extra + 31) // 32 * 32

    assert need(num + 1) > PAGE_SIZE << order
    if num:
        assert need(num) + left_over == PAGE_SIZE << order


@pytest.mark.parametrize(
    ("size", "flags", "objsize", "num", "order", "off_slab"),
    [
        (4, 0, 4, 506, 0, False),
        (4, SLAB_HWCACHE_ALIGN, 8, 338, 0, False),  # not 4: `size < align / 2` is strict
        (17, SLAB_HWCACHE_ALIGN, 32, 113, 0, False),
        (68, SLAB_HWCACHE_ALIGN, 96, 40, 0, False),
        (1284, SLAB_HWCACHE_ALIGN, 1312, 3, 0, False),  # 160 bytes are left: the slab_t moves in again
        (512, 0, 512, 8, 0, True),
        (576, 0, 576, 7, 0, False),  # 64 bytes are left: just what the slab_t and seven bufctls need
        (3584, 0, 3584, 1, 0, False),  # an eighth is left over: just acceptable
        (3000, 0, 3000, 5, 2, False),
        (131072, 0, 131072, 1, 5, True),
    ],
)
def test_the_shape_of_a_cache(size: int, flags: int, objsize: int, num: int, order: int, off_slab: bool) -> None:
    cachep = create(start(), "c", size, 0, flags)
    assert (cachep.objsize, cachep.num, cachep.gfporder, cachep.off_slab) == (objsize, num, order, off_slab)


def test_a_small_machine_is_content_with_smaller_slabs() -> None:
    machine = Machine(ram="16M", kernel_objects=None).power_on()
    slab = SlabAllocator()
    slab.attach(machine)
    slab.kmem_cache_init()
    slab.kmem_cache_sizes_init()
    assert create(slab, "c", 3000).gfporder == 1


def test_colours_advance_and_wrap() -> None:
    slab = start()
    cachep = create(slab, "c", 96, 0, SLAB_HWCACHE_ALIGN)
    assert cachep.colour == 2
    fill(slab, cachep, 5)
    by_age = sorted(cachep.slabs_full, key=lambda s: s.seq)
    assert [s.colouroff - by_age[0].colouroff for s in by_age] == [0, 32, 0, 32, 0]
    assert all(s.s_mem == s.start + s.colouroff for s in by_age)


def test_where_the_management_is() -> None:
    slab = start()
    inside = slab.cache("size-32")
    objp = slab.kmalloc(20)
    place = slab.find(objp)
    assert place is not None
    assert place.cache is inside
    assert place.slab.address == place.slab.start  # size-32 has no colour to spare
    big = slab.find(slab.kmalloc(2048))
    assert big is not None
    assert big.cache.slabp_cache is inside
    management = slab.find(big.slab.address)
    assert management is not None
    assert (management.cache, management.number) == (inside, 1)


def test_pages_know_their_slab() -> None:
    slab = start()
    objp = slab.kmalloc(5000)  # size-8192: two pages
    place = slab.find(objp)
    assert place is not None
    mem = slab.kernel.mem
    pfn = objp - PAGE_OFFSET >> 12
    for frame in (pfn, pfn + 1):
        assert mem.flags[frame] >> PG_slab & 1
        assert mem.list.next[frame] == place.cache.address
        assert mem.list.prev[frame] == place.slab.address
    slab.kfree(objp)
    assert slab.kmem_cache_shrink(place.cache) == 2
    assert not mem.flags[pfn] >> PG_slab & 1
    assert mem.owner[pfn] == 0
    assert slab.find(objp) is None


# -- creating and destroying ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "offset", "flags", "kind"),
    [
        ("", 32, 0, 0, "sanity"),
        ("a_name_of_19_letters"[:19], 32, 0, 0, "sanity"),
        ("c", 3, 0, 0, "sanity"),
        ("c", 131073, 0, 0, "sanity"),
        ("c", 32, 33, 0, "sanity"),
        ("c", 32, 0, SLAB_POISON, "flags"),  # a kernel without slab debugging does not know it
        ("size-32", 32, 0, 0, "name"),
    ],
)
def test_caches_that_cannot_be(name: str, size: int, offset: int, flags: int, kind: str) -> None:
    slab = start()
    with pytest.raises(KernelBug) as bug:
        slab.kmem_cache_create(name, size, offset, flags)
    assert (bug.value.function, bug.value.kind) == ("kmem_cache_create", kind)
    assert slab.kernel.console[-1].startswith("kernel BUG at slab.c:")


def test_a_destructor_needs_a_constructor() -> None:
    with pytest.raises(KernelBug, match="not a sound request"):
        start().kmem_cache_create("c", 32, 0, 0, None, lambda objp, cachep, flags: None)


def test_who_dies_with_the_semaphore_takes_the_chain_along() -> None:
    slab = start()
    with pytest.raises(KernelBug):
        slab.kmem_cache_create("size-32", 32)
    with pytest.raises(KernelHang):
        slab.kmem_cache_create("c", 32)
    with pytest.raises(KernelHang):
        slab.kmem_cache_reap(GFP_KERNEL)
    assert slab.kmem_cache_reap(GFP_ATOMIC) == 0  # only tries the semaphore
    assert slab.kmalloc(100)  # needs no chain


def test_odd_sizes_are_rounded_and_said() -> None:
    slab = start()
    assert create(slab, "c", 13).objsize == 16
    assert slab.kernel.console[-1] == "<3>kmem_create: Forcing size word alignment - c"


def test_new_caches_come_first_in_the_chain() -> None:
    slab = start()
    create(slab, "a", 32)
    create(slab, "b", 32)
    assert [c.name for c in slab.caches()[:4]] == ["kmem_cache", "b", "a", "size-131072(DMA)"]


def test_destroy_gives_everything_back_and_keeps_a_busy_cache() -> None:
    slab = start()
    free = slab.kernel.page_allocator.nr_free_pages()
    descriptors = slab.state.cache_cache.active_objs
    cachep = create(slab, "c", 700)
    slab.state.clock_searchp = cachep
    objects = [objp for row in fill(slab, cachep, 3) for objp in row]
    for objp in objects[1:]:
        slab.kmem_cache_free(cachep, objp)
    assert slab.kmem_cache_destroy(cachep) == 1
    assert slab.caches()[1] is cachep
    assert slab.kernel.console[-1] == f"<3>kmem_cache_destroy: Can't free all objects {cachep.address:x}"
    slab.kmem_cache_free(cachep, objects[0])
    assert slab.kmem_cache_destroy(cachep) == 0
    assert slab.state.clock_searchp.name == "size-131072(DMA)"  # moved on before the cache went
    slab.kmem_cache_shrink(slab.cache("size-64"))
    assert slab.kernel.page_allocator.nr_free_pages() == free
    assert slab.state.cache_cache.active_objs == descriptors
    with pytest.raises(ValueError, match="no cache 'c'"):
        slab.cache("c")


# -- objects ----------------------------------------------------------------------------------


def test_the_object_freed_last_is_handed_out_first() -> None:
    slab = start()
    cachep = create(slab, "c", 128)
    a, b, c = (slab.kmem_cache_alloc(cachep) for _ in range(3))
    assert (b - a, c - b) == (128, 128)
    slab.kmem_cache_free(cachep, a)
    slab.kmem_cache_free(cachep, c)
    assert [slab.kmem_cache_alloc(cachep) for _ in range(3)] == [c, a, c + 128]


def test_a_slab_moves_from_list_to_list() -> None:
    slab = start()
    cachep = create(slab, "c", 1500)
    assert cachep.num == 5  # order 1
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(5)]
    assert lengths(cachep) == (1, 0, 0)
    slab.kmem_cache_free(cachep, objects[2])
    assert lengths(cachep) == (0, 1, 0)
    for i in (0, 1, 3, 4):
        slab.kmem_cache_free(cachep, objects[i])
    assert lengths(cachep) == (0, 0, 1)
    first = cachep.slabs_free.next
    assert first.free_objects() == [4, 3, 1, 0, 2]
    assert first.bufctl[2] == BUFCTL_END


def test_partial_slabs_serve_before_free_ones_and_the_latest_first() -> None:
    slab = start()
    cachep = create(slab, "c", 1000)
    rows = fill(slab, cachep, 3)
    for objp in rows[0]:
        slab.kmem_cache_free(cachep, objp)
    slab.kmem_cache_free(cachep, rows[1][0])
    slab.kmem_cache_free(cachep, rows[2][0])
    assert [slab.kmem_cache_alloc(cachep) for _ in range(3)] == [rows[2][0], rows[1][0], rows[0][-1]]


def test_of_the_free_slabs_the_one_emptied_last_serves_first() -> None:
    slab = start()
    cachep = create(slab, "c", 1000)
    rows = fill(slab, cachep, 3)
    for row in (rows[1], rows[0], rows[2]):
        for objp in row:
            slab.kmem_cache_free(cachep, objp)
    assert slab.kmem_cache_alloc(cachep) == rows[2][-1]
    for _ in range(3):
        slab.kmem_cache_alloc(cachep)
    assert slab.kmem_cache_alloc(cachep) == rows[0][-1]


def test_a_new_slab_comes_last_when_another_became_free_meanwhile() -> None:
    slab = start()
    cachep = create(slab, "c", 1000)
    row = fill(slab, cachep, 1)[0]
    allocator = slab.kernel.page_allocator
    alloc_pages = allocator.alloc_pages

    def while_it_waits(gfp_mask: int, order: int) -> int | None:
        for objp in row:
            slab.kmem_cache_free(cachep, objp)
        allocator.alloc_pages = alloc_pages  # type: ignore[method-assign]
        assert slab.kmem_cache_shrink(cachep) == 0  # not while it is growing
        assert slab.kmem_cache_reap(gfp_mask) == 0
        return alloc_pages(gfp_mask, order)

    allocator.alloc_pages = while_it_waits  # type: ignore[method-assign]
    assert slab.kmem_cache_alloc(cachep) == row[-1]
    assert lengths(cachep) == (0, 1, 1)


def test_shrink_takes_free_slabs_from_the_tail() -> None:
    slab = start()
    cachep = create(slab, "c", 4000)
    rows = fill(slab, cachep, 3)
    gone: list[int] = []
    slab.on_event = lambda e: gone.append(e[2]) if e[0] == "slab_destroy" else None
    for row in rows:
        for objp in row:
            slab.kmem_cache_free(cachep, objp)
    order = [s.start - PAGE_OFFSET >> 12 for s in cachep.slabs_free]
    assert slab.kmem_cache_shrink(cachep) == 3 << cachep.gfporder
    assert gone == order[::-1]


def test_constructors_and_destructors() -> None:
    calls: list[tuple[str, int, int]] = []
    slab = start()
    cachep = slab.kmem_cache_create(
        "c", 512, 0, 0, lambda o, c, f: calls.append(("ctor", o, f)), lambda o, c, f: calls.append(("dtor", o, f))
    )
    assert cachep is not None
    objp = slab.kmem_cache_alloc(cachep, GFP_ATOMIC)
    objects = list(range(objp, objp + 8 * 512, 512))
    assert calls == [("ctor", o, SLAB_CTOR_CONSTRUCTOR | SLAB_CTOR_ATOMIC) for o in objects]
    slab.kmem_cache_free(cachep, objp)
    slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, objp)
    assert len(calls) == 8  # once per slab, not per allocation
    slab.kmem_cache_shrink(cachep)
    assert calls[8:] == [("dtor", o, 0) for o in objects]


def test_growing_can_be_forbidden() -> None:
    slab = start()
    cachep = create(slab, "c", 64)
    assert slab.kmem_cache_alloc(cachep, GFP_ATOMIC | SLAB_NO_GROW) == 0
    with pytest.raises(KernelBug, match="flags 0x2"):
        slab.kmem_cache_alloc(cachep, 2)  # __GFP_HIGHMEM: objects need an address
    assert slab.kmem_cache_alloc(cachep)
    assert slab.kmem_cache_alloc(cachep, 2)  # only growing looks at the flags


def test_an_interrupt_may_only_grow_atomically() -> None:
    slab = start()
    cachep = create(slab, "c", 64)
    slab.state.in_interrupt = True
    with pytest.raises(KernelBug) as bug:
        slab.kmem_cache_alloc(cachep, GFP_KERNEL)
    assert bug.value.kind == "interrupt"
    assert slab.kmem_cache_alloc(cachep, GFP_ATOMIC)
    with pytest.raises(KernelBug):
        slab.kmem_cache_create("d", 64)


def test_a_pointer_to_nowhere() -> None:
    slab = start()
    with pytest.raises(KernelBug, match="is in no slab"):
        slab.kfree(PAGE_OFFSET + 0x5000)
    with pytest.raises(KernelBug, match="is in no slab"):
        slab.kmem_cache_free(slab.cache("size-32"), 0x1234)


def test_without_debugging_a_double_free_hands_one_object_out_twice() -> None:
    slab = start()
    cachep = create(slab, "c", 256)
    slab.kmem_cache_alloc(cachep)
    objp = slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, objp)
    slab.kmem_cache_free(cachep, objp)
    assert [slab.kmem_cache_alloc(cachep) for _ in range(3)] == [objp] * 3


# -- kmalloc ----------------------------------------------------------------------------------


@given(st.integers(0, 140_000))
def test_kmalloc_takes_the_smallest_size_that_fits(size: int) -> None:
    slab = KMALLOC
    objp = slab.kmalloc(size, GFP_ATOMIC)
    fitting = [s for s in CACHE_SIZES if s >= size]
    assert bool(objp) == bool(fitting)
    if objp:
        place = slab.find(objp)
        assert place is not None
        assert place.cache.name == f"size-{fitting[0]}"
        slab.kfree(objp)


KMALLOC = start()


def test_dma_memory_is_below_16_mib() -> None:
    slab = start()
    for size in (10, 1000, 100_000):
        objp = slab.kmalloc(size, GFP_KERNEL | GFP_DMA)
        assert objp - PAGE_OFFSET + size <= 16 << 20
    with pytest.raises(KernelBug) as bug:
        slab.kmem_cache_alloc(slab.cache("size-32"), GFP_KERNEL | GFP_DMA)
    assert bug.value.kind == "not DMA"
    with pytest.raises(KernelBug) as bug:
        slab.kmem_cache_alloc(create(slab, "d", 64, 0, SLAB_CACHE_DMA), GFP_KERNEL)
    assert bug.value.kind == "DMA"


def test_kfree_ignores_null() -> None:
    start().kfree(0)


def test_no_memory_is_no_object() -> None:
    slab = start()
    allocator = slab.kernel.page_allocator
    while allocator.alloc_pages(GFP_ATOMIC, 0) is not None:
        pass
    cachep = create(slab, "c", 64)
    assert slab.kmem_cache_alloc(cachep, GFP_ATOMIC) == 0
    assert cachep.growing == 0
    assert slab.kmalloc(2000, GFP_ATOMIC) == 0
