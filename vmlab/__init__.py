"""vmlab: the Linux 2.4.22 virtual memory manager as readable Python that runs.

>>> import vmlab
>>> m = vmlab.boot(ram="64M")
>>> page = m.alloc_pages(vmlab.GFP_KERNEL, order=3)
>>> m.free_pages(page)
"""

from __future__ import annotations

from .errors import KernelBug, KernelHang, KernelPanic, RecordingError, TraceError, VmlabError
from .machine import Machine, boot
from .mm.bootmem import BootmemAllocator
from .mm.events import EVENTS, describe
from .mm.gfp import (
    GFP_ATOMIC,
    GFP_DMA,
    GFP_HIGHUSER,
    GFP_KERNEL,
    GFP_NOFS,
    GFP_NOIO,
    GFP_USER,
    PF_FREE_PAGES,
    PF_MEMALLOC,
    PF_MEMDIE,
    gfp_name,
)
from .mm.page import Page
from .mm.page_alloc import PageAllocator
from .mm.page_init import ZoneSetup
from .mm.reclaim import Reclaim, ScriptedReclaim
from .trace.compare import Diff, compare
from .trace.recording import Tape, record
from .trace.tapefile import load_recording
from .trace.workload import WORKLOADS, workload

__version__ = "0.1.0"

__all__ = [
    "EVENTS",
    "GFP_ATOMIC",
    "GFP_DMA",
    "GFP_HIGHUSER",
    "GFP_KERNEL",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_USER",
    "PF_FREE_PAGES",
    "PF_MEMALLOC",
    "PF_MEMDIE",
    "WORKLOADS",
    "BootmemAllocator",
    "Diff",
    "KernelBug",
    "KernelHang",
    "KernelPanic",
    "Machine",
    "Page",
    "PageAllocator",
    "RecordingError",
    "Reclaim",
    "ScriptedReclaim",
    "Tape",
    "TraceError",
    "VmlabError",
    "ZoneSetup",
    "boot",
    "compare",
    "describe",
    "gfp_name",
    "load_recording",
    "record",
    "workload",
]
