"""What the boot memory picture shows, as plain data: a boot (or a try by hand), request by request.

A machine is booted with the calls of its boot allocator listened to, so that a reader's own class shows as well as ours.
After each call the bitmap is compared with what it was before: what is drawn is what the bitmap says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from ..errors import KernelBug, KernelHang
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE, pfn_up
from ..machine import Machine
from ..mm.kernel import BootConsumer
from ..mm.mmzone import MAX_NR_ZONES, ZONE_NAMES, BootmemData, PgData
from .base import number

Ranges = list[list[int]]  # [first frame, end frame, owner], in order, touching each other

FREE, UNKNOWN, BUDDY = 0, 1, 2
OWNERS = ["free", "reserved: not known to be RAM", "in the buddy lists"]
RETIRE_STEPS = 24
_CALLS = ("init_bootmem_core", "free_bootmem_core", "reserve_bootmem_core", "alloc_bootmem_core")

STAGE_TEXT = {
    "setup_memory_region": "The kernel takes over the firmware's memory map.",
    "setup_memory": "Memory is measured, and the boot allocator starts.",
    "paging_init": "Kernel page tables; then mem_map, wait tables and buddy bitmaps for every zone.",
    "register_memory": "A struct resource for each range of the firmware's map.",
    "kmem_cache_init": "The slab allocator gets its first cache, which takes no memory yet.",
    "mem_init": "Boot memory retires: every page it did not give away goes to the buddy allocator.",
    "boot_nodes": "Each node gets a boot allocator and zones; then each retires.",
}


def group(name: str) -> str:
    """The consumer's kind, for colours: wait tables and buddy bitmaps are many."""
    if name.startswith("wait table"):
        return "wait tables"
    if name.startswith("buddy bitmap"):
        return "buddy bitmaps"
    return "page tables" if name.endswith(("page table", "pmd")) else name


def paint(ranges: Ranges, start: int, end: int, owner: int) -> Ranges:
    """*ranges* with frames [start, end) given to *owner*."""
    done: Ranges = []
    pieces = (
        [[a, min(b, start), o] for a, b, o in ranges if a < start]
        + [[start, end, owner]]
        + [[max(a, end), b, o] for a, b, o in ranges if b > end]
    )
    for a, b, o in pieces:
        if a >= b:
            continue
        if done and done[-1][2] == o and done[-1][1] == a:
            done[-1][1] = b
        else:
            done.append([a, b, o])
    return done


def changes(before: bytes, after: bytes) -> list[tuple[int, int, int]]:
    """Runs [start, end) of pages whose bit changed, and what it is now."""
    found: list[tuple[int, int, int]] = []
    chunk = 1024
    for at in range(0, len(after), chunk):
        old, new = before[at : at + chunk], after[at : at + chunk]
        if old == new:
            continue
        for i, bit in enumerate(new):
            if bit != old[i]:
                here = at + i
                if found and found[-1][1] == here and found[-1][2] == bit:
                    found[-1] = (found[-1][0], here + 1, bit)
                else:
                    found.append((here, here + 1, bit))
    return found


