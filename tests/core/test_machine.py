"""Booting, allocating through the public API, and being told off helpfully."""

from __future__ import annotations

import re

import pytest

import vmlab
from vmlab import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_USER, KernelBug, KernelHang, KernelPanic, PageAllocator
from vmlab.hw.e820 import E820Entry, copy_e820_map, parse_size, sanitize_e820_map
from vmlab.mm.startup import BOOT_STAGES
from vmlab.mm.vmscan import Vmscan


@pytest.mark.parametrize("mib", [16, 17, 24, 63, 64, 128, 500, 896, 897, 1024, 2048, 3000, 4096])
def test_boots_at_any_size(mib: int) -> None:
    m = vmlab.boot(ram=f"{mib}M", kernel_objects=None)
    assert m.mem.frames == mib * 256
    assert [z.name for z in m.zones] == ["DMA", "Normal", "HighMem"][: 1 if mib <= 16 else 2 if mib <= 896 else 3]
    assert m.nr_free_pages() == m.totalram_pages > 0.8 * mib * 256
    assert m.boot_stage == "mem_init" and m.pgdats[0].bdata.map is None
    whole = vmlab.boot(ram=f"{mib}M")
    assert whole.totalram_pages == m.totalram_pages and [z.free_area for z in whole.zones] != [z.free_area for z in m.zones]
    taken = [c for c in whole.boot_log if c.stage not in BOOT_STAGES]
    assert whole.nr_free_pages() == m.nr_free_pages() - sum(c.size for c in taken) // 4096
    tables = {f"{of} hash table" for of in ("page", "dentry", "inode", "mount", "buffer")}
    assert {c.name for c in taken} == {"slab"} | tables | ({"bounce pool"} if mib > 896 else set())
    assert all(whole.page(c.start_pa >> 12).owner.startswith(c.name) for c in taken)
    if mib <= 64:
        m.check()
        whole.check()


def test_pae_has_zones_up_to_64_gib() -> None:
    m = vmlab.boot(ram="64G", pae=True)
    high = m.zones[2]
    assert high.size == (64 << 18) - 229376 and (high.pages_min, high.pages_low, high.pages_high) == (255, 510, 765)
    page = m.alloc_pages(GFP_HIGHUSER, 9)
    assert page is not None and page.zone is high and page.virtual is None
    names = [c.name for c in m.boot_log]
    assert names.count("kernel pmd") == 1 and "pkmap page table" in names


def test_same_boot_same_bits() -> None:
    assert vmlab.boot(ram="64M").snapshot() == vmlab.boot(ram="64M").snapshot()


def test_highmem_parameter_needs_64_mib_of_low_memory() -> None:
    assert len(vmlab.boot(ram="128M", highmem_pages=16384).zones) == 3
    assert len(vmlab.boot(ram="128M", highmem_pages=16385).zones) == 2  # 64 MiB would not be left: ignored


def test_kernel_without_highmem_sees_896_mib() -> None:
    m = vmlab.boot(ram="2G", highmem=False)
    assert [z.name for z in m.zones] == ["DMA", "Normal"] and m.num_physpages == 229376


def test_who_took_what_at_boot() -> None:
    m = vmlab.boot(ram="64M")
    assert m.page(0).owner == "BIOS data page" and m.page(0).state == "reserved"
    assert m.page(160).state == "hole" and m.page(256).owner == "kernel image"
    assert m.page(4100).owner == "mem_map"
    consumers = {c.name: c for c in m.boot_log}
    assert consumers["mem_map"].size == (16384 + 1) * 48
    assert all(0 <= c.start_pa and c.size > 0 for c in m.boot_log)


def test_alloc_and_free() -> None:
    m = vmlab.boot(ram="64M")
    free = m.nr_free_pages()
    page = m.alloc_pages(GFP_KERNEL, order=3, owner="me")
    assert page is not None and page.order == 3 and page.owner == "me" and page.count == 1
    assert page.virtual == 0xC0000000 + page.address and page.zone is m.zones[1]
    assert "allocated order 3" in repr(page) and m.page(page.pfn + 7).head == page.pfn
    assert m.nr_free_pages() == free - 8
    m.free_pages(page)
    assert m.nr_free_pages() == free and page.state == "free" and page.owner == ""


