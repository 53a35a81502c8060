"""The buddy allocator at work: its free lists, a block splitting and merging, the pair bits, all of it over time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from ..errors import VmlabError
from ..machine import Machine
from ..mm import gfp
from ..mm.events import describe
from ..mm.mmzone import MAX_ORDER
from ..mm.page import BLOCK_USED
from ..trace.recording import Tape
from ..trace.workload import WORKLOADS, run, workload
from .base import View, css, esm, number, zone_rows
from .history import History
from .timeline import Timeline, call

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Buddy", "BuddyPicture", "buddy"]

BEFORE, AFTER = 400, 400  # events sent around the position: the browser moves among them by itself
LONG_STEP = 200  # events; no single allocation or free has as many
SHOWN = 40  # blocks of a list the browser may show, at least
MOST_CHOICES = 400  # allocated blocks offered for freeing
MOST_STEPS = 20_000  # of a workload run from the picture
GFPS = ["GFP_KERNEL", "GFP_ATOMIC", "GFP_USER", "GFP_HIGHUSER", "GFP_NOFS", "GFP_NOIO", "GFP_DMA"]


class BuddyPicture(View):
    """The part of the buddy view that is one picture: time line, controls, lists, tree, frames and pair bits.

    ``position`` is the event after which the lists are shown (-1: the start). ``zone`` is an index into
    ``zone_table``, ``order`` the order whose list and pair bits are looked at.
    """

    _esm = esm("buddy_replay", "buddy_tree", "buddy_strip", "buddy")
    _css = css("buddy")
    _moving = False  # several things change together, and are sent when all have

    window = traitlets.Dict(help="State before the first of some events around the position, and these events.").tag(sync=True)
    length = traitlets.Int(0, help="Events on the tape.").tag(sync=True)
    position = traitlets.Int(-1, help="The event after which the machine is shown.").tag(sync=True)
    zone = traitlets.Int(0, help="Index of the zone that is shown.").tag(sync=True)
    order = traitlets.Int(0, help="The order that is looked at.").tag(sync=True)
    choices: Any = traitlets.List(help="Allocated blocks at the end of the tape: frame and label.").tag(sync=True)
    runs: Any = traitlets.List(help="Names of the runs: the first, and branches of it.").tag(sync=True)
    run = traitlets.Int(0, help="The run that is shown.").tag(sync=True)
    growing = traitlets.Bool(True, help="The tape's machine is still running, so its end can be acted at.").tag(sync=True)
    message = traitlets.Dict(help="What the last action did: text, and whether it failed.").tag(sync=True)
    settled = traitlets.Int(0, help="Goes up when all of a change is sent, for what is drawn after it.")
    menus = traitlets.Dict(help="What the controls offer.").tag(sync=True)

    def __init__(self, source: Machine | Tape, zone: int | None = None, **traits: Any) -> None:
        self._given = source
        self._timelines = [_recorded(source)]
        live = self.timeline.live
        if zone is None:
            zone = next((z.index for z in reversed(live.zones) if z.name != "HighMem"), 0)
        super().__init__(
            zone=zone, position=self.timeline.end, runs=["the machine"],
            menus={"gfp": GFPS, "orders": MAX_ORDER, "workloads": [[name, text] for name, (_, text) in WORKLOADS.items()]}, **traits)
        self.on_msg(self._on_message)
        self._send_window()
        self.observe(self._moved, "position")
        self.observe(lambda _: self._describe(), ["zone"])

    # -- where we are -------------------------------------------------------------------------

    @property
    def timeline(self) -> Timeline:
        """The run that is shown."""
        return self._timelines[self.run]

    @property
    def tape(self) -> Tape:
        """The tape of the run that is shown."""
        tape = self.timeline.tape
        assert tape is not None
        return tape

    @property
    def machine(self) -> Machine:
        """The machine as the picture shows it, in the past too (then: look only)."""
        return self.timeline.at(self.position)

    @traitlets.validate("position")
    def _on_tape(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), -1), self.timeline.end)

    @traitlets.validate("order")
    def _an_order(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), 0), MAX_ORDER - 1)

    @traitlets.validate("zone")
    def _a_zone(self, proposal: Any) -> int:
        zones = [z.index for z in self.timeline.live.zones]
        if proposal["value"] not in zones and zones:
            raise traitlets.TraitError(f"zone {proposal['value']!r}: this machine has the zones {zones}")
        return int(proposal["value"])

    # -- sending ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what the machine did in the meantime. Happens by itself after each notebook cell."""
        if isinstance(self._given, Machine) and self.run == 0 and not self.tape.recording:
            self._timelines[0] = _recorded(self._given)  # somebody stopped the tape: go on with a new one
            self._show(self.timeline.end)
        elif len(self.tape) != self.length:
            self._show(self.timeline.end if self.position == self.length - 1 else self.position)

    def _show(self, position: int, **traits: Any) -> None:
        """Go to *position* of a tape that may have grown, with other changes, in one message."""
        with self.hold_sync():
            self._moving = True
            for name, value in {**traits, "position": position}.items():
                self.set_trait(name, value)
            self._moving = False
            self._send_window()
        self.settled += 1

    def _moved(self, _change: Any) -> None:
        if self._moving:
            return
        if not self.window["start"] - 1 <= self.position < self.window["end"]:
            self._send_window()
        else:
            self._describe()

    def _send_window(self) -> None:
        """Send the state before some events around the position, and these events."""
        tape, position = self.tape, self.position
        length = len(tape)
        start = self._step_begins(min(position + 1, length) - BEFORE)
        end = min(length, position + 1 + AFTER)
        events = tape.events(start, end)
        machine = tape.seek(start - 1) if length else tape.live
        leaving = {(e[1], e[2]): 0 for e in events if e[0] == "list_del"}
        for event in events:
            if event[0] == "list_del":
                leaving[event[1], event[2]] += 1
        zones = zone_rows(machine)
        for row, zone in zip(zones, machine.zones, strict=True):
            row["free"] = zone.free_pages
            row["counts"] = zone.nr_free()
            row["lists"] = [
                _head(area.free_list, SHOWN + leaving.get((zone.index, order), 0)) for order, area in enumerate(zone.free_area)]
            row["bits"] = [area.packed_map() for area in zone.free_area]
        first_op = tape.op_at(start) if start < length else 0
        ops = []
        for k in range(first_op, tape.n_ops):
            op = tape.op(k)
            if op.first_event >= end:
                break
            ops.append([op.first_event, tape.op_end(k), call(op.name, op.args)])
        with self.hold_sync():
            self.length = length
            self.growing = tape.recording
            self.choices = _choices(tape.live) if tape.recording else []
            self.window = {
                "serial": self.serial + 1, "start": start, "end": end, "events": [list(e) for e in events],
                "sentences": [describe(e) for e in events], "ops": ops, "zones": zones, "block": bytes(machine.mem.block),
            }
            self.serial += 1
            self._describe()

    def _step_begins(self, event: int) -> int:
        """The last event at or before *event* with which a step begins: there, state and events told so far agree.

        Inside a step they do not: the kernel's lists change before the first event of it is told.
        """
        if event <= 0:
            return 0
        first = self.tape.op(self.tape.op_at(event)).first_event
        if event - first > LONG_STEP:  # the boot hands over all memory in one operation, of many frees
            for at in range(event, event - LONG_STEP, -1):
                if self.tape.event(at)[0] in ("free", "boot_block", "alloc_begin"):
                    return at
        return first

    def _describe(self) -> None:
        machine = self.machine
        zone = machine.zone_table.get(self.zone)
        rows: list[list[Any]] = []
        where = f"after event {self.position} of {len(self.tape)}" if self.position >= 0 else "before the first event"
        words = [f"Buddy allocator {where}."]
        if self.position >= 0:
            words.append(f"{self.timeline.sentence(self.position)} (in {self.timeline.call(self.position)}).")
        if zone is None or not zone.size:
            words.append("The zones are not set up yet.")
        else:
            words.append(f"Zone {zone.name}: {number(zone.free_pages)} of {number(zone.size)} pages free.")
            for order, area in enumerate(zone.free_area):
                blocks = _head(area.free_list, 8)
                more = len(area.free_list) - len(blocks)
                rows.append([str(order), len(area.free_list), len(area.free_list) << order, f"{machine.fragmentation(zone, order):.2f}",
                             ", ".join(map(str, blocks)) + (f" and {number(more)} more" if more else "") or "empty"])
            full = [f"order {r[0]}: {number(r[1])}" for r in rows if r[1]]
            words.append(f"Free blocks: {', '.join(full)}." if full else "All its lists are empty.")
        self.text_alternative = " ".join(words)
        self.table = {"caption": f"Free lists of zone {zone.name if zone else '?'}",
                      "head": ["order", "blocks", "pages", "fragmentation index", "first frames, head first"], "rows": rows}

    # -- acting -------------------------------------------------------------------------------

    def allocate(self, gfp_mask: int = gfp.GFP_KERNEL, order: int = 0, owner: str = "") -> None:
        """Allocate at the position shown: at the end of the tape on the machine itself, in the past on a new branch."""
        name = f"alloc_pages({gfp.gfp_name(gfp_mask)}, {order})"
        with self._acting() as machine:
            page = machine.alloc_pages(gfp_mask, order, owner=owner)
        zone = page.zone if page is not None else None
        self._done(f"{name}: frame {page.pfn} of zone {zone.name}" if page and zone else f"{name}: no memory", failed=page is None)
        if zone is not None:
            self.zone = zone.index

    def free(self, pfn: int) -> None:
        """Free the allocated block that starts at frame *pfn*, at the position shown."""
        with self._acting() as machine:
            page = machine.page(pfn)
            zone, order = page.zone, page.order
            machine.free_pages(page)
        self._done(f"freed the order-{order} block at {pfn}")
        if zone is not None:
            self.zone = zone.index

    def run_workload(self, name: str = "mixed", seed: int = 1, n: int = 200) -> None:
        """Run *n* steps of a workload (see ``vmlab.WORKLOADS``) at the position shown."""
        if not 0 < n <= MOST_STEPS:
            raise ValueError(f"{n} steps: 1 to {MOST_STEPS} can be run from here")
        with self._acting() as machine:
            result = run(machine, workload(name, seed, n))
        self._done(f"{name}, seed {seed}: {result.allocs} allocated, {result.frees} freed, {result.failures} failed")

    @contextlib.contextmanager
    def _acting(self) -> Iterator[Machine]:
        """The machine to act on: the live one at the end of its tape, else a branch, which is kept if the action goes well."""
        if self.tape.recording and self.position >= self.timeline.end:
            yield self.tape.live
            return
        machine, tape = self.tape.branch(self.position)
        yield machine
        at = tape.parent[1] if tape.parent else -1
        parent = self.runs[self.run].partition(":")[0]
        self._timelines.append(Timeline(tape))
        self._moving = True  # until _done shows the end
        with self.hold_sync():
            self.runs = [*self.runs, f"branch {len(self.runs)}: from event {at} of {parent}"]
            self.run = len(self.runs) - 1

    def _done(self, text: str, failed: bool = False) -> None:
        self._show(self.timeline.end, message={"text": text, "failed": failed, "serial": self.serial})

    def show_run(self, index: int) -> None:
        """Show another run: 0 is the first, the others are branches."""
        if not 0 <= index < len(self._timelines):
            raise ValueError(f"run {index!r}: there are runs 0 to {len(self._timelines) - 1}")
        self._show(self._timelines[index].end, run=index)

    def _on_message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        try:
            action = content.get("action")
            if action == "allocate":
                self.allocate(getattr(gfp, content["gfp"]) if content["gfp"] in GFPS else 0, int(content["order"]), str(content["owner"]))
            elif action == "free":
                self.free(int(content["pfn"]))
            elif action == "workload":
                self.run_workload(content["name"], int(content["seed"]), int(content["n"]))
            elif action == "run":
                self.show_run(int(content["index"]))
        except (VmlabError, ValueError) as error:
            self._done(str(error), failed=True)


