"""``struct mm_struct`` and ``struct vm_area_struct``: an address space and its regions.

kernel: include/linux/sched.h, include/linux/mm.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fs import File, VmOps

TASK_SIZE = 0xC0000000
TASK_UNMAPPED_BASE = 0x40000000
DEFAULT_MAX_MAP_COUNT = 65536

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80
VM_GROWSDOWN = 0x100
VM_GROWSUP = 0x200
VM_SHM = 0x400
VM_DENYWRITE = 0x800
VM_EXECUTABLE = 0x1000
VM_LOCKED = 0x2000
VM_IO = 0x4000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_RESERVED = 0x80000
VM_STACK_FLAGS = 0x177
VM_READHINTMASK = VM_SEQ_READ | VM_RAND_READ
VM_DATA_DEFAULT_FLAGS = VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

PROT_READ, PROT_WRITE, PROT_EXEC, PROT_NONE = 1, 2, 4, 0
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20
MAP_GROWSDOWN, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_LOCKED, MAP_NORESERVE = 0x100, 0x800, 0x1000, 0x2000, 0x4000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
MCL_CURRENT, MCL_FUTURE = 1, 2
MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED = range(5)

# _PAGE_ bits combined as the protections of a region's pages, by VM_READ | VM_WRITE | VM_EXEC | VM_SHARED.
PAGE_NONE, PAGE_SHARED, PAGE_COPY, PAGE_READONLY = 0xA0, 0x27, 0x25, 0x25
protection_map = (
    *(PAGE_NONE, PAGE_READONLY, PAGE_COPY, PAGE_COPY, PAGE_READONLY, PAGE_READONLY, PAGE_COPY, PAGE_COPY),
    *(PAGE_NONE, PAGE_READONLY, PAGE_SHARED, PAGE_SHARED, PAGE_READONLY, PAGE_READONLY, PAGE_SHARED, PAGE_SHARED),
)

RB_RED, RB_BLACK = 0, 1


class VmArea:
    """``struct vm_area_struct``: addresses [vm_start, vm_end), one set of rights, one backing.

    On two structures at once: the list by address (``vm_next``) and the red-black tree (``rb_*``).
    """

    __slots__ = (
        "address",
        "rb_color",
        "rb_left",
        "rb_parent",
        "rb_right",
        "vm_end",
        "vm_file",
        "vm_flags",
        "vm_mm",
        "vm_next",
        "vm_ops",
        "vm_page_prot",
        "vm_pgoff",
        "vm_private_data",
        "vm_raend",
        "vm_start",
    )

    def __init__(self, mm: MmStruct | None, start: int = 0, end: int = 0, flags: int = 0) -> None:
        self.vm_mm = mm
        self.vm_start = start
        self.vm_end = end
        self.vm_flags = flags
        self.vm_page_prot = protection_map[flags & 15]
        self.vm_pgoff = 0  # pages
        self.vm_file: File | None = None
        self.vm_ops: VmOps | None = None
        self.vm_raend = 0
        self.vm_private_data: Any = None
        self.vm_next: VmArea | None = None
        self.rb_left: VmArea | None = None
        self.rb_right: VmArea | None = None
        self.rb_parent: VmArea | None = None
        self.rb_color = RB_RED
        self.address = 0  # of the struct itself, in the slab cache; 0 when outside RAM

    def __getstate__(self) -> dict[str, Any]:
        # The links stay out: following them one by one would overrun the stack. MmStruct saves them.
        return {name: getattr(self, name) for name in _SAVED if hasattr(self, name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        rights = "".join(c if self.vm_flags & bit else "-" for c, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC)))
        rights += "s" if self.vm_flags & VM_SHARED else "p"
        what = f" {self.vm_file.inode.name or 'file'}" if self.vm_file else ""
        return f"<VmArea {self.vm_start:08x}-{self.vm_end:08x} {rights}{what}>"


_LINKS = ("rb_left", "rb_right", "rb_parent", "vm_next")
_SAVED = tuple(name for name in VmArea.__slots__ if name not in _LINKS)


class Pgd:
    """A page directory: ``table`` is its entries (1024 words; 4 with PAE), ``pa`` its physical address in bytes."""

    __slots__ = ("pa", "table")

    def __init__(self, pa: int, table: Any) -> None:
        self.pa = pa
        self.table = table


class MmStruct:
    """``struct mm_struct``: one address space. Sizes are in pages, addresses in bytes."""

    def __init__(self) -> None:
        self.mmap: VmArea | None = None  # lowest area
        self.mm_rb: VmArea | None = None  # root of the tree
        self.mmap_cache: VmArea | None = None
        self.pgd: Pgd
        self.mm_users = 1
        self.mm_count = 1
        self.map_count = 0
        self.start_code = self.end_code = self.start_data = self.end_data = 0
        self.start_brk = self.brk = self.start_stack = 0
        self.arg_start = self.arg_end = self.env_start = self.env_end = 0
        self.rss = self.total_vm = self.locked_vm = 0
        self.def_flags = 0
        self.swap_address = 0
        self.dumpable = True
        self.address = 0  # of the struct itself, in the slab cache
        self.pid = -1  # of the task it was made for: a name for people

    def areas(self) -> list[VmArea]:
        """All areas by address."""
        found = []
        vma = self.mmap
        while vma is not None:
            found.append(vma)
            vma = vma.vm_next
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("mmap", "mm_rb")}
        areas = self.areas()
        number = {id(vma): i for i, vma in enumerate(areas)}
        links = [tuple(number.get(id(getattr(vma, link)), -1) for link in _LINKS[:3]) for vma in areas]
        return {**state, "areas": (areas, links, number.get(id(self.mm_rb), -1))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        areas, links, root = state.pop("areas")
        self.__dict__.update(state)
        for i, vma in enumerate(areas):
            vma.vm_next = areas[i + 1] if i + 1 < len(areas) else None
            for link, other in zip(_LINKS, links[i], strict=False):
                setattr(vma, link, None if other < 0 else areas[other])
        self.mmap = areas[0] if areas else None
        self.mm_rb = None if root < 0 else areas[root]

    def __repr__(self) -> str:
        return f"<MmStruct of {self.pid}: {self.map_count} areas, {self.total_vm} pages, {self.rss} resident>"