def test_zone_modifiers() -> None:
    m = vmlab.boot(ram="1G")
    for mask, name in [(GFP_KERNEL, "Normal"), (GFP_HIGHUSER, "HighMem"), (GFP_DMA, "DMA"), (GFP_HIGHUSER | GFP_DMA, "DMA")]:
        page = m.alloc_pages(mask, 0)
        assert page is not None and page.zone is not None and page.zone.name == name


def test_order_10_is_refused() -> None:
    assert vmlab.boot(ram="64M").alloc_pages(GFP_KERNEL, 10) is None


def test_addresses() -> None:
    m = vmlab.boot(ram="64M")
    before = m.nr_free_pages()
    address = m.get_dma_pages(GFP_KERNEL, 1)
    assert 0xC0000000 <= address < 0xC1000000
    m.free_pages_at(address, 1)
    m.free_pages_at(0, 1)
    assert m.nr_free_pages() == before
    with pytest.raises(ValueError, match="direct map"):
        m.free_pages_at(0x1000, 0)
    with pytest.raises(ValueError, match="high memory"):
        m.get_free_pages(GFP_HIGHUSER)


def test_pages_keep_their_bytes_unless_asked_for_zeroes() -> None:
    m = vmlab.boot(ram="64M")
    page = m.alloc_pages(GFP_KERNEL, 1)
    assert page is not None and m.read(page.address, 8192) == bytes(8192)
    m.write(page.address + 4090, b"across two pages")
    assert m.read(page.address + 4090, 16) == b"across two pages"
    m.free_pages(page)
    again = m.alloc_pages(GFP_KERNEL, 1)
    assert again == page and m.read(page.address + 4090, 6) == b"across"  # 2.4 hands pages on as they are
    twin = m.copy()
    m.free_pages(page)
    address = m.get_zeroed_page(GFP_KERNEL)
    physical = address - 0xC0000000
    m.write(physical, b"dirty")
    m.free_pages_at(address, 0)
    assert m.get_zeroed_page(GFP_KERNEL) == address and m.read(physical, 4096) == bytes(4096)
    assert twin.read(page.address + 4090, 6) == b"across"
    with pytest.raises(ValueError, match="not in this machine"):
        m.write((64 << 20) - 1, b"xx")


def drain(m: vmlab.Machine, mask: int = GFP_ATOMIC) -> list[vmlab.Page]:
    pages = []
    while (page := m.alloc_pages(mask, 0)) is not None:
        pages.append(page)
    return pages


def test_watermarks_protect_lower_zones_by_a_running_sum() -> None:
    m = vmlab.boot(ram="64M", kernel_objects=None)
    dma, normal = m.zones
    drain(m)
    # A quarter of pages_min for a request that cannot wait, added up along the zonelist; the comparison is strict.
    assert normal.free_pages == 1 + normal.pages_min // 4
    assert dma.free_pages == 1 + normal.pages_min // 4 + dma.pages_min // 4
    assert normal.need_balance == 1 and dma.need_balance == 0
    m.set_task_flags(vmlab.PF_MEMALLOC)
    assert len(drain(m)) == normal.free_pages + dma.free_pages + 1 + normal.pages_min // 4 + 1 + normal.pages_min // 4 + dma.pages_min // 4
    assert m.nr_free_pages() == 0


def test_small_requests_that_may_wait_never_fail() -> None:
    m = vmlab.boot(ram="16M", kernel_objects=None)
    drain(m)
    with pytest.raises(KernelHang, match="retried until it succeeds"):
        m.alloc_pages(GFP_KERNEL, 3)
    assert m.alloc_pages(GFP_KERNEL, 4) is None  # a larger one tries reclaim once
    assert m.stat["yield"] == 1 and m.stat["reclaim"] == 2


def test_where_everything_is_taken_and_nobody_can_be_killed_the_kernel_panics() -> None:
    m = vmlab.boot(ram="16M")
    with pytest.raises(KernelPanic, match="no killable processes"):
        drain(m)
    # kswapd tried again and again, a second apart: nothing is in the caches, and the whole of memory is the kernel's.
    assert m.sched.kstat.kswapd_runs >= 10 and m.sched.jiffies >= 1000
    assert m.nr_free_pages() < m.zones[0].pages_low


