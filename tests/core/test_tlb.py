"""The TLB and the level-1 cache as models on their own."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.hw.cache import CAPACITY, COLD, CONFLICT, HIT, L1Cache
from vmlab.hw.mmu import GLOBAL
from vmlab.hw.tlb import Tlb

PAGES = st.lists(st.integers(0, 40), max_size=300)


# Does it remember exactly what an LRU set remembers?
@given(PAGES, st.sampled_from([(8, 8), (8, 2), (6, 3), (4, 1)]))
def test_lru_sets(pages: list[int], shape: tuple[int, int]) -> None:
    entries, ways = shape
    tlb = Tlb(entries, ways)
    model: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(entries // ways)]
    for page in pages:
        line = model[page % len(model)]
        assert (tlb.lookup(page) is not None) == (page in line)
        if page in line:
            line.move_to_end(page)
        else:
            gone = tlb.insert(page, page + 1000, 0)
            assert gone == (next(iter(line)) if len(line) == ways else None)
            if gone is not None:
                del line[gone]
            line[page] = None
    assert tlb.hits + tlb.misses == len(pages)
    assert tlb.pages() == [p for line in model for p in line]


# Is a hit in a FIFO set no reason to stay longer?
def test_fifo_ignores_use() -> None:
    tlb = Tlb(2, 2, "fifo")
    tlb.insert(1, 1, 0)
    tlb.insert(2, 2, 0)
    assert tlb.lookup(1) is not None
    assert tlb.insert(3, 3, 0) == 1
    lru = Tlb(2, 2)
    lru.insert(1, 1, 0)
    lru.insert(2, 2, 0)
    lru.lookup(1)
    assert lru.insert(3, 3, 0) == 2


# What survives which flush?
def test_flushes() -> None:
    tlb = Tlb(16, 16)
    for page in range(8):
        tlb.insert(page, page, GLOBAL if page >= 6 else 0)
    assert tlb.flush_page(2) == 1 and tlb.flush_page(2) == 0
    assert tlb.flush_range(3 << 12, (4 << 12) + 1) == 2  # pages 3 and 4
    assert tlb.flush_mm() == 3
    assert tlb.pages() == [6, 7]
    assert tlb.flush_page(6) == 1  # invlpg takes a global entry too
    assert tlb.flush_all() == 1
    assert tlb.flushes == {"page": 3, "range": 1, "mm": 1, "all": 1}
    assert tlb.flushed == 8


# A miss costs one memory access per level: the textbook's formula, in numbers.
def test_effective_access_time() -> None:
    tlb = Tlb()
    assert tlb.effective_access_time(memory=100, tlb=20, levels=1, hit_ratio=0.8) == pytest.approx(0.8 * 120 + 0.2 * 220)
    assert tlb.effective_access_time(memory=100, tlb=0, levels=2, hit_ratio=0) == 300
    with pytest.raises(ValueError, match="share"):
        tlb.effective_access_time(hit_ratio=80)


@pytest.mark.parametrize(("entries", "ways"), [(0, 1), (8, 3), (4, 8), (8, 0)])
def test_impossible_shapes(entries: int, ways: int) -> None:
    with pytest.raises(ValueError, match="sets"):
        Tlb(entries, ways)


# Which kind is each miss? Two lines one "way" apart in a direct-mapped cache evict each other: conflict.
def test_conflict_is_told_apart() -> None:
    cache = L1Cache(size=128, ways=1, line=32)  # 4 sets
    assert [cache.access(a) for a in (0, 128, 0, 4, 128)] == [COLD, COLD, CONFLICT, HIT, CONFLICT]
    cache = L1Cache(size=128, ways=4, line=32)  # the same size in one set
    assert [cache.access(a) for a in (0, 128, 0, 4, 128)] == [COLD, COLD, HIT, HIT, HIT]
    for line in range(5):  # five lines round and round do not fit four
        cache.access(line * 32)
    assert cache.access(0) == CAPACITY


# Without sets there can be no conflict, and all kinds add up.
@given(st.lists(st.integers(0, 3000), max_size=400))
def test_full_associativity_has_no_conflicts(addresses: list[int]) -> None:
    whole, sets = L1Cache(512, 16, 32), L1Cache(512, 2, 32)
    for address in addresses:
        whole.access(address)
        sets.access(address)
    assert whole.conflict == 0
    assert whole.cold == sets.cold == len({a // 32 for a in addresses})
    assert sets.hits + sets.misses == len(addresses)
    assert sum(sets.misses_by_set) == sets.misses
