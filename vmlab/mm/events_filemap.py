"""Events of the page cache, of disks and of the simple file system."""

from __future__ import annotations

from .events_base import spec

_FM, _BUF = "mm/filemap.c:", "fs/buffer.c:"

SPECS = [
    spec("page_cache_add", _FM + "add_to_page_cache", "pfn mapping index", "frame {pfn} now caches page {index} of {file}"),
    spec(
        "page_cache_remove", _FM + "__remove_inode_page", "pfn mapping index", "frame {pfn} no longer caches page {index} of {file}"
    ),
    spec("set_page_dirty", _FM + "set_page_dirty", "pfn mapping", "frame {pfn} ({file}) must be written before it is dropped"),
    spec("wait_on_page", _FM + "___wait_on_page", "pfn", "frame {pfn} is locked: sleep until its transfer is done"),
    spec(
        "read_cluster", _FM + "read_cluster_nonblocking", "mapping index pages", "read the {pages} pages from {index} on of {file}"
    ),
    spec("readahead", _FM + "generic_file_readahead", "mapping index pages how", "read {pages} pages ahead from {index} on, {how}"),
    spec("writepage", _FM + "filemap_fdatasync", "pfn mapping index", "write page {index} of {file} back, from frame {pfn}"),
    spec(
        "truncate_inode_pages",
        _FM + "truncate_inode_pages",
        "mapping start cached",
        "{file} ends at byte {start}: drop what is cached beyond",
    ),
    spec("truncate_partial_page", _FM + "truncate_partial_page", "pfn offset", "frame {pfn} is zeroed from byte {offset} on"),
    spec("msync", _FM + "sys_msync", "start end flags", "msync {start:#x}-{end:#x}, flags {flags}"),
    spec("madvise", _FM + "sys_madvise", "start end advice", "madvise {start:#x}-{end:#x}: {advice_name}"),
    spec("io_submit", _BUF + "brw_page", "rw pfn disk page", "ask disk {disk} to {rw} page {page} (frame {pfn})"),
    spec(
        "io_done",
        _BUF + "end_buffer_io_async",
        "rw pfn disk page ok",
        "disk {disk} is done with the {rw} of page {page}: {yes_no}, frame {pfn} is unlocked",
    ),
]