def test_a_page_that_the_cache_holds_is_reclaimed_for_who_asks() -> None:
    m = vmlab.boot(ram="16M", swap="16M")
    m.create_file("book", 4 << 20)
    p = m.spawn("reader")
    fd = p.open("book")
    while p.read_file(fd, 1 << 16):
        pass
    cached = m.filemap.page_cache_size
    free = m.nr_free_pages()
    assert cached == 1024
    taken = [m.alloc_pages(GFP_KERNEL, 0) for _ in range(free + 200)]
    assert all(taken) and m.filemap.page_cache_size < cached and p.alive


def test_what_part_is_automatic() -> None:
    assert vmlab.Machine("16M").config.kernel_objects == "ram"
    assert vmlab.Machine(nodes=[(0, 4096, 0)]).config.kernel_objects is None
    assert vmlab.Machine("16M", reclaim=vmlab.ScriptedReclaim).config.kernel_objects is None
    assert vmlab.Machine("16M", reclaim=type("Mine", (Vmscan,), {})).config.kernel_objects == "ram"
    alone = vmlab.boot("16M", kernel_objects=None)
    assert not alone.processes and len(alone.meminfo().splitlines()) == 6
    with pytest.raises(ValueError, match="page allocator only"):
        alone.spawn()
    with pytest.raises(ValueError, match="a whole machine's parts"):
        vmlab.boot("16M", kernel_objects=None, parts={"slab": int})
    with pytest.raises(ValueError, match="page allocator only"):
        vmlab.boot("16M", kernel_objects=None, swap="1M")


def test_a_frame_forgets_its_owner_when_it_is_freed() -> None:
    m = vmlab.boot("16M")
    page = m.alloc_pages(GFP_KERNEL, owner="me")
    assert page is not None
    p = m.spawn()
    a = p.mmap(1 << 20)
    p.touch_pages(a, 256, True)
    labels = {m.owners[o] for o in m.mem.owner}
    assert labels >= {"me", "page table", "page directory", "task", "slab"}
    p.exit()
    m.free_pages(page)
    while m.pgtable.pgtable_cache_size:
        m.pgtable.pte_free_slow(m.pgtable.pte_quicklist.pop()) if m.pgtable.pte_quicklist else m.pgtable.pgd_quicklist.pop()
    q = m.spawn()
    b = q.mmap(8 << 20)
    q.touch_pages(b, 2000, True)
    assert all(m.page(q.frame(b + (i << 12)) or 0).owner in ("anonymous", "") for i in range(2000))
    assert not {m.owners[m.mem.owner[q.frame(b + (i << 12)) or 0]] for i in range(2000)} - {"", "kernel image"}


def test_swap_from_the_start() -> None:
    m = vmlab.boot("16M", swap="1M")
    assert m.swapfile.total_swap_pages == 254  # of 256: the header takes one, and 2.4 leaves the last one alone
    assert "SwapTotal:        1016 kB" in str(m) and "254 of 254 swap pages free" in repr(m)
    tape = vmlab.record("16M", swap="1M")
    assert tape.ops[-1].name == "add_swap" and not vmlab.compare(tape.live, m)


def test_a_reclaimed_page_goes_straight_to_the_task() -> None:
    m = vmlab.boot(ram="16M", reclaim=vmlab.ScriptedReclaim)
    pages = drain(m)
    first, second = pages[10], pages[20]
    m.queue_reclaim(1, [(first.pfn, 0), (second.pfn, 0)])
    heard: list[vmlab.mm.events.Event] = []
    m.on_event = heard.append
    assert m.alloc_pages(GFP_KERNEL, 0) == first
    assert ("local_page", first.pfn, 0) in heard and ("free", second.pfn, 0, 0) in heard
    m.on_event = None
    m.check()