class Recorder:
    """Listens to a machine's boot allocator. ``steps`` are plain data once ``finish`` was called."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.steps: list[dict[str, Any]] = []
        self.states: list[tuple[int, Any]] = []  # (node, saved boot allocator) after each step
        self.consumers: list[dict[str, Any]] = []
        self.owners = list(OWNERS)
        self.node = 0
        self.stage = ""
        self.changed: list[list[tuple[int, int, int]]] = []  # of each step, as frames
        self._retiring: Callable[[int, int], None] | None = None
        self._depth = 0
        for name in _CALLS:
            setattr(machine.bootmem, name, self._wrap(name, getattr(machine.bootmem, name)))
        machine.bootmem.free_all_bootmem_core = self._wrap_retire(machine.bootmem.free_all_bootmem_core)  # type: ignore[method-assign]

    # -- listening ----------------------------------------------------------------------------

    def hear(self, event: tuple[Any, ...]) -> None:
        """The machine's listener: stages, zones, and pages that are handed over."""
        name = event[0]
        if name == "free" and self._retiring:
            self._retiring(event[1], 1 << event[2])
        elif name == "boot_block" and self._retiring:
            self._retiring(event[2], 512)
        elif name == "boot_stage":
            self.stage = event[1]
            self.add("stage", STAGE_TEXT.get(self.stage, self.stage), [])
        elif name == "zone_init":
            zone = ZONE_NAMES[event[1] % MAX_NR_ZONES]
            self.add(
                "zone",
                f"Zone {zone} stands: {number(event[2])} pages, watermarks {event[3]}, {event[4]} and {event[5]}; "
                "all its pages are reserved so far.",
                [],
            )

    def add(self, kind: str, text: str, changed: list[tuple[int, int, int]], **more: Any) -> None:
        """One step more, with the boot allocator as it stands now; *changed* are pages whose bit is another than before."""
        bdata = self.machine.pgdats[self.node].bdata
        base = bdata.node_boot_start >> PAGE_SHIFT
        saved = None
        if bdata.map is not None:
            same = self.states and self.states[-1][0] == self.node and self.states[-1][1] is not None and not changed
            packed = self.states[-1][1][0] if same else zlib.compress(bytes(bdata.map), 1)
            saved = (packed, bdata.node_boot_start, bdata.node_low_pfn, bdata.map_pa, bdata.last_pos, bdata.last_offset)
        self.steps.append(
            {
                "kind": kind,
                "stage": self.stage,
                "node": self.node,
                "text": text,
                "base": base,
                "end": bdata.node_low_pfn,
                "last_pos": base + bdata.last_pos,
                "last_offset": bdata.last_offset,
                "alive": bdata.map is not None,
                "free": bdata.map.count(0, 0, bdata.node_low_pfn - base) if bdata.map is not None else 0,
                "lists": {str(z.index): z.nr_free() for z in self.machine.zones},
                **more,
            }
        )
        self.states.append((self.node, saved))
        self.changed.append([(base + a, base + b, bit) for a, b, bit in changed])

    def _wrap(self, name: str, method: Any) -> Any:
        def call(first: PgData | BootmemData, *args: int) -> Any:
            if self._depth:  # one of the reader's own methods calling another
                return method(first, *args)
            pgdat = (
                first if isinstance(first, PgData) else next((p for p in self.machine.pgdats if p.bdata is first), self.machine.pgdats[0])
            )
            bdata = pgdat.bdata
            self.node = pgdat.nid
            before = bytes(bdata.map or b"")
            where = (bdata.node_boot_start >> PAGE_SHIFT) + bdata.last_pos, bdata.last_offset
            self._depth += 1
            error: KernelBug | KernelHang | None = None
            result = None
            try:
                result = method(first, *args)
            except (KernelBug, KernelHang) as stop:
                error = stop
            finally:
                self._depth -= 1
            after = bytes(bdata.map or b"")
            self._note(name, args, result, str(error or ""), changes(before, after) if before else [], where)
            if error is not None:
                raise error
            return result

        return call

    def _note(
        self, name: str, args: tuple[int, ...], result: Any, error: str, done: list[tuple[int, int, int]], where: tuple[int, int]
    ) -> None:
        bdata = self.machine.pgdats[self.node].bdata
        base = bdata.node_boot_start >> PAGE_SHIFT
        runs = [[base + a, base + b] for a, b, _ in done]
        more: dict[str, Any] = {"runs": runs}
        if error:
            fields = (
                ("size", "align", "goal") if name == "alloc_bootmem_core" else ("address", "size") if name != "init_bootmem_core" else ()
            )
            more |= dict(zip(fields, args, strict=False))
            self.add("bug", error.rstrip(".") + "." + (" The machine stops here." if error.startswith("BUG") else ""), done, **more)
        elif name == "init_bootmem_core":
            frames = args[2] - args[1]
            self.add(
                "init",
                f"init_bootmem: a bit for each of {number(frames)} frames, and every bit is 1, reserved, until somebody knows better.",
                done,
                runs=[[args[1], args[2]]],
            )
        elif name == "free_bootmem_core":
            said = f"{_frames_text(runs)} {_verb(runs)} free" if runs else "no whole page lies inside, so nothing changes"
            self.add("free", f"free_bootmem of {_size(args[1])} at {args[0]:#x}: {said}.", done, address=args[0], size=args[1], **more)
        elif name == "reserve_bootmem_core":
            twice = int(result or 0)
            already = f"; {_count(twice, 'page was', 'pages were')} reserved already" if twice else ""
            said = f"{_frames_text(runs)} may not be given out" if runs else "nothing changes"
            self.add(
                "reserve",
                f"reserve_bootmem of {_size(args[1])} at {args[0]:#x}: {said}{already}.",
                done,
                address=args[0],
                size=args[1],
                **more,
            )
        else:
            size, align, goal = args
            request = {"size": size, "align": align, "goal": goal, "address": result, "before": list(where), **more}
            if result is None:
                self.add(
                    "fail",
                    f"{_size(size)}: no run of free pages is long enough, and the caller gets nothing.",
                    done,
                    merged=False,
                    **request,
                )
                return
            merged = bool(where[1]) and result >> PAGE_SHIFT == where[0]
            self.add("alloc", "", done, merged=merged, consumer=len(self.consumers), **request)
            self.consumers.append({"name": "", "group": "", "start": result, "size": size, "step": len(self.steps) - 1, "node": self.node})

    def _wrap_retire(self, method: Any) -> Any:
        def retire(pgdat: PgData) -> Any:
            bdata = pgdat.bdata
            self.node = pgdat.nid
            low = bdata.node_low_pfn - (bdata.node_boot_start >> PAGE_SHIFT)
            total = bdata.map.count(0, 0, low) if bdata.map is not None else 0
            bitmap = pfn_up(max(bdata.map_pa, 1))
            base = bdata.node_boot_start >> PAGE_SHIFT
            handed: list[tuple[int, int, int]] = []
            count = 0

            def heard(pfn: int, pages: int) -> None:
                nonlocal count
                count += pages
                at = pfn - base
                if handed and handed[-1][1] == at:
                    handed[-1] = (handed[-1][0], at + pages, 2)
                else:
                    handed.append((at, at + pages, 2))
                if count * RETIRE_STEPS // max(total, 1) != (count - pages) * RETIRE_STEPS // max(total, 1) and count < total:
                    flush(f"Handing over: frame {number(pfn + pages - 1)} is reached, {number(count)} pages are in the buddy lists.")

            def flush(text: str) -> None:
                self.add("retire", text, list(handed), handed=count, runs=[[base + a, base + b] for a, b, _ in handed])
                handed.clear()

            self._retiring = heard
            try:
                freed = method(pgdat)
            finally:
                self._retiring = None
            flush(
                f"The last to go is the bitmap itself, from frame {number(bitmap)} on: {number(freed)} pages handed over, "
                "and boot memory is gone."
            )
            return freed

        return retire

    # -- naming -------------------------------------------------------------------------------

    def finish(self, log: list[BootConsumer]) -> None:
        """Name the consumers from the machine's boot log, and work out the coloured ranges of every step."""
        by_start = {c.start_pa: c.name for c in log}
        for consumer in self.consumers:
            consumer["name"] = consumer["name"] or by_start.get(consumer["start"], "request")
            consumer["group"] = group(consumer["name"])
        reserved = [c for c in log if c.stage == "setup_memory"]
        ranges: dict[int, Ranges] = {}
        for at, (step, done) in enumerate(zip(self.steps, self.changed, strict=True)):
            node = step["node"]
            if step["kind"] == "init":
                ranges[node] = [[step["base"], step["end"], UNKNOWN]]
            now = ranges.get(node, [])
            for a, b, bit in done:
                if bit == 2:
                    now = paint(now, a, b, BUDDY)
                elif not bit:
                    now = paint(now, a, b, FREE)
                elif step["kind"] == "reserve":
                    now = paint(
                        now,
                        a,
                        b,
                        self.owner("kernel image" if reserved else "kernel image and bitmap" if not step["base"] else "bootmem bitmap"),
                    )
                    for c in reserved:
                        s, e = max(a, c.start_pa >> PAGE_SHIFT), min(b, pfn_up(c.start_pa + c.size))
                        if s < e:
                            now = paint(now, s, e, self.owner(group(c.name)))
                            self._reserve(c, at, node)
                else:
                    now = paint(
                        now, a, b, self.owner(self.consumers[step["consumer"]]["group"] if "consumer" in step else "reserved by hand")
                    )
            ranges[node] = now
            step["ranges"] = now
            if step["kind"] == "alloc":
                step["text"] = self.alloc_text(step)

    def _reserve(self, c: BootConsumer, at: int, node: int) -> None:
        if all(known["start"] != c.start_pa for known in self.consumers):
            self.consumers.append({"name": c.name, "group": group(c.name), "start": c.start_pa, "size": c.size, "step": at, "node": node})

    def owner(self, name: str) -> int:
        """Number of an owner of ranges; a new name gets the next."""
        if name not in self.owners:
            self.owners.append(name)
        return self.owners.index(name)

    def alloc_text(self, step: dict[str, Any]) -> str:
        """A sentence about an allocation."""
        consumer = self.consumers[step["consumer"]]
        asked = f"{consumer['name']}: {_size(step['size'])}"
        if step["align"] > 32:
            asked += f", aligned to {_size(step['align'])}"
        if step["goal"]:
            met = step["address"] >= step["goal"]
            asked += f", {'above' if met else 'if possible above'} {_size(step['goal'])}"
            asked += "" if met else " (not possible)"
        if not step["merged"]:
            return f"{asked}. Found at {step['address']:#x}; {_frames_text(step['runs'])} taken."
        rest = f"and goes on in {_frames_text(step['runs'])}" if step["runs"] else "and no new page is taken"
        offset = number(step["address"] & PAGE_SIZE - 1)
        return f"{asked}. The rest of frame {number(step['before'][0])} is still unused: it starts there, at offset {offset}, {rest}."


