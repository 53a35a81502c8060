"""The page allocator of 2.6: per-CPU lists, watermarks, reserves, the slow path, boot, and copies of it all."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug, KernelHang
from vmlab.mm.gfp import GFP_ATOMIC, GFP_HIGHUSER, PF_MEMALLOC
from vmlab.mm.gfp import GFP_KERNEL as GFP_KERNEL24
from vmlab.v26 import gfp
from vmlab.v26.page_flags import PRIVATE, flag_names26, to_native
from vmlab.v26.startup import STAGES26


def boot(ram: str = "16M", **options: Any) -> vmlab.Machine:
    options.setdefault("kernel_objects", None)
    return vmlab.Machine(ram, kernel="2.6", **options).power_on()


def lists(m: vmlab.Machine) -> list[Any]:
    return [([area.blocks() for area in zone.free_area], zone.pageset_state) for zone in m.zones]  # type: ignore[attr-defined]


def test_masks_translate_both_ways() -> None:
    for native in (0x20, 0x10, 0x50, 0xD0, 0xD2, 0x1D2, 0x850, 0x10D0, 0x40D0, 0x8000, 0xFF73):
        assert gfp.to_native(gfp.from_native(native)) == native
    # What is called GFP_KERNEL and so on in 2.4 means what 2.6 calls by that name.
    assert gfp.to_native(GFP_KERNEL24) == gfp.to_native(gfp.GFP_KERNEL) == 0xD0
    assert gfp.to_native(GFP_HIGHUSER) == gfp.to_native(gfp.GFP_HIGHUSER) == 0xD2
    assert "__GFP_NOFAIL" in vmlab.describe(("alloc_begin", gfp.GFP_NOFS | gfp.NOFAIL, 0, 0))
    assert gfp.gfp_name(gfp.GFP_HIGHUSER | gfp.COLD) == "GFP_HIGHUSER|__GFP_COLD"


def test_flags_have_2_6_numbers_when_asked() -> None:
    m = boot()
    assert m.page(m.zones[0].free_area[10].blocks()[0]).flag_names == ["private"]
    assert to_native(1 << 14 | PRIVATE) == 1 << 11 | 1 << 12
    assert flag_names26(PRIVATE | 1 << 9) == ["private", "writeback"]


def test_lower_half_is_kept_and_single_pages_come_in_batches() -> None:
    m = boot("64M")
    zone = m.zones[1]
    while zone.free_area[9].free_list:
        m.alloc_pages(order=9)
    first = m.alloc_pages(order=9)
    assert first is not None
    assert first.pfn + 512 in zone.free_area[9].free_list
    hot = zone.pcp[0]  # type: ignore[attr-defined]
    batch = hot.batch
    while hot.count > hot.low:
        assert m.alloc_pages() is not None
    free = zone.free_pages
    page = m.alloc_pages()
    assert page is not None
    assert zone.free_pages == free - batch
    assert hot.count == hot.low + batch - 1
    m.free_pages(page)
    assert hot.list[0] == page.pfn  # newest first: it is handed out next
    assert page.state == "free"
    with pytest.raises(ValueError, match="free already"):
        m.free_pages(page)
    m.check()


def test_free_blocks_say_so_themselves() -> None:
    m = boot()
    private = m.mem.column("private")
    heads = {pfn: order for zone in m.zones for order, area in enumerate(zone.free_area) for pfn in area.free_list}
    assert {pfn: private[pfn] for pfn in range(m.mem.frames) if m.mem.flags[pfn] & PRIVATE} == heads


@pytest.mark.parametrize(
    ("ram", "marks", "reserve"),
    [
        ("16M", [(128, 160, 192)], [[0, 0, 0]]),
        ("1G", [(17, 21, 25), (939, 1173, 1408), (32, 40, 48)], [[0, 880, 1008], [0, 0, 1024], [0, 0, 0]]),
    ],
)
def test_watermarks_and_reserves(ram: str, marks: list[tuple[int, int, int]], reserve: list[list[int]]) -> None:
    m = boot(ram)
    assert [(z.pages_min, z.pages_low, z.pages_high) for z in m.zones] == marks
    assert [z.lowmem_reserve for z in m.zones] == reserve  # type: ignore[attr-defined]
    m.check()


def test_what_2_6_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="min_free_kbytes"):
        boot("64M", memfrac="10,10,10")
    with pytest.raises(KernelBug, match="DMA and high memory"):
        boot("64M").alloc_pages(3)


def test_settings_change_marks_and_reserves() -> None:
    m = boot("64M")
    m.zone_setup.set_min_free_kbytes(4096)  # type: ignore[attr-defined]
    dma, normal = m.zones
    assert (dma.pages_min, normal.pages_min) == (256, 768)
    m.zone_setup.set_lowmem_reserve_ratio([1, 32])  # type: ignore[attr-defined]
    assert dma.lowmem_reserve[1] == normal.realsize  # type: ignore[attr-defined]
    # Now no request that could use Normal may come down to DMA.
    while (page := m.alloc_pages(GFP_ATOMIC)) is not None:
        assert page.pfn >= 4096
    assert m.alloc_pages(1 | GFP_ATOMIC).pfn < 4096  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="at least 1"):
        m.zone_setup.set_lowmem_reserve_ratio([0, 32])  # type: ignore[attr-defined]


def test_how_deep_each_kind_of_request_may_go() -> None:
    """Fill a machine with each kind of request; what is left free shows the mark it stops at."""
    left = {}
    for name, mask, flags, realtime in (
        ("noretry", gfp.GFP_KERNEL | gfp.NORETRY, 0, 0),
        ("realtime", gfp.GFP_KERNEL | gfp.NORETRY, 0, 1),
        ("cannot wait", 0, 0, 0),
        ("atomic", GFP_ATOMIC, 0, 0),
        ("reclaims", gfp.GFP_KERNEL, PF_MEMALLOC, 0),
    ):
        m = boot()
        m.current.flags, m.current.rt_priority = flags, realtime
        while m.page_allocator.alloc_pages(mask, 0) is not None:
            pass
        left[name] = m.zones[0].free_pages
        m.current.flags = m.current.rt_priority = 0
        m.check()
    # 128 is min: a quarter less, then half and a quarter of the rest. (A batch is 1 here.)
    assert left == {"noretry": 128, "realtime": 96, "cannot wait": 96, "atomic": 48, "reclaims": 0}


def test_slow_path_ends_as_the_caller_wishes() -> None:
    m = boot(reclaim=vmlab.ScriptedReclaim)
    kept = []
    while (pfn := m.page_allocator.alloc_pages(GFP_ATOMIC, 0)) is not None:
        kept.append(pfn)
    runs = sorted(kept)
    calls = m.reclaim.calls  # type: ignore[attr-defined]
    before = len(calls)
    with pytest.raises(KernelHang, match="nobody to kill"):
        m.alloc_pages(gfp.GFP_KERNEL)
    assert len(calls) == before + 1
    assert m.alloc_pages(gfp.GFP_KERNEL | gfp.NORETRY) is None
    assert m.alloc_pages(gfp.GFP_NOFS, 4) is None  # too large to insist
    with pytest.raises(KernelHang, match="being written"):
        m.alloc_pages(gfp.GFP_NOFS, 3)
    for insists in (gfp.REPEAT, gfp.NOFAIL):
        with pytest.raises(KernelHang, match="being written"):
            m.alloc_pages(gfp.GFP_NOFS | insists, 4)
    # Once reclaim says nothing was found, then that something was, and frees enough.
    m.queue_reclaim(0, [])
    m.queue_reclaim(1, [(pfn, 0) for pfn in runs[:200]])
    ooms = m.reclaim.ooms  # type: ignore[attr-defined]
    assert m.alloc_pages(gfp.GFP_KERNEL) is not None
    assert m.reclaim.ooms == ooms + 1  # type: ignore[attr-defined]
    assert not m.current.flags
    m.check()


def test_kswapd_is_told_the_order() -> None:
    m = boot()
    while m.page_allocator.alloc_pages(gfp.GFP_KERNEL | gfp.NORETRY, 0) is not None:
        pass
    wakes = m.stat.wake_kswapd
    assert wakes
    m.alloc_pages(GFP_ATOMIC, 2)
    assert m.pgdats[0].kswapd_max_order == 2  # type: ignore[attr-defined]
    m.alloc_pages(GFP_ATOMIC, 1)
    assert m.pgdats[0].kswapd_max_order == 2  # type: ignore[attr-defined]
    assert m.alloc_pages(GFP_ATOMIC, 10) is None
    with pytest.raises(ValueError, match="0 to 10"):
        m.alloc_pages(GFP_ATOMIC, -1)
    now = m.stat.wake_kswapd
    assert m.alloc_pages(GFP_ATOMIC, 11) is None
    assert m.stat.wake_kswapd == now  # refused before anybody is woken


def test_large_blocks_count_by_order() -> None:
    m = boot()
    zone = m.zones[0]
    ok = m.page_allocator.zone_watermark_ok  # type: ignore[attr-defined]
    pages = [m.alloc_pages(GFP_ATOMIC) for _ in range(1500)]
    for page in pages[::2]:
        m.free_pages(page)  # type: ignore[arg-type]
    usable = zone.free_pages - zone.nr_free()[0]
    assert ok(zone, 0, zone.free_pages - 1, 0, 0, 0)
    assert not ok(zone, 1, 2 * usable, 0, 0, 0)
    assert ok(zone, 1, 2 * usable - 4, 0, 0, 0) == (zone.free_pages - 1 > 2 * usable - 4)


def test_bad_pages_are_repaired_with_a_message() -> None:
    m = boot()
    page = m.alloc_pages()
    assert page is not None
    m.mem.flags[page.pfn] |= 1 << 6 | 1 << 4  # on an LRU list, dirty
    m.free_pages(page)
    assert "Bad page state at free_hot_cold_page" in m.console[0]
    assert not m.mem.flags[page.pfn] & (1 << 6 | 1 << 4)
    with pytest.raises(KernelBug, match="no reference"):
        m.page_allocator.free_pages(page.pfn, 0)
    m.check()


def test_zeroed_and_compound_blocks() -> None:
    m = boot()
    page = m.alloc_pages(gfp.GFP_KERNEL, 2)
    assert page is not None
    m.write(page.address + 8192, b"old")
    m.free_pages(page)
    page = m.alloc_pages(gfp.GFP_KERNEL | gfp.ZERO | gfp.COMP, 2)
    assert page is not None
    assert m.read(page.address, 4 * 4096) == bytes(4 * 4096)
    private = m.mem.column("private")
    assert [private[page.pfn + i] for i in range(4)] == [page.pfn] * 4
    m.mem.count[page.pfn] += 1
    m.put_page(page.pfn + 3)  # any part drops the head's reference
    assert page.count == 1
    m.put_page(page.pfn + 2)
    assert page.state == "free"
    assert page.order >= 2
    m.check()


def test_high_memory_by_shortcut_and_page_by_page() -> None:
    """A listener makes the boot go page by page: the same lists come out."""
    quick = boot("960M")
    events: list[Any] = []
    slow = boot("960M", on_event=events.append)
    assert lists(quick) == lists(slow)
    assert quick.mem.flags == slow.mem.flags
    assert quick.mem.block == slow.mem.block
    assert quick.mem.column("private") == slow.mem.column("private")
    assert quick.stat.as_dict() == slow.stat.as_dict()
    assert quick.page_allocator.page_state.values() == slow.page_allocator.page_state.values()  # type: ignore[attr-defined]
    assert {e[0] for e in events} >= {"pcp_free", "pcp_drain", "watermarks", "lowmem_reserve"}
    for event in {e[0]: e for e in events}.values():
        assert vmlab.describe(event)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(20, 300))
def test_nothing_is_lost_and_copies_go_on_alike(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    m = boot(reclaim=vmlab.ScriptedReclaim)
    total = m.nr_free_pages() + sum(len(z.parked()) for z in m.zones)
    held: list[tuple[int, int]] = []
    twin: vmlab.Machine | None = None
    state: Any = None
    mark: tuple[int, Any, Any] | None = None
    for step in range(steps):
        if step == steps // 2:
            twin, state = m.copy(), m.snapshot()
            mark = rng.getstate(), list(held), lists(m)  # type: ignore[assignment]
        if held and rng.random() < 0.45:
            pfn, order = held.pop(rng.randrange(len(held)))
            m.free_pages(pfn, order)
        else:
            order = rng.choice((0, 0, 0, 0, 1, 2, 3, 5, 9, 10))
            mask = rng.choice((GFP_ATOMIC, gfp.GFP_KERNEL | gfp.NORETRY, gfp.GFP_KERNEL | gfp.NORETRY | gfp.COLD, 0))
            page = m.alloc_pages(mask, order)
            if page is not None:
                held.append((page.pfn, order))
    m.check()
    assert m.nr_free_pages() + sum(len(z.parked()) for z in m.zones) + sum(1 << o for _, o in held) == total
    end = lists(m)
    assert twin is not None and mark is not None
    for other in (twin, m):
        if other is m:
            m.restore(state)
        rng.setstate(mark[0])  # type: ignore[arg-type]
        again = list(mark[1])
        assert lists(other) == mark[2]
        for _ in range(steps - steps // 2):
            if again and rng.random() < 0.45:
                pfn, order = again.pop(rng.randrange(len(again)))
                other.free_pages(pfn, order)
            else:
                order = rng.choice((0, 0, 0, 0, 1, 2, 3, 5, 9, 10))
                mask = rng.choice((GFP_ATOMIC, gfp.GFP_KERNEL | gfp.NORETRY, gfp.GFP_KERNEL | gfp.NORETRY | gfp.COLD, 0))
                page = other.alloc_pages(mask, order)
                if page is not None:
                    again.append((page.pfn, order))
        assert lists(other) == end
        assert other.page_allocator.page_state.values() == m.page_allocator.page_state.values() or other is twin  # type: ignore[attr-defined]


@pytest.mark.parametrize("kernel_objects", [None, "outside", "vm-only", "ram"])
def test_every_kind_of_machine_boots_and_copies(kernel_objects: str | None) -> None:
    m = boot("32M", kernel_objects=kernel_objects)
    m.check()
    assert m.ready
    assert m.boot_stage == STAGES26[kernel_objects][-1]
    other = m.copy()
    assert lists(other) == lists(m)
    page, same = m.alloc_pages(), other.alloc_pages()
    assert page is not None and same is not None and page.pfn == same.pfn
    other.check()
    assert m.buddyinfo().splitlines()[0].split()[4:] == [str(n) for n in m.zones[0].nr_free()]


def test_recording_of_a_2_6_machine() -> None:
    m = boot("16M")
    with m.record() as tape:
        pages = [m.alloc_pages() for _ in range(50)]
        for page in pages[::3]:
            m.free_pages(page)  # type: ignore[arg-type]
    end = lists(m)
    tape.seek(len(tape) // 2).check()
    assert lists(tape.machine) != end
    assert lists(tape.seek(len(tape) - 1)) == end
    assert any(e[0] == "pcp_refill" for e in tape.events(0, len(tape)))


def test_boot_memory_has_a_hint() -> None:
    m = vmlab.Machine("64M", kernel="2.6", kernel_objects=None)
    m.boot_step("setup_memory_region")
    m.boot_step("setup_memory")
    first = m.bootmem.alloc_bootmem(4096, 4096, 16 << 20)
    second = m.bootmem.alloc_bootmem(4096, 4096, 16 << 20)
    assert (first, second) == (16 << 20, (16 << 20) + 4096)
    m.bootmem.free_bootmem_core(m.pgdats[0].bdata, first, 4096)
    assert m.bootmem.last_success == {"0": first}  # type: ignore[attr-defined]
    assert m.bootmem.alloc_bootmem(4096, 4096, 16 << 20) == first
    # A whole page never begins in the rest of another's.
    m.bootmem.alloc_bootmem(100, 32, 16 << 20)
    assert m.bootmem.alloc_bootmem(4096, 4096, 16 << 20) % 4096 == 0


@pytest.mark.parametrize("numa", [False, True])
def test_nodes_are_asked_in_a_ring_from_the_local_one(numa: bool) -> None:
    nodes = [(0, 4096, 4096, 0), (8192, 0, 4096, 0), (12288, 0, 4096, 0), (16384, 0, 4096, 4096)]
    m = vmlab.Machine(kernel="2.6", nodes=nodes, numa=numa).power_on()
    m.check()

    def order(nid: int) -> list[int]:
        return list(dict.fromkeys(zone.pgdat.nid for zone in m.pgdats[nid].node_zonelists[0]))

    assert [order(nid) for nid in range(4)] == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    assert [(z.pgdat.nid, z.zone_num) for z in m.pgdats[3].node_zonelists[2]][:2] == [(3, 2), (3, 1)]
    m.set_cpu_node(2)
    seen = []
    while (page := m.alloc_pages(GFP_ATOMIC)) is not None:
        assert page.node is not None
        if page.node.nid not in seen:
            seen.append(page.node.nid)
    # One request goes on to the next node when a zone is down to its mark.
    assert seen[:4] == [2, 3, 0, 1]
    with pytest.raises(KernelHang):
        m.alloc_pages(node=1)
    m.check()
    assert lists(m.copy()) == lists(m)


def test_node_order_spreads_the_load() -> None:
    """With CONFIG_NUMA nobody becomes everybody's second choice (find_next_best_node)."""
    setup = boot("64M").zone_setup
    setup.kernel = vmlab.Machine(kernel="2.6", nodes=[(i * 8192, 4096 if not i else 0, 4096, 0) for i in range(4)], numa=True)
    load = [0, 5, 0, 0]
    assert setup.node_order(0, load) == [0, 2, 3, 1]  # type: ignore[attr-defined]
    assert load == [0, 5, 3, 0]
    assert setup.node_order(1, load)[:2] == [1, 3]  # type: ignore[attr-defined]
