"""Identifiers of System V objects: a table of slots, keys, and who may do what.

An identifier is ``sequence * 32768 + slot``: a slot that is used again gets another identifier, so that
an old one is noticed (EIDRM). The table lies in kernel memory; with room for 4097 segments that is five
pages of vmalloc space.

kernel: ipc/util.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SIZE
from .errno import EIDRM
from .gfp import GFP_KERNEL
from .kernel import Part
from .task import CAP_IPC_OWNER

if TYPE_CHECKING:
    from .fs import File
    from .kernel import Kernel

IPCMNI = 32768
SEQ_MULTIPLIER = IPCMNI


class ShmidKernel:
    """One segment. kernel: ipc/shm.c:shmid_kernel"""

    def __init__(self, address: int) -> None:
        self.address = address  # of the structure itself, in the slab cache
        self.key = 0
        self.uid = self.gid = self.cuid = self.cgid = 0
        self.mode = 0  # permissions, SHM_DEST, SHM_LOCKED
        self.seq = 0
        self.shm_file: File
        self.id = 0
        self.shm_nattch = 0
        self.shm_segsz = 0  # bytes
        self.shm_atim = self.shm_dtim = self.shm_ctim = 0  # seconds
        self.shm_cprid = self.shm_lprid = 0

    def __repr__(self) -> str:
        return f"<segment {self.id}, key {self.key:#x}, {self.shm_segsz} bytes, attached {self.shm_nattch} times>"


class IpcIds:
    """The table of segments. kernel: ipc/util.h:ipc_ids"""

    def __init__(self) -> None:
        self.address = 0  # of the table
        self.in_use = 0
        self.max_id = -1
        self.seq = 0
        self.entries: list[ShmidKernel | None] = []


class IpcUtil(Part):
    """The table of segments."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.shm_ids = IpcIds()

    # -- identifiers --------------------------------------------------------------------------

    def ipc_alloc(self, size: int) -> int:
        """Kernel memory for a table of *size* bytes, 0 when there is none. kernel: ipc/util.c:ipc_alloc"""
        if size <= PAGE_SIZE:
            return self.kernel.slab.kmalloc(size, GFP_KERNEL)
        if self.kernel.config.kernel_objects != "ram":
            return 1  # tables of other machines lie outside their RAM
        return self.kernel.vmalloc_space.vmalloc(size)

    def ipc_free(self, address: int, size: int) -> None:
        """Give such a table back. kernel: ipc/util.c:ipc_free"""
        if size <= PAGE_SIZE:
            self.kernel.slab.kfree(address)
        elif self.kernel.config.kernel_objects == "ram":
            self.kernel.vmalloc_space.vfree(address)

    def shm_init(self) -> None:
        """A table for one segment, made when the first call needs it. kernel: ipc/shm.c:shm_init, ipc/util.c:ipc_init_ids"""
        self.shm_ids.address = self.ipc_alloc(4)
        self.shm_ids.entries = [None]

    def grow_ary(self, newsize: int) -> int:
        """Make the table larger; returns its size, the old one when there is no memory. kernel: ipc/util.c:grow_ary"""
        ids = self.shm_ids
        newsize = min(newsize, IPCMNI)
        size = len(ids.entries)
        if newsize <= size:
            return newsize
        new = self.ipc_alloc(4 * newsize)
        if not new:
            return size
        self.ipc_free(ids.address, 4 * size)
        ids.address = new
        ids.entries += [None] * (newsize - size)
        return newsize

    def ipc_findkey(self, key: int) -> int:
        """Slot of the segment with that key, -1 without. kernel: ipc/util.c:ipc_findkey"""
        for slot, shp in enumerate(self.shm_ids.entries[: self.shm_ids.max_id + 1]):
            if shp is not None and shp.key == key:
                return slot
        return -1

    def ipc_addid(self, new: ShmidKernel, size: int) -> int:
        """Put a segment into the first free slot of at most *size*; -1 when there is none. kernel: ipc/util.c:ipc_addid"""
        ids, current = self.shm_ids, self.kernel.current
        size = self.grow_ary(size)
        slot = next((slot for slot in range(size) if ids.entries[slot] is None), -1)
        if slot < 0:
            return -1
        ids.in_use += 1
        ids.max_id = max(ids.max_id, slot)
        new.cuid = new.uid = current.euid
        new.gid = new.cgid = current.egid
        new.seq = ids.seq
        ids.seq = 0 if ids.seq == 0xFFFF else ids.seq + 1
        ids.entries[slot] = new
        return slot

    def ipc_rmid(self, ident: int) -> None:
        """Empty the segment's slot. kernel: ipc/util.c:ipc_rmid"""
        ids = self.shm_ids
        slot = ident % SEQ_MULTIPLIER
        if slot >= len(ids.entries) or ids.entries[slot] is None:
            raise KernelBug("ipc_rmid", f"there is no segment {ident}", "p")
        ids.entries[slot] = None
        ids.in_use -= 1
        while ids.max_id >= 0 and ids.entries[ids.max_id] is None:
            ids.max_id -= 1

    def shm_get(self, ident: int) -> ShmidKernel | None:
        """The segment in the slot of *ident*. kernel: ipc/util.h:ipc_lock, ipc_get"""
        slot = ident % SEQ_MULTIPLIER
        return self.shm_ids.entries[slot] if slot < len(self.shm_ids.entries) else None

    def shm_buildid(self, slot: int, seq: int) -> int:
        """The identifier. kernel: ipc/util.h:ipc_buildid"""
        return SEQ_MULTIPLIER * seq + slot

    def shm_checkid(self, shp: ShmidKernel, ident: int) -> int:
        """-EIDRM when the slot has been used again since. kernel: ipc/shm.c:shm_checkid"""
        return -EIDRM if ident // SEQ_MULTIPLIER != shp.seq else 0

    def ipcperms(self, shp: ShmidKernel, flag: int) -> int:
        """0 if the current task has the rights in *flag* (0o444, 0o222 or both), else -1. kernel: ipc/util.c:ipcperms"""
        current = self.kernel.current
        requested = flag >> 6 | flag >> 3 | flag
        granted = shp.mode
        if current.euid in (shp.cuid, shp.uid):
            granted >>= 6
        elif any(group == current.egid or group in current.groups for group in (shp.cgid, shp.gid)):
            granted >>= 3
        return -1 if requested & ~granted & 7 and not current.capable(CAP_IPC_OWNER) else 0
