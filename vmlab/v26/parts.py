"""Which parts 2.6 has its own of: name → (module, class) in vmlab.v26; the rest are 2.4's."""

from __future__ import annotations

PARTS26: dict[str, tuple[str, str]] = {
    "page_allocator": ("page_alloc", "PageAllocator26"),
    "bootmem": ("bootmem", "BootmemAllocator26"),
    "zone_setup": ("page_init", "ZoneSetup26"),
    "reclaim": ("reclaim", "Reclaim26"),
    "scripted": ("reclaim", "ScriptedReclaim26"),
    "vmscan": ("vmscan", "Vmscan26"),
    "oom_kill": ("oom_kill", "OomKill26"),
    "sched": ("sched", "Sched26"),
    "page_writeback": ("page_writeback", "PageWriteback"),
    "pgtable": ("pgtable", "PageTables26"),
    "block": ("block", "BlockLayer26"),
    "swap": ("swap", "LruCache26"),
    "filemap": ("filemap", "Filemap26"),
    "diskfs": ("diskfs", "DiskFs26"),
    "memory": ("memory", "Memory26"),
    "fault": ("fault", "Fault26"),
    "rmap": ("rmap_unmap", "Unmap"),
    "swap_state": ("swap_state", "SwapState26"),
    "page_io": ("page_io", "PageIo26"),
    "swapfile": ("swapfile", "SwapFile26"),
    "mmap": ("mmap", "Mmap26"),
    "mprotect": ("mprotect", "Mprotect26"),
    "mremap": ("mremap", "Mremap26"),
    "mlock": ("mlock", "Mlock26"),
    "fork": ("fork", "Fork26"),
    "fremap": ("fremap", "Fremap"),
    "hugetlb": ("hugetlb", "HugeTlb"),
    "shmem": ("shmem", "Shmem26"),
}