class Buddy(ipywidgets.VBox):  # type: ignore[misc]
    """The whole buddy view: the picture, and charts of the free lists over time below it."""

    def __init__(self, source: Machine | Tape, zone: int | None = None, charts: bool = True) -> None:
        self.picture = BuddyPicture(source, zone)
        self._histories: dict[int, History] = {}
        self.charts: Any = None
        if charts:
            try:
                from .charts import BuddyCharts
            except ImportError:  # no bqplot, as in the browser-only edition
                pass
            else:
                self.charts = BuddyCharts()
                self.picture.observe(lambda _: self._draw_charts(), ["settled", "zone", "order"])
                self.picture.observe(lambda _: self.charts.mark(self.picture.position), ["position"])
        super().__init__([self.picture, self.charts] if self.charts else [self.picture])
        self.add_class("vml-whole")
        if self.charts:
            self._draw_charts()

    def _draw_charts(self) -> None:
        tape = self.picture.tape
        history = self._histories.setdefault(id(tape), History(tape))
        self.charts.show(history.update(), self.picture.zone, self.picture.order, self.picture.position)

    @property
    def machine(self) -> Machine:
        """The machine as the picture shows it. On a branch this is not the machine you gave."""
        return self.picture.machine

    @property
    def tape(self) -> Tape:
        """The tape of the run that is shown."""
        return self.picture.tape

    @property
    def position(self) -> int:
        """The event after which the machine is shown; set it to move."""
        return int(self.picture.position)

    @position.setter
    def position(self, event: int) -> None:
        self.picture.position = event

    @property
    def text_alternative(self) -> str:
        """What picture and charts show, in words, from the data."""
        return " ".join([self.picture.text_alternative] + ([self.charts.text_alternative] if self.charts else []))

    def refresh(self) -> None:
        """Take in what the machine did in the meantime. Happens by itself after each notebook cell."""
        self.picture.refresh()

    def __repr__(self) -> str:
        return f"<Buddy: {self.text_alternative}>"