def _count(n: int, one: str, many: str) -> str:
    return f"1 {one}" if n == 1 else f"{number(n)} {many}"


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and not size % unit:
            return f"{size // unit} {name}"
    return f"{number(size)} byte" + ("" if size == 1 else "s")


def _single(runs: list[list[int]]) -> bool:
    return len(runs) == 1 and runs[0][1] == runs[0][0] + 1


def _verb(runs: list[list[int]]) -> str:
    return "becomes" if _single(runs) else "become"


def _frames_text(runs: list[list[int]]) -> str:
    if not runs:
        return "no frame"
    parts = [f"{number(a)}" if b == a + 1 else f"{number(a)} to {number(b - 1)}" for a, b in runs[:3]]
    return ("frame " if _single(runs) else "frames ") + ", ".join(parts) + (" …" if len(runs) > 3 else "")


def record_boot(machine: Machine) -> Recorder:
    """Boot a twin of *machine* (same configuration, same parts) and return what its boot allocator did."""
    twin = machine.twin()
    recorder = Recorder(twin)
    twin.on_event = recorder.hear
    try:
        twin.power_on(until="mem_init")  # where boot memory ends
        high = [z for z in twin.zones if z.name == "HighMem"]
        if high:
            pages = sum(z.free_pages for z in high)
            recorder.add(
                "high", f"High memory never was in the bitmap: its {number(pages)} pages are freed one by one, from the top down.", []
            )
    except (KernelBug, KernelHang) as stop:
        if not recorder.steps or recorder.steps[-1]["kind"] != "bug":
            recorder.add("bug", f"{stop} The boot ends here.", [])
    finally:
        twin.on_event = None
    recorder.finish(twin.boot_log)
    return recorder