def test_every_event_is_known_and_can_be_put_into_words() -> None:
    heard: list[vmlab.mm.events.Event] = []
    m = vmlab.boot(ram="32M", on_event=heard.append, reclaim=vmlab.ScriptedReclaim)
    pages = drain(m)
    m.queue_reclaim(1, [(p.pfn, 0) for p in pages[:4]])
    m.alloc_pages(GFP_KERNEL, 0)
    assert m.alloc_pages(GFP_KERNEL, 9) is None
    with pytest.raises(KernelHang):
        m.alloc_pages(GFP_USER, 2)
    for page in pages[4:40]:
        m.free_pages(page)
    assert {e[0] for e in heard} == {spec.name for spec in vmlab.mm.events._OWN} - {"printk"}  # printk: processes only
    for event in heard:
        assert len(vmlab.EVENTS[event[0]].fields) == len(event) - 1
        assert not re.search(r"[{}]", vmlab.describe(event))
    with pytest.raises(ValueError, match="unknown event"):
        vmlab.describe(("tea",))


class FromTheTail(PageAllocator):
    """A student's policy: take the oldest free block instead of the newest."""

    def rmqueue(self, zone: vmlab.mm.mmzone.Zone, order: int) -> int | None:
        for found in range(order, 10):
            area = zone.free_area[found]
            if area.free_list:
                oldest = next(iter(area.free_list))
                del area.free_list[oldest]
                area.free_list[oldest] = None  # now at the head
                return super().rmqueue(zone, order)
        return None


def test_a_part_of_your_own_boots_the_machine() -> None:
    m = vmlab.boot(ram="64M", page_allocator=FromTheTail)
    kernel = vmlab.boot(ram="64M")
    ours, theirs = m.alloc_pages(GFP_KERNEL, 0), kernel.alloc_pages(GFP_KERNEL, 0)
    assert ours is not None and theirs is not None
    m.run(vmlab.workload("mixed", seed=5, n=400))
    kernel.run(vmlab.workload("mixed", seed=5, n=400))
    m.check()
    assert vmlab.compare(m, kernel)  # another policy, other frames
    twin = m.copy()
    assert isinstance(twin.page_allocator, FromTheTail) and not vmlab.compare(m, twin)


def test_mangled_names_are_explained() -> None:
    with pytest.raises(TypeError, match="Name it free_pages_ok"):

        class Wrong(PageAllocator):
            def __free_pages_ok(self, pfn: int, order: int) -> None:
                pass


