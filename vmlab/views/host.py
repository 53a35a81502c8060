"""Your kernel, now: the memory of the computer under the notebook, beside the 2.4.22 machine."""

from __future__ import annotations

from typing import Any

import traitlets

from .. import host as hostside
from ..machine import Machine, boot
from ..mm.mmzone import MAX_ORDER
from .base import STATIC, View, css, esm, number

__all__ = ["Host", "host"]

INTERVALS = (1, 2, 5, 10)  # seconds between two readings
LIVE = "live"


class Host(View):
    """Free blocks, watermarks, reserves, per-CPU pages and page kinds, in 2.4.22 and in the kernel underneath.

    ``source`` is "live" or the name of a kept sample; ``running`` refreshes every ``interval`` seconds while the picture can be
    seen. ``reading`` is the last reading and ``machine`` the model it stands beside.
    """

    _esm = esm("panels") + (STATIC / "host.js").read_text()
    _css = css("panels") + (STATIC / "host.css").read_text()

    choices = traitlets.Dict(help="What the controls offer.").tag(sync=True)
    source = traitlets.Unicode(LIVE, help='"live", or the name of a sample.').tag(sync=True)
    running = traitlets.Bool(False, help="Refresh by itself.").tag(sync=True)
    interval = traitlets.Int(2, min=1, help="Seconds between two readings.").tag(sync=True)
    facts = traitlets.Dict(help="Both sides of every section.").tag(sync=True)
    readings = traitlets.Int(0, help="How often the host was read.").tag(sync=True)

    def __init__(self, machine: Machine | None = None, *, source: str = LIVE, interval: int = 2, proc: str = "/proc") -> None:
        if source != LIVE and source not in hostside.samples():
            raise ValueError(f"source={source!r}: {LIVE!r} or one of {', '.join(hostside.samples())}")
        self.machine = machine if machine is not None else boot(ram="1G")
        self._proc = proc
        names = [[LIVE, "this computer"]] + [[name, f"sample: {name}"] for name in hostside.samples()]
        choices = {"source": names, "interval": [[n, f"every {n} s" if n > 1 else "every second"] for n in sorted({*INTERVALS, interval})]}
        super().__init__(choices=choices, source=source, interval=interval)
        self.refresh()
        self.observe(lambda _: self.refresh(), "source")
        self.on_msg(lambda _, message, __: self.refresh() if message.get("do") == "read" else None)

    def refresh(self) -> None:
        """Read the host and the machine again and redraw."""
        self.reading = hostside.read(self._proc) if self.source == LIVE else hostside.sample(self.source)
        with self.hold_sync():
            self.facts = compare(self.machine, self.reading)
            self.readings += 1
            self.text_alternative = in_words(self.facts)
            self.table = in_numbers(self.facts)
            self.serial += 1


def compare(machine: Machine, reading: hostside.Reading) -> dict[str, Any]:
    """Both sides in the same form, section by section, as plain data."""
    several = len(machine.pgdats) > 1
    model = [
        {
            "zone": z.name,
            "node": z.pgdat.nid,
            "counts": z.nr_free(),
            "free": z.free_pages,
            "pages": z.size,
            "min": z.pages_min,
            "low": z.pages_low,
            "high": z.pages_high,
        }
        for z in machine.zones
    ]
    blocks = {(row.node, row.zone): row for row in reading.buddyinfo}
    now: list[dict[str, Any]] = []
    empty = []
    for z in reading.zoneinfo or [hostside.ZoneRow(row.node, row.zone, {"free": row.free_pages}) for row in reading.buddyinfo]:
        if not z.pages and (z.node, z.zone) not in blocks:
            empty.append(f"{z.zone} of node {z.node}" if len({row.node for row in reading.buddyinfo}) > 1 else z.zone)
            continue
        row = blocks.get((z.node, z.zone))
        now.append(
            {
                "zone": z.zone,
                "node": z.node,
                "counts": list(row.counts) if row else [],
                "free": z.get("free"),
                "pages": z.pages,
                "spanned": z.get("spanned"),
                "present": z.get("present"),
                "managed": z.get("managed"),
                "min": z.get("min"),
                "low": z.get("low"),
                "high": z.get("high"),
                "promo": z.get("promo"),
                "protection": list(z.protection),
                "pagesets": [{k: v for k, v in p.items()} for p in z.pagesets],
            }
        )
    kinds: list[dict[str, Any]] = []
    if reading.pagetypes:
        owned = reading.pagetypes.blocks
        for kind_row in reading.pagetypes.rows:
            if any(kind_row.counts) or owned.get((kind_row.node, kind_row.zone), {}).get(kind_row.kind):
                kinds.append(
                    {
                        "zone": kind_row.zone,
                        "node": kind_row.node,
                        "kind": kind_row.kind,
                        "counts": list(kind_row.counts),
                        "capped": kind_row.capped,
                        "free": kind_row.free_pages,
                        "blocks": owned.get((kind_row.node, kind_row.zone), {}).get(kind_row.kind),
                    }
                )
    orders = max([MAX_ORDER] + [len(row["counts"]) for row in now])
    return {
        "live": reading.live,
        "label": reading.label,
        "kernel": reading.kernel,
        "notes": reading.notes,
        "page_size": reading.page_size,
        "settings": {name: list(values) for name, values in reading.settings.items()},
        "orders": orders,
        "model_orders": MAX_ORDER,
        "model_label": f"The model: Linux 2.4.22 with {machine.mem.frames * 4 // 1024} MiB"
        + (f" in {len(machine.pgdats)} nodes" if several else ""),
        "several": several or len({row["node"] for row in now}) > 1,
        "model": model,
        "now": now,
        "empty": empty,
        "zone_names": [z.zone for z in reading.zoneinfo if z.node == reading.zoneinfo[0].node],
        "kinds": kinds,
        "block_pages": reading.pagetypes.pages_per_block if reading.pagetypes else None,
        "worked": worked(now, reading),
        "changes": {name: change._asdict() for name, change in hostside.CHANGES.items()},
    }


