"""The report about free memory that the kernel prints when it runs out. kernel: mm/page_alloc.c:show_free_areas"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .mmzone import MAX_ORDER26

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from .mmzone import Zone26
    from .page_alloc import PageAllocator26


def show_free_areas(kernel: Kernel) -> None:
    """In 2.6 the report goes by zones and their page sets, because memory is kept so; before that it knew the two global lists.

    kernel: mm/page_alloc.c:show_free_areas
    """
    ps = cast("PageAllocator26", kernel.page_allocator).page_state
    zones = cast("list[Zone26]", list(kernel.for_each_zone()))
    multi = len(kernel.pgdats) > 1

    def say(text: str) -> None:
        kernel.printk(None, text)

    def node(zone: Zone26) -> str:
        return f"Node {zone.pgdat.nid} " if multi else ""

    for zone in zones:
        if not zone.realsize:
            say(f"{node(zone)}{zone.name} per-cpu: empty")
            continue
        say(f"{node(zone)}{zone.name} per-cpu:")
        for name, pages in zip(("hot", "cold"), zone.pcp, strict=True):
            say(f"cpu 0 {name}: low {pages.low}, high {pages.high}, batch {pages.batch}")
    free = sum(zone.free_pages for zone in zones)
    high = sum(zone.free_pages for zone in zones if zone.zone_num == 2)
    active, inactive = sum(zone.nr_active for zone in zones), sum(zone.nr_inactive for zone in zones)
    say("")
    say(f"Free pages: {free * 4:11}kB ({high * 4}kB HighMem)")
    say(
        f"Active:{active} inactive:{inactive} dirty:{ps.nr_dirty} writeback:{ps.nr_writeback} unstable:{ps.nr_unstable} free:{free} "
        f"slab:{ps.nr_slab} mapped:{ps.nr_mapped} pagetables:{ps.nr_page_table_pages}"
    )
    for zone in zones:
        say(
            f"{node(zone)}{zone.name} free:{zone.free_pages * 4}kB min:{zone.pages_min * 4}kB low:{zone.pages_low * 4}kB "
            f"high:{zone.pages_high * 4}kB active:{zone.nr_active * 4}kB inactive:{zone.nr_inactive * 4}kB present:{zone.realsize * 4}kB "
            f"pages_scanned:{zone.pages_scanned} all_unreclaimable? {'yes' if zone.all_unreclaimable else 'no'}"
        )
        say("lowmem_reserve[]: " + " ".join(map(str, zone.lowmem_reserve)))
    for zone in zones:
        if not zone.realsize:
            say(f"{node(zone)}{zone.name}: empty")
            continue
        counts = [len(zone.free_area[order].free_list) for order in range(MAX_ORDER26)]
        total = sum(count << order for order, count in enumerate(counts))
        blocks = " ".join(f"{count}*{4 << order}kB" for order, count in enumerate(counts))
        say(f"{node(zone)}{zone.name}: {blocks} = {total * 4}kB")
    for line in kernel.swap_state.show_swap_cache_info().splitlines():
        say(line)