def buddy(source: Machine | Tape, zone: int | None = None, charts: bool = True) -> Buddy:
    """The buddy allocator of *source*, a machine or a tape, with a time line and controls to act.

    zone: index of the zone shown first (0 DMA, 1 Normal, 2 HighMem; + 3 for each further node).
    charts: show free-list lengths and fragmentation over time below.

    A machine is recorded from now on (``m.tape``), so that you can go back. Acting in the past starts a branch: a
    new machine, found as ``view.machine``; yours is not touched. Keys: Space plays, ←/→ step by an event, Shift+←/→
    by an operation, Home/End go to the start and the end. In the lists the arrow keys go from block to block and
    Enter looks at one.

    >>> views.buddy(m)
    """
    return Buddy(source, zone, charts)


def _recorded(source: Machine | Tape) -> Timeline:
    if isinstance(source, Machine):
        return Timeline(Tape(source) if source.tape is None else source.tape)
    return Timeline(source)


def _head(free_list: dict[int, None], n: int) -> list[int]:
    """The first *n* blocks of a list; the dict's last entry is the list's head."""
    found: list[int] = []
    for pfn in reversed(free_list):
        if len(found) >= n:
            break
        found.append(pfn)
    return found


def _choices(machine: Machine) -> list[list[Any]]:
    """Allocated blocks to choose from, lowest first: frame, and a label."""
    mem = machine.mem
    found: list[tuple[int, int]] = []
    for zone in machine.zones:
        part = mem.block[zone.start_pfn : zone.end_pfn]
        for order in range(MAX_ORDER):
            at = part.find(BLOCK_USED | order)
            while at >= 0 and len(found) < MOST_CHOICES * 4:
                found.append((zone.start_pfn + at, order))
                at = part.find(BLOCK_USED | order, at + 1)
    found.sort()
    named = [(pfn, order, machine.owners[mem.owner[pfn]]) for pfn, order in found[:MOST_CHOICES]]
    return [[pfn, f"{pfn} · order {order}" + (f" · {owner}" if owner else "")] for pfn, order, owner in named]
