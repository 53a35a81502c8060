"""The slab allocator: layout of slabs, order of lists, reaping, kmalloc, per-CPU arrays, and where objects live."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, GFP_USER, KernelBug, KernelHang, Machine
from vmlab.hw.layout import PAGE_OFFSET, PAGE_SIZE
from vmlab.mm.page_flags import PG_slab
from vmlab.mm.slab import CACHE_SIZES, SlabAllocator
from vmlab.mm.slab_cache import (
    BUFCTL_END,
    CFLGS_OFF_SLAB,
    DFLGS_GROWN,
    SLAB_CACHE_DMA,
    SLAB_CTOR_ATOMIC,
    SLAB_CTOR_CONSTRUCTOR,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_GROW,
    SLAB_NO_REAP,
    SLAB_POISON,
    KmemCache,
    kmem_cache_estimate,
)
from vmlab.mm.slab_colour import compare_colouring
from vmlab.mm.slab_smp import SmpSlabAllocator

BOOTED = Machine(ram="64M", kernel_objects=None).power_on().snapshot()


def start(slab: SlabAllocator | None = None, objects: str | None = None) -> SlabAllocator:
    """A slab allocator on a machine without processes, ready to use."""
    machine = Machine(ram="64M", kernel_objects=None)
    machine.restore(BOOTED)
    if objects is not None:
        machine.config = machine.config._replace(kernel_objects=objects)
    slab = slab or SlabAllocator()
    slab.attach(machine)
    slab.kmem_cache_init()
    slab.kmem_cache_sizes_init()
    slab.kmem_cpucache_init()
    return slab


def create(slab: SlabAllocator, name: str, size: int, offset: int = 0, flags: int = 0) -> KmemCache:
    cachep = slab.kmem_cache_create(name, size, offset, flags)
    assert cachep is not None
    return cachep


def lengths(cachep: KmemCache) -> tuple[int, int, int]:
    return len(cachep.slabs_full), len(cachep.slabs_partial), len(cachep.slabs_free)


def fill(slab: SlabAllocator, cachep: KmemCache, slabs: int) -> list[list[int]]:
    """Objects of *slabs* full slabs, slab by slab."""
    return [[slab.kmem_cache_alloc(cachep) for _ in range(cachep.num)] for _ in range(slabs)]


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
    assert slab.kernel.console[-1].startswith("<4>kernel BUG at slab.c:")


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


# -- reaping ----------------------------------------------------------------------------------


def loaded(slab: SlabAllocator, name: str, slabs: int, flags: int = 0, size: int = 500) -> KmemCache:
    """A cache with nothing but free slabs, and that is known to have grown."""
    cachep = create(slab, name, size, 0, flags)
    for row in fill(slab, cachep, slabs):
        for objp in row:
            slab.kmem_cache_free(cachep, objp)
    return cachep


def test_reap_spares_a_cache_that_grew_and_takes_half_the_next_time() -> None:
    slab = start()
    cachep = loaded(slab, "c", 5)
    assert slab.kmem_cache_reap(GFP_KERNEL) == 0
    assert not cachep.dflags & DFLGS_GROWN
    slab.state.clock_searchp = cachep
    assert slab.kmem_cache_reap(GFP_KERNEL) == 3  # half, rounded up
    assert lengths(cachep) == (0, 0, 2)


def test_reap_looks_at_ten_caches_and_remembers_where_it_was() -> None:
    slab = start()
    names = [c.name for c in slab.caches()]
    assert slab.kmem_cache_reap(GFP_KERNEL) == 0
    assert slab.state.clock_searchp.name == names[10]
    slab.kmem_cache_reap(GFP_KERNEL)
    slab.kmem_cache_reap(GFP_KERNEL)
    assert slab.state.clock_searchp.name == names[30 % 27]


def test_reap_stops_at_a_perfect_cache_and_weighs_the_others() -> None:
    slab = start()
    few, constructed, many = loaded(slab, "few", 8), loaded(slab, "ctor", 9), loaded(slab, "many", 10)
    constructed.ctor = lambda objp, cachep, flags: None  # 9 pages count for 7
    for cachep in (few, constructed, many):
        cachep.dflags = 0
    slab.state.clock_searchp = constructed
    assert slab.kmem_cache_reap(GFP_KERNEL) == 4  # of `few`: 8 is more than 7
    few.dflags = constructed.dflags = 0
    slab.state.clock_searchp = slab.cache("kmem_cache")
    assert slab.kmem_cache_reap(GFP_KERNEL) == 5  # `many` is perfect: no further look
    assert slab.state.clock_searchp is constructed


def test_reap_never_touches_some() -> None:
    slab = start()
    cachep = loaded(slab, "c", 20, SLAB_NO_REAP)
    cachep.dflags = 0
    growing = loaded(slab, "g", 20)
    growing.dflags, growing.growing = 0, 1
    assert slab.kmem_cache_reap(GFP_KERNEL) == 0
    assert slab.kmem_cache_shrink(growing) == 0


# -- several processors -----------------------------------------------------------------------


def smp() -> SmpSlabAllocator:
    slab = start(SmpSlabAllocator())
    assert isinstance(slab, SmpSlabAllocator)
    return slab


@pytest.mark.parametrize(("size", "limit"), [(256, 252), (260, 124), (1024, 124), (1028, 60), (4096, 60), (4100, 0)])
def test_how_long_the_arrays_are(size: int, limit: int) -> None:
    cachep = create(smp(), "c", size)
    assert [cc.limit if cc else 0 for cc in cachep.cpudata[:2] or [None]] == [limit] * len(cachep.cpudata[:2] or [None])
    assert cachep.batchcount == limit // 2


def test_a_processor_fetches_and_returns_half_its_array() -> None:
    slab = smp()
    cachep = create(slab, "c", 512)
    objp = slab.kmem_cache_alloc(cachep)
    cc = slab.cc_data(cachep)
    assert cc is not None
    assert cc.avail == cachep.num - 1  # one slab is all there was
    slab.set_cpu(1)
    slab.kmem_cache_free(cachep, objp)  # another processor's object is kept here
    other = slab.cc_data(cachep)
    assert other is not None
    assert other.entries == [objp]
    assert slab.kmem_cache_alloc(cachep) == objp
    objects = [objp, *(slab.kmem_cache_alloc(cachep) for _ in range(other.limit))]
    other.entries = []
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    assert other.avail == other.limit - cachep.batchcount + 1
    assert other.entries[-1] == objects[-1]


def test_tuning() -> None:
    slab = smp()
    cachep = create(slab, "c", 512)
    assert [slab.kmem_tune_cpucache(cachep, *bad) for bad in ((-1, 0), (4, -1), (4, 5), (4, 0))] == [-22] * 4
    assert slab.slabinfo_write("c 8 4") == 5
    assert slab.slabinfo().splitlines()[0] == "slabinfo - version: 1.1 (SMP)"
    assert slab.slabinfo().splitlines()[2].endswith(":    8    4")
    assert slab.slabinfo_write("none 8 4") == slab.slabinfo_write("c") == -22
    slab.kmem_cache_alloc(cachep)
    assert slab.slabinfo_write("c 0 0") == 5  # no arrays: what they held is back in the slab
    assert cachep.active_objs == 1


def test_destroy_drains_every_processor() -> None:
    slab = smp()
    cachep = create(slab, "c", 512)
    first, second = slab.kmem_cache_alloc(cachep), slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, first)
    slab.set_cpu(1)
    slab.kmem_cache_free(cachep, second)
    sizes = slab.cache("size-512").active_objs
    assert slab.kmem_cache_shrink(cachep) == 0  # objects in arrays count as used
    assert slab.kmem_cache_destroy(cachep) == 0
    assert slab.cache("size-512").active_objs == sizes  # the arrays' memory is parked in an array itself


# -- where objects live -----------------------------------------------------------------------


def test_outside_the_machine_nothing_is_taken() -> None:
    slab = start(objects="outside")
    free = slab.kernel.page_allocator.nr_free_pages()
    slab.proc_caches_init()
    cachep = create(slab, "c", 100)
    got = [slab.kmem_cache_alloc(slab.vm_area_cachep), slab.kmem_cache_alloc(cachep), slab.kmalloc(9), slab.kmalloc(500)]
    assert len(set(got)) == 4
    assert all(0 < address < PAGE_OFFSET for address in got)
    assert slab.kmalloc(131073) == 0
    assert slab.kernel.page_allocator.nr_free_pages() == free
    slab.kfree(got[2])
    assert slab.kmem_cache_destroy(cachep) == 1
    slab.kmem_cache_free(cachep, got[1])
    assert slab.kmem_cache_destroy(cachep) == 0
    assert slab.kmem_cache_reap(GFP_KERNEL) == 0


def test_only_the_vm_inside_the_machine() -> None:
    slab = start(objects="vm-only")
    free = slab.kernel.page_allocator.nr_free_pages()
    slab.proc_caches_init()
    assert slab.kmem_cache_alloc(slab.files_cachep) < PAGE_OFFSET
    assert slab.kmalloc(100) < PAGE_OFFSET
    assert slab.kernel.page_allocator.nr_free_pages() == free
    assert slab.kmem_cache_alloc(slab.vm_area_cachep) > PAGE_OFFSET
    assert slab.kmem_cache_alloc(slab.mm_cachep) > PAGE_OFFSET
    assert slab.kernel.page_allocator.nr_free_pages() == free - 2


def test_slabinfo_is_the_kernels_text() -> None:
    slab = start()
    slab.proc_caches_init()
    for _ in range(41):
        slab.kmem_cache_alloc(slab.vm_area_cachep)
    lines = slab.slabinfo().splitlines()
    assert lines[0] == "slabinfo - version: 1.1"
    assert lines[1] == "kmem_cache            31     36    108    1    1    1"
    assert lines[3] == "vm_area_struct        41     80     96    2    2    1"
    assert lines[7] == "size-131072(DMA)       0      0 131072    0    0   32"
    assert len(lines) == 33


def test_slabinfo_refuses_a_lying_list() -> None:
    slab = start()
    slab.kmalloc(20)
    slab.cache("size-32").slabs_partial.next.inuse = 0
    with pytest.raises(KernelBug, match="on the partial list"):
        slab.slabinfo()


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_the_state_can_be_copied(how: str) -> None:
    slab = start()
    cachep = create(slab, "c", 600)
    rows = fill(slab, cachep, 3)
    slab.kmem_cache_free(cachep, rows[1][2])
    before = slab.state
    slab.state = copy.deepcopy(before) if how == "deepcopy" else pickle.loads(pickle.dumps(before))
    copied = slab.cache("c")
    assert copied is not cachep
    assert copied.slabp_cache is None or copied.slabp_cache in slab.state.cache_chain
    assert [s.address for s in copied.slabs()] == [s.address for s in cachep.slabs()]
    assert slab.kmem_cache_alloc(copied) == rows[1][2]
    assert lengths(copied) == (3, 0, 0)
    assert lengths(cachep) == (2, 1, 0)


# -- anything at all --------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), st.integers(0, 49), st.integers(1, 30)),
        st.tuples(st.just("free"), st.integers(0, 10_000), st.integers(1, 20)),
        st.tuples(st.just("shrink"), st.integers(0, 49), st.just(0)),
        st.tuples(st.just("reap"), st.just(0), st.just(0)),
        st.tuples(st.just("cpu"), st.integers(0, 1), st.just(0)),
    ),
    max_size=60,
)
SHAPES = st.lists(
    st.tuples(st.integers(4, 9000), st.integers(0, 64), st.sampled_from([0, SLAB_HWCACHE_ALIGN, SLAB_NO_REAP])), min_size=50, max_size=50
)


def check(slab: SlabAllocator, live: dict[int, tuple[KmemCache, bytes]]) -> None:
    """The caches' books agree with themselves, with the pages, and with what was handed out."""
    used: dict[KmemCache, int] = dict.fromkeys(slab.caches(), 0)
    frames: set[int] = set()
    for cachep in slab.caches():
        parked = {objp for cc in cachep.cpudata if cc is not None for objp in cc.entries}
        assert not parked & live.keys()
        for kind, slabs in cachep.lists():
            for s in slabs:
                free = s.free_objects()
                assert len(free) == cachep.num - s.inuse
                assert kind == ("full" if not free else "partial" if s.inuse else "free")
                first = s.start - PAGE_OFFSET >> 12
                pages = set(range(first, first + (1 << cachep.gfporder)))
                assert not frames & pages
                frames |= pages
                used[cachep] += s.inuse
    for objp, (cachep, data) in live.items():
        place = slab.find(objp)
        assert place is not None
        assert place.cache is cachep
        assert place.number not in place.slab.free_objects()
        assert slab.read(objp, len(data)) == data
    for cachep in slab.caches():
        if cachep.name.startswith("h"):
            parked = sum(cc.avail for cc in cachep.cpudata if cc is not None)
            assert used[cachep] == parked + sum(1 for owner, _ in live.values() if owner is cachep)
    assert frames == {pfn for pfn in range(slab.kernel.mem.frames) if slab.kernel.mem.flags[pfn] >> PG_slab & 1}


