"""Every step the memory manager takes, by name.

A listener (``machine.on_event = f``) is called with ``(name, *fields)`` after each step.
``EVENTS[name]`` tells the kernel function the step belongs to, the fields and their meaning.
The field ``zone`` is the zone's index in ``zone_table``: node * 3 + (0 DMA, 1 Normal, 2 HighMem).
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from .errno import errno_name
from .events_base import Event, EventSpec, Listener, spec

__all__ = ["EVENTS", "Event", "EventSpec", "Listener", "describe"]

SWAPPER_SPACE_ID = 1  # as in fs.py, which needs a kernel
_PA, _BM = "mm/page_alloc.c:", "mm/bootmem.c:"
_OWN = [
    spec("alloc_begin", _PA + "__alloc_pages", "gfp order node", "request 2^{order} pages ({gfp_name}) from node {node}"),
    spec(
        "watermark",
        _PA + "__alloc_pages",
        "pass_no zone free_pages min ok",
        "pass {pass_no}: {zone_name} has {free_pages} free, needs more than {min}: {yes_no}",
    ),
    spec("rmqueue", _PA + "rmqueue", "zone order found_order pfn", "take block {pfn} of order {found_order} from {zone_name}"),
    spec(
        "expand",
        _PA + "expand",
        "zone order low_pfn high_pfn",
        "split: the lower half {low_pfn} goes to the order-{order} list, the upper half {high_pfn} is kept",
    ),
    spec("alloc", _PA + "__alloc_pages", "pfn order zone", "allocated {pfn} (order {order}) from {zone_name}"),
    spec("alloc_fail", _PA + "__alloc_pages", "gfp order", "no block of order {order}: the request fails"),
    spec("free", _PA + "__free_pages_ok", "pfn order zone", "free {pfn} (order {order}) to {zone_name}"),
    spec(
        "merge",
        _PA + "__free_pages_ok",
        "zone order pfn buddy",
        "the buddy {buddy} is free too: {pfn} and {buddy} merge into order {next_order}",
    ),
    spec("list_add", _PA + "__free_pages_ok", "zone order pfn", "{pfn} goes to the head of the order-{order} list"),
    spec("list_del", _PA + "__free_pages_ok", "zone order pfn", "{pfn} leaves the order-{order} list"),
    spec("map_toggle", _PA + "MARK_USED", "zone order index bit", "pair bit {index} of order {order} becomes {bit}"),
    spec("need_balance", _PA + "__alloc_pages", "zone", "{zone_name} needs balancing"),
    spec("wake_kswapd", _PA + "__alloc_pages", "", "wake kswapd"),
    spec("reclaim", _PA + "balance_classzone", "zone gfp", "the task itself reclaims pages for {zone_name}"),
    spec("local_page", _PA + "__free_pages_ok", "pfn order", "{pfn} (order {order}) is kept for the task that reclaims"),
    spec("yield", _PA + "__alloc_pages", "", "give up the processor, then try again"),
    spec(
        "bootmem_init", _BM + "init_bootmem_core", "node start end", "boot bitmap of node {node}: frames {start} to {end}, all reserved"
    ),
    spec("bootmem_free", _BM + "free_bootmem_core", "node sidx eidx", "boot bitmap: pages {sidx} to {eidx} are usable RAM"),
    spec(
        "bootmem_reserve",
        _BM + "reserve_bootmem_core",
        "node sidx eidx twice",
        "boot bitmap: pages {sidx} to {eidx} reserved ({twice} of them already were)",
    ),
    spec("bootmem_alloc", _BM + "__alloc_bootmem_core", "node pa size align goal merged", "boot memory: {size} bytes at {pa:#x}"),
    spec(
        "bootmem_retire",
        _BM + "free_all_bootmem_core",
        "node pages",
        "boot memory retires: {pages} pages handed to the buddy allocator",
    ),
    spec(
        "boot_block",
        _BM + "free_all_bootmem_core",
        "zone pfn",
        "512 untouched pages from {pfn} on are freed one by one and end as one order-9 block",
    ),
    spec("printk", "kernel/printk.c:printk", "level text", "console: {text}"),
    spec("boot_stage", "init/main.c:start_kernel", "name", "boot: {name}"),
    spec(
        "zone_init", _PA + "free_area_init_core", "zone size min low high", "{zone_name}: {size} pages, watermarks {min}/{low}/{high}"
    ),
]


EVENTS: dict[str, EventSpec] = {s.name: s for s in _OWN}
_loaded: set[str] = set()


def load_events(package: str) -> None:
    """Add what the events_*.py of *package* declare (our own, and another kernel's when a machine has it)."""
    if package in _loaded:
        return
    _loaded.add(package)
    where = str(Path(str(importlib.import_module(package).__file__)).parent)
    for module in sorted(m.name for m in pkgutil.iter_modules([where]) if m.name.startswith("events_")):
        specs: list[EventSpec] = getattr(importlib.import_module(f"{package}.{module}"), "SPECS", [])
        EVENTS.update((s.name, s) for s in specs)


load_events(str(__package__))

ZONE_NAMES = ("DMA", "Normal", "HighMem")


_SIGNALS = {7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
_ADVICE = ("MADV_NORMAL", "MADV_RANDOM", "MADV_SEQUENTIAL", "MADV_WILLNEED", "MADV_DONTNEED")


def _fault_name(code: int) -> str:
    """What the i386 error code of a page fault says, in words."""
    who, what = "user" if code & 4 else "kernel", "write" if code & 2 else "read"
    return f"{who} {what}, {'not allowed' if code & 1 else 'nothing there'}"


def _in_words(values: dict[str, Any]) -> dict[str, Any]:
    """Names for the numbers among an event's fields."""
    found: dict[str, Any] = {}
    for field, value in values.items():
        if field == "error_code":
            found["fault_name"] = _fault_name(value)
        elif field == "write":
            found["access"] = "write" if value else "read"
        elif field == "sig":
            found["signal_name"] = _SIGNALS.get(value, f"signal {value}")
        elif field == "advice":
            found["advice_name"] = _ADVICE[value] if 0 <= value < len(_ADVICE) else f"advice {value}"
        elif field == "error":
            found["error_name"] = f"-{errno_name(value)}" if value < 0 else str(value)
        elif field == "kind":
            found["kind_name"] = {1: "a minor fault", 2: "a major fault"}.get(value, str(value))
        elif field == "mapping":
            found["file"] = "the swap cache" if value == SWAPPER_SPACE_ID else f"file {value}"
    return found


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
    return spec.text.format(**values, **_in_words(values))
