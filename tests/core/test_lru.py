"""The active and inactive lists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.errors import KernelBug
from vmlab.mm.page import MemMap
from vmlab.mm.page_flags import PG_active, PG_lru, PG_referenced
from vmlab.mm.swap import LruCache

FRAMES = 12
LRU, ACTIVE, REFERENCED = 1 << PG_lru, 1 << PG_active, 1 << PG_referenced


def lists(physical_pages: int = 4096) -> LruCache:
    swap = LruCache()
    kernel: Any = SimpleNamespace(mem=MemMap(FRAMES), num_physpages=physical_pages)
    swap.attach(kernel)
    return swap


@pytest.mark.parametrize(("megabytes", "cluster"), [(8, 2), (15, 2), (16, 3), (1024, 3)])
def test_small_machines_read_smaller_clusters(megabytes: int, cluster: int) -> None:
    swap = lists(megabytes << 8)
    swap.swap_setup()
    assert swap.page_cluster == cluster


def test_a_new_page_needs_two_uses_to_become_active() -> None:
    swap = lists()
    for pfn in (3, 5, 7):
        swap.lru_cache_add(pfn)
    assert swap.inactive() == [7, 5, 3]
    swap.mark_page_accessed(5)
    assert swap.inactive() == [7, 5, 3] and swap.flags[5] == LRU | REFERENCED
    swap.mark_page_accessed(5)
    assert swap.inactive() == [7, 3] and swap.active() == [5] and swap.flags[5] == LRU | ACTIVE
    swap.mark_page_accessed(5)  # active: only noted
    assert swap.flags[5] == LRU | ACTIVE | REFERENCED
    swap.lru_cache_del(5)
    assert swap.flags[5] == REFERENCED and not swap.active()


def test_a_page_on_no_list_loses_its_mark_at_the_second_use() -> None:
    swap = lists()
    swap.mark_page_accessed(2)
    swap.mark_page_accessed(2)  # activate_page() finds it on no list
    assert swap.flags[2] == 0 and not swap.active()


def test_adding_a_page_that_is_on_a_list_is_noticed() -> None:
    swap = lists()
    swap.lru_cache_add(1)
    swap.activate_page(1)
    with pytest.raises(KernelBug, match="frame 1 is lru|active"):
        swap.add_page_to_inactive_list(1)
    with pytest.raises(KernelBug, match="neither"):
        swap.add_page_to_active_list(2)


@given(
    st.lists(
        st.tuples(st.sampled_from(["lru_cache_add", "lru_cache_del", "activate_page", "mark_page_accessed"]), st.integers(0, FRAMES - 1))
    )
)
def test_flags_lists_and_counts_agree(steps: list[tuple[str, int]]) -> None:
    swap = lists()
    model: dict[str, list[int]] = {"active": [], "inactive": []}
    referenced: set[int] = set()

    def activate(pfn: int) -> None:
        if pfn in model["inactive"]:
            model["inactive"].remove(pfn)
            model["active"].insert(0, pfn)

    for name, pfn in steps:
        getattr(swap, name)(pfn)
        if name == "lru_cache_add" and pfn not in model["active"] + model["inactive"]:
            model["inactive"].insert(0, pfn)
        elif name == "lru_cache_del":
            for of in model.values():
                if pfn in of:
                    of.remove(pfn)
        elif name == "activate_page":
            activate(pfn)
        elif name == "mark_page_accessed":
            if pfn in referenced and pfn not in model["active"]:
                activate(pfn)
                referenced.discard(pfn)
            else:
                referenced.add(pfn)
        assert swap.active() == model["active"] and swap.inactive() == model["inactive"]
        assert (swap.nr_active_pages, swap.nr_inactive_pages) == (len(model["active"]), len(model["inactive"]))
    for pfn in range(FRAMES):
        expected = LRU * (pfn in model["active"] + model["inactive"]) | ACTIVE * (pfn in model["active"]) | REFERENCED * (pfn in referenced)
        assert swap.flags[pfn] == expected
