"""Every step the memory manager takes, by name.

A listener (``machine.on_event = f``) is called with ``(name, *fields)`` after each step.
``EVENTS[name]`` tells the kernel function the step belongs to, the fields and their meaning.
The field ``zone`` is the zone's index in ``zone_table``: node * 3 + (0 DMA, 1 Normal, 2 HighMem).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["EVENTS", "Event", "EventSpec", "Listener", "describe"]

Event = tuple[Any, ...]
Listener = Callable[[Event], None]


class EventSpec(NamedTuple):
    """What an event's fields are, where in the kernel it happens, and a sentence for people."""

    name: str
    kernel: str
    fields: tuple[str, ...]
    text: str


def _spec(name: str, kernel: str, fields: str, text: str) -> tuple[str, EventSpec]:
    return name, EventSpec(name, kernel, tuple(fields.split()), text)


_PA, _BM = "mm/page_alloc.c:", "mm/bootmem.c:"
EVENTS: dict[str, EventSpec] = dict(
    [
        _spec("alloc_begin", _PA + "__alloc_pages", "gfp order node", "request 2^{order} pages ({gfp_name}) from node {node}"),
        _spec(
            "watermark",
            _PA + "__alloc_pages",
            "pass_no zone free_pages min ok",
            "pass {pass_no}: {zone_name} has {free_pages} free, needs more than {min}: {yes_no}",
        ),
        _spec("rmqueue", _PA + "rmqueue", "zone order found_order pfn", "take block {pfn} of order {found_order} from {zone_name}"),
        _spec(
            "expand",
            _PA + "expand",
            "zone order low_pfn high_pfn",
            "split: the lower half {low_pfn} goes to the order-{order} list, the upper half {high_pfn} is kept",
        ),
        _spec("alloc", _PA + "__alloc_pages", "pfn order zone", "allocated {pfn} (order {order}) from {zone_name}"),
        _spec("alloc_fail", _PA + "__alloc_pages", "gfp order", "no block of order {order}: the request fails"),
        _spec("free", _PA + "__free_pages_ok", "pfn order zone", "free {pfn} (order {order}) to {zone_name}"),
        _spec(
            "merge",
            _PA + "__free_pages_ok",
            "zone order pfn buddy",
            "the buddy {buddy} is free too: {pfn} and {buddy} merge into order {next_order}",
        ),
        _spec("list_add", _PA + "__free_pages_ok", "zone order pfn", "{pfn} goes to the head of the order-{order} list"),
        _spec("list_del", _PA + "__free_pages_ok", "zone order pfn", "{pfn} leaves the order-{order} list"),
        _spec("map_toggle", _PA + "MARK_USED", "zone order index bit", "pair bit {index} of order {order} becomes {bit}"),
        _spec("need_balance", _PA + "__alloc_pages", "zone", "{zone_name} needs balancing"),
        _spec("wake_kswapd", _PA + "__alloc_pages", "", "wake kswapd"),
        _spec("reclaim", _PA + "balance_classzone", "zone gfp", "the task itself reclaims pages for {zone_name}"),
        _spec("local_page", _PA + "__free_pages_ok", "pfn order", "{pfn} (order {order}) is kept for the task that reclaims"),
        _spec("yield", _PA + "__alloc_pages", "", "give up the processor, then try again"),
        _spec(
            "bootmem_init", _BM + "init_bootmem_core", "node start end", "boot bitmap of node {node}: frames {start} to {end}, all reserved"
        ),
        _spec("bootmem_free", _BM + "free_bootmem_core", "node sidx eidx", "boot bitmap: pages {sidx} to {eidx} are usable RAM"),
        _spec(
            "bootmem_reserve",
            _BM + "reserve_bootmem_core",
            "node sidx eidx twice",
            "boot bitmap: pages {sidx} to {eidx} reserved ({twice} of them already were)",
        ),
        _spec("bootmem_alloc", _BM + "__alloc_bootmem_core", "node pa size align goal merged", "boot memory: {size} bytes at {pa:#x}"),
        _spec(
            "bootmem_retire",
            _BM + "free_all_bootmem_core",
            "node pages",
            "boot memory retires: {pages} pages handed to the buddy allocator",
        ),
        _spec(
            "boot_block",
            _BM + "free_all_bootmem_core",
            "zone pfn",
            "512 untouched pages from {pfn} on are freed one by one and end as one order-9 block",
        ),
        _spec("boot_stage", "init/main.c:start_kernel", "name", "boot: {name}"),
        _spec(
            "zone_init", _PA + "free_area_init_core", "zone size min low high", "{zone_name}: {size} pages, watermarks {min}/{low}/{high}"
        ),
    ]
)

ZONE_NAMES = ("DMA", "Normal", "HighMem")


def describe(event: Event) -> str:
    """One sentence for people about *event*. Raises ValueError for an unknown event name."""
    from .gfp import gfp_name

    spec = EVENTS.get(event[0])
    if spec is None:
        raise ValueError(f"unknown event {event[0]!r}; the known ones are in vmlab.EVENTS")
    values: dict[str, Any] = dict(zip(spec.fields, event[1:], strict=True))
    if "zone" in values:
        node, kind = divmod(values["zone"], 3)
        values["zone_name"] = ZONE_NAMES[kind] + (f" of node {node}" if node else "")
    if "gfp" in values:
        values["gfp_name"] = gfp_name(values["gfp"])
    if "order" in values:
        values["next_order"] = values["order"] + 1
    if "ok" in values:
        values["yes_no"] = "yes" if values["ok"] else "no"
    return spec.text.format(**values)
