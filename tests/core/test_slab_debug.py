"""Slab debugging: each way of misusing an object, and what the kernel says to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab import GFP_ATOMIC, KernelBug
from vmlab.hw.layout import PAGE_OFFSET
from vmlab.mm.slab_cache import (
    SLAB_CTOR_CONSTRUCTOR,
    SLAB_CTOR_VERIFY,
    SLAB_DEBUG_INITIAL,
    SLAB_HWCACHE_ALIGN,
    SLAB_MUST_HWCACHE_ALIGN,
    SLAB_POISON,
    SLAB_RED_ZONE,
    KmemCache,
)
from vmlab.mm.slab_debug import DebugSlabAllocator, DebugSmpSlabAllocator

from .slabs import create, start


def debugging() -> DebugSlabAllocator:
    slab = start(DebugSlabAllocator())
    assert isinstance(slab, DebugSlabAllocator)
    return slab


def caught(slab: DebugSlabAllocator, action: Callable[[], object]) -> tuple[str, str]:
    """(function, kind) of the BUG() that *action* runs into; the console tells the line."""
    with pytest.raises(KernelBug) as bug:
        action()
    assert slab.kernel.console[-1].startswith("kernel BUG at slab.c:")
    return bug.value.function, bug.value.kind


def test_what_every_cache_gets() -> None:
    slab = debugging()
    small = create(slab, "small", 100, 0, SLAB_HWCACHE_ALIGN)
    assert (small.objsize, small.flags & SLAB_HWCACHE_ALIGN) == (108, 0)
    assert slab.kmem_cache_size(small) == 100
    assert small.flags & SLAB_RED_ZONE
    assert small.flags & SLAB_POISON
    big = create(slab, "big", 512)
    assert (big.objsize, big.flags & SLAB_RED_ZONE) == (512, 0)
    must = create(slab, "must", 32, 0, SLAB_HWCACHE_ALIGN | SLAB_MUST_HWCACHE_ALIGN)
    assert (must.objsize, must.flags & SLAB_RED_ZONE, slab.kmem_cache_size(must)) == (32, 0, 32)
    made = slab.kmem_cache_create("made", 100, 0, SLAB_POISON, lambda objp, cachep, flags: None)
    assert made is not None
    assert not made.flags & SLAB_POISON
    assert slab.kernel.console == ["<3>kmem_create: Poisoning requested, but con given - made"]
    create(slab, "checked", 100, 0, SLAB_DEBUG_INITIAL)
    assert slab.kernel.console[-1] == "<3>kmem_create: No con, but init state check requested - checked"


@pytest.mark.parametrize(
    ("offset", "kind"), [(-1, "red zone before"), (-4, "red zone before"), (100, "red zone after"), (103, "red zone after")]
)
def test_a_write_past_either_end(offset: int, kind: str) -> None:
    slab = debugging()
    cachep = create(slab, "c", 100)
    objp = slab.kmem_cache_alloc(cachep)
    slab.write(objp, bytes(100))  # all of it is the user's
    slab.write(objp + offset, b"!")
    assert caught(slab, lambda: slab.kmem_cache_free(cachep, objp)) == ("kmem_cache_free_one", kind)


@pytest.mark.parametrize(
    ("size", "site"), [(100, ("kmem_cache_free_one", "red zone before")), (600, ("kmem_extra_free_checks", "double free"))]
)
def test_a_second_free(size: int, site: tuple[str, str]) -> None:
    slab = debugging()
    objp = slab.kmalloc(size)
    slab.kmalloc(size)
    slab.kfree(objp)
    assert caught(slab, lambda: slab.kfree(objp)) == site


def test_a_write_to_a_free_object_that_the_check_sees() -> None:
    slab = debugging()
    objp = slab.kmalloc(100)
    slab.kfree(objp)
    slab.write(objp + 5, b"\xa5")
    assert caught(slab, lambda: slab.kmalloc(100)) == ("kmem_cache_alloc_one_tail", "poison")


def test_a_write_to_a_free_object_that_it_does_not_see() -> None:
    slab = debugging()
    objp = slab.kmalloc(100)
    slab.kfree(objp)
    slab.write(objp + 5, b"overwritten")  # the first a5 is still the last byte
    assert slab.kmalloc(100) == objp


def test_poison_is_looked_at_when_a_slab_goes() -> None:
    slab = debugging()
    cachep = create(slab, "c", 600)
    objp = slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, objp)
    slab.write(objp + 599, b"\0")
    assert caught(slab, lambda: slab.kmem_cache_shrink(cachep)) == ("kmem_slab_destroy", "poison")


def test_red_zones_are_looked_at_when_a_slab_goes() -> None:
    slab = debugging()
    cachep = create(slab, "c", 100)
    objp = slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, objp)
    slab.write(objp + 100, b"\0")
    assert caught(slab, lambda: slab.kmem_cache_shrink(cachep)) == ("kmem_slab_destroy", "red zone after")


def test_a_constructor_that_writes_too_far() -> None:
    slab = debugging()

    def too_far(objp: int, cachep: KmemCache, flags: int) -> None:
        slab.write(objp, bytes(101))

    cachep = slab.kmem_cache_create("c", 100, 0, 0, too_far)
    assert cachep is not None
    assert caught(slab, lambda: slab.kmem_cache_alloc(cachep)) == ("kmem_cache_init_objs", "red zone after")


def test_pointers_that_are_no_objects() -> None:
    slab = debugging()
    objp, other = slab.kmalloc(600), slab.kmalloc(100)
    assert caught(slab, lambda: slab.kfree(objp + 8)) == ("kmem_extra_free_checks", "start")
    assert caught(slab, lambda: slab.kfree(other + 8)) == ("kmem_cache_free_one", "red zone before")
    assert caught(slab, lambda: slab.kfree(PAGE_OFFSET + 0x1234)) == ("kfree", "bad ptr")
    assert slab.kernel.console[-2] == "<3>kfree: bad ptr c0001234h."
    assert caught(slab, lambda: slab.kfree(0xF8000000)) == ("kfree", "range")
    assert slab.kernel.console[-2] == "<3>kfree: out of range ptr f8000000h."
    assert caught(slab, lambda: slab.kmem_cache_free(slab.cache("size-32"), objp)) == ("kmem_cache_free", "cache")
    gone = create(slab, "gone", 60)
    slab.kmem_cache_destroy(gone)
    assert caught(slab, lambda: slab.kmem_cache_shrink(gone)) == ("kmem_cache_shrink", "cache")


def test_a_constructor_can_verify_at_every_free() -> None:
    calls: list[int] = []
    slab = debugging()
    cachep = slab.kmem_cache_create("c", 2048, 0, SLAB_DEBUG_INITIAL, lambda objp, cachep, flags: calls.append(flags))
    assert cachep is not None
    objp = slab.kmem_cache_alloc(cachep)
    calls.clear()
    slab.kmem_cache_free(cachep, objp)
    assert calls == [SLAB_CTOR_CONSTRUCTOR | SLAB_CTOR_VERIFY]


def test_statistics() -> None:
    slab = debugging()
    cachep = create(slab, "c", 1000)
    objects = [slab.kmem_cache_alloc(cachep) for _ in range(9)]
    for objp in objects:
        slab.kmem_cache_free(cachep, objp)
    slab.kmem_cache_alloc(cachep)
    cachep.dflags = 0
    slab.state.clock_searchp = cachep
    slab.kmem_cache_reap(GFP_ATOMIC)
    lines = slab.slabinfo().splitlines()
    assert lines[0] == "slabinfo - version: 1.1 (statistics)"
    assert lines[2] == "c                      1      8   1000    1    2    1 :      9      10     3    1    0"


def test_an_object_parked_at_a_processor_counts_as_used() -> None:
    slab = start(DebugSmpSlabAllocator())
    assert isinstance(slab, DebugSmpSlabAllocator)
    cachep = create(slab, "c", 100)
    objp = slab.kmem_cache_alloc(cachep)
    slab.kmem_cache_free(cachep, objp)
    slab.kmem_cache_free(cachep, objp)  # not noticed: the object is only parked
    assert caught(slab, lambda: slab.drain_cpu_caches(cachep)) == ("kmem_cache_free_one", "red zone before")
    assert slab.slabinfo().splitlines()[0] == "slabinfo - version: 1.1 (statistics) (SMP)"
    assert len(slab.slabinfo().splitlines()[2].split(":")) == 4


SOUND = debugging()


@given(st.lists(st.tuples(st.integers(1, 3000), st.binary(min_size=1, max_size=20)), max_size=40))
def test_a_user_who_stays_inside_is_never_accused(requests: list[tuple[int, bytes]]) -> None:
    live = []
    for size, pattern in requests:
        objp = SOUND.kmalloc(size, GFP_ATOMIC)
        data = (pattern * size)[:size]
        SOUND.write(objp, data)
        live.append((objp, data))
    for objp, data in live:
        assert SOUND.read(objp, len(data)) == data
        SOUND.kfree(objp)
    for cachep in SOUND.caches():
        SOUND.kmem_cache_shrink(cachep) if cachep is not SOUND.state.cache_cache else None
