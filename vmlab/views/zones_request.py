"""One page request as the zones picture shows it: an allocation's events turned into passes, cells and a sentence."""

from __future__ import annotations

from typing import Any

from ..mm.gfp import PF_MEMALLOC, gfp_name
from ..mm.kernel import Kernel
from ..mm.mmzone import MAX_ORDER, Zone

_PASS_RULE = {1: "pages_low", 2: "pages_min", 3: "pages_min"}


def label(kernel: Kernel, zone: Zone) -> str:
    return f"{zone.name} of node {zone.pgdat.nid}" if len(kernel.pgdats) > 1 else zone.name


def page_count(n: int) -> str:
    return "1 page" if n == 1 else f"{n} pages"


def describe_request(
    kernel: Kernel,
    gfp_mask: int,
    order: int,
    events: list[tuple[Any, ...]],
    pfn: int | None,
    kind: str,
    why: str,
) -> dict[str, Any]:
    """Turn an allocation's events into the passes of the picture; the parts of a running sum are differences of the core's own sums."""
    attempts: list[dict[str, Any]] = []
    cell: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    served: dict[str, Any] | None = None
    for event in events:
        name = event[0]
        if name == "alloc_begin":
            zonelist = kernel.pgdats[event[3]].node_zonelists[gfp_mask & 15]
            attempts.append({"node": event[3], "zones": [z.index for z in zonelist], "passes": []})
            last = None
        elif name == "watermark":
            _, number, index, free, least, ok = event
            if last is None or last["no"] != number or any(c["zone"] == index for c in last["cells"]):
                last = {"no": number, "mark": _PASS_RULE[number], "quarter": number == 2 and not gfp_mask & 0x10, "cells": []}
                attempts[-1]["passes"].append(last)
            sums = [1 << order] + [c["min"] for c in last["cells"]] + [least]
            parts = [b - a for a, b in zip(sums, sums[1:], strict=False)]
            cell = {"zone": index, "free": free, "min": least, "ok": bool(ok), "parts": parts, "found": None}
            last["cells"].append(cell)
        elif name in ("need_balance", "wake_kswapd", "reclaim", "yield") and attempts:
            text = _between(kernel, event)
            attempts[-1].setdefault("between", []).append({"after": len(attempts[-1]["passes"]), "text": text})
            cell = None
        elif name == "alloc":
            served = {"zone": event[3], "pfn": event[1]}
            if cell is not None and cell["ok"] and cell["zone"] == event[3]:
                cell["found"] = True
                served["pass"] = last["no"] if last else 0
    for attempt in attempts:
        for step in attempt["passes"]:
            for each in step["cells"]:
                if each["ok"] and each["found"] is None:
                    each["found"] = False  # enough pages, but no block of this order
    return {
        "gfp": gfp_mask,
        "gfp_name": gfp_name(gfp_mask),
        "order": order,
        "pages": 1 << order,
        "wait": bool(gfp_mask & 0x10),
        "attempts": attempts,
        "result": _result(kernel, gfp_mask, order, served, pfn, kind, why, attempts),
    }


def _between(kernel: Kernel, event: tuple[Any, ...]) -> str:
    if event[0] == "wake_kswapd":
        return "kswapd is woken"
    if event[0] == "yield":
        return "the task gives up the processor, to try again"
    zone = label(kernel, kernel.zone_table[event[1]])
    return f"need_balance is set on {zone}" if event[0] == "need_balance" else f"the task reclaims pages itself, for {zone}"


def _result(
    kernel: Kernel,
    gfp_mask: int,
    order: int,
    served: dict[str, Any] | None,
    pfn: int | None,
    kind: str,
    why: str,
    attempts: list[dict[str, Any]],
) -> dict[str, Any]:
    if kind:
        said = f"__alloc_pages would never return: {why}." if kind == "hang" else f"{why}."
        return {"kind": kind, "zone": None, "pass": None, "text": said}
    if pfn is None or served is None:
        if order >= MAX_ORDER:
            said = f"NULL: order {order} is refused before any zone is looked at; the largest is {MAX_ORDER - 1}."
        elif not attempts:
            said = "NULL: the zonelist is empty."
        elif kernel.current.flags & PF_MEMALLOC:
            said = f"NULL: even without watermarks (PF_MEMALLOC) there is no free block of order {order}."
        elif not gfp_mask & 0x10:
            said = "NULL after pass 2: without __GFP_WAIT the task cannot reclaim and try again."
        else:
            said = "NULL after pass 3: only orders up to 3 are tried again and again."
        return {"kind": "fail", "zone": None, "pass": None, "text": said}
    zone = kernel.zone_table[served["zone"]]
    number = served.get("pass")
    reclaimed = any("reclaim" in b["text"] for a in attempts for b in a.get("between", []))
    how = f"in pass {number}"
    if not number:
        how = (
            "straight from the pages the task has just reclaimed"
            if reclaimed
            else "without looking at watermarks, because the task has PF_MEMALLOC"
        )
    return {"kind": "ok", "zone": zone.index, "pass": number, "text": f"{label(kernel, zone)} serves the request, {how}."}


def stops(zone: Zone, most: int) -> list[int]:
    """Levels the free-pages slider can take: fine around the watermarks, then ever coarser up to *most*."""
    fine = max(zone.pages_high * 2, 64)
    step = max(1, fine // 64)
    values = {n for n in range(0, fine + 1, step)} | {0, zone.pages_min, zone.pages_low, zone.pages_high, most}
    value = float(fine)
    while value < most:
        values.add(int(value))
        value *= 1.15
    return sorted(v for v in values if v <= most)


def zonelists(kernel: Kernel) -> list[dict[str, Any]]:
    """The distinct zonelists of each node, and which of the 16 values of gfp & 0xf pick them."""
    bits = {0: "no zone bit", 1: "__GFP_DMA", 2: "__GFP_HIGHMEM"}  # with both bits, __GFP_DMA wins
    found: list[dict[str, Any]] = []
    for pgdat in kernel.pgdats:
        lists: dict[tuple[int, ...], list[int]] = {}
        for value, zonelist in enumerate(pgdat.node_zonelists):
            lists.setdefault(tuple(z.index for z in zonelist), []).append(value)
        for zones, values in lists.items():
            found.append(
                {
                    "node": pgdat.nid,
                    "zones": list(zones),
                    "values": values,
                    "bits": [bits[b] for b in sorted({v & 3 for v in values} & set(bits))],
                }
            )
    return found