def test_wrong_calls_are_explained_and_change_nothing() -> None:
    m = vmlab.boot(ram="64M")
    page = m.alloc_pages(GFP_KERNEL, 2)
    assert page is not None
    other = vmlab.boot(ram="64M")
    before = m.snapshot()
    wrong = [
        (lambda: m.free_pages(page.pfn + 1), "starts at"),
        (lambda: m.free_pages(page, 1), "allocated with order 2"),
        (lambda: m.free_pages(0), "never allocated"),
        (lambda: m.free_pages(160), "no RAM"),
        (lambda: m.free_pages(other.page(page.pfn)), "another machine"),
        (lambda: m.free_pages(1 << 30), "not a page of this machine"),
        (lambda: m.free_pages(m.zones[1].free_area[9].blocks()[0]), "free already"),
        (lambda: m.alloc_pages(GFP_KERNEL, -1), "whole number"),
        (lambda: m.alloc_pages(GFP_KERNEL, True), "whole number"),
        (lambda: m.alloc_pages(GFP_KERNEL, 0, node=1), "nodes 0 to 0"),
        (lambda: m.page(99999), "frames 0 to"),
        (lambda: m.set_task_flags(1), "PF_MEMALLOC"),
        (lambda: m.queue_reclaim(1), "ScriptedReclaim"),
        (lambda: m.fragmentation(m.zones[0], 10), "0 to 9"),
        (lambda: m.power_on(), "on already"),
        (lambda: m.boot_step("tea"), "no boot stage"),
        (lambda: m.restore(other.copy().snapshot()._replace(plain=other.snapshot().plain | {"frames": 1})), "with 1 frames"),
    ]
    for call, says in wrong:
        with pytest.raises(ValueError, match=says):
            call()
    after = m.snapshot()
    assert after.blobs == before.blobs
    m.free_pages(page)
    with pytest.raises(ValueError, match="free already"):
        m.free_pages(page)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ram": "8M"}, "starts at 16 MiB"),
        ({"ram": "lots"}, "not a size"),
        ({"ram": "8G"}, "pae=True"),
        ({"ram": "65G", "pae": True}, "64 GiB"),
        ({"ram": 1.5}, "a size is an int"),
        ({"ram": (64 << 20) + 1}, "whole number of 4 KiB"),
        ({"kernel_end": 5}, "kernel image"),
        ({"memfrac": "x"}, "memfrac"),
        ({"page_allocator": int}, "derived from PageAllocator"),
        ({"nodes": [(0,)]}, "a node is"),
        ({"e820": [(0, 4096, 2)]}, "no RAM"),
        ({"e820": [(0, 64 << 20, 1)]}, "at least two ranges"),
        ({"e820": [(-1, 5, 1)]}, "negative"),
        ({"on_event": 5}, "on_event takes"),
    ],
)
def test_wrong_boot_options_are_explained(options: dict[str, object], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        vmlab.boot(**options)  # type: ignore[arg-type]


def test_off_machine_says_so() -> None:
    m = vmlab.Machine(ram="64M")
    assert "off" in str(m) and "off" in repr(m)
    with pytest.raises(ValueError, match="not up yet"):
        m.alloc_pages()


def test_double_free_in_the_kernel_itself_is_caught() -> None:
    """Below the public API, where the kernel would corrupt itself, the impossible state is named."""
    m = vmlab.boot(ram="16M")
    page = m.alloc_pages(GFP_KERNEL, 1)
    assert page is not None
    m.page_allocator.free_pages_ok(page.pfn, 1)
    with pytest.raises(KernelBug, match="freed twice"):
        for _ in range(3):
            m.page_allocator.free_pages_ok(page.pfn, 1)
    with pytest.raises(KernelBug, match="not the start"):
        m.page_allocator.free_pages_ok(page.pfn + 1, 1)


def test_sizes() -> None:
    assert parse_size("64M") == parse_size("64 MiB") == parse_size("65536k") == parse_size(64 << 20) == 64 << 20
    assert parse_size("1.5G") == 3 << 29


def test_e820_overlaps_and_the_bios_hole() -> None:
    overlapping = [E820Entry(0, 100, 1), E820Entry(50, 100, 2), E820Entry(120, 100, 1)]
    assert sanitize_e820_map(overlapping) == [(0, 50, 1), (50, 100, 2), (150, 70, 1)]
    assert sanitize_e820_map([E820Entry(0, 100, 1), E820Entry(100, 50, 1)]) == [(0, 150, 1)]  # adjacent and alike: one range
    assert sanitize_e820_map(overlapping[:1]) is None
    claimed = [E820Entry(0, 1 << 20, 1), E820Entry(1 << 20, 1 << 20, 1)]
    assert copy_e820_map(claimed) == [(0, 0xA0000, 1), (1 << 20, 1 << 20, 1)]


def test_buddyinfo_and_meminfo_read_like_proc() -> None:
    m = vmlab.boot(ram="64M", kernel_objects=None)
    assert m.buddyinfo().splitlines()[0].startswith("Node 0, zone      DMA ")
    assert re.search(r"^MemFree: +62348 kB$", str(m), re.MULTILINE)
    assert re.search(r"^MemFree: +62280 kB$", str(vmlab.boot(ram="64M", vfs=False)), re.MULTILINE)  # 17 pages: a slab and the page hash
    whole = vmlab.boot(ram="64M")  # 34 more: the hash tables of entries (16), inodes (8), mounts (2), buffers (4), and four slabs
    assert re.search(r"^MemFree: +62144 kB$", str(whole), re.MULTILINE)


def test_fragmentation_index() -> None:
    m = vmlab.boot(ram="64M", kernel_objects=None)
    normal = m.zones[1]
    assert m.fragmentation(normal, 0) == 0.0
    assert 0 <= m.fragmentation(normal, 3) <= m.fragmentation(normal, 9) < 0.1
    m.run(vmlab.workload("checkerboard", seed=1, n=18_000))
    assert m.fragmentation(normal, 9) > 0.1
