"""Events of shared memory: files whose pages live in the page cache or in swap, and System V segments."""

from .events_base import spec

_SH = "mm/shmem.c:"
_IPC = "ipc/shm.c:"

SPECS = [
    spec(
        "shmem_vector_page",
        _SH + "shmem_swp_alloc",
        "ino index pfn",
        "file {ino}: frame {pfn} holds swap entries on the way to page {index}",
    ),
    spec("shmem_new_page", _SH + "shmem_getpage", "ino index pfn", "file {ino}: page {index} is new, frame {pfn} full of zeroes"),
    spec(
        "shmem_from_swap",
        _SH + "shmem_getpage",
        "ino index pfn entry",
        "file {ino}: page {index} comes back from swap entry {entry:#x} in frame {pfn}",
    ),
    spec("shmem_hole", _SH + "shmem_getpage", "ino index", "file {ino}: page {index} is a hole, the zero page is read"),
    spec(
        "shmem_to_swap",
        _SH + "shmem_writepage",
        "ino index pfn entry",
        "file {ino}: page {index}, frame {pfn}, moves to swap entry {entry:#x}",
    ),
    spec(
        "shmem_unuse",
        _SH + "shmem_unuse_inode",
        "ino index pfn entry",
        "file {ino}: swap entry {entry:#x} goes away, page {index} is frame {pfn} again",
    ),
    spec(
        "shmem_truncate",
        _SH + "shmem_truncate",
        "ino index freed",
        "file {ino} is cut to {index} pages: {freed} blocks of swap and vector freed",
    ),
    spec(
        "shmem_file", _SH + "shmem_file_setup", "ino size name", "a file without a name in any directory: {name}, {size} bytes, inode {ino}"
    ),
    spec("shm_new", _IPC + "newseg", "shmid key pages", "segment {shmid} with key {key:#x}: {pages} pages"),
    spec("shm_attach", _IPC + "shm_inc", "shmid nattch", "one more area maps segment {shmid}: count {nattch}"),
    spec("shm_detach", _IPC + "shm_close", "shmid nattch", "one area less maps segment {shmid}: count {nattch}"),
    spec("shm_destroy", _IPC + "shm_destroy", "shmid", "segment {shmid} is no more"),
]
