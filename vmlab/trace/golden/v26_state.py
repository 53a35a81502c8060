"""The state of a 2.6 machine in the traces' own form: per-zone lists, reverse mapping, extents, counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...mm.page_flags import PG_lru, PG_reserved
from ...v26.page_flags import SWAPCACHE, to_native
from . import v26_common as common
from .process_state import (
    BUDDY,
    BUDDY_CRC,
    COUNTERS,
    LRU,
    LRU_CRC,
    MM_BITS,
    PAGES,
    PAGES_CRC,
    PROCS,
    PTE_BITS,
    PTES,
    RB,
    SWAP,
    SWAP_CRC,
    VMA_CRC,
    VMAS,
    StateDump,
)
from .process_text import Kept, SlotText, crc, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...machine import Machine
    from ...mm.task import Task
    from ...mm.vm import MmStruct, VmArea
    from ...v26.mmzone import PgData26
    from ...v26.page_alloc import PageAllocator26

Line = dict[str, Any]

TOKEN = 8192  # the swap token and the mmlist; the other bits are 2.4's

SIGNS = {
    "a0": LRU,
    "acrc0": LRU_CRC,
    "c": COUNTERS,
    "pages": PAGES,
    "pgcrc": PAGES_CRC,
    "buddy": BUDDY,
    "bcrc": BUDDY_CRC,
    "procs": PROCS,
    "token": TOKEN,
}
_LRU_BIT, _RESERVED_BIT = 1 << PG_lru, 1 << PG_reserved
_PRESENT = 0x81
_MM_FIELDS = (
    "map_count",
    "total_vm",
    "locked_vm",
    "shared_vm",
    "exec_vm",
    "stack_vm",
    "reserved_vm",
    "rss",
    "anon_rss",
    "nr_ptes",
    "brk",
    "def_flags",
    "mmap_base",
)


def mask_of(line: Line) -> int:
    """The bits of the dump mask whose fields are on *line*; I/O logs, which may be silent, are not among them."""
    mask = sum(bit for name, bit in SIGNS.items() if name in line)
    if "swap" in line:
        mask |= SWAP if has_full_swap(line) else SWAP_CRC
    return mask | mask_of_process(line)


def has_full_swap(line: Line) -> bool:
    """Whether a swap area on *line* lists its slots."""
    swap = line.get("swap")
    areas = swap.get("areas") if isinstance(swap, dict) else None
    return isinstance(areas, list) and any(isinstance(a, list) and len(a) > 13 for a in areas)


def mask_of_process(line: Line) -> int:
    """The bits of the dump mask that concern one process."""
    mask = 0
    if isinstance(line.get("mm"), dict):
        mask |= RB if "rb" in line["mm"] else 0
        mask |= VMAS if "vmas" in line else VMA_CRC
    if "ptes" in line:
        mask |= PTES
    elif "pte" in line:
        mask |= PTE_BITS & ~PTES
    return mask


class PageRows:
    """The row of a page: frame, count, mapcount, flags, mapping, index, private, anon_vma."""

    def __init__(self, machine: Machine, label: Callable[[int], int]) -> None:
        mem = machine.mem
        self.columns = (mem.flags, mem.count, mem.mapping, mem.index, mem.column("mapcount", "i", -1), mem.column("private"))
        self.label = label
        self.native: dict[int, int] = {}  # our word of flags → 2.6's

    def shown(self, pfn: int) -> bool:
        """In use, not reserved, and on a list, in the swap cache or with a mapping."""
        flags, count, mapping = self.columns[:3]
        word = flags[pfn]
        return bool((word & (_LRU_BIT | SWAPCACHE) or mapping[pfn]) and not word & _RESERVED_BIT and count[pfn])

    def row(self, pfn: int) -> list[int]:
        """The numbers of a page that is shown."""
        flags, count, mapping, index, mapcount, private = self.columns
        word, of, mapped = flags[pfn], mapping[pfn], mapcount[pfn] + 1
        native = self.native.get(word)
        if native is None:
            native = self.native[word] = to_native(word)
        anonymous = of >> 31
        cached = word & SWAPCACHE
        name = -2 if cached else -3 if anonymous else self.label(of) if of else -1
        serial = of & 0x7FFFFFFF if anonymous and mapped > 0 else 0
        return [pfn, count[pfn], mapped, native, name, index[pfn], private[pfn] if cached else 0, serial]

    def text(self, pfn: int) -> str:
        """The row as it enters the checksum, nothing for a page that is not shown."""
        return numbers(self.row(pfn))[:-1] + ";" if self.shown(pfn) else ""


class StateDump26(StateDump):
    """Prints one 2.6 machine of two zones."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, 2)
        self.low_zones = common.low_zones(machine)
        self.rows = PageRows(machine, self._label)
        self.swapons = 0  # calls so far
        self._kept = Kept(machine.mem.frames, self.rows.text)

    def _label(self, mapping: int) -> int:
        """The traces' number of a file, by its mapping; kept after the file is gone."""
        name = self._names.get(mapping)
        if name is None:
            name = self._names[mapping] = self._name_mapping(mapping)
        return name

    def dump(self, mask: int, task: Task | None) -> Line:
        """The fields of *mask*; *task* is the process that the operation was about, if it lives."""
        got: Line = {}
        if task is not None and task.mm is not None:
            if mask & MM_BITS:
                got |= self.address_space(task.mm, mask)
            if mask & PTE_BITS:
                got |= self.page_tables(task.mm, mask)
        if mask & (LRU | LRU_CRC | PAGES | PAGES_CRC):
            got |= self.page_lists(mask)
        if mask & (SWAP | SWAP_CRC):
            got["swap"] = self.swap(bool(mask & SWAP))
        if mask & BUDDY:
            got["buddy"] = common.buddy(self.machine)
        if mask & BUDDY_CRC:
            got["bcrc"] = common.buddy_crc(self.machine)
        if mask & COUNTERS:
            got["c"] = self.counters()
        if mask & PROCS:
            got["procs"] = self.processes()
        if mask & TOKEN:
            got |= self.token()
        return got

    # -- processes ----------------------------------------------------------------------------

    def address_space(self, mm: MmStruct, mask: int) -> Line:
        """Areas and tree."""
        rb: list[int] = []
        stack: list[VmArea | None] = [mm.mm_rb]
        while stack:
            vma = stack.pop()
            if vma is not None:
                rb += (vma.vm_start, vma.rb_color)
                stack += (vma.rb_right, vma.rb_left)
        known = {id(f): number for number, f in self.files.items()}
        vmas = []
        area: Any = mm.mmap
        while area is not None:
            file, anon = area.vm_file, area.anon_vma
            name = -1 if file is None else known.get(id(file), file.ident)
            serial = 0 if anon is None else anon.serial
            vmas.append([area.vm_start, area.vm_end, area.vm_flags, area.vm_page_prot, area.vm_pgoff, name, serial])
            area = area.vm_next
        fields: Line = {name: getattr(mm, name) for name in _MM_FIELDS}
        fields["fac"] = cast(Any, mm).free_area_cache
        fields["committed"] = self._committed()
        if mask & RB:
            fields["rb"] = rb
        fields["rbcrc"] = crc("".join(f"{rb[i]}:{rb[i + 1]}," for i in range(0, len(rb), 2)))
        if mask & VMAS:
            return {"mm": fields, "vmas": vmas}
        fields["vmacrc"] = crc("".join(numbers(row)[:-1] + ";" for row in vmas))
        return {"mm": fields}

    def _committed(self) -> int:
        return getattr(self.machine.mmap, "vm_committed_space", 0)

    def page_tables(self, mm: MmStruct, mask: int) -> Line:
        """Every entry, or how many there are with their checksum."""
        got = {k: v for k, v in super().page_tables(mm, mask).items() if k in ("ptes", "pte", "rss")}
        got["anon_rss"] = cast(Any, mm).anon_rss
        return got

    def processes(self) -> list[list[int]]:
        """[pid, rss, anon_rss, min_flt, maj_flt, total_vm] by pid."""
        return [
            [t.pid, t.mm.rss, cast(Any, t.mm).anon_rss, t.min_flt, t.maj_flt, t.mm.total_vm]
            for t in sorted(self.machine.sched.tasks.values(), key=lambda t: t.pid)
            if t.mm is not None
        ]

    def token(self) -> Line:
        """Who has the swap token, and whose pages may be in swap."""
        pids = {id(t.mm): pid for pid, t in self.machine.sched.tasks.items() if t.mm is not None}
        pids[id(self.machine.init_mm)] = 0
        owner = cast(Any, self.machine.reclaim).swap_token_mm
        return {
            "token": 0 if owner is None else pids.get(id(owner), -1),
            "mmlist": [pids.get(id(mm), -1) for mm in self.machine.fork.mmlist],
        }

    # -- pages --------------------------------------------------------------------------------

    def page_lists(self, mask: int) -> Line:
        """The LRU lists of the zones, the pages on their way to them, and every page that is on one or cached."""
        following = self.machine.mem.lru.next
        swap: Any = self.machine.swap
        got: Line = {}
        for number, zone in enumerate(self.low_zones):
            if not zone.size:
                continue
            active, inactive = self._walk(following, zone.active_list), self._walk(following, zone.inactive_list)
            if mask & LRU:
                got |= {f"a{number}": active, f"i{number}": inactive}
            if mask & LRU_CRC:
                got |= {f"acrc{number}": crc(numbers(active)), f"icrc{number}": crc(numbers(inactive))}
        if mask & (LRU | LRU_CRC):
            got |= {"pvi": list(swap.lru_add_pvecs), "pva": list(swap.lru_add_active_pvecs)}
        if mask & PAGES:
            rows = self.rows
            got["pages"] = [rows.row(pfn) for pfn in range(self.machine.mem.frames) if rows.shown(pfn)]
        if mask & PAGES_CRC:
            self._kept.refresh([column.tobytes() for column in self.rows.columns])
            got["pgcrc"] = crc(self._kept.text())
        return got

    def counters(self) -> Line:
        """Global counts."""
        machine = self.machine
        stat: Any = machine.sched.kstat
        pages = cast("PageAllocator26", machine.page_allocator).page_state
        return {
            **common.zone_counters(machine),
            "pc": pages.nr_pagecache,
            "sc": machine.swap_state.swapper_space.nrpages,
            "nrswap": machine.swapfile.nr_swap_pages,
            "ksw": stat.kswapd_runs,
            "cw": stat.congestion_waits,
            "bdf": stat.pdflush_requests,
            "oom": stat.oom_kills,
            "j": machine.sched.jiffies,
            "kmo": cast("PgData26", machine.pgdats[0]).kswapd_max_order,
            "fr": machine.block.file_reads,
            "fw": machine.block.file_writes,
            "committed": self._committed(),
            "ps": common.page_state(machine),
        }

    # -- swap ---------------------------------------------------------------------------------

    def swap(self, full: bool) -> Line:
        """Swap areas with their slots and extents: as many rows as there were calls of swapon."""
        swapfile = self.machine.swapfile
        areas = []
        for number, area in enumerate(cast(list[Any], swapfile.swap_info[: self.swapons])):
            swap_map = area.swap_map
            raw = swap_map.raw(0, len(swap_map) - 1) if swap_map is not None and len(swap_map) else b""
            used, text = self._slot_text.setdefault(number, SlotText()).text(raw)
            row: list[Any] = [area.flags, area.lowest_bit, area.highest_bit, area.cluster_next, area.cluster_nr, area.prio, area.pages]
            row += [area.max, area.next, area.inuse_pages, area.nr_extents, used, crc(text)]
            if full and swap_map is not None:
                row.append([value for pair in area.used_slots() for value in pair])
                row.append([list(extent) for extent in area.extent_list])
            areas.append(row)
        return {
            "nr": swapfile.nr_swap_pages,
            "total": swapfile.total_swap_pages,
            "head": swapfile.swap_list.head,
            "next": swapfile.swap_list.next,
            "areas": areas,
        }
