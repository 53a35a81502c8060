"""The machine: what boots, owns everything, and what people call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from .faults import Faults
from .hw.e820 import E820Entry, parse_size, pc_map
from .hw.layout import MAX_NONPAE_PFN, MAX_PAE_PFN, PAGE_OFFSET, PAGE_SHIFT, pfn_down, pfn_up
from .hw.memory import PhysicalMemory
from .mm import numa, proc
from .mm.assembly import class_of, for_numa, make_part, node_spec
from .mm.bootmem import BootmemAllocator
from .mm.check import check
from .mm.check_machine import check_machine
from .mm.events import Listener, load_events
from .mm.fs import SWAPPER_SPACE_ID
from .mm.gfp import GFP_KERNEL, PF_FREE_PAGES, PF_MEMALLOC, PF_MEMDIE
from .mm.holders import taken
from .mm.kernel import Config
from .mm.mmzone import Zone
from .mm.page import BLOCK_USED, MemMap, Page
from .mm.page_alloc import PageAllocator
from .mm.page_flags import PG_lru, PG_slab
from .mm.page_init import ZoneSetup
from .mm.parts import part_class, part_names
from .mm.reclaim import Reclaim, ScriptedReclaim
from .mm.state import State, capture, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .process import Process
    from .trace.fastpath import TraceRun
    from .trace.pagetrace import PageTrace
    from .trace.recording import Tape
    from .trace.workload import RunResult, Step

_HELD = 1 << PG_lru | 1 << PG_slab

__all__ = ["Machine", "boot"]


class Machine(Faults):
    """A PC with Linux and its whole memory manager. ``boot()`` makes one and switches it on.

    The hardware. ram: bytes or text ("64M"), 16 MiB to 4 GiB, to 64 GiB with ``pae=True``. e820: the firmware's map as
    (address, size, type) in bytes, instead of *ram*; sanitize_e820: put its overlaps in order first, as the kernel does.
    pse: the processor has 4 MiB pages. pae: page tables of three levels. nodes: for a NUMA machine, (start_pfn, dma,
    normal, high, reserved, hole) for each node, in pages; node_init_order: node numbers in the order they are set up.
    io_mode: 0, disks answer at once; 1, when somebody waits for them or the operation ends.

    The kernel. kernel: "2.4" (2.4.22) or "2.6" (2.6.11). kernel_end: physical address of the end of its image, bytes.
    highmem: built with CONFIG_HIGHMEM. highmem_pages: the boot parameter ``highmem=`` in pages, -1 is "not given".
    memfrac: divisors for the watermarks, "128,128,128". sizeof_page: bytes of a struct page. numa: start at the local
    node instead of round robin.

    kernel_objects: where the kernel's own objects (slabs, task structures, page tables of the kernel) live. "ram": in
    the machine's memory, as in a real one. "outside": they take no frames. "vm-only": only vm_area_struct and mm_struct
    take some. None: no such objects and no processes; **only the page allocator**, with nobody to reclaim anything.
    Left out, it is "ram"; and None where *nodes* or a *reclaim* without a page cache to look after call for it.
    vfs: directory entries, inodes and open files are among them, with hash tables of their own, in caches that reclaim
    shrinks: True with "ram" and Linux 2.4 unless you say no.

    Your own. page_allocator, bootmem, zone_setup, reclaim: your class (or object) for one of these parts. parts: for any
    other part, {"slab": YourSlab}; vmlab.mm.parts.PARTS names them. on_event: a function called with every step.
    mem: columns to use instead of new ones (for copies).
    """

    def __init__(
        self,
        ram: int | str = "64M",
        *,
        e820: Sequence[Sequence[int]] | None = None,
        sanitize_e820: bool = True,
        highmem_pages: int = -1,
        kernel_end: int = 3102328,
        pse: bool = True,
        pae: bool = False,
        highmem: bool = True,
        memfrac: str | None = None,
        sizeof_page: int | None = None,
        nodes: Sequence[Sequence[int]] = (),
        node_init_order: Sequence[int] = (),
        numa: bool = False,
        kernel: str = "2.4",
        page_allocator: type[PageAllocator] | PageAllocator | None = None,
        bootmem: type[BootmemAllocator] | BootmemAllocator | None = None,
        zone_setup: type[ZoneSetup] | ZoneSetup | None = None,
        reclaim: type[Reclaim] | Reclaim | None = None,
        kernel_objects: str | None = "auto",
        io_mode: int = 0,
        vfs: bool | None = None,
        parts: Mapping[str, Any] | None = None,
        on_event: Listener | None = None,
        mem: MemMap | None = None,
    ) -> None:
        if e820 is None:
            entries = pc_map(ram)
            if not nodes and not pae and entries[-1].end > MAX_NONPAE_PFN << PAGE_SHIFT:
                raise ValueError(f"ram={ram!r}: more than 4 GiB needs pae=True, as on the real machine")
        else:
            entries = [E820Entry(int(e[0]), int(e[1]), int(e[2])) for e in e820]
            if any(e.addr < 0 or e.size < 0 or e.type < 1 for e in entries):
                raise ValueError("an e820 range is (address, size, type): bytes, bytes, 1 for RAM; none may be negative")
        if not 1 << 20 < kernel_end < 64 << 20:
            raise ValueError(f"kernel_end={kernel_end}: the kernel image ends between 1 MiB and 64 MiB")
        if kernel not in ("2.4", "2.6"):
            raise ValueError(f"kernel={kernel!r}: '2.4' (Linux 2.4.22) or '2.6' (Linux 2.6.11)")
        if kernel_objects == "auto":
            scans = reclaim is None or issubclass(class_of(reclaim), part_class("vmscan"))
            kernel_objects = "ram" if scans and not nodes else None
        if kernel_objects not in ("ram", "outside", "vm-only", None):
            raise ValueError(f"kernel_objects={kernel_objects!r}: 'ram', 'outside', 'vm-only', or None for the page allocator only")
        if vfs and (kernel_objects != "ram" or kernel != "2.4"):
            raise ValueError("vfs=True: the file layer's caches need kernel_objects='ram' and Linux 2.4")
        super().__init__(
            Config(
                tuple(entries),
                sanitize_e820,
                kernel_end,
                highmem_pages,
                pse,
                pae,
                highmem,
                memfrac,
                sizeof_page or (48 if kernel == "2.4" else 32),
                tuple(node_spec(n) for n in nodes),
                tuple(node_init_order) or tuple(range(len(nodes))),
                numa,
                kernel_objects,
                kernel,
                io_mode,
                kernel_objects == "ram" and kernel == "2.4" and not nodes if vfs is None else bool(vfs),
            )
        )
        if kernel == "2.6":
            from .v26.mmzone import PgData26

            self.pgdat_class = PgData26
            load_events("vmlab.v26")
        page_allocator = page_allocator or part_class("page_allocator", kernel)
        bootmem = bootmem or part_class("bootmem", kernel)
        zone_setup = zone_setup or part_class("zone_setup", kernel)
        if nodes:
            page_allocator = for_numa(page_allocator)
        reclaim = reclaim or part_class("reclaim" if kernel_objects is None else "vmscan", kernel)
        if reclaim is ScriptedReclaim:
            reclaim = part_class("scripted", kernel)
        self._part_classes = (page_allocator, bootmem, zone_setup, reclaim)
        self.page_allocator = make_part(page_allocator, PageAllocator, "page_allocator")
        self.bootmem = make_part(bootmem, BootmemAllocator, "bootmem")
        self.zone_setup = make_part(zone_setup, ZoneSetup, "zone_setup")
        self.reclaim = make_part(reclaim, Reclaim, "reclaim")
        self.tape: Tape | None = None
        self.pgdats = [self.pgdat_class(i) for i in range(max(1, len(self.config.nodes)))]
        self.mem = MemMap(self._frames()) if mem is None else mem
        self.ram = PhysicalMemory(self.mem.frames)
        self._given_parts = dict(parts or {})
        names = part_names(kernel)
        unknown = self._given_parts.keys() - set(names)
        if unknown or self._given_parts and kernel_objects is None:
            raise ValueError(f"parts={sorted(unknown or self._given_parts)}: a whole machine's parts are {', '.join(names)}")
        for name in names if kernel_objects is not None else ():
            self.more_parts[name] = make_part(self._given_parts.get(name, part_class(name, kernel)), part_class(name), name)
            setattr(self, name, self.more_parts[name])
        for part in self.parts():
            part.attach(self)
        self.on_event = on_event

    @property
    def orders(self) -> int:
        """How many sizes of blocks there are: 10 (largest 2 MiB), in 2.6 11 (4 MiB). kernel: include/linux/mmzone.h:MAX_ORDER"""
        return self.pgdat_class.zone_class.orders

    def _frames(self) -> int:
        """Frames from 0 to the end of RAM (or of the last node)."""
        if self.config.nodes:
            frames = max(start + dma + normal + high for start, dma, normal, high, _, _ in self.config.nodes)
            if frames > MAX_PAE_PFN:
                raise ValueError(f"the nodes end at frame {frames}: a machine has at most 64 GiB, {MAX_PAE_PFN} frames")
            return frames
        limit = MAX_PAE_PFN if self.config.pae else MAX_NONPAE_PFN
        ends = [pfn_down(e.end) for e in self.config.e820 if e.type == 1 and pfn_up(e.addr) < pfn_down(e.end)]
        if not ends:
            raise ValueError("the e820 map has no RAM (type 1) in it")
        return min(max(ends), limit)

    # -- allocating ---------------------------------------------------------------------------

    def alloc_pages(self, gfp_mask: int = GFP_KERNEL, order: int = 0, *, node: int | None = None, owner: str = "") -> Page | None:
        """Allocate 2^order contiguous pages; returns the first, or None when there is no memory.

        *node* asks for a node of a NUMA machine. *owner* is a label for pictures. Raises
        KernelHang where the kernel would retry for ever. kernel: include/linux/mm.h:alloc_pages
        """
        if order.__class__ is not int or order < 0:
            raise ValueError(f"order={order!r}: an order is a whole number from 0 to {self.orders - 1}; 2^order pages are allocated")
        if not self.ready:
            raise ValueError("the buddy allocator is not up yet: use vmlab.boot(), or power_on() first")
        if node is not None and not 0 <= node < len(self.pgdats):
            raise ValueError(f"node={node!r}: this machine has nodes 0 to {len(self.pgdats) - 1}")
        if self.tape is not None:
            self.tape.begin("alloc_pages", (gfp_mask, order, node, owner))
        if self.more_parts:
            pfn = self._alloc_whole(gfp_mask, order, node)
        elif node is None:
            pfn = self.page_allocator.alloc_pages(gfp_mask, order)
        else:
            pfn = numa.alloc_pages_node(self, node, gfp_mask, order)
        if pfn is None:
            return None
        self.mem.owner[pfn] = self.owner_id(owner) if owner else 0
        return Page(self, pfn)

    def _alloc_whole(self, gfp_mask: int, order: int, node: int | None) -> int | None:
        """Allocate on a machine where something happens for lack of memory: pages are reclaimed, kswapd runs, processes die."""
        sched = self.sched
        if sched.killed or sched.selfkill or sched.op_yields:
            sched.begin_op()
        try:
            allocator = self.page_allocator
            return allocator.alloc_pages(gfp_mask, order) if node is None else numa.alloc_pages_node(self, node, gfp_mask, order)
        finally:
            if not self.interrupted and (sched.kswapd_pending or sched.fatal or self.block.queue):
                sched.end_of_op()

    def free_pages(self, page: Page | int, order: int | None = None) -> None:
        """Give back what ``alloc_pages`` returned (the page, or its frame number).

        Raises ValueError when that is not the first page of an allocated block, somebody else's, or *order* is
        not the order it has: the kernel would corrupt itself. kernel: mm/page_alloc.c:__free_pages
        """
        pfn = page.pfn if isinstance(page, Page) else page
        if isinstance(page, Page) and page._kernel is not self:
            raise ValueError(f"frame {pfn} belongs to another machine")
        if not isinstance(pfn, int) or not 0 <= pfn < self.mem.frames:
            raise ValueError(f"{page!r} is not a page of this machine (frames 0 to {self.mem.frames - 1})")
        kind = self.mem.block[pfn]
        if not kind & BLOCK_USED or (order is not None and order != kind & 15):
            raise ValueError(self._why_not_free(pfn, order))
        mem = self.mem
        # A frame without label, list and mapping is the caller's: who else would hold it is worth asking only otherwise.
        if self.more_parts and (mem.owner[pfn] or mem.flags[pfn] & _HELD or mem.mapping[pfn]) and (who := taken(self, pfn)):
            raise ValueError(f"frame {pfn} is in use: {who}; alloc_pages did not return it")
        if self.tape is not None:
            self.tape.begin("free_pages", (pfn, kind & 15))
        mem.owner[pfn] = 0
        self.page_allocator.free_pages(pfn, kind & 15)

    def _why_not_free(self, pfn: int, order: int | None) -> str:
        page = self.page(pfn)
        if page.state == "free":
            return f"frame {pfn} is free already (it is in the free block of order {page.order} at {page.head})"
        if page.state in ("reserved", "hole"):
            return f"frame {pfn} is {'reserved' if page.state == 'reserved' else 'no RAM'}: it was never allocated"
        if page.head != pfn:
            return f"frame {pfn} is inside the order-{page.order} block that starts at {page.head}: free that one"
        return f"the block at {pfn} was allocated with order {page.order}, not {order}"

    def get_free_pages(self, gfp_mask: int = GFP_KERNEL, order: int = 0) -> int:
        """Allocate and return the kernel virtual address, 0 on failure. kernel: mm/page_alloc.c:__get_free_pages"""
        if gfp_mask & 2:
            raise ValueError("high memory has no fixed address: ask without __GFP_HIGHMEM (kernel: include/linux/mm.h)")
        page = self.alloc_pages(gfp_mask, order)
        return (page.virtual or 0) if page else 0

    def get_zeroed_page(self, gfp_mask: int = GFP_KERNEL) -> int:
        """Allocate one page full of zeroes and return its kernel virtual address, 0 on failure. kernel: mm/page_alloc.c:get_zeroed_page"""
        address = self.get_free_pages(gfp_mask, 0)
        if address:
            self.clear_page(address - PAGE_OFFSET >> PAGE_SHIFT)
        return address

    def clear_page(self, pfn: int) -> None:
        """Fill frame *pfn* with zeroes. kernel: include/asm-i386/page.h:clear_page"""
        self.page(pfn)  # refuses a frame that does not exist
        if self.tape is not None:
            self.tape.begin("clear_page", (pfn,))
        self.ram.clear_page(pfn)

    def read(self, address: int, length: int) -> bytes:
        """*length* bytes at physical *address*; pages keep what they held when they change hands."""
        return self.ram.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at physical *address* (bytes)."""
        self.ram._check(address, len(data))
        if self.tape is not None:
            self.tape.begin("write", (address, data.hex()))
        self.ram.write(address, data)

    def get_dma_pages(self, gfp_mask: int = GFP_KERNEL, order: int = 0) -> int:
        """Allocate below 16 MiB and return the address, 0 on failure. kernel: include/linux/mm.h:__get_dma_pages"""
        return self.get_free_pages(gfp_mask | 1, order)

    def free_pages_at(self, address: int, order: int) -> None:
        """Free by kernel virtual address; 0 is ignored. kernel: mm/page_alloc.c:free_pages"""
        if address:
            self.free_pages(self.virt_to_page(address), order)

    def set_task_flags(self, flags: int) -> None:
        """Set the PF_ flags of the task that allocates: PF_MEMALLOC, PF_MEMDIE or 0."""
        if flags & ~(PF_MEMALLOC | PF_MEMDIE | PF_FREE_PAGES):
            raise ValueError(f"flags={flags:#x}: only PF_MEMALLOC, PF_MEMDIE and PF_FREE_PAGES matter to allocation")
        if self.tape is not None:
            self.tape.begin("set_task_flags", (flags,))
        self.current.flags = flags

    def clear_need_balance(self) -> None:
        """Clear need_balance of every zone, as kswapd does once it has freed enough."""
        if self.tape is not None:
            self.tape.begin("clear_need_balance", ())
        for zone in self.for_each_zone():
            zone.need_balance = 0

    def queue_reclaim(self, ret: int, frees: Sequence[tuple[int, int]] = ()) -> None:
        """Plan what the next direct reclaim does: free these (frame, order) blocks and return *ret*.

        The machine must have been booted with ``reclaim=ScriptedReclaim``.
        """
        if not isinstance(self.reclaim, ScriptedReclaim):
            raise ValueError("plans need a machine booted with reclaim=vmlab.ScriptedReclaim")
        blocks = [(int(pfn), int(order)) for pfn, order in frees]
        for pfn, order in blocks:
            if not 0 <= pfn < self.mem.frames or not 0 <= order < self.orders:
                raise ValueError(f"({pfn}, {order}) is no (frame, order) of this machine")
        if self.tape is not None:
            self.tape.begin("queue_reclaim", (int(ret), blocks))
        self.reclaim.queue(int(ret), blocks)

    def set_cpu_node(self, nid: int) -> None:
        """Run on a processor of node *nid*: what numa_node_id() says. kernel: include/asm/mmzone.h:numa_node_id"""
        if not 0 <= nid < len(self.pgdats):
            raise ValueError(f"node {nid}: this machine has nodes 0 to {len(self.pgdats) - 1}")
        if self.tape is not None:
            self.tape.begin("set_cpu_node", (nid,))
        self.numa_node_id = nid

    # -- looking ------------------------------------------------------------------------------

    def page(self, pfn: int) -> Page:
        """The page with frame number *pfn*. Raises ValueError outside the machine's frames."""
        if not isinstance(pfn, int) or not 0 <= pfn < self.mem.frames:
            raise ValueError(f"frame {pfn!r}: this machine has frames 0 to {self.mem.frames - 1}")
        return Page(self, pfn)

    def nr_free_pages(self) -> int:
        """Free pages in all zones. kernel: mm/page_alloc.c:nr_free_pages"""
        return self.page_allocator.nr_free_pages()

    def nr_free_buffer_pages(self) -> int:
        """Pages GFP_USER could use above pages_high. kernel: mm/page_alloc.c:nr_free_buffer_pages"""
        return self.page_allocator.nr_free_buffer_pages()

    def nr_free_highpages(self) -> int:
        """Free pages in high memory. kernel: mm/page_alloc.c:nr_free_highpages"""
        return self.page_allocator.nr_free_highpages()

    def fragmentation(self, zone: Zone, order: int) -> float:
        """Unusable free space index: the share (0 to 1) of the zone's free pages in blocks too small for *order*.

        0 when nothing is free. Source: Gorman and Whitcroft, "The what, the why and the where to of anti-fragmentation", 2006.
        """
        if not 0 <= order < self.orders:
            raise ValueError(f"order={order}: 0 to {self.orders - 1}")
        usable = sum(len(zone.free_area[i].free_list) << i for i in range(order, zone.orders))
        return 1.0 - usable / zone.free_pages if zone.free_pages else 0.0

    def buddyinfo(self) -> str:
        """Free blocks per order and zone, in the form of /proc/buddyinfo."""
        return "\n".join(f"Node {z.pgdat.nid}, zone {z.name:>8} " + " ".join(f"{n:6d}" for n in z.nr_free()) for z in self.zones)

    def meminfo(self) -> str:
        """The text of /proc/meminfo; without processes only its rows of RAM. kernel: fs/proc/proc_misc.c:meminfo_read_proc"""
        if not self.ready:
            return f"(powered {'off' if self.boot_stage == 'off' else 'on, at ' + self.boot_stage}: no memory is managed yet)"
        return proc.meminfo(self) if SWAPPER_SPACE_ID in self.mappings else proc.meminfo_ram(self)

    def __str__(self) -> str:
        return self.meminfo()

    def __repr__(self) -> str:
        parts = [f"{self.mem.frames * 4 // 1024} MiB"]
        if self.config.kernel != "2.4":
            parts[0] += f", Linux {self.config.kernel}"
        if not self.ready:
            return f"<Machine {parts[0]}, {'off' if self.boot_stage == 'off' else 'booting: ' + self.boot_stage}>"
        if len(self.pgdats) > 1:
            parts.append(f"{len(self.pgdats)} nodes")
        parts.append(f"{self.nr_free_pages()} of {self.totalram_pages} pages free")
        if self.more_parts:
            n = len(self.sched.tasks)
            parts.append(f"{n} process{'' if n == 1 else 'es'}")
            if self.swapfile.total_swap_pages:
                parts.append(f"{self.swapfile.nr_swap_pages} of {self.swapfile.total_swap_pages} swap pages free")
        return f"<Machine {', '.join(parts)}>"

    # -- time ---------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """The whole state as plain data, to go back to with :meth:`restore`."""
        return capture(self)

    def restore(self, state: State) -> None:
        """Go back to a state of this machine (or of one with the same configuration).

        Raises ValueError when it is of a machine of another size.
        """
        restore(self, state)

    def twin(self, mem: MemMap | None = None) -> Machine:
        """A machine of the same configuration and parts, switched off (on the columns *mem*, if given)."""
        own = zip(("page_allocator", "bootmem", "zone_setup", "reclaim"), (class_of(p) for p in self._part_classes), strict=True)
        parts = {name: class_of(part) for name, part in self._given_parts.items()}
        return Machine(**self.config._asdict(), parts=parts, mem=mem, **dict(own))

    def copy(self) -> Machine:
        """An independent machine in the same state; its own listener and tape are off."""
        other = self.twin(self.mem.copy())
        other.mem.drop_new_heads(self.mem)
        restore(other, capture(self, columns=False))
        return other

    def record(self) -> Tape:
        """Record what happens from here on: ``with m.record() as tape: …``, or keep the tape and stop() it."""
        from .trace.recording import Tape

        return Tape(self)

    @overload
    def run(self, workload: PageTrace, n: int | None = None, *, process: Process | None = None) -> TraceRun: ...

    @overload
    def run(
        self, workload: Iterable[Step], n: int | None = None, on_step: Callable[[int, Step, Page | None], None] | None = None
    ) -> RunResult: ...

    def run(
        self,
        workload: PageTrace | Iterable[Step],
        n: int | None = None,
        on_step: Callable[[int, Step, Page | None], None] | None = None,
        *,
        process: Process | None = None,
    ) -> RunResult | TraceRun:
        """Carry out a workload (see vmlab.workload), at most *n* steps of it; or a program's page trace, *n* references.

        A page trace (see vmlab.load_trace) runs in *process*, whose regions must be mapped, or in a new one that
        it is made for.
        """
        from .trace.pagetrace import PageTrace

        if isinstance(workload, PageTrace):
            from .trace.fastpath import run_in_process

            return run_in_process(self, workload, process, n)
        from .trace.workload import run

        return run(self, workload, n, on_step)

    def check(self, held: Iterable[Page | int] | None = None) -> None:
        """Check every invariant of the machine, between two operations; raises KernelBug naming the first that fails.

        *held*: the pages that you have from :meth:`alloc_pages`; then a frame that nobody holds is an error.
        Without it, such a frame is taken to be yours. A machine without processes has only its buddy allocator to check.
        """
        check(self)
        if self.config.kernel == "2.4" and self.config.kernel_objects is not None and self.ready:
            check_machine(self, None if held is None else [page.pfn if isinstance(page, Page) else page for page in held])
        elif self.config.kernel == "2.6" and self.config.kernel_objects is not None and self.ready:
            from .v26.check_areas import check_address_spaces

            check_address_spaces(self)


def boot(ram: int | str = "64M", *, swap: int | str | None = None, **options: Any) -> Machine:
    """Make a machine and switch it on; see :class:`Machine` for the options.

    swap: the size of a swap area to add at once, bytes or text.

    >>> m = boot(ram="64M")
    >>> m.alloc_pages(GFP_KERNEL, order=3)
    <Page 4296 (0x10c8000), Normal, allocated order 3, count 1>
    """
    size = parse_size(ram)
    if not options.get("nodes") and options.get("e820") is None and size < 16 << 20:
        raise ValueError(f"ram={ram!r}: vmlab.boot starts at 16 MiB; for less use Machine(ram=…).power_on()")
    return start(Machine(ram, **options), swap)


def start(machine: Machine, swap: int | str | None) -> Machine:
    """Switch *machine* on and add a swap area of the size *swap*, if any. Raises OSError when that fails."""
    machine.power_on()
    if swap is not None:
        disk = machine.add_swap(swap)
        if disk < 0:
            raise OSError(-disk, f"swap={swap!r}: swapon failed with {disk!r}")
    return machine
