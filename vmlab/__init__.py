"""vmlab: the Linux 2.4.22 virtual memory manager as readable Python that runs.

>>> import vmlab
>>> m = vmlab.boot(ram="64M", swap="128M")
>>> p = m.spawn("editor")
>>> a = p.mmap(1 << 20)
>>> p.write(a, b"hello")
1
>>> page = m.alloc_pages(vmlab.GFP_KERNEL, order=3)
>>> m.free_pages(page)
"""

from __future__ import annotations

from .caches import Cache
from .errors import KernelBug, KernelHang, KernelPanic, ProcessGone, RecordingError, Signalled, TraceError, VmlabError
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
from .mm.vmscan import Vmscan
from .process import Address, Errno, Process
from .syscalls import SYSCALLS
from .trace.compare import Diff, compare
from .trace.compare26 import KernelComparison, compare_kernels
from .trace.curves import Curve, miss_ratio_curve
from .trace.pagetrace import PageTrace, load_trace, shipped
from .trace.policies import POLICIES, Policy, compare_policies, simulate
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
    "POLICIES",
    "SYSCALLS",
    "WORKLOADS",
    "Address",
    "BootmemAllocator",
    "Cache",
    "Curve",
    "Diff",
    "Errno",
    "KernelBug",
    "KernelComparison",
    "KernelHang",
    "KernelPanic",
    "Machine",
    "Page",
    "PageAllocator",
    "PageTrace",
    "Policy",
    "Process",
    "ProcessGone",
    "Reclaim",
    "RecordingError",
    "ScriptedReclaim",
    "Signalled",
    "Tape",
    "TraceError",
    "VmlabError",
    "Vmscan",
    "ZoneSetup",
    "boot",
    "compare",
    "compare_kernels",
    "compare_policies",
    "describe",
    "gfp_name",
    "load_recording",
    "load_trace",
    "miss_ratio_curve",
    "record",
    "shipped",
    "simulate",
    "workload",
]
