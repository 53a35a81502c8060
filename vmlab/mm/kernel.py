"""The kernel's global variables, gathered in one object that every part shares."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..hw.e820 import E820Entry
from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT
from ..hw.memory import PhysicalMemory
from .events import Event, Listener
from .fs import SWAPPER_SPACE_ID, AddressSpace
from .mmzone import PgData, Zone
from .page import MAX_OWNERS, MemMap
from .page_flags import flag_names
from .task import Task

EMPTY_ZERO_PAGE = 0x104  # in the kernel image

if TYPE_CHECKING:
    from .block import BlockLayer
    from .bootmem import BootmemAllocator
    from .dcache import Dcache
    from .diskfs import DiskFs
    from .fault import Fault
    from .file_table import FileTable
    from .filemap import Filemap
    from .fork import Fork
    from .fs import Ops
    from .highmem import Highmem
    from .icache import Icache
    from .ipc_shm import IpcShm
    from .memory import Memory
    from .mlock import Mlock
    from .mmap import Mmap
    from .mmu import Mmu
    from .mprotect import Mprotect
    from .mremap import Mremap
    from .oom_kill import OomKill
    from .page_alloc import PageAllocator
    from .page_init import ZoneSetup
    from .page_io import PageIo
    from .pgtable import PageTables
    from .reclaim import Reclaim
    from .sched import Sched
    from .shmem import Shmem
    from .slab import SlabAllocator
    from .swap import LruCache
    from .swap_state import SwapState
    from .swapfile import SwapFile
    from .vm import MmStruct
    from .vmalloc import VmallocSpace
    from .vmscan import Vmscan


class Stat:
    """Counters of what happened since power-on."""

    __slots__ = ("alloc", "fail", "free", "merge", "reclaim", "split", "wake_kswapd", "yield_")

    def __init__(self) -> None:
        self.alloc = self.free = self.split = self.merge = 0  # blocks; splits and merges are steps of one order
        self.fail = self.wake_kswapd = self.reclaim = self.yield_ = 0

    def as_dict(self) -> dict[str, int]:
        """Counter values by name."""
        return {name.rstrip("_"): getattr(self, name) for name in self.__slots__}

    def __getitem__(self, name: str) -> int:
        values = self.as_dict()
        if name not in values:
            raise KeyError(f"no counter {name!r}; there are {', '.join(values)}")
        return values[name]

    def __repr__(self) -> str:
        return "<Stat " + ", ".join(f"{k} {v}" for k, v in self.as_dict().items()) + ">"


class BootConsumer(NamedTuple):
    """Who took memory at boot: a name, physical start and size in bytes, and the stage that took it."""

    name: str
    start_pa: int
    size: int
    stage: str


class Config(NamedTuple):
    """Everything that decides a boot. Same Config, same operations: same bits.

    Addresses and sizes are in bytes, ``highmem_pages`` (the ``highmem=`` boot parameter,
    -1 when absent) and node sizes in pages.
    """

    e820: tuple[E820Entry, ...]
    sanitize_e820: bool = True
    kernel_end: int = 3102328  # physical address of _end
    highmem_pages: int = -1
    pse: bool = True
    pae: bool = False
    highmem: bool = True  # CONFIG_HIGHMEM
    memfrac: str | None = None
    sizeof_page: int = 48
    nodes: tuple[tuple[int, int, int, int, int, int], ...] = ()  # start_pfn, dma, normal, high, reserved, hole
    node_init_order: tuple[int, ...] = ()
    numa: bool = False  # CONFIG_NUMA: start at the local node instead of round robin
    kernel_objects: str | None = None  # where slab objects live: "ram", "outside", "vm-only"; None: no processes at all
    kernel: str = "2.4"  # "2.4" (2.4.22) or "2.6" (2.6.11)
    io_mode: int = 0  # 0: a disk completes at once; 1: when somebody waits or the operation ends
    vfs: bool = False  # directory entries, inodes and open files are kernel objects too, in caches that shrink


class Kernel:
    """Global state and the parts that work on it. Machine adds what people call."""

    pgdat_class: type[PgData] = PgData
    interrupted = False  # the time machine stopped it in the middle of a step: nothing may be put in order on the way out

    def __init__(self, config: Config) -> None:
        self.config = config
        self.mem = MemMap(0)
        self.ram = PhysicalMemory(0)
        self.e820: list[E820Entry] = []
        self.pgdats: list[PgData] = []  # by node id
        self.pgdat_list: list[PgData] = []  # in the kernel's list order
        self.ready_nodes: list[PgData] = []  # nodes whose zones were set up
        self.next_pgdat: PgData | None = None  # round robin of _alloc_pages
        self.numa_node_id = 0
        self.zone_table: dict[int, Zone] = {}
        self.current = Task()
        self.stat = Stat()
        self.owners: list[str] = [""]
        self.boot_log: list[BootConsumer] = []
        self.boot_stage = "off"
        self.max_pfn = self.max_low_pfn = self.min_low_pfn = 0  # frames
        self.highstart_pfn = self.highend_pfn = 0
        self.totalram_pages = self.totalhigh_pages = self.num_physpages = self.reservedpages = 0
        self.zone_balance_ratio = [128, 128, 128]
        self.mappings: dict[int, AddressSpace] = {}  # by id, which is what mem.mapping holds
        self.next_mapping_id = SWAPPER_SPACE_ID + 1
        self.address_space: type[AddressSpace] = AddressSpace  # the class of a new one
        self.ops: dict[str, Ops] = {}  # method tables by name
        self.page_flag_names = flag_names  # PG_ bits in words, in this kernel's
        self.console: list[str] = []  # what printk said, "<level>text"
        self._listener: Listener | None = None
        self._recorder: Listener | None = None  # a tape's
        self._on_event: Listener | None = None  # what is really called
        self.page_allocator: PageAllocator
        self.bootmem: BootmemAllocator
        self.zone_setup: ZoneSetup
        self.reclaim: Reclaim
        self.more_parts: dict[str, Any] = {}  # every other part by name: see parts.py
        self.init_task = self.current
        self.init_task.cap_effective = 0xFFFFFEFF  # everything but CAP_SETPCAP

    if TYPE_CHECKING:
        pgtable: PageTables
        mmu: Mmu
        sched: Sched
        slab: SlabAllocator
        vmalloc_space: VmallocSpace
        highmem: Highmem
        block: BlockLayer
        dcache: Dcache
        icache: Icache
        file_table: FileTable
        swap: LruCache
        filemap: Filemap
        diskfs: DiskFs
        swap_state: SwapState
        page_io: PageIo
        swapfile: SwapFile
        shmem: Shmem
        ipc_shm: IpcShm
        memory: Memory
        fault: Fault
        mmap: Mmap
        mprotect: Mprotect
        mremap: Mremap
        mlock: Mlock
        fork: Fork
        oom_kill: OomKill

    @property
    def vmscan(self) -> Vmscan:
        """Page reclaim: the part passed as ``reclaim=``."""
        return cast("Vmscan", self.reclaim)

    @property
    def init_mm(self) -> MmStruct:
        """The kernel's own address space. kernel: arch/i386/kernel/init_task.c:init_mm"""
        return self.pgtable.init_mm

    @property
    def empty_zero_page(self) -> int:
        """Frame of the page of zeroes. kernel: include/asm-i386/pgtable.h:ZERO_PAGE"""
        return EMPTY_ZERO_PAGE

    @property
    def max_mapnr(self) -> int:
        """Frames that have a struct page. kernel: mm/memory.c:max_mapnr"""
        return self.num_physpages

    def new_mapping_id(self) -> int:
        """The next number for an address_space."""
        ident = self.next_mapping_id
        self.next_mapping_id += 1
        return ident

    def alloc_page(self, gfp_mask: int) -> int | None:
        """One frame, or None. kernel: include/linux/mm.h:alloc_page"""
        return self.page_allocator.alloc_pages(gfp_mask, 0)

    def get_page(self, pfn: int) -> None:
        """Take a reference. kernel: include/linux/mm.h:get_page, page_cache_get"""
        self.mem.count[pfn] += 1

    def put_page(self, pfn: int) -> None:
        """Drop a reference, the last one frees the frame. kernel: include/linux/mm.h:put_page, page_cache_release, __free_page"""
        self.page_allocator.free_pages(pfn, 0)

    def virt_to_page(self, address: int) -> int:
        """The frame behind a kernel *address* of the direct map. Raises ValueError for any other address.

        kernel: include/asm-i386/page.h:virt_to_page, __pa
        """
        if not PAGE_OFFSET <= address < PAGE_OFFSET + (self.max_low_pfn << PAGE_SHIFT):
            raise ValueError(f"{address:#x} is not in the kernel's direct map")
        return address - PAGE_OFFSET >> PAGE_SHIFT

    def printk(self, level: int | None, text: str) -> None:
        """Say something on the console, KERN_ *level* 0 to 7 or None for a call that names none. kernel: kernel/printk.c:printk"""
        self.console.append(text if level is None else f"<{level}>{text}")
        self.emit("printk", level, text)

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        """Do something as *task*: it is ``current`` meanwhile."""
        before, self.current = self.current, task
        try:
            yield
        finally:
            self.current = before

    @property
    def on_event(self) -> Listener | None:
        """Called with each event, or None. kernel: none (our trace points)"""
        return self._listener

    @on_event.setter
    def on_event(self, listener: Listener | None) -> None:
        if listener is not None and not callable(listener):
            raise TypeError("on_event takes a function of one event, or None")
        self._listener = listener
        self.wire()

    def wire(self) -> None:
        """Give every part the function to call with events: the listener, the recorder, both or none."""
        mine, recorder = self._listener, self._recorder
        if mine is not None and recorder is not None:
            record = recorder

            def both(event: Event) -> None:
                record(event)
                mine(event)

            self._on_event = both
        else:
            self._on_event = recorder if mine is None else mine
        for part in self.parts():
            part.on_event = self._on_event

    def parts(self) -> list[Any]:
        """The replaceable parts, in a fixed order."""
        return [self.page_allocator, self.bootmem, self.zone_setup, self.reclaim, *self.more_parts.values()]

    def emit(self, *event: Any) -> None:
        """Tell the listener, if there is one."""
        if self._on_event is not None:
            self._on_event(event)

    def for_each_zone(self) -> Iterator[Zone]:
        """Every zone of every node, empty ones too. kernel: include/linux/mmzone.h:for_each_zone"""
        for pgdat in self.pgdat_list:
            yield from pgdat.node_zones

    @property
    def zones(self) -> list[Zone]:
        """Zones that have pages, by node and then DMA, Normal, HighMem."""
        return [z for pgdat in self.pgdats for z in pgdat.node_zones if z.size]

    def owner_id(self, owner: str) -> int:
        """Number of a label for pictures; a new label gets the next number. Raises ValueError past 250 labels."""
        try:
            return self.owners.index(owner)
        except ValueError:
            if len(self.owners) >= MAX_OWNERS:
                raise ValueError(f"at most {MAX_OWNERS - 1} different owners can be told apart; reuse a label") from None
            self.owners.append(owner)
            return len(self.owners) - 1


class Part:
    """A replaceable part of the machine. Subclass one, pass the class to ``boot``.

    ``state_names`` lists attributes of your own that a recording must save with each key frame.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.on_event: Listener | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            mangled = f"_{cls.__name__.lstrip('_')}__"
            if name.startswith(mangled) and not name.endswith("__"):
                plain = name.removeprefix(mangled)
                if any(hasattr(base, plain) for base in cls.__bases__):
                    raise TypeError(
                        f"{cls.__name__}.__{plain}: Python renames methods that begin with two underscores, so this would never be called. "
                        f"Name it {plain}."
                    )

    def __repr__(self) -> str:
        figures = []
        for name in self.state_names:
            value = getattr(self, name, None)
            if name[0] != "_" and isinstance(value, (int, list, dict, tuple, array)):
                figures.append(f"{name} {value if isinstance(value, int) else f'({len(value)})'}")
        return f"<{type(self).__name__}{': ' if figures else ''}{', '.join(figures[:6])}>"

    def attach(self, kernel: Kernel) -> None:
        """Called once, before power-on, with the machine the part belongs to."""
