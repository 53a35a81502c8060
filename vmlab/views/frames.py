"""The physical memory map: every frame of the machine, from all of RAM down to one ``struct page``."""

from __future__ import annotations

from typing import Any

import traitlets

from ..hw.layout import PAGE_SIZE
from ..machine import Machine
from ..trace.recording import Tape
from .base import View, css, esm, number, zone_rows
from .framebytes import STATES, Tally, cells, changes, owner_cells, owner_names, tally
from .timeline import Timeline

__all__ = ["Frames", "frames"]

MODES = ("state", "order", "zone", "owner")


class Frames(View):
    """A map of all frames in address order, wrapped in rows.

    ``mode`` chooses what colour tells: state, order, zone or owner. ``cursor`` is the frame that the
    panel describes. On a tape, ``position`` is the event after which the machine is shown (-1: the start).
    """

    _esm = esm("frames_colours", "frames")
    _css = css("frames")
    _patching = False

    cells = traitlets.Bytes(help="A byte a frame; see framebytes.").tag(sync=True)
    patch: Any = traitlets.List(help="Instead of all cells: the runs that changed, as [first frame, new cells].").tag(sync=True)
    owner_cells = traitlets.Bytes(help="A byte a frame: index into owners. Filled only when owners are shown.").tag(sync=True)
    owners: Any = traitlets.List(help="Names and frame counts of the owners, by index.").tag(sync=True)
    zones: Any = traitlets.List(help="The zones: names and frames.").tag(sync=True)
    mode = traitlets.Enum(MODES, "state", help="What colour tells.").tag(sync=True)
    cursor = traitlets.Int(0, help="The frame that is described.").tag(sync=True)
    hover = traitlets.Int(-1, help="The frame under the mouse, -1 for none.").tag(sync=True)
    detail = traitlets.Dict(help="The struct page of the frame under the mouse, or else of the cursor.").tag(sync=True)
    length = traitlets.Int(-1, help="Events on the tape; -1: a running machine.").tag(sync=True)
    position = traitlets.Int(-1, help="The event after which the machine is shown.").tag(sync=True)
    sentence = traitlets.Unicode(help="What happened at that event.").tag(sync=True)
    call = traitlets.Unicode(help="The operation the event is part of.").tag(sync=True)

    def __init__(self, source: Machine | Tape, mode: str = "state", **traits: Any) -> None:
        self.timeline = Timeline(source)
        at_end = self.timeline.end
        super().__init__(mode=mode, position=at_end, **traits)
        self.on_msg(self._on_message)
        self.refresh()
        self.observe(lambda _: self._describe(), ["cursor", "hover"])
        self.observe(lambda _: self.refresh(), ["mode", "position"])

    @traitlets.validate("cursor")
    def _inside(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), 0), self.timeline.live.mem.frames - 1)

    @traitlets.validate("position")
    def _on_tape(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), -1), self.timeline.end)

    @property
    def machine(self) -> Machine:
        """The machine as the picture shows it."""
        return self.timeline.at(self.position)

    def refresh(self) -> None:
        """Read the machine again and redraw. Happens by itself after each notebook cell."""
        machine = self.machine
        frame_cells = cells(machine)
        counted = tally(machine)
        names = ["allocated, no label", *owner_names(machine)[1:]]
        owners = [{"name": name, "frames": n} for name, n in zip(names, counted.owners, strict=True)]
        zones = zone_rows(machine)
        runs = changes(self.cells, frame_cells)
        with self.hold_sync():
            self.zones = zones
            self.owners = owners
            if self.mode == "owner":
                self.owner_cells = owner_cells(machine)
            self._patching = runs is not None
            self.cells = frame_cells
            self._patching = False
            if runs:
                self.patch = [list(run) for run in runs]
            if self.timeline.tape is not None:
                self.length = len(self.timeline)
                self.sentence = self.timeline.sentence(self.position)
                self.call = self.timeline.call(self.position)
            self.text_alternative = _words(machine, counted)
            self.table = _table(machine, counted)
            self._describe(machine)
            if runs != []:
                self.serial += 1

    def _should_send_property(self, key: str, value: Any) -> bool:
        # The patch says it in fewer bytes; who comes later asks for the whole state, cells and all.
        return not (key == "cells" and self._patching) and bool(super()._should_send_property(key, value))

    def _describe(self, machine: Machine | None = None) -> None:
        machine = machine or self.machine
        pfn = self.hover if 0 <= self.hover < machine.mem.frames else self.cursor
        self.detail = page_detail(machine, pfn)

    def _on_message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("step") == "op":
            self.position = self.timeline.op_boundary(self.position, int(content["by"]))


