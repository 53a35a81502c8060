"""Events of the file layer: directory entries and inodes come into memory and go."""

from .events_base import spec

_DC = "fs/dcache.c:"
_IN = "fs/inode.c:"
_RQ = "drivers/block/ll_rw_blk.c:end_that_request_first"

SPECS = [
    spec("d_alloc", _DC + "d_alloc", "name address", "directory entry {name!r} at {address:#x}"),
    spec("d_lookup", _DC + "d_lookup", "name result", "looking for {name!r} in the dentry cache: {result}"),
    spec("dentry_unused", _DC + "dput", "name unused", "nobody uses the entry {name!r} any more; {unused} are unused"),
    spec("d_delete", _DC + "d_delete", "name how", "the name {name!r} is deleted: its entry is {how}"),
    spec("prune_dentry", _DC + "prune_one_dentry", "name address", "the unused entry {name!r} at {address:#x} is thrown away"),
    spec(
        "shrink_dcache",
        _DC + "shrink_dcache_memory",
        "priority freed pages",
        "dentry cache, round {priority}: {freed} entries and {pages} pages freed",
    ),
    spec("disk_fault", _RQ, "disk reads writes", "{disk}: {reads} pages can no longer be read, {writes} no longer written"),
    spec("disk_repair", _RQ, "disk", "{disk}: every page can be read and written again"),
    spec("inode_alloc", _IN + "alloc_inode", "ino address", "inode {ino} comes into memory at {address:#x}"),
    spec("inode_unused", _IN + "iput", "ino unused", "nobody uses inode {ino} any more; {unused} are unused"),
    spec("inode_destroy", _IN + "destroy_inode", "ino address", "the memory of inode {ino} at {address:#x} is freed"),
    spec(
        "shrink_icache",
        _IN + "shrink_icache_memory",
        "priority freed pages",
        "inode cache, round {priority}: {freed} inodes and {pages} pages freed",
    ),
]
