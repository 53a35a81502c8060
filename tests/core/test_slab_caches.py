"""Caches together: reaping, per-CPU arrays, where objects live, copies of the state, and anything at all."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import GFP_ATOMIC, GFP_KERNEL, GFP_USER, KernelBug
from vmlab.hw.layout import PAGE_OFFSET
from vmlab.mm.events_slab import SPECS
from vmlab.mm.page_flags import PG_slab
from vmlab.mm.slab import SlabAllocator
from vmlab.mm.slab_cache import DFLGS_GROWN, SLAB_HWCACHE_ALIGN, SLAB_NO_REAP, KmemCache
from vmlab.mm.slab_colour import compare_colouring
from vmlab.mm.slab_debug import DebugSlabAllocator, DebugSmpSlabAllocator
from vmlab.mm.slab_smp import SmpSlabAllocator

from .slabs import create, fill, lengths, start

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


# -- a machine's caches -----------------------------------------------------------------------

VISITED: list[int] = []


def visit(objp: int, cachep: KmemCache, flags: int) -> None:
    VISITED.append(objp)


def test_a_machine_records_what_is_done_to_its_caches() -> None:
    m = vmlab.boot(ram="32M", kernel_objects="ram", vfs=False)
    tape = m.record()
    c = m.kmem_cache_create("inode_cache", 480, ctor=visit)
    assert c is not None
    first, second = c.alloc(), m.kmem_cache_alloc(c)
    m.kernel_write(first, b"an inode")
    m.kmem_cache_free("inode_cache", second)
    assert (c.objects_in_use, c.descriptor.num) == (1, 8)
    tape.seek(len(tape) - 1)
    there = tape.machine.cache("inode_cache")
    assert there.objects_in_use == 1
    assert there.descriptor.ctor is visit
    assert tape.machine.kernel_read(first, 8) == b"an inode"
    assert m.copy().slabinfo() == m.slabinfo()
    c.free(first)
    assert c.shrink() == 1
    assert c.destroy() == 0
    assert repr(c) == "<Cache inode_cache, destroyed>"
    with pytest.raises(ValueError, match="no cache 'inode_cache'"):
        c.alloc()


def test_a_machine_with_several_processors() -> None:
    m = vmlab.boot(ram="32M", kernel_objects="ram", parts={"slab": SmpSlabAllocator})
    m.set_cpu(1)
    address = m.kmalloc(100)
    m.kfree(address)
    m.set_cpu(0)
    assert m.kmalloc(100) != address  # that one is at hand on the other processor only
    assert m.slabinfo_write("size-128 8 4") == len("size-128 8 4")
    with pytest.raises(ValueError, match="this machine has one processor"):
        vmlab.boot(ram="16M", kernel_objects="ram").set_cpu(0)


def test_kernel_addresses_are_those_of_the_direct_map() -> None:
    m = vmlab.boot(ram="16M", kernel_objects="ram")
    with pytest.raises(ValueError, match="kernel addresses|map nothing"):
        m.kernel_read(0x1000, 1)
    with pytest.raises(ValueError, match="kernel addresses|map nothing"):
        m.kernel_write(PAGE_OFFSET + (16 << 20) - 1, b"ab")


@pytest.mark.parametrize("cls", [SlabAllocator, SmpSlabAllocator, DebugSlabAllocator, DebugSmpSlabAllocator])
def test_every_step_can_be_told(cls: type[SlabAllocator]) -> None:
    slab = start(cls())
    told: dict[str, str] = {}
    slab.on_event = lambda event: told.setdefault(event[0], vmlab.describe(event))
    cachep = slab.kmem_cache_create("c", 700, 0, 0, visit, visit)
    plain = create(slab, "plain", 2000)
    assert cachep is not None
    for c in (cachep, plain):
        objects = [slab.kmem_cache_alloc(c) for _ in range(200)]
        for objp in objects:
            slab.kmem_cache_free(c, objp)
        slab.drain_cpu_caches(c)
    slab.kfree(slab.kmalloc(60))
    plain.dflags = 0
    slab.state.clock_searchp = plain
    assert slab.kmem_cache_reap(GFP_KERNEL)
    assert slab.kmem_cache_destroy(cachep) == 0
    area = {spec.name for spec in SPECS}
    several = {"cc_hit", "cc_refill", "cc_park", "cc_flush", "cc_tune", "smp_call"}
    missing = area - told.keys() - ({"poison", "red_zone"} if not slab.DEBUG else set())
    assert missing == (set() if isinstance(slab, SmpSlabAllocator) else several)
    assert told["cache_create"].startswith("new cache c: objects of ")