def frames(source: Machine | Tape, mode: str = "state") -> Frames:
    """A map of every frame of *source*, a machine or a tape.

    mode: what colour tells at first: "state", "order", "zone" or "owner".

    Mouse: point at a frame to read its ``struct page``; click sets the cursor; drag moves the map; the wheel zooms
    once the map has been clicked (or with Ctrl). Keys on the map: arrows move the cursor by a frame or a row,
    Shift+←/→ by a row, Page Up/Down to the previous or next block, Home/End to the first or last frame, ``+`` ``-``
    zoom at the cursor, Enter goes close, ``0`` shows all. "Go to" takes a frame number (4296) or an address (0x10c8000,
    0xc10c8000). On a tape there is a time line below.

    >>> views.frames(m, mode="owner")
    """
    return Frames(source, mode)


def page_detail(machine: Machine, pfn: int) -> dict[str, Any]:
    """What the panel says of a frame: numbers as text, names in words."""
    page = machine.page(pfn)
    zone, virtual, state = page.zone, page.virtual, page.state
    in_hand = machine.mem.block[page.head] == 0 and state == "allocated"
    block = f"order {page.order}, frames {page.head} to {page.head + (1 << page.order) - 1}" if state in ("free", "allocated") else "none"
    return {
        "pfn": pfn,
        "physical": f"{page.address:#010x}",
        "virtual": "none (high memory)" if virtual is None and zone is not None else f"{virtual:#x}" if virtual is not None else "none",
        "zone": "none" if zone is None else zone.name + (f" of node {zone.pgdat.nid}" if len(machine.pgdats) > 1 else ""),
        "state": "moving between lists" if in_hand else state,
        "block": "none" if in_hand else block,
        "count": page.count,
        "flags": " ".join(page.flag_names) or "none",
        "owner": page.owner or "none",
    }


def _mib(pages: int) -> str:
    size = pages * PAGE_SIZE / (1 << 20)
    return f"{size:,.1f} MiB" if size < 100 else f"{size:,.0f} MiB"


def _largest_free(machine: Machine) -> tuple[int, int, str] | None:
    """Order, first frame and zone name of a largest free block; the list head of the first zone that has one."""
    best: tuple[int, int, str] | None = None
    for zone in machine.zones:
        for order in range(9, -1, -1):
            area = zone.free_area[order]
            if area.free_list:
                if best is None or order > best[0]:
                    best = order, next(reversed(area.free_list)), zone.name
                break
    return best


def _words(machine: Machine, counted: Tally) -> str:
    total, frames = counted.total, machine.mem.frames
    parts = [f"Physical memory map of {number(frames)} frames ({_mib(frames)})."]
    parts.append(", ".join(f"{number(total[s])} {s}" for s in ("free", "allocated", "reserved", "hole") if total[s] or s != "hole")
                 + (f", {total['moving']} moving" if total["moving"] else "") + ".")
    for zone, inside in zip(zone_rows(machine), counted.zones, strict=True):
        parts.append(f"{zone['name']}: frames {zone['start']} to {zone['end'] - 1}, {number(inside['free'])} of them free.")
    largest = _largest_free(machine)
    if largest:
        order, pfn, name = largest
        parts.append(f"Largest free block: order {order} ({_mib(1 << order)}), for example at frame {pfn} in {name}.")
    else:
        parts.append("No block is free.")
    names = ["nobody by name", *owner_names(machine)[1:]]
    held = [(n, name) for n, name in zip(counted.owners, names, strict=True) if n and name != "BIOS hole"]
    if held:
        parts.append("Most frames are held by: " + ", ".join(f"{name} {number(n)}" for n, name in sorted(held, reverse=True)[:6]) + ".")
    return " ".join(parts)


def _table(machine: Machine, counted: Tally) -> dict[str, Any]:
    shown = [s for s in STATES if s != "moving"]
    rows: list[list[Any]] = [
        [zone["name"], zone["start"], zone["end"] - 1, *(inside[s] for s in shown)]
        for zone, inside in zip(zone_rows(machine), counted.zones, strict=True)
    ]
    rows.append(["all", 0, machine.mem.frames - 1, *(counted.total[s] for s in shown)])
    return {"caption": "Frames by zone and state", "head": ["zone", "first", "last", *shown], "rows": rows}
