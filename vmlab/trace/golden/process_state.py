"""The state of a machine in the traces' own form: what is printed after an operation, by the bits of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...mm.fs import SWAPPER_SPACE_ID
from ...mm.page_flags import PG_lru, PG_reserved
from .process_text import PageText, SlotText, crc, numbers

if TYPE_CHECKING:
    from array import array

    from ...machine import Machine
    from ...mm.fs import File
    from ...mm.slab_cache import Slab
    from ...mm.task import Task
    from ...mm.vm import MmStruct, VmArea

Line = dict[str, Any]

# Bits of the dump mask.
VMAS, RB, PTES, LRU, COUNTERS, SWAP, SWAP_CRC, LRU_CRC, PAGES, PAGES_CRC, BUDDY, BUDDY_CRC = (1 << i for i in range(12))
PROCS, CLOCK, PTE_CRC, VMA_CRC, SWAP_IO, FILE_IO, SLAB, SLAB_FULL, KMAP, VMLIST = (1 << i for i in range(12, 22))
MM_BITS, PTE_BITS = VMAS | VMA_CRC | RB, PTES | PTE_CRC

# Fields by which one sees that a bit is on, in lines that show no process.
SIGNS = {
    "active": LRU,
    "acrc": LRU_CRC,
    "c": COUNTERS,
    "pages": PAGES,
    "pgcrc": PAGES_CRC,
    "buddy": BUDDY,
    "bcrc": BUDDY_CRC,
    "procs": PROCS,
    "swap_mm": CLOCK,
    "slab": SLAB,
    "kmap": KMAP,
    "vmlist": VMLIST,
}
_LRU_BIT, _RESERVED_BIT = 1 << PG_lru, 1 << PG_reserved
_PRESENT = 0x81


def mask_of(line: Line) -> int:
    """The bits of the dump mask whose fields are on *line*; swap I/O and file I/O, which may be silent, are not among them."""
    mask = 0
    for name, bit in SIGNS.items():
        if name in line:
            mask |= bit
    if "swap" in line:
        mask |= SWAP if has_full_swap(line) else SWAP_CRC
    if "slab" in line and any(isinstance(c, list) and len(c) > 5 for c in line["slab"]):
        mask |= SLAB_FULL
    return mask | mask_of_process(line)


def has_full_swap(line: Line) -> bool:
    """Whether a swap area on *line* lists its slots."""
    swap = line.get("swap")
    areas = swap.get("areas") if isinstance(swap, dict) else None
    return isinstance(areas, list) and any(isinstance(a, list) and len(a) > 11 for a in areas)


def mask_of_process(line: Line) -> int:
    """The bits of the dump mask that concern one process."""
    mask = 0
    if isinstance(line.get("mm"), dict):
        mask |= RB if "rb" in line["mm"] else 0
        mask |= VMAS if "vmas" in line else VMA_CRC
    if "ptes" in line:
        mask |= PTES
    elif "pte" in line:
        mask |= PTE_CRC
    return mask


class StateDump:
    """Prints one machine. *zones* is how many zones the traces of its kind print."""

    def __init__(self, machine: Machine, zones: int) -> None:
        self.machine = machine
        self.zones = machine.pgdats[0].node_zones[:zones]
        self.files: dict[int, File] = {}  # by the traces' number
        self._names = {0: -1}  # mapping id → file id
        # On a very large machine looking at every frame costs more than writing down those in use.
        small = machine.mem.frames <= 1 << 18
        self._page_text = PageText(machine.mem, self._names, _LRU_BIT, _RESERVED_BIT) if small else None
        self._slot_text: dict[int, SlotText] = {}  # by swap area

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
            got["buddy"] = self.buddy()
        if mask & BUDDY_CRC:
            got["bcrc"] = self.buddycrc()
        if mask & COUNTERS:
            got["c"] = self.counters()
        if mask & PROCS:
            got["procs"] = self.processes()
        if mask & CLOCK:
            got |= self.clock()
        if mask & (SLAB | SLAB_FULL):
            got |= self.slab(bool(mask & SLAB_FULL))
        if mask & KMAP and self.machine.config.highmem:
            got["kmap"] = self.kmap()
        if mask & VMLIST:
            got |= self.vmlist()
        return got

    # -- processes ----------------------------------------------------------------------------

    def file_id(self, file: File | None) -> int:
        """What the traces call the file of a mapped area."""
        if file is None:
            return -1
        for number, known in self.files.items():
            if known is file:
                return number
        return file.ident

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
        area = mm.mmap
        while area is not None:
            file = area.vm_file
            name = -1 if file is None else known.get(id(file), file.ident)
            vmas.append([area.vm_start, area.vm_end, area.vm_flags, area.vm_page_prot, area.vm_pgoff, name])
            area = area.vm_next
        fields: Line = {
            "map_count": mm.map_count,
            "total_vm": mm.total_vm,
            "locked_vm": mm.locked_vm,
            "rss": mm.rss,
            "brk": mm.brk,
            "def_flags": mm.def_flags,
        }
        if mask & RB:
            fields["rb"] = rb
        fields["rbcrc"] = crc("".join(f"{rb[i]}:{rb[i + 1]}," for i in range(0, len(rb), 2)))
        if mask & VMAS:
            return {"mm": fields, "vmas": vmas}
        fields["vmacrc"] = crc("".join(f"{a},{b},{c},{d},{e},{f};" for a, b, c, d, e, f in vmas))
        return {"mm": fields}

    def _tables(self, mm: MmStruct) -> list[tuple[int, int, array[int]]]:
        """(number, raw entry, table) of each page table of the process, by address."""
        pgtable = self.machine.pgtable
        found: list[tuple[int, int, array[int]]] = []
        if pgtable.pae:
            for i in range(3):
                pmds = pgtable.table_at((mm.pgd.table[i] & 0xFFFFFFFFFFFFFFFF) >> 12)
                if any(pmds):
                    found += [(i << 9 | j, pmd, pgtable.pte_table(pmd)) for j, pmd in enumerate(pmds) if pmd]
        else:
            entries = mm.pgd.table[:768]
            if any(entries):
                found = [(i, pgd, pgtable.pte_table(pgd)) for i, pgd in enumerate(entries) if pgd]
        return found

    def page_tables(self, mm: MmStruct, mask: int) -> Line:
        """Every entry, or how many there are with their checksum."""
        pgtable = self.machine.pgtable
        per_table = pgtable.PTRS_PER_PTE
        got: Line = {}
        if mask & PTES:
            ptes: list[list[int]] = []
            for number, raw, table in self._tables(mm):
                ptes.append([-1 - number, raw])
                base = number * per_table
                ptes += [[base + i, e] for i, e in enumerate(table) if e]
            got["ptes"] = ptes
        else:
            nonzero = present = 0
            text: list[str] = []
            for number, raw, table in self._tables(mm):
                base = number * per_table
                used = [f"{at}:{value}," for at, value in enumerate(table, base) if value]
                nonzero += len(used)
                present += len([value for value in table if value & _PRESENT])
                text.append(f"T{number}:{raw},")
                text += used
            got["pte"] = [nonzero, present, crc("".join(text))]
        got["rss"] = mm.rss
        if pgtable.pae:
            got["pgd_pa"] = mm.pgd.pa
            got["pgd_raw"] = list(mm.pgd.table)
        else:
            got["pgd"] = mm.pgd.pa >> 12
        got["swap_address"] = mm.swap_address
        return got

    def processes(self) -> list[list[int]]:
        """[pid, rss, min_flt, maj_flt, swap_address] by pid."""
        return [
            [t.pid, t.mm.rss, t.min_flt, t.maj_flt, t.mm.swap_address]
            for t in sorted(self.machine.sched.tasks.values(), key=lambda t: t.pid)
            if t.mm is not None
        ]

    def clock(self) -> Line:
        """Whose turn it is to be searched for pages to unmap."""
        pids = {id(t.mm): pid for pid, t in self.machine.sched.tasks.items() if t.mm is not None}
        swap_mm = self.machine.vmscan.swap_mm
        return {
            "swap_mm": -1 if swap_mm is None else pids.get(id(swap_mm), -1),
            "mmlist": [pids.get(id(mm), -1) for mm in self.machine.fork.mmlist],
        }

    # -- pages --------------------------------------------------------------------------------

    def _walk(self, following: array[int], head: int) -> list[int]:
        found = []
        entry = following[head]
        while entry != head:
            found.append(entry)
            entry = following[entry]
        return found

    def page_lists(self, mask: int) -> Line:
        """The LRU lists, and every page that is on one of them or cached."""
        swap, mem = self.machine.swap, self.machine.mem
        lru = mem.lru.next
        active, inactive = self._walk(lru, swap.active_list), self._walk(lru, swap.inactive_list)
        got: Line = {}
        if mask & LRU:
            got |= {"active": active, "inactive": inactive}
        if mask & LRU_CRC:
            got |= {"acrc": crc(numbers(active)), "icrc": crc(numbers(inactive))}
        if mask & (PAGES | PAGES_CRC):
            for space in self.machine.mappings.values():
                if space.nrpages and space.id not in self._names:
                    self._names[space.id] = self._name_mapping(space.id)
            rows = self._pages(active + inactive) if mask & PAGES or self._page_text is None else []
            if mask & PAGES:
                got["pages"] = rows
            if mask & PAGES_CRC:
                kept = self._page_text
                got["pgcrc"] = crc("".join([numbers(row)[:-1] + ";" for row in rows]) if kept is None else kept.text())
        return got

    def _pages(self, on_lru: list[int]) -> list[list[int]]:
        """The pages that are shown, by frame: in use, not reserved, on an LRU list or cached."""
        mem, names = self.machine.mem, self._names
        flags, count, mapping, index = mem.flags, mem.count, mem.mapping, mem.index
        spaces = [space for space in self.machine.mappings.values() if space.nrpages]
        if sum(space.nrpages for space in spaces) != sum(1 for pfn in on_lru if mapping[pfn]):  # some cached pages are on no list
            for space in spaces:
                for head in (space.clean_pages, space.dirty_pages, space.locked_pages):
                    on_lru += [pfn for pfn in self._walk(mem.list.next, head) if not flags[pfn] & _LRU_BIT]
        on_lru.sort()
        return [
            [p, count[p], flags[p] & 0xFFFFFF, names[mapping[p]], index[p] if mapping[p] else 0]
            for p in on_lru
            if count[p] and not flags[p] & _RESERVED_BIT
        ]

    def _name_mapping(self, space_id: int) -> int:
        if space_id == SWAPPER_SPACE_ID:
            return -2
        host = self.machine.mappings[space_id].host
        return -1 if host is None else host.label

    def buddy(self) -> list[list[list[int]]]:
        """Free blocks by zone and order, head to tail."""
        return [[area.blocks() for area in zone.free_area] if zone.size else [] for zone in self.zones]

    def buddycrc(self) -> int:
        """Checksum of the free lists."""
        text: list[str] = []
        for number, zone in enumerate(self.zones):
            if zone.size:
                for order, area in enumerate(zone.free_area):
                    prefix = f"{number}/{order}:"
                    text += [f"{prefix}{pfn}," for pfn in reversed(area.free_list)]
        return crc("".join(text))

    def counters(self) -> Line:
        """Global counts."""
        machine = self.machine
        stat = machine.sched.kstat
        return {
            "free": [zone.free_pages for zone in self.zones],
            "act": machine.swap.nr_active_pages,
            "ina": machine.swap.nr_inactive_pages,
            "pc": machine.filemap.page_cache_size,
            "sc": machine.swap_state.swapper_space.nrpages,
            "nrswap": machine.swapfile.nr_swap_pages,
            "in": stat.pswpin,
            "out": stat.pswpout,
            "fr": machine.block.file_reads,
            "fw": machine.block.file_writes,
            "ksw": stat.kswapd_runs,
            "yld": stat.yields,
            "oom": stat.oom_kills,
            "j": machine.sched.jiffies,
            "pgtc": machine.pgtable.pgtable_cache_size,
            "nb": [int(zone.need_balance) for zone in self.zones],
        }

    # -- swap, slab, kernel addresses ---------------------------------------------------------

    def swap(self, full: bool) -> Line:
        """Swap areas with their slots."""
        swapfile = self.machine.swapfile
        areas = []
        for number, area in enumerate(swapfile.swap_info[: swapfile.nr_swapfiles]):
            swap_map = area.swap_map
            raw = swap_map.raw(0, len(swap_map) - 1) if swap_map is not None and len(swap_map) else b""
            used, text = self._slot_text.setdefault(number, SlotText()).text(raw)
            row: list[Any] = [area.flags, area.lowest_bit, area.highest_bit, area.cluster_next, area.cluster_nr, area.prio]
            row += [area.pages, area.max, area.next, used, crc(text)]
            if full and swap_map is not None:
                row.append([value for pair in area.used_slots() for value in pair])
            areas.append(row)
        return {
            "nr": swapfile.nr_swap_pages,
            "total": swapfile.total_swap_pages,
            "head": swapfile.swap_list.head,
            "next": swapfile.swap_list.next,
            "ovf": swapfile.swap_overflow,
            "areas": areas,
        }

    def slab(self, full: bool) -> Line:
        """Caches that own slabs, and the checksum of all."""
        slab = self.machine.slab
        rows: list[list[Any]] = []
        pages = 0
        text: list[str] = []
        for cache in slab.state.cache_chain:
            lists = [list(slabs) for _, slabs in cache.lists()]
            every = [s for slabs in lists for s in slabs]
            text.append(f"{cache.name}:{cache.colour_next},")
            for letter, slabs in zip("FPE", lists, strict=True):
                text.append(letter)
                text += [f"{_first_pfn(s)}+{s.colouroff}:{s.inuse}:{s.free & 0xFFFFFFFF}," for s in slabs]
            text.append(";")
            if every:
                pages += len(every) << cache.gfporder
                row: list[Any] = [cache.name, *map(len, lists), sum(s.inuse for s in every)]
                if full:
                    row.append([[_first_pfn(s), s.colouroff, s.inuse, -1 if s.free & 0xFFFFFFFF == 0xFFFFFFFF else s.free] for s in every])
                rows.append(row)
        return {"slab": rows, "slabpg": pages, "slabcrc": crc("".join(text)), "reapclk": slab.state.clock_searchp.name}

    def kmap(self) -> list[int]:
        """The window for high memory: last slot tried, slots flushable, slots in use, checksum."""
        highmem = self.machine.highmem
        counts = highmem.pkmap_count
        used = [(i, n) for i, n in enumerate(counts) if n]
        table = highmem.pkmap_page_table if used else ()
        text = "".join(f"{i}:{n}:{table[i] >> 12}," for i, n in used)
        return [highmem.last_pkmap_nr, sum(n == 1 for _, n in used), sum(n > 1 for _, n in used), crc(text)]

    def vmlist(self) -> Line:
        """Areas of vmalloc space and their pages."""
        space = self.machine.vmalloc_space
        areas = [[area.addr, area.size] for area in space.vmlist]
        frames = [pfn for area in space.vmlist for pfn in space.frames(area.addr)]
        return {"vmlist": areas, "vmpfncrc": crc("".join(f"{pfn}," for pfn in frames))}


def _first_pfn(slab: Slab) -> int:
    return slab.start - 0xC0000000 >> 12