def worked(now: list[dict[str, Any]], reading: hostside.Reading) -> dict[str, str]:
    """A sentence for a section that works an example out with the numbers just read."""
    said: dict[str, str] = {}
    marked = [row for row in now if row["min"] and row["low"] and row["pages"] and row["zone"] != "HighMem"]
    if marked:
        row = max(marked, key=lambda r: r["pages"])
        step = row["low"] - row["min"]
        said["watermarks"] = (
            f"Here: {row['zone']} has low = min + {number(step)} and high = low + {number((row['high'] or 0) - row['low'])}; "
            f"2.4.22 would give a zone of {number(row['pages'])} pages {min(max(row['pages'] // 128, 20), 255)} as its min."
        )
        kib = reading.settings.get("min_free_kbytes")
        if kib:
            total = sum(r["min"] for r in marked)
            said["watermarks"] += (
                f" All min together are {number(total)} pages = {number(total * reading.page_size // 1024)} KiB; "
                f"min_free_kbytes is {number(kib[0])}."
            )
    ratio = reading.settings.get("lowmem_reserve_ratio", ())
    for at, row in enumerate(now[:-1]):
        above = now[at + 1]
        mine = [r for r in now if r["node"] == row["node"]]
        if (
            at < len(ratio)
            and ratio[at]
            and above in mine
            and len(row["protection"]) > at + 1
            and above["managed"]
            and (0 < row["protection"][at + 1] == above["managed"] // ratio[at])
        ):
            said["protection"] = (
                f"Here: {row['zone']} keeps {number(row['protection'][at + 1])} pages from a request for {above['zone']}: "
                f"{number(above['managed'])} managed pages ÷ {ratio[at]} = {number(above['managed'] // ratio[at])}."
            )
            break
    held = sum(p.get("count", 0) for row in now for p in row["pagesets"])
    if any(row["pagesets"] for row in now):
        said["pagesets"] = (
            f"Here: {number(held)} pages, {number(held * reading.page_size // 1024)} KiB, are free but on a CPU's own lists, "
            "so no zone counts them."
        )
    return said


def in_words(facts: dict[str, Any]) -> str:
    """The picture in sentences."""

    def side(rows: list[dict[str, Any]]) -> str:
        return "; ".join(
            f"{row['zone']}"
            + (f" of node {row['node']}" if facts["several"] else "")
            + f": {number(row['free'] or 0)} pages free"
            + (f", largest free block order {max(o for o, n in enumerate(row['counts']) if n)}" if any(row["counts"]) else "")
            + (
                f", watermarks {number(row['min'])}, {number(row['low'] or 0)} and {number(row['high'] or 0)}"
                if row["min"] is not None
                else ""
            )
            for row in rows
        )

    notes = " ".join(facts["notes"])
    return f"{facts['label']} {side(facts['now'])}. {facts['model_label']}: {side(facts['model'])}." + (f" {notes}" if notes else "")


def in_numbers(facts: dict[str, Any]) -> dict[str, Any]:
    """Both sides as one data table: free blocks by order."""
    orders = range(facts["orders"])
    rows = []
    for whose, side in (("2.4.22", facts["model"]), (facts["kernel"], facts["now"])):
        for row in side:
            name = f"{whose}, {row['zone']}" + (f", node {row['node']}" if facts["several"] else "")
            rows.append([name, *(row["counts"][o] if o < len(row["counts"]) else "none" for o in orders), row["free"]])
    return {"caption": "Free blocks by order", "head": ["kernel and zone", *(f"order {o}" for o in orders), "pages free"], "rows": rows}


def host(machine: Machine | None = None, *, source: str = LIVE, interval: int = 2) -> Host:
    """Picture of this computer's kernel beside *machine* (a 1 GiB one when left out).

    source: "live", or a sample's name (vmlab.host.samples()); where there is no /proc/buddyinfo a sample is shown, and
    labelled. interval: seconds between readings once "Start" is pressed.
    """
    return Host(machine, source=source, interval=interval)