@settings(max_examples=60, deadline=None)
@given(SHAPES, STEPS, st.booleans())
def test_nothing_is_handed_out_twice_and_nothing_is_lost(
    shapes: list[tuple[int, int, int]], steps: list[tuple[str, int, int]], several: bool
) -> None:
    slab = start(SmpSlabAllocator() if several else SlabAllocator())
    caches = [create(slab, f"h{i}", size, min(offset, size), flags) for i, (size, offset, flags) in enumerate(shapes)]
    live: dict[int, tuple[KmemCache, bytes]] = {}
    spans: dict[int, int] = {}
    for serial, (kind, which, times) in enumerate(steps):
        if kind == "alloc":
            cachep = caches[which]
            for n in range(times):
                objp = slab.kmem_cache_alloc(cachep, GFP_ATOMIC if n % 2 else GFP_USER)
                assert objp
                assert objp not in live
                data = (f"{serial}.{n};".encode() * cachep.objsize)[: cachep.objsize]
                slab.write(objp, data)
                live[objp] = (cachep, data)
                spans[objp] = cachep.objsize
        elif kind == "free":
            for n in range(times):
                if live:
                    objp = sorted(live)[(which + 7 * n) % len(live)]
                    cachep, data = live.pop(objp)
                    assert slab.read(objp, len(data)) == data  # nobody else wrote there
                    slab.kmem_cache_free(cachep, objp)
        elif kind == "shrink":
            slab.kmem_cache_shrink(caches[which])
        elif kind == "reap":
            slab.kmem_cache_reap(GFP_KERNEL)
        elif isinstance(slab, SmpSlabAllocator):
            slab.set_cpu(which)
    check(slab, live)
    for objp, (cachep, _) in list(live.items()):
        slab.kmem_cache_free(cachep, objp)
    for cachep in caches:
        assert slab.kmem_cache_destroy(cachep) == 0
    for cachep in slab.caches():
        slab.drain_cpu_caches(cachep)
    for _ in range(2):  # giving the big ones back frees slab_ts in the small ones
        for cachep in slab.caches():
            slab.kmem_cache_shrink(cachep)
    check(slab, {})
    held = sum(cachep.pages for cachep in slab.caches())
    fresh = start(SmpSlabAllocator() if several else SlabAllocator())
    assert slab.kernel.page_allocator.nr_free_pages() + held == fresh.kernel.page_allocator.nr_free_pages() + sum(
        cachep.pages for cachep in fresh.caches()
    )
    if not several:
        assert held == 1  # the descriptors of the caches that remain


# -- colouring --------------------------------------------------------------------------------


def test_colouring_spreads_objects_over_the_l1_cache() -> None:
    slab = start()
    free = slab.kernel.page_allocator.nr_free_pages()
    coloured, plain = compare_colouring(slab, 416, 32)
    assert (coloured.colours, plain.colours) == (9, 1)
    assert plain.sets == 1
    assert plain.conflict_ratio == 1.0  # 32 lines want the 4 places of one set
    assert coloured.conflict_ratio == 0.0  # 9 sets have 36 places
    assert slab.kernel.page_allocator.nr_free_pages() == free


def test_colouring_cannot_help_where_nothing_is_left_over() -> None:
    coloured, plain = compare_colouring(start(), 4096, 16)
    assert coloured[1:] == plain[1:]
    assert coloured.colours == 1
    with pytest.raises(ValueError, match="objects 0 to 0"):
        compare_colouring(start(), 4096, 2, number=1)
